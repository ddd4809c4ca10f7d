"""tools/bench cnn - image models at 224 x 224, ours beside the strongest peer, in one run.

Forward of the whole network at batch 1 and 16 against onnxruntime and OpenVINO; a training step of the embedding model (batch 32,
semi-hard triplets, AdamW) against PyTorch at its best: channels_last, and MKL told that this is an Intel processor. Every contender
has a process and two threads of its own; their runs take turns, so that what disturbs the machine disturbs all. Figures are medians;
a ratio is the median of the ratios of runs that stood side by side.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "tests" / "oracle"))
BUILD = pathlib.Path(os.environ["FT_BUILD"])
MODELS = ["resnet18", "resnet50", "efficientnet_b0", "vit_s"]
FLOORS = {  # DESIGN 6: (model, what, precision, peer) -> ratio
    ("resnet18", "train", "f32", "torch"): 1.0, ("resnet18", "train", "bf16", "torch"): 1.0,
    ("resnet50", "train", "f32", "torch"): 1.3, ("resnet50", "train", "bf16", "torch"): 1.3,
    ("resnet50", "forward", "f32", "onnxruntime"): 1.0, ("resnet50", "forward", "bf16", "onnxruntime"): 1.7,
}


class Contender:
    def __init__(self, name, command, **env):
        self.name, self.seconds, self.report = name, [], {}
        self.process = subprocess.Popen([str(c) for c in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env=dict(os.environ, OMP_NUM_THREADS="2", **env))

    def line(self):
        text = self.process.stdout.readline()
        if not text:
            raise RuntimeError(f"{self.name} ended with status {self.process.wait()}")
        return text.strip()

    def ready(self):
        while self.line() != "ready":
            pass

    def run(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self.line())

    def turn(self, runs):
        """One figure: of several runs the median without the first, which finds the caches full of the others' data and their threads
        still spinning."""
        seconds = [self.run() for _ in range(runs)]
        self.seconds.append(statistics.median(seconds[1:] or seconds))

    def finish(self):
        self.process.stdin.close()
        text = self.process.stdout.read().strip().splitlines()
        if self.process.wait() != 0:
            raise RuntimeError(f"{self.name} ended with status {self.process.returncode}")
        self.report = json.loads(text[-1])

    def median(self):
        return statistics.median(self.seconds)


def ours(model, batch, precision, train):
    command = [BUILD / "tools" / "benches" / "bench_model", model, "--batch", batch, "--wait"]
    command += ["--train"] if train else ["--keep-head"]
    command += ["--precision", precision] if precision != "f32" else []
    return Contender("ours", command, GOMP_SPINCOUNT="10000")  # as `finetuner fit` sets it for itself


def peer(*arguments, **env):
    return Contender(arguments[0], [sys.executable, HERE / "peers.py", *arguments], **env)


def peak(threads=2):
    out = subprocess.run([BUILD / "tools" / "benches" / "bench_kernels", "cpu", str(threads), "peak"], capture_output=True, text=True,
                         check=True, env=dict(os.environ, OMP_NUM_THREADS=str(threads))).stdout
    return float(out.split("ms")[1].split("GFLOP/s")[0])


def flags():
    with open("/proc/cpuinfo") as f:
        return next((line.split(":")[1].split() for line in f if line.startswith("flags")), [])


def why_no_bf16():
    """None: this processor multiplies bf16. Else what to say."""
    if {"avx512_bf16", "amx_bf16"} & set(flags()):
        return None
    if "avx512bw" in flags():
        return "bf16: not measured, this processor has AVX-512, but neither AVX512_BF16 nor AMX, and so is slower in it than in f32"
    return "bf16: refused by this processor, which has no AVX-512"


def write_models(names, folder):
    import contextlib
    import io

    import make_families as families

    for name in names:
        family = families.FULL_SIZE[name]
        for export in ("script", "script-kept"):
            if export in families.exports_of(family):
                with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                    families.write(name, export, folder / f"{name}-{export}.onnx", family)


def mkl_fast_path(folder):
    """torch's MKL takes a slow path on other makers' processors unless this function says otherwise."""
    source, library = folder / "mkl.c", folder / "mkl.so"
    source.write_text("int mkl_serv_intel_cpu_true(void) { return 1; }\n")
    subprocess.run([os.environ.get("CC", "cc"), "-shared", "-fPIC", "-o", library, source], check=True)
    return str(library)


def have_openvino():
    try:
        import openvino  # noqa: F401
    except ImportError:
        print("OpenVINO is not installed and left out: pip install openvino==2026.4.1")
        return False
    return True


class Table:
    def __init__(self, peak_gflops):
        self.peak, self.measured, self.missed = peak_gflops, 0, []
        print(f"\n{'':42} {'ms':>9} {'(best)':>9} {'GFLOP/s':>8} {'of peak':>7} {'memory':>8} {'ratio':>6}  floor")

    def print(self, model, what, precision, batch, contenders):
        mine = contenders[0]
        for c in contenders:
            gflops = mine.report["gflop"] / c.median()
            text = (f"{model + ', ' + what + ', ' + precision + ', batch ' + str(batch):30} {c.name:11} {c.median() * 1e3:9.1f} "
                    f"{min(c.seconds) * 1e3:9.1f} {gflops:8.1f} {100 * gflops / self.peak[precision]:6.0f}% "
                    f"{c.report['peak_memory_bytes'] / 2**20:5.0f} MB")
            if c is not mine:
                ratio = statistics.median(p / m for p, m in zip(c.seconds, mine.seconds))
                text += f" {ratio:5.2f}x"
                floor = FLOORS.get((model, what, precision, c.name))
                if floor and (what == "train" or batch == 16):
                    self.measured += 1
                    verdict = "pass" if ratio >= floor else "MISSED"
                    text += f"  {floor:.1f}x {verdict}"
                    if ratio < floor:
                        self.missed.append(f"{model} {what} {precision}: {ratio:.2f}x of {floor:.1f}x")
            print(text, flush=True)
        if mine.report["allocations"]:
            print(f"  ours allocated {mine.report['allocations']} times inside timed runs")


def compete(contenders, rounds, runs):
    for c in contenders:
        c.ready()
    for _ in range(rounds):
        for c in contenders:
            c.turn(runs)
    for c in contenders:
        c.finish()
    return contenders


def forward(path, batch, precision, rounds, with_openvino):
    contenders = [ours(path, batch, precision, False), peer("onnxruntime", path, batch)]
    if with_openvino:
        contenders.append(peer("openvino", path, batch, precision))
    return compete(contenders, rounds, 6 if batch == 1 else 2)


def train(model, path, batch, precision, rounds, library):
    return compete([ours(path, batch, precision, True), peer("torch", model, batch, precision, LD_PRELOAD=library)], rounds, 1)


def conclude(table, before):
    """The peak again, and which floors of a Table are met; before: the peak at the start."""
    after = peak()
    print(f"\nmatmul 2048^3 f32 again: {after:.1f} GFLOP/s" +
          ("; the machine was not quiet: repeat" if abs(after - before) > 0.1 * before else ""))
    print(f"{table.measured - len(table.missed)} of {table.measured} floors are met" + "".join(f"\nmissed: {m}" for m in table.missed))


def main():
    parser = argparse.ArgumentParser(prog="tools/bench cnn", description=__doc__.split("\n\n", 1)[1])
    parser.add_argument("--model", choices=MODELS, action="append", help="only this one (may be repeated)")
    parser.add_argument("--what", choices=["forward", "train"], help="only this")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each contender (7)")
    parser.add_argument("--train-batch", type=int, default=32)
    options = parser.parse_args()
    names = options.model or MODELS
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        print("writing the models ...", flush=True)
        write_models(names, folder)
        library = mkl_fast_path(folder)
        with_openvino = options.what != "train" and have_openvino()
        before = peak()
        print(f"matmul 2048^3 f32, two threads: {before:.1f} GFLOP/s is the peak below")
        refused = why_no_bf16()
        precisions = ["f32"] if refused else ["f32", "bf16"]
        if refused:
            print(refused)
        table = Table({"f32": before, "bf16": 2 * before})
        for name in names:
            for precision in precisions:
                if options.what != "train":
                    for batch in (1, 16):
                        table.print(name, "forward", precision, batch,
                                    forward(folder / f"{name}-script.onnx", batch, precision, options.rounds, with_openvino))
                if options.what != "forward":
                    kept = folder / f"{name}-script-kept.onnx"
                    path = kept if kept.exists() else folder / f"{name}-script.onnx"
                    table.print(name, "train", precision, options.train_batch,
                                train(name, path, options.train_batch, precision, max(3, options.rounds - 2), library))
        conclude(table, before)
    return 0 if not table.missed else 1


if __name__ == "__main__":
    sys.exit(main())
