"""The service in real Flows of docarray v2: pip's jina 3.34 and 3.20 with docarray 0.40. Executors here are Python's and ours, in chains."""
# alone: calls have to be answered while a run goes on
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / 'jina'))
from service import FIT, VECTORS, Pings, Server, free_port, map_at_r  # noqa: E402  first: it sets Jina's environment

from typing import Any, Dict, List, Optional  # noqa: E402

import asyncio  # noqa: E402
import hashlib  # noqa: E402
import io  # noqa: E402
import zipfile  # noqa: E402

import jina  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
from docarray import BaseDoc, DocList  # noqa: E402
from docarray.documents import TextDoc  # noqa: E402
from docarray.documents.legacy import LegacyDocument  # noqa: E402
from docarray.typing import AnyEmbedding, NdArray  # noqa: E402
from jina import Client, Executor, Flow, requests  # noqa: E402
from jina.excepts import BadServer  # noqa: E402


class Flat(BaseDoc):
    """What executors of Python's say they take: a class with a Document inside, said twice, costs HTTP gateways of this Jina their
    OpenAPI page, and with it all their routes, without any executor of ours and for most seeds of Python's hashes."""

    tensor: Optional[NdArray] = None
    embedding: Optional[AnyEmbedding] = None
    tags: Dict[str, Any] = {}
    words: List[str] = []
    if jina.__version__ != '3.20.2':  # its HTTP gateways take a number in an executor's class for a list of them
        score: float = 0.5
    note: Optional[str] = None


class Vector(Flat):
    inner: Optional[TextDoc] = None


class Found(Flat):
    near: List[str] = []


class Prepare(Executor):
    """In front of ours: doubles the tensors, so that it is seen to have been there."""

    @requests(on=['/index', '/search'])
    def double(self, docs: DocList[Flat], **kwargs) -> DocList[Flat]:
        for doc in docs:
            doc.tensor = doc.tensor * 2
        return docs


class Indexer(Executor):
    """Behind ours: keeps what has an embedding, finds the nearest."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.ids, self.vectors = [], []

    @requests(on='/index')
    def index(self, docs: DocList[Flat], **kwargs) -> DocList[Flat]:
        for doc in docs:
            self.ids.append(doc.id)
            self.vectors.append(np.asarray(doc.embedding))
        return docs

    @requests(on='/search')
    def search(self, docs: DocList[Flat], **kwargs) -> DocList[Found]:
        found = DocList[Found]()
        for doc in docs:
            distances = np.linalg.norm(np.stack(self.vectors) - np.asarray(doc.embedding), axis=1)
            found.append(Found(**doc.dict(), near=[self.ids[i] for i in distances.argsort()[:3]]))
        return found


def vector_docs(seed, classes=6, each=20):
    """Clusters of 16 numbers: three coordinates tell the classes, the rest is louder noise."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(classes, 16)).astype('float32')
    return DocList[Vector](
        Vector(id=f'{seed}-{i}', tensor=(centres[i % classes] + 0.8 * rng.normal(size=16)).astype('float32'),
               tags={'finetuner_label': f'c{i % classes}', 'n': {'x': [1, None, True, 'y']}}, words=['a', 'b'],
               inner=TextDoc(text='inner'), embedding=np.zeros(3) if i % 4 == 0 else None)
        for i in range(classes * each))


def stripped(doc):
    message = doc.to_protobuf()
    message.data.pop('embedding', None)
    return message.SerializeToString(deterministic=True)


def same_but_embedding(before, after):
    after = {doc.id: doc for doc in after}
    assert len(after) == len(before)
    for doc in before:
        assert stripped(after[doc.id]) == stripped(doc)


def quality(docs):
    return map_at_r(np.stack([np.asarray(d.embedding) for d in docs]), [d.tags['finetuner_label'] for d in docs])


def post(client, on, docs, **kwargs):
    return client.post(on, inputs=docs, return_type=DocList[type(docs[0])], **kwargs)


def ask(client, on, parameters=None, docs=None):
    responses = client.post(on, inputs=docs if docs is not None else Vector(), parameters=parameters or {}, return_responses=True)
    return responses[0].parameters['__results__']['tuner']


@pytest.fixture(scope='module')
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp('vectors'), VECTORS, '--endpoints', '/train,/fit,/encode,/status')
    yield server
    assert server.stop() == 0


@pytest.fixture(scope='module')
def flow(server):
    ports = [free_port() for _ in range(3)]
    flow = Flow(protocol=['grpc', 'http', 'websocket'], port=ports).add(name='tuner', external=True, host='127.0.0.1',
                                                                        port=server.port)
    with flow:
        yield dict(zip(('grpc', 'http', 'websocket'), ports))


def client_of(flow, protocol='grpc', **kwargs):
    return Client(host='127.0.0.1', port=flow[protocol], protocol=protocol, **kwargs)


def test_train_fit_encode(server, flow):
    client = client_of(flow)
    train, held_out = vector_docs(1), vector_docs(2)
    before = post(client, '/encode', held_out)
    same_but_embedding(held_out, before)
    assert np.asarray(before[0].embedding).shape == (16,) and np.asarray(before[0].embedding).dtype == np.float32
    same_but_embedding(train, post(client, '/train', train, parameters={'dataset': 'shelf'}, request_size=50))
    again = ask(client, '/train', {'dataset': 'shelf'}, train[:10])
    assert (again['stored'], again['duplicates']) == (0, 10)
    pings = Pings(server.port)
    run = ask(client, '/fit', {**FIT, 'epochs': 300, 'dataset': 'shelf', 'wait': True})
    assert pings.stop() > 10
    assert run['status'] == 'FINISHED'
    after = post(client, '/encode', held_out)
    same_but_embedding(held_out, after)
    was, now = quality(before), quality(after)
    print(f'\nMAP@R of held-out vectors, docarray 0.40: {was:.3f} -> {now:.3f}')
    assert now > was + 0.02
    assert ask(client, '/status', {'run': run['run']})['status'] == 'FINISHED'

    # the artifact, as Documents of the client's docarray
    direct = Client(host='127.0.0.1', port=server.port)
    for inputs, extra in ((LegacyDocument(), {}), (None, {'docarray': 'v2'})):
        parts = direct.post('/artifact', inputs=inputs, parameters={'run': run['run'], **extra}, return_type=DocList[LegacyDocument])
        parts = sorted(parts, key=lambda d: d.tags['part'])
        blob = b''.join(d.blob for d in parts)
        assert hashlib.sha256(blob).hexdigest() == parts[0].tags['sha256'] and len(parts) == parts[0].tags['parts']
        assert any(name.endswith('model.onnx') for name in zipfile.ZipFile(io.BytesIO(blob)).namelist())


def test_all_gateways_and_clients(server, flow):
    """Every gateway, streaming and unary, and without a gateway: the same embeddings, the same Documents."""
    docs = vector_docs(3, each=3)
    want = {d.id: np.asarray(d.embedding) for d in post(client_of(flow), '/encode', docs)}
    clients = [(f'{protocol} stream={stream}', client_of(flow, protocol, stream=stream))
               for protocol in ('grpc', 'http', 'websocket') for stream in (True, False) if protocol == 'grpc' or stream]
    clients += [(f'direct stream={stream}', Client(host='127.0.0.1', port=server.port, stream=stream)) for stream in (True, False)]
    for name, client in clients:
        # an HTTP gateway makes Documents of the schema that is advertised for the endpoint
        kept = docs if not name.startswith('http') else DocList[LegacyDocument](
            LegacyDocument(id=d.id, tensor=d.tensor, tags=d.tags) for d in docs)
        got = {d.id: d for d in post(client, '/encode', kept, request_size=5)}
        assert len(got) == len(docs), name
        for doc in kept:
            np.testing.assert_allclose(np.asarray(got[doc.id].embedding), want[doc.id], rtol=1e-5 if name.startswith('http') else 0,
                                       err_msg=name)
            assert got[doc.id].tags == doc.tags, name
            # JSON's decimals are not all of a float32's
            np.testing.assert_allclose(np.asarray(got[doc.id].tensor), doc.tensor, rtol=1e-6 if name.startswith('http') else 0, err_msg=name)
            if name.startswith(('grpc', 'direct')):
                assert stripped(got[doc.id]) == stripped(doc), name
    print('\ndocarray 0.40, the same embeddings through:', ', '.join(name for name, _ in clients))


def test_train_over_http(flow):
    docs = DocList[LegacyDocument](LegacyDocument(id=f'h{i}', tensor=np.full(16, i, 'float32'), tags={'finetuner_label': i % 2})
                                   for i in range(6))
    result = ask(client_of(flow, 'http'), '/train', {'dataset': 'http'}, docs)
    assert result['stored'] == 6


def test_errors_reach_the_client(server, flow):
    bad = DocList[Vector]([Vector(id='good', tensor=np.zeros(16, 'float32'), tags={'finetuner_label': 'a'}),
                           Vector(id='bare', tensor=np.zeros(16, 'float32'))])
    for client in (client_of(flow), Client(host='127.0.0.1', port=server.port)):
        with pytest.raises(BadServer) as refusal:
            post(client, '/train', bad, parameters={'dataset': 'bad'})
        status = refusal.value.args[0].status
        assert "document 1 (id 'bare'): no label" in status.description
        assert status.description.startswith('Invalid(') and status.exception.name == 'Invalid'
        with pytest.raises(BadServer) as refusal:
            post(client, '/encode', DocList[Vector]([Vector(id='t', tensor=np.zeros(5, 'float32'))]))
        assert "document 0 (id 't')" in refusal.value.args[0].status.description
    with pytest.raises(ValueError) as refusal:
        post(client_of(flow, 'http'), '/train', DocList[LegacyDocument]([LegacyDocument(id='bare', text='x')]))
    assert 'no label' in str(refusal.value) and 'bare' in str(refusal.value)


def test_one_document_as_a_stream(server):
    async def stream():
        client = Client(host='127.0.0.1', port=server.port, asyncio=True)
        return [d async for d in client.stream_doc(on='/encode', inputs=vector_docs(4, each=1)[0], return_type=Vector)]
    (doc,) = asyncio.run(stream())
    assert np.asarray(doc.embedding).shape == (16,) and doc.words == ['a', 'b']


def test_chain_with_python_and_an_indexer(tmp_path):
    """Python -> ours -> ours -> Python: what is found is what the embeddings say."""
    servers = [Server(tmp_path / name, VECTORS) for name in ('a', 'b')]
    docs, queries = (DocList[Flat](Flat(**d.dict(exclude={'inner'})) for d in vector_docs(*which)) for which in ((5, 6, 4), (6, 6, 2)))
    ports = [free_port() for _ in range(3)]
    try:
        flow = Flow(protocol=['grpc', 'http', 'websocket'], port=ports).add(name='prepare', uses=Prepare)
        for name, server in zip('ab', servers):
            flow = flow.add(name=name, external=True, host='127.0.0.1', port=server.port)
        with flow.add(name='indexer', uses=Indexer):
            ports = dict(zip(('grpc', 'http', 'websocket'), ports))
            indexed = post(client_of(ports), '/index', docs)
            alone = Client(host='127.0.0.1', port=servers[0].port)
            doubled = DocList[Flat](Flat(id=d.id, tensor=d.tensor * 2) for d in list(docs) + list(queries))
            want = {d.id: np.asarray(d.embedding) for d in post(alone, '/encode', doubled)}
            for doc in indexed:
                np.testing.assert_array_equal(np.asarray(doc.embedding), want[doc.id])
                assert doc.tags == {d.id: d for d in docs}[doc.id].tags
            for protocol in ('grpc', 'http', 'websocket'):
                found = client_of(ports, protocol).post('/search', inputs=queries, return_type=DocList[Found])
                assert len(found) == len(queries)
                for doc in found:
                    nearest = sorted(docs, key=lambda d: np.linalg.norm(want[d.id] - want[doc.id]))[:3]
                    assert doc.near == [d.id for d in nearest], protocol
    finally:
        codes = [server.stop() for server in servers]
    assert codes == [0, 0]
