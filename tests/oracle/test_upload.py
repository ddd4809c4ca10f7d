"""A model here for a service there: `fit` and `encode --server` send it once, whole and under its name or not at all; cut lines,
killed services, broken models, two at once, a disk that refuses. By the command line and by a client that grpcio-tools generates."""
import contextlib
import errno
import hashlib
import json
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / 'tools'))
import serving  # noqa: E402

import grpc  # noqa: E402
import numpy as np  # noqa: E402
import onnx  # noqa: E402
import onnx.helper  # noqa: E402
import onnx.numpy_helper  # noqa: E402
import pytest  # noqa: E402
import test_artifact as artifact  # noqa: E402
from sentence_transformers import SentenceTransformer  # noqa: E402
from sentence_transformers.sentence_transformer.modules import Dense, Pooling, Transformer  # noqa: E402
from test_disk import REFUSING  # noqa: E402
from test_remote import FIT, Wire, finetuner, write_vectors  # noqa: E402
from test_tls import Server as TlsServer  # noqa: E402
from test_tls import files as certificates  # noqa: E402,F401  a fixture
from test_v1 import refused, v1  # noqa: E402,F401  a fixture

WIDTH = onnx.load(serving.VECTORS).graph.input[0].type.tensor_type.shape.dim[1].dim_value


def network(path, hidden, seed=0, external=None):
    """An MLP with a classifier's head, of some hidden * 100 bytes; with `external` its weights lie in a file of that name."""
    random = np.random.default_rng(seed)

    def weight(name, *shape):
        return onnx.numpy_helper.from_array((random.normal(size=shape) / shape[0] ** 0.5).astype('f4'), name)
    nodes = [onnx.helper.make_node('MatMul', ['x', 'a.weight'], ['h']), onnx.helper.make_node('Relu', ['h'], ['r']),
             onnx.helper.make_node('MatMul', ['r', 'b.weight'], ['e']), onnx.helper.make_node('Relu', ['e'], ['f']),
             onnx.helper.make_node('Gemm', ['f', 'head.weight', 'head.bias'], ['logits'])]
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(nodes, 'net', [value('x', 1, ['N', WIDTH])], [value('logits', 1, ['N', 4])],
                                   [weight('a.weight', WIDTH, hidden), weight('b.weight', hidden, 16), weight('head.weight', 16, 4),
                                    weight('head.bias', 4)])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid('', 17)], ir_version=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    more = {} if external is None else {'save_as_external_data': True, 'location': external, 'size_threshold': 0}
    onnx.save_model(model, path, **more)
    return path


def models(server):
    return server.folder / 'data' / 'models'


def named(server):
    """What is there under a name."""
    return sorted(p.name for p in models(server).iterdir() if not p.name.startswith('.'))


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob('*') if p.is_file() and p.name != '.model.json')


@pytest.fixture(scope='module')
def server(tmp_path_factory):
    with serving.Server(tmp_path_factory.mktemp('upload'), serving.VECTORS) as server:
        yield server
        assert server.stop() == 0


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return write_vectors(tmp_path_factory.mktemp('data') / 'train.jsonl', 120)


def encoded(model, data, out, *words):
    done = finetuner('encode', model, data, '--out', out, *words)
    return np.load(out), done.stderr


# ---- the command line


def unpacked(path):
    with zipfile.ZipFile(path) as z:
        return {n.split('/', 1)[1]: z.read(n) for n in z.namelist()}


def test_a_model_is_sent_once_and_is_the_same_there(server, data, tmp_path):
    path = network(tmp_path / 'net.onnx', 300)
    (models(server) / 'net.onnx').write_bytes(path.read_bytes())  # the same by hand
    tuned = {}
    for said, model in (('was sent: 0.0 MB', path), ('is there already', path), ('Pushing', 'net')):
        done = finetuner('fit', model, data, '--eval', data, *FIT, '--server', server.target, '--out', tmp_path / 'tuned.zip', '--json')
        assert said in done.stderr and ('Sending the model' in done.stderr) == ('sent' in said), done.stderr
        tuned[said] = unpacked(tmp_path / 'tuned.zip'), json.loads(done.stdout)['metrics']
    (first, metrics), *others = tuned.values()
    for artifact, measured in others:
        assert artifact['models/net/model.onnx'] == first['models/net/model.onnx'] and measured == metrics
    (name,) = [n for n in named(server) if n.startswith('net-')]
    assert files(models(server) / name) == ['net.onnx']
    # Another content is another model, which a service keeps beside; --quiet says nothing.
    network(path, 301, seed=1)
    done = finetuner('fit', path, data, *FIT, '--server', server.target, '--quiet', '--detach')
    assert 'model' not in done.stderr
    assert len([n for n in named(server) if n.startswith('net-')]) == 2


def test_external_data_travels(server, data, tmp_path):
    path = network(tmp_path / 'split' / 'outside.onnx', 300, external='outside.weights')
    (path.parent / 'other.weights').write_text('stays here')
    here, _ = encoded(path, data, tmp_path / 'here.npy', '--threads', '1')
    there, _ = encoded(path, data, tmp_path / 'there.npy', '--server', server.target)
    assert np.array_equal(here, there)
    (name,) = [n for n in named(server) if n.startswith('outside-')]
    assert files(models(server) / name) == ['outside.onnx', 'outside.weights']


def test_texts_travel_with_what_they_are_read_with(server, tmp_path):
    """Folders and files of every layout: what came is what is read, rows have the bits of here, junk stays here."""
    texts = tmp_path / 'texts.jsonl'
    texts.write_text(''.join(json.dumps({'text': t}) + '\n' for t in ('one', 'a second text', 'naïve Привет 東京')))
    folder = tmp_path / 'minilm'
    artifact.small(tmp_path / 'bert')
    SentenceTransformer(modules=[Transformer(str(tmp_path / 'bert')), Pooling(24, pooling_mode='mean'), Dense(24, 12)]).save(str(folder))
    (folder / 'pytorch_model.bin').write_bytes(b'\x80\x02.')
    (folder / 'README.md').write_text('junk')
    (folder / 'openvino').mkdir()
    (folder / 'openvino' / 'model.xml').write_text('junk')
    read = files(folder)
    finetuner('tailor', folder, '--out', tmp_path / 'artifact')
    finetuner('tailor', folder, '--out', tmp_path / 'artifact.zip')
    for layout in ('optimum', 'above'):
        at = tmp_path / layout / ('onnx' if layout == 'above' else '.')
        at.mkdir(parents=True)
        finetuner('tailor', folder, '--out', at / 'model.onnx')
        for name in ('tokenizer.json', 'config.json'):
            shutil.copy(folder / name, tmp_path / layout / name)
        (tmp_path / layout / 'notes.txt').write_text('junk')
    linked = tmp_path / 'linked'  # as a cache of Hugging Face's lays it out
    linked.mkdir()
    for name in read:
        (linked / name).parent.mkdir(parents=True, exist_ok=True)
        (linked / name).symlink_to(folder / name)
    for model in ('minilm', 'minilm/', 'linked', 'optimum/model.onnx', 'above', 'above/onnx/model.onnx', 'artifact', 'artifact.zip'):
        before = set(named(server))
        here, _ = encoded(f'{tmp_path}/{model}', texts, tmp_path / 'here.npy', '--threads', '1')
        there, said = encoded(f'{tmp_path}/{model}', texts, tmp_path / 'there.npy', '--server', server.target)
        assert np.array_equal(here, there), model
        new = set(named(server)) - before
        if model == 'minilm/':
            assert not new and 'is there already' in said
            continue
        (name,) = new
        came = files(models(server) / name)
        assert not [n for n in came if 'junk' in (models(server) / name / n).read_bytes()[:4].decode(errors='replace')], came
        assert not [n for n in came if n.endswith('.bin')]
        if model == 'artifact.zip':
            assert came == ['artifact.zip']


def test_what_is_no_model_is_refused_with_the_reason(server, data, tmp_path):
    before = named(server)
    at = ['--server', server.target]
    (tmp_path / 'noise.onnx').write_bytes(b'\xff' * 100)
    assert 'noise.onnx is no ONNX model' in finetuner('fit', tmp_path / 'noise.onnx', data, *at, code=3).stderr
    model = onnx.load(serving.VECTORS)
    model.graph.node[0].op_type = 'Unheard'
    onnx.save(model, tmp_path / 'odd.onnx')
    here = finetuner('inspect', tmp_path / 'odd.onnx', code=3).stderr.split('odd.onnx: ', 1)[1]
    there = finetuner('encode', tmp_path / 'odd.onnx', data, *at, '--out', tmp_path / 'x.npy', code=3).stderr
    assert 'cannot be loaded: odd.onnx: ' + here.strip() in there and 'Unheard' in here
    assert str(models(server)) not in there
    network(tmp_path / 'without' / 'net.onnx', 8, external='net.weights')
    (tmp_path / 'without' / 'net.weights').unlink()
    assert 'net.weights' in finetuner('encode', tmp_path / 'without' / 'net.onnx', data, *at, code=3).stderr
    (tmp_path / 'empty').mkdir()
    assert 'holds no file of a model' in finetuner('encode', tmp_path / 'empty', data, *at, code=4).stderr
    (tmp_path / 'torn.zip').write_bytes(b'PK\3\4torn')
    assert 'torn.zip' in finetuner('encode', tmp_path / 'torn.zip', data, *at, code=3).stderr
    assert named(server) == before
    assert not [p for p in models(server).iterdir() if p.name.startswith('.')]  # nothing is kept of what never can be one


def begin(wire, *words, limit):
    """A command whose upload stops on the way, after 4 MiB of it were answered."""
    wire.limit = limit
    process = subprocess.Popen([str(serving.PROGRAM), *map(str, words), '--server', wire.target], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    line = ''
    while 'Sending the model' not in line or int(line.split()[3].split('/')[0]) < 4 << 20:
        line = process.stderr.readline()
        assert line != '', process.stderr.read()
    return process


def test_a_cut_upload_goes_on(data, tmp_path):
    """The line is cut, the service is killed: nothing can be seen of the model, and not all of it is sent again."""
    path = network(tmp_path / 'large.onnx', 100000)
    size = path.stat().st_size
    assert size > 12 << 20
    with serving.Server(tmp_path, serving.VECTORS) as server:
        for kill in (False, True):
            wire = Wire(server.port)
            process = begin(wire, 'encode', path, data, '--out', tmp_path / 'x.npy', limit=size // 2)
            if kill:
                server.kill()
            wire.cut()
            assert named(server) == []
            (part,) = models(server).iterdir()
            assert part.name.startswith('.push-')
            passed = wire.passed
            wire.limit = 1 << 40
            if kill:
                server.start()
            out, rest = process.communicate(timeout=60)
            assert process.returncode == 0, rest
            assert 'trying again' in rest and 'was sent' in rest
            assert passed > 1 << 20 and wire.passed < size * 1.6  # what was under way was sent twice
            (name,) = named(server)
            assert hashlib.sha256((models(server) / name / 'large.onnx').read_bytes()).digest() == hashlib.sha256(path.read_bytes()).digest()
            assert [p.name for p in models(server).iterdir()] == [name]
            shutil.rmtree(models(server) / name)
        # Ctrl-C: another command goes on where this one was.
        wire = Wire(server.port)
        process = begin(wire, 'fit', path, data, limit=size // 2)
        process.send_signal(signal.SIGINT)
        assert 'goes on where' in process.communicate(timeout=30)[1] and process.returncode == 1
        wire = Wire(server.port, 1 << 40)
        finetuner('encode', path, data, '--server', wire.target, '--out', tmp_path / 'x.npy')
        assert wire.passed < size - (3 << 20)
        assert server.stop() == 0


# ---- a generated client


def content(**named):
    """name: bytes -> ModelFile as keywords, in order."""
    return [{'name': n, 'bytes': len(b), 'sha256': hashlib.sha256(b).hexdigest()} for n, b in sorted(named.items())]


def upload(v1, name, listed, entry=''):  # noqa: F811
    return v1.PushModelRequest(model=v1.ModelUpload(name=name, entry=entry, files=[v1.ModelFile(**f) for f in listed]))


def pieces(v1, whole, first=0, size=1000):  # noqa: F811
    for at in range(first, len(whole), size):
        yield v1.PushModelRequest(offset=at, data=whole[at:at + size])


@pytest.fixture(scope='module')
def stub(v1, server):  # noqa: F811
    with grpc.insecure_channel(server.target) as channel:
        yield v1.stub(channel)


def test_a_generated_client_sends_one(v1, server, stub):  # noqa: F811
    whole = serving.VECTORS.read_bytes()
    head = upload(v1, 'mine', content(**{'net.onnx': whole}))
    answers = list(stub.PushModel(iter([head, *pieces(v1, whole)])))
    assert [a.bytes for a in answers] == [0, *range(1000, len(whole), 1000), len(whole), len(whole)]
    model = answers[-1].model
    assert not any(a.HasField('model') for a in answers[:-1])
    said = hashlib.sha256(f'net.onnx\n{hashlib.sha256(whole).hexdigest()}  net.onnx\n'.encode()).hexdigest()
    assert (model.name, model.bytes, model.sha256, model.configured) == ('mine', len(whole), said, False)
    assert stub.GetModel(v1.GetModelRequest(model='mine')) == model
    assert model in stub.ListModels(v1.ListModelsRequest()).models
    (again,) = stub.PushModel(iter([head]))  # no bytes are sent
    assert again.model == model and again.bytes == len(whole)
    exists = grpc.StatusCode.ALREADY_EXISTS
    other = content(**{'net.onnx': whole + b'x'})
    refused(exists, lambda: stub.PushModel(iter([upload(v1, 'mine', other)])), 'model.name')
    refused(exists, lambda: stub.PushModel(iter([upload(v1, 'classifier', other)])), 'model.name')  # the configured one's
    about = server.folder / 'data' / 'models' / 'mine' / '.model.json'
    about.write_text('{')  # damaged: it is listed, and can be removed
    assert [m.sha256 for m in stub.ListModels(v1.ListModelsRequest()).models if m.name == 'mine'] == ['']
    stub.DeleteModel(v1.DeleteModelRequest(model='mine'))
    assert 'mine' not in named(server)
    refused(grpc.StatusCode.NOT_FOUND, lambda: stub.GetModel(v1.GetModelRequest(model='mine')), 'model')
    # In parts: who asks only is told how far it is; after a cut it goes on.
    assert [a.bytes for a in stub.PushModel(iter([head, *pieces(v1, whole[:3000])]))] == [0, 1000, 2000, 3000]
    assert [a.bytes for a in stub.PushModel(iter([head]))] == [3000]
    answers = list(stub.PushModel(iter([head, *pieces(v1, whole, 3000, 1 << 20)])))
    assert [a.bytes for a in answers] == [3000, len(whole), len(whole)] and answers[-1].model == model
    stub.DeleteModel(v1.DeleteModelRequest(model='mine'))


def test_requests_are_checked(v1, stub, server):  # noqa: F811
    bad = grpc.StatusCode.INVALID_ARGUMENT
    whole = serving.VECTORS.read_bytes()
    right = content(**{'net.onnx': whole})

    def push(*requests):
        return lambda: stub.PushModel(iter(requests))
    for name in ('', '..', 'a/b', '/etc', '.x', 'x' * 65, 'a b'):
        refused(bad, push(upload(v1, name, right)), 'model.name')
    for name in ('', '/x', '../x', 'a/../x', 'a//x', 'a\\x', 'a\nx', 'x' * 513, 'x' * 300, '/'.join('123456789')):
        refused(bad, push(upload(v1, 'm', [{**right[0], 'name': name}])), 'model.files[0].name')
    refused(bad, push(upload(v1, 'm', right * 2)), 'model.files[1].name')
    refused(bad, push(upload(v1, 'm', [])), 'model.files')
    refused(bad, push(upload(v1, 'm', [{**right[0], 'sha256': 'abc'}])), 'model.files[0].sha256')
    refused(bad, push(upload(v1, 'm', [{**right[0], 'bytes': 1 << 62}])), 'model.files[0].bytes')
    refused(bad, push(upload(v1, 'm', [{**right[0], 'bytes': (1 << 64) - 1}])), 'model.bytes')
    refused(bad, push(upload(v1, 'm', right, entry='elsewhere')), 'model.entry')
    refused(bad, push(upload(v1, 'm', content(**{f'{i:04}': b'' for i in range(1001)}))), 'model.files')
    refused(bad, push(v1.PushModelRequest(data=b'x')), 'model')
    head = upload(v1, 'm', right)
    refused(bad, push(head, head), 'model')
    refused(bad, push(head, v1.PushModelRequest(offset=1, data=b'x')), 'offset')
    refused(bad, push(head, v1.PushModelRequest()), 'data')
    refused(bad, push(head, v1.PushModelRequest(data=bytes((4 << 20) + 1))), 'data')
    refused(bad, push(upload(v1, 'm', [{**right[0], 'bytes': 10}]), v1.PushModelRequest(data=whole)), 'data')  # a size that lies
    wrong = [{**right[0], 'sha256': hashlib.sha256(b'other').hexdigest()}]
    refused(bad, push(upload(v1, 'm', wrong), *pieces(v1, whole)), 'model.files[0].sha256')
    broken = content(**{'net.onnx': b'\x08\x08'})
    error = refused(bad, push(upload(v1, 'm', broken), v1.PushModelRequest(data=b'\x08\x08')), 'model')
    assert 'cannot be loaded' in error.details()
    with grpc.insecure_channel(server.target) as channel:
        call = channel.stream_stream('/finetuner.v1.Finetuner/PushModel')
        for noise in (b'\xff', b'\x0a\xff\xff\xff\xff\x07', b'\x0a\x04\x0a\x02\xc3\x28', b'\x0a\x04\x0a\x02a\0'):
            with pytest.raises(grpc.RpcError) as caught:
                list(call(iter([noise]), timeout=20))
            assert caught.value.code() == bad
    assert 'm' not in named(server)


def test_two_at_once_send_it_once(v1, server, stub):  # noqa: F811
    """The second waits for the first, then is told that all is there; or goes on where the first was cut."""
    whole = network(server.folder / 'two.onnx', 500).read_bytes()
    head = upload(v1, 'two', content(**{'net.onnx': whole}))
    for whole_way in (False, True):
        gate, reached, second = threading.Event(), threading.Event(), []

        def slow():
            yield head
            yield from pieces(v1, whole[:10000])
            reached.set()
            gate.wait(60)
            if whole_way:
                yield from pieces(v1, whole, 10000)
        first = stub.PushModel(slow(), timeout=60)
        answers = []
        reader = threading.Thread(target=lambda: answers.extend(a.bytes for a in first))
        reader.start()
        assert reached.wait(30)
        while len(answers) < 11:
            time.sleep(0.01)

        def other():
            yield head
            while not second:
                time.sleep(0.01)
            if not whole_way:
                yield from pieces(v1, whole, second[0].bytes)
        waiting = stub.PushModel(other(), timeout=60)
        taker = threading.Thread(target=lambda: second.extend(waiting) if whole_way else [second.append(a) for a in waiting])
        taker.start()
        time.sleep(0.5)  # it would be told by now
        assert not second
        gate.set()
        reader.join(60)
        taker.join(60)
        assert second[-1].model.name == 'two' and second[0].bytes == (len(whole) if whole_way else 10000)
        assert (len(second) == 1) == whole_way
        stub.DeleteModel(v1.DeleteModelRequest(model='two'))


def test_paths_of_the_service_are_not_told(v1, server, stub):  # noqa: F811
    folder = models(server) / 'damaged'
    folder.mkdir()
    docs = [v1.Document(id='1', text='t', label='a')]
    assert [a.stored for a in stub.Push(iter([v1.PushRequest(dataset='told', documents=docs)]))] == [1]
    for text in ['{"entry": 3}', '{']:
        (folder / '.model.json').write_text(text)
        for call in [lambda: stub.Fit(v1.FitRequest(dataset='told', model='damaged')),
                     lambda: list(stub.Encode(iter([v1.EncodeRequest(model='damaged', documents=docs)])))]:
            with pytest.raises(grpc.RpcError) as caught:
                call()
            assert 'damaged/.model.json' in caught.value.details(), caught.value
            assert str(server.folder) not in caught.value.details(), caught.value
    stub.DeleteModel(v1.DeleteModelRequest(model='damaged'))


def test_unfinished_ones_have_a_bound_together(v1, tmp_path):  # noqa: F811
    """One that is sent now keeps its room; one that was cut makes room for another."""
    first, second = (network(tmp_path / f'{k}.onnx', 7000, seed=k).read_bytes() for k in (1, 2))
    assert len(first) < 1 << 20 < 2 * len(first)
    with serving.Server(tmp_path, serving.VECTORS, '--uploads-mb', '1') as server, grpc.insecure_channel(server.target) as channel:
        stub = v1.stub(channel)  # noqa: F811
        gate = threading.Event()

        def held():
            yield upload(v1, 'first', content(**{'net.onnx': first}))
            yield from pieces(v1, first[:5000])
            gate.wait(60)
        call = stub.PushModel(held(), timeout=60)
        for _ in range(6):
            next(call)
        head = upload(v1, 'second', content(**{'net.onnx': second}))
        error = refused(grpc.StatusCode.RESOURCE_EXHAUSTED, lambda: stub.PushModel(iter([head])))
        assert 'uploads_mb' in error.details() and str(tmp_path) not in error.details()
        gate.set()
        assert list(call) == []
        kept = [p.name for p in models(server).iterdir()]
        assert len(kept) == 1  # 5000 bytes: both have room
        assert list(stub.PushModel(iter([head, *pieces(v1, second[:600000], 0, 100000)])))[-1].bytes == 600000
        assert len([*models(server).iterdir()]) == 2
        third = network(tmp_path / '3.onnx', 7000, seed=3).read_bytes()
        sent = [upload(v1, 'third', content(**{'net.onnx': third})), *pieces(v1, third, 0, 1 << 20)]
        assert list(stub.PushModel(iter(sent)))[-1].model.name == 'third'
        assert [p.name for p in models(server).iterdir()] == ['third'] and 'makes room' in server.log()
        assert server.stop() == 0


def test_who_says_nothing_is_not_waited_for(v1, tmp_path):  # noqa: F811
    """It would keep the room of its whole model for as long as it lives."""
    whole = network(tmp_path / 'net.onnx', 7000).read_bytes()
    head = upload(v1, 'slow', content(**{'net.onnx': whole}))
    with serving.Server(tmp_path, serving.VECTORS, '--upload-idle-seconds', '1') as server, grpc.insecure_channel(server.target) as channel:
        stub = v1.stub(channel)  # noqa: F811
        for sent in (0, 5000):
            over = threading.Event()

            def silent():
                yield head
                yield from pieces(v1, whole[:sent])
                over.wait(60)
            start = time.monotonic()
            error = refused(grpc.StatusCode.DEADLINE_EXCEEDED, lambda: stub.PushModel(silent(), timeout=50))
            assert 1 <= time.monotonic() - start < 20 and 'upload_idle_seconds' in error.details()
            over.set()
        rest = list(stub.PushModel(iter([head, *pieces(v1, whole, 5000, 1 << 20)])))
        assert rest[0].bytes == 5000 and rest[-1].model.name == 'slow'
        assert server.stop() == 0


def test_many_at_once_are_checked_in_turn(v1, server, stub, tmp_path):  # noqa: F811
    count = 12
    whole = [network(tmp_path / f'{k}.onnx', 20000, seed=k).read_bytes() for k in range(count)]
    ends, most = [None] * count, [0]

    def send(k):
        head = upload(v1, f'many-{k}', content(**{'net.onnx': whole[k]}))
        *_, ends[k] = stub.PushModel(iter([head, *pieces(v1, whole[k], 0, 1 << 20)]), timeout=120)
    senders = [threading.Thread(target=send, args=[k]) for k in range(count)]
    for sender in senders:
        sender.start()
    while any(sender.is_alive() for sender in senders):
        names = []
        for comm in pathlib.Path(f'/proc/{server.process.pid}/task').glob('*/comm'):
            with contextlib.suppress(OSError):  # it has ended meanwhile
                names.append(comm.read_text())
        most[0] = max(most[0], names.count('model\n'))
        time.sleep(0.001)
    assert [end.model.name for end in ends] == [f'many-{k}' for k in range(count)]
    print(f'{count} at once, {most[0]} checked at the same time')
    assert 0 < most[0] <= 2
    for k in range(count):
        stub.DeleteModel(v1.DeleteModelRequest(model=f'many-{k}'))


def test_limits_and_going_down(v1, tmp_path):  # noqa: F811
    whole = network(tmp_path / 'net.onnx', 20000).read_bytes()
    assert 2 << 20 < len(whole)
    head = upload(v1, 'net', content(**{'net.onnx': whole}))
    with serving.Server(tmp_path, serving.VECTORS, '--upload-mb', '1') as server, grpc.insecure_channel(server.target) as channel:
        stub = v1.stub(channel)  # noqa: F811
        error = refused(grpc.StatusCode.INVALID_ARGUMENT, lambda: stub.PushModel(iter([head])), 'model.files[0].bytes')
        assert 'upload_mb' in error.details()
        with zipfile.ZipFile(tmp_path / 'bomb.zip', 'w', zipfile.ZIP_DEFLATED) as z:
            z.writestr('bomb/config.yml', 'x: 1\n')
            z.writestr('bomb/models/net/model.onnx', bytes(2 << 20))
        bomb = (tmp_path / 'bomb.zip').read_bytes()
        sent = [upload(v1, 'bomb', content(**{'bomb.zip': bomb})), *pieces(v1, bomb)]
        error = refused(grpc.StatusCode.INVALID_ARGUMENT, lambda: stub.PushModel(iter(sent)), 'model')
        assert 'unpacked' in error.details() and 'upload_mb' in error.details()
        small = network(tmp_path / 'small.onnx', 5000).read_bytes()
        gate = threading.Event()

        def held():
            yield upload(v1, 'small', content(**{'net.onnx': small}))
            yield from pieces(v1, small[:5000])
            gate.wait(60)
        call = stub.PushModel(held(), timeout=60)
        for _ in range(6):
            next(call)
        assert server.stop() == 0
        with pytest.raises(grpc.RpcError) as caught:
            next(call)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        gate.set()
        server.flags[-1] = '0'
        server.start()
        refused(grpc.StatusCode.FAILED_PRECONDITION, lambda: stub.PushModel(iter([head]), wait_for_ready=True))
        server.kill()
    with serving.Server(tmp_path, serving.VECTORS) as server, grpc.insecure_channel(server.target) as channel:
        stub = v1.stub(channel)  # noqa: F811
        head = upload(v1, 'small', content(**{'net.onnx': small}))
        assert [a.bytes for a in stub.PushModel(iter([head]))] == [5000]  # kept over two restarts
        # What was kept is not what was sent, as after a machine that lost its power: all of it again.
        (part,) = [p for p in models(server).iterdir() if p.name.startswith('.push-')]
        (part / 'net.onnx').write_bytes(bytes(5000))
        error = refused(grpc.StatusCode.UNAVAILABLE, lambda: stub.PushModel(iter([head, *pieces(v1, small, 5000)])))
        assert 'send all of it' in error.details()
        assert list(stub.PushModel(iter([head, *pieces(v1, small, 0, 1 << 20)])))[-1].model.name == 'small'
        # Memory is bounded by pieces, and by the model once: when it is tried.
        large = network(tmp_path / 'large.onnx', 300000).read_bytes()
        before, most = server.memory(), 0
        for answer in stub.PushModel(iter([upload(v1, 'large', content(**{'net.onnx': large})), *pieces(v1, large, 0, 1 << 20)])):
            most = max(most, server.memory()) if not answer.HasField('model') else most
        print(f'model of {len(large) >> 20} MiB: at most {(most - before) / (1 << 20):.1f} MiB more while it came')
        assert most - before < 16 << 20 < len(large)
        assert server.stop() == 0


@pytest.mark.parametrize('cause', [errno.ENOSPC, errno.EIO])
def test_a_disk_that_refuses(v1, tmp_path, cause, monkeypatch):  # noqa: F811
    flag = tmp_path / 'refuse'
    monkeypatch.setenv('LD_PRELOAD', str(REFUSING))
    monkeypatch.setenv('FT_REFUSE_OF', str(tmp_path / 'data'))
    monkeypatch.setenv('FT_REFUSE_IF', str(flag))
    server = serving.Server(tmp_path, serving.VECTORS)
    monkeypatch.delenv('LD_PRELOAD')
    whole = serving.VECTORS.read_bytes()
    head = upload(v1, 'mine', content(**{'net.onnx': whole}))
    with server, grpc.insecure_channel(server.target) as channel:
        stub = v1.stub(channel)  # noqa: F811
        assert [a.bytes for a in stub.PushModel(iter([head, *pieces(v1, whole[:2000])]))] == [0, 1000, 2000]
        flag.write_text(str(int(cause)))
        error = refused(grpc.StatusCode.RESOURCE_EXHAUSTED, lambda: stub.PushModel(iter([head, *pieces(v1, whole, 2000)])))
        assert 'the disk refuses' in error.details()
        assert named(server) == []
        flag.unlink()
        answers = list(stub.PushModel(iter([head])))
        last = list(stub.PushModel(iter([head, *pieces(v1, whole, answers[0].bytes)])))[-1]
        assert last.model.name == 'mine' and (models(server) / 'mine' / 'net.onnx').read_bytes() == whole
        assert server.stop() == 0


# ---- the other verbs on lines that are cut, and over TLS


@pytest.fixture(scope='module')
def trained(server, data, tmp_path_factory):
    """A run whose artifact is large."""
    path = network(tmp_path_factory.mktemp('trained') / 'wide.onnx', 50000)
    done = finetuner('fit', path, data, '--steps', '2', '--batch-size', '16', '--num-items-per-class', '4', '--server', server.target, '--json')
    return json.loads(done.stdout)['run']


def stopped(wire, server, word, *words):
    """A command that gets no more after wire.back bytes, once it has shown `word`; then the service is killed and comes back."""
    process = subprocess.Popen([str(serving.PROGRAM), *map(str, words), '--server', wire.target], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    while word not in (line := process.stderr.readline()):
        assert line != '', process.stderr.read()
    server.kill()
    wire.cut()
    wire.back = 1 << 40
    server.start()
    out, rest = process.communicate(timeout=100)
    assert process.returncode == 0, rest
    assert 'trying again' in rest
    return out, rest


def test_pull_goes_on_where_it_was(server, trained, tmp_path):
    finetuner('pull', trained, '--server', server.target, '--out', tmp_path / 'whole.zip')
    size = (tmp_path / 'whole.zip').stat().st_size
    assert size > 6 << 20
    wire = Wire(server.port, 1 << 40, 5 << 20)
    stopped(wire, server, 'Pulling 4', 'pull', trained, '--out', tmp_path / 'cut.zip')
    assert (tmp_path / 'cut.zip').read_bytes() == (tmp_path / 'whole.zip').read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ['cut.zip', 'whole.zip']


def test_encode_goes_on_where_it_was(server, tmp_path):
    data = write_vectors(tmp_path / 'many.jsonl', 5000)
    whole, _ = encoded('classifier', data, tmp_path / 'whole.npy', '--server', server.target)
    wire = Wire(server.port, 1 << 40, 200000)
    out, rest = stopped(wire, server, 'Encoding', 'encode', 'classifier', data, '--out', tmp_path / 'cut.npy', '--json')
    assert json.loads(out)['count'] == 5000
    assert np.array_equal(np.load(tmp_path / 'cut.npy'), whole)


def test_watch_goes_on_where_it_was(server, data, tmp_path):
    """Also over a death of the service, after which the run goes on from a checkpoint or from its start."""
    finetuner('push', data, '--server', server.target, '--dataset', 'watched')
    run = finetuner('fit', 'classifier', '--dataset', 'watched', '--steps', '400', '--batch-size', '16', '--learning-rate', '0.001', '--server',
                    server.target, '--detach').stdout.strip()
    wire = Wire(server.port, 1 << 40)
    out, rest = stopped(wire, server, 'Training', 'watch', run, '--json')
    assert json.loads(out)['status'] == 'FINISHED' and json.loads(out)['run'] == run
    assert 'Training' in rest


def test_every_verb_over_tls(certificates, data, tmp_path):  # noqa: F811
    path = network(tmp_path / 'net.onnx', 300)
    with TlsServer(tmp_path, certificates, '--tls-client-ca', str(certificates / 'clients.pem'), client='client') as server:
        ours = ['--server', f'localhost:{server.port}', '--tls-ca', certificates / 'ours.pem']
        at = [*ours, '--tls-cert', certificates / 'client.pem', '--tls-key', certificates / 'client.key']
        finetuner('push', data, *at, '--dataset', 'd')
        done = finetuner('fit', path, data, *FIT, *at, '--out', tmp_path / 'tuned.zip', '--json')
        run = json.loads(done.stdout)['run']
        assert 'was sent' in done.stderr and finetuner('encode', path, data, *at, '--out', tmp_path / 'x.npy').stderr.count('there already') == 1
        assert run in finetuner('runs', *at).stdout
        assert json.loads(finetuner('watch', run, *at, '--json').stdout)['status'] == 'FINISHED'
        finetuner('pull', run, *at, '--out', tmp_path / 'pulled.zip')
        assert (tmp_path / 'pulled.zip').read_bytes() == (tmp_path / 'tuned.zip').read_bytes()
        hint = finetuner('fit', path, '--dataset', 'd', *FIT, *at, '--detach').stderr
        assert f'--tls-ca {certificates / "ours.pem"} --tls-cert {certificates / "client.pem"}' in hint
        for wrong in (ours, ['--server', f'localhost:{server.port}'], [*at[:2], '--tls-ca', certificates / 'theirs.pem', *at[4:]]):
            for words in (['runs'], ['push', data], ['fit', path, data], ['encode', path, data], ['watch', run], ['pull', run]):
                assert '--tls' in finetuner(*words, *wrong, code=5).stderr
        assert server.stop() == 0
