"""Documents against docarray 0.21 itself: what it writes is read, what is spliced it reads, everything else unchanged.

FT_BUILD names the build folder whose tests/wire_probe is run.
"""
import os
import subprocess

import numpy as np
from docarray import Document, DocumentArray
from docarray.proto.docarray_pb2 import DocumentArrayProto
from docarray.score import NamedScore

PROBE = os.path.join(os.environ["FT_BUILD"], "tests", "wire_probe")
KINDS = {"none": 0, "text": 1, "blob": 2, "tensor": 3, "uri": 4}
SEED = 20262


def label_text(value):
    if isinstance(value, str):
        return value
    if float(value).is_integer() and abs(value) < 1e15:
        return str(int(value))
    return None  # checked by value


def documents(rng):
    dtypes = [np.float32, np.float64, np.float16, np.uint8, np.int8, np.int16, np.uint16, np.int32, np.int64, bool]
    for i in range(200):
        tags = {"n": i, "nested": {"list": [1, "a", None, {"deep": True}]}}
        want_label = None
        if i % 4 != 3:
            want_label = [f"klasse ü {i % 7}", i % 5, float(rng.normal()), "x" * 300][i % 4 if i % 8 < 4 else (i // 8) % 4]
            tags["finetuner_label"] = want_label
        doc = Document(tags=tags, weight=0.5, modality="m", location=[1.0, 2.0])
        kind = ["text", "blob", "tensor", "uri", "none"][i % 5]
        if kind == "text":
            doc.text = "text ∆ " * int(rng.integers(1, 50))
        elif kind == "blob":
            doc.blob = rng.bytes(int(rng.integers(1, 3000)))
        elif kind == "tensor":
            shape = rng.integers(1, 6, int(rng.integers(0, 5)))
            doc.tensor = (rng.normal(size=shape) * 100).astype(dtypes[i % len(dtypes)])
        elif kind == "uri":
            doc.uri = "http://host/a.png"
        if i % 3 == 0:
            doc.embedding = rng.normal(size=7)
        if i % 6 == 0:
            doc.chunks.append(Document(text="chunk", tags={"finetuner_label": "not mine"}, embedding=np.ones(2)))
            doc.matches.append(Document(text="match", scores={"cos": NamedScore(value=0.25)}))
        yield doc, kind, want_label


def test_documents_of_docarray():
    rng = np.random.default_rng(SEED)
    docs, kinds, labels = zip(*documents(rng))
    array = DocumentArray(docs)
    sent = array.to_protobuf()
    run = subprocess.run([PROBE], input=sent.SerializeToString(), capture_output=True, check=False)
    assert run.returncode == 0, run.stderr.decode()
    lines = run.stderr.decode().splitlines()
    assert len(lines) == len(docs)
    for line, doc, kind, label in zip(lines, docs, kinds, labels):
        doc_id, flags, text, got_kind, size, dtype, dims = line.split("\t")
        assert doc_id == doc.id
        assert int(got_kind) == KINDS[kind], (kind, line)
        assert flags == ("00" if label is None else "10" if isinstance(label, str) else "11")
        if label is not None:
            assert text == label_text(label) if label_text(label) is not None else float(text) == label
        if kind == "tensor":
            a = np.asarray(doc.tensor)
            assert (dtype, dims) == (a.dtype.str, ",".join(map(str, a.shape))) and int(size) == a.nbytes
        if kind in ("text", "blob"):
            assert int(size) == len(doc.text.encode() if kind == "text" else doc.blob)

    back = DocumentArrayProto()
    back.ParseFromString(run.stdout)
    read = DocumentArray.from_protobuf(back)
    assert len(read) == len(docs)
    for i, (spliced, before) in enumerate(zip(back.docs, sent.docs)):
        assert read[i].embedding.dtype == np.float32
        assert read[i].embedding.tolist() == [float(i), -1.5, 2.25]
        spliced.ClearField("embedding")
        before.ClearField("embedding")
        assert spliced == before
    print(f"wire: {len(docs)} Documents of docarray read, spliced and read back by it")
