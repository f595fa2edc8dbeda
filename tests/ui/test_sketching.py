"""Sketches without a browser: what comes in, what is written along it, what a PNG keeps of it."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import checkpoints
from clip_guidance.prompts import PromptError
from prior.sample import finish, sample
from prior.sheet import Record
from prior.sketch import from_text, shifts_of, to_text
from ui import page, sketching, writing
from ui.common import Sentence
from ui.sample_board import Board, Turn
from ui.sample_runs import Sampler, _rewrite, _sketch
from ui.sketching import Given
from ui.studio import Studio
from ui.writing import Batch

GOOD = (3, 1.0, 0, 1.0, 5, "6×7")


@pytest.fixture
def lines(writer: Studio) -> np.ndarray:
    found = np.zeros(writer.bundle.sketch.config.size, bool)
    found[5:8] = found[:, 20:23] = True
    return found


def batches(states) -> list[Batch]:
    """What a run leaves on the board, as a generator of board changes."""
    return [value for state in states for value in state if isinstance(value, Batch)]


@pytest.fixture
def board() -> Board:
    return Board(*[None] * len(Board.__dataclass_fields__))


def test_lines_come_as_bits(lines):
    assert np.array_equal(from_text(to_text(lines), lines.shape), lines)
    for text in ("", "?", to_text(lines[:8]), None):
        with pytest.raises(ValueError, match="not the base64"):
            from_text(text, lines.shape)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (None, "could not be understood"),
        ({"lines": "AAAA"}, "could not be understood"),
        ({"lines": 7, "words": "a"}, "could not be understood"),
        ("empty", "Nothing is drawn yet"),
        ("long", "200 at most"),
        ("strong", "from 1 to 6"),
        ("against", "0 or negative"),
    ],
)
def test_what_is_no_sketch_is_a_sentence(writer, lines, asked, said):
    if asked == "empty":
        asked = {"lines": to_text(lines & False), "words": ""}
    if asked == "long":
        asked = {"lines": to_text(lines), "words": "x" * 201}
    if asked == "against":
        asked = {"lines": to_text(lines), "words": "apple:-1"}
    if asked == "strong":
        asked = {"lines": to_text(lines), "words": "", "pull": float("nan")}
    with pytest.raises(Sentence, match=said):
        sketching.given(writer, asked)


def test_pictures_follow_the_lines_and_their_files_keep_them(writer, board, lines):
    sampler = Sampler.of(writer)
    asked = {"lines": to_text(lines), "words": " ", "pull": 2.5}
    (batch,) = batches(_sketch(sampler, board, Turn(), asked, *GOOD))
    shifts = shifts_of(writer.bundle.sketch, lines)
    last = finish(sample(writer.bundle.prior, 3, seed=5, shifts=shifts, cfg_scale=2.5))
    assert np.array_equal(batch.grids, last.grid.numpy()) and batch.origin == "sketched"
    free = finish(sample(writer.bundle.prior, 3, seed=5)).grid.numpy()
    assert (free != batch.grids).mean() > 0.2
    kept = Record.read(sampler.file(batch, 1)).settings
    assert kept["seed"] == 6 and np.array_equal(from_text(kept["sketch"], lines.shape), lines)
    assert "text" not in kept and kept["cfg_scale"] == 2.5
    assert "p(s | y)" in sampler.page(batch, 1)
    plain = replace(batch, given=None)
    assert "p(s | y)" not in sampler.page(plain, 1) and "p(s) =" in sampler.page(plain, 1)


def test_a_large_size_is_left_aside_and_the_page_says_so(writer, board, lines, monkeypatch):
    said: list[str] = []
    monkeypatch.setattr("gradio.Info", said.append)
    asked, sampler = {"lines": to_text(lines), "words": ""}, Sampler.of(writer)
    run = _sketch(sampler, board, Turn(), asked, *GOOD[:5], "9×10")
    assert batches(run)[0].grids.shape == (3, 6, 7)
    assert len(said) == 1 and "6 × 7 codes" in said[0]
    batches(_sketch(sampler, board, Turn(), asked, *GOOD))
    assert len(said) == 1


def test_other_endings_of_a_sketched_picture_follow_it_too(writer, board, lines):
    sampler, asked = Sampler.of(writer), {"lines": to_text(lines), "words": ""}
    (batch,) = batches(_sketch(sampler, board, Turn(), asked, *GOOD))
    shown = {"row": 2, "picture": 1, "batch": batch.number}
    (new,) = batches(_rewrite(sampler, board, Turn(batch=batch), shown, *GOOD))
    known = torch.from_numpy(batch.grids[1]).clone()
    known[2:] = -1
    shifts = shifts_of(writer.bundle.sketch, lines)
    how = {"shifts": shifts, "cfg_scale": 3.0, "known": known[None]}
    first = finish(sample(writer.bundle.prior, 7, seed=8, **how))
    assert np.array_equal(new.grids[1:], first.grid.numpy())
    assert new.given is not None and np.array_equal(new.given.lines, lines)


def test_words_go_with_the_lines(writer, lines, monkeypatch):
    """The CLIP's condition, pulled at as in Text to image; without a CLIP, a sentence."""
    ask = writing.request(writer, *GOOD)
    with pytest.raises(Sentence, match="takes no words"):
        list(writing.write(writer, ask, threading.Event(), given=Given(lines, "an apple")))
    told = torch.linspace(-1, 1, 4).expand(3, 4)
    heard = []

    class Told:
        def condition(self, n: int) -> torch.Tensor:
            return told[:n]

    def targets(clip, prompts):
        if prompts[0].text == "nothing":
            raise PromptError("cancel", "the parts cancel each other")
        heard.append([p.text for p in prompts])
        return Told()

    monkeypatch.setattr(checkpoints.bundle, "targets", targets)
    clip = type("Clip", (), {"embedding_size": 4})()
    worded = replace(writer.bundle, path=writer.bundle.path)
    worded.__dict__["clip"] = clip
    studio = Studio(worded, writer.metric, "cpu")
    *_, batch = writing.write(studio, ask, threading.Event(), given=Given(lines, "an apple"))
    shifts = shifts_of(writer.bundle.sketch, lines)
    how = {"seed": 5, "shifts": shifts, "condition": told, "cfg_scale": 3.0}
    assert np.array_equal(batch.grids, finish(sample(writer.bundle.prior, 3, **how)).grid.numpy())
    with pytest.raises(Sentence, match="cancel each other"):
        list(writing.write(studio, ask, threading.Event(), given=Given(lines, "nothing")))
    assert heard == [["an apple"]] and batch.record(0).settings["text"] == "an apple"
    assert batch.record(1).settings["cfg_scale"] == 3.0


def test_lines_of_a_picture(writer):
    """A red box on white, twice as wide as the page: its outline, in the middle of white paper."""
    image = Image.new("RGB", (224, 96), "white")
    image.paste((220, 30, 30), (64, 16, 160, 80))
    found = sketching.lines_of(writer, image)
    height, width = writer.bundle.sketch.config.size
    assert found.shape == (height, width) and 0.05 < found.mean() < 0.5
    scale = width / 224
    left, right = (np.where(found[height // 2])[0][i] for i in (0, -1))
    assert abs(left - 64 * scale) <= 2.5 and abs(right - 160 * scale) <= 2.5
    shown = sketching.value(writer, found)
    assert np.array_equal(from_text(shown["lines"], (height, width)), found)
    assert not shown["worded"] and (shown["width"], shown["height"]) == (width, height)
    assert sketching.value(writer, found) != shown  # asked for again after it was cleared


def test_the_tab_has_a_canvas_only_where_a_reader_is(writer, studio):
    ids = lambda s: {  # noqa: E731
        c["props"].get("elem_id") for c in page.build(s).get_config_file()["components"]
    }
    bare = Studio(replace(writer.bundle, sketch=None), writer.metric, "cpu")
    assert "sample-sketch" in ids(writer) and "sample-sketch" not in ids(bare)
    hint = "Give it a sketch"
    assert hint in str(page.build(writer).get_config_file())
    assert hint not in str(page.build(bare).get_config_file())
