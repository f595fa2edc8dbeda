"""One picture through the model: sizes, cropping, and figures that describe what is returned."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import checkpoints
from vqgan import rebuild as module
from vqgan.images import pad_to_multiple, to_image, to_tensor
from vqgan.metrics import psnr, ssim
from vqgan.rebuild import perceptual_distance, rebuild


@pytest.fixture(scope="module")
def metric():
    return checkpoints.metric()


@pytest.fixture
def picture() -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (7, 11, 3), np.uint8)
    return Image.fromarray(noise).resize((75, 51), Image.Resampling.BICUBIC)


def test_figures_are_those_of_the_returned_pictures(tiny_vqgan, metric, picture):
    r = rebuild(tiny_vqgan, metric, picture, 64)
    assert r.original.size == r.image.size == (64, 44)
    assert r.indices.shape == (22, 32) and r.indices.dtype == torch.int64
    x, x_hat = to_tensor(r.original), to_tensor(r.image)
    assert r.psnr == pytest.approx(psnr(x, x_hat).item())
    assert r.ssim == pytest.approx(ssim(x, x_hat).item())
    assert r.distance == pytest.approx(metric(x, x_hat).item(), abs=1e-6)
    assert r.distinct_codes == len(set(r.indices.flatten().tolist()))
    assert r.bits_per_pixel == pytest.approx(22 * 32 * 5 / (64 * 44))
    assert not r.capped


def test_the_picture_is_padded_and_cropped_back(tiny_vqgan, metric, picture):
    r = rebuild(tiny_vqgan, metric, picture, None)
    assert r.image.size == picture.size == (75, 51)
    padded, _ = pad_to_multiple(to_tensor(picture), 2)
    output, encoding = tiny_vqgan(padded)
    assert torch.equal(encoding.indices[0], r.indices) and r.indices.shape == (26, 38)
    expected = np.array(to_image(output))[:51, :75]
    assert np.abs(np.array(r.image).astype(int) - expected).max() <= 1


def test_native_size_is_capped(tiny_vqgan, metric, picture, monkeypatch):
    monkeypatch.setattr(module, "NATIVE_LIMIT", 60)
    r = rebuild(tiny_vqgan, metric, picture, None)
    assert r.capped and r.image.size == (60, 41)
    assert not rebuild(tiny_vqgan, metric, picture, 64).capped


@pytest.mark.parametrize("size", [(1, 1), (300, 1)])
@pytest.mark.parametrize("side", [32, None])
def test_the_smallest_pictures_work(tiny_vqgan, metric, size, side):
    r = rebuild(tiny_vqgan, metric, Image.new("RGB", size, "red"), side)
    assert np.isfinite([r.psnr, r.ssim, r.distance]).all()


def test_distance_of_equal_pictures_is_zero(metric):
    x = torch.rand(1, 3, 8, 40) * 2 - 1
    assert perceptual_distance(metric, x, x) == pytest.approx(0, abs=1e-6)
    assert perceptual_distance(metric, x, -x) > 0.01


@pytest.mark.parametrize(("trained", "side"), [(64, "128"), (128, "128"), (256, "256")])
def test_the_working_size_to_begin_with_is_the_models(trained, side):
    model = SimpleNamespace(config=SimpleNamespace(resolution=trained))
    assert module.usual_side(model) == side
