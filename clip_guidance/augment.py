"""What CLIP's training does to a batch of pictures: what guidance's cutouts will show it, and more.

Guidance asks about crops, tilted and padded, of pictures that a decoder has painted; a tower that
has only seen clean whole icons gives gradients towards noise that fools it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from training.flags import option


@dataclass(frozen=True)
class AugmentConfig:
    """How strongly pictures are changed in CLIP's training."""

    zoom_in: float = option(0.65, "smallest side of a crop, as a share of the picture's")
    zoom_out: float = option(1.25, "largest, beyond the picture's edges: padding shows")
    tilt: float = option(12.0, "largest rotation in degrees, both ways")
    shear: float = option(0.1, "largest shear")
    flip: float = option(0.4, "share mirrored, where left and right are not in the captions")
    paper: float = option(0.25, "share put on paper of another colour, where there is a mask")
    jitter: float = option(0.15, "largest change of brightness, contrast and saturation")
    noise: float = option(0.08, "largest standard deviation of noise, on a scale of [-1, 1]")
    blur: float = option(0.2, "share that is blurred")

    def __post_init__(self) -> None:
        if not 0 < self.zoom_in <= self.zoom_out:
            raise ValueError(
                f"zoom_in is {self.zoom_in} and zoom_out {self.zoom_out}: zoom_in must be positive "
                "and not above zoom_out"
            )
        for name in ("flip", "paper", "blur"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it must lie in [0, 1]")
        for name in ("tilt", "shear", "jitter", "noise"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}: it must not be negative")


def augment(
    images: Tensor,
    masks: Tensor,
    mirrors: Tensor,
    size: int,
    cfg: AugmentConfig,
    generator: torch.Generator,
) -> Tensor:
    """(B, 3, H, W) float in [-1, 1] -> (B, 3, size, size), each changed in its own way.

    masks (B, 1, H, W) float in [0, 1], 1 where the drawing is (all ones: not known); mirrors (B,)
    bool, where a mirror image means the same. Random numbers come from the CPU `generator`.
    """
    n = len(images)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(n, *(shape or (1, 1, 1)), generator=generator) * (high - low) + low

    paper = uniform(-1, 1, 3, 1, 1)
    chosen = (uniform(0, 1) < cfg.paper).float()
    images = images + (1 - masks) * chosen * (paper - images)
    images = F.grid_sample(
        images,
        F.affine_grid(affine(n, mirrors, cfg, generator), [n, 3, size, size], align_corners=False),
        padding_mode="border",
        align_corners=False,
    )
    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * uniform(1 - cfg.jitter, 1 + cfg.jitter)
    mean = images.mean((1, 2, 3), keepdim=True)
    images = mean + (images - mean) * uniform(1 - cfg.jitter, 1 + cfg.jitter)
    images = images + uniform(-cfg.jitter, cfg.jitter)
    soft = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    images = torch.where(uniform(0, 1) < cfg.blur, soft, images)
    noise = torch.randn(images.shape, generator=generator)
    return (images + noise * uniform(0, 1).square() * cfg.noise).clamp(-1, 1)


def affine(n: int, mirrors: Tensor, cfg: AugmentConfig, generator: torch.Generator) -> Tensor:
    """(n, 2, 3) float32: random crops, tilts, shears and mirrorings, from output to input.

    A crop smaller than the picture lies inside it; a larger one holds it.
    """
    draw = torch.rand(n, 6, generator=generator)
    scale = cfg.zoom_in * (cfg.zoom_out / cfg.zoom_in) ** draw[:, 0]
    angle = math.radians(cfg.tilt) * (draw[:, 1] * 2 - 1)
    shear = cfg.shear * (draw[:, 2] * 2 - 1)
    shift = (1 - scale).abs()[:, None] * (draw[:, 3:5] * 2 - 1)
    sign = torch.where(mirrors & (draw[:, 5] < cfg.flip), -1.0, 1.0)
    cos, sin = angle.cos() * scale, angle.sin() * scale
    first = torch.stack([sign * cos, shear * cos - sin, shift[:, 0]], 1)
    second = torch.stack([sign * sin, cos + shear * sin, shift[:, 1]], 1)
    return torch.stack([first, second], 1)
