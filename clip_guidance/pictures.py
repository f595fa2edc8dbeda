"""The data set in memory: pictures, masks, and what the VQGAN makes of some of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from training.files import replacing
from training.spread import spread
from vqgan import dataset
from vqgan.model import VQGAN


@dataclass(frozen=True)
class Pictures:
    """P pictures as arrays. `painted` holds reconstructions of the pictures in `painted_of`."""

    rows: list[dict]
    pixels: np.ndarray  # (P, side, side, 3) uint8
    masks: np.ndarray  # (P, side, side) uint8, 255 where the drawing is, everywhere if not known
    painted: np.ndarray | None = None  # (Q, side, side, 3) uint8
    painted_of: np.ndarray | None = None  # (P,) int64: row of `painted`, or -1

    def __len__(self) -> int:
        return len(self.rows)

    def tensors(self, picks: np.ndarray, painted: np.ndarray | None = None) -> tuple:
        """Pictures (B, 3, side, side) in [-1, 1] and masks (B, 1, side, side) in [0, 1].

        `painted` (B,) bool: take the reconstruction of these where there is one.
        """
        pixels = self.pixels[picks]
        if painted is not None and self.painted is not None:
            rows = self.painted_of[picks]
            use = painted & (rows >= 0)
            pixels[use] = self.painted[rows[use]]
        masks = torch.from_numpy(self.masks[picks])[:, None].float().div_(255)
        return dataset.to_tensor(pixels), masks


def read(
    found: list[dataset.Picture],
    side: int,
    progress: Callable[[Iterable], Iterable] = iter,
) -> Pictures:
    """All pictures at `side` pixels. ValueError where one has no captions: CLIP needs words."""
    pixels = np.empty((len(found), side, side, 3), np.uint8)
    masks = np.full((len(found), side, side), 255, np.uint8)
    for i, picture in enumerate(progress(found)):
        if not (picture.row or {}).get("captions"):
            raise ValueError(f"{picture.path} has no captions: give a folder made by data.build")
        pixels[i] = dataset.whole(picture, side)
        if picture.mask:
            mask = Image.fromarray(dataset.read(picture.mask, "L"))
            masks[i] = np.asarray(mask.resize((side, side), Image.Resampling.BOX))
    return Pictures([p.row for p in found], pixels, masks)


@torch.inference_mode()
def paint(
    found: list[dataset.Picture],
    vqgan: VQGAN,
    count: int,
    side: int,
    progress: Callable[[Iterable], Iterable] = iter,
) -> tuple[np.ndarray, np.ndarray]:
    """What the VQGAN gives back for `count` training pictures, evenly spread.

    -> (Q, side, side, 3) uint8, and (P,) int64: each picture's row of it, or -1.
    """
    picks = spread([i for i, p in enumerate(found) if p.split == "train"], count)
    of = np.full(len(found), -1, np.int64)
    of[picks] = np.arange(len(picks))
    painted = np.empty((len(picks), side, side, 3), np.uint8)
    size = vqgan.config.resolution
    for start in progress(range(0, len(picks), 16)):
        part = picks[start : start + 16]
        images = dataset.to_tensor(np.stack([dataset.whole(found[i], size) for i in part]))
        output = vqgan.decode(vqgan.encode(images).quantized)
        output = torch.nn.functional.interpolate(output, (side, side), mode="area")
        painted[start : start + len(part)] = to_bytes(output)
    return painted, of


def to_bytes(images: Tensor) -> np.ndarray:
    """(B, 3, H, W) in [-1, 1] -> (B, H, W, 3) uint8."""
    return images.clamp(-1, 1).add(1).mul(127.5).round().byte().permute(0, 2, 3, 1).numpy()


def save(path: Path, **arrays: np.ndarray) -> None:
    """An .npz in one step: a kill leaves no half file."""
    with replacing(path) as file:
        np.savez(file, **arrays)
