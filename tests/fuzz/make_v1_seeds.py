"""Seeds of tests/fuzz_v1.c, by messages that grpcio-tools generates: python tests/fuzz/make_v1_seeds.py"""
import importlib
import pathlib
import re
import subprocess
import sys
import tempfile

from google.protobuf import struct_pb2

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
OUT = HERE / 'fuzz_v1'


def main():
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, '-m', 'grpc_tools.protoc', f'-I{ROOT}/proto', f'--python_out={folder}',
                        'finetuner/v1/finetuner.proto'], check=True)
        sys.path.insert(0, folder)
        v1 = importlib.import_module('finetuner.v1.finetuner_pb2')
    names = re.findall(r'^    X\((\w+), \w+\)', (ROOT / 'executor/wire/v1.h').read_text(), re.M)
    options = struct_pb2.Struct()
    options.update({'epochs': 5, 'loss': 'TripletMarginLoss', 'list': [1.5, None, True, {'x': {}}]})
    progress = v1.Progress(epoch=1, epochs=2, step=3, steps=4, loss=0.5, samples_per_second=1e3, eta_seconds=2, learning_rate=1e-5)
    run = v1.Run(id='20261126-163929-f1aed8', name='n', status=v1.Run.FINISHED, created='2026-11-23T22:26:43.123Z', resumes=1,
                 progress=progress, metrics=options, summary=options)
    control = {
        'FIT_REQUEST': v1.FitRequest(model='m', dataset='d', options=options, idempotency_key='k'), 'RUN': run,
        'LIST_RUNS_REQUEST': v1.ListRunsRequest(page_size=3, page_token='9'),
        'LIST_RUNS_RESPONSE': v1.ListRunsResponse(runs=[run, v1.Run()], next_page_token='1'),
        'WATCH_REQUEST': v1.WatchRequest(run='r', **{'from': -4}),
        'EVENT': v1.Event(index=2, time='t', metrics=v1.Metrics(when='after', epoch=1, metrics=options)),
        'PULL_REQUEST': v1.PullRequest(run='r', offset=1 << 40), 'MODEL': v1.Model(name='m', configured=True, bytes=7),
        'DELETE_DOCUMENTS_REQUEST': v1.DeleteDocumentsRequest(dataset='d', ids=['a', '', 'b']),
        'FINETUNE_CONFIG': v1.FinetuneConfig(model='m', options=options, embeddings=True, artifact=True),
        'MODEL_UPLOAD': v1.ModelUpload(name='m', entry='d', files=[v1.ModelFile(name='d/a.onnx', bytes=7, sha256='a' * 64)]),
        'PUSH_MODEL_RESPONSE': v1.PushModelResponse(bytes=7, model=v1.Model(name='m', bytes=7, sha256='b' * 64)),
    }
    tensor = v1.Tensor(dtype='<f4', shape=[1, 2], data=bytes(8))
    documents = [v1.Document(id='a', label='l', text='text'), v1.Document(label_number=3.5, blob=b'blob', tags=options),
                 v1.Document(uri='uri'), v1.Document(tensor=tensor), v1.Document(docarray_v1=b'\x0a\x01a\x22\x01t'),
                 v1.Document(docarray_v2=b'\x0a\x0d\x0a\x04text\x12\x05\x0a\x01t\x6a\x00')]
    OUT.mkdir(exist_ok=True)
    for name, message in control.items():
        (OUT / name.lower()).write_bytes(bytes([names.index(name)]) + message.SerializeToString())
    batch = v1.PushRequest(dataset='d', documents=documents)
    (OUT / 'push').write_bytes(bytes([len(names)]) + batch.SerializeToString())
    finetune = v1.FinetuneRequest(config=control['FINETUNE_CONFIG'], documents=documents[:1])
    (OUT / 'finetune').write_bytes(bytes([len(names)]) + finetune.SerializeToString())


main()
