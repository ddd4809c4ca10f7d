"""The remote verbs of the command line against a service in a process of its own: push, fit, runs, watch, pull, encode, their
exit codes, a service killed in the middle of a push, Ctrl-C, and TLS towards a server that grpcio makes."""
import json
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent import futures

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / 'tools'))
import serving  # noqa: E402

import grpc  # noqa: E402
import numpy as np  # noqa: E402
import onnx  # noqa: E402
import pytest  # noqa: E402

CLASSES = 4
FIT = ['--epochs', '2', '--batch-size', '16', '--num-items-per-class', '4', '--learning-rate', '0.01', '--seed', '1']


def finetuner(*words, code=0):
    done = subprocess.run([str(serving.PROGRAM), *map(str, words)], capture_output=True, text=True, timeout=120)
    assert done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
    return done


def write_vectors(path, count, seed=0):
    """Vectors around one centre a class, as JSON lines."""
    n = onnx.load(serving.VECTORS).graph.input[0].type.tensor_type.shape.dim[1].dim_value
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(CLASSES, n))
    x = (centres[np.arange(count) % CLASSES] + 0.3 * random.normal(size=(count, n))).astype('f4')
    with open(path, 'w') as file:
        for i, row in enumerate(x.tolist()):
            print(json.dumps({'id': f'{seed}-{i}', 'label': f'class {i % CLASSES}', 'tensor': row}), file=file)
    return path


def stored(server, dataset):
    """Documents in a dataset: read from the disk beside the service, which verifies every byte."""
    told = json.loads(finetuner('datasets', 'verify', dataset, '--workspace', server.folder / 'data', '--json').stdout)
    return [(d['documents'], d['labels']) for d in told['datasets'] if d['dataset'] == dataset]


@pytest.fixture(scope='module')
def server(tmp_path_factory):
    server = serving.Server(tmp_path_factory.mktemp('remote'), serving.VECTORS)
    yield server
    assert server.stop() == 0


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return write_vectors(tmp_path_factory.mktemp('data') / 'train.jsonl', 200)


@pytest.fixture(scope='module')
def run(server, data, tmp_path_factory):
    """A run by `fit --server`: what --json printed, and where its artifact was fetched to."""
    out = tmp_path_factory.mktemp('out') / 'tuned.zip'
    done = finetuner('fit', 'classifier', data, '--eval', data, *FIT, '--server', server.target, '--out', out, '--json')
    assert 'Training [2/2]' in done.stderr and 'Pushing 200/200' in done.stderr
    return json.loads(done.stdout), out


def test_push_stores_each_document_once(server, data):
    first = json.loads(finetuner('push', data, '--server', server.target, '--dataset', 'once', '--json').stdout)
    again = json.loads(finetuner('push', data, '--server', server.target, '--dataset', 'once', '--json').stdout)
    assert (first['documents'], first['stored'], first['duplicates'], first['retries']) == (200, 200, 0, 0)
    assert (again['stored'], again['duplicates'], again['total']) == (0, 200, 200)
    more = write_vectors(data.parent / 'more.jsonl', 30, seed=5)
    told = finetuner('push', more, '--server', server.target, '--dataset', 'once').stdout
    assert told.startswith("pushed 30 documents to dataset 'once': 30 stored, 0 there already, ") and '; it has 230 now' in told
    assert stored(server, 'once') == [(230, CLASSES)]
    finetuner('datasets', 'delete', 'once', *[w for i in range(30) for w in ('--id', f'5-{i}')], '--server', server.target)
    assert stored(server, 'once') == [(200, CLASSES)]


def test_fit_there_is_fit_here(server, data, run, tmp_path):
    summary, artifact = run
    here = json.loads(finetuner('fit', serving.VECTORS, data, '--eval', data, *FIT, '--threads', '1', '--out',
                                tmp_path / 'here.zip', '--json').stdout)
    assert summary['status'] == 'FINISHED' and summary['out'] == str(artifact)
    assert set(here) == set(summary)
    assert summary['steps'] == here['steps'] and summary['epochs'] == here['epochs']
    # The service numbers its Documents class by class, so batches differ; both learn.
    for metrics in (summary['metrics'], here['metrics']):
        assert metrics['after']['map_at_r'] > metrics['before']['map_at_r']
    assert summary['metrics']['before']['map_at_r'] == pytest.approx(here['metrics']['before']['map_at_r'], abs=1e-9)
    # The dataset is named after the data: the same fit pushes nothing new.
    done = finetuner('fit', 'classifier', data, *FIT, '--server', server.target, '--detach')
    assert '200 were there already' in done.stderr
    second = done.stdout.strip()
    assert f'finetuner watch {second} --server {server.target}' in done.stderr
    table = finetuner('watch', second, '--server', server.target)
    assert 'steps, 2 epochs' in table.stdout


def test_encode_there_is_encode_here_bit_for_bit(server, data, run, tmp_path):
    summary, artifact = run
    done = finetuner('encode', summary['run'], data, '--server', server.target, '--out', tmp_path / 'there.npy', '--json')
    finetuner('encode', artifact, data, '--threads', '1', '--out', tmp_path / 'here.npy')
    there, here = np.load(tmp_path / 'there.npy'), np.load(tmp_path / 'here.npy')
    assert there.dtype == here.dtype == np.float32 and np.array_equal(there, here)
    told = json.loads(done.stdout)
    assert (told['count'], told['dim']) == there.shape and set(told) == {'count', 'dim', 'seconds', 'out'}
    for model, out, more in ((summary['run'], 'there.jsonl', ('--server', server.target)), (artifact, 'here.jsonl', ('--threads', '1'))):
        finetuner('encode', model, data, *more, '--out', tmp_path / out)
    assert (tmp_path / 'there.jsonl').read_bytes() == (tmp_path / 'here.jsonl').read_bytes()


def test_pull_is_the_artifact(server, data, run, tmp_path):
    summary, artifact = run
    told = finetuner('pull', summary['run'], '--server', server.target, '--out', tmp_path / 'again.zip', '--json').stdout
    assert json.loads(told) == {'run': summary['run'], 'out': str(tmp_path / 'again.zip')}
    assert (tmp_path / 'again.zip').read_bytes() == artifact.read_bytes()
    for _ in range(2):  # a new one, and over the old one; as a shell completes it
        finetuner('pull', summary['run'], '--server', server.target, '--out', f'{tmp_path}/folder/')
    finetuner('encode', tmp_path / 'folder', data, '--out', tmp_path / 'a.npy')
    finetuner('encode', artifact, data, '--out', tmp_path / 'b.npy')
    assert (tmp_path / 'a.npy').read_bytes() == (tmp_path / 'b.npy').read_bytes()
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'letter.txt').write_text('kept')
    refused = finetuner('pull', summary['run'], '--server', server.target, '--out', tmp_path / 'mine', code=3)
    assert 'mine exists and is not an artifact' in refused.stderr
    (tmp_path / 'mine.zip').write_text('kept')
    for words in (['pull', summary['run']], ['fit', 'classifier', data, *FIT]):
        refused = finetuner(*words, '--server', server.target, '--out', tmp_path / 'mine.zip', code=3)
        assert 'mine.zip exists and is not an artifact' in refused.stderr and 'Pushing' not in refused.stderr
    assert (tmp_path / 'mine.zip').read_text() == 'kept'
    assert sorted(p.name for p in tmp_path.iterdir()) == ['a.npy', 'again.zip', 'b.npy', 'folder', 'mine', 'mine.zip']


def test_the_checkpoints_of_a_finished_run_are_gone(server, run):
    """They are several times the model; the journal of its steps stays."""
    work = server.folder / 'data' / 'runs' / run[0]['run'] / 'work'
    until = time.monotonic() + 30  # the worker clears them after it has told the result
    while list(work.glob('*.ftc')) and time.monotonic() < until:
        time.sleep(0.05)
    assert [p.name for p in work.iterdir()] == ['steps.jsonl']


def test_runs_are_listed_shown_cancelled_deleted(server, data, run):
    summary, _ = run
    at = ['--server', server.target]
    finetuner('push', data, *at, '--dataset', 'long')
    long = finetuner('fit', 'classifier', '--dataset', 'long', '--steps', '1000000', '--name', 'endless', *at,
                     '--detach').stdout.strip()
    assert finetuner('runs', 'delete', long, *at, code=3).stderr.count('finetuner runs:') == 1
    assert json.loads(finetuner('runs', long, *at, '--json').stdout)['name'] == 'endless'
    assert finetuner('runs', 'cancel', long, *at).stdout == f'run {long} stops within a step\n'
    ended = finetuner('watch', long, *at, '--from', '-1', code=1)
    assert f'run {long} was cancelled' in ended.stderr
    assert finetuner('runs', 'cancel', long, *at).stdout == f'run {long} has ended: CANCELLED\n'
    listed = json.loads(finetuner('runs', *at, '--json').stdout)['runs']
    assert {long, summary['run']} <= {r['id'] for r in listed}
    assert 'endless' in finetuner('runs', *at).stdout
    finetuner('runs', 'delete', long, *at)
    assert long not in finetuner('runs', *at).stdout
    assert 'map_at_r' in finetuner('runs', summary['run'], *at).stdout


def test_datasets_are_listed_and_deleted(server, data):
    at = ['--server', server.target]
    for name in ('many', 'few'):
        finetuner('push', data, *at, '--dataset', name)

    def listed():
        return {d['dataset']: d for d in json.loads(finetuner('datasets', 'list', *at, '--json').stdout)['datasets']}
    [there] = [d for d in json.loads(finetuner('datasets', 'list', '--workspace', server.folder / 'data', '--json').stdout)['datasets']
               if d['dataset'] == 'few']
    assert listed()['few'] == {key: there[key] for key in ('dataset', 'documents', 'labels', 'bytes')}
    assert there['documents'] == 200
    row = [line.split() for line in finetuner('datasets', 'list', *at).stdout.splitlines() if line.startswith('few ')]
    assert row == [['few', '200', str(CLASSES), f"{there['bytes']:,}"]]
    told = finetuner('datasets', 'delete', 'few', '--id', '0-3', '--id', '0-4', '--id', 'nobody', *at)
    assert told.stdout == 'few: 2 documents deleted\n' and listed()['few']['documents'] == 198
    assert json.loads(finetuner('datasets', 'delete', 'few', *at, '--json').stdout) == {'dataset': 'few', 'deleted': 198}
    assert 'few' not in listed() and listed()['many']['documents'] == 200
    for words in (['delete', 'few'], ['delete', 'few', '--id', '0-3']):
        assert 'few' in finetuner('datasets', *words, *at, code=4).stderr
    told = finetuner('datasets', 'verify', 'many', *at, code=2).stderr
    assert 'finetuner datasets verify many --workspace' in told
    told = finetuner('datasets', 'export', 'many', '--out', 'many.bin', *at, code=2).stderr
    assert 'finetuner datasets export many --out FILE.bin --workspace' in told
    for words in (['list', '--workspace', 'x'], ['list', 'many'], ['delete'], []):
        finetuner('datasets', *words, *at, code=2)


def test_a_damaged_dataset_hides_no_other(tmp_path, data):
    with serving.Server(tmp_path, serving.VECTORS) as server:
        at = ['--server', server.target]
        here = ['--workspace', tmp_path / 'data']
        for name in ('a', 'b', 'c', 'd'):
            finetuner('push', data, *at, '--dataset', name)
        assert server.stop() == 0
        for name in ('b', 'c'):
            finetuner('datasets', 'compact', name, *here)
            for shard in (tmp_path / 'data' / 'datasets' / name).iterdir():
                shard.write_bytes(b'spoilt' + shard.read_bytes()[6:])
        server.start()
        for words, code in ((['list', *at], 1), (['list', *here], 3), (['verify', 'a', 'b', 'c', 'd', *here], 3)):
            told = finetuner('datasets', *words, '--json', code=code)
            assert [d['dataset'] for d in json.loads(told.stdout)['datasets']] == ['a', 'd']
            assert "dataset 'b': " in told.stderr and "dataset 'c': " in told.stderr and len(told.stderr.splitlines()) == 2
        # That one is damaged is what the exit code says, whatever is wrong with others.
        assert "'typo'" in finetuner('datasets', 'verify', 'b', 'typo', *here, code=3).stderr
        assert "'typo'" in finetuner('datasets', 'verify', 'typo', 'b', *here, code=3).stderr
        finetuner('datasets', 'verify', 'typo', *here, code=4)
        for name in ('b', 'c'):
            finetuner('datasets', 'delete', name, *at)
        assert finetuner('datasets', 'list', *at).stderr == ''
        (tmp_path / 'data' / 'datasets' / 'e').mkdir()  # what cannot be read at all
        (tmp_path / 'data' / 'datasets' / 'e' / 'manifest').symlink_to('manifest')
        start = time.monotonic()
        told = finetuner('datasets', 'list', *at, '--json', code=1)
        assert [d['dataset'] for d in json.loads(told.stdout)['datasets']] == ['a', 'd'] and "dataset 'e': " in told.stderr
        assert time.monotonic() - start < 10 and 'went away' not in told.stderr, told.stderr
        (tmp_path / 'data' / 'datasets' / 'e' / 'manifest').unlink()
        (tmp_path / 'data' / 'datasets' / 'e').rmdir()
        assert server.stop() == 0


def test_models_are_listed_and_deleted(tmp_path, data):
    """More than a page of them, sent and put there by hand; by a service, and in its folder once it is stopped."""
    mine = tmp_path / 'mine.onnx'
    mine.write_bytes(serving.VECTORS.read_bytes())
    with serving.Server(tmp_path, serving.VECTORS) as server:
        at, here = ['--server', server.target], ['--workspace', tmp_path / 'data']

        def listed(where):
            return {m['model']: m for m in json.loads(finetuner('models', 'list', *where, '--json').stdout)['models']}
        size = serving.VECTORS.stat().st_size
        configured = {'model': 'classifier.onnx', 'configured': True, 'bytes': size, 'sha256': ''}
        assert listed(at) == {'classifier.onnx': configured} and listed(here) == {}
        finetuner('encode', mine, data, *at, '--out', tmp_path / 'rows.npy')
        [name] = listed(here)
        assert name.startswith('mine-') and listed(here)[name] == listed(at)[name] and len(listed(at)[name]['sha256']) == 64
        for i in range(120):
            (tmp_path / 'data' / 'models' / f'hand{i}.onnx').write_bytes(serving.VECTORS.read_bytes())
        assert len(listed(at)) == 122 and len(listed(here)) == 121
        rows = {line.split()[0]: line.split()[1:] for line in finetuner('models', 'list', *at).stdout.splitlines()}
        assert rows['classifier.onnx'] == [f'{size:,}', 'configured'] and rows['hand7.onnx'] == [f'{size:,}', 'by', 'hand']
        assert rows[name][1] == 'sent' and listed(at)[name]['sha256'].startswith(rows[name][2])
        assert finetuner('models', 'delete', name, *at).stdout == f'model {name} is deleted\n'
        assert json.loads(finetuner('models', 'delete', 'hand7', *at, '--json').stdout) == {'deleted': 'hand7'}
        assert len(listed(at)) == len(listed(here)) + 1 == 120
        assert 'configured model' in finetuner('models', 'delete', 'classifier', *at, code=3).stderr
        assert 'nobody' in finetuner('models', 'delete', 'nobody', *at, code=4).stderr
        finetuner('models', 'delete', 'hand8', *here, code=5)  # the service runs
        assert server.stop() == 0
        finetuner('models', 'delete', 'hand8', *here)
        assert 'hand8.onnx' not in listed(here)
        assert 'finetuner models list' in finetuner('models', 'delete', 'hand8', *here, code=4).stderr
    for words in (['list', *at, *here], ['list', *here, '--tls'], ['delete', *here], ['remove', 'x', *here], []):
        finetuner('models', *words, code=2)
    assert '--server' in finetuner('models', 'list', '--workspace', tmp_path / 'nowhere', code=4).stderr


def test_a_name_that_is_here_and_there(server, data, tmp_path):
    """What lies here is meant, and that is said; a path, and a name that only one side has, go without a word."""
    (tmp_path / 'classifier').write_bytes(b'no model at all')
    (tmp_path / 'other.onnx').write_bytes(serving.VECTORS.read_bytes())
    words = [str(serving.PROGRAM), 'encode', '', str(data), '--server', server.target, '--out', 'rows.npy']

    def said(model, *more):
        words[2] = model
        return subprocess.run([*words, *more], cwd=tmp_path, capture_output=True, text=True, timeout=60).stderr
    [line] = [line for line in said('classifier').splitlines() if 'is a file here' in line]
    assert f"'classifier' is a file here and a name at {server.target}" in line and './classifier' in line
    for quiet in (said('./classifier'), said('other.onnx'), said('classifier', '--quiet')):
        assert 'is a file here' not in quiet
    (tmp_path / 'classifier').unlink()
    assert 'here' not in said('classifier') and (tmp_path / 'rows.npy').exists()


def test_serve_says_when_a_tuned_model_stands_before_the_configured_one(tmp_path, data):
    message = 'a tuned model is served instead of the configured one'
    with serving.Server(tmp_path, serving.VECTORS) as server:
        run = finetuner('fit', 'classifier', data, *FIT, '--server', server.target, '--detach').stdout.strip()
        finetuner('watch', run, '--server', server.target)
        assert message not in server.log() and server.stop() == 0
        server.start()
        [line] = [line for line in server.log().splitlines() if message in line]
        assert 'warning' in line.lower() and run in line and f'configured="{serving.VECTORS}"' in line
        assert 'model: classifier.onnx' in line
        # What the line says is so: by its name the configured one answers.
        for name, model in [('classifier.onnx', serving.VECTORS), (run, tmp_path / 'data' / 'artifacts' / run / 'model.zip')]:
            finetuner('encode', name, data, '--server', server.target, '--out', tmp_path / 'there.npy')
            finetuner('encode', model, data, '--threads', 1, '--out', tmp_path / 'here.npy')
            assert np.array_equal(np.load(tmp_path / 'there.npy'), np.load(tmp_path / 'here.npy'))
        assert server.stop() == 0


@pytest.mark.parametrize('words, code, told', [
    (['DATA', '--loss', 'NoLoss'], 2, 'NoLoss'),
    (['DATA', '--loss-options', '{"margins": 3}'], 3, 'margins'),
    (['DATA', '--out', 'FILE/x.zip'], 2, 'is no folder'),
    (['DATA', '--eval', 'missing.jsonl'], 4, 'missing.jsonl'),
    (['DATA', '--eval-dataset', 'missing'], 4, 'at fault: dataset'),
    (['DATA', '--dataset', '.hidden'], 2, '.hidden'),
    (['--dataset', 'missing'], 4, 'at fault: dataset'),
    (['missing.jsonl'], 4, 'missing.jsonl'),
])
def test_what_can_be_known_at_once_is_told_before_the_model_goes(server, data, tmp_path, words, code, told):
    model = tmp_path / 'fresh.onnx'
    model.write_bytes(serving.VECTORS.read_bytes())
    given = [w.replace('DATA', str(data)).replace('FILE', str(model)) for w in words]
    done = finetuner('fit', model, *given, '--server', server.target, code=code)
    assert told in done.stderr and 'sent' not in done.stderr and done.stdout == ''
    models = json.loads(finetuner('models', 'list', '--server', server.target, '--json').stdout)['models']
    assert [m['model'] for m in models if m['model'].startswith('fresh')] == []


def test_a_device_that_the_service_lacks_is_the_requests_fault(server, data):
    """Not a service that is away for a while: nobody waits for it to come back."""
    words = ['fit', 'classifier', data, '--steps', '1', '--device', 'cuda', '--server', server.target]
    done = subprocess.run([str(serving.PROGRAM), *map(str, words)], capture_output=True, text=True, timeout=120)
    has_cuda = 'CUDA' not in done.stderr
    assert has_cuda or done.returncode == 3 and 'device cuda' in done.stderr and 'trying again' not in done.stderr, done


def test_an_artifact_is_fetched_into_a_new_folder(server, run, tmp_path):
    """As `fit` without a service writes it; rows and single models want a folder that is there, and say so at once."""
    finetuner('pull', run[0]['run'], '--server', server.target, '--out', tmp_path / 'new' / 'tuned.zip')
    assert (tmp_path / 'new' / 'tuned.zip').read_bytes() == run[1].read_bytes()
    refused = finetuner('encode', run[0]['run'], 'missing.jsonl', '--server', server.target, '--out', tmp_path / 'no' / 'x.npy', code=4)
    assert f"there is no folder {tmp_path / 'no'}" in refused.stderr


def test_ctrl_c_detaches(server, data):
    at = ['--server', server.target]
    finetuner('push', data, *at, '--dataset', 'left')
    process = subprocess.Popen([str(serving.PROGRAM), 'fit', 'classifier', '--dataset', 'left', '--steps', '1000000', *at],
                               stderr=subprocess.PIPE, text=True)
    line = ''
    while 'Training' not in line:
        line = process.stderr.readline()
        assert line != ''
    process.send_signal(signal.SIGINT)
    told = process.stderr.read()
    assert process.wait(timeout=30) == 1
    run = told.split('finetuner watch ')[1].split()[0]
    assert f'finetuner runs cancel {run}' in told and f'finetuner pull {run}' in told
    assert json.loads(finetuner('runs', run, *at, '--json').stdout)['status'] == 'STARTED'
    finetuner('runs', 'cancel', run, *at)


@pytest.mark.parametrize('words, code, told', [
    (['runs', 'nobody'], 4, "no run 'nobody'"),
    (['watch', 'nobody'], 4, "no run 'nobody'"),
    (['pull', 'nobody'], 4, "no run 'nobody'"),
    (['encode', 'nobody', 'DATA'], 4, "'nobody' is no file or folder here"),
    (['fit', 'nobody', 'DATA'], 4, "'nobody' is no file or folder here"),
    (['fit', 'classifier', '--dataset', 'nothing'], 4, 'at fault: dataset'),
    (['fit', 'classifier', 'DATA', '--epochs', 'many'], 2, 'epochs'),
    (['fit', 'classifier', 'DATA', '--resume'], 2, '--resume'),
    (['fit', 'classifier'], 2, 'usage'),
    (['push', 'DATA', '--dataset', '.hidden'], 3, 'at fault: dataset'),
    (['push', 'DATA', '--colour', 'red'], 2, '--colour'),
    (['push'], 2, 'usage'),
    (['push', '/nowhere.jsonl'], 4, '/nowhere.jsonl'),
])
def test_what_is_wrong_is_told(server, data, words, code, told):
    words = [str(data) if w == 'DATA' else w for w in words]
    done = finetuner(*words, '--server', server.target, code=code)
    assert told in done.stderr and done.stdout == ''


def test_a_document_at_fault_is_named_by_its_line(server, tmp_path):
    """A picture that is no picture is found where it is computed: there. Its line is known here."""
    path = write_vectors(tmp_path / 'bad.jsonl', 100)
    lines = path.read_text().splitlines()
    lines[80] = json.dumps({'id': 'bad', 'label': 'class 0', 'tensor': [1.0, 2.0]})
    path.write_text('\n'.join(lines) + '\n')
    done = finetuner('encode', 'classifier', path, '--server', server.target, '--out', tmp_path / 'x.npy', code=3)
    assert 'bad.jsonl:81' in done.stderr
    assert not (tmp_path / 'x.npy').exists()


def test_nobody_listens(data, tmp_path):
    target = f'127.0.0.1:{serving.free_port()}'
    for words in (['runs'], ['datasets', 'list'], ['models', 'list'], ['push', data], ['watch', 'x'], ['pull', 'x', '--out', tmp_path / 'x.zip'],
                  ['fit', 'classifier', data], ['encode', 'x', data]):
        done = finetuner(*words, '--server', target, code=5)
        assert 'finetuner serve' in done.stderr and target in done.stderr
    assert list(tmp_path.iterdir()) == []
    assert '--server HOST:PORT' in finetuner('runs', code=2).stderr
    assert 'not a target' in finetuner('runs', '--server', 'http://x:1', code=2).stderr


class Wire:
    """Between clients and a server: passes on `limit` bytes from clients and `back` bytes to them, then nothing until it is cut.
    `passed` counts those from clients."""
    def __init__(self, port, limit=0, back=1 << 40):
        self.port, self.limit, self.back, self.passed, self.sockets = port, limit, back, 0, []
        self.listener = socket.create_server(('127.0.0.1', 0))
        self.target = f'127.0.0.1:{self.listener.getsockname()[1]}'
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            try:
                server = socket.create_connection(('127.0.0.1', self.port))
            except OSError:
                client.close()
                continue
            self.sockets += [client, server]
            threading.Thread(target=self.carry, args=(client, server, 'limit'), daemon=True).start()
            threading.Thread(target=self.carry, args=(server, client, 'back'), daemon=True).start()

    def carry(self, source, sink, counter):
        try:
            while data := source.recv(1 << 16):
                while len(data) > getattr(self, counter):
                    time.sleep(0.01)
                setattr(self, counter, getattr(self, counter) - len(data))
                sink.sendall(data)
                self.passed += len(data) if counter == 'limit' else 0
        except OSError:
            pass
        self.end(source, sink)

    @staticmethod
    def end(*sockets):
        for s in sockets:
            try:
                s.shutdown(socket.SHUT_RDWR)  # unlike close() it wakes who reads from it
            except OSError:
                pass  # over already

    def cut(self):
        self.end(*self.sockets)


def test_a_service_killed_in_the_middle_of_a_push(tmp_path):
    server = serving.Server(tmp_path, serving.VECTORS)
    wire = Wire(server.port)
    count = 3000
    words = [str(serving.PROGRAM), 'push', '', '--server', wire.target, '--dataset', '', '--json']

    def begin(dataset):
        """A push that stops on the way, with some of it acknowledged, and the service killed then."""
        path = tmp_path / f'{dataset}.jsonl'
        with open(path, 'w') as file:
            for i in range(count):
                print(json.dumps({'id': f'{dataset}-{i}', 'label': i % 7, 'text': f'{i} ' * 500}), file=file)
        words[2], words[6] = str(path), dataset
        wire.limit = 3 << 20
        push = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while 'Pushing' not in (line := push.stderr.readline()):
            assert line != ''
        server.kill()
        wire.cut()
        return push

    push = begin('many')
    wire.limit = 1 << 40
    server.start()
    out, rest = push.communicate(timeout=60)
    assert push.returncode == 0, rest
    told = json.loads(out)
    assert told['retries'] >= 1 and 'went away' in rest and told['documents'] == count
    assert stored(server, 'many') == [(count, 7)]
    # Gone for good: what is kept is told, and a push later completes it.
    push = begin('other')
    while 'trying again' not in (line := push.stderr.readline()):
        assert line != ''
    push.send_signal(signal.SIGINT)
    _, rest = push.communicate(timeout=30)
    assert push.returncode == 5 and f'of {count} documents are kept' in rest
    kept = int(rest.split('finetuner push: ')[1].split()[0])
    wire.limit = 1 << 40
    server.start()
    told = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    assert 0 < kept < count and told['duplicates'] >= kept and told['duplicates'] + told['stored'] == count
    assert stored(server, 'other') == [(count, 7)]
    assert server.stop() == 0


# ---- TLS


def openssl(*words):
    subprocess.run(['openssl', *map(str, words)], check=True, capture_output=True)


@pytest.fixture(scope='module')
def certificates(tmp_path_factory):
    """ca, server and client, and another ca that signed nothing."""
    at = tmp_path_factory.mktemp('tls')
    for ca in ('ca', 'other'):
        openssl('req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', f'/CN={ca}', '-keyout', at / f'{ca}.key',
                '-out', at / f'{ca}.pem')
    (at / 'names').write_text('subjectAltName=IP:127.0.0.1,DNS:localhost\n')
    for name in ('server', 'client'):
        openssl('req', '-newkey', 'rsa:2048', '-nodes', '-subj', f'/CN={name}', '-keyout', at / f'{name}.key', '-out',
                at / f'{name}.csr')
        openssl('x509', '-req', '-in', at / f'{name}.csr', '-CA', at / 'ca.pem', '-CAkey', at / 'ca.key', '-CAcreateserial', '-days',
                '2', '-extfile', at / 'names', '-out', at / f'{name}.pem')
    return at


class ListsNothing(grpc.GenericRpcHandler):
    """ListRuns of a service without runs; says who asked."""
    def __init__(self):
        self.clients = []

    def service(self, details):
        def answer(request, context):
            self.clients.append(context.auth_context().get('x509_common_name'))
            return b''
        if details.method == '/finetuner.v1.Finetuner/ListRuns':
            return grpc.unary_unary_rpc_method_handler(answer)
        return None


@pytest.mark.parametrize('mutual', [False, True])
def test_tls(certificates, mutual):
    def pem(name):
        return (certificates / name).read_bytes()
    handler = ListsNothing()
    server = grpc.server(futures.ThreadPoolExecutor(2), handlers=[handler])
    credentials = grpc.ssl_server_credentials([(pem('server.key'), pem('server.pem'))], pem('ca.pem') if mutual else None, mutual)
    target = f'127.0.0.1:{server.add_secure_port("127.0.0.1:0", credentials)}'
    server.start()
    at = ['--server', target]
    ca = [*at, '--tls-ca', certificates / 'ca.pem']
    own = ['--tls-cert', certificates / 'client.pem', '--tls-key', certificates / 'client.key']
    try:
        if mutual:
            for words in (['runs', *ca], ['ping', target, *ca[2:]]):  # does not say who it is
                assert '--tls-cert FILE --tls-key FILE' in finetuner(*words, code=5).stderr
            assert handler.clients == []
        told = finetuner('runs', *ca, *(own if mutual else []), '--json')
        assert json.loads(told.stdout) == {'runs': []}
        assert handler.clients == [[b'client'] if mutual else None]
        finetuner('runs', '--server', f'grpcs://{target}', *ca[2:], *own)
        for words in (at, [*at, '--tls'], [*at, '--tls-ca', certificates / 'other.pem']):  # plain; the system's; a stranger's
            assert '--tls' in finetuner('runs', *words, code=5).stderr
            assert '--tls' in finetuner('ping', target, *words[2:], code=5).stderr
        assert len(handler.clients) == 2
    finally:
        server.stop(0)
    assert 'go together' in finetuner('runs', *at, '--tls-cert', certificates / 'client.pem', code=2).stderr
    cut = certificates / 'cut.pem'
    cut.write_bytes((certificates / 'client.pem').read_bytes()[:300])
    for words, file in [(['--tls-ca', __file__], __file__), (['--tls-ca', cut], cut), (['--tls-cert', cut, *own[2:]], cut),
                        ([*own[:3], certificates / 'server.key'], certificates / 'server.key')]:
        assert str(file) in finetuner('runs', *at, *words, code=3).stderr
    finetuner('runs', *at, '--tls-ca', certificates / 'missing.pem', code=4)
