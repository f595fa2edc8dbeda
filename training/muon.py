"""Muon for a transformer's matrices, AdamW for all else, behind one optimizer's methods.

Muon ("Muon: An optimizer for hidden layers in neural networks", Jordan et al. 2024): the momentum
of a matrix is orthogonalised, so that all its directions learn alike. With the scale of Liu et al.
2025 ("Muon is Scalable for LLM Training") both halves share one learning rate.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class MuonAdamW:
    """`torch.optim.Muon` on `matrices`, `torch.optim.AdamW` on the groups of `others`."""

    def __init__(
        self,
        matrices: list[nn.Parameter],
        others: list[dict[str, Any]],
        *,
        lr: float,
        betas: tuple[float, float],
        weight_decay: float,
        momentum: float = 0.95,
    ):
        """ValueError if this torch has no Muon (it came with 2.9)."""
        if not hasattr(torch.optim, "Muon"):
            raise ValueError(
                f"torch {torch.__version__} has no Muon: install 2.9 or later, or choose adamw"
            )
        muon = torch.optim.Muon(
            matrices,
            lr=lr,
            weight_decay=weight_decay,
            momentum=momentum,
            adjust_lr_fn="match_rms_adamw",
        )
        self.parts = (muon, torch.optim.AdamW(others, lr=lr, betas=betas, fused=True))

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [group for part in self.parts for group in part.param_groups]

    def step(self) -> None:
        for part in self.parts:
            part.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        for part in self.parts:
            part.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        return {"muon": self.parts[0].state_dict(), "adamw": self.parts[1].state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.parts[0].load_state_dict(state["muon"])
        self.parts[1].load_state_dict(state["adamw"])
