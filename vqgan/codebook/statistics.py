"""What a data set says about each code, as one file: `codes.npz` in a bundle's folder.

It is built by `python -m vqgan.codebook` (see `build`) and belongs to one tokenizer, that is
encoder and codebook: of another one it is refused.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from PIL import Image

from training.arrays import several
from training.files import replacing
from vqgan.codebook.cells import split_mosaic
from vqgan.model import VQGAN

FORMAT = 1
FILE = "codes.npz"
PATCHES = 16  # nearest real patches kept for each code
CONTEXT = 7  # cells along each side of a kept patch, its own in the middle
NEIGHBOURS = 8  # kept for each code and side
SIDES = {"right": (0, 1), "left": (0, -1), "below": (1, 0), "above": (-1, 0)}  # (rows, columns)
STRIP_COLUMNS = 8  # patches of a code lie in rows of 8 in its WebP


@dataclass(frozen=True)
class CodeStatistics:
    """Of K codes. Pictures are numbered by `names`; a patch that does not exist has number -1."""

    tokenizer_id: str  # of the encoder and codebook that all this was measured with
    decoder_id: str  # of the decoder that drew `cells`
    data: str  # where the pictures came from, in words
    pictures: int
    size: int  # pixels, side of the pictures that were encoded
    field: int  # pixels, side of the effective receptive field
    counts: np.ndarray  # (K,) int64
    patch_picture: np.ndarray  # (K, 16) int32, index into `names`, nearest patch first
    patch_cell: np.ndarray  # (K, 16, 2) int16, row and column in its picture's grid
    patch_distance: np.ndarray  # (K, 16) float32, from the latent to the code
    names: list[str]  # of the pictures that patches were taken from
    strips: list[bytes]  # K WebP pictures of a code's patches with CONTEXT x CONTEXT cells each
    means: np.ndarray  # (K, f, f, 3) uint8, mean of those patches' own cells, grey where none
    beside: np.ndarray  # (K, 4, 8) int32, most frequent codes on each of SIDES, -1 where none
    beside_counts: np.ndarray  # (K, 4, 8) int32
    cells: np.ndarray  # (K, f, f, 3) uint8, decoded cells
    similarity: np.ndarray  # grid of `layout.by_similarity`

    @property
    def codebook_size(self) -> int:
        return len(self.counts)

    def patches(self, code: int) -> list[np.ndarray]:
        """A code's nearest patches with surroundings, nearest first: (C, C, 3) uint8 each."""
        found = int((self.patch_picture[code] >= 0).sum())
        if not found:
            return []
        with Image.open(io.BytesIO(self.strips[code])) as image:
            pixels = np.asarray(image.convert("RGB"))
        side = self.cells.shape[1] * CONTEXT
        return list(split_mosaic(pixels, side, found))

    def check(self, vqgan: VQGAN, tokenizer_id: str) -> None:
        """ValueError unless these are the statistics of this model's tokenizer."""
        if self.tokenizer_id != tokenizer_id or self.codebook_size != vqgan.config.codebook_size:
            raise ValueError(
                "these code statistics were built with another encoder or codebook (tokenizer "
                f"{self.tokenizer_id[:12]}, this model's is {tokenizer_id[:12]}): build them again "
                "with python -m vqgan.codebook"
            )

    def save(self, path: str | os.PathLike) -> Path:
        """Write the file in one step -> its path."""
        path = Path(path)
        arrays, plain = {}, {"format": FORMAT}
        for field in fields(self):
            value = getattr(self, field.name)
            (arrays if isinstance(value, np.ndarray) else plain)[field.name] = value
        strips = plain.pop("strips")
        arrays["strips"] = np.frombuffer(b"".join(strips), np.uint8)
        arrays["strip_ends"] = np.cumsum([len(s) for s in strips])
        arrays["plain"] = np.frombuffer(json.dumps(plain).encode(), np.uint8)
        with replacing(path) as file:
            np.savez_compressed(file, **arrays)
        return path

    @classmethod
    def load(cls, path: str | os.PathLike) -> CodeStatistics:
        """Read a file that `save` wrote. ValueError with one sentence if it is not one."""
        try:
            with several(path) as file:
                arrays = {name: file[name] for name in file.files}
            plain = json.loads(arrays.pop("plain").tobytes())
            if plain.pop("format") != FORMAT:
                raise ValueError(f"it is not of format {FORMAT}")
            blob, ends = arrays.pop("strips").tobytes(), arrays.pop("strip_ends").tolist()
            strips = [blob[a:b] for a, b in zip([0, *ends], ends, strict=False)]
            found = cls(**plain, **arrays, strips=strips)
            found._check_shapes()
        except (OSError, EOFError, LookupError, TypeError, ValueError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path} is not a file of code statistics: {error}") from error
        return found

    def _check_shapes(self) -> None:
        count = len(self.counts)
        wanted = {
            "counts": (count,),
            "patch_picture": (count, PATCHES),
            "patch_cell": (count, PATCHES, 2),
            "patch_distance": (count, PATCHES),
            "beside": (count, len(SIDES), NEIGHBOURS),
            "beside_counts": (count, len(SIDES), NEIGHBOURS),
            "cells": (count, *self.cells.shape[1:]),
            "means": self.cells.shape,
        }
        for name, shape in wanted.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} has shape {getattr(self, name).shape}, expected {shape}")
        if len(self.strips) != count or self.patch_picture.max() >= len(self.names):
            raise ValueError("it does not hold the patches of every code")
        if sorted(self.similarity[self.similarity >= 0]) != list(range(count)):
            raise ValueError("its map does not hold every code once")
