"""Makes the golden files in this folder with Pillow, NumPy, PyYAML, onnx and Python's own json, csv, zipfile and gzip.

`make.py images json csv npy zip pb safetensors` wants a Python with tests/requirements.txt; `make.py yaml check` one with PyYAML 6
(it comes with tests/requirements-jina.txt). `check` verifies what our own writers made: written.yml and packed.zip.
Values are dumped in a form that both sides write in a few lines, see dump().
"""
import csv
import gzip
import io
import json
import pathlib
import random
import struct
import sys
import zipfile
import zlib

HERE = pathlib.Path(__file__).parent


def dump(value):
    """n, t, f, i<int>, r<16 hex digits of the double>, s<hex of UTF-8>; [a b] and {key value key value}."""
    if value is None:
        return "n"
    if value is True:
        return "t"
    if value is False:
        return "f"
    if isinstance(value, int):
        if -(2**63) <= value < 2**63:
            return f"i{value}"
        value = float(value)
    if isinstance(value, float):
        return "r" + struct.pack(">d", value).hex()
    if isinstance(value, str):
        return "s" + value.encode().hex()
    if isinstance(value, list):
        return "[" + " ".join(dump(v) for v in value) + "]"
    return "{" + " ".join(dump(k) + " " + dump(v) for k, v in value.items()) + "}"


# ---- images ----

ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def pack_rows(samples, depth, rng):
    """(h, w, c) integers to filtered scanlines; each row gets a random filter."""
    h, w, c = samples.shape
    if h == 0 or w == 0:
        return b""
    step = max(1, c * depth // 8)
    out = bytearray()
    before = None
    for y in range(h):
        flat = samples[y].reshape(-1)
        if depth == 16:
            row = b"".join(struct.pack(">H", int(v)) for v in flat)
        elif depth == 8:
            row = bytes(int(v) for v in flat)
        else:
            bits = "".join(format(int(v), f"0{depth}b") for v in flat)
            bits += "0" * (-len(bits) % 8)
            row = bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))
        up = before if before is not None else bytes(len(row))
        kind = rng.randrange(5)
        line = bytearray()
        for i, v in enumerate(row):
            a = row[i - step] if i >= step else 0
            b = up[i]
            k = up[i - step] if i >= step else 0
            if kind == 4:
                p = a + b - k
                best = min(((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - k), 2, k)))[2]
            else:
                best = (0, a, b, (a + b) // 2)[kind]
            line.append((v - best) & 255)
        out += bytes([kind]) + line
        before = row
    return bytes(out)


def png(samples, depth, colour, interlace, extra, rng):
    h, w, _ = samples.shape
    if interlace:
        raw = b"".join(pack_rows(samples[y0::dy, x0::dx], depth, rng) for x0, y0, dx, dy in ADAM7)
    else:
        raw = pack_rows(samples, depth, rng)
    head = struct.pack(">IIBBBBB", w, h, depth, colour, 0, 0, 1 if interlace else 0)
    packed = zlib.compress(raw, 9)
    half = len(packed) // 2
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"tEXt", b"Comment\0a text")
            + chunk(b"IDAT", packed[:half]) + chunk(b"IDAT", packed[half:]) + chunk(b"IEND", b""))


def save_image(name, data):
    from PIL import Image

    (HERE / name).write_bytes(data)
    rgb = Image.open(io.BytesIO(data)).convert("RGB")
    (HERE / (name + ".ppm")).write_bytes(b"P6\n%d %d\n255\n" % rgb.size + rgb.tobytes())


def make_images():
    import numpy as np
    from PIL import Image

    rng = random.Random(7)
    nprng = np.random.default_rng(7)
    for colour, depths in {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}.items():
        for depth in depths:
            for interlace in (False, True):
                w, h = (13, 11) if not interlace else (11, 9)
                samples = nprng.integers(0, 2**depth, (h, w, CHANNELS[colour]))
                if colour == 0 and depth == 16:
                    samples[0] = nprng.integers(0, 256, samples[0].shape)
                extra = b""
                if colour == 3:
                    entries = min(2**depth, 200)
                    extra = chunk(b"PLTE", bytes(rng.randrange(256) for _ in range(3 * entries)))
                    if interlace:
                        extra += chunk(b"tRNS", bytes(rng.randrange(256) for _ in range(entries)))
                elif colour in (0, 2) and interlace:
                    extra = chunk(b"tRNS", b"".join(struct.pack(">H", int(v)) for v in samples[0, 0]))
                name = f"png_c{colour}_b{depth}{'_adam7' if interlace else ''}.png"
                save_image(name, png(samples, depth, colour, interlace, extra, rng))
    save_image("png_1x1_adam7.png", png(nprng.integers(0, 256, (1, 1, 3)), 8, 2, True, b"", rng))
    gamma = chunk(b"gAMA", struct.pack(">I", 100000))
    save_image("png_gamma.png", png(nprng.integers(0, 256, (5, 7, 3)), 8, 2, False, gamma, rng))

    y, x = np.mgrid[0:29, 0:37]
    smooth = np.stack([x * 7 % 256, y * 9 % 256, (x * y) % 256], -1).astype(np.uint8)
    picture = Image.fromarray(smooth)
    def jpeg(name, image, **options):
        out = io.BytesIO()
        image.save(out, "JPEG", **options)
        save_image(name, out.getvalue())
    jpeg("jpeg_420.jpg", picture, quality=85)
    jpeg("jpeg_422.jpg", picture, quality=90, subsampling=1)
    jpeg("jpeg_444.jpg", picture, quality=95, subsampling=0)
    jpeg("jpeg_progressive.jpg", picture, quality=80, progressive=True)
    jpeg("jpeg_restart.jpg", picture, quality=80, restart_marker_rows=1)
    jpeg("jpeg_rgb.jpg", picture, quality=90, keep_rgb=True)
    jpeg("jpeg_grey.jpg", picture.convert("L"), quality=85)
    jpeg("jpeg_cmyk.jpg", picture.convert("CMYK"), quality=85)
    jpeg("jpeg_1x1.jpg", picture.crop((3, 3, 4, 4)), quality=85)
    make_webp(picture, nprng)
    make_oriented(picture)


def make_webp(picture, nprng):
    import numpy as np
    from PIL import Image

    alpha = Image.fromarray(nprng.integers(0, 256, (29, 37)).astype(np.uint8))
    with_alpha = picture.copy()
    with_alpha.putalpha(alpha)

    def webp(name, image, **options):
        out = io.BytesIO()
        image.save(out, "WEBP", **options)
        save_image(name, out.getvalue())

    webp("webp_lossy.webp", picture, quality=80)
    webp("webp_lossless.webp", picture, lossless=True)
    webp("webp_alpha.webp", with_alpha, quality=70)
    webp("webp_alpha_lossless.webp", with_alpha, lossless=True, exact=True)
    webp("webp_grey.webp", picture.convert("L"), quality=60)
    webp("webp_1x1.webp", picture.crop((3, 3, 4, 4)), quality=85)
    out = io.BytesIO()
    picture.save(out, "WEBP", save_all=True, append_images=[picture.rotate(90)], duration=100)
    (HERE / "webp_animated.refused").write_bytes(out.getvalue())


def make_oriented(picture):
    """The golden pixels are upright: ImageOps.exif_transpose()."""
    from PIL import Image, ImageOps

    small = picture.crop((0, 0, 9, 7))
    for orientation in range(1, 9):
        for suffix, kind, options in (("png", "PNG", {}), ("webp", "WEBP", {"lossless": True}), ("jpg", "JPEG", {})):
            exif = Image.Exif()
            exif[0x010F] = "a camera"
            exif[0x0112] = orientation
            exif.endian = "<" if orientation % 2 else ">"
            out = io.BytesIO()
            small.save(out, kind, exif=exif.tobytes(), **options)
            name = f"exif_{orientation}.{suffix}"
            (HERE / name).write_bytes(out.getvalue())
            rgb = ImageOps.exif_transpose(Image.open(io.BytesIO(out.getvalue()))).convert("RGB")
            (HERE / (name + ".ppm")).write_bytes(b"P6\n%d %d\n255\n" % rgb.size + rgb.tobytes())


# ---- JSON, YAML, CSV ----

JSON_VALID = [
    "null", "true", " false ", "0", "-0", "-0.0", "5", "-17", "9223372036854775807", "-9223372036854775808",
    "9223372036854775808", "-9223372036854775809", "123456789012345678901234567890", "0.1", "1e5", "1E+5", "1e-7",
    "2.5e-3", "1.7976931348623157e308", "5e-324", "1e-400", "0.30000000000000004", "100000000000000000000.5", '""',
    '"a"', '"\\"\\\\\\/\\b\\f\\n\\r\\t"', '"\\u00e9\\u20ac"', '"\\ud83d\\ude00"', '"\u00e9\u20ac\U0001f600"',
    '"\\u0001\\u001f\\u007f"', '"mid\\ndle"', "[]", "[1]", "[1, 2.0, \"3\"]", "[[[[]]]]", "{}", '{"a": 1}',
    '{"b": 1, "a": {"c": [true, null]}, "": 0}', '{"z":1,"y":2,"x":3}', '\t[\r\n1 ,\n2 ]\n', '{"\\u0061":1}',
    "[" * 64 + "]" * 64,
]
JSON_INVALID = [
    "", " ", "nul", "True", "+1", "01", "-", "1.", ".5", "1e", "1e+", "0x10", "[", "[1", "[1,", "[1,]", "[,1]", "[1 2]",
    "]", "{", '{"a"', '{"a":', '{"a":1', '{"a":1,', '{"a":1,}', "{a:1}", "{'a':1}", '{1:1}', '"', '"a', '"\\x"', '"\\u12"',
    '"\\u12g4"', '"a\nb"', '"\t"', "1 2", "[1] x", "nulll", "'a'", "/**/1", "[1}", '{"a":1]', '"\\', '"\\u', "\ufeff1", "\x00",
    "1\x00",
]
# Python reads these; we refuse them, as the header says.
JSON_REFUSED = ["NaN", "Infinity", "-Infinity", "1e999", '{"a":1,"a":2}', '"\\ud800"', '"\\udc00"', '"\\ud800\\u0041"',
                '"\\u0000"', '{"\\u0000":1}']


def make_json():
    lines = [json.dumps([text, dump(json.loads(text))]) for text in JSON_VALID]
    (HERE / "json_valid.txt").write_text("".join(text.encode().hex() + "\t" + json.loads(line)[1] + "\n"
                                                 for text, line in zip(JSON_VALID, lines)))
    for text in JSON_INVALID:
        try:
            json.loads(text)
        except ValueError:
            continue
        raise SystemExit(f"Python reads {text!r}")
    (HERE / "json_invalid.txt").write_text("".join(t.encode().hex() + "\n" for t in JSON_INVALID + JSON_REFUSED))


# Where YAML 1.1 (PyYAML) and 1.2's core schema agree.
YAML_VALID = [
    "", "# nothing\n", "null", "~", "a: ~", "true", "a: True\nb: FALSE", "12", "-3", "+7", "0x1F", "1.5", "-0.25",
    "6.02e+23", "text", "'12'", '"true"', "'it''s'", '"a\\tb\\u00e9\\n"', "a: 1\nb: two\nc: [1, 2, x]\nd: {e: f}\n",
    "- 1\n- - 2\n  - 3\n- a: b\n  c: d\n", "text: |\n  line one\n  line two\n", "text: >-\n  folded\n  text\n",
    "a:\n  b:\n    c: {}\n  d: []\n", "%YAML 1.1\n---\na: 1\n...\n", "a: 'x: y # z'\n", "key with blanks: v\n",
    "a: b # comment\n", "? complex\n: value\n", "a:\n- 1\n- 2\n", "\"quoted key\": 1\n", "a: multi\n  line plain\n",
    "jtype: Finetuner\nwith:\n  port: 8080\n  ratio: 0.5\nmetas:\n  py_modules:\n  - executor.py\n", "a: \u00e9\u20ac\U0001f600\n",
    "- !!str text\n", "99999999999999999999999999",
]
YAML_INVALID = ["a: b: c", "[1, 2", "{a: 1", "a: 'x", "\"\\q\"", "a: 1\n b: 2", "- a\nb: c", "\ta: 1", "@a", "`a`", "a: [1}", "%"]

WRITTEN = {
    "jtype": "Finetuner", "with": {"port": 8080, "ratio": 0.5, "tiny": 1e-05, "huge": 1e300, "whole": 3.0, "neg": -7,
                                   "none": None, "yes": True, "no": False},
    "metas": {"py_modules": ["executor.py", "other.py"], "empty": [], "nothing": {}},
    "texts": ["plain", "two words", "yes", "No", "null", "~", "1", "1.5", "0x10", "1e3", "1:30", "2020-01-01", "", " lead",
              "trail ", "a: b", "a #b", "# a", "- a", "? a", "*a", "&a", "!a", "|", ">", "%a", "@a", "`a`", "'q'", "\"q\"",
              "back\\slash", "tab\there", "line\nbreak", "cr\rhere", "bell\x07", "\x7f", "\x85", "\u2028", "\ufeff", "\u00e9",
              "\U0001f600", "[a]", "{a}", "a,b", "<<", "=", "y", "N", ".inf", ".nan", "---", "..."],
    "nested": [[1, 2], [[3], []], {"a": 1, "b": {"c": [{"d": "e"}, {"f": None, "g": [1]}]}}, [{"h": 1}]],
    "odd keys": {"": 1, "1": 2, "true": 3, "a: b": 4, "x" * 1200: 5, "y" * 1300: {"z": [[1]]}, "null": 6, "\u00e9": 7},
}


def make_yaml():
    import yaml

    rows = [(t, dump(yaml.safe_load(t))) for t in YAML_VALID]
    (HERE / "yaml_valid.txt").write_text("".join(t.encode().hex() + "\t" + d + "\n" for t, d in rows))
    for text in YAML_INVALID:
        try:
            yaml.safe_load(text)
        except yaml.YAMLError:
            continue
        raise SystemExit(f"PyYAML reads {text!r}")
    (HERE / "yaml_invalid.txt").write_text("".join(t.encode().hex() + "\n" for t in YAML_INVALID))
    (HERE / "written.json").write_text(json.dumps(WRITTEN))


CSV_VALID = [
    "a,b\nc,d\n", "a,b\r\nc,d\r\n", "a,b\rc,d\r", "a,b\nc,d", "", "\n\n", "one\ntwo\n", '"a","b"\n"c","d"\n',
    '"a ""quoted"" word",x\n"""",y\n"",z\n', '"line\nbreak",1\n"cr\r\nlf",2\n', "a,,b\n,,\nx,y,\n", "\u00e9,\u20ac\n\U0001f600,z\n",
    "a,b\n\n\nc,d\n", 'in "side",x\na"b,y\n', '"a,b",c\nd,"e,f"\n',
]
CSV_OTHER = [("\t", "a\tb\nc, d\te\n"), (";", "a;b\nc;d\n"), ("|", "a|b\n\"c|d\"|e\n"), ("\t", "text, with comma\tone\nno comma\ttwo\n")]


def make_csv():
    rows = [(",", t) for t in CSV_VALID] + CSV_OTHER
    lines = []
    for separator, text in rows:
        read = [r for r in csv.reader(io.StringIO(text, newline=""), delimiter=separator) if r]
        lines.append(text.encode().hex() + "\t" + dump(read) + "\n")
    (HERE / "csv_valid.txt").write_text("".join(lines))
    out = io.StringIO(newline="")
    values = [["text", "label"], ["plain", "1"], ["with, comma", "2"], ['with "quote"', "3"], ["two\nlines", "4"], ["", "5"]]
    for dialect in ("excel", "excel-tab", "unix"):
        out = io.StringIO(newline="")
        csv.writer(out, dialect).writerows(values)
        (HERE / f"dialect_{dialect}.csv").write_bytes(out.getvalue().encode())
    (HERE / "dialect.txt").write_text(dump(values) + "\n")


# ---- npy, gzip, zip, protobuf ----

def make_npy():
    import numpy as np

    values = np.arange(6).reshape(2, 3)
    for name in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"):
        np.save(HERE / f"npy_{name}.npy", values.astype(name))
    np.save(HERE / "npy_scalar.npy", np.float32(2.5))
    np.save(HERE / "npy_vector.npy", np.arange(5, dtype="f4"))
    np.save(HERE / "npy_rows.npy", np.zeros((0, 1), "f4"))
    np.save(HERE / "npy_fortran.npy", np.asfortranarray(values.astype("f4")))
    np.save(HERE / "npy_big.npy", values.astype(">f4"))
    np.save(HERE / "npy_struct.npy", np.zeros(2, [("a", "f4")]))
    np.save(HERE / "npy_text.npy", np.array(["ab"]))
    with open(HERE / "npy_version2.npy", "wb") as f:
        np.lib.format.write_array(f, values.astype("f4"), version=(2, 0))
    headers = []
    for shape in ((0, 1), (2, 3), (10, 384), (123456, 768), (999999999999, 7)):
        out = io.BytesIO()
        np.lib.format.write_array_header_1_0(out, {"descr": "<f4", "fortran_order": False, "shape": shape})
        headers.append(f"{shape[0]} {shape[1]} {out.getvalue().hex()}\n")
    (HERE / "npy_headers.txt").write_text("".join(headers))


def zip_of(entries, method=zipfile.ZIP_STORED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as z:
        for name, data in entries:
            info = zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0))
            info.filename = name  # zipfile would mend separators
            info.compress_type = method
            z.writestr(info, data)
    return out.getvalue()


def make_zip():
    good = [("a.txt", b"hello"), ("dir/", b""), ("dir/b.bin", bytes(range(256)) * 8), ("dir/\u00e9.txt", b"x"), ("empty", b"")]
    (HERE / "zip_stored.zip").write_bytes(zip_of(good))
    (HERE / "zip_deflated.zip").write_bytes(zip_of(good, zipfile.ZIP_DEFLATED))
    for i, name in enumerate(["../up", "/root", "a/../../b", "a\\b", "c:x", "./a", "a//b", ".."]):
        (HERE / f"zip_unsafe_{i}.zip").write_bytes(zip_of([("ok", b"1"), (name, b"2")]))
    broken = bytearray(zip_of([("a.txt", b"hello world")]))
    at = bytes(broken).index(b"hello world")
    broken[at] ^= 1
    (HERE / "zip_checksum.zip").write_bytes(broken)
    (HERE / "gzip.gz").write_bytes(gzip.compress(b"finetuner " * 1000, mtime=0))


def make_pb():
    import onnx

    t = onnx.TensorProto()
    t.dims.extend([2, 3, -1])
    t.data_type = onnx.TensorProto.FLOAT
    t.float_data.extend([0.5, -1.25, 3e38])
    t.int64_data.extend([1, -1, 2**62])
    t.double_data.extend([0.1, -2.5])
    t.name = "weight"
    t.raw_data = bytes(range(5))
    (HERE / "tensor.pb").write_bytes(t.SerializeToString(deterministic=True))


def make_safetensors():
    """st_types: every element type with values as floats in st_types.txt; st_written: what our writer must write."""
    import numpy as np
    import safetensors
    import safetensors.numpy

    types = {"float32": "<f4", "float64": "<f8", "float16": "<f2", "int64": "<i8", "int32": "<i4", "int16": "<i2", "int8": "|i1",
             "uint8": "|u1", "bool": "|b1", "uint16": "<u2", "uint32": "<u4", "uint64": "<u8"}
    tensors, expected = {}, []
    for name, dtype in types.items():
        values = np.array([0, 1, 2, 100, 1, 1] if dtype[1] in "bu" else [0, 1, -2, 100, -1, 1], "f8").reshape(2, 3)
        if dtype[1] == "f":
            values = np.array([0.1, -2.5, 6.1e-5, 5.9e-8, np.inf, -0.0]).reshape(2, 3)
        if dtype in ("<i8", "<u8"):
            values[0, 1] = 2.0**62
        array = values.astype(dtype)
        if dtype == "<i8":
            array[0, 2] = -(2**53) - 1  # no double is in between: rounded to the nearest float at once
        tensors[name] = (name, [2, 3], array)
        with np.errstate(over="ignore"):
            expected.append((name, array.astype("f4").ravel()))
    single = np.array([1.5, -3e38, 1e-40, np.inf, 0.0, 7.0], "<f4")
    brain = (single.view("<u4") >> 16).astype("<u2")
    tensors["bfloat16"] = ("bfloat16", [2, 3], brain)
    expected.append(("bfloat16", (brain.astype("<u4") << 16).view("<f4")))
    tensors["float8"] = ("float8_e4m3fn", [2], np.array([0, 1], "u1"))
    tensors["empty"] = ("float32", [0, 3], np.zeros((0, 3), "<f4"))
    specs = {k: safetensors.TensorSpec(dtype=d, shape=s, data_ptr=a.ctypes.data, data_len=a.nbytes) for k, (d, s, a) in tensors.items()}
    (HERE / "st_types.safetensors").write_bytes(safetensors.serialize(specs, metadata={"made": "by the library"}))
    (HERE / "st_types.txt").write_text("".join(f"{n}\t{v.astype('<f4').tobytes().hex()}\n" for n, v in expected))
    f = {"b.weight": np.arange(6, dtype="<f4").reshape(2, 3), "a": np.arange(3, dtype="<f4"), "s": np.array(2.5, "<f4"),
         "\u00e9\"\\": np.arange(2, dtype="<f4").reshape(1, 2, 1), "B": np.zeros((2, 2), "<f4")}
    (HERE / "st_written.safetensors").write_bytes(safetensors.numpy.save(f, {"format": "pt"}))
    half = {k: f[k] for k in ("b.weight", "a")}
    rest = {k: v for k, v in f.items() if k not in half}
    (HERE / "st_1.safetensors").write_bytes(safetensors.numpy.save(half))
    (HERE / "st_2.safetensors").write_bytes(safetensors.numpy.save(rest))
    index = {"metadata": {}, "weight_map": {k: "st_1.safetensors" if k in half else "st_2.safetensors" for k in f}}
    (HERE / "st.safetensors.index.json").write_text(json.dumps(index, indent=2))


def make_check():
    """What our writers made must be read by others as what was meant."""
    import yaml

    read = yaml.safe_load((HERE / "written.yml").read_text())
    if dump(read) != dump(WRITTEN):
        raise SystemExit("written.yml is not read back by PyYAML as the same values")
    with zipfile.ZipFile(HERE / "packed.zip") as z:
        assert z.testzip() is None
        assert [i.filename for i in z.infolist()] == ["model/a.txt", "model/sub/b.bin", "model/sub/c"], z.namelist()
        assert all(i.compress_type == zipfile.ZIP_STORED and i.date_time == (1980, 1, 1, 0, 0, 0) for i in z.infolist())
        assert z.read("model/a.txt") == b"hello\n" and z.read("model/sub/b.bin") == b"\0\1\2" and z.read("model/sub/c") == b""
    print("checked: written.yml, packed.zip")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        globals()["make_" + name]()
