"""Varied views of a picture, so that a prior learns what is common to drawings, not each by heart.

Only whoever encodes a data set needs them (`prior.tokens --views`): codes do not move with the
pixels, so a shifted or turned drawing is another grid, and has to be encoded as such.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

SCALES = (0.84, 1.04)  # of the picture's size
SHIFT = 0.04  # of its side, either way, on both axes
TURN = 6.0  # degrees, either way
GAMMA = 0.2  # natural logarithm, either way, of each channel: black and white stay


def varied(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A picture a little larger or smaller, moved, turned and recoloured, or mirrored as well.

    pixels uint8 (H, W, 3) on white -> a new one of the same shape. White fills what moves in from
    outside. Depends on nothing but `pixels` and `rng`.
    """
    height, width = pixels.shape[:2]
    scale, turn = rng.uniform(*SCALES), math.radians(rng.uniform(-TURN, TURN))
    x, y = rng.uniform(-SHIFT, SHIFT, 2) * (width, height)
    mirror = -1 if rng.random() < 0.5 else 1
    cos, sin = math.cos(turn) / scale, math.sin(turn) / scale
    # PIL asks where each pixel of the result comes from: turned about the centre, then moved.
    middle_x, middle_y = width / 2, height / 2
    a, b, d, e = mirror * cos, mirror * sin, -sin, cos
    c = middle_x - a * (middle_x + x) - b * (middle_y + y)
    f = middle_y - d * (middle_x + x) - e * (middle_y + y)
    moved = Image.fromarray(pixels).transform(
        (width, height),
        Image.Transform.AFFINE,
        (a, b, c, d, e, f),
        Image.Resampling.BICUBIC,
        fillcolor=(255, 255, 255),
    )
    gamma = np.exp(rng.uniform(-GAMMA, GAMMA, 3))
    return (255 * (np.asarray(moved) / 255) ** gamma).round().astype(np.uint8)
