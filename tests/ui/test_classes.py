"""Pictures of a class each, in the Sample tab of a bundle whose prior is told one."""

import threading

import numpy as np
import pytest
import torch

import checkpoints
from prior.classes import choose
from prior.draw import main as draw
from prior.model import GPT, PriorConfig
from prior.sample import finish, sample
from ui import complete, gallery, page, writing
from ui.classes import Classes
from ui.common import Sentence
from ui.sample_runs import Board, Sampler, _complete, _rewrite, _write
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


def run(handler, studio, board, *values) -> tuple[Batch, list[dict]]:
    """What a run leaves, and the galleries that it shows on the way."""
    made = handler(Sampler.of(studio), board, threading.Event(), *values)
    states = [value for state in made for value in state]
    (batch,) = (value for value in states if isinstance(value, Batch))
    return batch, [v for v in states if isinstance(v, dict) and "titles" in v]


@pytest.mark.parametrize("label", [None, "", 4, 4.0])
def test_each_picture_is_of_its_class(labelled, board, label):
    batch, shown = run(_write, labelled, board, None, *GOOD, label, False)
    told = choose(labelled.bundle.prior, 3, 5, None if label in (None, "") else 4)
    expected = finish(sample(labelled.bundle.prior, 3, seed=5, condition=told)).grid
    assert np.array_equal(batch.grids, expected.numpy())
    titles = [batch.given.caption(i) for i in range(3)]
    assert all(f"class {n}<" in title for n, title in zip(told.tolist(), titles, strict=True))
    assert len(shown) > 1 and all(s["titles"] == titles for s in shown)
    assert [batch.record(i).settings["classes"] for i in range(3)] == [[n] for n in told.tolist()]
    about = Sampler.of(labelled).page(batch, 1)
    assert titles[1] in about and "given the class" in about


@pytest.mark.parametrize("label", [-1, 9, 2.5, "cat", float("nan")])
def test_another_class_is_one_sentence(labelled, board, label):
    with pytest.raises(Sentence, match="Class must be a whole number from 0 to 8, or empty"):
        run(_write, labelled, board, None, *GOOD, label, False)


def test_other_endings_are_of_the_same_class(labelled, board):
    batch, _ = run(_write, labelled, board, None, *GOOD, None, False)
    new, _ = run(_rewrite, labelled, board, 2, batch, 1, *GOOD, None)
    assert new.given == batch.given.of(1)
    assert gallery.finished(new, 0)["titles"] == [batch.given.caption(1)] * 8


def test_completions_have_classes_and_the_picture_itself_none(labelled, board):
    grid = finish(sample(labelled.bundle.prior, 1, seed=9)).grid[0].numpy()
    picture = writing.paint(labelled, torch.from_numpy(grid)[None])[0]
    source = complete.Source(grid, picture, own=True)
    free = "0" * 21 + "1" * 21
    batch, _ = run(_complete, labelled, board, free, source, *GOOD, None)
    told = choose(labelled.bundle.prior, 3, 5).tolist()
    assert batch.given == Classes((None, *told))
    titles = gallery.finished(batch, 1)["titles"]
    assert titles[0] == "" and f"class {told[2]}<" in titles[3]
    assert "classes" not in batch.record(0).settings
    assert batch.record(3).settings["classes"] == [told[2]]
    known = np.where(np.arange(42) < 21, grid.ravel(), -1).reshape(1, 6, 7)
    expected = finish(
        sample(
            labelled.bundle.prior, 3, seed=5, known=torch.from_numpy(known),
            condition=torch.tensor(told),
        )
    )  # fmt: skip
    assert np.array_equal(batch.grids[1:], expected.grid.numpy())
    # What was brought along was told nothing, so its endings are drawn anew, and are of classes.
    new, _ = run(_rewrite, labelled, board, 2, batch, 0, *GOOD, None)
    assert len(new.given.labels) == 8 and new.given.labels[0] is None


def test_the_tab_opens_with_what_the_command_wrote(labelled):
    file = labelled.bundle.path / "samples.png"
    draw(["--bundle", str(labelled.bundle.path), "--out", str(file), "-n", "2", "--seed", "3"])
    try:
        batch = Sampler.of(labelled).example.batch
        told = tuple(choose(labelled.bundle.prior, 2, 3).tolist())
        assert batch.given == Classes(told)
    finally:
        file.unlink()


def test_the_tab_asks_for_a_class_where_there_are_some(labelled, writer):
    asked = []
    for studio in (labelled, writer):
        blocks = page.build(studio).blocks.values()
        asked.append([b for b in blocks if getattr(b, "elem_id", "") == "sample-class"])
    assert len(asked[0]) == 1 and not asked[1]
    assert asked[0][0].placeholder == "0 – 8" and asked[0][0].value is None
