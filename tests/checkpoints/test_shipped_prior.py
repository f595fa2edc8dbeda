"""The shipped prior: there, trained, and as good as its card says; its samples are its own."""

import re

import pytest
import torch

import checkpoints
from bench.quality import choose
from checkpoints.bundle import FOLDER
from prior.likelihood import bits_per_cell
from vqgan import dataset

PATH = FOLDER / checkpoints.DEFAULT
TOLERANCE = 0.03  # bits; another processor rounds otherwise


def fixture_bits(bundle, fixtures) -> float:
    """Mean bits per code of the fixture drawings, no condition."""
    pictures = [p for p in choose(fixtures, "all", None) if not p.photo]
    images = torch.stack([dataset.to_tensor(dataset.whole(p, 128)) for p in pictures])
    with torch.inference_mode():
        grids = torch.cat([bundle.vqgan.encode(part).indices for part in images.split(16)])
        return float(bits_per_cell(bundle.prior, grids).mean())


def test_the_fixture_drawings_are_as_likely_as_the_card_says(fixtures):
    bundle = checkpoints.load(PATH)
    metrics = bundle.card["prior"]["metrics"]
    found = fixture_bits(bundle, fixtures)
    assert found == pytest.approx(metrics["fixture_bits"], abs=TOLERANCE)
    assert found < metrics["unigram_bits"] / 2  # random weights need 10 bits


def test_the_prior_is_small():
    assert (PATH / "prior.safetensors").stat().st_size <= 30e6


def test_the_card_tells_how_it_was_trained():
    training = checkpoints.load(PATH).card["prior"]["training"]
    assert training["steps"] > 0 and training["hours"] > 0
    assert training["commands"][-1] == training["command"]
    stopped = {}  # by run: where its last command ended it
    for command in training["commands"]:
        steps = re.search(r"--steps (\d+)", command)
        if steps:
            stopped[re.search(r"--out (\S+)", command)[1]] = int(steps[1])
    assert training["steps"] == sum(stopped.values())
