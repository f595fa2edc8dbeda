"""Exponential moving average of weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class EMA:
    """Shadow copy of a module's parameters and buffers: s <- d s + (1 - d) p.

    The decay ramps up as (1 + n) / (10 + n), so that early steps do not drag the start along.
    """

    def __init__(self, module: nn.Module, decay: float = 0.999):
        if not 0 <= decay < 1:
            raise ValueError(f"ema is {decay}: it must lie in [0, 1)")
        self.decay = decay
        self.updates = 0
        self.shadow = {k: v.detach().clone() for k, v in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        floats, sources = [], []
        for key, value in module.state_dict().items():
            if value.is_floating_point():
                floats.append(self.shadow[key])
                sources.append(value)
            else:
                self.shadow[key].copy_(value)
        torch._foreach_lerp_(floats, sources, 1 - decay)

    def replace(self, key: str, value: Tensor) -> None:
        """Set one tensor, where training itself has replaced it (a restarted code, say)."""
        self.shadow[key].copy_(value)

    def state_dict(self) -> dict:
        return {"updates": self.updates, "shadow": self.shadow}

    def load_state_dict(self, state: dict) -> None:
        self.updates = state["updates"]
        for key, value in state["shadow"].items():
            self.shadow[key].copy_(value)
