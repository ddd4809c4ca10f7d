"""`finetuner serve` in a process of its own, for the tests of both docarrays.

FT_BUILD names the folder of the built `finetuner`. Servers listen on the loopback on free ports and are ended by pid.
"""
import os
import pathlib
import signal
import socket
import subprocess
import threading
import time

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc

os.environ.setdefault('JINA_OPTOUT_TELEMETRY', '1')
os.environ.setdefault('JINA_LOG_LEVEL', 'ERROR')

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = pathlib.Path(os.environ.get('FT_BUILD', ROOT / 'build')) / 'finetuner'
VECTORS = ROOT / 'tests' / 'data' / 'vectors' / 'classifier.onnx'
GLYPHS = ROOT / 'tools' / 'demo' / 'characters.onnx'
FIT = {'epochs': 3, 'batch_size': 16, 'num_items_per_class': 4, 'learning_rate': 0.001, 'seed': 1}


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


class Server:
    """`finetuner serve` in a process of its own."""

    def __init__(self, folder, model, *flags):
        folder.mkdir(exist_ok=True)
        self.port = free_port()
        self.log = open(folder / 'server.log', 'ab')
        self.command = [str(PROGRAM), 'serve', '--host', '127.0.0.1', '--port', str(self.port), '--name', 'tuner',
                        '--workspace', str(folder / 'data'), '--model', str(model), '--threads', '1',
                        '--run-threads', '1', '--log-level', 'INFO', *flags]
        self.process = None
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.command, stdout=self.log, stderr=self.log)
        for _ in range(200):
            assert self.process.poll() is None, 'the server ended at once: see server.log'
            if subprocess.run([str(PROGRAM), 'ping', f'127.0.0.1:{self.port}'], capture_output=True).returncode == 0:
                return
            time.sleep(0.1)
        raise AssertionError('the server does not serve')

    def kill(self):
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(timeout=20)

    def stop(self):
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGTERM)
        code = self.process.wait(timeout=30)
        self.log.close()
        return code


class Pings:
    """Asks Health/Check all the time, with Jina's deadline of 1 s."""

    def __init__(self, port):
        self.slowest, self.count, self.failures = 0.0, 0, []
        self.port, self.over = port, threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        with grpc.insecure_channel(f'127.0.0.1:{self.port}') as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            while not self.over.is_set():
                start = time.monotonic()
                try:
                    answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=1)
                    assert answer.status == health_pb2.HealthCheckResponse.SERVING
                except Exception as error:  # noqa: BLE001
                    self.failures.append(error)
                self.slowest = max(self.slowest, time.monotonic() - start)
                self.count += 1
                time.sleep(0.05)

    def stop(self):
        self.over.set()
        self.thread.join()
        assert not self.failures, self.failures[0]
        assert self.slowest < 1
        return self.count


def map_at_r(x, labels):
    """MAP@R of vectors among themselves, by cosine: the mean over queries of the precision at each hit within the first R,
    R being how many others share the query's class (Musgrave et al. 2020)."""
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    labels = np.asarray(labels)
    cosine = x @ x.T
    np.fill_diagonal(cosine, -np.inf)
    scores = []
    for i, row in enumerate(cosine):
        r = (labels == labels[i]).sum() - 1
        hits = labels[np.argsort(-row, kind='stable')[:r]] == labels[i]
        scores.append((hits * np.cumsum(hits) / np.arange(1, r + 1)).sum() / r)
    return float(np.mean(scores))
