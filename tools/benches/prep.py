"""Images a second on one core: Pillow and torchvision beside ours, on JPEGs of 500 x 375. Usage: prep.py BUILD [SECONDS]"""
import io
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision import transforms

build, seconds = sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 3.0
os.sched_setaffinity(0, {0})
torch.set_num_threads(1)
rng = np.random.default_rng(1)


def photograph():
    """Smooth shapes with some grain: about as many bytes as a photograph of that size (60 to 80 KB)."""
    base = Image.fromarray(rng.integers(0, 256, (24, 32, 3)).astype(np.uint8)).resize((500, 375), Image.BICUBIC)
    grain = rng.normal(0, 8, (375, 500, 1))
    return Image.fromarray(np.clip(np.asarray(base) + grain, 0, 255).astype(np.uint8))


def measure(name, run, items):
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        for item in items:
            run(item)
        done += len(items)
    print(f"{name:28} {done / (time.perf_counter() - began):8.1f} images/s", flush=True)


with tempfile.TemporaryDirectory() as where:
    paths, files = [], []
    for i in range(16):
        out = io.BytesIO()
        photograph().save(out, "JPEG", quality=90)
        paths.append(str(Path(where) / f"{i}.jpg"))
        Path(paths[-1]).write_bytes(out.getvalue())
        files.append(out.getvalue())
    print(f"16 JPEGs of 500 x 375, {sum(map(len, files)) // 16000} KB each, one core")
    half = [transforms.Resize(256), transforms.CenterCrop(224)]
    whole = transforms.Compose([*half, transforms.ToTensor(), transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])])
    strong = transforms.Compose([
        transforms.RandomResizedCrop(224, (0.25, 1)), transforms.RandomHorizontalFlip(),
        transforms.ColorJitter(0.4, 0.4, 0.4, 0.1), transforms.RandomGrayscale(0.1),
        transforms.RandomApply([transforms.GaussianBlur(23)], 0.2), *whole.transforms[2:], transforms.RandomErasing(0.25)])
    images = [Image.open(io.BytesIO(f)).convert("RGB") for f in files]
    print("Pillow and torchvision")
    measure("decode", lambda f: Image.open(io.BytesIO(f)).convert("RGB"), files)
    measure("decode, resize, crop", lambda f: transforms.Compose(half)(Image.open(io.BytesIO(f)).convert("RGB")), files)
    measure("decode, resize, crop, floats", lambda f: whole(Image.open(io.BytesIO(f)).convert("RGB")), files)
    measure("strong", strong, images)
    print("ours", flush=True)
    subprocess.run([f"{build}/tools/benches/bench_prep", '{"preset": "imagenet"}', str(seconds), *paths], check=True)
