"""The image as Jina starts it: tools/image_test.sh runs this with a Python that has tests/requirements-jina.txt.

docker:// is started by Jina itself, over a stand-in for the docker SDK; Kubernetes and compose files are written by Jina, and what they
say (command, arguments, environment, volumes, probes, preStop) is done to containers. One line a check; exit code 1 if one fails.
"""
import contextlib
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

os.environ.setdefault('JINA_OPTOUT_TELEMETRY', '1')
os.environ.setdefault('JINA_LOG_LEVEL', 'ERROR')
os.environ['JINA_GATEWAY_IMAGE'] = 'jinaai/jina:3.34.0'  # else Jina asks its hub for the name

import docker  # noqa: E402
import numpy as np  # noqa: E402
import yaml  # noqa: E402

from container import Container, Docker, IMAGE, buildah, config  # noqa: E402
from docarray import Document, DocumentArray  # noqa: E402
from jina import Flow  # noqa: E402
from jina.orchestrate import deployments  # noqa: E402

deployments.in_docker = lambda: False  # in a container itself Jina would look for ours at host.docker.internal, which only Docker knows

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODELS = (str(ROOT / 'tests/data/vectors'), '/models')  # a user's folder: classifier.onnx reads 16 numbers
MODEL = '/models/classifier.onnx'
failures = []


def check(what, ok, figures=''):
    print(f'{"ok    " if ok else "FAILED"} {what}' + (f': {figures}' if figures else ''), flush=True)
    if not ok:
        failures.append(what)


def installed(root):
    """Package -> KB."""
    sizes, name = {}, None
    for line in (root / 'var/lib/dpkg/status').read_text().splitlines():
        name = line.split()[1] if line.startswith('Package:') else name
        if line.startswith('Installed-Size:'):
            sizes[name] = int(line.split()[1])
    return sizes


@contextlib.contextmanager
def files_of(image):
    name = buildah('from', '--pull-never', image)
    try:
        yield pathlib.Path(buildah('mount', name))
    finally:
        buildah('umount', name)
        buildah('rm', name)


def size_and_packages():
    sizes = {line.split('|')[0]: line.split('|')[1] for line in
             buildah('images', '--format', '{{.Name}}:{{.Tag}}|{{.Size}}').splitlines()}
    base = 'docker.io/library/debian:bookworm-slim'
    with files_of(IMAGE) as ours, files_of(base) as theirs:
        before, after = installed(theirs), installed(ours)
        added = sorted((kb, name) for name, kb in after.items() if name not in before)
        largest = ', '.join(f'{name} {kb / 1024:.1f}' for kb, name in reversed(added[-5:]))
        program = (ours / 'usr/bin/finetuner').stat().st_size / 2**20
        print(f'       image {sizes.get(f"localhost/{IMAGE}:latest")}, of it {sizes.get(base)} {base}; {len(added)} packages '
              f'{sum(kb for kb, _ in added) / 1024:.1f} MB ({largest}); the program {program:.1f} MB')
        needed = re.findall(r'NEEDED.*\[(.*)\]', subprocess.run(['readelf', '-d', ours / 'usr/bin/finetuner'], check=True,
                                                                capture_output=True, text=True).stdout)
        owners = {subprocess.run(['chroot', ours, 'dpkg', '-S', f'*/{library}'], check=True, capture_output=True, text=True)
                  .stdout.split(':')[0] for library in needed}
        missing = [line for line in subprocess.run(['chroot', ours, 'ldd', '/usr/bin/finetuner'], check=True, capture_output=True,
                                                   text=True).stdout.splitlines() if 'not found' in line]
    last = (ROOT / 'Dockerfile').read_text().split('\nFROM ')[-1]
    listed = set(re.search(r'--no-install-recommends((?: |\\\n|[a-z0-9.+-])*)', last).group(1).replace('\\', ' ').split())
    check('packages of the Dockerfile are those of the libraries that the program names', listed == owners - {'libc6'} and not missing,
          f'{len(listed)} packages; too many: {sorted(listed - owners)}, missing: {sorted(owners - listed - {"libc6"})}, unresolved: {missing}')


def vectors(n, label=False):
    rng = np.random.default_rng(n)
    return DocumentArray(Document(id=str(i), tensor=(rng.normal(size=16) + 3 * (np.arange(16) % 4 == i % 4)).astype('float32'),
                                  tags={'finetuner_label': str(i % 4)} if label else {}) for i in range(n))


def stops(container, where):
    code, seconds = container.stop()
    check(f'{where}: SIGTERM as PID 1', code == 0, f'exit {code} after {seconds:.2f} s')


def plain(folder):
    """The image alone: Healthcheck, user, a signal before anything is loaded and one while a request is computed."""
    container = Container(folder / 'plain.log', config()['Entrypoint'], own_network=True)
    test = config()['Healthcheck']['Test']
    code, text, _ = container.until(['/bin/sh', '-c', test[1]], 20)
    check('HEALTHCHECK of the image', code == 0 and test[0] == 'CMD-SHELL', f'{text!r} {time.monotonic() - container.started:.2f} s after its start')
    uid, groups = container.status('Uid'), container.status('Groups')
    check('not root', '0' not in uid, f'uid {uid[0]}, capabilities {container.status("CapEff")[0]}, groups {groups}')
    inner = container.run(['/bin/sh', '-c', 'readlink /proc/1/exe; for f in /usr/bin /workdir /etc; do test -w $f && echo writable $f; done; true'])
    check('PID 1 is the program, and it can write to its workspace only', inner[1] == '/usr/bin/finetuner', inner[1].replace('\n', ', '))
    stops(container, 'plain')
    container.remove()


def by_docker(folder):
    client = Docker(folder, [MODELS])
    docker.from_env = lambda **_: client
    cache = folder / 'cache'
    flow = Flow().add(name='tuner', uses=f'docker://{IMAGE}', uses_with={'model': '${{ ENV.MODEL }}', 'threads': 1, 'run_threads': 1},
                      env={'MODEL': MODEL}, volumes=[f'{cache}:/app'], timeout_ready=30000)
    start = time.monotonic()
    with flow:
        up = time.monotonic() - start
        found = flow.post('/encode', vectors(12))
        stored = flow.post('/train', vectors(64, True))
        run = flow.post('/fit', parameters={'steps': 20, 'batch_size': 16, 'wait': True}, return_responses=True)
        status = next(iter(run[0].parameters['__results__'].values()))['status']
        name = next(folder.glob('*.pid')).stem
        health = config()['Healthcheck']['Test'][1]
        pid = Docker(folder).get(name).pid()
        healthy = subprocess.run(['nsenter', '-t', str(pid), '-m', '-p', '-r', '/bin/sh', '-c', health], capture_output=True, text=True)
        start = time.monotonic()
    down = time.monotonic() - start
    args = (folder / f'{name}.args').read_text()
    check('docker:// (arguments only, a folder mounted on /app)', found.embeddings is not None and len(found.embeddings) == 12,
          f'up after {up:.2f} s; {found.embeddings.shape} embeddings; ' + args[9:args.index(']')])
    check('docker://: /train and /fit in the container', len(stored) == 64 and status == 'FINISHED', status)
    check('docker://: HEALTHCHECK finds the port it was given', healthy.returncode == 0, healthy.stdout.strip())
    for _ in range(100):
        if (folder / f'{name}.code').exists():
            break
        time.sleep(0.1)
    code = (folder / f'{name}.code').read_text()
    check('docker://: container.stop() of Jina', code == '0', f'exit {code}; the Flow was down after {down:.2f} s')


def pod(folder, documents, mounts=(), fs_group=None):
    """A container as a Deployment or StatefulSet of those documents says, and its spec."""
    workload = next(d for d in documents if d['kind'] in ('Deployment', 'StatefulSet'))
    spec = workload['spec']['template']['spec']['containers'][0]
    settings = next(d for d in documents if d['kind'] == 'ConfigMap')['data']
    env = {**settings, **{e['name']: e.get('value', 'from-the-pod') for e in spec['env']}}
    for mount in spec.get('volumeMounts', []):
        claim = folder / mount['name']
        claim.mkdir(exist_ok=True)  # it outlives a pod
        os.chmod(claim, 0o755)
        if fs_group is not None:
            os.chown(claim, 0, fs_group)
            os.chmod(claim, 0o2775)
        mounts = [*mounts, (str(claim), mount['mountPath'])]
    return Container(folder / 'pod.log', [*spec['command'], *spec['args']], env, mounts), spec


def probes(container, spec, where):
    startup = spec['startupProbe']
    code, text, _ = container.until(startup['exec']['command'], startup['failureThreshold'] * startup['periodSeconds'] / 20)
    check(f'{where}: startupProbe {startup["exec"]["command"]}', code == 0,
          f'{text!r} {time.monotonic() - container.started:.2f} s after its start')
    liveness = spec['livenessProbe']
    answers = [container.run(liveness['exec']['command']) for _ in range(10)]
    worst = max(seconds for _, _, seconds in answers)
    check(f'{where}: livenessProbe {liveness["exec"]["command"]}', all(code == 0 for code, _, _ in answers) and
          worst < liveness['timeoutSeconds'], f'10 of 10, worst {worst:.2f} s of {liveness["timeoutSeconds"]} s')


def client_of(container, spec, code):
    """What code with a Jina `client` prints, run in the container's network."""
    start = f'import sys; sys.path.insert(0, {str(pathlib.Path(__file__).parent)!r}); from check import vectors; from jina import Client\n'
    client = f'client = Client(host="127.0.0.1", port={spec["ports"][0]["containerPort"]})\n'
    done = subprocess.run(['nsenter', '-t', str(container.pid()), '-n', sys.executable, '-c', start + client + code],
                          capture_output=True, text=True, timeout=120)
    return done.stdout.strip() or done.stderr[-300:]


TRAIN = '''
import time
client.post('/train', vectors(64, True))
run = client.post('/fit', parameters={'steps': 100000, 'batch_size': 16}, return_responses=True)[0].parameters['__results__']['tuner']['run']
for _ in range(200):
    seen = client.post('/status', parameters={'run': run}, return_responses=True)[0].parameters['__results__']['tuner']
    if seen['status'] == 'STARTED' and client.post('/metrics', parameters={'run': run}, return_responses=True):
        break
    time.sleep(0.1)
time.sleep(1)
print(seen['status'], run)
'''


def drains(container, spec, folder, documents):
    """SIGTERM while a run trains: it is checkpointed, and the next container on that volume goes on with it."""
    status, run = client_of(container, spec, TRAIN).split()[-2:]
    code, seconds = container.stop()
    check('kubernetes with a volume: SIGTERM as PID 1 while a run trains', status == 'STARTED' and code == 0, f'exit {code} after {seconds:.2f} s')
    container.remove()
    (folder / 'pod.log').rename(folder / 'first.log')
    container, _ = pod(folder, documents, [MODELS], fs_group=1000)
    container.until(spec['startupProbe']['exec']['command'], 20)
    code = f"""
import json, re, time
for _ in range(100):
    logs = json.dumps(client.post('/logs', parameters={{'run': {run!r}, 'from': 0, 'limit': 100000}}, return_responses=True)[0].parameters)
    said = re.search('resumed after step ([0-9]+); 0 steps are done again', logs)
    if said:
        break
    time.sleep(0.1)
print(said.group(0) if said else logs[-300:])
client.post('/cancel', parameters={{'run': {run!r}}})
"""
    seen = client_of(container, spec, code).splitlines()[-1]
    check('kubernetes with a volume: the next pod goes on with that run', re.match('resumed after step [1-9]', seen) is not None, seen)
    return container


def by_kubernetes(folder):
    flow = Flow(port=8080).add(name='tuner', uses=f'docker://{IMAGE}', replicas=2, env={'MODEL': MODEL},
                               uses_with={'model': '${{ ENV.MODEL }}', 'threads': 1}, timeout_ready=60000)
    flow.to_kubernetes_yaml(str(folder / 'k8s'), k8s_namespace='tests')
    documents = list(yaml.safe_load_all((folder / 'k8s/tuner/tuner.yml').read_text()))
    container, spec = pod(folder, documents, [MODELS])
    probes(container, spec, 'kubernetes')
    seen = client_of(container, spec, 'print(client.post("/encode", vectors(3)).embeddings.shape)')
    check('kubernetes: the model of the ConfigMap, named as ${{ ENV.MODEL }} in --uses-with, is served', seen == '(3, 16)', seen)
    hook = spec['lifecycle']['preStop']['exec']['command']
    code, text, seconds = container.run(hook)
    check(f'kubernetes: preStop {hook}', code == 0, f'{seconds:.2f} s {text}')
    stops(container, 'kubernetes')
    container.remove()


def with_volumes(folder):
    flow = Flow(port=8080).add(name='tuner', uses=f'docker://{IMAGE}', volumes=['/data'], workspace='/data', env={'MODEL': MODEL},
                               uses_with={'model': '${{ ENV.MODEL }}', 'threads': 1, 'run_threads': 1})
    flow.to_kubernetes_yaml(str(folder / 'stateful'), k8s_namespace='tests')
    documents = list(yaml.safe_load_all((folder / 'stateful/tuner/tuner.yml').read_text()))
    for group in (1000, None):
        here = folder / f'group-{group}'
        here.mkdir()
        container, spec = pod(here, documents, [MODELS], fs_group=group)
        if group is not None:
            probes(container, spec, 'kubernetes with a volume (StatefulSet, fsGroup 1000)')
            kept = sorted(p.name for p in (here / 'tuner-volume/tuner').iterdir())
            check('kubernetes with a volume: data lies in it, below the name', 'datasets' in kept, ' '.join(kept))
            container = drains(container, spec, here, documents)
            stops(container, 'kubernetes with a volume')
        else:
            code = container.wait(20)
            said = container.log.read_text().strip().splitlines()[-1]
            check('kubernetes with a volume of root alone: refused, and says what', code not in (0, 137) and '/data' in said, f'exit {code}: {said}')
        container.remove()


def by_compose(folder):
    flow = Flow(port=8080).add(name='tuner', uses=f'docker://{IMAGE}', replicas=2, env={'MODEL': MODEL},
                               uses_with={'model': '${{ ENV.MODEL }}', 'threads': 1})
    flow.to_docker_compose_yaml(str(folder / 'compose.yml'))
    services = {n: s for n, s in yaml.safe_load((folder / 'compose.yml').read_text())['services'].items() if n != 'gateway'}
    shared = folder / 'home-cache-jina'  # all services mount the same one: ~/.cache/jina
    shared.mkdir()
    os.chown(shared, 1000, 1000)
    containers = {}
    for name, service in services.items():
        mounts = [MODELS, *((str(shared), v.split(':')[1]) for v in service['volumes'])]
        env = dict(e.split('=', 1) for e in service['environment'])
        containers[name] = Container(folder / f'{name}.log', [*service['entrypoint'], *service['command']], env, mounts)
    for name, container in containers.items():
        test = services[name]['healthcheck']['test']
        code, text, _ = container.until(['/bin/sh', '-c', test], 30)
        check(f'compose: {name}, healthcheck {test!r}', code == 0, f'{text!r} {time.monotonic() - container.started:.2f} s after its start')
    for name, container in containers.items():
        stops(container, f'compose: {name}')
        container.remove()


def by_config(folder):
    """A config.yml of the operator's, with the environment in it, over the image's."""
    own = folder / 'config.yml'
    own.write_text('jtype: Finetuner\nwith:\n  model: ${{ ENV.MODEL }}\n  port: ${{ ENV.PORT }}\n  threads: 1\n')
    os.chmod(own, 0o644)
    for port in ('5000', None):
        env = {'MODEL': MODEL, **({'PORT': port} if port else {})}
        container = Container(folder / f'config-{port}.log', config()['Entrypoint'], env, [MODELS, (str(own), '/workdir/config.yml')])
        if port:
            code, text, _ = container.until(['jina', 'ping', 'executor', f'127.0.0.1:{port}'], 20)
            check('config.yml with ${{ ENV.PORT }}', code == 0, text)
            stops(container, 'config.yml')
        else:
            code = container.wait(20)
            said = container.log.read_text().strip().splitlines()[-1]
            check('config.yml whose ${{ ENV.PORT }} is not set: refused by name', code == 3 and 'PORT' in said, f'exit {code}: {said}')
        container.remove()
    container = Container(folder / 'ping.log', ['sleep', '30'])
    container.until(['jina', '--version'], 10)
    code, text, seconds = container.run(['jina', 'ping', 'executor', 'grpc://127.0.0.1:9', '--timeout 900'])
    check('jina ping where nobody listens', code == 5, f'exit {code} after {seconds:.2f} s: {text}')
    container.wait(0.1)
    container.remove()


def main():
    size_and_packages()
    with tempfile.TemporaryDirectory(prefix='finetuner-image-') as folder:
        os.chmod(folder, 0o755)
        for step in (plain, by_docker, by_kubernetes, with_volumes, by_compose, by_config):
            here = pathlib.Path(folder) / step.__name__
            here.mkdir(mode=0o755)
            try:
                step(here)
            except Exception as error:  # noqa: BLE001
                logs = ''.join(f'\n{p.name}: {p.read_text()[-2000:]}' for p in here.rglob('*.log'))
                check(step.__name__, False, f'{error!r}{logs}')
    print(f'{len(failures)} checks failed')
    sys.exit(1 if failures else 0)


if __name__ == '__main__':
    main()
