"""`finetuner serve` in a process of its own, on a port of the loopback that the system gives it. FT_BUILD names the folder of
the program."""
import atexit
import os
import pathlib
import re
import signal
import socket
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = pathlib.Path(os.environ.get('FT_BUILD', ROOT / 'build')).resolve() / 'finetuner'
VECTORS = ROOT / 'tests' / 'data' / 'vectors' / 'classifier.onnx'


def free_port():
    """For ports that a test must know before the program has them: somebody else may take one in between."""
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


class Server:
    """with Server(...) as server: ends with it, whatever happens; without, with this process at the latest."""

    def __init__(self, folder, model, *flags, **environment):
        self.folder = folder
        self.port = 0
        self.flags = ['--workspace', str(folder / 'data'), '--model', str(model), '--threads', '1', '--run-threads', '1',
                      '--log-level', 'INFO', *flags]
        self.environment = {**os.environ, **environment}
        self.process = None
        atexit.register(self.__exit__)
        self.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process is not None and self.process.poll() is None:
            self.kill()

    def log(self):
        return (self.folder / 'server.log').read_text()

    def start(self):
        """The first time on any port, then on the same again."""
        with open(self.folder / 'server.log', 'wb') as log:
            self.process = subprocess.Popen([PROGRAM, 'serve', '--host', '127.0.0.1', '--port', str(self.port), *self.flags],
                                            stdout=log, stderr=log, env=self.environment)
        until = time.monotonic() + 60
        while True:
            said = re.search(r'serving host=\S+ port=(\d+)', self.log())
            if said:
                break
            assert self.process.poll() is None and time.monotonic() < until, self.log()
            time.sleep(0.02)
        self.port = int(said[1])
        self.target = f'127.0.0.1:{self.port}'
        while not self.ready():
            assert self.process.poll() is None and time.monotonic() < until, self.log()
            time.sleep(0.1)

    def ready(self):
        return subprocess.run([str(PROGRAM), 'ping', self.target], capture_output=True).returncode == 0

    def memory(self):
        """Resident bytes, without files that are mapped."""
        status = pathlib.Path(f'/proc/{self.process.pid}/status').read_text()
        return int(status.split('RssAnon:')[1].split()[0]) * 1024

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=20)

    def stop(self):
        """As an operator does it: the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=60)
        if code != 0:
            print(f'the service ended with {code}:', self.log()[-4000:], sep='\n')
        return code
