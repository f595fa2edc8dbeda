"""Cutouts: what CLIP looks at instead of the picture itself, so that no pixel trick pleases it.

All of them come from one affine sampling, with gradients to the picture, and all randomness from
the generator that is given.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Cutouts:
    """Draws `count` views of a picture; the first one is the whole picture, unaltered."""

    count: int = 16
    smallest: float = 0.6  # side of the smallest view, as a share of the picture's
    largest: float = 1.1  # above 1 it shows white around the picture
    rotation: float = 10.0  # degrees, at most, either way
    jitter: float = 0.15  # brightness, contrast and saturation change by at most this share
    noise: float = 0.05  # standard deviation of the strongest noise

    def __post_init__(self) -> None:
        if isinstance(self.count, bool) or not isinstance(self.count, int) or self.count < 1:
            raise ValueError(f"cutouts are {self.count}: at least 1 is needed")
        if self.count > 256:
            raise ValueError(f"cutouts are {self.count}: 256 are the most")
        if not 0 < self.smallest <= self.largest <= 2:
            raise ValueError(
                f"cutouts go from {self.smallest} to {self.largest} of the side: the smallest must "
                "lie above 0, the largest not below it and not above 2"
            )
        for name, top in (("rotation", 180), ("jitter", 1), ("noise", 1)):
            if not 0 <= getattr(self, name) <= top:
                raise ValueError(f"{name} is {getattr(self, name)}: it must lie in 0 to {top}")

    def __call__(self, image: Tensor, size: int, generator: torch.Generator) -> Tensor:
        """image (1, 3, H, W) in about [-1, 1] -> (count, 3, size, size), on the picture's device.

        The generator is a CPU one on every device: the same seed gives the same views everywhere.
        """
        views = _view(image, self._transforms(generator), size)
        if self.count == 1:
            return views
        altered = self._altered(views[1:], generator)
        return torch.cat([views[:1], altered])

    def _transforms(self, generator: torch.Generator) -> Tensor:
        """(count, 2, 3): where each view lies, in the picture's coordinates from -1 to 1."""
        u = torch.rand(self.count, 4, generator=generator)
        scale = self.smallest + (self.largest - self.smallest) * u[:, 0]
        angle = math.radians(self.rotation) * (2 * u[:, 1] - 1)
        scale[0], angle[0] = 1, 0
        centre = (2 * u[:, 2:] - 1) * (1 - scale).clamp_min(0)[:, None]
        cos, sin = scale * angle.cos(), scale * angle.sin()
        rows = torch.stack([cos, -sin, centre[:, 0], sin, cos, centre[:, 1]], 1)
        return rows.view(self.count, 2, 3)

    def _altered(self, views: Tensor, generator: torch.Generator) -> Tensor:
        """Colour jitter and noise: (N, 3, S, S) -> the same shape."""
        n = len(views)
        u = (2 * torch.rand(n, 3, generator=generator) - 1) * self.jitter
        level = self.noise * torch.rand(n, 1, 1, 1, generator=generator)
        noise = level * torch.randn(views.shape, generator=generator)
        brightness, contrast, saturation = u.to(views).view(n, 3, 1, 1, 1).unbind(1)
        luma = views.new_tensor(LUMA).view(1, 3, 1, 1)
        grey = (views * luma).sum(1, keepdim=True)
        views = grey + (views - grey) * (1 + saturation)
        return views * (1 + contrast) + brightness + noise.to(views)


def _view(image: Tensor, transforms: Tensor, size: int) -> Tensor:
    """Bilinear views of one picture, white where they leave it: -> (N, 3, size, size)."""
    if image.ndim != 4 or image.shape[:2] != (1, 3):
        raise ValueError(f"the picture has shape {tuple(image.shape)}: expected (1, 3, H, W)")
    shrink = min(image.shape[2:]) // (2 * size)  # a bilinear sample sees no more than two pixels
    if shrink > 1:
        image = F.avg_pool2d(image, shrink)
    n = len(transforms)
    grid = F.affine_grid(transforms.to(image), (n, 3, size, size), align_corners=False)
    ink = (image - 1).expand(n, -1, -1, -1)  # 0 is white, and so is what lies outside
    return F.grid_sample(ink, grid, align_corners=False) + 1
