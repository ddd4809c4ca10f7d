"""ONNX files of text models: PyTorch's two exporters and our own, padded and packed, against transformers.

Each family of test_hf.py, with its attention spelled as PyTorch's own function and as matrix products. model_probe runs the padded
graph and the packed one that graph/pack.c makes of it: token rows and gradients must be those of PyTorch in double. What we write
of a folder must be the same in onnxruntime, and must pack again when it is read back.

Tolerances: float32 through some layers, 1e-4 of the largest output. Gradients 1e-3 of a parameter's largest, or of 1e-3 of the
largest of all (test_hf.py).
"""
import contextlib
import io
import warnings

import numpy as np
import onnxruntime as ort
import pytest
import torch

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


def export(model, how, path, batch, names):
    hf.encoder(model).set_attn_implementation("sdpa" if how == "script" else "eager")
    net = Wrapped(model, names).eval()
    args = tuple(torch.tensor(a[:3]) for a, _ in zip(batch, names))
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        if how == "script":
            torch.onnx.export(net, args, str(path), dynamo=False, opset_version=17, input_names=names, output_names=["last_hidden_state"],
                              dynamic_axes={n: {0: "batch", 1: "sequence"} for n in (*names, "last_hidden_state")})
        else:
            axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence", max=300)}
            torch.onnx.export(net, args, str(path), dynamo=True, opset_version=18, input_names=names, output_names=["last_hidden_state"],
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


def setting(name):
    model = hf.made(name)
    names = ["input_ids", "attention_mask"] + ["token_type_ids"] * (name in ("bert", "albert", "electra"))
    batch = hf.texts(hf.encoder(model).config, 6, 40)
    want = hf.theirs(model, *batch, {"inputs": names})
    return model, names, batch, want.detach().numpy()[batch[1] == 1]


@pytest.mark.parametrize("name,how", EXPORTS)
def test_exports(name, how, tmp_path):
    model, names, batch, want = setting(name)
    path = tmp_path / "model.onnx"
    export(model, how, path, batch, names)
    numbers = [hf.compare(run(path, tmp_path, batch, names, packed), want, LIMIT, (name, how, packed)) for packed in (False, True)]
    ROWS.append((name, how, *numbers))


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
