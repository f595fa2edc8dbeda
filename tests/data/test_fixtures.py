"""The committed test pictures: what they promise, and the command that chose them."""

import json
from hashlib import sha256
from pathlib import Path

import pytest
from PIL import Image

from data import fixtures

FIXTURES = Path(__file__).parents[1] / "fixtures"


@pytest.fixture(scope="module")
def rows() -> list[dict]:
    lines = (FIXTURES / "manifest.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_manifest_matches_the_files(rows):
    manifest = json.loads((FIXTURES / "manifest.json").read_text("utf-8"))
    digest = sha256((FIXTURES / "manifest.jsonl").read_bytes()).hexdigest()
    assert manifest["sha256"] == digest and manifest["counts"]["all"] == len(rows)
    named = {row[key] for row in rows for key in ("path", "mask") if row[key]}
    there = {p.relative_to(FIXTURES).as_posix() for p in FIXTURES.rglob("*.*g")}
    assert named == there
    for row in rows:
        with Image.open(FIXTURES / row["path"]) as picture:
            picture.load()
            side = 160 if row["kind"] == "photo" else 128
            assert picture.mode == "RGB" and picture.size == (side, side)


def test_sixty_four_held_out_pictures_of_every_kind(rows):
    assert len(rows) == 64 and all(row["held_out"] for row in rows)
    assert sum(row["split"] == "val" for row in rows) == 16
    assert {row["kind"] for row in rows if row["split"] == "val"} == {"icon", "clipart", "photo"}
    concepts = {
        split: {r["concept"] for r in rows if r["split"] == split} for split in ("train", "val")
    }
    assert not concepts["train"] & concepts["val"]


def test_licences_are_free_and_named(rows):
    text = (FIXTURES / "LICENCES.md").read_text("utf-8")
    for row in rows:
        assert row["licence"] in fixtures.ALLOWED
        assert row["author"] in text and row["source"] in text
    assert sum(p.stat().st_size for p in FIXTURES.rglob("*") if p.is_file()) < 1_500_000


def test_choose_takes_turns_and_no_concept_twice():
    rows = [{"set": s, "path": f"{s}/{c}", "concept": c} for s in ("a", "b", "c") for c in "uvwxyz"]
    chosen = fixtures.choose(rows, 6)
    assert sorted(row["concept"] for row in chosen) == list("uvwxyz")
    assert sorted(row["set"] for row in chosen) == list("aabbcc")
    assert len(fixtures.choose(rows, 99)) == 6


def test_wrong_folders_are_refused(tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/file").write_text("keep")
    for out, sentence in (("x", "is no data set"), ("mine", "holds other files")):
        with pytest.raises(SystemExit) as stop:
            fixtures.main(["--data", str(tmp_path), "--out", str(tmp_path / out)])
        said = capsys.readouterr().err
        assert stop.value.code == 2 and said.startswith("error: ") and sentence in said
        (tmp_path / "manifest.json").write_text("{}")
    assert (tmp_path / "mine/file").exists()
    (tmp_path / "LICENCES.md").touch()
    for out in (tmp_path, tmp_path / "mine" / ".."):
        with pytest.raises(SystemExit) as stop:
            fixtures.main(["--data", str(tmp_path), "--out", str(out)])
        assert stop.value.code == 2 and "which is replaced" in capsys.readouterr().err
    assert (tmp_path / "mine/file").exists()
