"""A disk that is full, read-only or broken, by a preloaded library, and one that is really full: clients are told, what was acknowledged stays, and the service
goes on by itself once there is room. A second process on the same workspace is refused, naming the first."""
import errno
import os
import pathlib
import re
import resource
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
                assert 'the disk refuses' in caught.value.details() and str(tmp_path) not in caught.value.details(), caught.value
            assert channel.unary_unary('/grpc.health.v1.Health/Check')(b'', timeout=20) == b'\x08\x01'
            metrics.send(channel, metrics.request(protos, '/encode', metrics.vectors(2)))
            trained = protos[1].DataRequestProto.FromString(metrics.request(protos, '/train', metrics.vectors(1)))
            trained.data.docs.docs[0].data['tags'].dict.data['finetuner_label'].text = f'{part}'
            told = protos[1].DataRequestProto.FromString(metrics.send(channel, trained.SerializeToString())).header.status
            assert told.code == protos[1].StatusProto.ERROR and 'datasets' in told.description, told
            assert str(tmp_path) not in told.description, told
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


class Disk:
    """The workspace on a disk of its own that is really full: a small tmpfs. Where nobody may mount one: files of the service may not grow
    (RLIMIT_FSIZE), or with `preload`, which holds for what a run writes too, the library says that there is no room. Which it is is printed."""

    def __init__(self, folder, mib, preload=False, mount=True):
        self.path, self.mib, self.server = folder / 'data', mib, None
        self.path.mkdir()
        options = ['mount', '-t', 'tmpfs', '-o', f'size={mib}m', 'tmpfs', str(self.path)]
        self.mounted = mount and 'FT_NO_MOUNT' not in os.environ and subprocess.run(options, capture_output=True).returncode == 0
        self.flag = folder / 'refuse' if preload and not self.mounted else None
        other = f'{REFUSING.name} ' if self.flag else 'RLIMIT_FSIZE '
        print(f'a tmpfs of {mib} MiB' if self.mounted else other + ('since nobody may mount here' if mount else ''), end=': ')

    def start(self, *flags):
        """A service on it; where there is no tmpfs its files end at 256 KiB."""
        environment = {}
        if self.flag is not None:
            environment = {'LD_PRELOAD': str(REFUSING), 'FT_REFUSE_OF': str(self.path), 'FT_REFUSE_IF': str(self.flag)}
        self.server = serving.Server(self.path.parent, serving.VECTORS, '--shard-kib', '1024', *flags, **environment)
        if not self.mounted and self.flag is None:
            resource.prlimit(self.server.process.pid, resource.RLIMIT_FSIZE, (256 << 10, resource.RLIM_INFINITY))
        return self.server

    def room(self):
        if self.mounted:
            self.remount(f'size={self.mib * 4}m')
        else:
            resource.prlimit(self.server.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    def remount(self, options):
        subprocess.run(['mount', '-o', f'remount,{options}', str(self.path)], check=True)

    def fill(self):
        if self.flag is not None:
            self.flag.write_text(str(errno.ENOSPC))
            return
        with open(self.path / 'ballast', 'wb', buffering=0) as ballast:
            try:
                while True:
                    ballast.write(bytes(4096))
            except OSError as error:
                assert error.errno == errno.ENOSPC

    def empty(self):
        (self.flag or self.path / 'ballast').unlink()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.server is not None:
            self.server.__exit__()
        if self.mounted:
            subprocess.run(['umount', '-l', str(self.path)], check=True)


def texts(v1, first, count):
    return [v1.Document(id=str(i), text=f'text {i} ' * 500, label=str(i % 5)) for i in range(first, first + count)]


def push_until_full(v1, stub, first, most):
    """How many were acknowledged in all."""
    done = first
    while done < most:
        try:
            done += sum(a.stored for a in stub.Push(iter([v1.PushRequest(dataset='d', documents=texts(v1, done, 20))]), timeout=60))
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED and 'the disk refuses' in error.details(), error
            return done, True
    return done, False


def test_a_disk_that_is_really_full(protos, tmp_path):  # noqa: F811
    v1 = protos[0]
    with Disk(tmp_path, 16) as disk:
        server = disk.start()
        channel = grpc.insecure_channel(server.target)
        stub = v1.stub(channel)
        done, full = push_until_full(v1, stub, 0, 20000)
        assert full and done > 0
        for _ in range(5):  # and stays so, as long as it is
            assert push_until_full(v1, stub, done, done + 20) in ((done, True), (done + 20, False))
            done = stub.GetDataset(v1.GetDatasetRequest(dataset='d')).documents
            time.sleep(0.3)
        assert channel.unary_unary('/grpc.health.v1.Health/Check')(b'', timeout=20) == b'\x08\x01'
        assert b'embedding' in metrics.send(channel, metrics.request(protos, '/encode', metrics.vectors(2)))
        acknowledged = done
        disk.room()
        end = time.monotonic() + 60
        while done < acknowledged + 100:
            done, _ = push_until_full(v1, stub, done, acknowledged + 100)
            assert time.monotonic() < end
            time.sleep(0.1)
        assert stub.GetDataset(v1.GetDatasetRequest(dataset='d')).documents == done
        assert server.stop() == 0
        command = [serving.PROGRAM, 'datasets', 'verify', 'd', '--workspace', disk.path]
        verified = subprocess.run(command, capture_output=True, text=True)
        assert verified.returncode == 0, verified
        server.start()
        assert v1.stub(grpc.insecure_channel(server.target)).GetDataset(v1.GetDatasetRequest(dataset='d')).documents == done
        assert server.stop() == 0
        print(f'{acknowledged} Documents until it was full, {done} in the end')
        if disk.mounted:  # read-only: what is there can be looked at, nothing is served
            disk.remount('ro')
            refused = subprocess.run([serving.PROGRAM, 'serve', '--host', '127.0.0.1', '--port', '0', '--workspace', disk.path],
                                     capture_output=True, text=True, timeout=60)
            assert refused.returncode == 1 and 'EROFS' in refused.stderr and str(disk.path) in refused.stderr, refused
            assert subprocess.run(command, capture_output=True).returncode == 0
            disk.remount('rw')
            server.start()
            assert server.stop() == 0


@pytest.mark.parametrize('mount', [True, False])
def test_a_run_on_a_disk_that_is_full(protos, tmp_path, mount):  # noqa: F811
    """Its checkpoint cannot be written, or its artifact: it says so, the service goes on, and so does the next run once there is room."""
    v1 = protos[0]
    from google.protobuf import struct_pb2
    with Disk(tmp_path, 32, preload=True, mount=mount) as disk:
        server = disk.start()
        channel = grpc.insecure_channel(server.target)
        stub = v1.stub(channel)
        docs = [v1.Document(id=str(k), label=str(k % 2), tensor=v1.Tensor(dtype='<f4', shape=[metrics.width()], data=row))
                for k, row in enumerate(metrics.vectors(32))]
        list(stub.Push(iter([v1.PushRequest(dataset='trained', documents=docs)])))

        def fit(epochs):
            options = struct_pb2.Struct()
            options.update({'epochs': epochs, 'batch_size': 8, 'num_items_per_class': 4, 'seed': 1})
            return stub.Fit(v1.FitRequest(dataset='trained', options=options)).id

        def end_of(run):
            return list(stub.Watch(v1.WatchRequest(run=run), timeout=120))[-1].run
        run = fit(20000)
        for event in stub.Watch(v1.WatchRequest(run=run), timeout=60):
            if event.WhichOneof('what') == 'progress' and event.progress.step >= 20:
                break
        disk.fill()
        end = time.monotonic() + 60
        while 'cannot record the end of run' not in server.log():  # nor is there room to say so
            assert time.monotonic() < end
            time.sleep(0.1)
        with pytest.raises(grpc.RpcError) as caught:  # or to register another
            fit(1)
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED and 'the disk refuses' in caught.value.details(), caught.value
        assert channel.unary_unary('/grpc.health.v1.Health/Check')(b'', timeout=20) == b'\x08\x01'
        assert b'embedding' in metrics.send(channel, metrics.request(protos, '/encode', metrics.vectors(2)))
        disk.empty()
        ended = end_of(run)
        print(f'{v1.Run.Status.Name(ended.status)}: {ended.reason}')
        # Neither result.json nor the worker's log had room for that: the worker said it to the service.
        assert ended.status == v1.Run.FAILED and re.search('No space left|ENOSPC', ended.reason), ended
        assert str(tmp_path) not in ended.reason, ended
        assert stub.GetRun(v1.GetRunRequest(run=run)).reason == ended.reason
        shown = subprocess.run([serving.PROGRAM, 'runs', run, '--server', server.target], capture_output=True, text=True)
        assert shown.returncode == 0 and ended.reason in shown.stdout, shown
        assert server.log().count('cannot record the end of run') == 1
        assert end_of(fit(5)).status == v1.Run.FINISHED
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
