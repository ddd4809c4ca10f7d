"""TLS by files: certificates that openssl makes here, asked by grpcio's client. What is wrong with a file is said at the start."""
import collections
import os
import pathlib
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / 'tools'))
import serving  # noqa: E402

import grpc  # noqa: E402
import pytest  # noqa: E402

HEALTH = '/grpc.health.v1.Health/Check'
SERVING = b'\x08\x01'


def openssl(*words, cwd):
    subprocess.run(['openssl', *words], cwd=cwd, check=True, capture_output=True)


def authority(folder, name):
    openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '30', '-subj', f'/CN={name}',
            '-keyout', f'{name}.key', '-out', f'{name}.pem', cwd=folder)


def signed(folder, name, by, days='20'):
    """name.pem and name.key, for localhost and 127.0.0.1, signed by that authority."""
    openssl('req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-subj', f'/CN={name}', '-keyout',
            f'{name}.key', '-out', f'{name}.csr', cwd=folder)
    (folder / 'ext').write_text('subjectAltName=DNS:localhost,IP:127.0.0.1\n')
    openssl('x509', '-req', '-in', f'{name}.csr', '-CA', f'{by}.pem', '-CAkey', f'{by}.key', '-CAcreateserial', '-days', days,
            '-extfile', 'ext', '-out', f'{name}.pem', cwd=folder)


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp('certificates')
    for ca in ('ours', 'clients', 'theirs'):
        authority(folder, ca)
    signed(folder, 'server', 'ours')
    signed(folder, 'renewed', 'ours')
    signed(folder, 'client', 'clients')
    signed(folder, 'stranger', 'theirs')
    openssl('ec', '-in', 'server.key', '-aes128', '-passout', 'pass:x', '-out', 'locked.key', cwd=folder)
    openssl('req', '-x509', '-newkey', 'rsa:1024', '-nodes', '-days', '30', '-subj', '/CN=weak', '-keyout', 'weak.key', '-out', 'weak.pem',
            cwd=folder)
    (folder / 'empty').write_bytes(b'')
    (folder / 'noise').write_bytes(b'\x00\xff' * 500)
    (folder / 'cut.pem').write_bytes((folder / 'server.pem').read_bytes()[:300])
    text = (folder / 'server.pem').read_text()
    (folder / 'spoilt.pem').write_text(text + text.replace('MII', 'AII', 1))
    return folder


class Server(serving.Server):
    """Asked whether it is there by a client that speaks TLS."""

    def __init__(self, folder, files, *flags, client=None):
        self.files, self.client = files, client
        super().__init__(folder, serving.VECTORS, '--tls-cert', str(files / 'server.pem'), '--tls-key', str(files / 'server.key'), *flags)

    def ready(self):
        return ask(self.port, self.files, 'ours', self.client) == SERVING


def ask(port, files, roots, client=None, timeout=30):
    """The answer of a health check, or the status code."""
    def read(name):
        return (files / name).read_bytes()
    own = {} if client is None else {'private_key': read(f'{client}.key'), 'certificate_chain': read(f'{client}.pem')}
    credentials = grpc.ssl_channel_credentials(root_certificates=read(f'{roots}.pem'), **own)
    with grpc.secure_channel(f'localhost:{port}', credentials) as channel:
        try:
            return channel.unary_unary(HEALTH)(b'', timeout=timeout)
        except grpc.RpcError as error:
            return error.code()


def ask_plain(port, timeout=30):
    with grpc.insecure_channel(f'127.0.0.1:{port}') as channel:
        try:
            return channel.unary_unary(HEALTH)(b'', timeout=timeout)
        except grpc.RpcError as error:
            return error.code()


REFUSED = (grpc.StatusCode.UNAVAILABLE,)


def test_who_trusts_our_authority_is_served(files, tmp_path):
    with Server(tmp_path, files) as server:
        assert ask(server.port, files, 'ours') == SERVING
        assert ask(server.port, files, 'theirs') in REFUSED
        assert ask_plain(server.port) in REFUSED
        assert ask(server.port, files, 'ours') == SERVING  # they did it no harm
        assert server.stop() == 0
        assert 'expires=' in (tmp_path / 'server.log').read_text()


def test_clients_must_show_a_certificate_that_is_trusted(files, tmp_path):
    with Server(tmp_path, files, '--tls-client-ca', str(files / 'clients.pem'), client='client') as server:
        assert ask(server.port, files, 'ours', 'client') == SERVING
        assert ask(server.port, files, 'ours') in REFUSED
        assert ask(server.port, files, 'ours', 'stranger') in REFUSED
        assert ask(server.port, files, 'ours', 'server') in REFUSED  # of an authority that vouches for servers only
        assert ask_plain(server.port) in REFUSED
        assert ask(server.port, files, 'ours', 'client') == SERVING
        assert server.stop() == 0


def test_a_renewed_certificate_is_taken_without_a_restart(files, tmp_path):
    for name in ('pem', 'key'):
        (tmp_path / f'server.{name}').write_bytes((files / f'server.{name}').read_bytes())
    for ca in ('ours', 'theirs'):
        (tmp_path / f'{ca}.pem').write_bytes((files / f'{ca}.pem').read_bytes())
    with Server(tmp_path, tmp_path) as server:

        def shown():
            done = subprocess.run(['openssl', 's_client', '-connect', f'127.0.0.1:{server.port}', '-alpn', 'h2'], input=b'',
                                  capture_output=True, timeout=20)
            return done.stdout[done.stdout.index(b'-----BEGIN'):done.stdout.index(b'-----END')]
        def logged(text):
            end = time.monotonic() + 30
            while text not in (tmp_path / 'server.log').read_text():
                assert time.monotonic() < end, text
                time.sleep(0.1)
        first = shown()
        assert first in (files / 'server.pem').read_bytes()
        # Half of a renewal: the key is not the certificate's. The old pair is kept.
        replace(files / 'renewed.key', tmp_path / 'server.key')
        logged('the old certificate is kept reason="tls_key:')
        assert shown() == first
        replace(files / 'weak.pem', tmp_path / 'server.pem')
        logged('the old certificate is kept reason="tls_cert:')
        assert shown() == first
        replace(files / 'renewed.pem', tmp_path / 'server.pem')
        logged('the new certificate is taken')
        assert shown() in (files / 'renewed.pem').read_bytes() and shown() != first
        assert ask(server.port, tmp_path, 'ours') == SERVING
        assert server.stop() == 0


def test_ping_speaks_tls(files, tmp_path):
    with Server(tmp_path, files, '--tls-client-ca', str(files / 'clients.pem'), client='client') as server:

        def ping(*flags):
            return subprocess.run([serving.PROGRAM, 'ping', f'localhost:{server.port}', *flags], capture_output=True, timeout=60).returncode
        own = ['--tls-cert', files / 'client.pem', '--tls-key', files / 'client.key']
        assert ping('--tls-ca', files / 'ours.pem', *own) == 0
        assert ping('--tls-ca', files / 'theirs.pem', *own) == 5
        assert ping('--tls-ca', files / 'ours.pem') == 5
        assert ping() == 5
        assert server.stop() == 0


def test_jina_ping_finds_out_whether_it_is_tls(files, tmp_path):
    """As Kubernetes' YAML and the image's HEALTHCHECK ask: an address that no certificate names, no flags; not verified."""
    jina = tmp_path / 'jina'
    jina.symlink_to(serving.PROGRAM)

    def ping(target, **environment):
        return subprocess.run([jina, 'ping', 'executor', target, '--timeout 9500'], capture_output=True, timeout=60, text=True,
                              env={**os.environ, **environment})
    with Server(tmp_path, files) as server:
        for target in (f'127.0.0.1:{server.port}', f'localhost:{server.port}', f'grpcs://127.0.0.1:{server.port}'):
            assert ping(target).returncode == 0, ping(target)
        assert 'grpc says' not in server.log()  # and it makes no noise
        assert ping(f'grpc://127.0.0.1:{server.port}').returncode == 5
        assert server.stop() == 0
    assert ping(f'127.0.0.1:{server.port}').returncode == 5
    with Server(tmp_path, files, '--tls-client-ca', str(files / 'clients.pem'), client='client') as server:
        target = f'127.0.0.1:{server.port}'

        def own(name):
            return {'FINETUNER_PING_CERT': str(files / f'{name}.pem'), 'FINETUNER_PING_KEY': str(files / f'{name}.key')}
        assert ping(target, **own('client')).returncode == 0, ping(target, **own('client'))
        assert ping(target).returncode == 5
        assert ping(target, **own('stranger')).returncode == 5
        assert 'go together' in ping(target, FINETUNER_PING_CERT=str(files / 'client.pem')).stderr
        assert server.stop() == 0
    with serving.Server(tmp_path, serving.VECTORS) as server:  # plain
        assert ping(server.target).returncode == 0
        assert ping(f'grpcs://{server.target}').returncode == 5
        assert server.stop() == 0


def test_strangers_do_not_write_the_log(files, tmp_path):
    """A scan of ports: what gRPC says of one kind is logged once a minute, with how often."""
    with Server(tmp_path, files) as server:
        for i in range(120):
            with socket.create_connection(('127.0.0.1', server.port), timeout=20) as stranger:
                stranger.sendall(b'GET / HTTP/1.0\r\n\r\n' if i % 2 else b'\x00' * 200)
                stranger.settimeout(20)
                try:
                    while stranger.recv(4096):
                        pass
                except OSError:
                    pass
        assert ask(server.port, files, 'ours') == SERVING
        assert server.stop() == 0
    said = [line for line in server.log().splitlines() if 'grpc says' in line]
    assert 1 <= len(said) <= 8, said
    counted = sum(int(line.rsplit('more=', 1)[1]) if 'more=' in line else 1 for line in said)
    assert counted >= 120 and all(' warning rpc ' in line for line in said), said


def test_handshakes_while_certificates_are_renewed(files, tmp_path):
    """Many at a time, each shown a whole certificate, none refused."""
    for name in ('pem', 'key'):
        (tmp_path / f'server.{name}').write_bytes((files / f'server.{name}').read_bytes())
    (tmp_path / 'ours.pem').write_bytes((files / 'ours.pem').read_bytes())
    shown, faults, over = collections.Counter(), [], threading.Event()

    def shake(port):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(tmp_path / 'ours.pem')
        context.set_alpn_protocols(['h2'])
        while not over.is_set():
            try:
                with socket.create_connection(('127.0.0.1', port), timeout=60) as plain:
                    with context.wrap_socket(plain, server_hostname='localhost') as secure:
                        shown[secure.getpeercert()['serialNumber']] += 1
            except OSError as error:
                faults.append(error)
    with Server(tmp_path, tmp_path) as server:
        threads = [threading.Thread(target=shake, args=(server.port,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        try:
            for i in range(int(os.environ.get('FT_RENEWALS', '3'))):
                before = server.log().count('the new certificate is taken')
                for part in ('key', 'pem'):
                    replace(files / f'{("renewed", "server")[i % 2]}.{part}', tmp_path / f'server.{part}')
                end = time.monotonic() + 60
                while server.log().count('the new certificate is taken') == before:
                    assert time.monotonic() < end
                    time.sleep(0.05)
                seen, end = sum(shown.values()), time.monotonic() + 60
                while sum(shown.values()) < seen + 40 and time.monotonic() < end:
                    time.sleep(0.05)
        finally:
            over.set()
            for thread in threads:
                thread.join()
        assert faults == [] and len(shown) == 2 and min(shown.values()) >= 40, (faults[:3], shown)
        assert server.stop() == 0


def replace(source, target):
    fresh = target.with_suffix('.new')
    fresh.write_bytes(source.read_bytes())
    os.replace(fresh, target)


@pytest.mark.parametrize('cert,key,ca,code,parts', [
    ('missing', 'server.key', None, 4, ['tls_cert', 'missing']),
    ('server.pem', 'missing', None, 4, ['tls_key', 'missing']),
    ('server.pem', 'server.key', 'missing', 4, ['tls_client_ca', 'missing']),
    ('.', 'server.key', None, 3, ['tls_cert', 'directory']),
    ('empty', 'server.key', None, 3, ['tls_cert', 'empty', 'no certificate']),
    ('noise', 'server.key', None, 3, ['tls_cert', 'noise', 'no certificate']),
    ('cut.pem', 'server.key', None, 3, ['tls_cert', 'cut.pem']),
    ('spoilt.pem', 'server.key', None, 3, ['tls_cert', 'spoilt.pem', 'certificate 2']),
    ('server.key', 'server.key', None, 3, ['tls_cert', 'no certificate']),
    ('weak.pem', 'weak.key', None, 3, ['tls_cert', 'weak.pem', 'too small']),
    ('server.pem', 'server.pem', None, 3, ['tls_key', 'no private key']),
    ('server.pem', 'noise', None, 3, ['tls_key', 'no private key']),
    ('server.pem', 'renewed.key', None, 3, ['tls_key', 'renewed.key', 'does not belong']),
    ('server.pem', 'locked.key', None, 3, ['tls_key', 'passphrase']),
    ('server.pem', 'server.key', 'empty', 3, ['tls_client_ca', 'no certificate']),
    ('server.pem', None, None, 3, ['tls_cert is set and tls_key is not']),
    (None, 'server.key', None, 3, ['tls_key is set and tls_cert is not']),
    (None, None, 'clients.pem', 3, ['tls_client_ca is set without']),
])
def test_what_is_wrong_is_said_at_the_start(files, tmp_path, cert, key, ca, code, parts):
    command = [str(serving.PROGRAM), 'serve', '--host', '127.0.0.1', '--port', '0', '--workspace', str(tmp_path)]
    for flag, name in (('--tls-cert', cert), ('--tls-key', key), ('--tls-client-ca', ca)):
        command += [] if name is None else [flag, str(files / name)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith('finetuner serve: ') and all(part in last for part in parts), last


def test_a_file_that_may_not_be_read(files):
    """Root reads everything: then it is asked as somebody else, in a folder of his."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        folder.chmod(0o777)
        for file in ('server.pem', 'server.key'):
            (folder / file).write_bytes((files / file).read_bytes())
        (folder / 'server.key').chmod(0)
        program = shutil.copy(serving.PROGRAM, folder)  # the build may lie where strangers may not look
        user = ['setpriv', '--reuid', '65534', '--regid', '65534', '--clear-groups', '--inh-caps', '-all'] if os.getuid() == 0 else []
        done = subprocess.run([*user, str(program), 'serve', '--host', '127.0.0.1', '--port', '0', '--workspace',
                               str(folder / 'data'), '--tls-cert', str(folder / 'server.pem'), '--tls-key', str(folder / 'server.key')],
                              capture_output=True, text=True, timeout=60)
        assert done.returncode == 1 and 'tls_key' in done.stderr and 'Permission denied' in done.stderr, done
