"""Broken and hostile images: refused in one line that names the file, quickly, and never a crash.

Through the program for each kind of harm; through the probe for hundreds of places to cut and to flip. FT_BUILD may name
a sanitized build.
"""
# alone: refusals have to be quick
import io
import random
import struct
import subprocess
import time
import zlib

import numpy as np
import pytest
from PIL import Image

import finetuner_cli as cli
from test_broken import folder, place, refused  # noqa: F401 (place is a fixture)
from test_pixels_oracle import PROBE

SEED = 20264


def picture(height=40, width=60):
    y, x = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([x * 4 % 256, y * 5 % 256, x * y % 256], -1).astype(np.uint8), "RGB")


def save(kind, image=None, **options):
    out = io.BytesIO()
    (image or picture()).save(out, kind, **options)
    return out.getvalue()


def chunk(name, data, crc=None):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data) if crc is None else crc)


def png(width=8, height=8, depth=8, colour=2, interlace=0, before=b"", data=None, **head):
    raw = zlib.compress(bytes((width * 3 + 1) * height)) if data is None else data
    ihdr = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", ihdr, **head) + before + chunk(b"IDAT", raw) + chunk(b"IEND", b"")


def sof(data, **fields):
    """A JPEG with numbers of its frame header overwritten."""
    at = next(i for i in range(2, len(data)) if data[i] == 0xFF and data[i + 1] in (0xC0, 0xC2))
    out = bytearray(data)
    for name, (offset, size) in {"precision": (4, 1), "height": (5, 2), "width": (7, 2), "components": (9, 1)}.items():
        if name in fields:
            out[at + offset : at + offset + size] = fields[name].to_bytes(size, "big")
    if "kind" in fields:
        out[at + 1] = fields["kind"]
    return bytes(out)


def scans(count):
    """A progressive file whose last scan comes again and again."""
    data = save("JPEG", picture(600, 800), progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * count + data[-2:]


def webp(**options):
    return save("WEBP", **options)


def vp8x(width, height, rest=b""):
    body = b"VP8X" + struct.pack("<I", 10) + bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBP" + body + rest
    return b"RIFF" + struct.pack("<I", len(body)) + body


def animated():
    return webp(save_all=True, append_images=[picture().rotate(90)], duration=100)


LOSSLESS = webp(lossless=True)
CASES = {
    # name: (suffix, bytes, words of the message)
    "a PNG of 3.6 thousand million pixels": ("png", png(60000, 60000, data=b"x"), "60000 x 60000 pixels.*limit of 178956970"),
    "a PNG of no width": ("png", png(0, 8, data=b"x"), "PNG"),
    "a PNG of no height": ("png", png(8, 0, data=b"x"), "PNG"),
    "a PNG that promises more rows": ("png", png(8, 80, data=zlib.compress(bytes(25 * 8))), "PNG"),
    "a PNG with a wrong checksum": ("png", png(crc=1), "PNG.*CRC"),
    "a PNG without a palette": ("png", png(colour=3, data=zlib.compress(bytes(9 * 8))), "PNG.*PLTE"),
    "a PNG of colour type 5": ("png", png(colour=5), "PNG"),
    "a PNG of 3 bits": ("png", png(depth=3), "PNG"),
    "a PNG interlaced by 7": ("png", png(interlace=7), "PNG"),
    "a PNG of random data": ("png", png(data=random.Random(SEED).randbytes(300)), "PNG"),
    "a PNG with a chunk of 4 GB": ("png", png(before=b"\xff\xff\xff\xffzTXt"), "PNG"),
    "a PNG that is its signature": ("png", png()[:8], "PNG.*cut off"),
    "a PNG without an end": ("png", png()[:-12], "PNG"),
    "a PNG bomb in an image chunk": ("png", png(100, 100, data=zlib.compress(bytes(50_000_000))[:500]), "PNG"),
    "a JPEG of 4.2 thousand million pixels": ("jpg", sof(save("JPEG"), height=65500, width=65500), "65500 x 65500 pixels.*limit"),
    "a JPEG of no width": ("jpg", sof(save("JPEG"), width=0), "JPEG"),
    "a JPEG of no height": ("jpg", sof(save("JPEG"), height=0), "JPEG"),
    "a JPEG of 12 bits": ("jpg", sof(save("JPEG"), precision=12), "JPEG.*12"),
    "a JPEG of 2 components": ("jpg", sof(save("JPEG"), components=2), "JPEG"),
    "a lossless JPEG": ("jpg", sof(save("JPEG"), kind=0xC3), "JPEG"),
    "a JPEG without a picture": ("jpg", b"\xff\xd8\xff\xd9", "JPEG"),
    "a JPEG that is its signature": ("jpg", b"\xff\xd8\xff", "JPEG"),
    "a JPEG cut in its data": ("jpg", save("JPEG")[:-300], "JPEG.*cut off"),
    "a JPEG cut in its tables": ("jpg", save("JPEG")[:100], "JPEG"),
    "a JPEG of 3,000 scans": ("jpg", scans(3000), "more than 500 scans"),
    "a WebP of 260 million pixels": ("webp", vp8x(16384, 16384, LOSSLESS[12:]), "WebP"),
    "a WebP whose canvas is not its picture": ("webp", vp8x(100, 100, LOSSLESS[12:]), "WebP"),
    "a WebP without a picture": ("webp", vp8x(8, 8), "WebP"),
    "a WebP cut in its data": ("webp", webp()[:-100], "WebP.*cut off"),
    "a lossless WebP cut in its data": ("webp", LOSSLESS[:-100], "WebP"),
    "a WebP that is its head": ("webp", LOSSLESS[:16], "WebP.*cut off"),
    "a WebP that moves": ("webp", animated(), "WebP.*animated"),
    "a GIF": ("png", save("GIF"), "GIF image is not read"),
    "a BMP": ("jpg", save("BMP"), "BMP image is not read"),
    "a TIFF": ("jpg", save("TIFF"), "TIFF image is not read"),
    "a text": ("webp", b"dear diary", "no PNG, JPEG or WebP"),
    "nothing": ("png", b"", "no PNG, JPEG or WebP"),
}


@pytest.mark.parametrize("name", CASES)
def test_refused_by_name(place, name):  # noqa: F811
    suffix, raw, said = CASES[name]
    good = cli.png(place.images[0])
    where = folder(place, "case " + name, {"a/1.png": good, f"a/2.{suffix}": raw, "b/1.png": good})
    began = time.monotonic()
    print("\n" + refused(place, 3, f"a/2.{suffix}.*{said}", "fit", "good.onnx", where, "--out", "case.zip", "--quiet"))
    assert time.monotonic() - began < 20


def test_max_pixels_can_be_lowered(place):  # noqa: F811
    good = cli.png(place.images[0])
    where = folder(place, "large", {"a/1.png": good, "a/2.png": save("PNG"), "b/1.png": good})
    options = ["--quiet", "--prep-options", '{"max_pixels": 2399}']
    print(refused(place, 3, "a/2.png.*60 x 40 pixels are more than the limit of 2399", "encode", "good.onnx", where, *options))


HARMLESS = {
    "a text that unpacks to 100 MB": png(before=chunk(b"zTXt", b"bomb\0\0" + zlib.compress(bytes(100_000_000)))),
    "a profile that is none": png(before=chunk(b"iCCP", b"profile\0\0" + zlib.compress(b"\0\0\0\0" * 9))),
    "a profile inside a profile": save("JPEG", icc_profile=b"ICC_PROFILE\0\1\1" * 5000),
    "EXIF of 65 KB": save("JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + bytes(65000)),
    "EXIF that points beyond its end": save("JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f"),
    "EXIF inside EXIF": save("JPEG", exif=b"Exif\0\0" * 9000),
    "a JPEG taller than its data": sof(save("JPEG"), height=900),  # libjpeg goes on in grey, here as in Pillow
    "a comment after the end": save("JPEG") + b"more" * 1000,
    "bytes after a PNG": png() + b"more" * 1000,
    "a WebP with bytes behind": LOSSLESS + b"more" * 1000,
}


@pytest.mark.parametrize("name", HARMLESS)
def test_what_does_not_matter_is_read(tmp_path, name):
    path = tmp_path / "harmless"
    path.write_bytes(HARMLESS[name])
    image = np.asarray(Image.open(io.BytesIO(HARMLESS[name])).convert("RGB")) if "text" not in name and "none" not in name else None
    began = time.monotonic()
    [got] = probe([path])
    assert time.monotonic() - began < 10
    assert got is not None and (image is None or np.abs(got.astype(int) - image).max() <= 1)


def probe(paths):
    """Pixels of each file, or None; the probe must come back from all of them."""
    lines = "".join(f"3 {p} decode 1\n" for p in paths)
    done = subprocess.run([PROBE, "-"], input=lines.encode(), capture_output=True, check=False, env=cli.ENVIRONMENT)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    out, at = [], 0
    for _ in paths:
        h, w, c = struct.unpack_from("<3i", done.stdout, at)
        out.append(np.frombuffer(done.stdout, np.uint8, h * w * c, at + 12).reshape(h, w, c) if h else None)
        at += 12 + h * w * c
    told = done.stderr.decode().splitlines()
    assert len(told) == sum(o is None for o in out) and all(20 < len(t) < 500 for t in told)
    return out


FILES = {
    "PNG": png(20, 20), "interlaced PNG": save("PNG", picture(9, 11)), "palette": save("PNG", picture().quantize(16)),
    "JPEG": save("JPEG"), "progressive": save("JPEG", progressive=True), "CMYK": save("JPEG", picture().convert("CMYK")),
    "EXIF": save("JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"), "WebP": webp(quality=50),
    "lossless": LOSSLESS, "alpha": save("WEBP", picture().convert("RGBA"), exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0"),
}


@pytest.mark.parametrize("name", FILES)
def test_cut_at_every_place(tmp_path, name):
    raw, paths = FILES[name], []
    places = [n for n in range(len(raw)) if n < 600 or n % 7 == 0]
    for n in places:
        paths.append(tmp_path / str(n))
        paths[-1].write_bytes(raw[:n])
    read = [n for n, got in zip(places, probe(paths)) if got is not None]
    print(f"\n{name}: {len(places)} places to cut, {len(read)} still read: {read[:5]}")
    # libjpeg needs no end marker and libwebp no padding; a PNG is read to its end.
    assert all(n >= len(raw) - 2 for n in read)


@pytest.mark.parametrize("name", FILES)
def test_bytes_changed_anywhere(tmp_path, name):
    rng, raw, paths = random.Random(SEED), FILES[name], []
    for n in range(400):
        harmed = bytearray(raw)
        for _ in range(rng.choice([1, 1, 2, 5, 30])):
            harmed[rng.randrange(len(harmed))] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
        paths.append(tmp_path / str(n))
        paths[-1].write_bytes(bytes(harmed))
    read = sum(got is not None for got in probe(paths))
    print(f"\n{name}: seed {SEED}, 400 harmed, {400 - read} refused")
