"""How much of a picture one cell of the code grid sees: the encoder's receptive field."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vqgan.model import VQGAN, VQGANConfig

PIXELS_AT_ONCE = 2**16  # pictures are measured in parts of so many: gradients keep every layer


@dataclass(frozen=True)
class Field:
    """The pixels that the convolutions above one cell can reach, cut nowhere (it may hang out).

    Two paths go round it: GroupNorm takes a mean and a variance over the whole picture in every
    model here, and attention, where the config has it, lets every cell see every other.
    """

    side: int  # pixels
    start: int  # the field's first pixel, counted from the first pixel of its own cell (<= 0)
    stride: int  # pixels from one cell to the next: f
    attention: bool

    def box(self, row: int, column: int) -> tuple[int, int, int, int]:
        """(left, top, right, bottom) in pixels of a cell's field, right and bottom exclusive."""
        top, left = row * self.stride + self.start, column * self.stride + self.start
        return left, top, left + self.side, top + self.side


def receptive_field(config: VQGANConfig) -> Field:
    """The field of one cell, from the kernels, strides and paddings of the encoder alone."""
    side, start, jump = 1, 0, 1  # of one value of the layer reached so far, in pixels

    def conv3(before: int, stride: int = 1) -> None:
        nonlocal side, start, jump
        side += 2 * jump
        start -= before * jump
        jump *= stride

    conv3(1)  # conv_in
    last = len(config.ch_mult) - 1
    for level in range(last + 1):
        for _ in range(2 * config.num_res_blocks):
            conv3(1)
        if level < last:
            conv3(0, stride=2)  # Downsample pads right and bottom only
    for _ in range(5):  # two blocks in the middle, conv_out; quant_conv is 1x1
        conv3(1)
    sides = [config.resolution // 2**i for i in range(last + 1)]
    attention = config.mid_attn or any(s in config.attn_resolutions for s in sides)
    return Field(side, start, jump, attention)


def effective_field(vqgan: VQGAN, images: Tensor, *, share: float = 0.9, seed: int = 0) -> int:
    """Side in pixels of the square, centred on a cell, that holds `share` of its gradient.

    images (B, 3, H, W) float in [-1, 1]. Measured at the middle cell of each picture as the squared
    gradient of one random direction of its latent vector (after the effective receptive field of
    arXiv:1701.04128). Far smaller than `Field.side`: distant pixels could act, and hardly do.
    """
    f = vqgan.config.downsampling
    row, column = (s // f // 2 for s in images.shape[2:])
    generator = torch.Generator().manual_seed(seed)
    ways = torch.randn(len(images), vqgan.config.embed_dim, generator=generator).to(images.device)
    energy = torch.zeros(images.shape[2:], device=images.device)
    at_once = max(1, PIXELS_AT_ONCE // energy.numel())
    for part, way in zip(images.split(at_once), ways.split(at_once), strict=True):
        part = part.detach().clone().requires_grad_()
        with torch.enable_grad():
            (vqgan.latents(part)[:, :, row, column] * way).sum().backward()
        energy += part.grad.square().sum((0, 1))  # (H, W)
    ys, xs = (torch.arange(n, device=energy.device) + 0.5 for n in energy.shape)
    away = torch.maximum(
        (ys - (row + 0.5) * f).abs()[:, None], (xs - (column + 0.5) * f).abs()[None]
    )
    reach, order = away.flatten().sort()
    summed = energy.flatten()[order].cumsum(0)
    if not summed[-1] > 0:
        raise ValueError("the encoder's gradient is 0 on these pictures: its field has no size")
    edge = float(reach[int((summed < share * summed[-1]).sum())]) + 0.5  # of the pixel reached
    return math.ceil(2 * edge)
