"""Walks tests/golden.list for one docarray: each captured request to a running service, or with the captured embeddings to the
code that makes its answers (wire_reply), and the reply compared."""
import os
import pathlib
import subprocess

import grpc
from google.protobuf import json_format
from jina.proto import jina_pb2

ROOT = pathlib.Path(__file__).resolve().parents[1]
DATA = ROOT / 'data' / 'jina'
SINGLE, STREAM_DOC = '/jina.JinaSingleDataRequestRPC/process_single_data', '/jina.JinaSingleDocumentRequestRPC/stream_doc'


def rows(flavour):
    """(reply, request, how, fields that differ) of every line; what is captured and not listed is an error."""
    listed = []
    for line in (ROOT / 'golden.list').read_text().splitlines():
        if line and not line.startswith('#'):
            reply, request, how, why = (part.strip() for part in line.split('|'))
            words = how.split()
            assert why and words[0] in ('equal', 'parsed', 'but'), line
            if reply.startswith(flavour + '/'):
                listed.append((reply, None if request == '-' else f'{flavour}/{request}', words[0], words[1:]))
    captured = {f'{flavour}/{f.stem}' for f in (DATA / flavour).glob('*.bin') if f.stem.startswith(('resp_', 'status_', 'reflection_', 'endpoint_'))}
    assert captured == {reply for reply, *_ in listed}
    return listed


def read(name):
    return (DATA / f'{name}.bin').read_bytes()


def without(message, paths):
    """The message without the fields at these paths."""
    kept = type(message)()
    kept.CopyFrom(message)
    for path in paths:
        *outer, last = path.split('.')
        at = kept
        for name in outer:
            at = getattr(at, name)
        at.ClearField(last)
    return kept


def check(raw, name, request, how, paths, kind=jina_pb2.DataRequestProto):
    """One reply. Returns both messages, for what a test wants to see of the fields that differ."""
    theirs = read(name)
    ours = raw(read(request) if request else b'', timeout=10)
    if how == 'equal':
        assert ours == theirs, name
    a, b = kind.FromString(ours), kind.FromString(theirs)
    differ = [f.name for f in kind.DESCRIPTOR.fields if str(getattr(without(a, paths), f.name)) != str(getattr(without(b, paths), f.name))]
    assert without(a, paths) == without(b, paths), (name, differ)
    for path in paths:  # a field that is said to differ does
        assert without(a, set(paths) - {path}) != without(b, set(paths) - {path}), (name, path)
    return a, b


def embedded(form):
    probe = os.path.join(os.environ['FT_BUILD'], 'tests', 'wire_reply')
    return lambda message, timeout: subprocess.run([probe, form], input=message, timeout=timeout, check=True,
                                                   capture_output=True).stdout


def walk(port, flavour):
    from grpc_reflection.v1alpha import reflection_pb2
    checked = []
    with grpc.insecure_channel(f'127.0.0.1:{port}') as channel:
        unary = channel.unary_unary
        for name, request, how, paths in rows(flavour):
            short = name.split('/')[1]
            if short.startswith('resp_stream_doc'):
                call = channel.unary_stream(STREAM_DOC)
                check(lambda message, timeout: next(call(message, timeout=timeout)), name, request, how, paths,
                      jina_pb2.SingleDocumentRequestProto)
            elif short in ('resp_encode', 'resp_list'):  # with the embeddings that were captured
                check(embedded('list' if short == 'resp_list' else 'single'), name, request, how, paths)
            elif short.startswith('resp_'):
                ours, theirs = check(unary(SINGLE), name, request, how, paths)
                if short == 'resp_boom':
                    # the endpoint is nobody's here, so that nothing is wrong with it: an error of ours has the form of theirs
                    same_form(unary, theirs)
            elif short.startswith('reflection'):
                call = channel.stream_stream('/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo')
                ours, theirs = check(lambda _, timeout: next(call(iter([b'\x3a\x00']), timeout=timeout)), name, request, how, paths,
                                     reflection_pb2.ServerReflectionResponse)
                listed = [[s.name for s in m.list_services_response.service] for m in (ours, theirs)]
                assert set(listed[1]) <= set(listed[0]) and set(listed[0]) - set(listed[1]) == {
                    'finetuner.v1.Finetuner', 'grpc.health.v1.Health', 'grpc.reflection.v1.ServerReflection'}
            elif short.startswith('endpoint'):
                ours, theirs = check(unary('/jina.JinaDiscoverEndpointsRPC/endpoint_discovery'), name, request, how, paths,
                                     jina_pb2.EndpointsProto)
                if 'recommended' in short:
                    text = json_format.MessageToJson(ours, sort_keys=True).replace('"FinetunerTextDoc"', '"TextDoc"')
                    assert text == json_format.MessageToJson(theirs, sort_keys=True)
            else:
                ours, theirs = check(unary('/jina.JinaInfoRPC/_status'), name, request, how, paths, jina_pb2.JinaInfoProto)
                assert set(ours.envs) == set(theirs.envs)
            checked.append(f'{short} {how}')
    return checked


def same_form(unary, theirs):
    request = jina_pb2.DataRequestProto()
    request.header.exec_endpoint = '/status'
    message, call = unary(SINGLE).with_call(request.SerializeToString(), timeout=10)
    ours = jina_pb2.DataRequestProto.FromString(message)
    assert ('is-error', 'true') in [tuple(m) for m in call.trailing_metadata()] and call.code() == grpc.StatusCode.OK
    for status, cause in ((ours.header.status, ours.header.status.exception.args[0]), (theirs.header.status, None)):
        exception = status.exception
        assert status.code == jina_pb2.StatusProto.ERROR and exception.executor
        values = repr(cause) if cause is not None else "'boom', 42"
        assert status.description == f'{exception.name}({values})'
        assert exception.stacks[-1].startswith(f'{exception.name}: ') and exception.stacks[-1].endswith('\n')
    assert [f.name for f, _ in ours.header.status.ListFields()] == [f.name for f, _ in theirs.header.status.ListFields()]
    assert not ours.routes and not theirs.routes
