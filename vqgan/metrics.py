"""How near a reconstruction is, and what it costs: PSNR, SSIM, bits per pixel, WebP at equal bytes.

The perceptual distance has its own file, `perceptual.py`.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

PEAK, LEAST = 2.0, -1.0  # pictures run from -1 to 1
WINDOW, SIGMA = 11, 1.5  # SSIM's Gaussian window, pixels
WEBP_SCALES = (1.0, 0.75, 0.5, 0.375, 0.25, 0.1875, 0.125)


def _pair(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape or a.ndim != 4:
        raise ValueError(
            f"the pictures have shapes {tuple(a.shape)} and {tuple(b.shape)}: "
            "both must be the same (B, 3, H, W)"
        )


def mean_squared_error(a: Tensor, b: Tensor, mask: Tensor | None = None) -> Tensor:
    """(B, 3, H, W) pairs, mask (B, 1, H, W) of weights in [0, 1] or None -> (B,) float32."""
    _pair(a, b)
    error = (a.float() - b.float()).square().mean(1, keepdim=True)
    if mask is None:
        return error.mean((1, 2, 3))
    if mask.shape != error.shape:
        raise ValueError(
            f"the mask has shape {tuple(mask.shape)}: expected {tuple(error.shape)}, one weight "
            "a pixel"
        )
    weight = mask.float().sum((1, 2, 3))
    if not bool((weight > 0).all()):
        raise ValueError("a mask is empty: it must have weight on at least one pixel")
    return (error * mask).sum((1, 2, 3)) / weight


def psnr(a: Tensor, b: Tensor, mask: Tensor | None = None) -> Tensor:
    """Peak signal-to-noise ratio of each picture, 10 log10(4 / MSE): (B,) dB, inf where equal.

    a, b (B, 3, H, W) in [-1, 1]; mask (B, 1, H, W) weighs the pixels (an icon's alpha).
    """
    return decibels(mean_squared_error(a, b, mask))


def decibels(error: Tensor) -> Tensor:
    """A mean squared error of pictures in [-1, 1] as PSNR in dB."""
    return 10 * torch.log10(PEAK**2 / error)


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004), Gaussian window of 11 and sigma 1.5: (B,).

    a, b (B, C, H, W) in [-1, 1]; the mean over channels and over the windows that lie wholly
    inside. A side below 11 pixels has no such window and is padded with its edge first.
    """
    _pair(a, b)
    # From 0 to 2: the measure compares brightness, which is never negative.
    a, b = (_at_least(x.float() - LEAST, WINDOW) for x in (a, b))
    steps = torch.arange(WINDOW, device=a.device) - WINDOW // 2
    taps = torch.exp(-0.5 * (steps / SIGMA) ** 2)
    taps /= taps.sum()

    def blur(x: Tensor) -> Tensor:
        x = x.flatten(0, 1)[:, None]  # (BC, 1, H, W)
        return F.conv2d(F.conv2d(x, taps.view(1, 1, -1, 1)), taps.view(1, 1, 1, -1))

    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    covariance = blur(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
    scores = ((2 * mean_a * mean_b + c1) * (2 * covariance + c2)) / (
        (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    )
    return scores.view(a.shape[0], -1).mean(1)


def _at_least(x: Tensor, side: int) -> Tensor:
    """(B, C, H, W) with its right and bottom edges repeated up to `side` pixels, if smaller."""
    pad = (0, max(0, side - x.shape[3]), 0, max(0, side - x.shape[2]))
    return F.pad(x, pad, mode="replicate") if any(pad) else x


def code_bytes(n_codes: int, codebook_size: int) -> int:
    """Whole bytes of `n_codes` codes of log2(K) bits each, without entropy coding."""
    return math.ceil(n_codes * math.log2(codebook_size) / 8)


def bits_per_pixel(n_codes: int, codebook_size: int, pixels: int) -> float:
    """n_codes x log2(K) bits over the pixels they stand for."""
    return n_codes * math.log2(codebook_size) / pixels


def encode_webp(image: Image.Image, quality: int) -> bytes:
    """A lossy WebP file, quality 0 to 100, the encoder's best effort."""
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality, method=6)
    return buffer.getvalue()


def webp_at_bytes(
    image: Image.Image, n_bytes: int, *, score: Callable[[Image.Image], float] | None = None
) -> tuple[Image.Image, int]:
    """The best WebP of an RGB picture in at most `n_bytes` -> (it, decoded, bytes of the file).

    Searches quality and size (a file smaller than the picture is scaled back up by Lanczos) for
    the lowest `score`; by default the mean squared error. The container counts. If nothing fits,
    the smallest file found, so compare the bytes. About 50 encodings.
    """
    image = image.convert("RGB")
    pixels = np.asarray(image, np.float32)
    score = score or (lambda other: float(np.square(np.asarray(other, np.float32) - pixels).mean()))
    best, best_score, smallest = None, math.inf, None
    for scale in WEBP_SCALES:
        size = tuple(max(1, round(s * scale)) for s in image.size)
        small = image.resize(size, Image.Resampling.LANCZOS) if scale < 1 else image
        data = _largest_fitting(small, n_bytes)
        if smallest is None or len(data) < len(smallest):
            smallest = data
        if len(data) > n_bytes:
            continue
        value = score(decode_webp(data, image.size))
        if value < best_score:
            best, best_score = data, value
    chosen = best or smallest
    return decode_webp(chosen, image.size), len(chosen)


def _largest_fitting(image: Image.Image, n_bytes: int) -> bytes:
    """The WebP of the highest quality that fits, by bisection; quality 0 if none does."""
    best, low, high = encode_webp(image, 0), 1, 100
    while len(best) <= n_bytes and low <= high:
        quality = (low + high) // 2
        data = encode_webp(image, quality)
        if len(data) <= n_bytes:
            best, low = data, quality + 1
        else:
            high = quality - 1
    return best


def decode_webp(data: bytes, size: tuple[int, int]) -> Image.Image:
    """The picture in a WebP file as RGB, scaled to `size` (width, height) by Lanczos if need be."""
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    return picture if picture.size == size else picture.resize(size, Image.Resampling.LANCZOS)
