"""Varied views: how far they go, and what they keep."""

import numpy as np

from prior.views import SCALES, SHIFT, TURN, varied

SIDE = 128


def mark() -> np.ndarray:
    """A black block on white, with a red corner at its upper left."""
    pixels = np.full((SIDE, SIDE, 3), 255, np.uint8)
    pixels[34:94, 44:84] = 0
    pixels[34:54, 44:64] = (255, 0, 0)
    return pixels


def seen(pixels: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Area of what is not white, its centre, and where the red is from there, as (x, y)."""
    dark = pixels[..., 1] < 128
    red = dark & (pixels[..., 0] > 128)
    centre, corner = (np.argwhere(mask).mean(0)[::-1] + 0.5 for mask in (dark, red))
    return dark.sum(), centre, corner - centre


def test_views_are_larger_smaller_moved_turned_and_mirrored_within_their_bounds():
    area, centre, corner = seen(mark())
    views = [seen(varied(mark(), np.random.default_rng(i))) for i in range(200)]
    scale = np.sqrt([found / area for found, _, _ in views])
    assert abs(scale.min() - SCALES[0]) < 0.03 and abs(scale.max() - SCALES[1]) < 0.03
    moved = np.array([found - SIDE / 2 for _, found, _ in views])  # the block is in the middle
    assert np.allclose(centre, SIDE / 2)
    furthest = np.abs(moved).max(0) / SIDE
    assert (furthest < SHIFT * SCALES[1] + 0.01).all() and (furthest > SHIFT * 0.8).all()
    mirrored = np.array([found[0] > 0 for _, _, found in views])
    assert 0.35 < mirrored.mean() < 0.65
    angles = [np.degrees(np.arctan2(y, -abs(x))) for _, _, (x, y) in views]
    sign = np.where(mirrored, -1, 1)
    turned = ((np.array(angles) - np.degrees(np.arctan2(corner[1], corner[0]))) * sign + 180) % 360
    turned -= 180
    assert (
        np.abs(turned).max() < TURN + 1.5 and turned.max() > TURN / 2 and turned.min() < -TURN / 2
    )


def test_black_and_white_stay_and_colours_change_a_little():
    grey = np.full((8, 8, 3), 128, np.uint8)
    grey[:4, :4], grey[4:, 4:] = 0, 255
    found = [varied(grey, np.random.default_rng(i)) for i in range(50)]
    assert all((f.reshape(-1, 3) == 255).all(1).any() for f in found)
    assert all((f.reshape(-1, 3) <= 2).all(1).any() for f in found)
    whole = np.full((8, 8, 3), 128, np.uint8)
    middles = np.array([varied(whole, np.random.default_rng(i))[4, 4] for i in range(50)])
    assert 108 <= middles.min() < 120 and 136 < middles.max() <= 147
    assert (middles.max(1) > middles.min(1)).any()  # each channel for itself


def test_a_view_depends_on_its_random_numbers_alone():
    pixels = mark()
    first, again, other = (varied(pixels, np.random.default_rng(i)) for i in (3, 3, 4))
    assert first.dtype == np.uint8 and first.shape == pixels.shape
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert np.array_equal(pixels, mark())
    wide = varied(np.full((20, 30, 3), 255, np.uint8), np.random.default_rng(0))
    assert wide.shape == (20, 30, 3) and (wide == 255).all()  # white comes in from outside
