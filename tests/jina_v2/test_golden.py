"""Replies to captured requests, docarray 0.40: tests/golden.list."""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / 'jina'))
from service import VECTORS, Server  # noqa: E402

import golden  # noqa: E402


def test_every_captured_reply(tmp_path):
    server = Server(tmp_path, VECTORS)
    checked = golden.walk(server.port, 'v2')
    assert server.stop() == 0
    print('\ngolden v2:', ', '.join(checked))
