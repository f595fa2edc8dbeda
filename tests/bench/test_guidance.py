"""The study of guidance: every setting runs, within its time, and is told in a table and a plot."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from bench import guidance
from clip_guidance.modes import Models
from prior.model import GPT, PriorConfig
from tests.fakes import ColourClip


@pytest.fixture
def models(tiny_vqgan) -> Models:
    torch.manual_seed(0)
    shape = PriorConfig(
        codebook_size=32, layers=1, heads=2, dim=16, condition="embedding",
        embedding_size=ColourClip.embedding_size,
    )  # fmt: skip
    clip = ColourClip()
    return Models(tiny_vqgan.requires_grad_(False), clip, GPT(shape).eval(), clip)


def test_settings_are_compared_within_their_time(models, monkeypatch):
    few = {"cutouts": [{"cutouts": 2}, {"cutouts": 16}], "start": [{}, {"start": "prior"}]}
    monkeypatch.setattr(guidance, "STUDY", few)
    ticks = itertools.count()
    found = guidance.study(models, ["red", "blue"], [0], 0.1, lambda: next(ticks) * 0.01)
    assert [guidance.label(o) for o in found] == [
        "2 cutouts",
        "16 cutouts",
        "from noise, lr 0.15",
        "from prior, lr 0.15",
    ]
    assert all(o.runs == 2 and o.steps >= 1 for o in found)
    assert found[1].curve == found[2].curve, "the base runs once"
    shown = np.asarray(guidance.sheet(found))
    first, other = (np.asarray(o.pictures[1]) for o in found[:2])
    side = first.shape[0]
    places = [(slice(y, y + side), slice(8 + side, 8 + 2 * side)) for y in (22, 44 + side)]
    assert np.array_equal(shown[places[0]], first) and np.array_equal(shown[places[1]], other)
    assert not np.array_equal(first, other)
    lines = guidance.table(found).splitlines()
    assert len(lines) == 6 and f"| {found[0].last:.3f} |" in lines[2]
    pixels = np.asarray(guidance.plot(found, 0.1))
    colours = {tuple(c) for c in pixels.reshape(-1, 3)}
    assert (0xBF, 0x4A, 0x26) in colours and (0x2A, 0x6F, 0x97) in colours


def test_bad_input_is_one_line_and_exit_code_2(capsys):
    with pytest.raises(SystemExit) as stopped:
        guidance.main(["--bundle", "none"])
    assert stopped.value.code == 2 and "no bundle 'none'" in capsys.readouterr().err
