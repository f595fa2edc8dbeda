"""What the Sample tab says about its pictures: true of examples, unfinished and completed ones."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from prior.nearest import Found
from ui import downloads, gallery, page, sample, steps, writing
from ui import sample_panel as panel
from ui.common import Sentence
from ui.sample_runs import Sampler
from ui.studio import Studio
from ui.text import together, words
from ui.writing import Batch

SIZE = (6, 7)
GOOD = (3, 1.0, 0, 1.0, 5, "6×7")


@pytest.fixture(scope="module")
def written(writer) -> Batch:
    """Three pictures, none of them drawn: what is said of them needs no model."""
    grids = np.arange(3 * 42).reshape(3, *SIZE) % 64
    pictures = np.zeros((3, 48, 56, 3), np.uint8)
    nats, counted = np.array([-80.0, -90.0, -70.0]), np.full(3, 42)
    return Batch(grids, pictures, nats, counted, (5, 6, 7), {}, "sampled")


def stopped(batch: Batch, done: int) -> Batch:
    """The batch as if stopped after so many codes."""
    grids = batch.grids.copy()
    grids.reshape(3, -1)[:, done:] = -1
    return replace(batch, grids=grids, counted=np.full(3, done))


def completed(batch: Batch, kept: np.ndarray) -> Batch:
    """One picture that was completed, behind the one it was completed from."""
    seeds, origin = (None, 5), "completed"
    pair = {name: getattr(batch, name)[:2] for name in ("grids", "pictures", "nats", "counted")}
    return replace(batch, **pair, seeds=seeds, origin=origin, kept=kept)


def test_an_example_promises_no_picture_that_another_precision_may_not_write(written):
    assert "writes this one again" in panel.figures(written, 0)
    said = panel.figures(replace(written, origin="example"), 0)
    assert "writes this one again" not in said and "可再次写出" not in said
    assert "in another precision it may write another" in said and "换一种精度" in said


def test_of_a_picture_that_is_mostly_unwritten_no_neighbour_is_named(writer, written, monkeypatch):
    class White:
        scale = (1.0, 2.0)

        def nearest(self, picture, n):
            return [Found("cloud", "a", 1.0, False, np.zeros((8, 8, 3), np.uint8))]

    monkeypatch.setattr(Studio, "training", White())
    sampler = Sampler.of(writer)
    assert "cloud" in sampler.page(written, 0)
    assert "cloud" in sampler.page(stopped(written, 30), 0)
    early = sampler.page(stopped(written, 5), 0)
    assert "cloud" not in early and "Nearest" not in early and "5 of 42 codes" in early


def test_a_programs_pictures_are_one_answer_however_many(writer, written, monkeypatch):
    monkeypatch.setattr(downloads, "KEPT", 1)
    sampler = Sampler.of(writer)
    files, _ = sampler.given(written)
    assert [Path(file).name for file in files] == [f"sample-seed-{s}.png" for s in (5, 6, 7)]
    assert all(Path(file).is_file() for file in files)


def test_rewriting_begins_below_a_whole_row(written):
    def rewriting(batch: Batch) -> tuple[int, bool]:
        html = panel.page(batch, 0, "")
        button = re.search("<button[^>]*sp-rewrite[^>]*>", html)[0]
        return int(re.search(r'data-last="(\d+)"', html)[1]), "disabled" not in button

    assert rewriting(written) == (5, True)
    assert rewriting(stopped(written, 16)) == (2, True)
    assert rewriting(stopped(written, 5)) == (0, False), "no row is whole"
    below = stopped(written, 5)
    below.grids[:, 4:] = 1  # kept by a completion: a whole row, but not from the top on
    assert rewriting(below) == (0, False)


def test_endings_of_a_stopped_picture_are_whole_though_it_is_not(written):
    part = stopped(written, 16)
    batch = writing.with_original(written, part.grids[0], part.pictures[0], float(part.nats[0]))
    value = gallery.finished(batch, 1)
    assert (value["shown"], value["original"], value["begun"]) == (42, True, 16)
    assert "3 pictures, 126 codes" in value["status"]
    halted = writing.with_original(part, written.grids[0], written.pictures[0], 0.0)
    value = gallery.finished(halted, 1)
    assert (value["shown"], value["begun"]) == (16, 42) and "Stopped at row" in value["status"]


def test_codes_that_were_given_are_not_counted_as_written(written):
    assert "3 pictures, 126 codes" in gallery.finished(written, 0)["status"]
    kept = np.ones(SIZE, bool)
    kept[4:] = False
    one = gallery.finished(completed(written, kept), 1)["status"]
    assert "1 picture, 14 codes" in one and "1 张图片，14 个码" in one


def test_a_completion_is_numbered_without_the_picture_it_began_with(written):
    kept = np.ones(SIZE, bool)
    kept[0, 0] = False
    batch = completed(written, kept)
    html = panel.page(batch, 1, "")
    assert "Picture 1 of 1" in html and "drew what was not given" in html
    assert "What it started from" in panel.page(batch, 0, "")
    free = panel.page(completed(written, ~kept & kept), 1, "")
    assert "writes this one again" in free, "nothing was given"


def test_the_tile_and_the_panel_round_once(written):
    bits = 2.8649  # 2.865 in three places, and from there 2.87
    batch = replace(written, nats=np.full(3, -bits * np.log(2) * 42))
    assert gallery.finished(batch, 0)["bits"] == ["2.86"] * 3
    assert "<b>2.86</b>" in panel.figures(batch, 0)


def test_only_who_waits_is_brought_to_the_pictures():
    assert gallery.says("gallery.waiting")["waits"]
    assert not gallery.says("gallery.nothing")["waits"]


def test_chinese_sentences_follow_each_other_without_a_space(writer):
    assert together("a", "b") == 'a<span lang="en"> </span>b'
    found = [Found("cloud", "a", 1.0, False, np.zeros((8, 8, 3), np.uint8))]
    for html in (panel.near(found, (1.0, 2.0), ""), sample._lead(writer)):
        assert html.count('<span lang="en"> </span>') == 1 and "</span> <span" not in html


def test_the_size_says_for_what_it_counts():
    """Sketch, completion and step mode take none but the prior's own."""
    english, chinese = words("sample.size.info")
    assert "Only for “From nothing”" in english and "只用于“从零开始”" in chinese


def test_a_code_for_a_cell_that_has_been_written_since_is_none(writer):
    """The second click of a double one comes while the page still shows the cell before."""
    act = next(fn.fn for fn in page.build(writer).fns.values() if fn.name == "act")

    def click(text: steps.Text, **data) -> steps.Text:
        return act(type("Event", (), {"_data": data})(), text, *GOOD)[0]

    once = click(steps.Text((1, 2)), code=9, at=2)
    assert once.codes == (1, 2, 9)
    assert click(once, code=9, at=2).codes == (1, 2, 9)
    assert click(once, code=9, at=3).codes == (1, 2, 9, 9)


def test_an_empty_field_for_the_first_code_is_a_sentence_of_its_own(writer):
    with pytest.raises(Sentence, match=r"no first code.*from 0 to 63.*还没有填写") as said:
        steps.begin(writer, "picked", 0, None)
    assert "None" not in str(said.value)
