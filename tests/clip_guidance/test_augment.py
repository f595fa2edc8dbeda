"""Augmentations: the same from the same seed, mild, and only what is allowed."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from clip_guidance.augment import AugmentConfig, affine, augment

STILL = dict.fromkeys("tilt shear flip paper jitter noise blur".split(), 0.0)


def pictures(n=4, side=48):
    x = torch.rand(n, 3, side // 4, side // 4, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return F.interpolate(x, (side, side), mode="bilinear")


def run(cfg, images=None, masks=None, mirrors=None, seed=0, size=48):
    images = pictures() if images is None else images
    masks = torch.ones_like(images[:, :1]) if masks is None else masks
    mirrors = torch.zeros(len(images), dtype=torch.bool) if mirrors is None else mirrors
    return augment(images, masks, mirrors, size, cfg, torch.Generator().manual_seed(seed))


def test_nothing_asked_nothing_done():
    cfg = AugmentConfig(zoom_in=1, zoom_out=1, **STILL)
    assert torch.allclose(run(cfg), pictures(), atol=1e-5)


def test_same_seed_same_pictures_others_differ():
    cfg = AugmentConfig()
    a, b, c = run(cfg), run(cfg), run(cfg, seed=1)
    assert torch.equal(a, b) and not torch.allclose(a, c, atol=0.1)
    assert a.shape == (4, 3, 48, 48) and a.abs().max() <= 1


def test_only_what_may_be_mirrored_is():
    cfg = AugmentConfig(zoom_in=1, zoom_out=1, **STILL | {"flip": 1.0})
    mirrors = torch.tensor([True, False, True, False])
    found = run(cfg, mirrors=mirrors)
    wanted = torch.where(mirrors[:, None, None, None], pictures().flip(-1), pictures())
    assert torch.allclose(found, wanted, atol=1e-5)


def test_coloured_paper_leaves_the_drawing():
    masks = torch.zeros(4, 1, 48, 48)
    masks[..., 12:36, 12:36] = 1
    images = torch.where(masks > 0, pictures(), torch.ones(4, 3, 48, 48))
    cfg = AugmentConfig(zoom_in=1, zoom_out=1, **STILL | {"paper": 1.0})
    found = run(cfg, images, masks)
    assert torch.allclose(found * masks, images * masks, atol=1e-5)
    paper = found[:, :, 0, 0]
    assert (paper < 0.99).any(1).all() and len({tuple(p.tolist()) for p in paper}) == 4
    assert torch.allclose(
        found[..., :12, :], paper[..., None, None].expand(4, 3, 12, 48), atol=1e-5
    )


def test_crops_stay_inside_and_larger_ones_hold_the_picture():
    generator = torch.Generator().manual_seed(0)
    cfg = AugmentConfig(zoom_in=0.5, zoom_out=1.4, **STILL)
    theta = affine(500, torch.zeros(500, dtype=torch.bool), cfg, generator)
    scale, shift = theta[:, 0, 0], theta[:, :, 2].abs()
    assert 0.5 <= scale.min() < 0.55 and 1.3 < scale.max() <= 1.4
    inside = scale[:, None] + shift <= 1 + 1e-5
    holds = scale[:, None] - shift >= 1 - 1e-5
    assert (inside | holds).all() and shift.max() > 0.3


@pytest.mark.parametrize(
    "bad", [{"zoom_in": 0}, {"zoom_in": 2}, {"flip": 1.5}, {"noise": -1}, {"tilt": float("nan")}]
)
def test_bad_values(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        AugmentConfig(**bad)
