"""Which numbers to compute with: bfloat16 only where the processor multiplies it natively."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext

import torch

log = logging.getLogger(__name__)


def native_bf16(device: str | torch.device) -> bool:
    """Whether `device` has bfloat16 products of its own.

    Without them torch emulates: on a CPU with AVX2 alone such a product took 80 times as long as
    one in float32.
    """
    kind = torch.device(device).type
    if kind == "cpu":
        names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, name, bool)() for name in names)
    return kind == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def autocast(device: str | torch.device, bf16: bool | None = None) -> AbstractContextManager:
    """bfloat16 autocast on `device` if `bf16`; None: if the processor has it natively."""
    if native_bf16(device) if bf16 is None else bf16:
        return torch.autocast(torch.device(device).type, torch.bfloat16)
    return nullcontext()


def warn_if_emulated(device: str | torch.device, bf16: bool | None) -> None:
    """One line if bfloat16 was chosen, by a flag or by the run that is resumed, and is slow."""
    if bf16 and torch.device(device).type == "cpu" and not native_bf16(device):
        log.warning(
            "bfloat16 is chosen, but this processor only emulates it, some 80 times as slow as "
            "float32: stop and add --no-bf16 (with --resume too)"
        )
