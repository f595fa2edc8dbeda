"""Sheets to look at: every cell is the picture that it says."""

import json

import numpy as np
import pytest
from PIL import Image

from bench.sheets import CAPTION, COLUMNS, GAP, blind, comparison, grid, rebuilt
from vqgan.dataset import Picture


def cell(sheet: Image.Image, i: int, columns: int, head: int, side: int = 32) -> np.ndarray:
    x = GAP + i % columns * (side + GAP)
    y = GAP + i // columns * (side + head + GAP) + head
    return np.array(sheet.crop((x, y, x + side, y + side)))


@pytest.fixture
def icons(tmp_path) -> list[Picture]:
    """Twelve icons of ten concepts, and a photograph."""
    found = []
    for i in range(13):
        pixels = np.random.default_rng(i).integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        row = {"name": f"n{i}", "captions": [], "set": "s", "path": f"{i}.png"}
        row |= {"kind": "photo" if i == 12 else "icon", "concept": str(min(i, 9))}
        found.append(Picture(tmp_path / f"{i}.png", row=row))
    return found


def test_grid_puts_pictures_where_they_belong():
    colours = [(i * 20, 0, 0) for i in range(5)]
    sheet = grid([Image.new("RGB", (32, 32), c) for c in colours], 3, list("12345"))
    assert sheet.size == (3 * 36 + GAP, 2 * (36 + CAPTION) + GAP)
    for i, colour in enumerate(colours):
        assert (cell(sheet, i, 3, CAPTION) == colour).all()


def test_comparison_is_original_rebuilt_webp(tiny_vqgan, icons, tmp_path):
    comparison(tiny_vqgan, icons[:2], tmp_path / "sheet.png", size=32)
    sheet = Image.open(tmp_path / "sheet.png")
    original, new = rebuilt(tiny_vqgan, icons[1], 32)
    columns = 3 * (COLUMNS // 2)
    assert np.array_equal(cell(sheet, 3, columns, 0), np.array(original))
    assert np.array_equal(cell(sheet, 4, columns, 0), np.array(new))
    webp = cell(sheet, 5, columns, 0).astype(int)
    assert 1 < np.abs(webp - np.array(original)).mean() < 90


def test_blind_icons_match_their_key(tiny_vqgan, icons, tmp_path):
    out = tmp_path / "blind"
    blind(tiny_vqgan, icons, out, size=32, seed=3, count=8)
    key = json.loads((out / "key.json").read_text())
    assert [k["number"] for k in key] == list(range(1, 9))
    by_path = {p.row["path"]: p for p in icons}
    concepts = [by_path[k["path"]].row["concept"] for k in key]
    assert len(set(concepts)) == 8 and all(k["path"] != "12.png" for k in key)
    sheets = [Image.open(out / f"{name}.png") for name in ("originals", "rebuilt")]
    for i, k in enumerate(key):
        pair = rebuilt(tiny_vqgan, by_path[k["path"]], 32)
        for sheet, image in zip(sheets, pair, strict=True):
            assert np.array_equal(cell(sheet, i, COLUMNS, CAPTION), np.array(image))


def test_blind_follows_the_seed(tiny_vqgan, icons, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        blind(tiny_vqgan, icons, tmp_path / name, size=32, seed=seed)
    keys = [(tmp_path / name / "key.json").read_text() for name in "abc"]
    assert keys[0] == keys[1] != keys[2]
    assert len(json.loads(keys[0])) == 10  # no two of one concept
    with pytest.raises(ValueError, match="no icons"):
        blind(tiny_vqgan, icons[12:], tmp_path, size=32)


def test_a_plain_folder_is_named_by_its_files(tiny_vqgan, icons, tmp_path):
    blind(tiny_vqgan, [Picture(icons[0].path)], tmp_path / "x", size=32)
    key = json.loads((tmp_path / "x" / "key.json").read_text())
    assert key == [{"number": 1, "name": "0", "path": "0.png"}]
