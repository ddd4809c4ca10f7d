"""Chains of Python's executors and ours in real Flows of docarray 0.21, through every gateway. Run with jina 3.34 and 3.20.2."""
from service import FIT, VECTORS, Server, free_port, map_at_r  # first: it sets Jina's environment

import jina
import numpy as np
import pytest
from docarray import Document, DocumentArray
from documents import same_but_embedding
from jina import Client, Executor, Flow, requests
from jina.excepts import BadServer


class Prepare(Executor):
    """In front of ours: doubles the tensors, so that it is seen to have been there."""

    @requests(on=['/index', '/search'])
    def double(self, docs, **kwargs):
        for doc in docs:
            doc.tensor = np.asarray(doc.tensor) * 2


class Indexer(Executor):
    """Behind ours: keeps what has an embedding, finds the nearest."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.kept = DocumentArray()

    @requests(on='/index')
    def index(self, docs, **kwargs):
        self.kept.extend(docs)

    @requests(on='/search')
    def search(self, docs, **kwargs):
        docs.match(self.kept, metric='euclidean', limit=3)


def vector_docs(seed, each, classes=6):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(classes, 16)).astype('float32')
    return DocumentArray(
        Document(id=f'{seed}-{i}', tensor=(centres[i % classes] + 0.8 * rng.normal(size=16)).astype('float32'),
                 tags={'finetuner_label': f'c{i % classes}', 'n': {'x': [1.0, None, True, 'y']}}, weight=0.5, location=[1.0, 2.0],
                 mime_type='x/y', uri=f'shelf/{i}', chunks=[Document(text='inner')], embedding=np.zeros(3) if i % 4 == 0 else None)
        for i in range(classes * each))


@pytest.fixture(scope='module')
def servers(tmp_path_factory):
    servers = [Server(tmp_path_factory.mktemp(name), VECTORS) for name in ('a', 'b')]
    yield servers
    assert [server.stop() for server in servers] == [0, 0]


@pytest.fixture(scope='module')
def flow(servers):
    """Python -> ours -> ours -> Python."""
    ports = [free_port() for _ in range(3)]
    flow = Flow(protocol=['grpc', 'http', 'websocket'], port=ports).add(name='prepare', uses=Prepare)
    for name, server in zip(('tuner', 'again'), servers):
        flow = flow.add(name=name, external=True, host='127.0.0.1', port=server.port)
    with flow.add(name='indexer', uses=Indexer):
        yield dict(zip(('grpc', 'http', 'websocket'), ports))


def client_of(flow, protocol, **kwargs):
    return Client(host='127.0.0.1', port=flow[protocol], protocol=protocol, **kwargs)


def test_indexer_finds_by_our_embeddings(servers, flow):
    docs, queries = vector_docs(5, each=4), vector_docs(6, each=2)
    indexed = client_of(flow, 'grpc').post('/index', inputs=docs)
    doubled = DocumentArray(Document(id=d.id, tensor=d.tensor * 2) for d in docs + queries)
    want = {d.id: d.embedding for d in Client(host='127.0.0.1', port=servers[0].port).post('/encode', inputs=doubled)}
    for doc in indexed:
        np.testing.assert_array_equal(doc.embedding, want[doc.id])
    for protocol in ('grpc', 'http', 'websocket'):
        for stream in (True, False) if protocol == 'grpc' else (True,):
            found = client_of(flow, protocol, stream=stream).post('/search', inputs=queries)
            assert len(found) == len(queries)
            for doc in found:
                nearest = sorted(docs, key=lambda d: np.linalg.norm(want[d.id] - want[doc.id]))[:3]
                assert [m.id for m in doc.matches] == [d.id for d in nearest], protocol
    print(f'\njina {jina.__version__}, docarray 0.21: Python -> C -> C -> Python through grpc, http, websocket')


def test_train_fit_encode_in_the_chain(servers, flow):
    """`tuner` keeps and tunes; the second of ours stores too and passes everything on."""
    client = client_of(flow, 'grpc')
    train, held_out = vector_docs(1, each=20), vector_docs(2, each=20)
    same_but_embedding(train, client.post('/train', inputs=train, parameters={'dataset': 'shelf'}))
    alone = Client(host='127.0.0.1', port=servers[0].port)
    before = alone.post('/encode', inputs=held_out)
    same_but_embedding(held_out, before)
    responses = alone.post('/fit', inputs=DocumentArray([Document()]), return_responses=True,
                           parameters={**FIT, 'epochs': 300, 'dataset': 'shelf', 'wait': True})
    assert responses[0].parameters['__results__']['tuner']['status'] == 'FINISHED'
    for protocol in ('grpc', 'http', 'websocket'):
        # `again` has not been tuned: it embeds last, unless it is told to do so elsewhere
        through = client_of(flow, protocol).post('/encode', inputs=held_out[:3])
        assert all(doc.embedding is not None and len(doc.embedding) == 16 for doc in through), protocol
    after = alone.post('/encode', inputs=held_out)
    same_but_embedding(held_out, after)
    was, now = (map_at_r(np.stack([d.embedding for d in docs]), [d.tags['finetuner_label'] for d in docs]) for docs in (before, after))
    print(f'\nMAP@R of held-out vectors, jina {jina.__version__}, docarray 0.21: {was:.3f} -> {now:.3f}')
    assert now > was + 0.02


def test_errors_stop_the_chain(flow):
    bad = DocumentArray([Document(id='t', tensor=np.zeros(5, 'float32'))])
    with pytest.raises(BadServer) as refusal:
        client_of(flow, 'grpc').post('/index', inputs=bad)
    status = refusal.value.args[0].status
    assert "document 0 (id 't')" in status.description and status.exception.executor == 'Finetuner'
