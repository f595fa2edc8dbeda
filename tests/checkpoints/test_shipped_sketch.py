"""The shipped sketch reader: there, trained, and its prior follows lines by it."""

import numpy as np
import pytest
import torch

import checkpoints
from bench.quality import choose
from bench.sketches import measure
from checkpoints.bundle import FOLDER
from prior.model import BITS, token_nats
from prior.sketch import edges, thicken
from vqgan import dataset

PATH = FOLDER / checkpoints.DEFAULT


@pytest.fixture(scope="module")
def bundle():
    return checkpoints.load(PATH)


@pytest.fixture(scope="module")
def drawings(fixtures) -> np.ndarray:
    """(24, 128, 128, 3) uint8."""
    pictures = [p for p in choose(fixtures, "all", None) if not p.photo]
    return np.stack([dataset.whole(p, 128) for p in pictures[:: len(pictures) // 24][:24]])


def test_lines_make_their_own_picture_likelier_and_others_not(bundle, drawings):
    images = dataset.to_tensor(drawings[::3])
    with torch.inference_mode():
        grids = bundle.vqgan.encode(images).indices.flatten(1)
        shifts = bundle.sketch(thicken(edges(images)[:, 1:].float(), 3))
        bits = [
            float(token_nats(bundle.prior(grids, shifts=given), grids).mean() * BITS)
            for given in (shifts, None, shifts.roll(1, 0))
        ]
    own, free, other = bits
    assert own < free - 0.3 and other > free


def test_what_is_written_along_lines_has_them(bundle, drawings):
    found, *_ = measure(bundle, drawings[::3], seed=0)
    assert found["along its lines"] > 80
    assert found["along its lines"] > found["written without lines"] + 25
    assert found["along its lines"] > found["against the next drawing's"] + 20


def test_it_is_small_and_the_card_tells_how_it_was_trained(bundle):
    assert (PATH / "sketch.safetensors").stat().st_size <= 5e6
    card = bundle.card["sketch"]
    assert card["training"]["steps"] > 0 and card["training"]["hours"] > 0
    assert card["metrics"]["val_bits"] < card["metrics"]["val_free_bits"] - 0.3
    assert card["metrics"]["agreement"]["pictures"] >= 64
