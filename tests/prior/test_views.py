"""Varied views: how far they go, what they keep, and what tells their kinds apart."""

import numpy as np
import pytest
import torch

from prior.views import CHANNELS, KINDS, SCALES, SHIFT, TURN, drawn, varied
from vqgan import dataset

SIDE = 128


def mark() -> np.ndarray:
    """A black block on white, with a red corner at its upper left."""
    pixels = np.full((SIDE, SIDE, 3), 255, np.uint8)
    pixels[34:94, 44:84] = 0
    pixels[34:54, 44:64] = (255, 0, 0)
    return pixels


def views(pixels: np.ndarray, kind: str = "moved", count: int = 200, seed: int = 0) -> np.ndarray:
    """uint8 (count, H, W, 3): views of one picture."""
    x = dataset.to_tensor(np.stack([pixels] * count))
    found = varied(x, drawn(kind, count, np.random.default_rng(seed)))
    assert found.shape == x.shape and found.min() >= -1 and found.max() <= 1
    return found.add(1).mul(127.5).round().byte().movedim(1, -1).numpy()


def seen(pixels: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Area of what is not white, its centre, and where the red is from there, as (x, y)."""
    dark = pixels[..., 1] < 128
    red = dark & (pixels[..., 0] > 128)
    centre, corner = (np.argwhere(mask).mean(0)[::-1] + 0.5 for mask in (dark, red))
    return dark.sum(), centre, corner - centre


def test_views_are_larger_smaller_moved_turned_and_mirrored_within_their_bounds():
    area, centre, corner = seen(mark())
    found = [seen(view) for view in views(mark())]
    scale = np.sqrt([size / area for size, _, _ in found])
    assert abs(scale.min() - SCALES[0]) < 0.03 and abs(scale.max() - SCALES[1]) < 0.03
    moved = np.array([middle - SIDE / 2 for _, middle, _ in found])  # the block is in the middle
    assert np.allclose(centre, SIDE / 2)
    furthest = np.abs(moved).max(0) / SIDE
    assert (furthest < SHIFT * SCALES[1] + 0.01).all() and (furthest > SHIFT * 0.8).all()
    mirrored = np.array([at[0] > 0 for _, _, at in found])
    assert 0.35 < mirrored.mean() < 0.65
    angles = [np.degrees(np.arctan2(y, -abs(x))) for _, _, (x, y) in found]
    sign = np.where(mirrored, -1, 1)
    turned = ((np.array(angles) - np.degrees(np.arctan2(corner[1], corner[0]))) * sign + 180) % 360
    turned -= 180
    assert (
        np.abs(turned).max() < TURN + 1.5 and turned.max() > TURN / 2 and turned.min() < -TURN / 2
    )


def test_views_are_turned_and_scaled_and_never_sheared():
    matrix = drawn("moved", 50, np.random.default_rng(0))[:, :4].view(-1, 2, 2)
    scale = matrix.det().abs()
    assert torch.allclose(matrix @ matrix.mT, scale[:, None, None] * torch.eye(2), atol=1e-5)
    assert (matrix[:, 1, 0].abs() > 0.05).any() and set(matrix.det().sign().tolist()) == {-1, 1}


def test_black_and_white_stay_and_colours_change_a_little():
    grey = np.full((8, 8, 3), 128, np.uint8)
    grey[:4, :4], grey[4:, 4:] = 0, 255
    found = views(grey, count=50)
    assert all((f.reshape(-1, 3) == 255).all(1).any() for f in found)
    assert all((f.reshape(-1, 3) <= 2).all(1).any() for f in found)
    middles = views(np.full((8, 8, 3), 128, np.uint8), count=50)[:, 4, 4]
    assert 108 <= middles.min() < 120 and 136 < middles.max() <= 147
    assert (middles.max(1) > middles.min(1)).any()  # each channel for itself


def test_turned_views_stand_on_every_other_side():
    block = np.full((SIDE, SIDE, 3), 255, np.uint8)
    block[8:40, 44:84] = 0  # at the top
    middles = np.array([seen(view)[1] for view in views(block, "turned", 60)])
    x, y = (middles / SIDE).T
    # Left, right or below, about as often, and never where it was.
    sides = [(x < 0.35).mean(), (x > 0.65).mean(), (y > 0.65).mean()]
    assert sum(sides) == 1 and min(sides) > 0.15
    assert (y[(x > 0.35) & (x < 0.65)] > 0.65).all()


def test_recoloured_views_have_their_channels_in_every_other_order():
    colour = np.full((8, 8, 3), (250, 128, 5), np.uint8)
    found = views(colour, "recoloured", 60)[:, 4, 4]
    orders = {tuple(np.argsort(-pixel).tolist()) for pixel in found.astype(int)}
    assert len(orders) == len(CHANNELS) == 5 and (0, 1, 2) not in orders
    assert {tuple(np.argsort(-p.astype(int))) for p in views(colour)[:, 4, 4]} == {(0, 1, 2)}


def test_a_view_depends_on_its_random_numbers_alone():
    pixels = mark()
    for kind in KINDS:
        first, again, other = (views(pixels, kind, 3, seed) for seed in (3, 3, 4))
        assert np.array_equal(first, again) and not np.array_equal(first, other)
    x, changes = dataset.to_tensor(pixels)[None], drawn("moved", 4, np.random.default_rng(3))
    one = varied(x, changes[2:3])
    assert torch.allclose(one, varied(x.expand(4, -1, -1, -1), changes)[2:3], atol=1e-5)
    assert torch.equal(x, dataset.to_tensor(mark())[None])


def test_oblong_pictures_turn_about_their_middle_without_shear():
    wide = np.full((64, 128, 3), 255, np.uint8)
    assert (views(wide, count=3) == 255).all()  # white comes in from outside
    wide[22:42, 54:74] = 0  # a square stays one
    for view in views(wide, count=20):
        height, width = (np.ptp(places) + 1 for places in np.nonzero(view[..., 1] < 128))
        assert abs(int(height) - int(width)) <= 1
    with pytest.raises(ValueError, match="64 x 128 cannot turn: give squares"):
        views(wide, "turned", 2)


def test_unknown_kinds_are_refused():
    with pytest.raises(ValueError, match="'bent' are unknown: choose of moved, turned, recol"):
        drawn("bent", 1, np.random.default_rng(0))
