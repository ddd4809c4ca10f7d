"""Containers of an image without an engine: what `buildah mount` shows, as the root of a process that is number 1 of its own.

Needs root. Each container has a root file system of its own, PID and mount namespaces, and a network of its own unless told
otherwise. `Docker` is as much of the docker SDK as Jina uses, made of these.
"""
import json
import os
import pathlib
import shlex
import signal
import subprocess
import time

import docker.errors

BUILDAH = shlex.split(os.environ.get('FT_BUILDAH', 'buildah'))
IMAGE = os.environ.get('FT_IMAGE', 'finetuner')


def buildah(*words):
    return subprocess.run([*BUILDAH, *words], check=True, capture_output=True, text=True).stdout.strip()


def config(image=IMAGE):
    """What the image says about how it is run: User, Env, WorkingDir, Entrypoint, Volumes, Healthcheck."""
    return json.loads(buildah('inspect', '--type', 'image', image))['Docker']['config']


class Container:
    def __init__(self, log, command, env=None, mounts=(), own_network=True):
        """`command`: all words, the entrypoint too. `mounts`: (host, inside) pairs. The output goes to the file `log`."""
        self.config = config()
        self.name = buildah('from', '--pull-never', IMAGE)
        self.root = pathlib.Path(buildah('mount', self.name))
        self.env = [*self.config['Env'], *(f'{k}={v}' for k, v in (env or {}).items())]
        user = next(line.split(':') for line in (self.root / 'etc/passwd').read_text().splitlines()
                    if line.startswith(self.config['User'] + ':'))
        self.uid, self.gid = int(user[2]), int(user[3])
        self.own_network = own_network
        prepare = [f'mount -t proc proc {self.root}/proc', f'mount --bind /dev {self.root}/dev']
        for host, inside in mounts:
            at = self.root / inside.lstrip('/')
            at.mkdir(parents=True, exist_ok=True) if pathlib.Path(host).is_dir() else at.parent.mkdir(parents=True, exist_ok=True)
            pathlib.Path(host).is_dir() or at.touch()
            prepare.append(f'mount --bind {shlex.quote(str(host))} {shlex.quote(str(at))}')
        prepare += ['ip link set lo up'] if own_network else []
        inner = ['chroot', f'--userspec={self.uid}:{self.gid}', str(self.root), 'env', '-i', *self.env, '/bin/sh', '-c',
                 f'cd {self.config["WorkingDir"]} && exec "$@"', 'sh', *command]
        outer = ['unshare', '--mount', '--pid', '--fork', '--kill-child', *(['--net'] if own_network else []), 'sh', '-ec',
                 ' && '.join(prepare) + ' && exec "$@"', 'sh', *inner]
        self.log = pathlib.Path(log)
        self.started = time.monotonic()
        with open(log, 'wb') as out:
            self.process = subprocess.Popen(outer, stdout=out, stderr=out, stdin=subprocess.DEVNULL)

    def pid(self):
        """Of its process number 1, seen from outside."""
        while self.process.poll() is None:
            children = pathlib.Path(f'/proc/{self.process.pid}/task/{self.process.pid}/children').read_text().split()
            if children:
                return int(children[0])
            time.sleep(0.01)
        raise RuntimeError('the container ended: ' + self.log.read_text())

    def status(self, key):
        lines = pathlib.Path(f'/proc/{self.pid()}/status').read_text().splitlines()
        return next(line for line in lines if line.startswith(key + ':')).split(':')[1].split()

    def run(self, words, timeout=60):
        """As `docker exec` and Kubernetes' probes do: (exit code, output, seconds)."""
        pid = str(self.pid())
        enter = ['nsenter', '-t', pid, '-m', '-p', '-r', '-w', *(['-n'] if self.own_network else []), '-S', str(self.uid), '-G', str(self.gid)]
        start = time.monotonic()
        done = subprocess.run([*enter, 'env', '-i', *self.env, *words], capture_output=True, text=True, timeout=timeout)
        return done.returncode, (done.stdout + done.stderr).strip(), time.monotonic() - start

    def until(self, words, seconds):
        """Asks again and again, as a startup probe does."""
        end = time.monotonic() + seconds
        while True:
            answer = self.run(words)
            if answer[0] == 0 or time.monotonic() > end or self.process.poll() is not None:
                return answer
            time.sleep(0.2)

    def stop(self, patience=10):
        """SIGTERM, and SIGKILL after `patience` seconds: (exit code, seconds). 128 + n: ended by signal n."""
        start = time.monotonic()
        if self.process.poll() is None:
            os.kill(self.pid(), signal.SIGTERM)
        return self.wait(patience), time.monotonic() - start

    def wait(self, patience):
        try:
            self.process.wait(patience)
        except subprocess.TimeoutExpired:
            os.kill(self.pid(), signal.SIGKILL)
            self.process.wait(10)
        return self.process.returncode if self.process.returncode >= 0 else 128 - self.process.returncode

    def remove(self):
        self.wait(0.1)
        buildah('umount', self.name)
        buildah('rm', self.name)


class Docker:
    """docker.from_env() for Jina's ContainerPod, which starts containers in one process and stops them in another: what is known of
    one lies in a folder. `more` mounts stand for files that an image of a user's has beside ours."""

    def __init__(self, folder, more=()):
        self.folder, self.more = pathlib.Path(folder), more
        self.images = self.containers = self.networks = self

    def version(self):
        return {'Version': '24.0.0'}

    def close(self):
        pass

    def list(self):
        return []

    def get(self, name):
        if name == 'bridge':  # on a machine with Docker it is the bridge's address; both need a server on all addresses
            return type('Network', (), {'attrs': {'IPAM': {'Config': [{'Gateway': '127.0.0.1'}]}}})
        if name == IMAGE:
            return type('Image', (), {'attrs': {}})
        if not (self.folder / f'{name}.pid').exists():
            raise docker.errors.NotFound(name)
        return Handle(self.folder, name)

    def run(self, image, args, name, volumes, network_mode, entrypoint, environment, **how):
        assert image == IMAGE and network_mode == 'host' and entrypoint is None, (image, network_mode, entrypoint)
        (self.folder / f'{name}.args').write_text(json.dumps({'args': args, 'volumes': volumes, 'how': repr(how)}))
        mounts = [*((host, v['bind']) for host, v in volumes.items()), *self.more]
        container = self.start(self.folder / f'{name}.log', args, environment, mounts)
        (self.folder / f'{name}.pid').write_text(f'{container.pid()} {container.name}')
        return Handle(self.folder, name, container)

    def start(self, log, args, environment, mounts):
        return Container(log, [*config()['Entrypoint'], *args], environment, mounts, own_network=False)


class Handle:
    def __init__(self, folder, name, container=None):
        self.folder, self.id, self.container = folder, name, container

    def alive(self):
        if self.container is not None:
            return self.container.process.poll() is None
        return pathlib.Path(f'/proc/{self.pid()}').exists()

    def pid(self):
        return int((self.folder / f'{self.id}.pid').read_text().split()[0])

    def reload(self):
        if not self.alive():
            raise docker.errors.NotFound(self.id)

    def logs(self, stream):
        """Ends with the container, and its exit code is written down then."""
        with open(self.folder / f'{self.id}.log', 'rb') as log:
            while self.alive():
                line = log.readline()
                if line:
                    yield line
                else:
                    time.sleep(0.05)
        (self.folder / f'{self.id}.code').write_text(str(self.container.process.returncode))
        self.container.remove()

    def stop(self):
        start, pid = time.monotonic(), self.pid()
        os.kill(pid, signal.SIGTERM)
        while self.alive() and time.monotonic() < start + 10:
            time.sleep(0.02)
        if self.alive():
            os.kill(pid, signal.SIGKILL)
