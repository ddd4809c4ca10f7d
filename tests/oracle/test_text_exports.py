"""ONNX files of text models: PyTorch's two exporters and our own, padded and packed, against transformers.

Each family of test_hf.py, with its attention spelled as PyTorch's own function and as matrix products. model_probe runs the padded
graph and the packed one that graph/pack.c makes of it: token rows and gradients must be those of PyTorch in double. What we write
of a folder must be the same in onnxruntime, and must pack again when it is read back.

Tolerances: float32 through some layers, 1e-4 of the largest output. Gradients 1e-3 of a parameter's largest, or of 1e-3 of the
largest of all (test_hf.py).
"""
import contextlib
import io
import shutil
import warnings

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

import finetuner_cli as cli
import test_artifact as artifact
import test_hf as hf

warnings.filterwarnings("ignore")
LIMIT = 1e-4
FILLER = (2, 5)  # tokens of no text, in front and behind
# transformers' T5 does not trace under torch.export (torch 2.15, transformers 5.23): the exporter itself fails.
EXPORTS = [(name, export) for name in hf.FAMILIES for export in ("script", "dynamo") if (name, export) != ("t5", "dynamo")]
ROWS = []


class Wrapped(torch.nn.Module):
    def __init__(self, model, names):
        super().__init__()
        self.model, self.names = hf.encoder(model), names

    def forward(self, *args):
        return self.model(**dict(zip(self.names, args))).last_hidden_state


def export(model, how, path, batch, names, opset=None, attention=None):
    hf.encoder(model).set_attn_implementation(attention or ("sdpa" if how == "script" else "eager"))
    net = Wrapped(model, names).eval()
    args = tuple(torch.tensor(a[:3]) for a, _ in zip(batch, names))
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        if how == "script":
            torch.onnx.export(net, args, str(path), dynamo=False, opset_version=opset or 17, input_names=names, output_names=["last_hidden_state"],
                              dynamic_axes={n: {0: "batch", 1: "sequence"} for n in (*names, "last_hidden_state")})
        else:
            axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence", max=300)}
            torch.onnx.export(net, args, str(path), dynamo=True, opset_version=opset or 18, input_names=names, output_names=["last_hidden_state"],
                              dynamic_shapes=((axes,) * len(names),), verbose=False, external_data=False)


def flat(array, mask, fill=0):
    """Rows of tokens without padding, with filler."""
    return np.concatenate([np.full((n,) + array.shape[2:], fill, array.dtype) if rows is None else rows
                           for n, rows in ((FILLER[0], None), (0, array[mask == 1]), (FILLER[1], None))])


def packed_inputs(tmp, batch, names):
    ids, mask, types = batch
    lengths = mask.sum(1)
    spans = np.stack([FILLER[0] + np.concatenate([[0], np.cumsum(lengths)[:-1]]), lengths], 1)
    more = {"token_type_ids": flat(types, mask, 1)} if "token_type_ids" in names else {}
    return hf.named(tmp, input_ids=flat(ids, mask, 3), spans=spans.astype(np.int64), **more)


def padded_inputs(tmp, batch, names):
    ids, mask, types = batch
    return hf.named(tmp, **dict(list(zip(("input_ids", "attention_mask", "token_type_ids"), (ids, mask, types)))[:len(names)]))


def run(path, tmp, batch, names, packed):
    """Rows of tokens."""
    args = packed_inputs(tmp, batch, names) if packed else padded_inputs(tmp, batch, names)
    facts = hf.probe(path, "--device", "cpu", *(["--pack"] if packed else []), *args, "--out", tmp / "y")
    assert facts.get("unpacked", "") == "", facts["unpacked"]
    y = np.fromfile(tmp / "y0.bin", np.float64)
    mask = batch[1]
    if packed:
        return y.reshape(FILLER[0] + mask.sum() + FILLER[1], -1)[FILLER[0]:FILLER[0] + mask.sum()]
    return y.reshape(*mask.shape, -1)[mask == 1]


def setting(name, layers=None):
    model = hf.made(name, layers)
    names = ["input_ids", "attention_mask"] + ["token_type_ids"] * (name in ("bert", "albert", "electra"))
    batch = hf.texts(hf.encoder(model).config, 6, 40)
    want = hf.theirs(model, *batch, {"inputs": names})
    return model, names, batch, want.detach().numpy()[batch[1] == 1]


@pytest.mark.parametrize("name,how", EXPORTS)
def test_exports(name, how, tmp_path):
    """Two layers: what the exporters take grows with them. ModernBERT's look at all tokens, and at those nearby."""
    model, names, batch, want = setting(name, 2)
    path = tmp_path / "model.onnx"
    export(model, how, path, batch, names)
    numbers = [hf.compare(run(path, tmp_path, batch, names, packed), want, LIMIT, (name, how, packed)) for packed in (False, True)]
    ROWS.append((name, how, *numbers))


# PyTorch's own attention is exported from opset 14 on, LayerNorm as one node from 17 on, GELU from 20 on.
OPSETS = [(11, "script", "eager", "gelu"), (12, "script", "eager", "gelu_new"), (13, "script", "eager", "quick_gelu"),
          (14, "script", "sdpa", "gelu"), (15, "script", "eager", "gelu_new"), (16, "script", "sdpa", "quick_gelu"),
          (17, "script", "eager", "gelu"), (18, "dynamo", "sdpa", "gelu_new"), (19, "dynamo", "eager", "gelu"),
          (20, "dynamo", "sdpa", "gelu"), (21, "dynamo", "eager", "gelu_new"), (22, "dynamo", "sdpa", "quick_gelu")]


@pytest.mark.parametrize("opset,how,attention,act", OPSETS)
def test_opsets(opset, how, attention, act, tmp_path):
    name = {"gelu": "bert", "gelu_new": "bert-tanh-one-type", "quick_gelu": "bert-quick"}[act]
    model, names, batch, want = setting(name, 1)
    path = tmp_path / "model.onnx"
    export(model, how, path, batch, names, opset, attention)
    assert [o.version for o in onnx.load(path).opset_import if o.domain == ""] == [opset]
    ROWS.append((f"{name[:8]} {opset}", how, *(hf.compare(run(path, tmp_path, batch, names, packed), want, LIMIT, (opset, how, packed))
                                              for packed in (False, True))))


# ---- files beside the file: Optimum's layout, made by hand with its names of inputs, outputs and axes

class Optimum(torch.nn.Module):
    """What Optimum exports for sentence-transformers: the rows of tokens, and what all modules make of them."""

    def __init__(self, st):
        super().__init__()
        self.st = st

    def forward(self, input_ids, attention_mask, token_type_ids):
        out = self.st({"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids})
        return out["token_embeddings"], out["sentence_embedding"]


def test_files_beside_an_onnx_file(tmp_path):
    artifact.small(tmp_path / "hf")
    st = SentenceTransformer(modules=[Transformer(str(tmp_path / "hf")), Pooling(24, "max"), Normalize()], device="cpu")
    st[0].max_seq_length = 60
    st.save(str(tmp_path / "st"))
    want = st.encode(artifact.TEXTS)
    batch = st.tokenize(artifact.TEXTS)
    batch.setdefault("token_type_ids", torch.zeros_like(batch["input_ids"]))
    names = ["input_ids", "attention_mask", "token_type_ids"]
    axes = {name: {0: "batch_size", 1: "sequence_length"} for name in (*names, "token_embeddings", "last_hidden_state")}
    args = tuple(batch[name] for name in names)
    axes["sentence_embedding"] = {0: "batch_size"}

    def write(net, path, outputs):
        path.parent.mkdir(exist_ok=True)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            torch.onnx.export(net, args, str(path), dynamo=False, opset_version=14, input_names=names, output_names=outputs,
                              dynamic_axes={k: v for k, v in axes.items() if k in (*names, *outputs)})

    # Optimum's folder: model.onnx, config.json and tokenizer.json, no safetensors.
    shutil.copytree(tmp_path / "hf", tmp_path / "optimum")
    (tmp_path / "optimum" / "model.safetensors").unlink()
    (tmp_path / "optimum" / "sentence_bert_config.json").write_text('{"max_seq_length": 60}')
    write(Optimum(st).eval(), tmp_path / "optimum" / "model.onnx", ["token_embeddings", "sentence_embedding"])
    # sentence-transformers' own: the encoder alone below onnx/, its modules behind it, in a folder with a pickle.
    shutil.copytree(tmp_path / "st", tmp_path / "bare")
    (tmp_path / "bare" / "model.safetensors").unlink()
    (tmp_path / "bare" / "pytorch_model.bin").write_bytes(b"\x80\x02.")
    write(Wrapped(st[0].auto_model, names).eval(), tmp_path / "bare" / "onnx" / "model.onnx", ["last_hidden_state"])
    for model in ("optimum", "optimum/model.onnx", "bare", "bare/onnx/model.onnx"):
        artifact.compare(artifact.encode(tmp_path, model), want, model)
    summary = cli.ok("inspect", "bare/onnx/model.onnx", cwd=tmp_path).out
    assert '"max_length": 60' in summary and "without padding" in summary, summary


@pytest.mark.parametrize("name", hf.FAMILIES)
def test_folders(name, tmp_path):
    """Folder packed; what we write of it in onnxruntime; that read back and packed."""
    model, _, batch, want = setting(name)
    folder, written = tmp_path / "model", tmp_path / "written.onnx"
    model.save_pretrained(folder)
    names = hf.probe(folder, "--export", written)["inputs"]
    if "token_type_ids" in names:
        want = hf.theirs(model, *batch, {"inputs": names}).detach().numpy()[batch[1] == 1]
    numbers = [hf.compare(run(folder, tmp_path, batch, names, True), want, LIMIT, (name, "folder packed"))]
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(str(written), options, providers=["CPUExecutionProvider"])
    feed = dict(zip(("input_ids", "attention_mask", "token_type_ids"), batch))
    theirs = session.run(None, {i.name: feed[i.name] for i in session.get_inputs()})[0]
    numbers.append(hf.compare(theirs[batch[1] == 1], want, LIMIT, (name, "written")))
    numbers.append(hf.compare(run(written, tmp_path, batch, names, True), want, LIMIT, (name, "written, packed")))
    ROWS.append((name, "folder", *numbers))


def test_table():
    print(f"\n{'family':12} {'file':8} distances (exports: padded, packed; folder: packed, written, written and packed)")
    for name, how, *numbers in ROWS:
        print(f"{name:12} {how:8} " + " ".join(f"{n:.1e}" for n in numbers))
