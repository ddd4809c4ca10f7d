"""`finetuner serve` in a process of its own, on a free port of the loopback. FT_BUILD names the folder of the program."""
import os
import pathlib
import signal
import socket
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = pathlib.Path(os.environ.get('FT_BUILD', ROOT / 'build')).resolve() / 'finetuner'
VECTORS = ROOT / 'tests' / 'data' / 'vectors' / 'classifier.onnx'


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


class Server:
    def __init__(self, folder, model, *flags):
        self.folder = folder
        self.port = free_port()
        self.target = f'127.0.0.1:{self.port}'
        self.command = [str(PROGRAM), 'serve', '--host', '127.0.0.1', '--port', str(self.port),
                        '--workspace', str(folder / 'data'), '--model', str(model), '--threads', '1', '--run-threads', '1',
                        '--log-level', 'INFO', *flags]
        self.log = open(folder / 'server.log', 'ab')
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.command, stdout=self.log, stderr=self.log)
        for _ in range(200):
            assert self.process.poll() is None, 'the server ended at once: see server.log'
            if self.ready():
                return
            time.sleep(0.1)
        raise AssertionError('the server does not serve')

    def ready(self):
        return subprocess.run([str(PROGRAM), 'ping', self.target], capture_output=True).returncode == 0

    def memory(self):
        """Resident bytes."""
        status = pathlib.Path(f'/proc/{self.process.pid}/status').read_text()
        return int(status.split('VmRSS:')[1].split()[0]) * 1024

    def kill(self):
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(timeout=20)

    def stop(self):
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGTERM)
        code = self.process.wait(timeout=30)
        self.log.close()
        return code
