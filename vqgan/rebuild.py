"""One picture through a VQGAN and back, with the figures that describe the result.

What the app's Reconstruct tab and `python -m vqgan.reconstruct` share.
"""

from __future__ import annotations

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
    capped = side is None and max(image.size) > NATIVE_LIMIT
    if capped:
        side = NATIVE_LIMIT
    original = image.convert("RGB") if side is None else fit(image.convert("RGB"), side)
    device = next(vqgan.parameters()).device
    x = to_tensor(original)
    padded, (height, width) = pad_to_multiple(x, vqgan.config.downsampling)
    with torch.inference_mode():
        output, indices = reconstruct(vqgan, padded.to(device))
        result = to_image(output[..., :height, :width])
        x, x_hat = x.to(device), to_tensor(result).to(device)
        codebook_size = vqgan.config.codebook_size
        return Reconstruction(
            original=original,
            image=result,
            indices=indices[0].cpu(),
            psnr=float(psnr(x, x_hat)),
            ssim=float(ssim(x, x_hat)),
            distance=perceptual_distance(metric, x, x_hat),
            distinct_codes=int(indices.unique().numel()),
            bits_per_pixel=bits_per_pixel(indices.numel(), codebook_size, height * width),
            capped=capped,
        )


def perceptual_distance(metric: PerceptualLoss, x: Tensor, x_hat: Tensor) -> float:
    """(1, 3, H, W) pair in [-1, 1] -> distance. A side too short for the net repeats its edge."""
    pad = (0, max(0, MINIMUM_SIDE - x.shape[3]), 0, max(0, MINIMUM_SIDE - x.shape[2]))
    x, x_hat = (F.pad(t, pad, mode="replicate") if any(pad) else t for t in (x, x_hat))
    return float(metric(x, x_hat))
