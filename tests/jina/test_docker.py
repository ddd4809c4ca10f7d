"""uses='docker://...' of a real Flow, whose ContainerPod meets the program where it would meet a container.

The stand-in for the docker SDK is that of tests/image (which does the same with the image itself, as root). As Docker's does, its
stream of a container's log blocks, and Jina asks whether a container is ready between two lines of that log only.
"""
import os
import pathlib
import subprocess
import sys

import pytest

from service import PROGRAM, ROOT, VECTORS  # first: it sets Jina's environment

sys.path.insert(0, str(ROOT / 'tests' / 'image'))
import docker  # noqa: E402
from container import IMAGE, Docker  # noqa: E402
from jina import Flow  # noqa: E402
from jina.orchestrate import deployments  # noqa: E402
from test_flow import vector_docs  # noqa: E402


class Program:
    """The image's ENTRYPOINT without the image."""
    name = '-'

    def __init__(self, folder, log, args, environment, after):
        jina = folder / 'jina'
        if not jina.exists():
            jina.symlink_to(PROGRAM)
        words = ['sh', '-c', f'sleep {after}; exec "$@"', 'sh', jina, 'executor', '--uses', ROOT / 'config.yml', *args]
        with open(log, 'wb') as out:
            self.process = subprocess.Popen(words, stdout=out, stderr=out, stdin=subprocess.DEVNULL, cwd=folder,
                                            env={**os.environ, **environment})

    def pid(self):
        return self.process.pid

    def remove(self):
        pass


class Programs(Docker):
    def __init__(self, folder, after):
        super().__init__(folder)
        self.after = after

    def start(self, log, args, environment, mounts):
        return Program(self.folder, log, args, environment, self.after)


# The first: it serves before Jina asks for the first time, or between its first lines; the others after all that it says by itself.
@pytest.mark.parametrize('after', [0, 0.3, 1])
def test_a_flow_finds_out_that_the_container_is_ready(after, tmp_path: pathlib.Path, monkeypatch):
    engine = Programs(tmp_path, after)
    monkeypatch.setattr(docker, 'from_env', lambda **_: engine)
    monkeypatch.setattr(deployments, 'in_docker', lambda: False)
    flow = Flow().add(name='tuner', uses=f'docker://{IMAGE}', uses_with={'model': str(VECTORS), 'threads': 1, 'run_threads': 1},
                      volumes=[f'{tmp_path}/cache:/app'], timeout_ready=20000)
    with flow:
        found = flow.post('/encode', vector_docs(1, each=2))
    assert len(found) == 12 and found.embeddings.shape[0] == 12
