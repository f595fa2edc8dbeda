"""Training pictures: built data sets as they always were, and any folder of photographs."""

from __future__ import annotations

import json
import logging
import os

import numpy as np
import pytest
import torch
from PIL import Image

from data.render import PHOTO_SHORT_SIDE
from prior import nearest
from vqgan import dataset
from vqgan.codebook.__main__ import title as codebook_title
from vqgan.dataset import Crops

KWARGS = {"size": 128, "crop": 64, "photo_share": 0.25, "seed": 3}


def photo(width: int, height: int, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    image = Image.fromarray(rng.integers(0, 255, (6, 8, 3), np.uint8))
    return image.resize((width, height), Image.Resampling.BICUBIC)


def truncated(path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.fixture
def folder(tmp_path):
    """Thirty small photographs, unlike each other."""
    for i in range(30):
        photo(80, 60, i).save(tmp_path / f"{i:02}.png")
    return tmp_path


def plainly(path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_batches_of_a_built_data_set_are_what_they_always_were(fixtures):
    """By the formula, with plain Pillow: resumed runs and shipped tokens depend on every pixel."""
    pictures = dataset.scan(fixtures)
    crops = Crops(pictures, colour_shuffle=0.3, **KWARGS)
    train = [p for p in pictures if p.split == "train"]
    pools = {kind: [p for p in train if p.photo == kind] for kind in (False, True)}
    seen = set()
    for step in (0, 7, 40_000):
        for index in range(24):
            rng = np.random.default_rng([3, step, index])
            kind = bool(rng.random() < 0.25)
            seen.add(kind)
            pixels = plainly(pools[kind][rng.integers(len(pools[kind]))].path)
            h, w = pixels.shape[:2]
            side = round(64 * (max(64, min(h, w) * 64 // 128) / 64) ** rng.random()) if kind else 64
            top, left = rng.integers(h - side + 1), rng.integers(w - side + 1)
            cut = Image.fromarray(pixels[top : top + side, left : left + side])
            cut = np.asarray(cut.resize((64, 64), Image.Resampling.BOX) if side != 64 else cut)
            cut = cut[:, ::-1] if rng.random() < 0.5 else cut
            cut = cut[..., rng.permutation(3)] if rng.random() < 0.3 else cut
            assert np.array_equal(crops.one(step, index), cut), (step, index)
    assert seen == {False, True}


def test_whole_pictures_of_a_built_data_set_are_what_they_always_were(fixtures):
    for picture in dataset.scan(fixtures)[::5]:
        pixels = plainly(picture.path)
        h, w = pixels.shape[:2]
        side = min(h, w)
        top, left = (h - side) // 2, (w - side) // 2
        square = Image.fromarray(pixels[top : top + side, left : left + side])
        for size in (128, 40):
            expected = square if side == size else square.resize((size, size), 1)
            assert np.array_equal(dataset.whole(picture, size), np.asarray(expected))


def test_a_photograph_is_read_no_larger_than_a_built_one(tmp_path):
    assert dataset.PHOTO_SIDE == PHOTO_SHORT_SIDE
    built = photo(768, 512)
    built.save(tmp_path / "built.png")
    photo(1800, 1200).save(tmp_path / "large.jpg")
    photo(700, 1400).save(tmp_path / "tall.png")
    photo(300, 200).save(tmp_path / "small.png")
    found = {p.path.stem: p for p in dataset.plain_folder(tmp_path)}
    shapes = {name: dataset.pixels_of(p, 128).shape[:2] for name, p in found.items()}
    assert shapes.pop("built") == shapes["large"]
    assert shapes == {"large": (512, 768), "tall": (1024, 512), "small": (200, 300)}
    assert np.array_equal(dataset.pixels_of(found["built"], 128), np.asarray(built))
    large = found["large"]
    assert dataset.pixels_of(large, 1024).shape == (1024, 1536, 3)  # a model of 1024 px
    exact = photo(1800, 1200).resize((768, 512), Image.Resampling.LANCZOS)
    assert np.abs(dataset.pixels_of(large, 128) - np.asarray(exact, int)).max() < 12


def test_every_format_that_opens_is_trained_on(tmp_path):
    """What the app takes, by name: the tokenizer of one's own scans is made from them too."""
    for name in ("a.tiff", "b.tif", "c.ppm", "d.avif", "e.PNG", "f.jpe", "g.gif", "h.webp"):
        Image.new("RGB", (40, 40), "teal").save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not a picture")
    assert len(dataset.plain_folder(tmp_path)) == 8


def test_memory_has_a_bound_and_batches_do_not_depend_on_it(folder):
    pictures = dataset.scan(folder)
    kwargs = {**KWARGS, "size": 64, "crop": 32}
    one = 80 * 60 * 3
    tight, free = Crops(pictures, cache_bytes=5 * one, **kwargs), Crops(pictures, **kwargs)
    for step in range(4):
        assert torch.equal(tight.batch(step, 16), free.batch(step, 16))
    assert sum(a.nbytes for a in tight.cache.values()) == 5 * one
    assert len(free.cache) > 20


def test_sixteen_bits_and_lying_photographs_are_read_as_everywhere_else(tmp_path):
    ramp = np.linspace(0, 65535, 64).astype(np.uint16)
    Image.fromarray(np.tile(ramp, (48, 1))).save(tmp_path / "grey.png")
    lying = Image.new("RGB", (64, 48), "white")
    lying.paste((255, 0, 0), (0, 0, 8, 48))  # red on the left, which is above once upright
    exif = Image.Exif()
    exif[0x0112] = 6
    lying.save(tmp_path / "lying.jpg", quality=95, subsampling=0, exif=exif)
    found = {p.path.stem: dataset.pixels_of(p, 32) for p in dataset.scan(tmp_path)}
    assert np.array_equal(found["grey"][0, :, 0], np.round(ramp / 257).astype(np.uint8))
    assert found["lying"].shape == (64, 48, 3)
    assert found["lying"][2, 20, 1] < 60 and found["lying"][40, 20, 1] > 200


def test_files_that_are_no_pictures_are_left_out_with_one_warning(folder, caplog):
    for name in ("03.png", "07.png", "20.png"):
        (folder / name).write_text("not a picture")
    with caplog.at_level(logging.WARNING):
        found = dataset.scan(folder)
    assert len(found) == 27 and {p.split for p in found} == {"train", "val"}
    (line,) = caplog.messages
    assert "left out 3 of 30 pictures" in line and "03.png is not a picture" in line


def test_a_damaged_picture_is_drawn_again_whenever_it_is_met(folder, caplog):
    """The header is good, the rest cut off: only reading it shows."""
    pictures = dataset.scan(folder)
    whole = Crops(pictures, **{**KWARGS, "size": 64, "crop": 32})
    before = [whole.batch(step, 16) for step in range(8)]
    bad = [p for p in pictures if p.split == "train"][4:7]
    for picture in bad:
        truncated(picture.path)
    assert len(dataset.scan(folder)) == 30
    with caplog.at_level(logging.WARNING):
        crops = Crops(pictures, **{**KWARGS, "size": 64, "crop": 32})
        after = [crops.batch(step, 16) for step in range(8)]
    assert len(crops.damaged[True]) == 3 and len(caplog.messages) == 2  # the first and second
    same = torch.cat([(a == b).flatten(1).all(1) for a, b in zip(before, after, strict=True)])
    assert 0.7 < same.float().mean() < 1  # other crops stay as they were
    resumed = Crops(pictures, **{**KWARGS, "size": 64, "crop": 32})
    assert torch.equal(resumed.batch(3, 16), after[3])


def test_nothing_left_is_a_sentence(folder, caplog):
    pictures = dataset.scan(folder)
    for picture in pictures:
        truncated(picture.path)
    with pytest.raises(ValueError, match=r"none of the pictures can be opened: .* is damaged"):
        Crops(pictures, **KWARGS)
    with pytest.raises(ValueError, match=r"none of the pictures can be opened, 30 in all: 00.png"):
        list(dataset.wholes(pictures, 32))
    for picture in pictures:
        picture.path.write_text("")
    with pytest.raises(
        ValueError, match=r"none of the pictures can be opened, 30 in all: 00.png is"
    ):
        dataset.scan(folder)


def test_kinds_that_are_not_read_are_named(folder, caplog):
    (folder / "IMG_1.HEIC").write_bytes(b"ftypheic")
    with caplog.at_level(logging.WARNING):
        assert len(dataset.scan(folder)) == 30
    (line,) = caplog.messages
    assert "left out 1 of 31" in line and "IMG_1.HEIC is of a kind that is not read" in line


def test_of_a_few_pictures_one_that_opens_is_held_out(tmp_path):
    for i in range(4):
        photo(80, 60, i).save(tmp_path / f"{i}.png")
    truncated(tmp_path / "0.png")
    found = dataset.scan(tmp_path)
    assert [p.split for p in found] == ["train", "val", "train", "train"]


def test_whole_pictures_come_with_those_that_open(folder, caplog):
    pictures = dataset.scan(folder)
    truncated(pictures[5].path)
    with caplog.at_level(logging.WARNING):
        found = list(dataset.wholes(pictures, 32))
    assert [p for p, _ in found] == pictures[:5] + pictures[6:]
    assert all(pixels.shape == (32, 32, 3) for _, pixels in found)
    (line,) = caplog.messages
    assert "left out 1 of 30 pictures that cannot be opened, the first: 05.png" in line


def test_file_names_that_are_no_utf8_are_like_any_other(tmp_path):
    """Old archives bring Chinese names in GBK, which Python keeps as surrogates."""
    for i in range(3):
        name = f"苹果 {i}.png".encode("gbk" if i else "utf-8")
        try:
            photo(80, 60, i).save(tmp_path / os.fsdecode(name))
        except (OSError, UnicodeError):
            pytest.skip("this file system takes no such names")
    found = dataset.scan(tmp_path)
    assert len(found) == 3 and {p.split for p in found} == {"train", "val"}
    index = nearest.gather(found)
    index.save(tmp_path / "training.npz")
    names = nearest.Training.load(tmp_path / "training.npz").names
    assert [name.isprintable() for name in names] == [True] * len(names)
    titles = {codebook_title(p, tmp_path) for p in found}
    assert len(json.dumps(sorted(titles), ensure_ascii=False).encode()) and "苹果 0.png" in titles


def test_a_data_set_is_named_by_its_folder_wherever_one_stands(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert dataset.identity(".") == dataset.identity(folder)
    assert dataset.identity(".")["name"] == folder.name


def test_runs_and_bundles_among_the_pictures_are_none_of_them(folder):
    """Else a resumed run would draw other crops than one that never stopped, and from its own."""
    before = dataset.scan(folder)
    for name, mark in (("run", "last.pt"), ("mine/bundle", "vqgan.safetensors")):
        samples = folder / name / "samples"
        samples.mkdir(parents=True)
        photo(80, 60).save(samples / "0000500.png")
        photo(80, 60).save(samples.parent / "samples.png")
        (samples.parent / mark).write_bytes(b"")
    assert dataset.scan(folder) == before
    photo(80, 60).save(folder / "mine" / "new.png")
    assert len(dataset.scan(folder)) == len(before) + 1


@pytest.mark.parametrize("line", ["nonsense", '{"path": "00.png"}', "[]", '{"mask": 3}'])
def test_a_manifest_of_another_program_is_refused_with_its_line(folder, line):
    good = json.dumps({"path": "00.png", "kind": "icon", "split": "train"})
    (folder / "manifest.jsonl").write_text(f"{good}\n{line}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"line 2 of .*manifest\.jsonl is no row of data\.build"):
        dataset.scan(folder)
