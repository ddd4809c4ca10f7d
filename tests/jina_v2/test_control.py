"""What tools ask: reflection against gRPC's own client, and against the descriptors that Jina and gRPC ship; limits of messages."""
import pathlib
import sys
import zlib

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / 'jina'))
from service import VECTORS, Server  # noqa: E402

import grpc  # noqa: E402
import pytest  # noqa: E402
from docarray.proto.pb import docarray_pb2  # noqa: E402
from google.protobuf import descriptor_pb2  # noqa: E402
from google.protobuf.descriptor_pool import DescriptorPool  # noqa: E402
from grpc_health.v1 import health_pb2  # noqa: E402
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc  # noqa: E402
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase  # noqa: E402
from jina.proto import jina_pb2  # noqa: E402

SINGLE = '/jina.JinaSingleDataRequestRPC/process_single_data'
METHODS = {
    'jina.JinaDataRequestRPC': ['process_data'], 'jina.JinaSingleDataRequestRPC': ['process_single_data'],
    'jina.JinaSingleDocumentRequestRPC': ['stream_doc'], 'jina.JinaRPC': ['Call'], 'jina.JinaInfoRPC': ['_status'],
    'jina.JinaDiscoverEndpointsRPC': ['endpoint_discovery'], 'jina.JinaGatewayDryRunRPC': ['dry_run'],
    'grpc.health.v1.Health': ['Check', 'Watch'], 'grpc.reflection.v1alpha.ServerReflection': ['ServerReflectionInfo'],
    'grpc.reflection.v1.ServerReflection': ['ServerReflectionInfo'],
    'finetuner.v1.Finetuner': ['Push', 'Fit', 'GetRun', 'ListRuns', 'CancelRun', 'DeleteRun', 'Watch', 'Pull', 'Encode',
                               'ListDatasets', 'GetDataset', 'DeleteDataset', 'DeleteDocuments', 'PushModel', 'ListModels',
                               'GetModel', 'DeleteModel', 'Finetune'],
}


@pytest.fixture(scope='module')
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp('control'), VECTORS, '--message-mb', '4', '--messages-mb', '32')
    yield server
    assert server.stop() == 0


@pytest.fixture(scope='module')
def channel(server):
    with grpc.insecure_channel(f'127.0.0.1:{server.port}', options=[('grpc.max_send_message_length', -1)]) as channel:
        yield channel


def test_every_service_is_listed_and_described(channel):
    database = ProtoReflectionDescriptorDatabase(channel)
    pool = DescriptorPool(database)
    assert set(database.get_services()) == set(METHODS)
    for service, methods in METHODS.items():
        described = pool.FindServiceByName(service)
        assert [m.name for m in described.methods] == methods
        for method in described.methods:  # all of a message is found, whatever file it is in
            for message in (method.input_type, method.output_type):
                assert pool.FindMessageTypeByName(message.full_name) is message


def fields_of(message):
    """Names, numbers, types, with those of messages inside: what the wire is."""
    mine = {f.name: (f.number, f.type, f.label, f.message_type.full_name if f.message_type else None,
                     [(v.name, v.number) for v in f.enum_type.values] if f.enum_type else None,
                     f.containing_oneof.name if f.containing_oneof else None) for f in message.fields}
    return mine, {inner.name: fields_of(inner) for inner in message.nested_types}


def test_what_is_described_is_what_others_ship(channel):
    pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
    compared = 0
    for shipped in (jina_pb2, docarray_pb2, health_pb2, reflection_pb2):
        for name, message in shipped.DESCRIPTOR.message_types_by_name.items():
            try:
                ours = pool.FindMessageTypeByName(message.full_name)
            except KeyError:  # what no executor sends or reads
                assert name.startswith(('Snapshot', 'Restore', 'RelatedEntity', 'DataRequestProtoWoData', 'KeyValue', 'GenericDict',
                                        'ListOfDoc', 'DocVec')), name
                continue
            assert fields_of(ours) == fields_of(message), name
            compared += 1
        for name, service in shipped.DESCRIPTOR.services_by_name.items():
            if service.full_name in METHODS:
                ours = pool.FindServiceByName(service.full_name)
                assert [(m.name, m.input_type.full_name, m.output_type.full_name, m.client_streaming, m.server_streaming)
                        for m in ours.methods] == [(m.name, m.input_type.full_name, m.output_type.full_name, m.client_streaming,
                                                    m.server_streaming) for m in service.methods]
    assert compared > 20
    print(f'\nreflection: {len(METHODS)} services, {compared} messages as others ship them')


def ask(channel, **question):
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    (answer,) = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(**question)]))
    return answer


def test_questions_of_all_kinds(channel):
    for symbol in ('jina.StatusProto.StatusCode', 'jina.JinaRPC.Call', 'docarray.NodeProto.text', 'google.protobuf.Struct',
                   'jina.StatusProto.StatusCode.ERROR', 'docarray.DocProto.DataEntry.key'):
        files = ask(channel, file_containing_symbol=symbol).file_descriptor_response.file_descriptor_proto
        first = descriptor_pb2.FileDescriptorProto.FromString(files[0])
        assert symbol.startswith(first.package)
        names = {descriptor_pb2.FileDescriptorProto.FromString(f).name for f in files}
        assert set(first.dependency) <= names and len(names) == len(files)
    for symbol in ('jina', 'jina.', 'jina.Nothing', 'jina.JinaRPC.Call.x', '', '.', 'JinaRPC', 'docarray.NodeProto.texts'):
        assert ask(channel, file_containing_symbol=symbol).error_response.error_code == 5, symbol
    assert ask(channel, file_by_filename='docarray.proto').file_descriptor_response.file_descriptor_proto
    assert ask(channel, file_by_filename='nothing.proto').error_response.error_code == 5
    assert ask(channel, all_extension_numbers_of_type='jina.HeaderProto').all_extension_numbers_response.base_type_name
    assert ask(channel, all_extension_numbers_of_type='jina.Nothing').error_response.error_code == 5
    question = reflection_pb2.ExtensionRequest(containing_type='jina.HeaderProto', extension_number=100)
    assert ask(channel, file_containing_extension=question).error_response.error_code == 5


def test_status_says_what_it_is(channel):
    raw = channel.unary_unary('/jina.JinaInfoRPC/_status')
    info = jina_pb2.JinaInfoProto.FromString(raw(b'', timeout=5))
    assert {'finetuner', 'grpc', 'jina-proto', 'platform', 'platform-release', 'platform-version', 'architecture', 'uptime'} <= set(info.jina)
    assert info.envs['JINA_LOG_LEVEL'] and info.envs['JINA_K8S_ACCESS_MODES'] == '(unset)'
    raw = channel.unary_unary('/jina.JinaGatewayDryRunRPC/dry_run')
    assert jina_pb2.StatusProto.FromString(raw(b'', timeout=5)).code == jina_pb2.StatusProto.SUCCESS


def request(size):
    message = jina_pb2.DataRequestProto()
    message.header.exec_endpoint = '/pass'
    doc = message.data.docs.docs.add()
    doc.data['blob'].blob = bytes(size)
    return message.SerializeToString()


def code_of(call, *args, **kwargs):
    with pytest.raises(grpc.RpcError) as refusal:
        call(*args, timeout=30, **kwargs)
    return refusal.value.code()


def test_messages_have_a_limit(channel, server):
    raw = channel.unary_unary(SINGLE)
    assert raw(request(3 << 20), timeout=30) == request(3 << 20)
    assert code_of(raw, request(5 << 20)) == grpc.StatusCode.RESOURCE_EXHAUSTED
    # a bomb: 64 MiB of zeros in 64 KiB
    for compression in (grpc.Compression.Gzip, grpc.Compression.Deflate):
        assert code_of(raw, request(64 << 20), compression=compression) == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert raw(request(3 << 20), timeout=30, compression=compression) == request(3 << 20)
    assert raw(request(3 << 20), timeout=30) == request(3 << 20)


def test_answers_that_nobody_reads_are_bounded(channel, server):
    """32 MiB of messages may be in hand: clients that do not read their answers are not served without end."""
    with open(f'/proc/{server.process.pid}/status') as status:
        before = int(next(line for line in status if line.startswith('VmRSS')).split()[1])
    slow = grpc.insecure_channel(f'127.0.0.1:{server.port}', options=[('grpc.max_receive_message_length', -1),
                                                                      ('grpc.use_local_subchannel_pool', 1)])
    raw = slow.unary_unary(SINGLE)
    calls = [raw.future(request(3 << 20), timeout=60) for _ in range(60)]
    codes = [call.code() for call in calls]
    with open(f'/proc/{server.process.pid}/status') as status:
        after = int(next(line for line in status if line.startswith('VmRSS')).split()[1])
    slow.close()
    served = codes.count(grpc.StatusCode.OK)
    assert served > 0 and set(codes) <= {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED}, set(codes)
    print(f'\n60 messages of 3 MiB at once: {served} answered, {60 - served} refused, {(after - before) >> 10} MiB more')
    assert after - before < 64 << 10


def test_broken_frames_get_a_status(channel, server):
    raw = channel.unary_unary(SINGLE)
    two_gb = b'\x22\xff\xff\xff\xff\x07\x0a\x01x'
    for broken in (b'\xff\xff\xff', two_gb, b'\x0a\x7f', b'\x22\x04\x0a\x7f\x0a\x00'):
        message, call = raw.with_call(broken, timeout=5)
        answer = jina_pb2.DataRequestProto.FromString(message)
        assert call.code() == grpc.StatusCode.OK and ('is-error', 'true') in [tuple(m) for m in call.trailing_metadata()]
        assert answer.header.status.code == jina_pb2.StatusProto.ERROR
        assert answer.header.status.description.startswith(answer.header.status.exception.name + '(')
    assert code_of(channel.unary_unary('/jina.JinaRPC/Nothing'), b'') == grpc.StatusCode.UNIMPLEMENTED
    assert zlib.crc32(raw(request(100), timeout=5)) == zlib.crc32(request(100))
