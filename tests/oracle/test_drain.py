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


def health(channel):
    return channel.unary_unary(HEALTH + 'Check')(b'', timeout=20)


def until_not_serving(channel, seconds=20):
    end = time.monotonic() + seconds
    while health(channel) != NOT_SERVING:
        assert time.monotonic() < end
        time.sleep(0.02)


class Slow(metrics.Watched):
    """Its disk does not answer while the test says so (tests/preload/slow.c)."""

    def __init__(self, folder, *flags):
        self.flag = folder / 'slow'
        library = next(serving.PROGRAM.parent.glob('tests/libft_slow.so'))
        super().__init__(folder, *flags, LD_PRELOAD=str(library), FT_SLOW=str(self.flag))

    def slow(self):
        self.flag.write_text('600000')

    def fast(self):
        self.flag.unlink()


class InHand:
    """A Push whose message the server has and cannot answer yet."""

    def __init__(self, v1, server, channel):
        self.out = queue.Queue()
        self.call = v1.stub(channel).Push(iter(self.out.get, None), timeout=120)
        self.say(v1, 'first')
        assert next(self.call).stored == 1
        metrics.until(server, lambda f: metrics.total(f, 'finetuner_message_bytes') == 0)  # the first is let go
        server.slow()
        self.say(v1, 'second')
        metrics.until(server, lambda f: metrics.total(f, 'finetuner_message_bytes') > 0)

    def say(self, v1, name):
        self.out.put(v1.PushRequest(dataset='kept', documents=[v1.Document(id=name, text='a', label='b')]))


def test_calls_in_hand_are_answered_and_new_ones_refused(protos, tmp_path):  # noqa: F811
    v1 = protos[0]
    server = Slow(tmp_path, '--drain-seconds', '60')
    channel = grpc.insecure_channel(server.target)
    message = metrics.request(protos, '/encode', metrics.vectors(2))
    idle = [Stream(channel, message) for _ in range(20)]
    for stream in idle[1:]:  # the first says nothing at all
        assert b'embedding' in stream.exchange()
    watch = channel.unary_stream(HEALTH + 'Watch')(b'', timeout=60)
    assert next(watch) == SERVING
    out = queue.Queue()
    out.put(v1.PushRequest(dataset='kept', documents=[v1.Document(id='a', text='a', label='b')]))
    push = v1.stub(channel).Push(iter(out.get, None), timeout=60)
    assert next(push).stored == 1
    assert metrics.total(metrics.samples(server.scrape()), 'finetuner_serving') == 1
    hand = InHand(v1, server, channel)
    server.process.send_signal(signal.SIGTERM)
    assert next(watch) == NOT_SERVING
    until_not_serving(channel)
    assert metrics.total(metrics.samples(server.scrape()), 'finetuner_serving') == 0
    with grpc.insecure_channel(server.target) as fresh:  # a probe that connects now hears the same
        assert health(fresh) == NOT_SERVING
        for call in (lambda c: metrics.send(c, message), lambda c: v1.stub(c).ListRuns(v1.ListRunsRequest())):
            for through in (channel, fresh):
                with pytest.raises(grpc.RpcError) as caught:
                    call(through)
                assert caught.value.code() == grpc.StatusCode.UNAVAILABLE and 'going down' in caught.value.details()
    for call in (push, *(stream.call for stream in idle)):  # all of it was answered, nothing waits
        with pytest.raises(grpc.RpcError) as caught:
            next(call)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE and 'going down' in caught.value.details()
    assert server.process.poll() is None  # one is still in hand
    server.fast()
    start = time.monotonic()
    assert next(hand.call).stored == 1
    with pytest.raises(grpc.RpcError) as caught:
        next(hand.call)
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert server.process.wait(timeout=50) == 0 and time.monotonic() - start < 50
    assert 'calls are cut off' not in server.log()
    channel.close()


def test_when_the_time_is_over_calls_are_cut_off(protos, tmp_path):  # noqa: F811
    server = Slow(tmp_path, '--drain-seconds', '2')
    channel = grpc.insecure_channel(server.target)
    hand = InHand(protos[0], server, channel)
    start = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    while 'calls are cut off' not in server.log():
        assert time.monotonic() < start + 60
        time.sleep(0.05)
    server.fast()  # what waits for the disk is waited for
    assert server.process.wait(timeout=60) == 0 and time.monotonic() - start > 1.9
    with pytest.raises(grpc.RpcError) as caught:
        next(hand.call)
    assert caught.value.code() in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)
    assert 'calls are cut off calls=1 drain_seconds=2' in server.log()
    channel.close()


def test_a_second_signal_ends_at_once(protos, tmp_path):  # noqa: F811
    server = Slow(tmp_path, '--drain-seconds', '600')
    channel = grpc.insecure_channel(server.target)
    hand = InHand(protos[0], server, channel)
    server.process.send_signal(signal.SIGTERM)
    until_not_serving(channel)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(timeout=30) == -signal.SIGTERM
    hand.call.cancel()
    channel.close()


def start_run(v1, server):
    """A long one, at work."""
    from google.protobuf import struct_pb2
    options = struct_pb2.Struct()
    options.update({'epochs': 4000, 'batch_size': 8, 'num_items_per_class': 4, 'seed': 1})
    with grpc.insecure_channel(server.target) as channel:
        stub = v1.stub(channel)
        docs = [v1.Document(id=str(k), label=str(k % 2), tensor=v1.Tensor(dtype='<f4', shape=[metrics.width()], data=row))
                for k, row in enumerate(metrics.vectors(32))]
        list(stub.Push(iter([v1.PushRequest(dataset='trained', documents=docs)])))
        run = stub.Fit(v1.FitRequest(dataset='trained', options=options)).id
        for event in stub.Watch(v1.WatchRequest(run=run), timeout=60):
            if event.WhichOneof('what') == 'progress' and event.progress.step >= 20:
                return run


def worker_of(run):
    for folder in pathlib.Path('/proc').glob('[0-9]*'):
        try:
            words = (folder / 'cmdline').read_bytes().split(b'\0')
        except OSError:  # it has ended
            continue
        if b'worker' in words and run.encode() in words:
            return int(folder.name)
    raise AssertionError(f'nobody works for {run}')


def test_the_page_says_so_until_the_process_ends(protos, tmp_path):  # noqa: F811
    """A worker that does not hear the signal holds the service up when no call is left and the port of gRPC is closed."""
    server = metrics.Watched(tmp_path, '--drain-seconds', '600')
    run = start_run(protos[0], server)
    worker = worker_of(run)
    os.kill(worker, signal.SIGSTOP)
    server.process.send_signal(signal.SIGTERM)
    end = time.monotonic() + 30
    metrics.until(server, lambda f: metrics.total(f, 'finetuner_serving') == 0)
    while server.ready():
        assert time.monotonic() < end
        time.sleep(0.1)
    for _ in range(5):
        found = metrics.samples(server.scrape())
        assert metrics.total(found, 'finetuner_serving') == 0 and metrics.total(found, 'finetuner_documents_stored_total') == 32
        time.sleep(0.1)
    assert server.process.poll() is None
    os.kill(worker, signal.SIGCONT)
    assert server.process.wait(timeout=60) == 0


def test_a_run_goes_on_at_the_next_start(protos, tmp_path):  # noqa: F811
    v1 = protos[0]
    server = serving.Server(tmp_path, serving.VECTORS, '--drain-seconds', '60')
    run = start_run(v1, server)
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
    server = Slow.__new__(Slow)  # its page and its disk; started otherwise
    server.page, server.flag = serving.free_port(), tmp_path / 'slow'
    words = [str(jina), 'executor', '--host', '127.0.0.1', '--port', str(port), '--workspace', str(tmp_path / 'data'), '--monitoring',
             '--port-monitoring', str(server.page), '--uses-with', f'{{"model": "{serving.VECTORS}", "drain_seconds": 600}}']
    library = next(serving.PROGRAM.parent.glob('tests/libft_slow.so'))
    outer = subprocess.Popen(['unshare', '--pid', '--fork', '--kill-child', *words], stderr=subprocess.DEVNULL,
                             env={**os.environ, 'LD_PRELOAD': str(library), 'FT_SLOW': str(server.flag)})
    with grpc.insecure_channel(f'127.0.0.1:{port}') as channel:
        grpc.channel_ready_future(channel).result(timeout=60)
        inner = int(pathlib.Path(f'/proc/{outer.pid}/task/{outer.pid}/children').read_text().split()[0])
        assert pathlib.Path(f'/proc/{inner}/status').read_text().split('NSpid:')[1].split()[1] == '1'
        stream = Stream(channel, metrics.request(protos, '/encode', metrics.vectors(2)))
        assert b'embedding' in stream.exchange()
        if signals == 2:  # else it would be gone before the second comes
            hand = InHand(protos[0], server, channel)
        os.kill(inner, signal.SIGTERM)
        if signals == 2:
            until_not_serving(channel)
            os.kill(inner, signal.SIGTERM)
            hand.call.cancel()
        else:
            with pytest.raises(grpc.RpcError) as caught:
                next(stream.call)
            assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        assert outer.wait(timeout=30) == code
