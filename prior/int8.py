"""Products in int8: weights and what they multiply are rounded to 8 bits, sums stay exact.

A weight row has its own scale, its largest value 127. What enters a product has one scale and one
zero for all its numbers, measured beforehand (`prior.ranges`), so that a row's bits never depend on
the rows beside it (Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", equation 1). For processors that sum products of bytes in one
instruction (AVX512-VNNI, AVX-VNNI).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Steps(NamedTuple):
    """A number x is kept as the byte round(x / scale) + zero, in 0 to 255."""

    scale: float
    zero: int

    @classmethod
    def over(cls, low: float, high: float) -> Steps:
        """The finest steps that reach from `low` to `high`, and 0."""
        low, high = min(low, 0.0), max(high, 0.0)
        scale = max(high - low, 1e-6) / 255
        return cls(scale, round(-low / scale))

    def fold(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """A LayerNorm's parameters, such that it gives what `to_bytes` takes."""
        return weight / self.scale, bias / self.scale + (self.zero + 0.5)

    def rounding(self) -> Callable[[Tensor], Tensor]:
        """Floats of any type -> bytes; numbers beyond the range become its ends."""
        start = torch.tensor([self.zero + 0.5])  # has an axis, so that sums with it are float32
        return lambda x: to_bytes(torch.add(start, x, alpha=1 / self.scale))


def to_bytes(x: Tensor) -> Tensor:
    """float32, already in steps and 0.5 too large -> uint8. Overwrites x."""
    return x.clamp_(0, 255).to(torch.int16).to(torch.uint8)  # straight to bytes is slower


def linear(
    weight: Tensor,
    bias: Tensor | None,
    steps: Steps,
    out: torch.dtype | Steps,
    gelu: str | None = None,
) -> Callable[[Tensor], Tensor]:
    """x -> x @ weight.T + bias, then GELU if asked for: x (M, in) bytes in `steps`.

    weight (N, in) float32; the result is of dtype `out`, or bytes in the steps `out`.
    """
    packed, scales, zeros = _pack(weight)
    after = out if isinstance(out, Steps) else Steps(1.0, 0)
    dtype = torch.uint8 if isinstance(out, Steps) else out
    post = ("none", [], "") if gelu is None else ("gelu", [], gelu)
    op = torch.ops.onednn.qlinear_pointwise.default
    return lambda x: op(x, *steps, packed, scales, zeros, bias, *after, dtype, *post)


def residual(weight: Tensor, bias: Tensor, steps: Steps) -> Callable[[Tensor, Tensor], Tensor]:
    """(x, r) -> r + x @ weight.T + bias: x (M, in) bytes in `steps`, r (M, N) float32."""
    packed, scales, zeros = _pack(weight)
    post = (1.0, 0, torch.float32, 1.0, 0, "add", 1.0, "none", [], "")
    op = torch.ops.onednn.qlinear_pointwise.binary
    return lambda x, r: op(x, *steps, packed, scales, zeros, r, bias, *post)


def _pack(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A weight in oneDNN's layout, the scales of its rows, their zeros (none has any)."""
    scales = weight.abs().amax(1).clamp(min=1e-12) / 127
    rounded = (weight / scales[:, None]).round().to(torch.int8)
    zeros = torch.zeros(len(weight), dtype=torch.int64)
    return torch.ops.onednn.qlinear_prepack(rounded, None), scales, zeros


@functools.cache
def supported() -> bool:
    """Whether this processor sums products of bytes exactly, found out by trying.

    Those without the instruction add pairs in 16 bits, where 2 x 255 x 127 has no room.
    """
    try:
        product = linear(torch.ones(16, 64), None, Steps(1.0, 0), torch.float32)
        sums = product(torch.full((2, 64), 255, dtype=torch.uint8))
        return torch.allclose(sums, torch.tensor(64 * 255.0), rtol=1e-5)
    except (AttributeError, RuntimeError):
        return False
