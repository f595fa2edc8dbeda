"""Pictures of a class each, in the Sample tab of a bundle whose prior is told one."""

from functools import partial

import numpy as np
import pytest
import torch

import checkpoints
from prior.classes import choose
from prior.draw import main as draw
from prior.model import GPT, PriorConfig, token_nats
from prior.sample import finish, sample
from prior.sheet import Record
from ui import classes, complete, gallery, page, sketching, steps, writing
from ui.classes import Classes
from ui.common import Sentence
from ui.sample_board import Board, Turn
from ui.sample_runs import Sampler, _complete, _rewrite, _write
from ui.studio import Studio
from ui.writing import Batch
from vqgan.perceptual import PerceptualLoss

GOOD = [3, 1.0, 0, 1.0, 5, "6×7"]  # count, temperature, top-k, top-p, seed, size


@pytest.fixture(scope="module")
def labelled(studio, tmp_path_factory) -> Studio:
    """The tiny studio with a prior that is told one of nine classes."""
    torch.manual_seed(1)
    shape = {"codebook_size": 64, "height": 6, "width": 7, "layers": 2, "heads": 2, "dim": 16}
    prior = GPT(PriorConfig(**shape, condition="class", classes=9)).eval().requires_grad_(False)
    for p in prior.parameters():
        if p.ndim == 2:
            p.mul_(12)
    path = tmp_path_factory.mktemp("labelled")
    checkpoints.save(path, name="labelled", vqgan=studio.vqgan, card={}, prior=prior)
    return Studio(checkpoints.load(path), PerceptualLoss("alex"), "cpu")


@pytest.fixture
def board() -> Board:
    return Board(*[None] * len(Board.__dataclass_fields__))


def run(handler, studio, board, *values, turn=None) -> tuple[Batch, list[dict]]:
    """What a run leaves, and the galleries that it shows on the way."""
    made = handler(Sampler.of(studio), board, turn or Turn(), *values)
    states = [value for state in made for value in state]
    (batch,) = (value for value in states if isinstance(value, Batch))
    return batch, [v for v in states if isinstance(v, dict) and "titles" in v]


@pytest.mark.parametrize("label", [None, "", " ", "4", " 4 ", 4.0])
def test_each_picture_is_of_its_class(labelled, board, label):
    batch, shown = run(_write, labelled, board, None, *GOOD, label, False)
    told = choose(labelled.bundle.prior, 3, 5, None if label in (None, "", " ") else 4)
    expected = finish(sample(labelled.bundle.prior, 3, seed=5, condition=told)).grid
    assert np.array_equal(batch.grids, expected.numpy())
    titles = [batch.given.caption(i) for i in range(3)]
    assert all(f"class {n}<" in title for n, title in zip(told.tolist(), titles, strict=True))
    assert len(shown) > 1 and all(s["titles"] == titles for s in shown)
    assert [batch.record(i).settings["classes"] for i in range(3)] == [[n] for n in told.tolist()]
    about = Sampler.of(labelled).page(batch, 1)
    assert titles[1] in about and "given the class" in about


@pytest.mark.parametrize("label", ["-1", "9", "2.5", "cat", "99999", "\u00b2", 9, float("nan")])
def test_another_class_is_one_sentence(labelled, board, label):
    with pytest.raises(Sentence, match="Class must be a whole number from 0 to 8, or empty"):
        run(_write, labelled, board, None, *GOOD, label, False)


def test_other_endings_are_of_the_same_class(labelled, board):
    batch, _ = run(_write, labelled, board, None, *GOOD, None, False)
    asked = {"row": 2, "picture": 1, "batch": batch.number}
    new, _ = run(_rewrite, labelled, board, asked, *GOOD, None, turn=Turn(batch=batch))
    assert new.given == batch.given.of(1)
    assert gallery.finished(new, 0)["titles"] == [batch.given.caption(1)] * 8
    known = torch.from_numpy(batch.grids[1:2].copy())
    known[:, 2:] = -1
    told = torch.full((7,), batch.given.label(1))
    how = {"seed": 8, "known": known, "condition": told}
    assert np.array_equal(new.grids[1:], finish(sample(labelled.bundle.prior, 7, **how)).grid)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("label", [None, 4])
def test_completions_and_their_original_are_told_the_same(labelled, board, count, label):
    """A class that is named, or none: a drawn one would be another than the picture's."""
    grid = finish(sample(labelled.bundle.prior, 1, seed=9)).grid[0].numpy()
    picture = writing.paint(labelled, torch.from_numpy(grid)[None])[0]
    source = complete.Source(grid, picture, own=True)
    free = "0" * 21 + "1" * 21
    batch, _ = run(_complete, labelled, board, free, source, count, *GOOD[1:], label)
    told = None if label is None else torch.tensor([label])
    known = torch.from_numpy(np.where(np.arange(42) < 21, grid.ravel(), -1).reshape(1, 6, 7))
    more = {"condition": None if told is None else told.expand(count)}
    expected = finish(sample(labelled.bundle.prior, count, seed=5, known=known, **more)).grid
    assert np.array_equal(batch.grids[1:], expected.numpy())
    with torch.inference_mode():
        text = torch.from_numpy(grid).view(1, 42)
        nats = token_nats(labelled.bundle.prior(text, told), text)
    assert batch.nats[0] == pytest.approx(-float(nats.sum()), abs=0.5)
    titles = gallery.finished(batch, 1)["titles"]
    assert titles is None if label is None else len(titles) == count + 1
    assert [("classes" in batch.record(i).settings) for i in (0, count)] == [label is not None] * 2


@pytest.mark.parametrize("label", [None, 4])
def test_one_code_at_a_time_is_picture_0(labelled, label):
    ask = writing.request(labelled, *GOOD, label)
    text = steps.draw(labelled, steps.Text(), ask, 42)
    told = choose(labelled.bundle.prior, 1, 5, label)
    expected = finish(sample(labelled.bundle.prior, 1, seed=5, condition=told)).grid
    assert list(text.codes) == expected.flatten().tolist()
    offered = steps.candidates(labelled, text.codes[:9], ask)
    with torch.inference_mode():
        logits = labelled.bundle.prior(expected.view(1, 42), told)[0, 9]
    shares = torch.softmax(logits, -1)[offered.codes].numpy()
    np.testing.assert_allclose(offered.before, shares, atol=0.02)


def test_a_sketch_is_told_the_class_that_is_named(writer):
    """Its own prior takes none, so what it would be told is looked at."""
    lines = np.ones(writer.bundle.sketch.config.size, bool)
    plain, named = (sketching.Given(lines, label=label) for label in (None, 4))
    assert "condition" not in plain.drawing(writer, 3) and "classes" not in plain.settings(0)
    assert named.drawing(writer, 3)["condition"].tolist() == [4, 4, 4]
    assert named.settings(0)["classes"] == [4]


def test_the_tab_opens_with_what_the_command_wrote(labelled):
    file = labelled.bundle.path / "samples.png"
    draw(["--bundle", str(labelled.bundle.path), "--out", str(file), "-n", "2", "--seed", "3"])
    told = tuple(choose(labelled.bundle.prior, 2, 3).tolist())
    kept = Record.read(file).settings
    try:
        assert Sampler.of(labelled).example.batch.given == Classes(told)
        again = partial(classes.again, labelled)
        assert again(kept | {"cfg_scale": 3.0}) == Classes(told, 3.0)
        for strange in ({"sketch": "x"}, {"classes": []}, {"classes": [0, 9]}):
            assert again(kept | strange) is None
    finally:
        file.unlink()


def test_the_tab_asks_for_a_class_where_there_are_some(labelled, writer):
    asked = []
    for studio in (labelled, writer):
        blocks = page.build(studio).blocks.values()
        asked.append([b for b in blocks if getattr(b, "elem_id", "") == "sample-class"])
    assert len(asked[0]) == 1 and not asked[1]
    assert asked[0][0].placeholder == "0 – 8" and not asked[0][0].value
