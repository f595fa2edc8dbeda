"""Varied views of a picture, so that a prior learns what is common to drawings, not each by heart.

Only whoever encodes a data set needs them (`prior.tokens --views`): codes do not move with the
pixels, so a shifted or turned drawing is another grid, and has to be encoded as such. A prior that
is told which kind of view it sees (`PriorConfig.view_kinds`) may learn from views that nobody would
draw, and still writes pictures as they are (Jun et al. 2020, "Distribution Augmentation for
Generative Modeling").
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

KINDS = ("moved", "turned", "recoloured")  # each is moved; turned: by quarter turns as well
SCALES = (0.84, 1.04)  # of the picture's size
SHIFT = 0.04  # of its side, either way, on both axes
TURN = 6.0  # degrees, either way
GAMMA = 0.2  # natural logarithm, either way, of each channel: black and white stay
CHANNELS = tuple(itertools.permutations(range(3)))[1:]  # all orders of the colours but their own


def check_kinds(kinds: Iterable[str]) -> None:
    """ValueError for a kind that is none of `KINDS`."""
    for kind in kinds:
        if kind not in KINDS:
            raise ValueError(f"views of kind {kind!r} are unknown: choose of {', '.join(KINDS)}")


def drawn(kind: str, count: int, rng: np.random.Generator) -> Tensor:
    """How `count` pictures are changed: (count, 11) float32.

    Per picture the matrix that leads from a place in the view to one in the picture, about their
    centres (4), how far the view is moved, in halves of its sides (2), each channel's gamma (3),
    quarter turns, and the order of the channels as a place in `CHANNELS` (-1: their own).
    ValueError for a kind that is none.
    """
    check_kinds([kind])
    scale = rng.uniform(*SCALES, count)
    turn = np.radians(rng.uniform(-TURN, TURN, count))
    shift = 2 * rng.uniform(-SHIFT, SHIFT, (count, 2))
    mirror = np.where(rng.random(count) < 0.5, -1, 1)
    cos, sin = np.cos(turn) / scale, np.sin(turn) / scale
    matrix = np.stack([mirror * cos, mirror * sin, -sin, cos], 1)
    gamma = np.exp(rng.uniform(-GAMMA, GAMMA, (count, 3)))
    quarters = rng.integers(1, 4, count) if kind == "turned" else np.zeros(count)
    orders = rng.integers(len(CHANNELS), size=count) if kind == "recoloured" else -np.ones(count)
    rest = np.stack([quarters, orders], 1)
    return torch.from_numpy(np.concatenate([matrix, shift, gamma, rest], 1)).float()


def varied(x: Tensor, changes: Tensor) -> Tensor:
    """Pictures a little larger or smaller, moved, turned and recoloured, as `drawn` says.

    x (B, 3, H, W) float in [-1, 1] on white -> new ones of the same shape and range. White fills
    what moves in from outside. Quarter turns are for squares.
    """
    if x.shape[2] != x.shape[3] and changes[:, 9].any():
        raise ValueError(f"pictures of {x.shape[2]} x {x.shape[3]} cannot turn: give squares")
    changes = changes.to(x.device)
    aspect = x.shape[3] / x.shape[2]  # places run from -1 to 1 on both axes, turns are in pixels
    matrix = changes[:, :4].view(-1, 2, 2) * changes.new_tensor([[1, 1 / aspect], [aspect, 1]])
    # Turned about the centre, then moved.
    matrix = torch.cat([matrix, -matrix @ changes[:, 4:6, None]], 2)
    places = F.affine_grid(matrix, list(x.shape), align_corners=False)
    # From 1 - x, since what lies outside is 0 there.
    moved = 1 - F.grid_sample(1 - x, places, "bicubic", "zeros", align_corners=False)
    shares = moved.add(1).div(2).clamp(0, 1)
    found = 2 * shares ** changes[:, 6:9, None, None] - 1
    for quarters in (1, 2, 3):
        if (rows := changes[:, 9] == quarters).any():
            found[rows] = found[rows].rot90(quarters, (2, 3))
    for place, order in enumerate(CHANNELS):
        if (rows := changes[:, 10] == place).any():
            found[rows] = found[rows][:, list(order)]
    return found
