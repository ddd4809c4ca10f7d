"""tools/demo/packages.awk on package lists made here: what it must keep apart, and that it writes JSON whatever descriptions hold."""
import json
import pathlib
import subprocess

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "tools" / "demo" / "packages.awk"
ODD = 'a "quoted" \\back\\slash\tand a tab & an ampersand, é'


def lists(folder, sections, each):
    packages, translations = [], []
    for s in sections:
        for i in range(each):
            name, source = f"{s}-{i}", f"src-{s}-{i // 2}"  # two packages of every source: one of them counts
            packages.append(f"Package: {name}\nSource: {source} (1.0)\nSection: {'contrib/' if i % 3 == 0 else ''}{s}\n"
                            f"Description: short {name}\nDescription-md5: {i:032x}\n")
            translations.append(f"Package: {name}\nDescription-md5: {i:032x}\nDescription-en: title of {name} {ODD}\n first line\n .\n second {ODD}\n")
    (folder / "Packages").write_text("\n".join(packages) + "\n")
    (folder / "Translation-en").write_text("\n".join(translations) + "\n")


def split(folder, **limits):
    options = [x for k, v in {"dir": folder, "unseen": "games mail", "per_train": 1000, "per_test": 1000, "per_unseen": 1000, **limits}.items()
               for x in ("-v", f"{k}={v}")]
    subprocess.run(["awk", *options, "-f", SCRIPT, folder / "Packages", folder / "Translation-en"], check=True, env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"})
    return {f: [json.loads(line) for line in open(folder / f"{f}.jsonl", encoding="utf-8")] for f in ("train", "test", "unseen")}


def test_sections_and_sources_are_kept_apart(tmp_path):
    lists(tmp_path, ["net", "web", "games", "mail"], 200)
    (tmp_path / "Packages").write_text((tmp_path / "Packages").read_text() + "\nPackage: lonely\nSection: tiny\nDescription-md5: 0\n")
    found = split(tmp_path)
    assert {r["label"] for r in found["unseen"]} == {"games", "mail"}
    assert {r["label"] for r in found["train"]} == {r["label"] for r in found["test"]} == {"net", "web"}
    assert len(found["unseen"]) == 200 and len(found["train"]) + len(found["test"]) == 200  # one of each source
    source = {f: {(r["label"], int(r["id"].split("-")[1]) // 2) for r in found[f]} for f in found}
    assert not source["train"] & source["test"]
    assert 0.1 < len(found["test"]) / 200 < 0.3
    text = found["train"][0]["text"]
    assert text.startswith("title of ") and "\nfirst line\n\nsecond " in text and text.endswith(ODD.replace("\t", " "))


def test_no_more_than_asked_for_and_the_same_again(tmp_path):
    lists(tmp_path, ["net", "web", "games", "mail"], 200)
    first = split(tmp_path, per_train=30, per_test=5, per_unseen=7)
    for f, most in (("train", 30), ("test", 5), ("unseen", 7)):
        labels = [r["label"] for r in first[f]]
        assert all(labels.count(k) == most for k in set(labels))
    assert split(tmp_path, per_train=30, per_test=5, per_unseen=7) == first
