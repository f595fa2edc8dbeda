"""Grids as pictures: decoding them, laying them out, and PNG files that carry what made them.

A PNG's text keys, all JSON: "settings" (what it takes to write the same codes again), "codes" (one
grid a picture) and, where known, "bits" (bits per code of each).
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from training.precision import autocast
from vqgan.model import VQGAN

GAP = 2  # white pixels between pictures
DECODED = 8  # pictures decoded at a time
FILE = "samples.png"  # in a bundle's folder: the pictures that its Sample tab opens with
WEIGHTS = "prior.safetensors"


@torch.inference_mode()
def decode(vqgan: VQGAN, grids: Tensor, *, preview: bool = False) -> np.ndarray:
    """(B, h, w) int64 -> uint8 (B, H, W, 3).

    A preview is decoded in bfloat16 where that is native: half the time, off by 0.1 % of the range.
    """
    device = next(vqgan.parameters()).device
    with autocast(device, None if preview else False):
        parts = [vqgan.decode_indices(part.to(device)).cpu() for part in grids.split(DECODED)]
    pixels = torch.cat(parts).float().clamp(-1, 1).add(1).mul(127.5).round().byte()
    return pixels.permute(0, 2, 3, 1).numpy()


def columns_of(count: int) -> int:
    """In how many columns so many pictures make about a square."""
    return math.ceil(math.sqrt(count))


def sheet(pictures: np.ndarray, gap: int = GAP) -> Image.Image:
    """uint8 (B, H, W, 3) -> one picture, in about as many rows as columns."""
    count, height, width, _ = pictures.shape
    columns = columns_of(count)
    rows = -(-count // columns)
    shape = (rows * (height + gap) - gap, columns * (width + gap) - gap, 3)
    canvas = np.full(shape, 255, np.uint8)
    for i, picture in enumerate(pictures):
        top, left = i // columns * (height + gap), i % columns * (width + gap)
        canvas[top : top + height, left : left + width] = picture
    return Image.fromarray(canvas)


def weights_id(card: dict) -> str | None:
    """sha256 of a bundle's prior, from its card: whose codes a file of samples holds."""
    return card.get("sha256", {}).get(WEIGHTS)


@dataclass(frozen=True)
class Record:
    """What a PNG of samples carries."""

    settings: dict
    codes: np.ndarray  # (B, h, w) int64
    bits: tuple[float, ...] | None = None  # bits per code, one a picture

    def info(self) -> PngInfo:
        """The text for `Image.save(..., pnginfo=)`."""
        info = PngInfo()
        info.add_text("settings", json.dumps(self.settings))
        info.add_text("codes", json.dumps(self.codes.tolist()))
        if self.bits is not None:
            info.add_text("bits", json.dumps([round(b, 4) for b in self.bits]))
        return info

    @classmethod
    def read(cls, path: str | os.PathLike) -> Record:
        """What a PNG carries. ValueError if it is no such file."""
        try:
            with Image.open(path, formats=["PNG"]) as image:
                image.load()
                text = image.text
            settings, codes = json.loads(text["settings"]), np.array(json.loads(text["codes"]))
            bits = json.loads(text["bits"]) if "bits" in text else None
        except (OSError, KeyError, ValueError) as error:
            raise ValueError(f"{path} holds no samples of a prior: {error}") from error
        if not isinstance(settings, dict) or codes.ndim != 3 or codes.dtype.kind != "i":
            raise ValueError(f"{path} holds no samples of a prior: its text is of another kind")
        return cls(settings, codes, None if bits is None else tuple(map(float, bits)))


def bits_per_code(log_likelihood: Tensor | np.ndarray, cells: int) -> list[float]:
    """Nats (B,) over so many cells -> bits per code."""
    return (-np.asarray(log_likelihood, np.float64) / (math.log(2) * max(cells, 1))).tolist()


def check_grids(codes: np.ndarray, codebook_size: int) -> None:
    """ValueError unless all codes exist."""
    if codes.size and not (codes.min() >= 0 and codes.max() < codebook_size):
        raise ValueError(
            f"the codes run from {codes.min()} to {codes.max()}: this codebook has codes 0 to "
            f"{codebook_size - 1}"
        )
