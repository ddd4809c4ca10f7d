"""More comes to a dataset than is made into shards, because the disk syncs no shard: streams wait, the
rest of the service goes on, and what was acknowledged is there when it goes down in the middle."""
import concurrent.futures
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / 'tools'))
import serving  # noqa: E402

import grpc  # noqa: E402
import pytest  # noqa: E402
import test_metrics as metrics  # noqa: E402
from test_metrics import protos  # noqa: E402,F401  a fixture

SLOW = serving.PROGRAM.parent / 'tests' / 'libft_slow.so'
STREAMS, DOCUMENTS, TEXT = 6, 70, 'x' * (1 << 20)  # 420 MiB: 64 become the backlog, 256 may wait to be written


def send(v1, stub, stream):
    docs = [v1.Document(id=f'{stream}-{i}', text=TEXT, label='a') for i in range(DOCUMENTS)]
    stored = 0
    try:
        for answer in stub.Push(iter([v1.PushRequest(dataset='d', documents=docs)]), timeout=300):
            stored += answer.stored
    except grpc.RpcError as error:  # after what was answered: the service goes down
        assert error.code() == grpc.StatusCode.UNAVAILABLE, error
    return stored


@pytest.mark.parametrize('goes_down', [False, True])
def test_more_comes_than_is_made_into_shards(protos, tmp_path, goes_down):  # noqa: F811
    v1 = protos[0]
    flag = tmp_path / 'slow'
    environment = {'LD_PRELOAD': str(SLOW), 'FT_SLOW': str(flag), 'FT_SLOW_OF': '/shard-'}
    with serving.Server(tmp_path, serving.VECTORS, '--shard-kib', '1024', '--drain-seconds', '60', **environment) as server, \
            concurrent.futures.ThreadPoolExecutor(STREAMS) as pool, \
            grpc.insecure_channel(server.target, options=[('grpc.max_send_message_length', -1)]) as channel:
        stub = v1.stub(channel)
        flag.write_text('600000')
        sent = [pool.submit(send, v1, stub, stream) for stream in range(STREAMS)]

        folder, end = tmp_path / 'data' / 'datasets' / 'd', time.monotonic() + 120

        def journals():
            return sum(p.stat().st_size for p in folder.glob('journal*'))
        while journals() <= 64 << 20:
            assert time.monotonic() < end and not all(s.done() for s in sent)
            time.sleep(0.1)
        while server.memory() < 250 << 20:  # what comes is taken in until 256 MiB wait
            assert time.monotonic() < end
            time.sleep(0.1)
        assert not all(s.done() for s in sent)
        backlog = journals()
        assert 64 << 20 < backlog < (64 + 2 * DOCUMENTS + 8) << 20, backlog  # and what was being written
        began = time.monotonic()
        assert channel.unary_unary('/grpc.health.v1.Health/Check')(b'', timeout=20) == b'\x08\x01'
        metrics.send(channel, metrics.request(protos, '/encode', metrics.vectors(2)))
        assert stub.GetDataset(v1.GetDatasetRequest(dataset='d'), timeout=20).documents >= DOCUMENTS
        assert stub.DeleteDocuments(v1.DeleteDocumentsRequest(dataset='d', ids=['none']), timeout=20).deleted == 0
        other = v1.PushRequest(dataset='other', documents=[v1.Document(id='1', text='t', label='a')])
        assert [a.stored for a in stub.Push(iter([other]), timeout=20)] == [1]
        assert time.monotonic() - began < 5
        if goes_down:
            server.process.terminate()
            acknowledged = sum(s.result(60) for s in sent)
            flag.unlink()  # a shard that is being written is written to its end
            assert server.process.wait(60) == 0 and 'cut off' not in server.log()
            assert acknowledged >= 2 * DOCUMENTS  # of one that waited, too
            server.start()
        else:
            flag.unlink()
            acknowledged = sum(s.result(120) for s in sent)
            assert acknowledged == STREAMS * DOCUMENTS
        print(f'{backlog >> 20} MiB of journals while it stood, {acknowledged} Documents acknowledged')
        with grpc.insecure_channel(server.target) as again:
            assert v1.stub(again).GetDataset(v1.GetDatasetRequest(dataset='d')).documents >= acknowledged
        assert server.stop() == 0
