"""Each operation on pixels against Pillow, or torchvision on Pillow's images: 1,000 random pictures an operation, bit for bit.

The parameters are explicit on both sides: nothing is drawn by the program. FT_BUILD names the build folder whose
tests/prep_probe is run once an operation.
"""
import io
import os
import struct
import subprocess
import warnings

import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin
from torchvision.transforms import functional as F

PROBE = os.path.join(os.environ["FT_BUILD"], "tests", "prep_probe")
SEED = int(os.environ.get("FT_TEST_SEED", "20264"))
COUNT = 1000
FILTERS = ["BILINEAR", "BICUBIC", "NEAREST", "BOX", "HAMMING", "LANCZOS"]  # in the order of enum ft_filter


def sides(rng):
    """1 x 1, lines, squares, posters; now and then large."""
    kind = rng.random()
    if kind < 0.05:
        return tuple(int(v) for v in rng.integers(1, 4, 2))
    if kind < 0.15:
        return tuple(int(v) for v in rng.permutation([int(rng.integers(1, 4)), int(rng.integers(50, 400))]))
    if kind < 0.9:
        return tuple(int(v) for v in rng.integers(1, 90, 2))
    if kind < 0.99:
        return tuple(int(v) for v in rng.integers(90, 300, 2))
    return tuple(int(v) for v in rng.integers(300, 900, 2))


def noise(rng, height, width):
    """Noise, hard edges, ramps, few colours: ringing, ties and clipping all show."""
    kind = rng.integers(0, 5)
    if kind == 0:
        return rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
    if kind == 1:
        return (rng.integers(0, 2, (height, width, 3)) * 255).astype(np.uint8)
    if kind == 2:
        ramp = np.add.outer(np.arange(height), np.arange(width))[:, :, None] * rng.integers(1, 5, 3)
        return (ramp % 256).astype(np.uint8)
    if kind == 3:
        return rng.integers(0, 256, 3).astype(np.uint8) * np.ones((height, width, 1), np.uint8)
    return np.clip(rng.normal(rng.integers(0, 256), 20, (height, width, 3)), 0, 255).astype(np.uint8)


def ask(lines):
    """One call of the probe; a list of arrays (height, width, channels)."""
    done = subprocess.run([PROBE, "-"], input="".join(lines).encode(), capture_output=True, check=False)
    assert done.returncode == 0 and done.stderr == b"", done.stderr.decode()[-2000:]
    out, at = [], 0
    for _ in lines:
        height, width, channels = struct.unpack_from("<3i", done.stdout, at)
        size = height * width * channels
        out.append(np.frombuffer(done.stdout, np.uint8, size, at + 12).reshape(height, width, channels))
        at += 12 + size
    assert at == len(done.stdout)
    return out


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """(path, channels, Pillow image) a thousand times."""
    print(f"\nseed {SEED}")
    where = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(SEED)
    out = []
    for i in range(COUNT):
        height, width = (1, 1) if i == 0 else sides(rng)
        image = Image.fromarray(noise(rng, height, width), "RGB")
        grey = rng.random() < 0.25
        image = image.convert("L") if grey else image
        path = where / f"{i}.png"
        image.save(path, compress_level=1)
        out.append((path, 1 if grey else 3, image))
    return out


def compare(pictures, name, parameters, peer, tolerance=0, where=lambda image: True):
    """parameters(rng, image) -> numbers for the probe; peer(image, *numbers) -> Pillow image."""
    rng = np.random.default_rng([SEED, len(name)])
    chosen = [p for p in pictures if where(p[2])]
    numbers = [parameters(rng, image) for _, _, image in chosen]
    lines = [f"{c} {path} {name} {' '.join(repr(float(n)) for n in ns)}\n" for (path, c, _), ns in zip(chosen, numbers)]
    worst, different, values = 0, 0, 0
    for (path, channels, image), ns, got in zip(chosen, numbers, ask(lines)):
        want = np.asarray(peer(image, *ns))
        assert got.shape == (*want.shape[:2], channels), (path, ns)
        off = np.abs(got.astype(np.int64) - want.reshape(got.shape).astype(np.int64))
        if off.max() > tolerance:
            print(f"{path} {image.size} {image.mode} {name} {ns}: off by {off.max()} at {np.argwhere(off > tolerance)[:3]}")
        worst = max(worst, int(off.max()))
        different += int((off > 0).sum())
        values += off.size
    print(f"{name}: {len(chosen)} pictures, {values} values, {different} differ, at most by {worst} of 255")
    assert worst <= tolerance
    return len(chosen)


@pytest.mark.parametrize("which", range(len(FILTERS)), ids=FILTERS)
def test_resize(pictures, which):
    method = getattr(Image.Resampling, FILTERS[which])
    print(FILTERS[which], end=" ")
    assert COUNT == compare(
        pictures, "resize", lambda rng, image: (which, *sides(rng)),
        lambda image, _, height, width: image.resize((width, height), method),
    )


def test_window(pictures):
    def window(rng, image):
        w, h = image.size
        top, left = rng.integers(-h - 5, h + 5), rng.integers(-w - 5, w + 5)
        return int(top), int(left), int(rng.integers(1, 2 * h + 3)), int(rng.integers(1, 2 * w + 3))

    compare(pictures, "window", window, lambda image, top, left, h, w: image.crop((left, top, left + w, top + h)))


def test_random_crop_with_padding_is_a_window(pictures):
    """torchvision: pad by p, then crop at (i, j): the window at (i - p, j - p)."""

    def window(rng, image):
        pad = int(rng.integers(1, 9))
        return (*(int(v) - pad for v in rng.integers(0, 2 * pad + 1, 2)), image.height, image.width, pad)

    rng = np.random.default_rng(SEED)
    chosen = pictures[:COUNT]
    numbers = [window(rng, image) for _, _, image in chosen]
    lines = [f"{c} {p} window {' '.join(map(str, n[:4]))}\n" for (p, c, _), n in zip(chosen, numbers)]
    for (_, c, image), (top, left, h, w, pad), got in zip(chosen, numbers, ask(lines)):
        want = np.asarray(F.crop(F.pad(image, pad), top + pad, left + pad, h, w)).reshape(h, w, c)
        assert np.array_equal(got, want)


def test_center_crop(pictures):
    compare(pictures, "crop", lambda rng, image: sides(rng), lambda image, h, w: F.center_crop(image, [h, w]))


def test_horizontal_flip(pictures):
    compare(pictures, "flip", lambda rng, image: (), F.hflip)


def test_rotate(pictures):
    def degrees(rng, image):
        return (float(rng.choice([0, 90, -90, 180, 45, 30])) if rng.random() < 0.1 else float(rng.uniform(-180, 180)),)

    compare(pictures, "rotate", degrees, lambda image, d: F.rotate(image, d, F.InterpolationMode.BILINEAR))


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_color_factors(pictures, name):
    def factor(rng, image):
        return (float(rng.choice([0.0, 1.0, 2.0, 0.5])) if rng.random() < 0.1 else float(rng.uniform(0, 3)),)

    compare(pictures, name, factor, getattr(F, f"adjust_{name}"))


def test_hue(pictures):
    compare(pictures, "hue", lambda rng, image: (float(rng.uniform(-0.5, 0.5)),), F.adjust_hue)


def test_hue_of_every_colour(tmp_path):
    """All 16,777,216 of them, by two turns."""
    colours = np.arange(1 << 24, dtype=np.uint32)
    cube = np.stack([colours >> 16 & 255, colours >> 8 & 255, colours & 255], -1).astype(np.uint8).reshape(4096, 4096, 3)
    image = Image.fromarray(cube, "RGB")
    image.save(tmp_path / "all.png", compress_level=1)
    for turn, got in zip((0.1, -0.37), ask([f"3 {tmp_path}/all.png hue {t}\n" for t in (0.1, -0.37)])):
        assert np.array_equal(got, np.asarray(F.adjust_hue(image, turn)))


def test_grayscale(pictures):
    compare(pictures, "grey", lambda rng, image: (), lambda image: F.rgb_to_grayscale(image, 3),
            where=lambda image: image.mode == "RGB")


def test_gaussian_blur(pictures):
    """Within 1: a sum of 32-bit floats that lies at a half is rounded up or down by the order in which it was added."""

    def kernel(rng, image):
        most = 2 * (min(image.size) - 1) + 1  # torchvision cannot mirror more
        return int(min(most, 1 + 2 * rng.integers(0, 12))), float(rng.uniform(0.1, 4))

    compare(pictures, "blur", kernel, lambda image, k, s: F.gaussian_blur(image, [k, k], [s, s]), tolerance=1)


# ---- files


def decode_all(tmp_path, count, make, options="decode 0", tolerance=0, peer=None):
    """make(rng, i) -> bytes of a file; each against Image.open(...).convert("RGB")."""
    rng = np.random.default_rng(SEED)
    lines, wants = [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own, about palettes with transparency
        for i in range(count):
            data = make(rng, i)
            path = tmp_path / f"{i}.image"
            path.write_bytes(data)
            image = Image.open(io.BytesIO(data))
            wants.append(np.asarray((peer(image) if peer else image).convert("RGB")).astype(np.int64))
            lines.append(f"3 {path} {options}\n")
    worst, different = 0, 0
    for got, want in zip(ask(lines), wants):
        assert got.shape == want.shape
        off = np.abs(got - want)
        worst, different = max(worst, int(off.max())), different + int((off > 0).sum())
    print(f"{count} files, {different} of {sum(w.size for w in wants)} values differ, at most by {worst} of 255")
    assert worst <= tolerance


def save(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def test_decode_png(tmp_path):
    modes = ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "I;16"]

    def make(rng, i):
        height, width = sides(rng)
        image = Image.fromarray(noise(rng, height, width), "RGB")
        mode = modes[i % len(modes)]
        if mode == "I;16":
            return save(Image.fromarray(rng.integers(0, 65536, (height, width)).astype(np.uint16)), "PNG")
        if mode in ("P", "PA"):
            colours = int(rng.choice([2, 4, 16, 64, 256]))
            options = {"transparency": int(rng.integers(0, colours))} if mode == "PA" else {}
            return save(image.quantize(colours), "PNG", **options)
        if mode.endswith("A"):
            image.putalpha(Image.fromarray(rng.integers(0, 256, (height, width)).astype(np.uint8)))
        return save(image.convert(mode), "PNG", compress_level=1)

    decode_all(tmp_path, COUNT, make)


def test_decode_webp(tmp_path):
    def make(rng, i):
        height, width = sides(rng)
        image = Image.fromarray(noise(rng, min(height, 300), min(width, 300)), "RGB")
        if i % 3 == 0:
            image.putalpha(Image.fromarray(rng.integers(0, 256, image.size[::-1]).astype(np.uint8)))
        lossless = bool(rng.random() < 0.3)
        return save(image, "WEBP", quality=int(rng.integers(0, 101)), lossless=lossless, method=int(rng.integers(0, 4)),
                    exact=bool(rng.random() < 0.5))

    decode_all(tmp_path, COUNT, make)


def test_decode_jpeg(tmp_path):
    """Within 1: Pillow's wheel has a newer libjpeg-turbo than Debian 12."""

    def make(rng, i):
        height, width = sides(rng)
        small = noise(rng, max(1, height // 4), max(1, width // 4))
        image = Image.fromarray(small, "RGB").resize((width, height), Image.BICUBIC)
        mode = ["RGB", "RGB", "L", "CMYK"][i % 4]
        return save(image.convert(mode), "JPEG", quality=int(rng.integers(30, 101)), progressive=bool(rng.random() < 0.4),
                    **({"subsampling": int(rng.integers(0, 3))} if mode == "RGB" else {}))

    decode_all(tmp_path, COUNT, make, tolerance=1)


def test_exif_turns_as_pillow_does(tmp_path):
    kinds = [("PNG", {}), ("WEBP", {"lossless": True}), ("JPEG", {"subsampling": 0})]

    def make(rng, i):
        kind, options = kinds[i % 3]
        image = Image.fromarray(noise(rng, *(int(v) for v in rng.integers(1, 40, 2))), "RGB")
        exif = Image.Exif()
        for tag, value in ((0x010E, "x" * int(rng.integers(0, 3000))), (0x011A, 72.0), (0x0131, "program")):
            if rng.random() < 0.5:
                exif[tag] = value
        if rng.random() < 0.95:
            exif[0x0112] = int(rng.integers(0, 11))  # 0, 9 and 10 say nothing
        exif.endian = str(rng.choice(["<", ">"]))
        data = exif.tobytes()
        if rng.random() < 0.1:
            data = data[: int(rng.integers(6, 20))]  # cut inside its head or first entry
        return save(image, kind, exif=data, **options)

    def upright(image):
        try:
            return ImageOps.exif_transpose(image)
        except (SyntaxError, struct.error, ValueError):  # Pillow gives up, we read on
            return image

    decode_all(tmp_path, COUNT, make, "decode 1", 1, upright)


def test_profiles_and_texts_of_megabytes_do_not_matter(tmp_path):
    rng = np.random.default_rng(SEED)
    image = Image.fromarray(noise(rng, 40, 30), "RGB")
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "x" * 900_000, zip=True)
    exif = Image.Exif()
    exif[0x010E] = "y" * 60_000
    exif[0x0112] = 6
    profile = rng.integers(0, 256, 900_000).astype(np.uint8).tobytes()
    files = [
        save(image, "PNG", pnginfo=info, icc_profile=profile, exif=exif.tobytes()),
        save(image, "JPEG", icc_profile=profile, exif=exif.tobytes(), subsampling=0),
        save(image, "WEBP", icc_profile=profile, exif=exif.tobytes(), lossless=True),
    ]
    decode_all(tmp_path, 3, lambda _, i: files[i], "decode 1", 1, ImageOps.exif_transpose)
