"""Views of a picture: where they lie, what may change, and that gradients reach the picture."""

from __future__ import annotations

import pytest
import torch

from clip_guidance.cutouts import Cutouts

PLAIN = {"rotation": 0, "jitter": 0, "noise": 0}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def picture(side: int = 32) -> torch.Tensor:
    """A ramp from left to right in red, from top to bottom in green."""
    x = torch.linspace(-1, 1, side)
    across, down = x.expand(side, side), x[:, None].expand(side, side)
    return torch.stack([across, down, torch.zeros(side, side)])[None]


def test_the_first_view_is_the_whole_picture_unaltered():
    image = picture()
    views = Cutouts(4)(image, 32, generator())
    assert views.shape == (4, 3, 32, 32)
    assert torch.allclose(views[:1], image, atol=1e-5)
    assert not torch.allclose(views[1:2], image, atol=0.05)
    half = Cutouts(1)(image, 16, generator())
    assert torch.allclose(half, torch.nn.functional.avg_pool2d(image, 2), atol=1e-5)
    tenth = Cutouts(1)(picture(160), 16, generator())
    assert torch.allclose(tenth, torch.nn.functional.avg_pool2d(picture(160), 10), atol=1e-4)


def test_views_lie_within_the_picture_when_they_are_smaller():
    views = Cutouts(64, smallest=0.3, largest=0.9, **PLAIN)(picture(), 32, generator())[1:]
    span = views[:, 0, 16, -1] - views[:, 0, 16, 0]  # of the red ramp, about twice the scale
    assert views[:, 2].max() < 0.5  # blue is 0 in the picture and 1 in the white beyond it
    assert span.min() < 0.8 and span.max() > 1.5
    centres = views[:, :2, 15:17, 15:17].mean((2, 3))
    assert centres.std(0).min() > 0.1  # they stand in many places


def test_outside_the_picture_it_is_white():
    views = Cutouts(16, smallest=2, largest=2, **PLAIN)(-torch.ones(1, 3, 32, 32), 32, generator())
    assert (views[1:, :, 0] == 1).all() and (views[1:, :, 16, 16] == -1).all()


def test_rotation_jitter_and_noise_each_do_something():
    image = picture()
    still = Cutouts(3, smallest=1, largest=1, **PLAIN)(image, 32, generator())
    assert torch.allclose(still, image.expand(3, -1, -1, -1), atol=1e-5)
    for name, value in (("rotation", 20), ("jitter", 0.3), ("noise", 0.2)):
        cut = Cutouts(3, smallest=1, largest=1, **{**PLAIN, name: value})
        assert (cut(image, 32, generator())[1:] - image).abs().mean() > 0.01, name


def test_views_turn_either_way_and_no_further_than_said():
    turned = Cutouts(64, rotation=10)._transforms(generator())
    angles = torch.rad2deg(torch.atan2(turned[:, 1, 0], turned[:, 0, 0]))
    assert -10 <= angles.min() < -7 and 7 < angles.max() <= 10


def test_jitter_is_of_brightness_contrast_and_saturation():
    """Told apart by three patches: grey 0 shows brightness, a lighter grey contrast too."""
    image = torch.zeros(1, 3, 32, 32)
    image[..., 8:16], image[..., 16:] = 0.5, torch.tensor([1.0, -1, -1]).view(3, 1, 1)
    cut = Cutouts(65, smallest=1, largest=1, **{**PLAIN, "jitter": 0.2})
    views = cut(image, 32, generator())[1:, :, 16]
    dark, light, red = views[:, :, 4], views[:, :, 12], views[:, :, 24]
    brightness = dark[:, 0]
    contrast = (light[:, 0] - brightness) / 0.5 - 1
    saturation = (red[:, 0] - red[:, 1]) / (2 * (1 + contrast)) - 1
    for change in (brightness, contrast, saturation):
        assert -0.2 < change.min() < -0.15 and 0.15 < change.max() < 0.2
    luma = torch.tensor([0.299, 0.587, 0.114])  # ITU-R BT.601: saturation leaves it as it is
    assert torch.allclose(red @ luma, -0.402 * (1 + contrast) + brightness, atol=1e-5)


def test_noise_is_of_every_strength_up_to_the_strongest():
    views = Cutouts(65, smallest=1, largest=1, **{**PLAIN, "noise": 0.4})(
        picture(), 32, generator()
    )
    strength = (views[1:] - picture()).flatten(1).std(1)
    assert strength.min() < 0.05 and 0.35 < strength.max() < 0.42


def test_large_pictures_are_shrunk_so_that_fine_stripes_stay_grey_and_no_further():
    def stripes(side: int, first: int) -> torch.Tensor:
        """Two columns white, two black; column 0 is the first or second one of a stripe."""
        white = (torch.arange(side) + first) // 2 % 2 == 0
        return torch.where(white, 1.0, -1.0).expand(1, 3, side, side)

    assert Cutouts(1)(stripes(160, 0), 16, generator()).abs().max() < 0.3
    close = Cutouts(8, smallest=0.5, largest=0.5, **PLAIN)(stripes(32, 1), 16, generator())[1:]
    assert (close.amax((1, 2, 3)) > 0.3).all(), "at half the picture's side pixels are told apart"


def test_all_randomness_comes_from_the_generator():
    cut = Cutouts(8)
    torch.manual_seed(1)
    first = cut(picture(), 16, generator())
    torch.manual_seed(2)
    assert torch.equal(first, cut(picture(), 16, generator()))
    assert not torch.equal(first, cut(picture(), 16, generator(1)))


def test_gradients_reach_every_pixel():
    image = picture().requires_grad_()
    Cutouts(8)(image, 16, generator()).square().sum().backward()
    assert (image.grad.abs().sum(1) > 0).all()


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"count": 0}, "at least 1"),
        ({"count": 2.5}, "at least 1"),
        ({"count": 1000}, "256"),
        ({"smallest": 0}, "smallest"),
        ({"smallest": 0.9, "largest": 0.5}, "smallest"),
        ({"noise": -1}, "noise"),
    ],
)
def test_settings_that_cannot_be_are_refused(values, sentence):
    with pytest.raises(ValueError, match=sentence):
        Cutouts(**values)


def test_more_than_one_picture_is_refused():
    with pytest.raises(ValueError, match="expected"):
        Cutouts(2)(torch.zeros(2, 3, 8, 8), 8, generator())
