"""SIGTERM: health says so at once, new calls are refused, calls in hand are answered, a run goes on at the next start; exit 0."""
import os
import pathlib
import queue
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / 'tools'))
import serving  # noqa: E402

import grpc  # noqa: E402
import pytest  # noqa: E402
import test_metrics as metrics  # noqa: E402
from test_metrics import protos  # noqa: E402,F401  a fixture

HEALTH = '/grpc.health.v1.Health/'
SERVING, NOT_SERVING = b'\x08\x01', b'\x08\x02'


class Stream:
    """A JinaRPC/Call that stays open: one message, one answer at a time."""

    def __init__(self, channel, message):
        self.message, self.out = message, queue.Queue()
        self.call = channel.stream_stream('/jina.JinaRPC/Call')(iter(self.out.get, None), timeout=120)

    def exchange(self):
        self.out.put(self.message)
        return next(self.call)

    def end(self):
        self.out.put(None)
        assert list(self.call) == []
        return self.call.code()


def health(channel):
    return channel.unary_unary(HEALTH + 'Check')(b'', timeout=20)


def until_not_serving(channel, seconds=20):
    end = time.monotonic() + seconds
    while health(channel) != NOT_SERVING:
        assert time.monotonic() < end
        time.sleep(0.02)


def open_server(protos, folder, *flags):  # noqa: F811
    server = serving.Server(folder, serving.VECTORS, *flags)
    channel = grpc.insecure_channel(server.target)
    stream = Stream(channel, metrics.request(protos, '/encode', metrics.vectors(2)))
    assert b'embedding' in stream.exchange()
    return server, channel, stream


def test_calls_in_hand_are_answered_and_new_ones_refused(protos, tmp_path):  # noqa: F811
    server, channel, stream = open_server(protos, tmp_path, '--drain-seconds', '60')
    v1 = protos[0]
    watch = channel.unary_stream(HEALTH + 'Watch')(b'', timeout=60)
    assert next(watch) == SERVING
    out = queue.Queue()
    out.put(v1.PushRequest(dataset='kept', documents=[v1.Document(id='a', text='a', label='b')]))
    push = v1.stub(channel).Push(iter(out.get, None), timeout=60)
    assert next(push).stored == 1
    server.process.send_signal(signal.SIGTERM)
    assert next(watch) == NOT_SERVING
    until_not_serving(channel)
    with grpc.insecure_channel(server.target) as fresh:  # a probe that connects now hears the same
        assert health(fresh) == NOT_SERVING
        for call in (lambda c: metrics.send(c, stream.message), lambda c: v1.stub(c).ListRuns(v1.ListRunsRequest())):
            for through in (channel, fresh):
                with pytest.raises(grpc.RpcError) as caught:
                    call(through)
                assert caught.value.code() == grpc.StatusCode.UNAVAILABLE and 'going down' in caught.value.details()
    with pytest.raises(grpc.RpcError) as caught:
        next(push)  # all of it was answered, nothing waits
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    for _ in range(20):
        assert b'embedding' in stream.exchange()
    assert server.process.poll() is None
    start = time.monotonic()
    assert stream.end() == grpc.StatusCode.OK
    assert server.process.wait(timeout=30) == 0 and time.monotonic() - start < 25
    channel.close()


def test_when_the_time_is_over_calls_are_cut_off(protos, tmp_path):  # noqa: F811
    server, channel, stream = open_server(protos, tmp_path, '--drain-seconds', '2')
    start = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(timeout=40) == 0 and time.monotonic() - start > 1.9
    with pytest.raises(grpc.RpcError) as caught:
        next(stream.call)
    assert caught.value.code() in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)
    assert 'calls are cut off calls=1 drain_seconds=2' in (tmp_path / 'server.log').read_text()
    channel.close()


def test_a_second_signal_ends_at_once(protos, tmp_path):  # noqa: F811
    server, channel, _ = open_server(protos, tmp_path, '--drain-seconds', '600')
    server.process.send_signal(signal.SIGTERM)
    until_not_serving(channel)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(timeout=30) == -signal.SIGTERM
    channel.close()


def test_a_run_goes_on_at_the_next_start(protos, tmp_path):  # noqa: F811
    v1 = protos[0]
    from google.protobuf import struct_pb2
    options = struct_pb2.Struct()
    options.update({'epochs': 4000, 'batch_size': 8, 'num_items_per_class': 4, 'seed': 1})
    server = serving.Server(tmp_path, serving.VECTORS, '--drain-seconds', '60')
    with grpc.insecure_channel(server.target) as channel:
        stub = v1.stub(channel)
        docs = [v1.Document(id=str(k), label=str(k % 2), tensor=v1.Tensor(dtype='<f4', shape=[metrics.width()], data=row))
                for k, row in enumerate(metrics.vectors(32))]
        list(stub.Push(iter([v1.PushRequest(dataset='trained', documents=docs)])))
        run = stub.Fit(v1.FitRequest(dataset='trained', options=options)).id
        for event in stub.Watch(v1.WatchRequest(run=run), timeout=60):
            if event.WhichOneof('what') == 'progress' and event.progress.step >= 20:
                break
        stub.Watch(v1.WatchRequest(run=run)).cancel()
    assert server.stop() == 0
    assert f'run goes on at the next start run={run}' in (tmp_path / 'server.log').read_text()
    before = (tmp_path / 'data' / 'runs' / run / 'events.jsonl').read_text().count('"progress"')
    server.start()
    with grpc.insecure_channel(server.target) as channel:
        stub = v1.stub(channel)
        steps = []
        for event in stub.Watch(v1.WatchRequest(run=run), timeout=120):
            if event.WhichOneof('what') == 'progress':
                steps.append(event.progress.step)
            if len(steps) > before:
                break
        assert steps == sorted(steps)  # from where it was, not from the beginning
        stub.CancelRun(v1.CancelRunRequest(run=run))
    assert server.stop() == 0


@pytest.mark.parametrize('signals,code', [(1, 0), (2, 143)])
def test_as_process_1_of_a_container(protos, tmp_path, signals, code):  # noqa: F811
    """`jina executor ...` without a shell; there a signal's default does nothing."""
    jina = tmp_path / 'jina'
    jina.symlink_to(serving.PROGRAM)
    port = serving.free_port()
    words = [str(jina), 'executor', '--host', '127.0.0.1', '--port', str(port), '--workspace', str(tmp_path / 'data'), '--uses-with',
             f'{{"model": "{serving.VECTORS}", "drain_seconds": 600}}']
    outer = subprocess.Popen(['unshare', '--pid', '--fork', '--kill-child', *words], stderr=subprocess.DEVNULL)
    with grpc.insecure_channel(f'127.0.0.1:{port}') as channel:
        grpc.channel_ready_future(channel).result(timeout=60)
        inner = int(pathlib.Path(f'/proc/{outer.pid}/task/{outer.pid}/children').read_text().split()[0])
        assert pathlib.Path(f'/proc/{inner}/status').read_text().split('NSpid:')[1].split()[1] == '1'
        stream = Stream(channel, metrics.request(protos, '/encode', metrics.vectors(2)))
        assert b'embedding' in stream.exchange()
        os.kill(inner, signal.SIGTERM)
        until_not_serving(channel)
        if signals == 2:
            os.kill(inner, signal.SIGTERM)
        else:
            assert b'embedding' in stream.exchange() and stream.end() == grpc.StatusCode.OK
        assert outer.wait(timeout=30) == code
