"""Builds code statistics: encodes a data set and counts, ranks and cuts out what it finds."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from training.spread import spread
from vqgan.codebook import cells as code_cells
from vqgan.codebook import layout
from vqgan.codebook.field import effective_field
from vqgan.codebook.statistics import (
    CONTEXT,
    NEIGHBOURS,
    PATCHES,
    SIDES,
    STRIP_COLUMNS,
    CodeStatistics,
)
from vqgan.codebook.usage import count_codes
from vqgan.dataset import to_tensor
from vqgan.model import VQGAN
from vqgan.quantize import Encoding

PER_PICTURE = 2  # patches of a code that may come from one picture
OUTSIDE = 128  # grey beyond a picture's edge: what the encoder's zero padding stands for
FIELD_PICTURES = 32  # pictures that the effective field is measured on
PIXELS_AT_ONCE = 2**18  # that are encoded in one batch: 16 pictures of 128 px

Read = Callable[[int], np.ndarray]  # number of a picture -> (S, S, 3) uint8, the same each time


def code_distance(vqgan: VQGAN, encoding: Encoding) -> Tensor:
    """How far each latent lies from the code it was given: (B, h, w) float32, in its own metric.

    Euclidean; for the Gumbel quantiser, which has no distance, minus the log of the code's
    probability.
    """
    proj = getattr(vqgan.quantize, "proj", None)
    if proj is None:
        return (encoding.latents - encoding.quantized).norm(dim=1)
    scores = proj(encoding.latents).log_softmax(1)
    return -scores.gather(1, encoding.indices[:, None])[:, 0]


@torch.no_grad()
def encode_all(
    vqgan: VQGAN,
    read: Read,
    count: int,
    *,
    batch: int | None = None,
    progress: code_cells.Progress | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """`count` pictures -> index grids (N, h, w) int32 and distances (N, h, w) float32.

    `batch` at once; without one, so many that memory does not grow with their size.
    """
    device = next(vqgan.parameters()).device
    batch = batch or max(1, PIXELS_AT_ONCE // read(0)[..., 0].size)
    grids, distances = [], []
    for start in range(0, count, batch):
        numbers = range(start, min(start + batch, count))
        images = to_tensor(np.stack([read(i) for i in numbers])).to(device)
        encoding = vqgan.encode(images)
        grids.append(encoding.indices.int().cpu().numpy())
        distances.append(code_distance(vqgan, encoding).float().cpu().numpy())
        if progress:
            progress(numbers[-1] + 1, count)
    return np.concatenate(grids), np.concatenate(distances)


def _rank_in_runs(*keys: np.ndarray) -> np.ndarray:
    """Position of each row within its run of equal keys (rows already sorted by them)."""
    new = np.ones(len(keys[0]), bool)
    new[1:] = np.any([k[1:] != k[:-1] for k in keys], axis=0)
    starts = np.flatnonzero(new)
    return np.arange(len(new)) - np.repeat(starts, np.diff(np.append(starts, len(new))))


def nearest_patches(
    grids: np.ndarray, distances: np.ndarray, codebook_size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The cells that were given each code and lie nearest to it, at most PER_PICTURE a picture.

    -> picture numbers (K, 16) int32 (-1 where there are fewer), cells (K, 16, 2) int16 and
    distances (K, 16) float32, nearest first; equal ones in reading order.
    """
    count, rows, columns = grids.shape
    code, far = grids.ravel(), distances.ravel()
    picture = np.repeat(np.arange(count), rows * columns)
    order = np.lexsort((far, picture, code))
    kept = order[_rank_in_runs(code[order], picture[order]) < PER_PICTURE]
    kept = kept[np.lexsort((kept, far[kept], code[kept]))]
    rank = _rank_in_runs(code[kept])
    kept, rank = kept[rank < PATCHES], rank[rank < PATCHES]
    pictures = np.full((codebook_size, PATCHES), -1, np.int32)
    cells = np.zeros((codebook_size, PATCHES, 2), np.int16)
    nearest = np.zeros((codebook_size, PATCHES), np.float32)
    at = code[kept], rank
    pictures[at] = picture[kept]
    cells[at] = np.stack(np.divmod(kept % (rows * columns), columns), 1)
    nearest[at] = far[kept]
    return pictures, cells, nearest


def beside(grids: np.ndarray, codebook_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Which codes lie on each side of a code most often: numbers and counts, (K, 4, 8) int32.

    Sides are those of SIDES: [code, 0] are the codes to its right, and so on.
    """
    numbers = np.full((codebook_size, len(SIDES), NEIGHBOURS), -1, np.int32)
    counts = np.zeros_like(numbers)
    height, width = grids.shape[1:]
    for side, (dy, dx) in enumerate(SIDES.values()):
        here = grids[:, max(0, -dy) : height - max(0, dy), max(0, -dx) : width - max(0, dx)]
        there = grids[:, max(0, dy) : height + min(0, dy), max(0, dx) : width + min(0, dx)]
        pair, n = np.unique(here.astype(np.int64) * codebook_size + there, return_counts=True)
        code, other = np.divmod(pair, codebook_size)
        order = np.lexsort((other, -n, code))
        code, other, n = code[order], other[order], n[order]
        rank = _rank_in_runs(code)
        top = rank < NEIGHBOURS
        numbers[code[top], side, rank[top]] = other[top]
        counts[code[top], side, rank[top]] = n[top]
    return numbers, counts


def surroundings(pixels: np.ndarray, row: int, column: int, f: int) -> np.ndarray:
    """CONTEXT x CONTEXT cells around one: (S, S, 3) uint8 -> (C f, C f, 3), OUTSIDE past edges."""
    reach = CONTEXT // 2 * f
    padded = np.pad(pixels, ((reach, reach), (reach, reach), (0, 0)), constant_values=OUTSIDE)
    top, left = row * f, column * f  # the padding has moved everything by `reach`
    return padded[top : top + CONTEXT * f, left : left + CONTEXT * f]


def cut_strips(
    read: Read,
    pictures: np.ndarray,
    cells: np.ndarray,
    f: int,
    *,
    quality: int,
    progress: code_cells.Progress | None = None,
    at_once: int = 1024,
) -> tuple[list[bytes], np.ndarray]:
    """Each code's patches as one WebP, and the mean of their own cells: (K, f, f, 3) uint8.

    Empty bytes and OUTSIDE for a code that has none. `at_once` codes in memory.
    """
    strips: list[bytes] = []
    means = np.full((len(pictures), f, f, 3), OUTSIDE, np.uint8)
    middle = slice(CONTEXT // 2 * f, CONTEXT // 2 * f + f)
    for start in range(0, len(pictures), at_once):
        part = pictures[start : start + at_once]
        side = CONTEXT * f
        cut = np.full((*part.shape, side, side, 3), 255, np.uint8)
        for picture in np.unique(part[part >= 0]):
            pixels = read(int(picture))
            for code, k in np.argwhere(part == picture):
                cut[code, k] = surroundings(pixels, *cells[start + code, k], f)
        for code, patches in enumerate(cut):
            count = int((part[code] >= 0).sum())
            strips.append(_webp(patches, count, quality))
            if count:
                means[start + code] = patches[:count, middle, middle].mean(0).round()
        if progress:
            progress(len(strips), len(pictures))
    return strips, means


def _webp(patches: np.ndarray, count: int, quality: int) -> bytes:
    if not count:
        return b""
    rows = -(-count // STRIP_COLUMNS)
    grid = np.arange(rows * STRIP_COLUMNS).reshape(rows, STRIP_COLUMNS)
    picture = code_cells.mosaic(patches, np.where(grid < count, grid, -1))
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "WEBP", quality=quality, method=6)
    return file.getvalue()


def build(
    vqgan: VQGAN,
    read: Read,
    names: Sequence[str],
    *,
    tokenizer_id: str,
    data: str,
    quality: int = 60,
    seed: int = 0,
    progress: Callable[[str], code_cells.Progress] | None = None,
) -> CodeStatistics:
    """Statistics of a data set: `read(i)` gives the picture that `names[i]` names.

    All pictures are uint8 (S, S, 3) of one size, a multiple of f. `progress(what)` is asked for a
    function (done, of how many) for each of the four stages.
    """
    if not names:
        raise ValueError("there are no pictures to build code statistics from")
    report = progress or (lambda what: lambda done, of: None)
    f, count = vqgan.config.downsampling, vqgan.config.codebook_size
    grids, distances = encode_all(vqgan, read, len(names), progress=report("encode"))
    pictures, cells, nearest = nearest_patches(grids, distances, count)
    strips, means = cut_strips(
        read, pictures, cells, f, quality=quality, progress=report("patches")
    )
    shown = np.unique(pictures[pictures >= 0])
    used = np.where(pictures >= 0, np.searchsorted(shown, pictures), -1).astype(np.int32)
    numbers, counts = beside(grids, count)
    some = spread(range(len(names)), FIELD_PICTURES)
    device = next(vqgan.parameters()).device
    sample = to_tensor(np.stack([read(i) for i in some])).to(device)
    drawn = code_cells.decode_cells(vqgan, progress=report("cells"))
    return CodeStatistics(
        tokenizer_id=tokenizer_id,
        decoder_id=code_cells.decoder_id(vqgan),
        data=data,
        pictures=len(names),
        size=sample.shape[-1],
        field=effective_field(vqgan, sample, seed=seed),
        counts=count_codes(grids, count),
        patch_picture=used,
        patch_cell=cells,
        patch_distance=nearest,
        names=[names[i] for i in shown],
        strips=strips,
        means=means,
        beside=numbers,
        beside_counts=counts,
        cells=drawn,
        similarity=layout.by_similarity(layout.look(drawn)),
    )


def redraw(
    found: CodeStatistics, vqgan: VQGAN, progress: code_cells.Progress | None = None
) -> CodeStatistics:
    """The same statistics with cells by another decoder. ValueError for another tokenizer's."""
    drawn = code_cells.decode_cells(vqgan, progress=progress)
    if len(drawn) != found.codebook_size:
        raise ValueError(
            f"the statistics are of {found.codebook_size} codes, and this codebook has {len(drawn)}"
        )
    return replace(
        found,
        decoder_id=code_cells.decoder_id(vqgan),
        cells=drawn,
        similarity=layout.by_similarity(layout.look(drawn)),
    )
