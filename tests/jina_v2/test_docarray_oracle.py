"""Documents against docarray 0.40 itself: what it writes is read, what is spliced it reads, everything else unchanged.

FT_BUILD names the build folder whose tests/wire_probe is run.
"""
import os
import subprocess
from typing import Any, Dict, List, Optional

import numpy as np
from docarray import BaseDoc, DocList
from docarray.base_doc import AnyDoc
from docarray.documents import AudioDoc, ImageDoc, TextDoc
from docarray.documents.legacy import LegacyDocument
from docarray.proto.pb.docarray_pb2 import DocListProto, DocProto
from docarray.typing import AnyEmbedding, ImageUrl, NdArray

PROBE = os.path.join(os.environ['FT_BUILD'], 'tests', 'wire_probe')
KINDS = {'none': 0, 'text': 1, 'blob': 2, 'tensor': 3, 'uri': 4}
SEED = 20262
DTYPES = ['<f2', '<f4', '<f8', '|i1', '<i2', '<i4', '<i8', '|u1', '<u2', '<u4', '<u8', '|b1']


class Labelled(BaseDoc):
    """What a user writes: a label of its own, nested Documents, lists and dicts beside the content."""
    text: Optional[str] = None
    tensor: Optional[NdArray] = None
    blob: Optional[bytes] = None
    uri: Optional[ImageUrl] = None
    finetuner_label: Any = None
    embedding: Optional[AnyEmbedding] = None
    tags: Dict[str, Any] = {}
    inner: Optional[TextDoc] = None
    many: Optional[DocList[ImageDoc]] = None
    words: List[str] = []
    score: float = 0.5
    count: int = -7
    yes: bool = True


def label_text(value):
    if isinstance(value, str):
        return value
    return str(int(value)) if float(value).is_integer() else None  # others are compared as numbers


def documents(rng):
    """(Document, kind of its content, label)"""
    for i in range(240):
        label = [f'klasse ü {i % 7}', i % 5, float(rng.normal()), None, -3, '', True, 'x' * 300][i % 8]
        where = 'field' if i % 3 == 0 else 'tags'
        tags = {'n': i, 'nested': {'list': [1, 'a', None, {'finetuner_label': 'not mine'}]}}
        if where == 'tags' and label is not None:
            tags['finetuner_label'] = label
        want = None if label in (None, '') or isinstance(label, bool) else label
        kind = ['text', 'blob', 'tensor', 'uri', 'none'][i % 5]
        content = {
            'text': {'text': 'text ∆ ' * int(rng.integers(1, 50))},
            'blob': {'blob': rng.bytes(int(rng.integers(1, 3000)))},
            'tensor': {'tensor': np.asarray(rng.normal(size=rng.integers(1, 6, int(rng.integers(0, 5)))) * 50).astype(DTYPES[i // 5 % 12])},
            'uri': {'uri': 'http://host/a.png'},
            'none': {},
        }[kind]
        doc = Labelled(tags=tags, finetuner_label=label if where == 'field' else None, words=['a', 'b'],
                       inner=TextDoc(text='inner', embedding=np.ones(2)),
                       many=DocList[ImageDoc]([ImageDoc(tensor=np.zeros((2, 2)))]) if i % 4 == 0 else None,
                       embedding=rng.normal(size=7) if i % 3 == 0 else None, **content)
        yield doc, kind, want
    for doc, kind in ((TextDoc(text='a', url='http://b/c.txt', bytes_=b'raw'), 'text'), (TextDoc(url='http://b/c.txt'), 'uri'),
                      (ImageDoc(url='http://b/c.png', tensor=np.zeros((2, 2, 3), 'uint8'), bytes_=b'raw'), 'tensor'),
                      (ImageDoc(url='http://b/c.png', bytes_=b'raw'), 'blob'), (AudioDoc(bytes_=b'wav'), 'blob'),
                      (AnyDoc(text='any', other=[1, 2]), 'text')):
        yield doc, kind, None
    yield LegacyDocument(text='t', chunks=DocList[LegacyDocument]([LegacyDocument(text='c')]), tags={'finetuner_label': 2.0}), 'text', 2.0
    yield LegacyDocument(blob=b'b', tags={'finetuner_label': 'l'}, scores={'a': 0.5}), 'blob', 'l'


def probe(message):
    run = subprocess.run([PROBE], input=message, capture_output=True, check=False)
    return run.returncode, run.stdout, run.stderr.decode().splitlines()


def message_of(docs):
    return DocListProto(docs=[doc.to_protobuf() for doc in docs]).SerializeToString()


def check_line(line, doc, kind, label):
    doc_id, flags, text, got_kind, size, dtype, dims = line.split('\t')
    assert doc_id == doc.id
    assert int(got_kind) == KINDS[kind], (kind, line)
    assert flags == ('00' if label is None else '10' if isinstance(label, str) else '11'), (line, label)
    if label is not None:
        assert text == label_text(label) if label_text(label) is not None else float(text) == label
    if kind == 'tensor':
        a = np.asarray(doc.tensor)
        assert (dtype, dims) == (a.dtype.str, ','.join(map(str, a.shape))) and int(size) == a.nbytes
    if kind in ('text', 'blob'):
        content = doc.text.encode() if kind == 'text' else getattr(doc, 'blob', None) or doc.bytes_
        assert int(size) == len(content)


def test_documents_of_docarray():
    docs, kinds, labels = zip(*documents(np.random.default_rng(SEED)))
    sent = message_of(docs)
    code, out, lines = probe(sent)
    assert code == 0, lines
    assert len(lines) == len(docs)
    for args in zip(lines, docs, kinds, labels):
        check_line(*args)
    back = DocListProto.FromString(out)
    assert len(back.docs) == len(docs)
    for i, (spliced, before, doc) in enumerate(zip(back.docs, DocListProto.FromString(sent).docs, docs)):
        read = type(doc).from_protobuf(spliced)
        assert np.asarray(read.embedding).dtype == np.float32
        assert np.asarray(read.embedding).tolist() == [float(i), -1.5, 2.25]
        for message in (spliced, before):
            if 'embedding' in message.data:
                del message.data['embedding']
        assert spliced == before
    print(f'wire: {len(docs)} Documents of docarray 0.40 read, spliced and read back by it')


def test_every_other_byte_stays():
    """The bytes are the Document's own, its entry of the embedding cut out, the new one behind them."""
    for old in (None, np.zeros(5)):
        one = TextDoc(text='a', embedding=old).to_protobuf().SerializeToString()
        code, out, _ = probe(DocListProto(docs=[DocProto.FromString(one)]).SerializeToString())
        assert code == 0
        (spliced,) = (d.SerializeToString() for d in DocListProto.FromString(out).docs)
        assert DocProto.FromString(spliced).data['embedding'].type == 'ndarray_embedding'
        assert set(DocProto.FromString(spliced).data) == set(DocProto.FromString(one).data)


def refused(doc):
    code, _, lines = probe(DocListProto(docs=[doc]).SerializeToString())
    assert code == 3
    return lines[-1]


def test_bad_documents_are_refused():
    def tensor(**fields):
        doc = DocProto()
        node = doc.data['tensor']
        for name, value in fields.items():
            if name == 'shape':
                node.ndarray.dense.shape.extend(value)
            else:
                setattr(node.ndarray.dense, name, value)
        return doc
    assert '>f4' in refused(tensor(buffer=b'abcd', shape=[1], dtype='>f4'))
    assert '2 elements' in refused(tensor(buffer=b'abcd', shape=[2], dtype='<f4'))
    assert 'no elements' in refused(tensor(shape=[0, 3], dtype='<f4'))
    assert 'more than 8 dimensions' in refused(tensor(buffer=b'a', shape=[1] * 9, dtype='|u1'))
    assert 'memory' in refused(tensor(buffer=b'a', shape=[2**32 - 1] * 3, dtype='|u1'))
    label = DocProto()
    label.data['finetuner_label'].text = 'x' * 5000
    assert 'finetuner_label' in refused(label)


def test_deep_nesting_is_passed_over():
    """20,000 levels: python-protobuf could not even write them; nothing here looks inside."""
    node = b'\x0a\x01x'
    def field(number, payload):
        n, size = len(payload), b''
        while n >= 128:
            size += bytes([n & 127 | 128])
            n >>= 7
        return bytes([number << 3 | 2]) + size + bytes([n]) + payload
    for _ in range(20000):
        node = field(7, field(1, field(1, b'k') + field(2, node)))  # doc {data {k: node}}
        if len(node) > 3_000_000:
            break
    doc = field(1, field(1, b'inner') + field(2, node)) + field(1, field(1, b'text') + field(2, b'\x0a\x01x'))
    code, out, lines = probe(field(1, doc))
    assert code == 0 and lines[0].split('\t')[3] == '1'
    assert node in out


def test_files_of_doclists(tmp_path):
    """save_binary() of docarray 0.40, in each form that holds no pickle, is a data file."""
    program = os.path.join(os.environ['FT_BUILD'], 'finetuner')
    vectors = os.path.join(os.path.dirname(__file__), '..', 'data', 'vectors', 'classifier.onnx')
    docs = DocList[LegacyDocument]([LegacyDocument(tensor=np.full(16, i, 'float32'), tags={'finetuner_label': 'ab'[i % 2]})
                                    for i in range(4)])
    rows = []
    for protocol in ('protobuf', 'protobuf-array'):
        for compress in (None, 'gzip'):
            docs.save_binary(tmp_path / 'docs.bin', protocol=protocol, compress=compress)
            subprocess.run([program, 'encode', vectors, tmp_path / 'docs.bin', '--out', tmp_path / 'y.npy'], check=True,
                           capture_output=True)
            rows.append(np.load(tmp_path / 'y.npy'))
    assert rows[0].shape[0] == 4 and all((r == rows[0]).all() for r in rows)
    docs.save_binary(tmp_path / 'docs.bin', protocol='pickle', compress=None)
    done = subprocess.run([program, 'encode', vectors, tmp_path / 'docs.bin', '--out', tmp_path / 'y.npy'], capture_output=True)
    assert done.returncode == 3 and b'pickle' in done.stderr
