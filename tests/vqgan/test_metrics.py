"""PSNR, SSIM, bits and WebP against hand-computed values and scikit-image."""

import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from vqgan import metrics
from vqgan.images import to_tensor
from vqgan.metrics import (
    bits_per_pixel,
    code_bytes,
    decode_webp,
    encode_webp,
    psnr,
    ssim,
    webp_at_bytes,
)


def pair(height: int = 24, width: int = 33) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    a = torch.rand(2, 3, height, width, generator=g) * 2 - 1
    return a, (a + 0.4 * torch.randn(a.shape, generator=g)).clamp(-1, 1)


def test_psnr_by_hand():
    a = torch.zeros(2, 3, 4, 4)
    b = a.clone()
    b[0] += 0.2  # mse 0.04 on a scale of 2: 10 log10(4 / 0.04) = 20 dB
    value = psnr(a, b)
    assert value[0].item() == pytest.approx(20, abs=1e-4)
    assert math.isinf(value[1].item())


def test_masked_psnr_weighs_pixels():
    a, b = torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)
    b[..., 0, 0] = 0.2
    b[..., 1, 1] = 1.0
    mask = torch.zeros(1, 1, 2, 2)
    mask[..., 0, 0] = 1
    assert psnr(a, b, mask).item() == pytest.approx(20, abs=1e-4)
    mask[..., 1, 1] = 0.5  # mse = (0.04 + 0.5 * 1) / 1.5 = 0.36
    assert psnr(a, b, mask).item() == pytest.approx(10 * math.log10(4 / 0.36), abs=1e-4)
    with pytest.raises(ValueError, match="empty"):  # one of two
        psnr(a.expand(2, -1, -1, -1), b.expand(2, -1, -1, -1), torch.cat([mask, mask * 0]))
    with pytest.raises(ValueError, match="mask has shape"):
        psnr(a, b, torch.ones(1, 3, 2, 2))
    with pytest.raises(ValueError, match="shapes"):
        psnr(a, b[:, :, :1])


@pytest.mark.parametrize("size", [(24, 33), (11, 11)])
def test_ssim_is_scikit_images(size):
    skimage = pytest.importorskip("skimage.metrics")
    a, b = ((x + 1).mul(127.5).round().byte() for x in pair(*size))  # as one would measure files
    expected = [
        skimage.structural_similarity(
            x.numpy(),
            y.numpy(),
            channel_axis=0,
            data_range=255,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for x, y in zip(a, b, strict=True)
    ]
    found = ssim(*(x.float().div(127.5).sub(1) for x in (a, b)))
    assert np.abs(found.numpy() - expected).max() < 1e-4


def test_ssim_of_equal_and_of_tiny_pictures():
    a, b = pair()
    assert torch.allclose(ssim(a, a), torch.ones(2))
    assert (ssim(a, b) < 0.95).all()
    assert ssim(torch.zeros(1, 3, 1, 1), torch.zeros(1, 3, 1, 1)).item() == pytest.approx(1)


def test_bits():
    assert code_bytes(256, 1024) == 320
    assert code_bytes(3, 1000) == 4  # 29.9 bits
    assert bits_per_pixel(256, 1024, 128 * 128) == pytest.approx(0.15625)


@pytest.fixture(scope="module")
def drawing() -> Image.Image:
    image = Image.new("RGB", (96, 64), "white")
    draw = ImageDraw.Draw(image)
    draw.ellipse((8, 4, 70, 60), fill="gold")
    draw.rectangle((50, 20, 90, 40), fill="navy")
    return image


def test_webp_keeps_to_its_bytes_and_improves_with_them(drawing):
    x, errors = to_tensor(drawing), []
    for budget in (150, 300, 900):
        image, used = webp_at_bytes(drawing, budget)
        assert used <= budget and image.size == drawing.size
        errors.append(psnr(x, to_tensor(image)).item())
    assert errors == sorted(errors) and errors[-1] > errors[0] + 3
    worst = decode_webp(encode_webp(drawing, 0), drawing.size)
    assert errors[-1] > psnr(x, to_tensor(worst)).item() + 3  # quality is searched too


def test_quality_is_the_highest_that_fits(drawing, monkeypatch):
    monkeypatch.setattr(metrics, "encode_webp", lambda image, quality: bytes(100 + 3 * quality))
    for budget in range(90, 410):
        best = min(max((budget - 100) // 3, 0), 100)
        assert len(metrics._largest_fitting(drawing, budget)) == 100 + 3 * best, budget


def test_webp_uses_a_smaller_picture_where_full_size_does_not_fit(drawing):
    _, least = webp_at_bytes(drawing, 1)
    assert 1 < least < 120  # nothing fits: the smallest file there is, and its true size
    assert webp_at_bytes(drawing, least + 10)[1] <= least + 10


def test_webp_follows_the_given_score(drawing):
    asked = []

    def prefer_dark(image: Image.Image) -> float:
        asked.append(float(np.asarray(image).mean()))
        return asked[-1]

    image, _ = webp_at_bytes(drawing, 400, score=prefer_dark)
    assert len(asked) > 1
    assert float(np.asarray(image).mean()) == min(asked)
