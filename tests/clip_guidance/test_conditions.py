"""Conditions: each picture's own phrases and pixels, in the order that is documented."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from clip_guidance import conditions
from prior import tokens
from vqgan import dataset
from vqgan.dataset import Picture


class Spy:
    """Encodes a text as its length and a picture as its mean colour; remembers nothing else."""

    def encode_text(self, texts):
        return F.normalize(torch.tensor([[len(t), sum(map(ord, t)), 1.0] for t in texts]), dim=-1)

    def encode_image(self, images):
        assert images.shape[1:] == (3, 8, 8) and images.abs().max() <= 1
        return F.normalize(images.mean((2, 3)) + 2, dim=-1)


@pytest.fixture
def pictures(tmp_path):
    found = []
    rows = [
        {"captions": ["frog", "animal face"], "captions_zh": ["青蛙", "动物"]},
        {"captions": ["fire engine"]},
    ]
    for i, (row, colour) in enumerate(zip(rows, [(60, 170, 70), (220, 30, 40)], strict=True)):
        Image.new("RGB", (8, 8), colour).save(tmp_path / f"{i}.png")
        found.append(Picture(tmp_path / f"{i}.png", row=row))
    return found


def test_a_clip_gives_words_picture_and_both(pictures):
    found = conditions.by_clip(pictures, Spy(), 8)
    assert found.shape == (2, 12, 3)
    assert np.allclose(np.linalg.norm(found, axis=-1), 1, atol=1e-6)
    texts = [
        ["frog", "a frog", "a green frog", "a drawing of a green frog", "frog, animal face"],
        ["fire engine", "a fire engine", "a red fire engine", "a drawing of a red fire engine"],
    ]
    texts[0] += ["green animal face", "青蛙", "绿色的青蛙", "动物"]
    texts[1] += ["fire engine", "red fire engine", "fire engine"]
    texts[1] += ["a red fire engine", "a drawing of a red fire engine"]
    for row, words in zip(found, texts, strict=True):
        assert np.allclose(row[:9], Spy().encode_text(words).numpy(), atol=1e-6), words
    colours = torch.tensor([[60.0, 170, 70], [220, 30, 40]]) / 127.5 - 1
    assert np.allclose(found[:, 9], F.normalize(colours + 2, dim=-1).numpy(), atol=1e-5)
    for place, phrase in ((10, 2), (11, 5)):
        mixed = found[:, 9] + found[:, phrase]
        mixed /= np.linalg.norm(mixed, axis=-1, keepdims=True)
        assert np.allclose(found[:, place], mixed, atol=1e-6)


def test_a_text_is_encoded_once(pictures):
    asked = []

    def encode(flat):
        asked.extend(flat)
        return np.array([[float(len(text))] for text in flat])

    found = conditions.embed([["a", "bb"], ["bb", "ccc"]], encode)
    assert asked == ["a", "bb", "ccc"]
    assert found[..., 0].tolist() == [[1, 2], [2, 3]]


def test_pictures_without_captions_are_refused(pictures):
    with pytest.raises(ValueError, match="has no captions: give a folder made by"):
        conditions.texts_of([Picture(pictures[0].path)])


class Lengths:
    """A sentence encoder that knows how long a text is."""

    def encode(self, texts, progress):
        return np.array([[float(len(text))] for text in texts])


def test_a_picture_that_cannot_be_read_has_no_row(tiny_vqgan, tmp_path, monkeypatch, capsys):
    """Neither among the tokens nor among the conditions: the others keep their places."""
    data, rows = tmp_path / "data", []
    data.mkdir()
    for name in ("ant", "broken", "elephant"):
        Image.new("RGB", (32, 32), "red").save(data / f"{name}.png")
        row = {"id": name, "set": "s", "path": f"{name}.png", "kind": "icon", "split": "train"}
        rows.append(row | {"captions": [name], "captions_zh": []})
    (data / "broken.png").write_bytes(b"no picture")
    (data / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = tokens.encode(
        tiny_vqgan, dataset.scan(data), tokenizer_id="t", size=32, data=dataset.identity(data)
    )
    tokens.save(found, tmp_path / "t.npy")
    monkeypatch.setattr(conditions, "Teacher", Lengths)
    line = ["--tokens", str(tmp_path / "t.npy"), "--data", str(data)]
    conditions.main([*line, "--out", str(tmp_path / "c.npy")])
    made = np.load(tmp_path / "c.npy")
    assert made.shape == (2, 6, 1) and made[:, 0, 0].tolist() == [len("ant"), len("elephant")]
    assert "2 pictures, 6 conditions each" in capsys.readouterr().out
    (data / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows[:2])))
    with pytest.raises(SystemExit) as stop:
        conditions.main([*line, "--out", str(tmp_path / "d.npy")])
    said = capsys.readouterr().err
    assert stop.value.code == 2 and said.startswith("error: ") and "lacks, s/elephant" in said
    assert not (tmp_path / "d.npy").exists()
