"""The service as a Python Jina executor would be: `tokenizers`, onnxruntime, mean pooling, on two threads.

usage: serve_peer.py PORT THREADS ONNX TOKENIZER_JSON BATCHED(0|1). With BATCHED Jina's own dynamic batching joins requests.
"""
import sys

import numpy as np
from docarray import DocumentArray
from jina import Deployment, Executor, requests

BATCH = 32


class Encoder(Executor):
    def __init__(self, onnx, tokenizer, threads, **kwargs):
        super().__init__(**kwargs)
        import onnxruntime
        from tokenizers import Tokenizer

        self.tokenizer = Tokenizer.from_file(tokenizer)
        self.tokenizer.enable_padding()
        self.tokenizer.enable_truncation(256)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(onnx, options, providers=['CPUExecutionProvider'])

    def embed(self, texts):
        encoded = self.tokenizer.encode_batch(texts)
        ids, mask, types = (np.array([getattr(e, k) for e in encoded], np.int64) for k in ('ids', 'attention_mask', 'type_ids'))
        hidden = self.session.run(None, {'input_ids': ids, 'attention_mask': mask, 'token_type_ids': types})[0]
        weights = mask[:, :, None].astype(np.float32)
        e = (hidden * weights).sum(1) / weights.sum(1)
        return e / np.linalg.norm(e, axis=1, keepdims=True)

    @requests(on='/encode')
    def encode(self, docs: DocumentArray, **kwargs):
        texts = docs.texts
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for first in range(0, len(order), BATCH):
            these = order[first:first + BATCH]
            for i, e in zip(these, self.embed([texts[i] for i in these])):
                docs[i].embedding = e


if __name__ == '__main__':
    port, threads, onnx, tokenizer, batched = sys.argv[1:]
    more = {'uses_dynamic_batching': {'/encode': {'preferred_batch_size': 64, 'timeout': 5}}} if int(batched) else {}
    with Deployment(uses=Encoder, uses_with={'onnx': onnx, 'tokenizer': tokenizer, 'threads': int(threads)}, port=int(port),
                    include_gateway=False, **more) as deployment:
        deployment.block()
