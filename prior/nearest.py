"""The training picture nearest to a new one: has the prior made something up, or remembered it?

Nearest means: the smallest root mean squared difference between the two as pictures of 16 x 16
pixels, RGB, on white, mirror images included (the prior trains on those too). So position, shape
and colour count, and fine lines do not. `python -m prior.nearest --data DIR --bundle B` writes the
index beside a model: thumbnails of 32 pixels in one sheet, and each one's name and set.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image, features

from training.arrays import several
from training.files import replacing
from training.spread import spread
from vqgan import dataset

FILE = "training.npz"  # in a bundle's folder
SIDE = 32  # pixels of a thumbnail
COARSE = 16  # pixels of what is compared
COLUMNS = 128  # of the sheet
FORMAT, QUALITY = "AVIF", 45
MOST = 80_000  # pictures: the sheet stays below what Pillow takes for a decompression bomb


@dataclass(frozen=True)
class Found:
    """One training picture that is near another one."""

    name: str
    set: str
    distance: float  # root mean squared difference, grey levels of 255
    mirrored: bool  # whether its mirror image is the near one
    thumbnail: np.ndarray  # (SIDE, SIDE, 3) uint8, mirrored where that is nearer


@dataclass(frozen=True)
class Training:
    """Thumbnails of the training pictures, with names and sets."""

    thumbnails: np.ndarray  # (P, SIDE, SIDE, 3) uint8
    names: tuple[str, ...]
    sets: tuple[str, ...]
    scale: tuple[float, float] | None = None  # see `measure`

    @cached_property
    def coarse(self) -> tuple[np.ndarray, np.ndarray]:
        """(P, COARSE * COARSE * 3) float32 pixels, and their squared lengths (P,)."""
        flat = reduce(self.thumbnails, COARSE).reshape(len(self.thumbnails), -1)
        return flat, np.einsum("ij,ij->i", flat, flat)

    def nearest(self, picture: np.ndarray, count: int = 1) -> list[Found]:
        """The `count` training pictures nearest to one (H, W, 3) uint8, nearest first."""
        small = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BOX)
        query = reduce(np.asarray(small)[None], COARSE)[0]
        both = np.stack([query, query[:, ::-1]]).reshape(2, -1)  # (2, D): as it is, mirrored
        pixels, squares = self.coarse
        squared = squares[:, None] - 2 * pixels @ both.T + (both**2).sum(1)  # (P, 2)
        mirrored = squared.argmin(1)
        best = squared.min(1)
        order = np.argsort(best, kind="stable")[:count]
        return [
            Found(
                self.names[i],
                self.sets[i],
                float(np.sqrt(max(best[i], 0) / both.shape[1])),
                bool(mirrored[i]),
                self.thumbnails[i][:, ::-1] if mirrored[i] else self.thumbnails[i],
            )
            for i in order.tolist()
        ]

    def save(self, path: str | os.PathLike) -> int:
        """Write the index -> its bytes. ValueError where this Pillow writes no AVIF."""
        check_format()
        count = len(self.thumbnails)
        rows = -(-count // COLUMNS)
        grid = np.full((rows * COLUMNS, SIDE, SIDE, 3), 255, np.uint8)
        grid[:count] = self.thumbnails
        grid = grid.reshape(rows, COLUMNS, SIDE, SIDE, 3).swapaxes(1, 2)
        buffer = io.BytesIO()
        image = Image.fromarray(grid.reshape(rows * SIDE, COLUMNS * SIDE, 3))
        image.save(buffer, FORMAT, quality=QUALITY, speed=6)
        text = json.dumps([self.names, self.sets], ensure_ascii=False).encode()
        sheet, names = (
            np.frombuffer(x, np.uint8) for x in (buffer.getvalue(), zlib.compress(text, 9))
        )
        scale = np.array(self.scale or (), np.float64)
        with replacing(path) as file:
            np.savez(file, sheet=sheet, names=names, scale=scale)
        return Path(path).stat().st_size

    @classmethod
    def load(cls, path: str | os.PathLike) -> Training:
        """Read an index. ValueError if it is none."""
        try:
            with several(path) as arrays:
                sheet, text = arrays["sheet"].tobytes(), arrays["names"].tobytes()
                scale = tuple(arrays["scale"].tolist())
            names, sets = json.loads(zlib.decompress(text))
            with Image.open(io.BytesIO(sheet), formats=[FORMAT]) as image:
                pixels = np.asarray(image.convert("RGB"))
            rows = pixels.shape[0] // SIDE
            grid = pixels.reshape(rows, SIDE, COLUMNS, SIDE, 3).swapaxes(1, 2)
            thumbnails = np.ascontiguousarray(grid.reshape(-1, SIDE, SIDE, 3)[: len(names)])
        except (OSError, EOFError, KeyError, ValueError, zlib.error, zipfile.BadZipFile,
                Image.DecompressionBombError) as error:  # fmt: skip
            raise ValueError(f"{path} is no index of training pictures: {error}") from error
        if not len(names) == len(sets) == len(thumbnails):
            raise ValueError(f"{path} is no index of training pictures: its names do not fit")
        return cls(thumbnails, tuple(names), tuple(sets), scale if len(scale) == 2 else None)


def check_format() -> None:
    """ValueError where this Pillow cannot write the index."""
    if not features.check(FORMAT.lower()):
        raise ValueError(f"this Pillow writes no {FORMAT}: pip install 'pillow>=11.3'")


def reduce(pixels: np.ndarray, side: int) -> np.ndarray:
    """uint8 (P, S, S, 3) -> float32 (P, side, side, 3): rounded means of blocks; side divides S."""
    count, size = pixels.shape[:2]
    tall = Image.fromarray(np.ascontiguousarray(pixels).reshape(count * size, size, 3))
    small = np.asarray(tall.reduce(size // side), np.float32)
    return small.reshape(count, side, side, 3)


def gather(
    pictures: Iterable[dataset.Picture], progress: Callable[[Iterable], Iterable] = iter
) -> Training:
    """Thumbnails of the training split; held-out pictures are left out.

    Of more than `MOST` pictures so many, evenly chosen.
    """
    thumbnails, names, sets = [], [], []
    train = spread([p for p in pictures if p.split == "train"], MOST)
    for picture, pixels in dataset.wholes(progress(train), 4 * SIDE):
        small = Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BOX)
        thumbnails.append(np.asarray(small))
        row = picture.row or {}
        names.append(str(row.get("name") or dataset.shown_name(picture.path.stem)))
        sets.append(str(row.get("set") or dataset.shown_name(picture.path.parent.name)))
    if not names:
        raise ValueError("the data folder has no training picture: all are held out")
    return Training(np.stack(thumbnails), tuple(names), tuple(sets))


def measure(
    index: Training, own: Sequence[np.ndarray], held_out: Sequence[np.ndarray]
) -> tuple[float, float]:
    """What a distance means: two medians, to be shown beside it.

    own       training pictures, encoded and decoded again: how far off a remembered one would be
    held_out  pictures that were not trained on, likewise: how far off the nearest one usually is
    """
    found = [[index.nearest(p)[0].distance for p in pictures] for pictures in (own, held_out)]
    return float(np.median(found[0])), float(np.median(found[1]))


if __name__ == "__main__":
    from prior.index import main

    main()
