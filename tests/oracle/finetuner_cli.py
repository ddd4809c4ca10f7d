"""What the tests of the program share: running it, digits in every form of DATA, and classifiers that torch exports.

FT_BUILD names the build folder whose `finetuner` is run.
"""
import base64
import io
import json
import os
import struct
import subprocess
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits

PROGRAM = os.path.join(os.environ["FT_BUILD"], "finetuner")
SEED = 20263
# A sanitizer that finds something must not look like one of our exit codes.
SANITIZER = {"ASAN_OPTIONS": "exitcode=99:detect_leaks=1", "UBSAN_OPTIONS": "halt_on_error=1:exitcode=99"}
ENVIRONMENT = {**os.environ, "OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": "2", **SANITIZER}


class Result:
    """One finished call: exit code, standard output, standard error."""

    def __init__(self, words, code, out, err):
        self.words, self.code, self.out, self.err = words, code, out, err

    def json(self):
        """The one JSON object that standard output must hold, and nothing else."""
        lines = self.out.splitlines()
        assert len(lines) == 1, f"{self.words}: {len(lines)} lines on stdout\n{self.out[:2000]}"
        value = json.loads(lines[0])
        assert isinstance(value, dict)
        return value

    def __repr__(self):
        return f"finetuner {' '.join(map(str, self.words))} -> {self.code}\n{self.out}\n{self.err}"


def flags():
    """Of the first processor, as Linux names them."""
    with open("/proc/cpuinfo", encoding="ascii") as f:
        return set(next((line.split(":")[1].split() for line in f if line.startswith("flags")), ()))


def bf16_here():
    """--precision for tests of bf16: the processor's own where it computes it, else emulated; which is printed."""
    found = "bf16" if {"avx512f", "avx512bw", "avx512vl", "avx512dq"} <= flags() else "bf16-emulated"
    print(f"bf16 is tested as {found}")
    return found


def start(*words, cwd, **kw):
    return subprocess.Popen(
        [PROGRAM, *map(str, words)], cwd=cwd, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kw
    )


def finetuner(*words, cwd, stdin=b"", timeout=300):
    """Run to the end, whatever the exit code is."""
    done = subprocess.run(
        [PROGRAM, *map(str, words)], cwd=cwd, env=ENVIRONMENT, input=stdin, capture_output=True, check=False,
        timeout=timeout,
    )
    return Result(words, done.returncode, done.stdout.decode(), done.stderr.decode())


def ok(*words, **kw):
    result = finetuner(*words, **kw)
    assert result.code == 0, result
    return result


# ---- digits: (n, 8, 8) of 0 .. 16, labels 0 .. 9


def digits(n, first=0):
    data = load_digits()
    order = np.random.default_rng(SEED).permutation(len(data.target))[first : first + n]
    return data.images[order].astype(np.float32), data.target[order]


def pixels(image):
    """8-bit grey of one digit."""
    return np.minimum(image * 16, 255).astype(np.uint8)


def png(image):
    out = io.BytesIO()
    Image.fromarray(pixels(image)).save(out, "PNG")
    return out.getvalue()


def jsonl_line(**keys):
    return json.dumps(keys, separators=(",", ":")) + "\n"


def write_jsonl(path, images, labels, shape=(1, 8, 8)):
    """Float tensors, taken as they are."""
    with open(path, "w", encoding="utf-8") as out:
        for i, (image, label) in enumerate(zip(images, labels)):
            out.write(jsonl_line(id=f"d{i}", tensor=(image / 16).reshape(shape).tolist(), label=int(label)))
    return path


def write_blobs(path, images, labels):
    with open(path, "w", encoding="utf-8") as out:
        for image, label in zip(images, labels):
            out.write(jsonl_line(blob=base64.b64encode(png(image)).decode(), label=int(label)))
    return path


def write_folder(path, images, labels):
    """One folder per class; names sort in the order given, classes come first. Returns the order of rows."""
    for i, (image, label) in enumerate(zip(images, labels)):
        place = Path(path) / str(label)
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{i:05d}.png").write_bytes(png(image))
    return sorted(range(len(labels)), key=lambda i: (str(labels[i]), i))


def write_csv(path, images, labels):
    """Paths beside the file."""
    folder = Path(path).parent / "pictures"
    folder.mkdir(exist_ok=True)
    with open(path, "w", encoding="utf-8") as out:
        out.write("content,label\n")
        for i, (image, label) in enumerate(zip(images, labels)):
            (folder / f"{i:05d}.png").write_bytes(png(image))
            out.write(f"pictures/{i:05d}.png,{label}\n")
    return path


# A DocumentArray file is written by hand, field by field, so that no docarray is needed here. Field numbers of
# docarray 0.21's DocumentProto: id = 1, blob = 2, tensor = 3 (NdArrayProto.dense = 1: buffer 1, shape 2, dtype 3),
# tags = 17 (Struct). DocumentArray.save_binary(protocol='protobuf') puts 0x01 and the count (8 bytes, big-endian)
# before the Documents, each after its length in 4 bytes, big-endian.


def varint(n):
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def field(number, payload):
    """A length-delimited field."""
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def tensor_field(array):
    dtype = np.dtype(array.dtype).str.encode()
    shape = field(2, b"".join(map(varint, array.shape)))
    return field(3, field(1, field(1, array.tobytes()) + shape + field(3, dtype)))


def label_field(label):
    value = field(3, label.encode()) if isinstance(label, str) else b"\x11" + struct.pack("<d", label)
    return field(17, field(1, field(1, b"finetuner_label") + field(2, value)))


def write_docarray(path, contents, labels):
    """contents: PNG bytes or arrays."""
    with open(path, "wb") as out:
        out.write(b"\x01" + len(labels).to_bytes(8, "big"))
        for i, (content, label) in enumerate(zip(contents, labels)):
            body = field(2, content) if isinstance(content, bytes) else tensor_field(content)
            message = field(1, f"doc-{i}".encode()) + body + label_field(label)
            out.write(len(message).to_bytes(4, "big") + message)
    return path


# ---- classifiers


class Cnn(torch.nn.Module):
    """Digits: two convolutions with BatchNorm, average pooling, logits."""

    SHAPE = (1, 8, 8)

    def __init__(self, classes=10, width=16):
        super().__init__()
        self.features = torch.nn.Sequential(
            torch.nn.Conv2d(1, width, 3, padding=1, bias=False),
            torch.nn.BatchNorm2d(width),
            torch.nn.ReLU(),
            torch.nn.MaxPool2d(2),
            torch.nn.Conv2d(width, 2 * width, 3, padding=1, bias=False),
            torch.nn.BatchNorm2d(2 * width),
            torch.nn.ReLU(),
            torch.nn.AdaptiveAvgPool2d(1),
            torch.nn.Flatten(),
        )
        self.classifier = torch.nn.Linear(2 * width, classes)

    def forward(self, x):
        return self.classifier(self.features(x))


class Mlp(torch.nn.Module):
    """Digits as 64 numbers."""

    SHAPE = (64,)

    def __init__(self, classes=10):
        super().__init__()
        self.features = torch.nn.Sequential(
            torch.nn.Linear(64, 48), torch.nn.ReLU(), torch.nn.Linear(48, 32), torch.nn.ReLU()
        )
        self.head = torch.nn.Linear(32, classes)

    def forward(self, x):
        return self.head(self.features(x))


def train_classifier(model, images, labels, shape, steps=60):
    """A classifier that knows a little of the classes it is given."""
    x = torch.tensor(images / 16).reshape(-1, *shape)
    y = torch.tensor(labels)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    rng = np.random.default_rng(SEED)
    model.train()
    for _ in range(steps):
        pick = torch.tensor(rng.integers(0, len(y), 64))
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x[pick]), y[pick]).backward()
        optimizer.step()
    return model.eval()


def export(model, path, shape, keep_batchnorm=False):
    """With torch's older exporter, which folds BatchNorm into the convolution before it unless told not to."""
    mode = torch.onnx.TrainingMode.PRESERVE if keep_batchnorm else torch.onnx.TrainingMode.EVAL
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecation
        torch.onnx.export(
            model, (torch.zeros(2, *shape),), str(path), dynamo=False, opset_version=17, input_names=["input"],
            output_names=["logits"], dynamic_axes={"input": {0: "N"}, "logits": {0: "N"}}, training=mode,
        )
    return path


def half_trained(kind):
    """A network that saw only the digits 0 to 4, so that tuning on all ten has something to gain."""
    torch.manual_seed(SEED)
    images, labels = digits(600)
    known = labels < 5
    return train_classifier(kind(classes=5), images[known], labels[known], kind.SHAPE)
