"""Grids of codes as things to edit, keep in files and blend: what one does between E and G.

A grid is (h, w) int64 in [0, K). Functions return new grids and leave their arguments alone.
"""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vqgan.images import to_image
from vqgan.model import VQGAN

MAX_CELLS = 128 * 128  # of a grid from a file: memory grows with the pixels it decodes to

Grid = np.ndarray  # (h, w) int64


def decode_grid(vqgan: VQGAN, grid: Grid, size: tuple[int, int] | None = None) -> Image.Image:
    """The picture of a grid (h, w): RGB, w*f x h*f pixels, or cropped to `size` (W, H)."""
    device = next(vqgan.parameters()).device
    with torch.inference_mode():
        output = vqgan.decode_indices(torch.from_numpy(np.asarray(grid)).to(device)[None])
    width, height = size or (output.shape[3], output.shape[2])
    return to_image(output[..., :height, :width])


def check_code(code: object, codebook_size: int) -> int:
    """`code` as an int, or ValueError: it must be a whole number in [0, K)."""
    if (
        isinstance(code, bool)
        or not isinstance(code, (int, float, np.integer))
        or code != code // 1
    ):
        raise ValueError(f"{code!r} is no code: it must be a whole number")
    if not 0 <= code < codebook_size:
        raise ValueError(
            f"code {int(code)} does not exist: this codebook has codes 0 to {codebook_size - 1}"
        )
    return int(code)


def paint(grid: Grid, cells: Iterable[tuple[int, int]], codes: int | Grid) -> Grid:
    """Give cells (row, column) one code, or the codes that another grid has there."""
    rows, columns = grid.shape
    painted = grid.copy()
    for row, column in cells:
        if not (0 <= row < rows and 0 <= column < columns):
            raise ValueError(
                f"cell ({row}, {column}) lies outside this grid of {rows} rows, {columns} columns"
            )
        painted[row, column] = codes if isinstance(codes, int) else codes[row, column]
    return painted


def swap(grid: Grid, old: int, new: int) -> Grid:
    """Every `old` becomes `new`."""
    return np.where(grid == old, new, grid)


def shuffle(grid: Grid, seed: int) -> Grid:
    """The same codes, each as often as before, in random places."""
    return np.random.default_rng(seed).permutation(grid.ravel()).reshape(grid.shape)


@dataclass(frozen=True)
class IndexFile:
    """What an indices file holds: a grid, the picture's size, and whose codes they are."""

    indices: Grid
    size: tuple[int, int]  # (W, H) in pixels, at most the grid's own
    codebook_size: int | None = None  # None where the file does not say
    tokenizer_id: str | None = None

    def save(self, path: str | os.PathLike) -> Path:
        """Write a compressed .npz that `read` takes back."""
        size = {} if self.codebook_size is None else {"codebook_size": self.codebook_size}
        owner = {} if self.tokenizer_id is None else {"tokenizer_id": self.tokenizer_id}
        dtype = np.uint16 if self.indices.max(initial=0) < 2**16 else np.int64
        arrays = {"indices": self.indices.astype(dtype), "size": np.array(self.size)}
        np.savez_compressed(path, **arrays, **size, **owner)
        return Path(path)

    @classmethod
    def read(cls, source: str | os.PathLike | BinaryIO, codebook_size: int, f: int) -> IndexFile:
        """Read and check a file for a codebook of K codes and f pixels per code.

        ValueError with one sentence that says what would be right.
        """
        arrays = _arrays(source)
        indices = _grid(arrays.get("indices"))
        theirs = _whole_number(arrays.get("codebook_size"))
        if theirs not in (None, codebook_size):
            raise ValueError(
                f"these indices belong to a codebook of {theirs} codes: this model has "
                f"{codebook_size}, so load them with the model that made them"
            )
        low, high = int(indices.min()), int(indices.max())
        if low < 0 or high >= codebook_size:
            raise ValueError(
                f"the indices run from {low} to {high}: this model's codebook of {codebook_size} "
                f"has codes 0 to {codebook_size - 1}"
            )
        owner = arrays.get("tokenizer_id")
        owner = str(owner) if owner is not None and owner.ndim == 0 else None
        indices = indices.astype(np.int64)  # only now: the largest uint64 would become negative
        return cls(indices, _size(arrays.get("size"), indices.shape, f), theirs, owner)


def _arrays(source: str | os.PathLike | BinaryIO) -> dict[str, np.ndarray]:
    """The arrays of an .npz, or {"indices": array} of an .npy. Never unpickles."""
    try:
        data = source.read() if hasattr(source, "read") else Path(source).read_bytes()
        loaded = np.load(io.BytesIO(data), allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"indices": loaded}
        wanted = ("indices", "size", "codebook_size", "tokenizer_id")
        total = sum(i.file_size for i in loaded.zip.infolist())
        if total > 64 * MAX_CELLS:
            raise ValueError(
                f"the file unpacks to {total / 1e6:.0f} MB: a grid of codes takes at most "
                f"{64 * MAX_CELLS / 1e6:.0f} MB"
            )
        arrays = {name: loaded[name] for name in wanted if name in loaded.files}
    except (OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"this is not a file of indices (.npz): {error}") from error
    except Exception as error:  # foreign bytes: a dozen kinds, MemoryError for a huge promise
        if "unpacks" in str(error):
            raise
        raise ValueError(
            "this is not a file of indices: give an .npz with an array `indices` of whole numbers"
        ) from error
    if "indices" not in arrays:
        raise ValueError(
            "the file has no array named `indices`: save the grid with "
            "numpy.savez(file, indices=grid)"
        )
    return arrays


def _grid(indices: np.ndarray) -> np.ndarray:
    """(h, w), or (1, h, w), of any whole-number type -> (h, w) of the same type."""
    if indices.dtype.kind not in "iu":
        raise ValueError(f"the indices are {indices.dtype}: codes are whole numbers, so save ints")
    if indices.ndim == 3 and indices.shape[0] == 1:
        indices = indices[0]
    if indices.ndim != 2 or not indices.size:
        raise ValueError(
            f"the indices have shape {indices.shape}: a grid has two axes, (rows, columns), "
            "for instance (16, 16)"
        )
    if indices.size > MAX_CELLS:
        raise ValueError(
            f"the grid has {indices.shape[0]} x {indices.shape[1]} cells: at most {MAX_CELLS} "
            "can be decoded here"
        )
    return indices


def _whole_number(value: np.ndarray | None) -> int | None:
    return (
        int(value) if value is not None and value.ndim == 0 and value.dtype.kind in "iu" else None
    )


def _size(value: np.ndarray | None, shape: tuple[int, int], f: int) -> tuple[int, int]:
    """The stated (W, H) where it fits the grid's last row and column of cells, else all of it."""
    whole = (shape[1] * f, shape[0] * f)
    if value is None or value.shape != (2,) or value.dtype.kind not in "iu":
        return whole
    width, height = (int(v) for v in value)
    fits = whole[0] - f < width <= whole[0] and whole[1] - f < height <= whole[1]
    return (width, height) if fits else whole


@dataclass(frozen=True)
class Blend:
    """The point a share t of the way from picture a to picture b, twice."""

    continuous: Image.Image  # decoded from the mixed latents, not quantised
    discrete: Image.Image  # decoded from the codes nearest to the mixed latents
    indices: Grid


def blend(
    vqgan: VQGAN, a: Tensor, b: Tensor, t: float, size: tuple[int, int] | None = None
) -> Blend:
    """Mix latents a and b (1, D, h, w) as (1 - t) a + t b, and decode with and without codebook.

    The mixture is moved to where codes live (`project`: back onto the sphere for cosine) first;
    without codebook a Gumbel model's decoder gets what its latents stand for (`relaxed`).
    """
    if a.shape != b.shape:
        raise ValueError(
            f"the latents have shapes {tuple(a.shape)} and {tuple(b.shape)}: blend pictures of one "
            "size"
        )
    with torch.inference_mode():
        mixed = mixture(vqgan, a, b, t)
        encoding, plain = vqgan.quantize.encode(mixed), vqgan.quantize.relaxed(mixed)
        # One by one: at once is slower on a CPU, where larger tensors are fresh memory each time.
        output = [vqgan.decode(z)[0] for z in (plain, encoding.quantized)]
    width, height = size or (output[0].shape[2], output[0].shape[1])
    smooth, stepped = (to_image(x[:, :height, :width]) for x in output)
    return Blend(smooth, stepped, encoding.indices[0].cpu().numpy())


def mixture(vqgan: VQGAN, a: Tensor, b: Tensor, t: float) -> Tensor:
    """(1 - t) a + t b, moved to where codes live: (1, D, h, w)."""
    return vqgan.quantize.project((1 - t) * a + t * b)


def jumps(vqgan: VQGAN, a: Tensor, b: Tensor, steps: int = 40) -> np.ndarray:
    """How many cells change their code in each of `steps` equal steps from a to b: (steps,)."""
    with torch.inference_mode():
        times = torch.linspace(0, 1, steps + 1).tolist()
        grids = torch.cat([vqgan.quantize.encode(mixture(vqgan, a, b, t)).indices for t in times])
    return (grids[1:] != grids[:-1]).sum((1, 2)).cpu().numpy()
