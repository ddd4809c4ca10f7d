"""finetuner.v1 by a client that grpcio-tools generates from proto/: every method, cut streams, deadlines, cancelling, pages,
error details, slow readers, one-call Finetune. The service is a process of its own, trained on vectors of a tiny MLP."""
import hashlib
import importlib
import pathlib
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / 'tools'))
import serving  # noqa: E402

import grpc  # noqa: E402
import numpy as np  # noqa: E402
import onnx  # noqa: E402
import pytest  # noqa: E402
from google.protobuf import struct_pb2  # noqa: E402
from google.rpc import error_details_pb2  # noqa: E402
from grpc_status import rpc_status  # noqa: E402

ROOT = serving.ROOT
CLASSES = 4
FIT = {'epochs': 2, 'batch_size': 16, 'num_items_per_class': 4, 'learning_rate': 0.01, 'seed': 1}


@pytest.fixture(scope='module')
def v1(tmp_path_factory):
    """The generated modules: messages and stubs."""
    out = tmp_path_factory.mktemp('generated')
    subprocess.run([sys.executable, '-m', 'grpc_tools.protoc', f'-I{ROOT}/proto', f'--python_out={out}',
                    f'--grpc_python_out={out}', 'finetuner/v1/finetuner.proto'], check=True)
    sys.path.insert(0, str(out))
    messages = importlib.import_module('finetuner.v1.finetuner_pb2')
    messages.stub = importlib.import_module('finetuner.v1.finetuner_pb2_grpc').FinetunerStub
    return messages


@pytest.fixture(scope='module')
def server(tmp_path_factory):
    with serving.Server(tmp_path_factory.mktemp('v1'), serving.VECTORS) as server:
        yield server
        assert server.stop() == 0


@pytest.fixture(scope='module')
def stub(v1, server):
    with grpc.insecure_channel(server.target, options=[('grpc.max_receive_message_length', -1)]) as channel:
        yield v1.stub(channel)


def field(number, payload):
    """A length-delimited field, by hand."""
    size, left = b'', len(payload)
    while left > 127:
        size += bytes([left & 127 | 128])
        left >>= 7
    return bytes([number << 3 | 2]) + size + bytes([left]) + payload


def options(**more):
    struct = struct_pb2.Struct()
    struct.update({**FIT, **more})
    return struct


def width():
    model = onnx.load(serving.VECTORS)
    return model.graph.input[0].type.tensor_type.shape.dim[1].dim_value


def documents(v1, count, seed=0, **more):
    """Vectors around one centre a class."""
    random = np.random.default_rng(seed)
    n = width()
    centres = np.random.default_rng(99).normal(size=(CLASSES, n))
    out = []
    for i in range(count):
        x = (centres[i % CLASSES] + 0.3 * random.normal(size=n)).astype('<f4')
        out.append(v1.Document(id=f'{seed}-{i}', label=f'class {i % CLASSES}',
                               tensor=v1.Tensor(dtype='<f4', shape=[n], data=x.tobytes()), **more))
    return out


def push(v1, stub, dataset, docs, a_message=16):
    messages = [v1.PushRequest(dataset=dataset, documents=docs[i:i + a_message]) for i in range(0, len(docs), a_message)]
    return list(stub.Push(iter(messages)))


def ended(v1, stub, run, timeout=60):
    events = list(stub.Watch(v1.WatchRequest(run=run), timeout=timeout))
    assert events[-1].WhichOneof('what') == 'run'
    return events


def refused(code, call, field=None):
    """The call's error; its details must name the field."""
    with pytest.raises(grpc.RpcError) as caught:
        answer = call()
        list(answer) if hasattr(answer, '__iter__') else None
    error = caught.value
    assert error.code() == code, error
    if field is not None:
        status = rpc_status.from_call(error)
        assert status.code == code.value[0] and status.message == error.details()
        bad = error_details_pb2.BadRequest()
        assert status.details[0].Unpack(bad)
        assert [v.field for v in bad.field_violations] == [field]
        assert bad.field_violations[0].description == error.details()
    return error


@pytest.fixture(scope='module')
def run(v1, stub):
    """A run that has finished."""
    push(v1, stub, 'trained', documents(v1, 96))
    run = stub.Fit(v1.FitRequest(dataset='trained', name='first', options=options()))
    assert run.status in (v1.Run.CREATED, v1.Run.STARTED) and run.name == 'first' and run.dataset == 'trained'
    assert ended(v1, stub, run.id)[-1].run.status == v1.Run.FINISHED
    return run.id


def test_push_acknowledges_ranges(v1, stub):
    docs = documents(v1, 40)
    answers = push(v1, stub, 'pushed', docs)
    assert [(a.first, a.count, a.stored, a.duplicates) for a in answers] == [(0, 16, 16, 0), (16, 16, 16, 0), (32, 8, 8, 0)]
    assert [(a.stored, a.duplicates) for a in push(v1, stub, 'pushed', docs)] == [(0, 16), (0, 16), (0, 8)]
    found = stub.GetDataset(v1.GetDatasetRequest(dataset='pushed'))
    assert (found.name, found.documents, found.classes) == ('pushed', 40, CLASSES) and found.bytes > 40 * 4 * width()
    assert list(stub.Push(iter([]))) == []
    # The name of a dataset holds for the messages behind it; numbers are labels; texts and blobs are contents.
    tags = struct_pb2.Struct()
    tags.update({'finetuner_label': 'of tags', 'colour': 'red'})
    mixed = [v1.PushRequest(dataset='mixed', documents=[v1.Document(text='a', label_number=3)]),
             v1.PushRequest(documents=[v1.Document(blob=b'b', label='3'), v1.Document(text='c', tags=tags),
                                       v1.Document(text='d', label='own', tags=tags)])]
    assert [(a.first, a.stored) for a in stub.Push(iter(mixed))] == [(0, 1), (1, 3)]
    assert stub.GetDataset(v1.GetDatasetRequest(dataset='mixed')).classes == 3


def test_push_refuses_what_is_no_example(v1, stub):
    def send(*docs, dataset='refused'):
        return lambda: stub.Push(iter([v1.PushRequest(dataset=dataset, documents=docs)]))
    bad = grpc.StatusCode.INVALID_ARGUMENT
    good = v1.Document(text='a', label='b')
    refused(bad, send(good, v1.Document(text='a')), 'documents[1]')
    refused(bad, send(v1.Document(label='b')), 'documents[0]')
    refused(bad, send(v1.Document(uri='file:///etc/passwd', label='b')), 'documents[0]')
    refused(bad, send(good, dataset='../up'), 'dataset')
    refused(bad, send(good, dataset='\u00e9' * 300), 'dataset')
    refused(bad, send(v1.Document(id='x', docarray_v1=b'\x0a\x01y')), 'documents[0].docarray_v1')
    refused(bad, send(v1.Document(label='b', tensor=v1.Tensor(dtype='<f4', shape=[2], data=b'123'))), 'documents[0].tensor')
    refused(grpc.StatusCode.NOT_FOUND, lambda: stub.GetDataset(v1.GetDatasetRequest(dataset='refused')), 'dataset')


def test_a_cut_push_keeps_what_was_acknowledged(v1, server, stub):
    docs = documents(v1, 64)

    def endless():
        for i in range(0, 64, 8):
            yield v1.PushRequest(dataset='cut', documents=docs[i:i + 8])
        time.sleep(30)
    call = stub.Push(endless())
    kept = 0
    for answer in call:
        kept = answer.first + answer.count
        if kept == 40:
            break
    call.cancel()
    server.kill()
    server.start()
    channel = grpc.insecure_channel(server.target)
    again = v1.stub(channel)
    channel_ready = grpc.channel_ready_future(channel)
    channel_ready.result(timeout=10)
    assert again.GetDataset(v1.GetDatasetRequest(dataset='cut')).documents >= kept
    stored = sum(a.stored for a in push(v1, again, 'cut', docs))
    assert stored <= 64 - kept
    assert again.GetDataset(v1.GetDatasetRequest(dataset='cut')).documents == 64
    channel.close()


def test_a_run_is_watched_and_pulled(v1, stub, run):
    found = stub.GetRun(v1.GetRunRequest(run=run))
    assert found.status == v1.Run.FINISHED and found.created and found.started and found.finished
    assert found.progress.step == found.progress.steps > 0 and found.summary['epochs'] == 2
    events = ended(v1, stub, run)
    kinds = [e.WhichOneof('what') for e in events]
    assert [e.index for e in events] == list(range(len(events))) and 'progress' in kinds
    assert all(e.time.endswith('Z') for e in events)
    later = list(stub.Watch(v1.WatchRequest(run=run, **{'from': 2})))
    assert [e.index for e in later] == [e.index for e in events[2:]]
    last = list(stub.Watch(v1.WatchRequest(run=run, **{'from': -1})))
    assert [e.index for e in last] == [len(events) - 2, len(events) - 1]
    chunks = list(stub.Pull(v1.PullRequest(run=run)))
    whole = b''.join(c.data for c in chunks)
    assert hashlib.sha256(whole).hexdigest() == chunks[0].sha256 and len(whole) == chunks[0].size and whole[:2] == b'PK'
    rest = b''.join(c.data for c in stub.Pull(v1.PullRequest(run=run, offset=100)))
    assert rest == whole[100:]
    refused(grpc.StatusCode.INVALID_ARGUMENT, lambda: stub.Pull(v1.PullRequest(run=run, offset=len(whole) + 1)), 'offset')


def test_encode_answers_in_order(v1, stub, run):
    docs = documents(v1, 20, seed=5)
    for d in docs:
        d.ClearField('label')
    messages = [v1.EncodeRequest(model=run, documents=docs[i:i + 7]) for i in range(0, 20, 7)]
    answers = list(stub.Encode(iter(messages)))
    assert [len(a.embeddings) for a in answers] == [7, 7, 6]
    embeddings = [e for a in answers for e in a.embeddings]
    assert [e.id for e in embeddings] == [d.id for d in docs]
    x = np.array([e.values for e in embeddings])
    alone = np.array([next(stub.Encode(iter([v1.EncodeRequest(model=run, documents=[d])]))).embeddings[0].values for d in docs])
    assert np.allclose(x, alone, atol=1e-5)  # batches of other sizes round otherwise
    classes = np.arange(20) % CLASSES
    near = np.linalg.norm(x[:, None] - x[None], axis=2) + 1e9 * np.eye(20)
    assert (classes[near.argmin(axis=1)] == classes).mean() > 0.9
    bad = grpc.StatusCode.INVALID_ARGUMENT
    short = v1.Document(tensor=v1.Tensor(dtype='<f4', shape=[1], data=b'1234'))
    refused(bad, lambda: stub.Encode(iter([v1.EncodeRequest(documents=[docs[0], short])])), 'documents[1]')
    refused(bad, lambda: stub.Encode(iter([v1.EncodeRequest(documents=[v1.Document()])])), 'documents[0]')
    for name in ('no', 'x' + '\u00e9' * 300):  # also where a message cuts it off inside a character
        refused(grpc.StatusCode.NOT_FOUND, lambda: stub.Encode(iter([v1.EncodeRequest(model=name, documents=docs[:1])])), 'model')
    refused(bad, lambda: stub.Encode(iter([v1.EncodeRequest(model='a\0b', documents=docs[:1])])), 'model')


def test_docarray_bytes_are_documents(v1, stub, run):
    n = width()
    x = np.random.default_rng(3).normal(size=n).astype('<f4')
    plain = v1.Document(tensor=v1.Tensor(dtype='<f4', shape=[n], data=x.tobytes()))
    dense = field(1, x.tobytes()) + field(2, bytes([n])) + field(3, b'<f4')
    one = field(1, b'v1') + field(3, field(1, dense))
    node = field(6, field(1, dense))
    two = field(1, field(1, b'id') + field(2, field(1, b'v2'))) + field(1, field(1, b'tensor') + field(2, node))
    answer = next(stub.Encode(iter([v1.EncodeRequest(model=run, documents=[
        plain, v1.Document(docarray_v1=one), v1.Document(docarray_v2=two)])])))
    assert [e.id for e in answer.embeddings] == ['', 'v1', 'v2']
    assert answer.embeddings[0].values == answer.embeddings[1].values == answer.embeddings[2].values


def test_runs_are_listed_cancelled_deleted(v1, stub, run):
    long = options(epochs=100000)
    first = stub.Fit(v1.FitRequest(dataset='trained', options=long, idempotency_key='once'))
    other = struct_pb2.Struct()
    for name in reversed(list(long.fields)):  # a map has no order that a client must keep
        other.fields[name].CopyFrom(long.fields[name])
    again = stub.Fit(v1.FitRequest(dataset='trained', options=other, idempotency_key='once'))
    assert first.id == again.id
    refused(grpc.StatusCode.ALREADY_EXISTS,
            lambda: stub.Fit(v1.FitRequest(dataset='trained', options=options(), idempotency_key='once')))
    waits = stub.Fit(v1.FitRequest(dataset='trained', options=long))
    refused(grpc.StatusCode.FAILED_PRECONDITION, lambda: stub.DeleteRun(v1.DeleteRunRequest(run=waits.id)))
    refused(grpc.StatusCode.FAILED_PRECONDITION, lambda: stub.Pull(v1.PullRequest(run=waits.id)))
    unready = grpc.StatusCode.FAILED_PRECONDITION
    refused(unready, lambda: stub.Encode(iter([v1.EncodeRequest(model=waits.id, documents=documents(v1, 1))])), 'model')
    refused(unready, lambda: stub.Fit(v1.FitRequest(dataset='trained', model=waits.id)), 'model')
    assert stub.CancelRun(v1.CancelRunRequest(run=waits.id)).status == v1.Run.CANCELLED
    stub.CancelRun(v1.CancelRunRequest(run=first.id))
    assert ended(v1, stub, first.id)[-1].run.status == v1.Run.CANCELLED
    assert stub.CancelRun(v1.CancelRunRequest(run=first.id)).status == v1.Run.CANCELLED
    seen, token, pages = [], '', 0
    while True:
        page = stub.ListRuns(v1.ListRunsRequest(page_size=2, page_token=token))
        assert len(page.runs) <= 2
        seen += [r.id for r in page.runs]
        token, pages = page.next_page_token, pages + 1
        if not token:
            break
    everything = [r.id for r in stub.ListRuns(v1.ListRunsRequest()).runs]
    assert seen == everything and pages == (len(seen) + 1) // 2
    assert everything.index(waits.id) < everything.index(first.id) < everything.index(run)
    stub.DeleteRun(v1.DeleteRunRequest(run=waits.id))
    refused(grpc.StatusCode.NOT_FOUND, lambda: stub.GetRun(v1.GetRunRequest(run=waits.id)), 'run')
    refused(grpc.StatusCode.FAILED_PRECONDITION, lambda: stub.DeleteRun(v1.DeleteRunRequest(run=run)))  # it is served
    refused(grpc.StatusCode.INVALID_ARGUMENT, lambda: stub.ListRuns(v1.ListRunsRequest(page_token='x')), 'page_token')


def test_a_key_gives_its_run_though_the_dataset_has_gone(v1, stub):
    push(v1, stub, 'goes', documents(v1, 32))
    request = v1.FitRequest(dataset='goes', options=options(), idempotency_key='of one that goes')
    first = stub.Fit(request)
    ended(v1, stub, first.id)
    stub.DeleteDataset(v1.DeleteDatasetRequest(dataset='goes'))
    assert stub.Fit(request).id == first.id
    request.options['epochs'] = 7
    refused(grpc.StatusCode.ALREADY_EXISTS, lambda: stub.Fit(request), 'idempotency_key')
    request.idempotency_key = 'another'
    refused(grpc.StatusCode.NOT_FOUND, lambda: stub.Fit(request), 'dataset')


def test_damage_on_the_disk_is_not_the_clients_fault(v1, tmp_path):
    """A shard whose head is overwritten: INTERNAL, whoever asks; other datasets go on, and it can be deleted."""
    with serving.Server(tmp_path, serving.VECTORS) as server:
        with grpc.insecure_channel(server.target) as channel:
            push(v1, v1.stub(channel), 'damaged', documents(v1, 32))
        assert server.stop() == 0
        journal = next(p for p in (tmp_path / 'data' / 'datasets' / 'damaged').iterdir() if p.name.startswith('journal'))
        with open(journal, 'r+b') as f:
            f.write(b'\0' * 64)
        server.start()
        with grpc.insecure_channel(server.target) as channel:
            stub = v1.stub(channel)
            ours = grpc.StatusCode.INTERNAL
            refused(ours, lambda: stub.DeleteDocuments(v1.DeleteDocumentsRequest(dataset='damaged', ids=['0-1'])))
            refused(ours, lambda: stub.Push(iter([v1.PushRequest(dataset='damaged', documents=documents(v1, 1))])))
            refused(ours, lambda: stub.GetDataset(v1.GetDatasetRequest(dataset='damaged')))
            assert len(push(v1, stub, 'other', documents(v1, 16))) == 1
            stub.DeleteDataset(v1.DeleteDatasetRequest(dataset='damaged'))
            assert len(push(v1, stub, 'damaged', documents(v1, 16))) == 1
        assert server.stop() == 0


def test_requests_are_checked(v1, stub):
    bad, missing = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
    error = refused(bad, lambda: stub.Fit(v1.FitRequest(dataset='trained', options=options(epoch=3))), 'options')
    assert 'epoch' in error.details()
    refused(bad, lambda: stub.Fit(v1.FitRequest(dataset='trained', options=options(work_dir='/tmp'))), 'options')
    refused(missing, lambda: stub.Fit(v1.FitRequest(dataset='none')), 'dataset')
    refused(missing, lambda: stub.Fit(v1.FitRequest(dataset='trained', model='none')), 'model')
    refused(bad, lambda: stub.GetRun(v1.GetRunRequest()), 'run')
    refused(missing, lambda: stub.Watch(v1.WatchRequest(run='none')), 'run')
    refused(missing, lambda: stub.DeleteModel(v1.DeleteModelRequest(model='none')), 'model')
    refused(grpc.StatusCode.FAILED_PRECONDITION, lambda: stub.DeleteModel(v1.DeleteModelRequest(model=serving.VECTORS.name)))


def test_bytes_that_are_no_message(server):
    with grpc.insecure_channel(server.target) as channel:
        def send(method, message):
            call = channel.unary_unary(f'/finetuner.v1.Finetuner/{method}')
            with pytest.raises(grpc.RpcError) as caught:
                call(message, timeout=10)
            return caught.value.code()
        value = b''  # Value {struct_value {fields {value ...}}}
        for _ in range(7000):
            value = field(5, field(1, field(2, value)))
        deep = field(1, field(2, value))
        bad = grpc.StatusCode.INVALID_ARGUMENT
        assert [send('Fit', m) for m in (b'\xff', b'\x0a\xff\xff\xff\xff\x07', b'\x0a\x02\xc3\x28', b'\x0a\x02a\0', field(5, deep))] == [bad] * 5
        call = channel.stream_stream('/finetuner.v1.Finetuner/Push')
        with pytest.raises(grpc.RpcError) as caught:
            list(call(iter([field(2, field(4, b'text') + field(2, b'label') + field(10, deep))]), timeout=10))
        assert caught.value.code() == bad


def test_datasets_and_models(v1, server, stub):
    push(v1, stub, 'a.first', documents(v1, 12))
    push(v1, stub, 'a.second', documents(v1, 4))
    page = stub.ListDatasets(v1.ListDatasetsRequest(page_size=1))
    assert [d.name for d in page.datasets] == ['a.first']
    page = stub.ListDatasets(v1.ListDatasetsRequest(page_size=1, page_token=page.next_page_token))
    assert [d.name for d in page.datasets] == ['a.second']
    gone = stub.DeleteDocuments(v1.DeleteDocumentsRequest(dataset='a.first', ids=['0-3', '0-7', 'none']))
    assert gone.deleted == 2
    assert stub.GetDataset(v1.GetDatasetRequest(dataset='a.first')).documents == 10
    stub.DeleteDataset(v1.DeleteDatasetRequest(dataset='a.first'))
    refused(grpc.StatusCode.NOT_FOUND, lambda: stub.GetDataset(v1.GetDatasetRequest(dataset='a.first')), 'dataset')
    assert [a.stored for a in push(v1, stub, 'a.first', documents(v1, 12))] == [12]  # it begins anew
    refused(grpc.StatusCode.INVALID_ARGUMENT, lambda: stub.DeleteDataset(v1.DeleteDatasetRequest(dataset='..')), 'dataset')
    (server.folder / 'data' / 'models' / 'another.onnx').write_bytes(serving.VECTORS.read_bytes())
    models = stub.ListModels(v1.ListModelsRequest()).models
    assert {(m.name, m.configured) for m in models} == {('another.onnx', False), (serving.VECTORS.name, True)}
    assert stub.GetModel(v1.GetModelRequest(model='another')).bytes == serving.VECTORS.stat().st_size
    docs = documents(v1, 1)
    assert len(next(stub.Encode(iter([v1.EncodeRequest(model='another', documents=docs)]))).embeddings) == 1
    stub.DeleteModel(v1.DeleteModelRequest(model='another'))
    assert [m.configured for m in stub.ListModels(v1.ListModelsRequest()).models] == [True]


def test_deadlines_and_cancelling(v1, stub, run):
    waiting = stub.Fit(v1.FitRequest(dataset='trained', options=options(epochs=100000)))
    start = time.monotonic()
    refused(grpc.StatusCode.DEADLINE_EXCEEDED, lambda: stub.Watch(v1.WatchRequest(run=waiting.id), timeout=0.7))
    assert time.monotonic() - start < 3
    call = stub.Watch(v1.WatchRequest(run=waiting.id))
    next(call)
    call.cancel()
    assert call.code() == grpc.StatusCode.CANCELLED

    def config():
        yield v1.FinetuneRequest(config=v1.FinetuneConfig(name='cut', options=options(epochs=100000)), documents=documents(v1, 32))
    call = stub.Finetune(config())
    ids = []
    for message in call:
        if message.WhichOneof('what') == 'run':
            ids.append(message.run.id)
            break
    call.cancel()
    for _ in range(100):
        if stub.GetRun(v1.GetRunRequest(run=ids[0])).status == v1.Run.CANCELLED:
            break
        time.sleep(0.1)
    assert stub.GetRun(v1.GetRunRequest(run=ids[0])).status == v1.Run.CANCELLED
    stub.CancelRun(v1.CancelRunRequest(run=waiting.id))
    assert ended(v1, stub, waiting.id)[-1].run.status == v1.Run.CANCELLED


def test_finetune_in_one_call(v1, server, stub):
    docs = documents(v1, 96, seed=7)
    names = {d.name for d in stub.ListDatasets(v1.ListDatasetsRequest()).datasets}

    def requests():
        yield v1.FinetuneRequest(config=v1.FinetuneConfig(name='one call', options=options(), embeddings=True, artifact=True))
        for i in range(0, 96, 32):
            yield v1.FinetuneRequest(documents=docs[i:i + 32])
    answers = list(stub.Finetune(requests(), timeout=60))
    kinds = [a.WhichOneof('what') for a in answers]
    order = ['pushed', 'run', 'event', 'embeddings', 'artifact']
    assert [k for i, k in enumerate(kinds) if i == 0 or k != kinds[i - 1]] == order
    assert [a.pushed.count for a in answers if a.WhichOneof('what') == 'pushed'] == [0, 32, 32, 32]
    run = next(a.run for a in answers if a.WhichOneof('what') == 'run')
    assert run.dataset == '' and not [r for r in stub.ListRuns(v1.ListRunsRequest()).runs if r.dataset.startswith('.')]
    events = [a.event for a in answers if a.WhichOneof('what') == 'event']
    assert events[-1].run.status == v1.Run.FINISHED and events[-1].run.id == run.id
    got = {e.id: e.values for a in answers for e in a.embeddings.embeddings}
    assert set(got) == {d.id for d in docs}
    for d in docs:
        d.ClearField('label')
    same = next(stub.Encode(iter([v1.EncodeRequest(model=run.id, documents=docs)])))
    assert max(abs(np.array(got[e.id]) - e.values).max() for e in same.embeddings) < 1e-5  # batches of other sizes
    chunks = [a.artifact for a in answers if a.WhichOneof('what') == 'artifact']
    assert hashlib.sha256(b''.join(c.data for c in chunks)).hexdigest() == chunks[0].sha256
    assert {d.name for d in stub.ListDatasets(v1.ListDatasetsRequest()).datasets} == names
    assert not [p for p in (server.folder / 'data' / 'datasets').iterdir() if p.name.startswith('.')]


def test_finetune_says_what_is_wrong(v1, stub):
    bad = grpc.StatusCode.INVALID_ARGUMENT
    config = v1.FinetuneConfig(options=options())
    docs = documents(v1, 8)
    refused(bad, lambda: stub.Finetune(iter([])), 'config')
    refused(bad, lambda: stub.Finetune(iter([v1.FinetuneRequest(documents=docs)])), 'config')
    refused(bad, lambda: stub.Finetune(iter([v1.FinetuneRequest(config=config), v1.FinetuneRequest(config=config)])), 'config')
    refused(bad, lambda: stub.Finetune(iter([v1.FinetuneRequest(config=config)])), 'documents')
    wrong = v1.FinetuneConfig(options=options(epoch=1))
    refused(bad, lambda: stub.Finetune(iter([v1.FinetuneRequest(config=wrong, documents=docs)])), 'options')
    for d in docs:
        d.label = 'one'
    error = refused(grpc.StatusCode.FAILED_PRECONDITION,
                    lambda: stub.Finetune(iter([v1.FinetuneRequest(config=config, documents=docs)])))
    assert 'FAILED' in error.details() and 'at least two labels' in error.details()


def settled(number, seconds=2, timeout=60):
    """What `number` says once it has said the same for so long."""
    value, since, until = number(), time.monotonic(), time.monotonic() + timeout
    while time.monotonic() - since < seconds:
        assert time.monotonic() < until, 'it goes on and on'
        time.sleep(0.05)
        if number() != value:
            value, since = number(), time.monotonic()
    return value


def test_an_artifact_reaches_a_client_with_grpcs_own_limits(v1, tmp_path):
    """4 MiB a message, unless a client asks for more."""
    wide = 200_000
    model = onnx.load(serving.VECTORS)
    n = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    weight = onnx.numpy_helper.from_array(np.random.default_rng(0).normal(size=(n, wide)).astype('f4') / n, 'wide')
    back = onnx.numpy_helper.from_array(np.random.default_rng(1).normal(size=(wide, 4)).astype('f4') / wide, 'back')
    nodes = [onnx.helper.make_node('MatMul', ['x', 'wide'], ['h']), onnx.helper.make_node('MatMul', ['h', 'back'], ['y'])]
    graph = onnx.helper.make_graph(nodes, 'g', [onnx.helper.make_tensor_value_info('x', 1, ['N', n])],
                                   [onnx.helper.make_tensor_value_info('y', 1, ['N', 4])], [weight, back])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid('', 17)]), tmp_path / 'wide.onnx')
    with serving.Server(tmp_path, tmp_path / 'wide.onnx') as server, grpc.insecure_channel(server.target) as channel:
        stub = v1.stub(channel)
        push(v1, stub, 'd', documents(v1, 32))
        run = stub.Fit(v1.FitRequest(dataset='d', options=options(epochs=1, keep_head=True))).id
        assert ended(v1, stub, run)[-1].run.status == v1.Run.FINISHED
        chunks = list(stub.Pull(v1.PullRequest(run=run)))
        assert chunks[0].size > 5 << 20 and hashlib.sha256(b''.join(c.data for c in chunks)).hexdigest() == chunks[0].sha256


def test_a_slow_reader_does_not_fill_memory(v1, server, stub, run):
    """The service must not compute what nobody reads: 256 answers of more than 2 MB, and a client that takes none."""
    n, count, messages = width(), 2000, 256
    x = np.random.default_rng(1).normal(size=n).astype('<f4').tobytes()
    docs = [v1.Document(id='i' * 1000, tensor=v1.Tensor(dtype='<f4', shape=[n], data=x)) for _ in range(count)]
    message = v1.EncodeRequest(model=run, documents=docs)
    taken = []

    def requests():
        for i in range(messages):
            taken.append(i)
            yield message
    before = server.memory()
    call = stub.Encode(requests())
    assert settled(lambda: len(taken)) < 40, 'the stream is read on though nobody takes its answers'
    grown = server.memory() - before
    print(f'slow reader of Encode: {len(taken)} of {messages} messages taken, {grown >> 20} MiB more memory')
    assert grown < 64 << 20  # a window of 4 answers, messages in hand, the model's own; all would be 500
    answers = 0
    for answer in call:
        assert len(answer.embeddings) == count
        answers += 1
        if answers == 64:
            call.cancel()
            break


def test_a_full_line_says_when_to_try_again(v1, tmp_path):
    """A line of one request, which waits for others to join it: the next is refused, and told when to come back."""
    with serving.Server(tmp_path, serving.VECTORS, '--encode-queue', '1', '--encode-wait-ms', '5000') as server:
        with grpc.insecure_channel(server.target) as channel:
            stub = v1.stub(channel)
            request = v1.EncodeRequest(documents=documents(v1, 1))
            first = stub.Encode(iter([request]))
            time.sleep(0.5)
            error = refused(grpc.StatusCode.RESOURCE_EXHAUSTED, lambda: stub.Encode(iter([request])))
            info = error_details_pb2.RetryInfo()
            assert rpc_status.from_call(error).details[0].Unpack(info) and 0 < info.retry_delay.ToMilliseconds() <= 30000
            assert len(next(first).embeddings) == 1
        assert server.stop() == 0
