"""A disk that is full, read-only or broken, by a preloaded library: clients are told, what was acknowledged stays, and the service
goes on by itself once there is room. A second process on the same workspace is refused, naming the first."""
import errno
import os
import pathlib
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / 'tools'))
import serving  # noqa: E402

import grpc  # noqa: E402
import pytest  # noqa: E402
import test_metrics as metrics  # noqa: E402
from test_metrics import protos  # noqa: E402,F401  a fixture

REFUSING = next(serving.PROGRAM.parent.glob('tests/libft_refusing.so'))


def push(v1, stub, first, count):
    docs = [v1.Document(id=str(i), text=f'text {i}' * 20, label=str(i % 5)) for i in range(first, first + count)]
    return sum(a.stored for a in stub.Push(iter([v1.PushRequest(dataset='d', documents=docs)]), timeout=60))


@pytest.mark.parametrize('cause', [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_the_service_outlives_a_disk_that_refuses(protos, tmp_path, cause, monkeypatch):  # noqa: F811
    v1 = protos[0]
    flag = tmp_path / 'refuse'
    monkeypatch.setenv('LD_PRELOAD', str(REFUSING))
    monkeypatch.setenv('FT_REFUSE_OF', str(tmp_path / 'data'))
    monkeypatch.setenv('FT_REFUSE_IF', str(flag))
    server = serving.Server(tmp_path, serving.VECTORS, '--shard-kib', '16')
    monkeypatch.delenv('LD_PRELOAD')
    with grpc.insecure_channel(server.target) as channel:
        stub = v1.stub(channel)
        acknowledged = 0
        for part in range(3):
            acknowledged += push(v1, stub, acknowledged, 50)
            flag.write_text(str(cause))
            for _ in range(3):
                with pytest.raises(grpc.RpcError) as caught:
                    push(v1, stub, acknowledged, 50)
                assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED, caught.value
                assert 'the disk refuses' in caught.value.details()
            assert channel.unary_unary('/grpc.health.v1.Health/Check')(b'', timeout=20) == b'\x08\x01'
            metrics.send(channel, metrics.request(protos, '/encode', metrics.vectors(2)))
            flag.unlink()
            for _ in range(200):  # at most a second until the thread that makes journals tries again
                try:
                    acknowledged += push(v1, stub, acknowledged, 50)
                    break
                except grpc.RpcError as error:
                    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
                    time.sleep(0.1)
            assert acknowledged == (part + 1) * 100
        assert stub.GetDataset(v1.GetDatasetRequest(dataset='d')).documents == acknowledged
    assert server.stop() == 0
    verified = subprocess.run([serving.PROGRAM, 'datasets', 'verify', 'd', '--workspace', tmp_path / 'data'], capture_output=True, text=True)
    assert verified.returncode == 0, verified
    server.start()
    with grpc.insecure_channel(server.target) as channel:
        assert v1.stub(channel).GetDataset(v1.GetDatasetRequest(dataset='d')).documents == acknowledged
    assert server.stop() == 0


def test_a_second_process_is_told_who_has_the_workspace(tmp_path):
    server = serving.Server(tmp_path, serving.VECTORS)
    for _ in range(2):
        done = subprocess.run([serving.PROGRAM, 'serve', '--host', '127.0.0.1', '--port', '0', '--workspace', tmp_path / 'data'],
                              capture_output=True, text=True, timeout=60)
        assert done.returncode == 5 and f'in use by another process: process {server.process.pid}\n' in done.stderr, done
    server.kill()
    server.start()  # the lock goes with the process
    assert server.stop() == 0
