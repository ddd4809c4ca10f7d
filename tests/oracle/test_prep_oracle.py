"""Image preprocessing against Pillow and torchvision: random images, sizes and options, pixel by pixel.

FT_BUILD names the build folder whose tests/prep_probe is run.
"""
import json
import os
import random
import subprocess

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import models, transforms
from torchvision.transforms import InterpolationMode

PROBE = os.path.join(os.environ["FT_BUILD"], "tests", "prep_probe")
MODES = {"bilinear": InterpolationMode.BILINEAR, "bicubic": InterpolationMode.BICUBIC}
SEED = 20261


def probe(dims, options, paths):
    out = subprocess.run(
        [PROBE, ",".join(map(str, dims)), json.dumps(options), *map(str, paths)], capture_output=True, check=False
    )
    assert out.returncode == 0, out.stderr.decode()
    return np.frombuffer(out.stdout, np.float32).reshape(len(paths), *dims)


def picture(rng, height, width, mode):
    """Noise of several scales with hard edges: ringing and rounding both show."""
    channels = 3 if mode == "RGB" else 1
    a = rng.integers(0, 256, (height, width, channels))
    if rng.random() < 0.5:
        a = np.where(rng.random((height, width, 1)) < 0.5, 0, 255) * np.ones((1, 1, channels))
    if rng.random() < 0.3:
        a = np.add.outer(np.arange(height), np.arange(width))[:, :, None] % 256 * np.ones((1, 1, channels))
    a = a.astype(np.uint8)
    return Image.fromarray(a if channels == 3 else a[:, :, 0], mode)


def save(tmp_path, images, suffix="png", **kw):
    paths = []
    for i, image in enumerate(images):
        paths.append(tmp_path / f"{i}.{suffix}")
        image.save(paths[-1], **kw)
    return paths


def as_uint8(rows):
    back = np.rint(rows * 255.0)
    assert np.abs(rows * 255.0 - back).max() < 1e-3
    return back.astype(np.int64)


@pytest.mark.parametrize("filter_name", ["bilinear", "bicubic"])
def test_resize_equals_pillow(tmp_path, filter_name):
    rng = np.random.default_rng(SEED)
    worst, different, pixels = 0, 0, 0
    for case in range(60):
        small = case % 3 == 0
        h, w = (int(v) for v in rng.integers(1, 40 if small else 400, 2))
        if case % 4 == 0:
            h = max(1, w // 8)  # Pillow takes the vertical pass first
        mode = "RGB" if rng.random() < 0.6 else "L"
        images = [picture(rng, int(rng.integers(1, 60 if small else 500)), int(rng.integers(1, 60 if small else 500)), mode)
                  for _ in range(3)]
        images.append(picture(rng, h, int(rng.integers(1, 90)), mode))  # one axis keeps its size
        channels = 1 if rng.random() < 0.4 else 3
        paths = save(tmp_path, images)
        got = as_uint8(probe((channels, h, w), {"filter": filter_name}, paths))
        for row, image in zip(got, images):
            want = image.convert("L" if channels == 1 else "RGB").resize(
                (w, h), Image.BILINEAR if filter_name == "bilinear" else Image.BICUBIC)
            want = np.asarray(want).reshape(h, w, channels).transpose(2, 0, 1).astype(np.int64)
            difference = np.abs(row - want)
            worst = max(worst, int(difference.max()))
            different += int((difference > 0).sum())
            pixels += want.size
    print(f"prep {filter_name}: {pixels} values, {different} differ from Pillow, at most by {worst} of 255")
    assert worst == 0


@pytest.mark.parametrize("filter_name", ["bilinear", "bicubic"])
def test_short_side_and_crop_equal_torchvision(tmp_path, filter_name):
    rng = np.random.default_rng(SEED + 1)
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    worst = 0.0
    for _ in range(40):
        resize_to = int(rng.integers(8, 120))
        h, w = (int(v) for v in rng.integers(4, resize_to + (20 if rng.random() < 0.3 else 1), 2))
        images = [picture(rng, int(rng.integers(3, 300)), int(rng.integers(3, 300)), "RGB") for _ in range(3)]
        paths = save(tmp_path, images)
        options = {"resize": "short", "resize_to": resize_to, "filter": filter_name, "mean": mean, "std": std}
        got = probe((3, h, w), options, paths)
        peer = transforms.Compose([
            transforms.Resize(resize_to, MODES[filter_name]),
            transforms.CenterCrop((h, w)),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ])
        for row, image in zip(got, images):
            worst = max(worst, float((torch.from_numpy(row.copy()) - peer(image)).abs().max()))
    print(f"prep short side {filter_name}: largest difference to torchvision {worst:.2e}")
    # Multiplying by 1/255 instead of dividing by 255 moves the last bit; one pixel value is 0.017.
    assert worst < 2e-6


def test_exact_size_and_layouts_equal_torchvision(tmp_path):
    rng = np.random.default_rng(SEED + 2)
    images = [picture(rng, 50, 31, "RGB") for _ in range(4)]
    paths = save(tmp_path, images)
    peer = transforms.Compose([transforms.Resize((24, 40)), transforms.ToTensor()])
    want = torch.stack([peer(i) for i in images]).numpy()
    rows = probe((3, 24, 40), {}, paths)
    assert np.abs(rows - want).max() < 1e-6
    assert np.array_equal(probe((24, 40, 3), {}, paths), rows.transpose(0, 2, 3, 1))
    inverted = probe((3, 50, 31), {"invert": True, "resize": "none"}, paths)
    assert np.abs(inverted - torch.stack([1 - transforms.ToTensor()(i) for i in images]).numpy()).max() < 1e-6


def test_grey_equals_pillow_for_every_colour(tmp_path):
    rng = np.random.default_rng(SEED + 3)
    images = [Image.fromarray(rng.integers(0, 256, (512, 512, 3)).astype(np.uint8), "RGB") for _ in range(4)]
    got = as_uint8(probe((1, 512, 512), {"resize": "none"}, save(tmp_path, images)))
    for row, image in zip(got, images):
        assert np.array_equal(row[0], np.asarray(image.convert("L")))


def test_jpeg_within_one_of_pillow(tmp_path):
    rng = np.random.default_rng(SEED + 4)
    random.seed(SEED)
    worst = 0
    for case in range(20):
        base = Image.fromarray(rng.integers(0, 256, (9, 11, 3)).astype(np.uint8), "RGB")
        image = base.resize((int(rng.integers(16, 300)), int(rng.integers(16, 300))), Image.BICUBIC)
        paths = save(tmp_path, [image], "jpg", quality=random.choice([60, 80, 95]), subsampling=case % 3)
        got = as_uint8(probe((3, 64, 64), {}, paths))[0]
        want = np.asarray(Image.open(paths[0]).convert("RGB").resize((64, 64), Image.BILINEAR))
        worst = max(worst, int(np.abs(got - want.transpose(2, 0, 1).astype(np.int64)).max()))
    print(f"prep JPEG: largest difference to Pillow {worst} of 255")
    assert worst <= 1


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_png_modes_equal_pillow(tmp_path, mode):
    rng = np.random.default_rng(SEED + 5)
    a = rng.integers(0, 256, (37, 53, 4)).astype(np.uint8)
    if mode == "I;16":
        image = Image.fromarray(rng.integers(0, 65536, (37, 53)).astype(np.uint16))
    elif mode == "P":
        image = Image.fromarray(a[:, :, :3], "RGB").quantize(64)
    else:
        image = Image.fromarray(a, "RGBA").convert(mode)
    path = save(tmp_path, [image])
    got = as_uint8(probe((3, 20, 20), {}, path))[0]
    want = np.asarray(Image.open(path[0]).convert("RGB").resize((20, 20), Image.BILINEAR)).transpose(2, 0, 1)
    assert np.array_equal(got, want.astype(np.int64))


# preset: torchvision's weights that it stands for, or (short side, size, filter, mean, std) as its authors publish it
HALF, IMAGENET = [0.5] * 3, ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
CLIP = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
PRESETS = {
    "imagenet": [models.ResNet18_Weights.IMAGENET1K_V1, models.VGG16_Weights.IMAGENET1K_V1,
                 models.DenseNet121_Weights.IMAGENET1K_V1, models.MobileNet_V2_Weights.IMAGENET1K_V1,
                 models.GoogLeNet_Weights.IMAGENET1K_V1, models.ViT_B_16_Weights.IMAGENET1K_V1],
    "imagenet-v2": [models.ResNet50_Weights.IMAGENET1K_V2, models.ResNeXt50_32X4D_Weights.IMAGENET1K_V2,
                    models.Wide_ResNet50_2_Weights.IMAGENET1K_V2, models.RegNet_Y_8GF_Weights.IMAGENET1K_V2,
                    models.MobileNet_V2_Weights.IMAGENET1K_V2, models.ConvNeXt_Base_Weights.IMAGENET1K_V1,
                    models.ConvNeXt_Large_Weights.IMAGENET1K_V1],
    "inception-v3": [models.Inception_V3_Weights.IMAGENET1K_V1],
    "efficientnet-b0": [models.EfficientNet_B0_Weights.IMAGENET1K_V1],
    "efficientnet-b1": [models.EfficientNet_B1_Weights.IMAGENET1K_V1],
    "efficientnet-b2": [models.EfficientNet_B2_Weights.IMAGENET1K_V1],
    "efficientnet-b3": [models.EfficientNet_B3_Weights.IMAGENET1K_V1],
    "efficientnet-b4": [models.EfficientNet_B4_Weights.IMAGENET1K_V1],
    "efficientnet-b5": [models.EfficientNet_B5_Weights.IMAGENET1K_V1],
    "efficientnet-b6": [models.EfficientNet_B6_Weights.IMAGENET1K_V1],
    "efficientnet-b7": [models.EfficientNet_B7_Weights.IMAGENET1K_V1],
    "efficientnet-v2-s": [models.EfficientNet_V2_S_Weights.IMAGENET1K_V1],
    "efficientnet-v2-m": [models.EfficientNet_V2_M_Weights.IMAGENET1K_V1],
    "efficientnet-v2-l": [models.EfficientNet_V2_L_Weights.IMAGENET1K_V1],
    "convnext-tiny": [models.ConvNeXt_Tiny_Weights.IMAGENET1K_V1],
    "convnext-small": [models.ConvNeXt_Small_Weights.IMAGENET1K_V1],
    "vit-l-16": [models.ViT_L_16_Weights.IMAGENET1K_V1],
    "swin-t": [models.Swin_T_Weights.IMAGENET1K_V1],
    "swin-s": [models.Swin_S_Weights.IMAGENET1K_V1],
    "swin-b": [models.Swin_B_Weights.IMAGENET1K_V1],
    "vit-augreg": [(248, 224, "bicubic", HALF, HALF)],
    "clip": [(224, 224, "bicubic", *CLIP)],
    "finetuner": [((224, 224), 224, "bilinear", *IMAGENET)],
}


def pipeline(peer):
    """(size, callable) of one entry above."""
    if not isinstance(peer, tuple):
        made = peer.transforms()
        return made.crop_size[0], made
    resize_to, size, filter_name, mean, std = peer
    return size, transforms.Compose([
        transforms.Resize(resize_to, MODES[filter_name]), transforms.CenterCrop(size), transforms.ToTensor(),
        transforms.Normalize(mean, std)])


def test_every_preset_is_compared():
    bad = subprocess.run([PROBE, "3,9,9", '{"preset": "?"}', "x"], capture_output=True, check=False)
    names = bad.stderr.decode().split("one of ")[1].strip().split(", ")
    assert names == list(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_equal_torchvision(tmp_path, name):
    rng = np.random.default_rng(SEED + 6)
    images = [picture(rng, 375, 500, "RGB"), picture(rng, 320, 200, "RGB")]
    paths = save(tmp_path, images)
    for peer in PRESETS[name]:
        size, apply = pipeline(peer)
        got = probe((3, size, size), {"preset": name}, paths)
        worst = max(float((torch.from_numpy(r.copy()) - apply(i)).abs().max()) for r, i in zip(got, images))
        print(f"{name} {peer}: {worst:.1e}")
        assert worst < 2e-6  # the last bit: a product with 1/255 instead of a quotient
    # What is said beside a preset counts; the size of an open input is the preset's; other sizes go in proportion.
    plain = probe((3, size, size), {"preset": name, "mean": 0, "std": 1}, paths)
    assert plain.min() >= 0 and plain.max() <= 1


def test_presets_in_proportion(tmp_path):
    images = [picture(np.random.default_rng(SEED), 120, 90, "RGB")]
    paths = save(tmp_path, images)
    options = {"resize": "short", "resize_to": 36, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    assert np.array_equal(probe((3, 32, 32), {"preset": "imagenet"}, paths), probe((3, 32, 32), options, paths))
