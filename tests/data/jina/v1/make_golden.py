"""Documents as docarray 0.21 writes them, for tests/test_docarray_v1.c and tests/test_dataset.c.

Run with a Python that has docarray 0.21 and numpy: python make_golden.py. The document_*.bin and req_encode.bin
beside it were captured from a real Flow of jina 3.34.0.
"""
import os

import numpy as np
from docarray import Document, DocumentArray

here = os.path.dirname(os.path.abspath(__file__))


def docs():
    yield Document(id="a", text="zürich", tags={"other": 1, "finetuner_label": "städte"})
    yield Document(id="b", blob=b"\x00\x01\x02", tags={"finetuner_label": 3})
    yield Document(id="c", tensor=np.arange(6, dtype=np.float32).reshape(2, 3), tags={"finetuner_label": 0.5})
    yield Document(id="d", tensor=np.arange(4, dtype=np.uint8), tags={"finetuner_label": "3"})
    yield Document(id="e", uri="image.png", tags={"finetuner_label": -0.0})
    yield Document(id="f", text="no label", tags={"finetuner_label": None, "x": {"y": [1, "z", None]}})
    yield Document(id="g", text="with embedding", embedding=np.ones(5, dtype=np.float64))
    yield Document(id="h", text="large", tags={"finetuner_label": 1e300})


array = DocumentArray(docs())
array.save_binary(os.path.join(here, "labels.protobuf-array"), protocol="protobuf-array")
array.save_binary(os.path.join(here, "labels.protobuf-array.gzip"), protocol="protobuf-array", compress="gzip")
array.save_binary(os.path.join(here, "labels.protobuf"), protocol="protobuf")
array.save_binary(os.path.join(here, "labels.protobuf.gzip"), protocol="protobuf", compress="gzip")
array.save_binary(os.path.join(here, "labels.bin"))
array.save_binary(os.path.join(here, "labels.protobuf.bz2"), protocol="protobuf", compress="bz2")
array.save_binary(os.path.join(here, "labels.pickle"), protocol="pickle")
