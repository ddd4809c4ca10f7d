"""One contender of `tools/bench text` in a process of its own: `python text_peers.py WHAT JOB.json` prints "ready", then for each line
on standard input the seconds of one run, and at the end a JSON object with its peak memory and what it chose. The embeddings of the
last run go to the job's `out`.

A job has: model (folder), texts, out, what (encode: all texts; one: each by itself, median; train: a step), longest (tokens),
onnx (exports to choose from), precision, frozen (train: all but the last block). Each encoder takes the batch, and the export, that
is fastest here; texts are sorted by length. OpenVINO is timed without tokenising and pooling, which favours it.
"""
import json
import pathlib
import statistics
import sys
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from peers import THREADS, peak_memory  # noqa: E402

BATCHES = (8, 16, 32, 64, 128)
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def seconds_of(run):
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def fastest(choices, run):
    """Of choices the one with the smallest time of run(choice), each once to warm up and once timed."""
    times = {}
    for choice in choices:
        run(choice)
        times[choice] = seconds_of(lambda: run(choice))
    return min(times, key=times.get)


def one_by_one(embed, texts):
    times = []
    rows = []
    for text in texts:
        start = time.perf_counter()
        rows.append(embed([text]))
        times.append(time.perf_counter() - start)
    return statistics.median(times), np.concatenate(rows)


def serve(job, run, **about):
    """run() -> embeddings or (seconds, embeddings)."""
    found = None
    for _ in range(2):
        run()
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        found = run()
        seconds = time.perf_counter() - start
        if isinstance(found, tuple):
            seconds, found = found
        print(f"{seconds:.9f}", flush=True)
    if found is not None:
        np.save(job["out"], np.asarray(found, dtype=np.float32))
    print(json.dumps({"peak_memory_bytes": peak_memory(), **about}), flush=True)


def serve_encoder(job, embed, choices, **about):
    """embed(texts, choice) -> embeddings."""
    texts = job["texts"]
    if job["what"] == "one":
        choice = fastest(choices, lambda c: one_by_one(lambda t: embed(t, c), texts[:64]))
        serve(job, lambda: one_by_one(lambda t: embed(t, choice), texts), chosen=str(choice), **about)
    else:
        choice = fastest(choices, lambda c: embed(texts, c))
        serve(job, lambda: embed(texts, choice), chosen=str(choice), **about)


# ---- sentence-transformers

def sentence_transformer(job):
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(THREADS)
    kind = {"bf16": torch.bfloat16, "f32": torch.float32}[job["precision"]]
    model = SentenceTransformer(job["model"], device="cpu", model_kwargs={"dtype": kind})
    model.max_seq_length = job["longest"]
    return model


def st(job):
    model = sentence_transformer(job)
    if job["what"] == "train":
        return st_train(job, model)
    return serve_encoder(job, lambda texts, batch: model.encode(texts, batch_size=batch, convert_to_numpy=True, show_progress_bar=False),
                         [1] if job["what"] == "one" else BATCHES)


def st_train(job, model):
    """A plain loop over sentence-transformers' model; dropout on, texts tokenised ahead of time, as ours are."""
    import torch
    from pytorch_metric_learning import losses, miners

    texts = job["texts"]
    features = model.preprocess(texts)
    labels = torch.arange(len(texts)) // 4
    if job["frozen"]:
        for name, p in model.named_parameters():
            p.requires_grad = "encoder.layer.5." in name
    model.train()
    miner, loss = miners.TripletMarginMiner(), losses.TripletMarginLoss()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, 1e-5, fused=True)

    def step():
        e = model(dict(features))["sentence_embedding"].float()
        optimizer.zero_grad()
        loss(e, labels, miner(e, labels)).backward()
        optimizer.step()

    serve(job, step)


# ---- exports

class Tokens:
    def __init__(self, job):
        from tokenizers import Tokenizer

        self.tokenizer = Tokenizer.from_file(str(pathlib.Path(job["model"]) / "tokenizer.json"))
        self.tokenizer.enable_truncation(job["longest"])
        self.tokenizer.enable_padding()

    def order(self, texts):
        """By length in characters, as sentence-transformers sorts: nothing is tokenised twice."""
        return sorted(range(len(texts)), key=lambda i: -len(texts[i]))

    def __call__(self, texts):
        found = self.tokenizer.encode_batch(texts)
        ids = np.array([f.ids for f in found], dtype=np.int64)
        return ids, np.array([f.attention_mask for f in found], dtype=np.int64), np.zeros_like(ids)


def pooled(hidden, mask):
    weights = mask[:, :, None].astype(np.float32)
    e = (hidden * weights).sum(1) / np.maximum(weights.sum(1), 1e-9)
    return e / np.maximum(np.linalg.norm(e, axis=1, keepdims=True), 1e-12)


def onnxruntime(job):
    import onnxruntime as ort

    tokens = Tokens(job)
    options = ort.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = ort.InferenceSession(job["onnx"][0], options, providers=["CPUExecutionProvider"])

    def embed(texts, batch):
        order = tokens.order(texts)
        out = None
        for first in range(0, len(texts), batch):
            these = order[first:first + batch]
            ids, mask, types = tokens([texts[i] for i in these])
            hidden = session.run(None, dict(zip(INPUTS, (ids, mask, types))))[0]
            out = np.empty((len(texts), hidden.shape[-1]), np.float32) if out is None else out
            out[these] = pooled(hidden, mask)
        return out

    serve_encoder(job, embed, [1] if job["what"] == "one" else BATCHES)


def openvino(job):
    import openvino as ov

    tokens = Tokens(job)
    core = ov.Core()
    requests = {}
    for path in job["onnx"]:
        compiled = core.compile_model(core.read_model(path), "CPU", {
            "INFERENCE_NUM_THREADS": THREADS, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": job["precision"]})
        requests[path] = compiled.create_infer_request()
    texts = job["texts"]
    one = job["what"] == "one"
    prepared = {}
    sizes = (1,) if one else BATCHES
    order = list(range(len(texts))) if one else sorted(range(len(texts)), key=lambda i: -int(tokens([texts[i]])[1].sum()))
    for batch in sizes:
        groups = [order[first:first + batch] for first in range(0, len(texts), batch)]
        prepared[batch] = [(these, tokens([texts[i] for i in these])) for these in groups]
    hidden = []

    def go(choice):
        path, batch = choice
        hidden.clear()
        times = []
        for _, inputs in prepared[batch]:
            start = time.perf_counter()
            hidden.append(requests[path].infer(dict(zip(INPUTS, inputs)))[0])
            times.append(time.perf_counter() - start)
        return times

    choice = fastest([(path, batch) for path in job["onnx"] for batch in sizes], go)

    def run():
        times = go(choice)
        e = np.empty((len(texts), hidden[0].shape[-1]), np.float32)
        for (these, inputs), h in zip(prepared[choice[1]], hidden):
            e[these] = pooled(h, inputs[1])
        return (statistics.median(times) if one else sum(times)), e

    serve(job, run, chosen=f"{pathlib.Path(choice[0]).stem}, {choice[1]}")


# ---- making the exports

def export(job):
    """Legacy opset 17, eager and sdpa; dynamic int8 by onnxruntime; int8 by NNCF, calibrated on job["texts"]."""
    import torch
    from transformers import AutoModel

    folder = pathlib.Path(job["out"])

    class Wrapped(torch.nn.Module):
        def __init__(self, kind):
            super().__init__()
            self.model = AutoModel.from_pretrained(job["model"], attn_implementation=kind).eval()

        def forward(self, input_ids, attention_mask, token_type_ids):
            return self.model(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids).last_hidden_state

    ids = torch.randint(1000, 2000, (2, 9))
    for kind in ("eager", "sdpa"):
        torch.onnx.export(Wrapped(kind), (ids, torch.ones_like(ids), torch.zeros_like(ids)), str(folder / f"{kind}.onnx"), opset_version=17,
                          dynamo=False, input_names=list(INPUTS), output_names=["last_hidden_state"],
                          dynamic_axes={n: {0: "batch", 1: "seq"} for n in [*INPUTS, "last_hidden_state"]})
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(str(folder / "eager.onnx"), str(folder / "int8.onnx"))
    quantise_with_nncf(job, folder)


def quantise_with_nncf(job, folder):
    try:
        import nncf
    except ImportError:
        return
    import openvino as ov

    tokens = Tokens(job)
    data = [dict(zip(INPUTS, tokens([t]))) for t in job["texts"]]
    made = nncf.quantize(ov.Core().read_model(str(folder / "eager.onnx")), nncf.Dataset(data), model_type=nncf.ModelType.TRANSFORMER,
                         subset_size=len(data))
    ov.save_model(made, str(folder / "nncf.xml"))


if __name__ == "__main__":
    with open(sys.argv[2], encoding="utf-8") as f:
        {"st": st, "onnxruntime": onnxruntime, "openvino": openvino, "export": export}[sys.argv[1]](json.load(f))
