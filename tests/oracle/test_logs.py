"""--log-format json: each line one object that Python's json reads, whatever stands in names, ids and reasons."""
import json
import os
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / 'tools'))
import serving  # noqa: E402

import grpc  # noqa: E402
import test_metrics as metrics  # noqa: E402
from test_metrics import protos  # noqa: E402,F401  a fixture

ODD = 'a "quoted"\nline\t\\ \x01\x7f é'


def lines(data):
    assert data.endswith(b'\n')
    out = []
    for line in data[:-1].split(b'\n'):
        def once(pairs):
            assert len({k for k, _ in pairs}) == len(pairs), line
            return dict(pairs)
        out.append(json.loads(line.decode('utf-8'), object_pairs_hook=once))
        assert list(out[-1])[:4] == ['time', 'level', 'room', 'message'] and out[-1]['time'].endswith('Z'), line
        assert len(line) < 4096
    return out


def find(found, message):
    return next(line for line in found if line['message'] == message)


def test_every_line_is_an_object(protos, tmp_path):  # noqa: F811
    v1, jina, _ = protos
    from google.protobuf import struct_pb2
    name = b'my "exec\n\xff\xc3('
    command = [serving.PROGRAM, 'serve', '--host', '127.0.0.1', '--port', str(serving.free_port()), '--workspace', tmp_path / 'data',
               '--model', serving.VECTORS, '--threads', '1', '--log-format', 'json', '--log-level', 'DEBUG', '--name', name]
    server = subprocess.Popen(command, stderr=subprocess.PIPE)
    with grpc.insecure_channel(f'127.0.0.1:{command[5]}') as channel:
        grpc.channel_ready_future(channel).result(timeout=60)
        request = jina.DataRequestProto.FromString(metrics.request(protos, '/train', metrics.vectors(1)))
        request.header.request_id = ODD
        request.parameters.update({'dataset': ODD})
        metrics.send(channel, request.SerializeToString())
        request.header.exec_endpoint = ODD * 300
        request.parameters.update({'dataset': 3})
        metrics.send(channel, request.SerializeToString())
        stub = v1.stub(channel)
        docs = [v1.Document(id=str(k), label=str(k % 2), tensor=v1.Tensor(dtype='<f4', shape=[metrics.width()], data=row))
                for k, row in enumerate(metrics.vectors(32))]
        list(stub.Push(iter([v1.PushRequest(dataset='trained', documents=docs)])))
        options = struct_pb2.Struct()
        options.update({'epochs': 1, 'batch_size': 8, 'num_items_per_class': 4, 'seed': 1})
        run = stub.Fit(v1.FitRequest(dataset='trained', options=options)).id
        list(stub.Watch(v1.WatchRequest(run=run), timeout=60))
        worker = (tmp_path / 'data' / 'runs' / run / 'worker.log').read_bytes()
    server.terminate()
    _, log = server.communicate(timeout=30)
    assert server.returncode == 0
    found = lines(log)
    serving_line = find(found, 'serving')
    assert serving_line['port'] == int(command[5]) and serving_line['name'] == 'my "exec\n\ufffd\ufffd(' and serving_line['level'] == 'info'
    refused = find(found, 'request refused')
    assert refused['request'] == ODD and refused['endpoint'] == '/train' and 'is no name' in refused['reason']
    started, ended = find(found, 'run started'), find(found, 'run ended')
    assert (started['run'], started['room']) == (run, 'runs') and started['pid'] > 1
    assert ended == {**ended, 'run': run, 'status': 'FINISHED', 'reason': ''}
    over = [line for line in found if line['message'] == 'call over' and line['method'] == 'finetuner.v1.Finetuner/Push']
    assert len(over) == 1 and over[0]['status'] == 'OK' and over[0]['bytes_in'] > 32 * 4 * metrics.width() and over[0]['seconds'] > 0
    assert worker == b'' or lines(worker)


def test_words_and_failures_before_the_start_too(tmp_path):
    config = tmp_path / 'config.yml'
    config.write_text('jtype: Finetuner\nrequests:\n  /foo: bar\nwith:\n  log_format: json\n  model: /no/such "model"\n')
    jina = tmp_path / 'jina'
    jina.symlink_to(serving.PROGRAM)
    done = subprocess.run([jina, 'executor', '--uses', config, '--what-is-this', '1', '--workspace', tmp_path / 'data', '--port', '0'],
                          capture_output=True, timeout=60)
    found = lines(done.stderr)
    assert find(found, 'flag without effect here')['flag'] == '--what-is-this'
    assert find(found, "key of Jina's without effect here")['key'] == 'requests'
    failed = found[-1]
    assert (failed['message'], failed['level'], failed['code']) == ('the command failed', 'error', done.returncode)
    assert '/no/such "model"' in failed['reason'] and done.returncode == 4
    # As a worker gets it.
    done = subprocess.run([serving.PROGRAM, 'worker', '--run', 'no-such-run', '--data-dir', tmp_path], capture_output=True, timeout=60,
                          env={**os.environ, 'FINETUNER_LOG_FORMAT': 'json'})
    assert lines(done.stderr)[-1]['command'] == 'worker' and done.returncode != 0


def test_text_is_the_default_and_others_are_refused(tmp_path):
    done = subprocess.run([serving.PROGRAM, 'serve', '--log-format', 'xml'], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "'xml' is not one of text|json" in done.stderr
