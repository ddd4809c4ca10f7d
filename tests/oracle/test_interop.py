"""gRPC's interop cases (doc/interop-test-descriptions.md) against tests/tools/interop_server.c, which serves
grpc.testing.TestService on our gRPC server. The client is gRPC's own, as Debian's ruby-grpc ships it; what it lacks is
asked with grpcio.

Not applicable: cacheable_unary (GET requests, gone from the clients); compute_engine_creds, jwt_token_creds,
oauth2_auth_token, per_rpc_creds, google_default_credentials, compute_engine_channel_credentials (Google's accounts);
server_compressed_unary, server_compressed_streaming (our answers are never compressed: embeddings do not get smaller);
rpc_soak, channel_soak, orca_* (load balancers' reports)."""
import os
import pathlib
import subprocess
import time

import grpc
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get('FT_BUILD', ROOT / 'build')).resolve()
RUBY = ['empty_unary', 'large_unary', 'client_compressed_unary', 'client_streaming', 'client_compressed_streaming',
        'server_streaming', 'ping_pong', 'empty_stream', 'timeout_on_sleeping_server', 'cancel_after_begin',
        'cancel_after_first_response', 'unimplemented_method', 'unimplemented_service', 'status_code_and_message',
        'custom_metadata']
# Each case in turn in one process: the client starts slowly. It ends with 1 at the first that fails.
SCRIPT = """
require ARGV[0]
port, cases = ARGV[1], ARGV[2..]
cases.each do |name|
  args = Args.new
  args.server_host, args.server_port, args.test_case, args.secure = '127.0.0.1', port, name, false
  NamedTests.new(create_stub(args), args).method(name).call
  puts "passed #{name}"
end
"""


@pytest.fixture(scope='module')
def port():
    process = subprocess.Popen([BUILD / 'tests' / 'interop_server'], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield int(process.stdout.readline())
        process.stdin.close()
        assert process.wait(timeout=20) == 0, 'bytes of messages stayed in hand, or it crashed'
    finally:
        process.kill()
        process.wait()


def ruby_client():
    folder = subprocess.run(['ruby', '-e', 'puts Gem::Specification.find_by_name("grpc").gem_dir'], capture_output=True,
                            text=True, check=True).stdout.strip()
    return pathlib.Path(folder) / 'src' / 'ruby' / 'pb' / 'test' / 'client.rb'


def test_cases_of_grpcs_own_client(port):
    done = subprocess.run(['ruby', '-e', SCRIPT, ruby_client(), str(port), *RUBY], capture_output=True, text=True, timeout=120)
    passed = [line.split()[1] for line in done.stdout.splitlines() if line.startswith('passed ')]
    print(f'interop: {len(passed)} of {len(RUBY)} cases of {ruby_client().parts[-6]}')
    assert done.returncode == 0 and passed == RUBY, done.stderr


def bytes_field(number, payload):
    size, left = b'', len(payload)
    while left > 127:
        size += bytes([left & 127 | 128])
        left >>= 7
    return bytes([number << 3 | 2]) + size + bytes([left]) + payload


def echo_status(code, text):
    return bytes_field(7, b'\x08' + bytes([code]) + bytes_field(2, text.encode()))


def test_special_status_message(port):
    text = '\t\ntest with whitespace\r\nand Unicode BMP \u263a and non-BMP \U0001f608\t\n'
    with grpc.insecure_channel(f'127.0.0.1:{port}') as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary('/grpc.testing.TestService/UnaryCall')(echo_status(2, text), timeout=10)
        assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.UNKNOWN, text)


def test_half_duplex_answers_after_the_end(port):
    """No interop case has it; the service does."""
    asked, got = [], []

    def requests():
        for size in (9, 0, 27):
            asked.append(size)
            yield bytes_field(2, bytes([8, size]))
            time.sleep(0.1)
            assert got == []
    with grpc.insecure_channel(f'127.0.0.1:{port}') as channel:
        for answer in channel.stream_stream('/grpc.testing.TestService/HalfDuplexCall')(requests(), timeout=10):
            got.append(len(answer))
    assert asked == [9, 0, 27] and [n - 4 for n in got if n > 4] == [9, 27] and len(got) == 3
