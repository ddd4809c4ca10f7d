"""A fit that is killed and resumed ends as if it had never stopped: weights, optimiser, sampler, BatchNorm, bit for bit.

The job has everything that a checkpoint must carry: a network with BatchNorm that is trained, AdamW, a schedule with
warm-up, the best model so far, early stopping, metrics after every epoch. FT_BUILD names the build folder.
"""
# alone: processes are killed at a moment
import json
import os
import random
import shlex
import shutil
import signal
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import onnx
import pytest

import finetuner_cli as cli

STEPS, PER_EPOCH, EVERY, KILLS = 120, 10, 7, 20
CALLBACKS = [
    {"name": "BestModelCheckpoint", "options": {"monitor": "map_at_r"}},
    {"name": "EarlyStopping", "options": {"monitor": "train_loss", "patience": 50}},
]
OPTIONS = [
    "net.onnx", "train.jsonl", "--eval", "eval.jsonl", "--steps", STEPS, "--batch-size", 60, "--seed", 11,
    "--checkpoint-steps", EVERY, "--callbacks", json.dumps(CALLBACKS), "--scheduler", "cosine", "--scheduler-options",
    '{"num_warmup_steps": 15}', "--output-dim", 24,
]


def read_checkpoint(path):
    """The format of executor/train/checkpoint.h, read independently: (job, state, {name: bytes})."""
    raw = Path(path).read_bytes()
    assert raw[:8] == b"FTCKPT\r\n"
    assert struct.unpack("<I", raw[-4:])[0] == zlib.crc32(raw[:-4])
    version, count = struct.unpack_from("<II", raw, 8)
    assert version == 1
    job, at = raw[16:80].decode(), 88
    (size,) = struct.unpack_from("<Q", raw, 80)
    state = json.loads(raw[at : at + size])
    at += size
    blobs = {}
    for _ in range(count):
        (n,) = struct.unpack_from("<I", raw, at)
        name = raw[at + 4 : at + 4 + n].decode()
        (size,) = struct.unpack_from("<Q", raw, at + 4 + n)
        at += 12 + n
        blobs[name] = raw[at : at + size]
        at += size
    assert at == len(raw) - 4
    return job, state, blobs


def checkpoints(work):
    """{step: path} of those that are there."""
    return {int(p.stem.split("-")[1]): p for p in Path(work).glob("checkpoint-*.ftc")}


def journal(work):
    """The steps that were told, a line cut short by a kill left out."""
    path = Path(work) / "steps.jsonl"
    lines = path.read_bytes().split(b"\n") if path.exists() else [b""]
    return [json.loads(line) for line in lines[:-1]]


AUGMENT = ["--augment", '{"preset": "strong", "rotate": 15, "pad": 1, "blur": 0.5}']


class Job:
    """The files of one job, and the run of it that nothing stopped."""

    def __init__(self, where, write=cli.write_jsonl, options=()):
        self.dir, self.options = where, options
        images, labels = cli.digits(1000)
        net = cli.half_trained(cli.Cnn)
        cli.export(net, where / "net.onnx", net.SHAPE, keep_batchnorm=True)
        norms = [n for n in onnx.load(where / "net.onnx").graph.node if n.op_type == "BatchNormalization"]
        assert len(norms) == 2  # else the test would not test them
        write(where / "train.jsonl", images[:600], labels[:600])
        cli.write_jsonl(where / "eval.jsonl", images[600:], labels[600:])
        self.summary = self.finish("whole")
        assert self.summary["steps"] == STEPS and self.summary["batch"] == 60
        assert self.summary["repeated_steps"] == 0 and self.summary["resumed_from"] == 0
        self.last = read_checkpoint(checkpoints(where / "whole")[STEPS])

    def words(self, name, *more):
        return ["fit", *OPTIONS, *self.options, "--out", f"{name}.zip", "--work-dir", name, *more]

    def finish(self, name, *more):
        return cli.ok(*self.words(name, "--json", "--quiet", *more), cwd=self.dir).json()

    def kill(self, name, step, how=signal.SIGKILL, *more):
        """Start and stop as soon as the journal tells of `step`. Returns (finished process, its stderr)."""
        before = len(journal(self.dir / name)) if "--resume" in more else 0
        path = self.dir / name / "steps.jsonl"
        child = cli.start(*self.words(name, *more), cwd=self.dir)
        deadline = time.monotonic() + 120
        told, size = 0, -1
        while told < step and child.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.0005)
            now = path.stat().st_size if path.exists() else -1
            if now != size and now >= 0:
                size = now
                told = path.read_bytes().count(b"\n") - before
        child.send_signal(how)
        out, err = child.communicate()
        return child.returncode, out.decode(), err.decode()

    def check_equal(self, name, summary):
        """Everything that must not depend on having been stopped."""
        mine = checkpoints(self.dir / name)
        assert sorted(mine) == sorted(checkpoints(self.dir / "whole"))
        job, state, blobs = read_checkpoint(mine[STEPS])
        assert job == self.last[0] and blobs.keys() == self.last[2].keys()
        for key in blobs:
            assert blobs[key] == self.last[2][key], f"{key} differs"
        assert state == self.last[1]
        for step, path in mine.items():
            assert path.read_bytes() == checkpoints(self.dir / "whole")[step].read_bytes()
        assert (self.dir / f"{name}.zip").read_bytes() == (self.dir / "whole.zip").read_bytes()
        for key in ["metrics", "history", "loss", "steps", "epochs", "best_epoch", "stopped_early"]:
            assert summary[key] == self.summary[key], key


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    return Job(tmp_path_factory.mktemp("resume"))


def test_a_checkpoint_holds_what_it_must(job):
    _, state, blobs = job.last
    assert state["step"] == STEPS and state["threads"] == len(os.sched_getaffinity(0))
    assert {"best_model", "early_stopping", "before", "history", "epoch_loss"} <= state.keys()
    assert len(state["history"]) == STEPS // PER_EPOCH
    # The network's BatchNorms have 16 and 32 channels, the projection's 32 and 24: a mean and a variance each.
    assert len(blobs["states"]) >= 4 * 2 * (16 + 32 + 32 + 24)
    for name in ["weights", "states", "optimizer-1", "optimizer-2", "best-weights", "best-states"]:
        assert np.frombuffer(blobs[name], np.float32).any(), name
    assert len(blobs["optimizer-1"]) == len(blobs["optimizer-2"]) == len(blobs["weights"])
    older = read_checkpoint(checkpoints(job.dir / "whole")[STEPS - 1])  # 119 = 17 * 7
    assert older[2]["states"] != blobs["states"] and older[2]["optimizer-2"] != blobs["optimizer-2"]


def test_the_run_itself_repeats(job):
    job.check_equal("once-more", job.finish("once-more"))


def test_killed_at_random_steps(job):
    seed = int(os.environ.get("FT_TEST_SEED", "20263"))
    rng = random.Random(seed)
    targets = sorted(rng.sample(range(1, STEPS - 2), KILLS))
    print(f"\nseed {seed}; {STEPS} steps, checkpoints every {EVERY} and at each epoch's end")
    print("kill wanted  last step told  resumed from  repeated")
    died = repeated = 0
    for n, target in enumerate(targets):
        name = f"kill-{n}"
        code, _, _ = job.kill(name, target)
        told = [line["step"] for line in journal(job.dir / name)]
        assert told == list(range(1, len(told) + 1))
        if code != -signal.SIGKILL:
            assert code == 0 and len(told) == STEPS  # it was faster than the signal
        died += code == -signal.SIGKILL
        newest = max(checkpoints(job.dir / name), default=0)
        result = cli.ok(*job.words(name, "--resume", "--json"), cwd=job.dir)
        summary = result.json()
        print(f"{target:11d}  {len(told):14d}  {summary['resumed_from']:12d}  {summary['repeated_steps']:8d}")
        assert summary["resumed_from"] == newest <= len(told)
        assert summary["repeated_steps"] == len(told) - newest
        if newest > 0:
            assert f"resumed after step {newest}; {len(told) - newest} steps are done again" in result.err
        again = [line["step"] for line in journal(job.dir / name)[len(told) :]]
        assert again == list(range(newest + 1, STEPS + 1))
        marked = [line["step"] for line in journal(job.dir / name) if line["again"]]
        assert marked == list(range(newest + 1, len(told) + 1))
        job.check_equal(name, summary)
        repeated += summary["repeated_steps"]
        shutil.rmtree(job.dir / name)
    print(f"{died} of {KILLS} died of SIGKILL, all ended with the same bits, {repeated} steps were repeated in all")
    assert died == KILLS


def test_augmentation_goes_on_with_the_same_pictures(job, tmp_path):
    """Other pictures in every step, the same ones after a kill; kept in memory or not, which is the machine's business."""
    augmented = Job(tmp_path, cli.write_blobs, AUGMENT)
    blobs = augmented.last[2]
    assert blobs.keys() == job.last[2].keys() and blobs["weights"] != job.last[2]["weights"]
    plain = cli.ok("fit", *OPTIONS, "--out", "plain.zip", "--work-dir", "plain", "--json", "--quiet", cwd=tmp_path).json()
    assert plain["metrics"]["before"] == augmented.summary["metrics"]["before"]  # evaluation is not augmented
    assert plain["loss"] != augmented.summary["loss"]
    rng = random.Random(cli.SEED)
    for n, target in enumerate(sorted(rng.sample(range(8, STEPS - 2), 4))):
        code, _, _ = augmented.kill(f"kill-{n}", target)
        newest = max(checkpoints(tmp_path / f"kill-{n}"), default=0)
        summary = augmented.finish(f"kill-{n}", "--resume")
        print(f"\nkilled after step {target}, resumed from {summary['resumed_from']}")
        assert code == -signal.SIGKILL and summary["resumed_from"] == newest > 0
        augmented.check_equal(f"kill-{n}", summary)


def test_killed_again_and_again(job):
    rng = random.Random(cli.SEED)
    more, lives = [], 0
    while not (job.dir / "often.zip").exists() and lives < 30:
        job.kill("often", rng.randint(12, 30), signal.SIGKILL, *more)
        more = ["--resume"]
        lives += 1
    summary = job.finish("often", "--resume")
    print(f"\nkilled {lives} times in one job, last resumed from {summary['resumed_from']}")
    assert lives >= 3
    assert summary["repeated_steps"] == len(journal(job.dir / "often")) - STEPS > 0
    job.check_equal("often", summary)


def test_killed_before_the_first_checkpoint(job):
    code, _, _ = job.kill("early", 1)
    told = len(journal(job.dir / "early"))
    assert code == -signal.SIGKILL
    for path in checkpoints(job.dir / "early").values():
        path.unlink()
    summary = job.finish("early", "--resume")
    assert summary["resumed_from"] == 0 and summary["repeated_steps"] == told
    job.check_equal("early", summary)


def test_a_damaged_checkpoint_is_passed_over(job):
    job.kill("damaged", 40)
    there = checkpoints(job.dir / "damaged")
    assert len(there) == 2
    newest = there[max(there)]
    raw = newest.read_bytes()
    for harm in (raw[: len(raw) // 2], raw[:-9] + bytes([raw[-9] ^ 1]) + raw[-8:], b""):
        shutil.rmtree(job.dir / "hurt", ignore_errors=True)
        shutil.copytree(job.dir / "damaged", job.dir / "hurt")
        (job.dir / "hurt" / newest.name).write_bytes(harm)
        summary = job.finish("hurt", "--resume")
        assert summary["resumed_from"] == min(there)
        job.check_equal("hurt", summary)
    for path in there.values():
        path.write_bytes(raw[:100])
    result = cli.finetuner(*job.words("damaged", "--resume", "--quiet"), cwd=job.dir)
    assert result.code == 3 and "damaged checkpoint" in result.err.splitlines()[-1], result


def test_a_checkpoint_of_another_job_is_refused(job):
    job.kill("mine", 30)
    for other in (["--seed", 12], ["--learning-rate", "0.01"], ["--freeze", "1"], ["--epochs", 3, "--steps", 0]):
        result = cli.finetuner(*job.words("mine", "--resume", "--quiet", *other), cwd=job.dir)
        assert result.code == 3 and "another job" in result.err and len(result.err.splitlines()) == 1, result
    data = (job.dir / "train.jsonl").read_text().splitlines(keepends=True)
    (job.dir / "fewer.jsonl").write_text("".join(data[:-1]))
    words = ["fewer.jsonl" if w == "train.jsonl" else w for w in job.words("mine", "--resume", "--quiet")]
    assert cli.finetuner(*words, cwd=job.dir).code == 3
    # What changes nothing about the result may differ: how often checkpoints are written.
    summary = job.finish("mine", "--resume", "--checkpoint-steps", 9)
    assert (job.dir / "mine.zip").exists() and summary["metrics"] == job.summary["metrics"]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_checkpoints_and_tells_how_to_go_on(job, how):
    name = f"signal-{int(how)}"
    code, out, err = job.kill(name, 33, how)
    told = len(journal(job.dir / name))
    assert code == 1 and out == "" and not (job.dir / f"{name}.zip").exists()
    assert f"stopped after step {told} of {STEPS}" in err
    assert max(checkpoints(job.dir / name)) == told
    command = next(line for line in err.splitlines() if line.startswith("  finetuner fit ")).strip()
    assert command.endswith(" --resume")
    words = shlex.split(command)[1:]
    summary = cli.ok(*words, "--json", cwd=job.dir).json()
    assert summary["resumed_from"] == told and summary["repeated_steps"] == 0
    job.check_equal(name, summary)


def test_a_signal_with_json_prints_one_object(job):
    code, out, err = job.kill("json", 20, signal.SIGINT, "--json")
    assert code == 1
    told = cli.Result([], code, out, err).json()
    assert told["status"] == "cancelled" and told["out"] is None and told["steps"] == len(journal(job.dir / "json"))
    assert "--resume" in err


def test_the_work_folder_beside_the_output(job):
    """Without --work-dir it lies beside the output, is found again by --resume and goes when all is done."""
    words = ["fit", *OPTIONS, "--out", "beside.zip"]
    work = job.dir / "beside.zip.work"
    child = cli.start(*words, cwd=job.dir)
    while len(checkpoints(work)) < 2 and child.poll() is None:
        time.sleep(0.001)
    child.kill()
    child.communicate()
    kept = checkpoints(work)
    refused = cli.finetuner(*words, cwd=job.dir)  # who forgets --resume loses nothing
    assert refused.code == 3 and "beside.zip.work" in refused.err and "--resume" in refused.err and checkpoints(work) == kept
    summary = cli.ok(*words, "--resume", "--json", cwd=job.dir).json()
    assert summary["resumed_from"] > 0 and not work.exists()
    assert (job.dir / "beside.zip").read_bytes() == (job.dir / "whole.zip").read_bytes()
