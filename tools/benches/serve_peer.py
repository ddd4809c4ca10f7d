"""The service as a Python Jina executor would be: `tokenizers`, onnxruntime, mean pooling; or Pillow and onnxruntime.

usage: serve_peer.py PORT THREADS ONNX TOKENIZER_JSON|images BATCHED(0|1). With BATCHED Jina's own dynamic batching joins requests.
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
        self.tokenizer = None
        if tokenizer != 'images':
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

    def embed_images(self, blobs):
        """The classifier's logits: a product of 64 x 10 more than the embedding."""
        import io

        from PIL import Image
        x = np.stack([np.asarray(Image.open(io.BytesIO(b)).convert('L'), np.float32) for b in blobs]) / 255
        return self.session.run(None, {self.session.get_inputs()[0].name: x[:, None]})[0]

    @requests(on='/encode')
    def encode(self, docs: DocumentArray, **kwargs):
        if self.tokenizer is None:
            docs.embeddings = self.embed_images([d.blob for d in docs])
            return
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
