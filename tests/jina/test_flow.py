"""The service as a step of a real Jina Flow: pip's jina 3.34 with docarray 0.21, an external executor."""
# alone: calls have to be answered while a run goes on
import hashlib
import io
import os
import signal
import subprocess
import time
import zipfile

import grpc
import numpy as np
import pytest
from PIL import Image, ImageDraw

from service import FIT, GLYPHS, PROGRAM, VECTORS, Pings, Server, free_port  # first: it sets Jina's environment

from docarray import Document, DocumentArray
from documents import by_id, same_but_embedding
from grpc_health.v1 import health_pb2, health_pb2_grpc
from jina import Client, Flow
from jina.excepts import BadServer
from jina.proto import jina_pb2

@pytest.fixture(scope='module')
def vectors(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp('vectors'), VECTORS)
    flow = Flow(port=free_port(), host='127.0.0.1').add(name='tuner', external=True, host='127.0.0.1',
                                                         port=server.port)
    with flow:
        yield server, flow
    assert server.stop() == 0


def vector_docs(seed, classes=6, each=20):
    """Clusters of 16 numbers: three coordinates tell the classes, the rest is louder noise."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(classes, 16)).astype('float32')
    docs = DocumentArray()
    for i in range(classes * each):
        label = i % classes
        values = centres[label] + 0.8 * rng.normal(size=16)
        docs.append(Document(id=f'{seed}-{i}', tensor=values.astype('float32'),
                             tags={'finetuner_label': f'c{label}', 'n': {'x': [1, None, True, 'y']}},
                             weight=0.5, uri=f'shelf/{i}', mime_type='x/y', location=[1.0, 2.0],
                             chunks=[Document(text='inner')]))
    return docs


def results(responses):
    return responses[0].parameters['__results__']['tuner']


def ask(flow, on, parameters=None, docs=None):
    return results(flow.post(on, inputs=docs if docs is not None else DocumentArray(), parameters=parameters or {},
                             return_responses=True))


def separation(docs):
    """Mean cosine within classes minus mean cosine between them."""
    x = np.stack([d.embedding for d in docs])
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    labels = np.array([d.tags['finetuner_label'] for d in docs])
    same = labels[:, None] == labels[None, :]
    cosine = x @ x.T
    off = ~np.eye(len(labels), dtype=bool)
    return cosine[same & off].mean() - cosine[~same].mean()


def test_train_fit_encode_vectors(vectors):
    server, flow = vectors
    train, held_out = vector_docs(1), vector_docs(2)
    before = flow.post('/encode', inputs=held_out)
    same_but_embedding(held_out, before)
    assert before[0].embedding.shape == (16,) and before[0].embedding.dtype == np.float32

    stored = flow.post('/train', inputs=train, parameters={'dataset': 'shelf'}, request_size=50)
    same_but_embedding(train, stored)
    assert all(doc.embedding is None for doc in stored)
    again = ask(flow, '/train', {'dataset': 'shelf'}, train[:10])
    assert (again['stored'], again['duplicates']) == (0, 10)

    pings = Pings(server.port)
    run = ask(flow, '/fit', {**FIT, 'epochs': 300, 'dataset': 'shelf', 'name': 'first', 'wait': True})
    assert pings.stop() > 10  # the run lasts seconds
    assert run['status'] == 'FINISHED' and run['name'] == 'first'

    after = flow.post('/encode', inputs=held_out)
    same_but_embedding(held_out, after)
    was, now = separation(before), separation(by_id(after).values())
    print(f'\nseparation of held-out vectors: {was:.3f} -> {now:.3f}')
    assert now > was + 0.02

    old = by_id(flow.post('/encode', inputs=held_out[:3], parameters={'model': 'classifier'}))
    for doc in list(before)[:3]:
        if doc.id in old:
            np.testing.assert_array_equal(old[doc.id].embedding, doc.embedding)

    assert ask(flow, '/status', {'run': run['run']})['status'] == 'FINISHED'
    assert [r['run'] for r in ask(flow, '/runs')['runs']] == [run['run']]
    events = ask(flow, '/logs', {'run': run['run'], 'limit': 100000, 'from': 0})['events']
    assert any(e['event'] == 'progress' for e in events)

    parts = flow.post('/artifact', inputs=DocumentArray(), parameters={'run': run['run']})
    parts = sorted(parts, key=lambda d: d.tags['part'])
    blob = b''.join(d.blob for d in parts)
    assert hashlib.sha256(blob).hexdigest() == parts[0].tags['sha256']
    assert any(name.endswith('model.onnx') for name in zipfile.ZipFile(io.BytesIO(blob)).namelist())


def test_every_other_byte_comes_back(vectors):
    """On the wire itself: the answer is the request, with one field 16 in each Document and one route."""
    server, _ = vectors
    request = jina_pb2.DataRequestProto()
    request.header.request_id = 'r1'
    request.header.exec_endpoint = '/encode'
    for doc in vector_docs(3, each=2):
        doc.embedding = np.zeros(3)  # an old one must go
        request.data.docs.docs.append(doc.to_protobuf())
    with grpc.insecure_channel(f'127.0.0.1:{server.port}') as channel:
        raw = channel.unary_unary('/jina.JinaSingleDataRequestRPC/process_single_data')
        answer = jina_pb2.DataRequestProto.FromString(raw(request.SerializeToString() + b'\xfa\x01\x02hi', timeout=20))
    assert [r.executor for r in answer.routes] == ['tuner']
    assert answer.SerializeToString().endswith(b'\xfa\x01\x02hi')  # what it does not know it keeps
    for before, after in zip(request.data.docs.docs, answer.data.docs.docs):
        assert list(after.embedding.dense.shape) == [16]
        after.ClearField('embedding')
        before.ClearField('embedding')
        assert before.SerializeToString(deterministic=True) == after.SerializeToString(deterministic=True)


def why(refusal):
    return refusal.value.args[0].status.description


def test_errors_reach_the_client(vectors):
    server, flow = vectors
    bad = DocumentArray([Document(id='good', tensor=np.zeros(16, 'float32'), tags={'finetuner_label': 'a'}),
                         Document(id='bare', tensor=np.zeros(16, 'float32'))])
    with pytest.raises(BadServer) as refusal:
        flow.post('/train', inputs=bad, parameters={'dataset': 'bad'})
    assert "document 1 (id 'bare'): no label" in why(refusal)
    with pytest.raises(BadServer) as refusal:  # nothing of that request was stored
        flow.post('/fit', inputs=DocumentArray(), parameters={'dataset': 'bad'})
    assert "no dataset 'bad'" in why(refusal)
    with pytest.raises(BadServer) as refusal:
        flow.post('/encode', inputs=DocumentArray([Document(id='t', tensor=np.zeros(5, 'float32'))]))
    assert "document 0 (id 't')" in why(refusal)
    with pytest.raises(BadServer) as refusal:
        flow.post('/fit', inputs=DocumentArray(), parameters={'epochz': 3, 'dataset': 'shelf'})
    assert 'epochz' in why(refusal)
    with pytest.raises(BadServer) as refusal:  # one class: no triplet can be formed
        flow.post('/train', inputs=vector_docs(4, classes=1), parameters={'dataset': 'one'})
        flow.post('/fit', inputs=DocumentArray(), parameters={**FIT, 'dataset': 'one', 'wait': True})
    assert 'FAILED' in why(refusal)
    request = jina_pb2.DataRequestProto()
    request.header.exec_endpoint = '/status'
    with grpc.insecure_channel(f'127.0.0.1:{server.port}') as channel:
        raw = channel.unary_unary('/jina.JinaSingleDataRequestRPC/process_single_data')
        message, call = raw.with_call(request.SerializeToString(), timeout=20)
    answer = jina_pb2.DataRequestProto.FromString(message)
    assert ('is-error', 'true') in [(k, v) for k, v in call.trailing_metadata()]
    assert answer.header.status.code == jina_pb2.StatusProto.ERROR
    assert call.code() == grpc.StatusCode.OK


def test_unknown_endpoints_pass(vectors):
    _, flow = vectors
    docs = vector_docs(5, each=1)
    passed = flow.post('/somebody_elses', inputs=docs)
    same_but_embedding(docs, passed)
    assert all(doc.embedding is None for doc in passed)


def test_clients_dial_the_executor_itself(vectors):
    server, _ = vectors
    docs = vector_docs(6, each=4)
    for stream in (True, False):
        client = Client(host='127.0.0.1', port=server.port, stream=stream)
        got = client.post('/encode', inputs=docs, request_size=5)
        same_but_embedding(docs, got)
        assert all(doc.embedding.shape == (16,) for doc in got)
        with pytest.raises(BadServer):
            client.post('/status', inputs=DocumentArray([Document(text='x')]))
        assert client.is_flow_ready()


def test_compressed_requests(vectors):
    server, _ = vectors
    docs = vector_docs(7, each=3)
    for compression in ('Gzip', 'Deflate'):
        flow = Flow(port=free_port(), host='127.0.0.1', compression=compression)
        with flow.add(name='tuner', external=True, host='127.0.0.1', port=server.port) as flow:
            same_but_embedding(docs, flow.post('/encode', inputs=docs))


def test_discovery_and_reflection(vectors):
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
    server, _ = vectors
    with grpc.insecure_channel(f'127.0.0.1:{server.port}') as channel:
        services = ProtoReflectionDescriptorDatabase(channel).get_services()
        assert {'jina.JinaSingleDataRequestRPC', 'jina.JinaDiscoverEndpointsRPC', 'jina.JinaRPC'} <= set(services)
        raw = channel.unary_unary('/jina.JinaDiscoverEndpointsRPC/endpoint_discovery')
        endpoints = jina_pb2.EndpointsProto.FromString(raw(b'', timeout=5))
    assert list(endpoints.endpoints) == ['/default']
    assert list(endpoints.schemas.keys()) == ['/default']


def glyph(letter, seed):
    """A letter on 32 x 32 pixels, moved and scaled a little, as PNG."""
    rng = np.random.default_rng(seed)
    small = Image.new('L', (11, 14), 0)
    ImageDraw.Draw(small).text((2, 1), letter, fill=255)
    size = int(rng.integers(20, 30))
    picture = Image.new('L', (32, 32), 0)
    picture.paste(small.resize((size, size)), (int(rng.integers(0, 32 - size)), int(rng.integers(0, 32 - size))))
    noisy = np.clip(np.asarray(picture, 'float32') + rng.normal(scale=25, size=(32, 32)), 0, 255)
    png = io.BytesIO()
    Image.fromarray(noisy.astype('uint8')).save(png, 'PNG')
    return png.getvalue()


def test_train_fit_encode_images_and_resume(tmp_path):
    docs = DocumentArray(Document(id=f'{letter}{i}', blob=glyph(letter, hash((ord(letter), i)) % 2**31),
                                  mime_type='image/png', tags={'finetuner_label': letter, 'shelf': i})
                         for letter in 'RSTUVWXY' for i in range(12))
    server = Server(tmp_path, GLYPHS)
    try:
        flow = Flow(port=free_port(), host='127.0.0.1').add(name='tuner', external=True, host='127.0.0.1',
                                                             port=server.port)
        with flow:
            before = flow.post('/encode', inputs=docs)
            same_but_embedding(docs, before)
            same_but_embedding(docs, flow.post('/train', inputs=docs, request_size=40))
            pings = Pings(server.port)
            run = ask(flow, '/fit', {**FIT, 'epochs': 8, 'wait': True})
            assert pings.stop() > 3
            assert run['status'] == 'FINISHED'
            after = flow.post('/encode', inputs=docs)
            same_but_embedding(docs, after)
            was, now = separation(before), separation(after)
            print(f'\nseparation of images: {was:.3f} -> {now:.3f}')
            assert now > was

            # the service dies while a run trains: the run goes on from its checkpoint
            long = ask(flow, '/fit', {**FIT, 'epochs': 60, 'checkpoint_steps': 1, 'seed': 5})['run']
            wait_for_progress(flow, long)
            server.kill()
            server.start()
            more = DocumentArray(Document(id=f'{d.id}+', blob=d.blob, tags=d.tags) for d in docs[:20])
            ask(flow, '/train', docs=more)  # the run goes on with what it began with
            ended = wait_for_end(flow, long)
            assert ended['status'] == 'FINISHED' and ended['resumes'] == 1
            assert ended['summary']['resumed_from'] > 0
            assert ended['summary']['steps'] == 60 * 6
            assert not list((tmp_path / 'data' / 'runs' / long).glob('dataset*'))

            # cancelling ends a run that trains
            other = ask(flow, '/fit', {**FIT, 'epochs': 10000, 'checkpoint_steps': 1000000})['run']
            wait_for_progress(flow, other)
            ask(flow, '/cancel', {'run': other})
            assert wait_for_end(flow, other)['status'] == 'CANCELLED'
            waiting = ask(flow, '/fit', {**FIT, 'epochs': 10000})['run']
            wait_for_progress(flow, waiting)
    finally:
        code = server.stop()  # a run trains: SIGTERM lets it checkpoint, and the service ends well
    assert code == 0
    log = (tmp_path / 'server.log').read_text()
    assert 'stopped' in log and ' error ' not in log, log


def wait_for_progress(flow, run):
    for _ in range(300):
        if 'progress' in ask(flow, '/status', {'run': run}):
            return
        time.sleep(0.1)
    raise AssertionError(f'run makes no progress: {ask(flow, "/status", {"run": run})}')


def wait_for_end(flow, run):
    for _ in range(1200):
        record = ask(flow, '/status', {'run': run})
        if record['status'] not in ('CREATED', 'STARTED'):
            return record
        time.sleep(0.1)
    raise AssertionError(f'run {run} does not end')


def test_start_as_jina_executor(tmp_path):
    """The words that docker:// and Kubernetes use, under the name `jina`."""
    jina = tmp_path / 'jina'
    jina.symlink_to(PROGRAM)
    (tmp_path / 'config.yml').write_text(f'jtype: Finetuner\nwith:\n  model: {VECTORS}\n  workspace: {tmp_path}/data\n')
    port = free_port()
    process = subprocess.Popen([str(jina), 'executor', '--name', 'enc/rep-0', '--workspace-id', 'ab', '--native',
                                '--uses', str(tmp_path / 'config.yml'), '--host', '0.0.0.0', '--port', str(port),
                                '--uses-with', '{"encode_batch_size": 8.0}', '--port-monitoring', '1234'],
                               stderr=subprocess.PIPE)
    try:
        for _ in range(100):
            ping = subprocess.run([str(jina), 'ping', 'executor', f'grpc://127.0.0.1:{port}', '--timeout 9500'],
                                  capture_output=True)
            if ping.returncode == 0:
                break
            time.sleep(0.1)
        assert ping.returncode == 0, ping.stderr
        got = Client(host='127.0.0.1', port=port).post('/', inputs=vector_docs(8, each=1))
        assert got[0].embedding.shape == (16,)
        channel = grpc.insecure_channel(f'127.0.0.1:{port}')
        changes = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=60)
        assert next(changes).status == health_pb2.HealthCheckResponse.SERVING
    finally:
        os.kill(process.pid, signal.SIGTERM)
        _, log = process.communicate(timeout=20)
    assert process.returncode == 0, log
    assert next(changes).status == health_pb2.HealthCheckResponse.NOT_SERVING
    with pytest.raises(grpc.RpcError):
        next(changes)
    channel.close()
    ping = subprocess.run([str(jina), 'ping', 'executor', f'127.0.0.1:{port}'], capture_output=True)
    assert ping.returncode != 0
