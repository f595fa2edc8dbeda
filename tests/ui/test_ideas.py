"""Ideas in the Sample tab, without a browser: what a run is told, shows, and leaves in files."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from prior.ideas import FILE, PULL, Idea, Ideas
from prior.sample import finish, sample
from prior.sheet import FILE as SAMPLES
from prior.sheet import Record
from ui import gallery, page
from ui.common import Sentence
from ui.ideas import Told
from ui.sample_board import Board, Turn
from ui.sample_runs import Sampler, _rewrite, _write
from ui.studio import Studio
from ui.writing import Batch

GOOD = (3, 1.0, 0, 1.0, 5, "6×7")
KNOWN = (Idea("apple <b>", "苹果"), Idea("boat"), Idea("cat", "猫"))


@pytest.fixture
def thinker(writer) -> Studio:
    """The tiny studio with a prior, and three ideas beside it."""
    Ideas(KNOWN, 3 * np.eye(3, 4)).save(writer.bundle.path)
    yield writer
    (writer.bundle.path / FILE).unlink()


@pytest.fixture
def board() -> Board:
    return Board(*[None] * len(Board.__dataclass_fields__))


def run(handler, *values) -> tuple[Batch, list[dict]]:
    """What a run leaves, and the galleries that it shows on the way."""
    states = [value for state in handler(*values) for value in state]
    (batch,) = (value for value in states if isinstance(value, Batch))
    return batch, [v for v in states if isinstance(v, dict) and "titles" in v]


def test_each_picture_is_drawn_after_an_idea_of_its_own(thinker, board):
    sampler = Sampler.of(thinker)
    batch, shown = run(_write, sampler, board, Turn(), None, *GOOD, True)
    picks = Ideas.load(thinker.bundle.path).think(3, 5)
    assert len(set(picks.tolist())) > 1
    condition = torch.from_numpy(3 * np.eye(3, 4, dtype=np.float32)[picks])
    last = finish(sample(thinker.bundle.prior, 3, seed=5, condition=condition, cfg_scale=PULL))
    assert np.array_equal(batch.grids, last.grid.numpy()) and batch.origin == "sampled"
    for picture, pick in enumerate(picks):
        assert KNOWN[pick].text.split()[0] in batch.given.caption(picture)
    # The ideas are there before the pictures are, and stay under them.
    titles = [batch.given.caption(i) for i in range(3)]
    assert len(shown) > 1 and all(s["titles"] == titles for s in shown)
    told = sampler.page(batch, 1)
    assert batch.given.caption(1) in told and "given the idea" in told


def test_without_ideas_it_is_the_prior_alone(thinker, board):
    sampler = Sampler.of(thinker)
    batch, shown = run(_write, sampler, board, Turn(), None, *GOOD, False)
    last = finish(sample(thinker.bundle.prior, 3, seed=5))
    assert np.array_equal(batch.grids, last.grid.numpy()) and batch.given is None
    assert all(s["titles"] is None for s in shown)
    assert "given the idea" not in sampler.page(batch, 1)


def test_a_picture_written_alone_has_the_same_idea_and_codes(thinker, board):
    sampler = Sampler.of(thinker)
    three, _ = run(_write, sampler, board, Turn(), None, *GOOD, True)
    one, _ = run(_write, sampler, board, Turn(), None, 1, 1.0, 0, 1.0, 7, "6×7", True)
    assert one.given.caption(0) == three.given.caption(2)
    assert np.array_equal(one.grids[0], three.grids[2])


def test_captions_are_escaped_and_fall_back_to_english():
    given = Told(KNOWN, torch.zeros(3, 4), "id")
    assert given.caption(0) == ('<span lang="en">apple &lt;b&gt;</span><span lang="zh">苹果</span>')
    assert given.caption(1) == '<span lang="en">boat</span><span lang="zh">boat</span>'


def test_files_keep_the_idea_of_their_own_picture(thinker, board):
    sampler = Sampler.of(thinker)
    batch, _ = run(_write, sampler, board, Turn(), None, *GOOD, True)
    for index in range(3):
        kept = Record.read(sampler.file(batch, index)).settings
        assert kept["ideas"] == [batch.given.idea(index).text] and kept["seed"] == 5 + index
        assert kept["cfg_scale"] == PULL and kept["n"] == 1


def test_other_endings_keep_the_idea_of_their_picture(thinker, board):
    sampler = Sampler.of(thinker)
    batch, _ = run(_write, sampler, board, Turn(), None, *GOOD, True)
    index = next(i for i in range(3) if batch.given.idea(i) != batch.given.idea(0))
    asked = {"row": 2, "picture": index, "batch": batch.number}
    new, _ = run(_rewrite, sampler, board, Turn(batch=batch), asked, *GOOD)
    known = torch.from_numpy(batch.grids[index]).clone()
    known[2:] = -1
    condition = batch.given.conditions[index : index + 1].expand(7, -1)
    how = {"condition": condition, "cfg_scale": PULL, "known": known[None]}
    last = finish(sample(thinker.bundle.prior, 7, seed=8, **how))
    assert np.array_equal(new.grids[1:], last.grid.numpy())
    assert gallery.finished(new, 0)["titles"] == [batch.given.caption(index)] * 8


def test_shipped_samples_show_their_ideas(thinker, board, caplog):
    sampler = Sampler.of(thinker)
    batch, _ = run(_write, sampler, board, Turn(), None, *GOOD, True)
    titles = [batch.given.idea(i).text for i in range(3)]
    known = {"ideas": titles, "ideas_id": Ideas.load(thinker.bundle.path).id, "cfg_scale": PULL}
    settings = batch.settings | known
    record = Record(settings, batch.grids, tuple(batch.bits))
    file = thinker.bundle.path / SAMPLES
    Image.new("RGB", (8, 8)).save(file, "PNG", pnginfo=record.info())
    shown = Sampler.of(thinker).example.batch
    assert gallery.finished(shown, 0)["titles"] == [batch.given.caption(i) for i in range(3)]
    assert shown.record(2).settings["ideas"] == [titles[2]]
    # What was told other ideas, or words, could not be told so again: it is left out.
    for change in ({"ideas_id": "another"}, {"ideas": None, "text": "an apple"}):
        other = {k: v for k, v in (settings | change).items() if v is not None}
        record = Record(other, batch.grids, tuple(batch.bits))
        Image.new("RGB", (8, 8)).save(file, "PNG", pnginfo=record.info())
        assert Sampler.of(thinker).example.batch is None and "write it again" in caplog.text
        caplog.clear()
    file.unlink()


def test_a_bundle_without_ideas_offers_none(writer, board, caplog):
    with pytest.raises(Sentence, match="holds no ideas"):
        list(_write(Sampler.of(writer), board, Turn(), None, *GOOD, True))
    box = checkbox(writer)
    assert not box["visible"] and not box["value"]
    file = writer.bundle.path / FILE
    Ideas(KNOWN, np.eye(3, 9)).save(writer.bundle.path)  # of another prior
    assert not checkbox(writer)["visible"] and "9 numbers long" in caplog.text
    file.unlink()


def test_with_ideas_they_are_the_way_the_tab_begins(thinker):
    box = checkbox(thinker)
    assert box["visible"] and box["value"]


def checkbox(studio: Studio) -> dict:
    """What the page says of the box."""
    (found,) = (
        c["props"]
        for c in page.build(studio).get_config_file()["components"]
        if c["props"].get("elem_id") == "sample-ideas"
    )
    return found
