"""The clock jumps back and forth by days, many times a second (tests/preload/clock.c), while Documents are pushed, runs come and go
and embeddings are made: nothing hangs, nothing is lost, and what came later is later, whatever its time says."""
import pathlib
import random
import re
import struct
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / 'tools'))
import serving  # noqa: E402

import grpc  # noqa: E402
import pytest  # noqa: E402
import test_metrics as metrics  # noqa: E402
from test_metrics import protos  # noqa: E402,F401  a fixture

DAY = 86400
CLOCK = next(serving.PROGRAM.parent.glob('tests/libft_clock.so'))


class Clock:
    """Of a server that is started with .environment."""

    def __init__(self, folder):
        self.path = folder / 'clock'
        self.path.write_bytes(struct.pack('<q', 0))
        self.file = open(self.path, 'r+b', buffering=0)
        self.environment = {'LD_PRELOAD': str(CLOCK), 'FT_CLOCK': str(self.path)}
        self.over = threading.Event()
        self.jumps = 0

    def set(self, seconds):
        self.file.seek(0)
        self.file.write(struct.pack('<q', seconds))
        self.jumps += 1

    def jump(self, seed):
        draw = random.Random(seed)
        while not self.over.is_set():
            self.set(draw.choice([-400, -3, -1, 0, 1, 3, 30]) * DAY + draw.randrange(-5, 5))
            time.sleep(0.01)

    def __enter__(self):
        self.thread = threading.Thread(target=self.jump, args=(7,))
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()
        self.over.clear()


def documents(v1, first, count):
    rows = metrics.vectors(64)
    return [v1.Document(id=str(i), label=str(i % 2), tensor=v1.Tensor(dtype='<f4', shape=[metrics.width()], data=rows[i % 64]))
            for i in range(first, first + count)]


def fit(v1, stub, epochs):
    from google.protobuf import struct_pb2
    options = struct_pb2.Struct()
    options.update({'epochs': epochs, 'batch_size': 8, 'num_items_per_class': 4, 'seed': 1})
    run = stub.Fit(v1.FitRequest(dataset='d', options=options)).id
    return run


def ends(v1, stub, run):
    """All its events, in order; the last one is the run."""
    events = list(stub.Watch(v1.WatchRequest(run=run), timeout=120))
    steps = [e.progress.step for e in events if e.WhichOneof('what') == 'progress']
    assert steps == sorted(steps) and len(steps) > 0
    assert events[-1].run.status == v1.Run.FINISHED, events[-1]
    return len(events)


def test_a_clock_that_jumps_harms_nothing(protos, tmp_path):  # noqa: F811
    v1 = protos[0]
    clock = Clock(tmp_path)
    server = serving.Server(tmp_path, serving.VECTORS, '--shard-kib', '16', '--encode-wait-ms', '20', **clock.environment)
    began = time.monotonic()
    channel = grpc.insecure_channel(server.target)
    stub = v1.stub(channel)
    stored, runs = 0, []
    with clock:
        for part in range(8):
            answers = list(stub.Push(iter([v1.PushRequest(dataset='d', documents=documents(v1, 40 * part + 8 * k, 8)) for k in range(5)]),
                                     timeout=60))
            assert [a.first for a in answers] == [0, 8, 16, 24, 32] and sum(a.stored for a in answers) == 40
            stored += 40
            again = list(stub.Push(iter([v1.PushRequest(dataset='d', documents=documents(v1, 40 * part, 8))]), timeout=60))
            assert again[0].duplicates == 8 and again[0].stored == 0
            assert b'embedding' in metrics.send(channel, metrics.request(protos, '/encode', metrics.vectors(3)))
            if part % 2:
                runs.append(fit(v1, stub, 20))
        for run in runs:
            assert ends(v1, stub, run) > 3
        with pytest.raises(grpc.RpcError) as caught:  # a deadline is so long by the monotonic clock
            waits = fit(v1, stub, 100000)
            runs.append(waits)
            before = time.monotonic()
            list(stub.Watch(v1.WatchRequest(run=waits), timeout=2))
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED and 1.9 < time.monotonic() - before < 30
        assert stub.CancelRun(v1.CancelRunRequest(run=waits), timeout=60).id == waits
        last = list(stub.Watch(v1.WatchRequest(run=waits), timeout=60))[-1].run
        assert last.status == v1.Run.CANCELLED
    assert stub.GetDataset(v1.GetDatasetRequest(dataset='d')).documents == stored
    listed = [run.id for run in stub.ListRuns(v1.ListRunsRequest()).runs]
    assert listed == runs[::-1] and len(set(runs)) == len(runs)  # the newest first, by their coming
    # One made in the far future, then one of long ago: the latter is the newer model.
    found = []
    for days in (30, -400):
        clock.set(days * DAY)
        run = fit(v1, stub, 20)
        assert ends(v1, stub, run) > 3
        found.append(run)
        until_served(server, run)
    assert server.stop() == 0
    said = subprocess.run([serving.PROGRAM, 'datasets', 'verify', 'd', '--workspace', tmp_path / 'data'], capture_output=True, text=True)
    assert said.returncode == 0, said
    clock.set(-3 * DAY)
    server.start()
    assert metrics.send(grpc.insecure_channel(server.target), metrics.request(protos, '/encode', metrics.vectors(3)))
    until_served(server, found[-1])
    assert found[0] not in server.log()
    again = v1.stub(grpc.insecure_channel(server.target))
    assert again.GetDataset(v1.GetDatasetRequest(dataset='d')).documents == stored
    assert [run.id for run in again.ListRuns(v1.ListRunsRequest()).runs] == (runs + found)[::-1]
    assert server.stop() == 0
    print(f'{clock.jumps} jumps, {stored} Documents, {len(runs) + 2} runs, {time.monotonic() - began:.0f} s')


def until_served(server, run):
    end = time.monotonic() + 60
    while not re.search(rf'model loaded path="[^"]*{run}', server.log()):
        assert time.monotonic() < end, server.log()
        time.sleep(0.1)
