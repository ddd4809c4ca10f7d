"""The page for Prometheus, read by prometheus_client's own parser: while calls run it is always whole, afterwards its sums equal
the calls that were made. Names and labels of Jina's are those of a page that was captured from a real executor."""
import collections
import http.client
import importlib
import pathlib
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / 'tools'))
import serving  # noqa: E402

import grpc  # noqa: E402
import numpy as np  # noqa: E402
import onnx  # noqa: E402
import pytest  # noqa: E402
from prometheus_client.parser import text_string_to_metric_families  # noqa: E402

ROOT = serving.ROOT
NAME = 'myexec/rep-0'
SINGLE = 'jina.JinaSingleDataRequestRPC/process_single_data'


@pytest.fixture(scope='module')
def protos(tmp_path_factory):
    out = tmp_path_factory.mktemp('generated')
    files = ['finetuner/v1/finetuner.proto', 'jina.proto', 'docarray.proto']
    subprocess.run([sys.executable, '-m', 'grpc_tools.protoc', f'-I{ROOT}/proto', f'--python_out={out}', f'--grpc_python_out={out}',
                    *files], check=True)
    sys.path.insert(0, str(out))
    v1 = importlib.import_module('finetuner.v1.finetuner_pb2')
    v1.stub = importlib.import_module('finetuner.v1.finetuner_pb2_grpc').FinetunerStub
    return v1, importlib.import_module('jina_pb2'), importlib.import_module('docarray_pb2')


class Watched(serving.Server):
    def __init__(self, folder, *flags, **environment):
        self.page = serving.free_port()
        super().__init__(folder, serving.VECTORS, '--name', NAME, '--monitoring', '--port-monitoring', str(self.page), *flags, **environment)

    def scrape(self, path='/metrics', timeout=20):
        with urllib.request.urlopen(f'http://127.0.0.1:{self.page}{path}', timeout=timeout) as answer:
            assert answer.status == 200 and answer.headers['Content-Type'] == 'text/plain; version=0.0.4; charset=utf-8'
            return answer.read().decode()


@pytest.fixture(scope='module')
def server(tmp_path_factory):
    with Watched(tmp_path_factory.mktemp('metrics')) as server:
        yield server
        assert server.stop() == 0


def samples(text):
    """{name: {labels: value}}; a sample twice is an error."""
    out = collections.defaultdict(dict)
    for family in text_string_to_metric_families(text):
        for s in family.samples:
            key = tuple(sorted(s.labels.items()))
            assert key not in out[s.name], (s.name, key)
            out[s.name][key] = s.value
    return out


def total(found, name, **labels):
    return sum(v for k, v in found[name].items() if set(labels.items()) <= set(k))


def until(server, check, seconds=30):
    """A call is counted once it is over, which may be a moment after its client has the answer."""
    end = time.monotonic() + seconds
    while True:
        found = samples(server.scrape())
        if check(found) or time.monotonic() > end:
            assert check(found), {k: v for k, v in found.items() if k.startswith('finetuner_requests')}
            return found
        time.sleep(0.1)


def width():
    return onnx.load(serving.VECTORS).graph.input[0].type.tensor_type.shape.dim[1].dim_value


def vectors(count):
    return [x.astype('<f4').tobytes() for x in np.random.default_rng(3).normal(size=(count, width()))]


def request(protos, endpoint, rows):
    _, jina, docarray = protos
    made = jina.DataRequestProto()
    made.header.request_id = 'r'
    made.header.exec_endpoint = endpoint
    for i, row in enumerate(rows):
        doc = made.data.docs.docs.add()
        doc.data['id'].text = str(i)
        doc.data['tensor'].ndarray.dense.CopyFrom(docarray.DenseNdArrayProto(buffer=row, shape=[len(row) // 4], dtype='<f4'))
    return made.SerializeToString()


def send(channel, message):
    return channel.unary_unary('/' + SINGLE)(message, timeout=30)


def test_jinas_names_and_labels_are_there(protos, server):
    with grpc.insecure_channel(server.target) as channel:
        answer = protos[1].DataRequestProto.FromString(send(channel, request(protos, '/encode', vectors(3))))
        assert 'embedding' in answer.data.docs.docs[0].data
        refused = protos[1].DataRequestProto.FromString(send(channel, request(protos, '/encode', [b'1234'])))
        assert refused.header.status.code == protos[1].StatusProto.ERROR
        # What a client calls its endpoint is no label: it would make as many series as it likes.
        for i in range(50):
            send(channel, request(protos, f'/made-up-{i}', []))
    ours = samples(server.scrape())
    theirs = samples((ROOT / 'tests' / 'data' / 'jina' / 'metrics.txt').read_text())
    assert len(theirs) > 15
    for name, rows in theirs.items():
        assert name in ours, name
        assert {tuple(k for k, _ in row) for row in ours[name]} == {tuple(k for k, _ in row) for row in rows}, name
        assert all(dict(row)['runtime_name'] == NAME for row in ours[name])
    assert total(ours, 'jina_successful_requests_total') == 51 and total(ours, 'jina_failed_requests_total') == 1
    assert total(ours, 'jina_document_processed_total', executor_endpoint='/encode') == 3
    assert {dict(row)['executor_endpoint'] for row in ours['jina_process_request_seconds_count']} == {'/encode', 'other'}
    assert server.scrape('/').splitlines()[0] == server.scrape('/metrics').splitlines()[0]


def test_sums_equal_the_calls_while_pages_are_read(protos, server):
    v1 = protos[0]
    before = samples(server.scrape())
    rows = vectors(4)
    each, threads, pages = 30, 3, []
    stop = threading.Event()
    failures = []

    def guarded(work):
        def run():
            try:
                work()
            except Exception as error:  # noqa: BLE001  a thread's failure is the test's
                failures.append(error)
        return run

    def read_pages():
        last = before
        while not stop.is_set():
            page = samples(server.scrape())
            for name in ('finetuner_requests_total', 'finetuner_documents_stored_total', 'jina_successful_requests_total'):
                assert all(page[name][k] >= v for k, v in last[name].items()), name  # nothing that counts goes back
            pages.append(page)
            last = page

    def calls(number):
        def work():
            with grpc.insecure_channel(server.target) as channel:
                stub = v1.stub(channel)
                for i in range(each):
                    send(channel, request(protos, '/encode', rows[:2]))
                    docs = [v1.Document(id=f'{number}-{i}-{k}', label=str(k % 2),
                                        tensor=v1.Tensor(dtype='<f4', shape=[width()], data=row)) for k, row in enumerate(rows)]
                    list(stub.Push(iter([v1.PushRequest(dataset='counted', documents=docs)])))
                    with pytest.raises(grpc.RpcError) as caught:
                        stub.GetRun(v1.GetRunRequest(run='no-such-run'))
                    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
        return work
    readers = [threading.Thread(target=guarded(read_pages)) for _ in range(2)]
    workers = [threading.Thread(target=guarded(calls(n))) for n in range(threads)]
    for t in readers + workers:
        t.start()
    for t in workers:
        t.join()
    stop.set()
    for t in readers:
        t.join()
    assert not failures, failures[0]
    assert len(pages) > 5
    made = each * threads

    def grown(found, name, **labels):
        return total(found, name, **labels) - total(before, name, **labels)
    push, get = 'finetuner.v1.Finetuner/Push', 'finetuner.v1.Finetuner/GetRun'
    after = until(server, lambda f: all(grown(f, 'finetuner_requests_total', method=m) == made for m in (push, get, SINGLE)))
    assert grown(after, 'finetuner_requests_total', method=push, code='OK') == made
    assert grown(after, 'finetuner_requests_total', method=SINGLE, code='OK') == made
    assert grown(after, 'finetuner_requests_total', method=get, code='NOT_FOUND') == made
    assert grown(after, 'finetuner_request_seconds_count', method=push) == made
    assert grown(after, 'finetuner_documents_stored_total') == made * 4
    assert 0 < grown(after, 'finetuner_journal_syncs_total') <= made
    assert grown(after, 'finetuner_journal_bytes_total') > made * 4 * 4 * width()
    assert grown(after, 'finetuner_batch_documents_sum') == made * 2
    assert 0 < grown(after, 'finetuner_batch_documents_count') <= made
    assert grown(after, 'jina_successful_requests_total') == made
    assert grown(after, 'jina_received_request_bytes_sum', executor_endpoint='/encode') == \
        made * len(request(protos, '/encode', rows[:2])) == grown(after, 'finetuner_received_bytes_total', method=SINGLE)
    # A histogram's buckets only grow with their bound, the last is the count.
    for method in (push, get, SINGLE):
        buckets = sorted((float(dict(k)['le']), v) for k, v in after['finetuner_request_seconds_bucket'].items()
                         if dict(k)['method'] == method)
        assert [v for _, v in buckets] == sorted(v for _, v in buckets) and buckets[-1][0] == float('inf')
        assert buckets[-1][1] == total(after, 'finetuner_request_seconds_count', method=method)
    assert total(after, 'finetuner_models') == 1 and total(after, 'finetuner_models_bytes') > 1000
    assert total(after, 'finetuner_serving') == 1 and total(after, 'finetuner_runs') == 0
    assert 10e6 < total(after, 'process_resident_memory_bytes') < 4e9
    assert abs(total(after, 'process_start_time_seconds') - time.time()) < 600


def test_runs_are_counted_by_state(protos, server):
    v1 = protos[0]
    from google.protobuf import struct_pb2
    options = struct_pb2.Struct()
    options.update({'epochs': 1, 'batch_size': 8, 'num_items_per_class': 4, 'seed': 1})
    with grpc.insecure_channel(server.target) as channel:
        stub = v1.stub(channel)
        docs = [v1.Document(id=str(k), label=str(k % 2), tensor=v1.Tensor(dtype='<f4', shape=[width()], data=row))
                for k, row in enumerate(vectors(32))]
        list(stub.Push(iter([v1.PushRequest(dataset='trained', documents=docs)])))
        run = stub.Fit(v1.FitRequest(dataset='trained', options=options))
        assert list(stub.Watch(v1.WatchRequest(run=run.id), timeout=60))[-1].run.status == v1.Run.FINISHED
    found = until(server, lambda f: total(f, 'finetuner_runs', state='FINISHED') == 1)
    assert total(found, 'finetuner_runs') == 1 and len(found['finetuner_runs']) == 5


def test_other_paths_and_methods_are_refused(server):
    for path in ('/metrics/', '/x', '/../etc/passwd', '/metrics%2f', '/metricsx'):
        with pytest.raises(urllib.error.HTTPError) as caught:
            server.scrape(path)
        assert caught.value.code == 404, path
    for method in ('POST', 'PUT', 'DELETE', 'OPTIONS', 'BREW'):
        connection = http.client.HTTPConnection('127.0.0.1', server.page, timeout=20)
        connection.request(method, '/metrics', body=b'x' * 100)
        answer = connection.getresponse()
        assert (answer.status, answer.headers['Allow']) == (405, 'GET, HEAD'), method
        connection.close()
    connection = http.client.HTTPConnection('127.0.0.1', server.page, timeout=20)
    connection.request('HEAD', '/metrics')
    answer = connection.getresponse()
    assert answer.status == 200 and answer.read() == b''
    connection.close()


@pytest.mark.parametrize('sent', [
    b'\x00' * 100, b'\xff\xfe\r\n\r\n', b'GET\r\n\r\n', b'GET / HTTP/9.9\r\n\r\n', b'GET /' + b'a' * 100000 + b' HTTP/1.1\r\n\r\n',
    b'GET / HTTP/1.1\r\n' + b'x: ' + b'y' * 100000 + b'\r\n\r\n', b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
    b'GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n',
    b'GET /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n', b'GET /metrics HTTP/1.1\r\nHost'])
def test_bad_requests_do_not_hurt(server, sent):
    with socket.create_connection(('127.0.0.1', server.page), timeout=20) as s:
        try:
            s.sendall(sent)
            s.shutdown(socket.SHUT_WR)
            while s.recv(65536):
                pass
        except OSError:  # it may be closed before all is sent
            pass
    assert 'finetuner_requests_total' in server.scrape() and server.process.poll() is None


def test_slow_readers_hurt_each_other_only(protos, server):
    slow = []
    for _ in range(60):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        s.settimeout(20)
        s.connect(('127.0.0.1', server.page))
        s.sendall(b'GET /metrics HTTP/1.1\r\nHost: x\r\n')  # the end of the head never comes
        slow.append(s)
    with grpc.insecure_channel(server.target) as channel:
        for _ in range(20):
            start = time.monotonic()
            send(channel, request(protos, '/encode', vectors(1)))
            assert time.monotonic() - start < 10
    for s in slow:
        s.close()
    end = time.monotonic() + 60
    while True:  # the page may still count some of them
        try:
            assert 'finetuner_requests_total' in server.scrape(timeout=60)
            break
        except (ConnectionError, urllib.error.URLError, http.client.HTTPException):
            assert time.monotonic() < end
            time.sleep(0.2)


def test_there_is_no_page_unless_it_is_asked_for(tmp_path):
    port = serving.free_port()
    with serving.Server(tmp_path, serving.VECTORS, '--port-monitoring', str(port)) as server:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(('127.0.0.1', port), timeout=5)
        assert server.stop() == 0


@pytest.mark.parametrize('host', ['0.0.0.0', '::', 'localhost', '127.0.0.1'])
def test_it_listens_where_grpc_does(tmp_path, host):
    """Every address means both families to gRPC, a name all addresses that it stands for."""
    with Watched(tmp_path, '--host', host) as server:
        for address in ('127.0.0.1', '::1'):
            def connects(port):
                try:
                    socket.create_connection((address, port), timeout=20).close()
                    return True
                except OSError:
                    return False
            assert connects(server.page) == connects(server.port), (host, address)
            assert connects(server.page) or address == '::1'  # which a machine may lack
        assert samples(server.scrape())
        assert server.stop() == 0


def test_a_taken_port_is_said_at_the_start(server, tmp_path):
    command = [str(serving.PROGRAM), 'serve', '--host', '127.0.0.1', '--port', '0', '--workspace', str(tmp_path), '--monitoring',
               '--port-monitoring', str(server.page)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 5 and f'port_monitoring: cannot listen on 127.0.0.1:{server.page}' in done.stderr


def test_jinas_flags_ask_for_it(tmp_path):
    """As Flow.to_kubernetes_yaml writes them, started as `jina`."""
    jina = tmp_path / 'jina'
    jina.symlink_to(serving.PROGRAM)
    config = tmp_path / 'config.yml'
    config.write_text(f'jtype: Finetuner\nwith:\n  model: {serving.VECTORS}\n  workspace: {tmp_path}/data\n')
    port, page = serving.free_port(), serving.free_port()
    words = [str(jina), 'executor', '--name', 'exec"\\\n\xe9/rep-0', '--uses', str(config), '--host', '127.0.0.1', '--port', str(port),
             '--port-monitoring', str(page), '--monitoring', '--uses-metas', '{}']
    process = subprocess.Popen(words, stderr=subprocess.PIPE)
    try:
        for _ in range(200):
            if subprocess.run([str(jina), 'ping', 'executor', f'127.0.0.1:{port}'], capture_output=True).returncode == 0:
                break
            time.sleep(0.1)
        with urllib.request.urlopen(f'http://127.0.0.1:{page}/', timeout=20) as answer:
            found = samples(answer.read().decode())
        # The name as it was given: quotes, newlines and all.
        assert list(found['jina_failed_requests_total']) == [(('runtime_name', 'exec"\\\n\xe9/rep-0'),)]
    finally:
        process.terminate()
        process.communicate(timeout=30)
    assert process.returncode == 0
