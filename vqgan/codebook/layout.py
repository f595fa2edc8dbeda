"""Orders of the codebook on a square of cells: by look, by hue, by usage, by number.

Every function returns a grid: (rows, columns) int64 of code numbers, -1 where the last row ends.
"""

from __future__ import annotations

import math

import numpy as np

# Linear sRGB -> the cone responses of Oklab, and those -> Oklab (B. Ottosson, 2020).
_TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_OKLAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
GREY = 0.035  # Oklab chroma below which a cell has no hue worth sorting by


def oklab(rgb: np.ndarray) -> np.ndarray:
    """(..., 3) sRGB uint8 -> (..., 3) float64 L, a, b, in which distance is close to seen."""
    x = np.asarray(rgb) / 255.0
    linear = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    return np.cbrt(linear @ _TO_LMS.T) @ _TO_OKLAB.T


def shape_of(count: int) -> tuple[int, int]:
    """(rows, columns) of the squarest grid that holds `count` cells."""
    columns = math.ceil(math.sqrt(count))
    return math.ceil(count / columns), columns


def in_rows(order: np.ndarray) -> np.ndarray:
    """A sequence of codes (K,) -> the grid that reads so from left to right, row by row."""
    rows, columns = shape_of(len(order))
    grid = np.full(rows * columns, -1, np.int64)
    grid[: len(order)] = order
    return grid.reshape(rows, columns)


def by_usage(counts: np.ndarray) -> np.ndarray:
    """Most used first; codes used equally often by number."""
    return in_rows(np.argsort(-np.asarray(counts, np.int64), kind="stable"))


def by_hue(cells: np.ndarray) -> np.ndarray:
    """Decoded cells (K, f, f, 3): greys from dark to light, then round the wheel from red.

    A row is a stretch of the wheel, and inside it cells run from dark to light.
    """
    light, a, b = oklab(cells).mean((1, 2)).T
    chroma = np.hypot(a, b)
    turn = np.mod(np.degrees(np.arctan2(b, a)) - 10, 360)  # Oklab's red lies at about 29 degrees
    grey = chroma < GREY
    greys = np.flatnonzero(grey)
    greys = greys[np.argsort(light[greys], kind="stable")]
    coloured = np.flatnonzero(~grey)
    coloured = coloured[np.argsort(turn[coloured], kind="stable")]
    order = np.concatenate([greys, coloured])
    columns = shape_of(len(order))[1]
    for start in range(-(-len(greys) // columns) * columns, len(order), columns):
        row = order[start : start + columns]
        order[start : start + columns] = row[np.argsort(light[row], kind="stable")]
    return in_rows(order)


def look(cells: np.ndarray, dims: int = 16) -> np.ndarray:
    """Decoded cells (K, f, f, 3) uint8 -> (K, <= dims) float32 features of how they look.

    Oklab of the cell shrunk to 4 x 4 at most, turned to its principal axes.
    """
    count, f = cells.shape[:2]
    small = math.gcd(f, 4)
    pixels = oklab(cells).reshape(count, small, f // small, small, f // small, 3).mean((2, 4))
    flat = pixels.reshape(count, -1)
    flat = flat - flat.mean(0)
    _, axes = np.linalg.eigh(flat.T @ flat)
    axes = axes[:, ::-1][:, :dims]
    # An eigenvector's sign is free: fix it, so that the map does not flip from run to run.
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])])
    return (flat @ axes).astype(np.float32)


def _blur(grid: np.ndarray, reach: int) -> np.ndarray:
    """Mean over windows of 2 * reach + 1 cells along both axes of (H, W, C), cut at the edges."""
    for axis in (0, 1):
        size = grid.shape[axis]
        sums = np.insert(np.cumsum(grid, axis, dtype=np.float64), 0, 0, axis)
        low = np.maximum(np.arange(size) - reach, 0)
        high = np.minimum(np.arange(size) + reach + 1, size)
        width = np.expand_dims(high - low, (1 - axis, 2))
        grid = (sums.take(high, axis) - sums.take(low, axis)) / width
    return grid.astype(np.float32)


def _pairs(free: np.ndarray, reach: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Flat positions (n,), (n,) of disjoint pairs of occupied cells, all the same way apart."""
    rows, columns = free.shape
    dy, dx = rng.integers(-reach, reach + 1, 2)
    if dy == 0 and dx == 0:
        dx = 1
    ys, xs = np.mgrid[:rows, :columns]
    step = max(abs(dy), abs(dx))
    along = xs if abs(dx) == step else ys
    first = ((along + rng.integers(2 * step)) // step) % 2 == 0  # stripes: no cell is in two pairs
    to_y, to_x = ys + dy, xs + dx
    inside = (to_y >= 0) & (to_y < rows) & (to_x >= 0) & (to_x < columns)
    p = (ys * columns + xs)[first & inside]
    q = (to_y * columns + to_x)[first & inside]
    both = ~free.ravel()[p] & ~free.ravel()[q]
    return p[both], q[both]


def by_similarity(features: np.ndarray, *, passes: int = 64, seed: int = 0) -> np.ndarray:
    """A map on which neighbours look alike: features (K, d) float32 (see `look`) -> grid.

    A self-sorting map after Strong and Gong (2011) and the low-pass target of Barthel et al.
    (arXiv:2205.04255): each cell is given the mean of its surroundings as a target, pairs of
    cells swap where that brings both nearer to theirs, and the surroundings shrink. Deterministic;
    on one core 1,024 codes take about 0.5 s and 16,384 about 8 s.
    """
    count = len(features)
    rows, columns = shape_of(count)
    order = np.argsort(features[:, 0], kind="stable")
    second = features[:, min(1, features.shape[1] - 1)]
    for start in range(0, count, columns):  # first axis downwards, second one across
        row = order[start : start + columns]
        order[start : start + columns] = row[np.argsort(second[row], kind="stable")]
    codes = in_rows(order)
    free = codes < 0
    codes = codes.ravel()
    features = np.concatenate([features, np.zeros_like(features[:1])])  # -1, an empty place: mean
    rng = np.random.default_rng(seed)
    reach = columns / 2
    while reach >= 1:
        now = round(reach)
        grid = features[codes].reshape(rows, columns, -1)
        target = _blur(_blur(grid, max(1, now // 2)), max(1, now // 2)).reshape(rows * columns, -1)
        for _ in range(passes):
            p, q = _pairs(free, now, rng)
            a, b = features[codes[p]], features[codes[q]]
            swap = ((a - b) * (target[p] - target[q])).sum(1) < 0
            p, q = p[swap], q[swap]
            codes[p], codes[q] = codes[q], codes[p]
        reach *= 0.95
    return codes.reshape(rows, columns)
