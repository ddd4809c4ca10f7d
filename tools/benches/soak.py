"""tools/bench soak - mixed load for minutes with a run every minute, each becoming the served model.

Clients of Jina's /encode and /search and of finetuner.v1's Encode and Push ask all the time; Documents are pushed over a fixed set of
ids, so what is stored is replaced again and again. Passed (exit code 0) means: every request was answered OK; every vector is that of a
model known to `finetuner encode` (the first one or a run's), and no client ever saw an older one again; every run was served; each
pushed id is there once; Health answered within 1 s; and the resident memory of the service, by least squares over the last half, grew
by less than 1 MB a minute.
"""
import argparse
import collections
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

import grpc
import numpy as np

from serve import BUILD, ENCODE, HEALTH, free_port, server

ROOT = pathlib.Path(__file__).resolve().parents[2]
V1 = '/finetuner.v1.Finetuner/'
POOL, PUSHED_IDS, SLOPE_MAX_MB, SAME = 16, 20000, 1.0, 1e-4


def messages_of_v1(folder):
    subprocess.run(['protoc', f'-I{ROOT}/proto', f'--python_out={folder}', 'finetuner/v1/finetuner.proto'], check=True)
    sys.path.insert(0, str(folder))
    from finetuner.v1 import finetuner_pb2
    return finetuner_pb2


class Contents:
    """What Documents hold: vectors for the model of the tests, texts where --model is a folder."""

    def __init__(self, model):
        self.texts = pathlib.Path(model).is_dir()
        random = np.random.default_rng(1)
        words = 'printer smokes again invoice lost parcel late password login screen broken refund order key battery map'.split()
        if self.texts:
            self.pool = [' '.join(random.choice(words, 8)) for _ in range(POOL)]
        else:
            self.pool = [random.normal(size=16).astype('<f4') for _ in range(POOL)]

    def of(self, i):
        """Of any number: classes can be told apart, and no two are equal."""
        if self.texts:
            return f'{self.pool[i % 8]} number {i}'
        return (self.pool[i % 8] + 0.3 * np.random.default_rng(i).normal(size=16)).astype('<f4')

    def v1(self, v1, content, **more):
        if self.texts:
            return v1.Document(text=content, **more)
        return v1.Document(tensor=v1.Tensor(dtype='<f4', shape=content.shape, data=content.tobytes()), **more)

    def jina(self, endpoint):
        from docarray import Document, DocumentArray
        from jina.proto import jina_pb2
        request = jina_pb2.DataRequestProto()
        request.header.request_id, request.header.exec_endpoint = '0' * 32, endpoint
        docs = DocumentArray(Document(id=str(i), **({'text': c} if self.texts else {'tensor': c})) for i, c in enumerate(self.pool))
        request.data.docs.CopyFrom(docs.to_protobuf())
        return request.SerializeToString()

    def write(self, path):
        lines = ({'text': c} if self.texts else {'tensor': [float(x) for x in c]} for c in self.pool)
        path.write_text(''.join(json.dumps(line) + '\n' for line in lines))


class Soak:
    def __init__(self, options, folder, port, pid):
        self.options, self.port, self.pid = options, port, pid
        self.v1 = messages_of_v1(folder)
        self.contents = Contents(options.model)
        self.sent, self.answered = collections.Counter(), collections.Counter()
        self.errors, self.runs, self.memory, self.acknowledged = [], [], [], set()
        self.vectors = {}        # bytes of a pool's embeddings -> its number
        self.seen = collections.defaultdict(list)  # client -> numbers, in the order they came
        self.worst_health = 0.0
        self.mutex = threading.Lock()
        self.over = threading.Event()

    def channel(self):
        return grpc.insecure_channel(f'127.0.0.1:{self.port}', options=[('grpc.use_local_subchannel_pool', 1), ('grpc.enable_http_proxy', 0)])

    def count(self, kind, answered):
        with self.mutex:
            (self.answered if answered else self.sent)[kind] += 1

    def saw(self, client, vectors):
        """(POOL, dim) floats of one answer."""
        key = np.ascontiguousarray(vectors, '<f4').tobytes()
        with self.mutex:
            number = self.vectors.setdefault(key, len(self.vectors))
            mine = self.seen[client]
            if not mine or mine[-1] != number:  # as long as nothing changes there is nothing to keep
                mine.append(number)

    def client(self, kind, loop):
        def run():
            try:
                with self.channel() as channel:
                    loop(channel)
            except Exception as error:  # noqa: BLE001
                with self.mutex:
                    self.errors.append(f'{kind}: {error!r}'[:500])
        thread = threading.Thread(target=run, name=kind)
        thread.start()
        return thread

    def jina(self, name, endpoint):
        from docarray import DocumentArray
        from jina.proto import jina_pb2
        request = self.contents.jina(endpoint)

        def loop(channel):
            call = channel.unary_unary(ENCODE)
            while not self.over.is_set():
                self.count(endpoint, False)
                answer, done = call.with_call(request, timeout=60)
                message = jina_pb2.DataRequestProto.FromString(answer)
                if any(k == 'is-error' for k, _ in done.trailing_metadata() or ()) or message.header.status.code != 0:
                    raise RuntimeError(message.header.status.description)
                self.saw(name, DocumentArray.from_protobuf(message.data.docs).embeddings)
                self.count(endpoint, True)
        return self.client(endpoint, loop)

    def encode(self, name):
        v1 = self.v1
        request = v1.EncodeRequest(documents=[self.contents.v1(v1, c, id=str(i)) for i, c in enumerate(self.contents.pool)])

        def loop(channel):
            call = channel.stream_stream(V1 + 'Encode', v1.EncodeRequest.SerializeToString, v1.EncodeResponse.FromString)
            while not self.over.is_set():
                turn = threading.Semaphore(1)  # the next message goes once the last is answered

                def ask():
                    for _ in range(200):
                        turn.acquire()
                        if self.over.is_set():
                            return
                        self.count('Encode', False)
                        yield request
                rows = []
                for answer in call(ask(), timeout=600):
                    rows += [e.values for e in answer.embeddings]
                    if len(rows) == POOL:
                        self.saw(name, np.array(rows, '<f4'))
                        rows = []
                        self.count('Encode', True)
                        turn.release()
        return self.client('Encode', loop)

    def push(self, first):
        v1 = self.v1

        def loop(channel):
            call = channel.stream_stream(V1 + 'Push', v1.PushRequest.SerializeToString, v1.PushResponse.FromString)
            at = first
            while not self.over.is_set():
                ids = [f'p{(at + 2 * i) % PUSHED_IDS}' for i in range(32)]
                docs = [self.contents.v1(v1, self.contents.of(at + 2 * i), id=d, label=f'c{i % 8}') for i, d in enumerate(ids)]
                at += 64
                self.count('Push', False)
                stored = sum(r.count for r in call(iter([v1.PushRequest(dataset='pushed', documents=docs)]), timeout=60))
                if stored != len(ids):
                    raise RuntimeError(f'{stored} of {len(ids)} acknowledged')
                with self.mutex:
                    self.acknowledged.update(ids)
                self.count('Push', True)
                time.sleep(0.02)
        return self.client('Push', loop)

    def health(self, channel):
        call = channel.unary_unary(HEALTH)
        while not self.over.is_set():
            start = time.monotonic()
            call(b'', timeout=1)
            self.worst_health = max(self.worst_health, time.monotonic() - start)
            time.sleep(0.1)

    def train(self, channel):
        """A run every --every seconds; the first soon."""
        v1 = self.v1
        fit = channel.unary_unary(V1 + 'Fit', v1.FitRequest.SerializeToString, v1.Run.FromString)
        watch = channel.unary_stream(V1 + 'Watch', v1.WatchRequest.SerializeToString, v1.Event.FromString)
        began = time.monotonic()
        for n in range(int(self.options.minutes * 60 / self.options.every)):
            if self.over.wait(max(0.0, began + n * self.options.every + 5 - time.monotonic())):
                return
            request = v1.FitRequest(dataset='train', idempotency_key=f'soak-{n}')
            request.options.update({'seed': n + 1, 'steps': 8 if self.contents.texts else 60, 'batch_size': 32, 'num_items_per_class': 4,
                                    'learning_rate': 1e-4 if self.contents.texts else 0.01})
            run = fit(request, timeout=30).id
            last = list(watch(v1.WatchRequest(run=run), timeout=self.options.every * 5))[-1].run
            if last.status != v1.Run.FINISHED:
                raise RuntimeError(f'run {run}: {v1.Run.Status.Name(last.status)} {last.reason}')
            self.runs.append(run)

    def resident(self):
        """(minutes, MB, anonymous MB)."""
        lines = dict(line.split(':', 1) for line in pathlib.Path(f'/proc/{self.pid}/status').read_text().splitlines())
        return [int(lines[k].split()[0]) / 1024 for k in ('VmRSS', 'RssAnon')]

    def store(self, channel):
        v1 = self.v1
        docs = [self.contents.v1(v1, self.contents.of(i), id=f't{i}', label=f'c{i % 8}') for i in range(256)]
        call = channel.stream_stream(V1 + 'Push', v1.PushRequest.SerializeToString, v1.PushResponse.FromString)
        assert sum(r.stored for r in call(iter([v1.PushRequest(dataset='train', documents=docs)]))) == len(docs)

    def run(self):
        with self.channel() as channel:
            self.store(channel)
        threads = [self.jina('encode-1', '/encode'), self.jina('encode-2', '/encode'), self.jina('search', '/search'),
                   self.encode('v1-1'), self.encode('v1-2'), self.push(0), self.push(1),
                   self.client('Health', self.health), self.client('Fit', self.train)]
        began = time.monotonic()
        while time.monotonic() < began + self.options.minutes * 60 and not self.errors:
            self.memory.append([(time.monotonic() - began) / 60, *self.resident()])
            time.sleep(1)
        self.over.set()
        for thread in threads:
            thread.join()
        with self.channel() as channel:
            get = channel.unary_unary(V1 + 'GetDataset', self.v1.GetDatasetRequest.SerializeToString, self.v1.Dataset.FromString)
            return get(self.v1.GetDatasetRequest(dataset='pushed')).documents

    def versions(self, folder):
        """Of each model in the order of the runs, the vectors that `finetuner encode` gives the pool."""
        self.contents.write(folder / 'pool.jsonl')
        out = []
        for model in [self.options.model, *(folder / 'data/artifacts' / run / 'model.zip' for run in self.runs)]:
            command = [BUILD / 'finetuner', 'encode', model, folder / 'pool.jsonl', '--out', folder / 'pool.npy']
            subprocess.run(command, check=True, capture_output=True)
            out.append(np.load(folder / 'pool.npy'))
        return out


def slope(samples, column):
    """MB a minute over the last half."""
    half = np.array(samples[len(samples) // 2:])
    return float(np.polyfit(half[:, 0], half[:, column], 1)[0])


def judge(soak, documents, versions, exit_code):
    passed = True

    def say(ok, what):
        nonlocal passed
        passed = passed and ok
        print(f'{"ok    " if ok else "FAILED"} {what}', flush=True)

    if not soak.memory:
        say(False, 'it ended before memory was looked at' + ''.join(f'\n       {e}' for e in soak.errors))
        return False
    minutes = soak.memory[-1][0]
    figures = ', '.join(f'{kind} {n} ({n / minutes / 60:.0f}/s)' for kind, n in sorted(soak.answered.items()))
    lost = {k: n - soak.answered[k] for k, n in soak.sent.items() if n != soak.answered[k]}
    say(not lost and not soak.errors, f'every request answered OK: {figures}' + (f'; lost {lost}' if lost else '') + ''.join(f'\n       {e}' for e in soak.errors))
    apart = min((float(np.abs(a - b).max()) for i, a in enumerate(versions) for b in versions[:i]), default=0)
    say(apart > 10 * SAME, f'{len(versions)} models that differ by {apart:.4f} at least, {SAME} being called the same')
    version, strange = {}, 0
    for key, number in soak.vectors.items():
        rows = np.frombuffer(key, '<f4').reshape(POOL, -1)
        off = [float(np.abs(rows - v).max()) for v in versions]
        version[number] = int(np.argmin(off))
        strange += min(off) > SAME
    say(strange == 0, f'every answer is one known model\'s: {len(soak.vectors)} different ones, {strange} of no model (or of two within one request)')
    orders = {client: [version[n] for n in numbers] for client, numbers in soak.seen.items()}
    back = {c: o for c, o in orders.items() if any(a > b for a, b in zip(o, o[1:]))}
    say(not back, 'no client saw an older model again' + (f': {back}' if back else ''))
    served = sorted({v for o in orders.values() for v in o})
    wanted = int(soak.options.minutes * 60 / soak.options.every)
    say(served == list(range(wanted + 1)), f'{len(soak.runs)} runs of {wanted} finished, {len(served) - 1} hot swaps seen by clients')
    say(documents == len(soak.acknowledged), f'{len(soak.acknowledged)} ids acknowledged, {documents} stored')
    say(0 < soak.worst_health < 1, f'Health answered within {1000 * soak.worst_health:.0f} ms at worst')
    rss, anon = slope(soak.memory, 1), slope(soak.memory, 2)
    at = [soak.memory[int(f * (len(soak.memory) - 1))] for f in (0, 0.25, 0.5, 0.75, 1)]
    say(rss < SLOPE_MAX_MB, f'resident memory grew by {rss:+.3f} MB/min over the last half ({anon:+.3f} of it anonymous); at 0, 1/4 ... 1: '
        + ' '.join(f'{m:.1f}' for _, m, _ in at) + ' MB')
    say(exit_code == 0, f'SIGTERM: exit {exit_code}')
    return passed


def main():
    parser = argparse.ArgumentParser(prog='tools/bench soak', description=__doc__.split('\n\n', 1)[1])
    parser.add_argument('--minutes', type=float, default=10)
    parser.add_argument('--every', type=float, default=60, help='seconds from the start of a run to that of the next (60)')
    parser.add_argument('--model', default=str(ROOT / 'tests/data/vectors/classifier.onnx'), help='or a folder of a text encoder')
    parser.add_argument('--models-memory-mb', default='256', help='small, so that each model that is served no more is let go of (256)')
    parser.add_argument('--memory', help='write the samples (minutes, resident MB, anonymous MB) to this .csv')
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix='soak-', dir=os.environ.get('TMPDIR')) as folder:
        folder = pathlib.Path(folder)
        port = free_port()
        command = [BUILD / 'finetuner', 'serve', '--host', '127.0.0.1', '--port', str(port), '--model', options.model, '--workspace',
                   str(folder / 'data'), '--models-memory-mb', options.models_memory_mb, '--shard-kib', '4096', '--log-level', 'INFO']
        with server(folder, 'soak', command, port) as process:
            soak = Soak(options, folder, port, process.pid)
            documents = soak.run()
        if options.memory:
            np.savetxt(options.memory, soak.memory, fmt='%.4f', delimiter=',')
        passed = judge(soak, documents, soak.versions(folder), process.returncode)
        if not passed:
            print((folder / 'soak.log').read_text()[-3000:])
    print('soak passed' if passed else 'soak FAILED')
    sys.exit(0 if passed else 1)


if __name__ == '__main__':
    main()
