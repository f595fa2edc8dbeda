"""One picture through a VQGAN and back, with the figures that describe the result.

What the app's Reconstruct tab and `python -m vqgan.reconstruct` share.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from vqgan.images import fit, pad_to_multiple, to_image, to_tensor
from vqgan.metrics import bits_per_pixel, psnr, ssim
from vqgan.model import VQGAN, reconstruct
from vqgan.perceptual import MINIMUM_SIDE, PerceptualLoss

NATIVE_LIMIT = 768  # longest side of a "native" reconstruction: memory grows with the pixels
# Working sizes by name: the longest side in pixels, None for the picture's own.
SIDES: dict[str, int | None] = {"128": 128, "256": 256, "384": 384, "native": None}


def usual_side(vqgan: VQGAN) -> str:
    """The working size to begin with: the one nearest to what the model was trained on."""
    trained = vqgan.config.resolution
    return min((s for s in SIDES if SIDES[s]), key=lambda s: abs(SIDES[s] - trained))


@dataclass(frozen=True)
class Closeness:
    """How near one picture is to another."""

    psnr: float  # dB, inf where equal
    ssim: float
    distance: float  # shift-tolerant LPIPS


@dataclass(frozen=True)
class Reconstruction:
    """A picture, what came back from its codes, and how near that is."""

    original: Image.Image  # RGB, as it went in: scaled to the working size
    image: Image.Image  # RGB, the same size
    indices: Tensor  # (h, w) int64 on the CPU; covers the picture padded to a multiple of f
    psnr: float  # dB; inf if equal
    ssim: float
    distance: float  # shift-tolerant LPIPS, 0 = equal
    distinct_codes: int
    bits_per_pixel: float  # log2(K) bits a code over the pixels of the picture
    capped: bool  # "native" was asked for and the picture was scaled down to NATIVE_LIMIT


def rebuild(
    vqgan: VQGAN, metric: PerceptualLoss, image: Image.Image, side: int | None = 128
) -> Reconstruction:
    """Encode and decode one RGB picture, its longest side scaled to `side` pixels.

    `side` None keeps the picture's own size, up to NATIVE_LIMIT. Aspect is kept: the picture is
    padded to a multiple of f with its own edge, and the result cropped back. Figures are those of
    the 8-bit pictures returned. Model and metric must be on one device, in eval mode.
    """
    original, capped = at_size(image, side)
    result, indices = through(vqgan, original)
    near = measure(metric, original, result)
    return Reconstruction(
        original=original,
        image=result,
        indices=indices,
        psnr=near.psnr,
        ssim=near.ssim,
        distance=near.distance,
        distinct_codes=int(indices.unique().numel()),
        bits_per_pixel=bits_per_pixel(
            indices.numel(), vqgan.config.codebook_size, math.prod(original.size)
        ),
        capped=capped,
    )


def at_size(image: Image.Image, side: int | None) -> tuple[Image.Image, bool]:
    """(RGB picture, its longest side `side` pixels; whether a "native" one had to be capped)."""
    capped = side is None and max(image.size) > NATIVE_LIMIT
    image = image.convert("RGB")
    if capped:
        return fit(image, NATIVE_LIMIT), True
    return (image if side is None else fit(image, side)), False


def through(vqgan: VQGAN, original: Image.Image) -> tuple[Image.Image, Tensor]:
    """An RGB picture through the model -> (the same size, its codes (h, w) int64 on the CPU)."""
    device = next(vqgan.parameters()).device
    padded, (height, width) = pad_to_multiple(to_tensor(original), vqgan.config.downsampling)
    with torch.inference_mode():
        output, indices = reconstruct(vqgan, padded.to(device))
        return to_image(output[..., :height, :width]), indices[0].cpu()


def measure(metric: PerceptualLoss, original: Image.Image, result: Image.Image) -> Closeness:
    """How near two RGB pictures of one size are."""
    device = next(metric.parameters()).device
    with torch.inference_mode():
        x, x_hat = (to_tensor(image).to(device) for image in (original, result))
        distance = perceptual_distance(metric, x, x_hat)
        return Closeness(float(psnr(x, x_hat)), float(ssim(x, x_hat)), distance)


def perceptual_distance(metric: PerceptualLoss, x: Tensor, x_hat: Tensor) -> float:
    """(1, 3, H, W) pair in [-1, 1] -> distance. A side too short for the net repeats its edge."""
    pad = (0, max(0, MINIMUM_SIDE - x.shape[3]), 0, max(0, MINIMUM_SIDE - x.shape[2]))
    x, x_hat = (F.pad(t, pad, mode="replicate") if any(pad) else t for t in (x, x_hat))
    return float(metric(x, x_hat))
