"""The shipped metric: the same distances as its source, and known ones where that is missing."""

import pytest
import torch

import checkpoints
from checkpoints.bundle import METRIC
from checkpoints.perceptual.__main__ import main
from vqgan.perceptual import from_shift_tolerant, pypi_weights

KNOWN = [0.51616, 0.23967, 0.016438]  # of `pairs`, by the original file


def pairs() -> tuple[torch.Tensor, torch.Tensor]:
    """Three smooth pictures and what a mirror, noise and a shift by one pixel make of them."""
    steps = torch.linspace(-1, 1, 64)
    waves = [torch.sin(k * steps[:, None] + (k + 1) * steps[None] * 3) for k in (1, 2, 3)]
    x = torch.stack([torch.stack([w, w.flip(0), -w]) for w in waves])
    y = x.clone()
    y[0] = x[0].flip(2)
    y[1] = (x[1] + 0.5 * torch.sin(torch.arange(64 * 64.0) ** 2).view(64, 64)).clamp(-1, 1)
    y[2] = x[2].roll(1, 2)
    return x, y


def source_weights() -> dict:
    try:
        path = pypi_weights("alex")
    except FileNotFoundError:
        pytest.skip("stlpips-pytorch is not installed")
    return torch.load(path, map_location="cpu", weights_only=True)


def test_known_distances():
    x, y = pairs()
    assert checkpoints.metric()(x, y).tolist() == pytest.approx(KNOWN, rel=1e-3)
    assert checkpoints.metric()(x, x).abs().max() < 1e-6


def test_same_as_the_original_file():
    x, y = pairs()
    original = from_shift_tolerant(source_weights(), "alex")
    assert torch.allclose(checkpoints.metric()(x, y), original(x, y), rtol=1e-3)


def test_the_command_makes_the_shipped_file(tmp_path):
    source_weights()
    main(["--out", str(tmp_path / "alex.safetensors")])
    assert (tmp_path / "alex.safetensors").read_bytes() == METRIC.read_bytes()


def test_licence_lies_beside_it():
    text = (METRIC.parent / "LICENSE").read_text()
    assert "BSD 2-Clause License" in text and "Abhijay Ghildyal, Feng Liu" in text


def test_it_goes_where_it_is_told():
    assert all(value.is_meta for value in checkpoints.metric("meta").state_dict().values())
