"""Replies to captured requests, docarray 0.21: tests/golden.list."""
import golden
from service import VECTORS, Server


def test_every_captured_reply(tmp_path):
    server = Server(tmp_path, VECTORS)
    checked = golden.walk(server.port, 'v1')
    assert server.stop() == 0
    print('\ngolden v1:', ', '.join(checked))
