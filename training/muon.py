"""Muon for a transformer's matrices, AdamW for all else, behind one optimizer's methods.

Muon ("Muon: An optimizer for hidden layers in neural networks", Jordan et al. 2024): the momentum
of a matrix is orthogonalised, so that all its directions learn alike. With the scale of Liu et al.
2025 ("Muon is Scalable for LLM Training") both halves share one learning rate.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from training.precision import native_bf16

QUINTIC = (3.4445, -4.775, 2.0315)  # Newton-Schulz coefficients of Jordan et al.
ITERATIONS = 5


def orthogonalise(matrices: Tensor) -> Tensor:
    """(B, M, N) -> U V^T of the singular value decomposition U S V^T of each, nearly.

    S becomes 0.7 to 1.2 instead of 1.
    Five Newton-Schulz iterations, in bfloat16 where the device multiplies it natively, else in
    float32: torch.optim.Muon, which is the same otherwise, always takes bfloat16, and its step
    then took 17 of 20 seconds on a CPU without.
    """
    a, b, c = QUINTIC
    x = matrices.bfloat16() if native_bf16(matrices.device) else matrices.float()
    turned = x.shape[-2] > x.shape[-1]
    x = x.mT if turned else x
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)  # singular values at most 1
    for _ in range(ITERATIONS):
        gram = torch.bmm(x, x.mT)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if turned else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised, with decoupled weight decay; 2-D parameters only."""

    def __init__(
        self, matrices: list[nn.Parameter], *, lr: float, weight_decay: float, momentum: float
    ):
        if any(p.ndim != 2 for p in matrices):
            raise ValueError("Muon is for matrices: give vectors to AdamW")
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            lr, momentum = group["lr"], group["momentum"]
            alike: dict[torch.Size, list[nn.Parameter]] = {}  # of one shape: products in one go
            for p in group["params"]:
                if p.grad is not None:
                    alike.setdefault(p.shape, []).append(p)
            for shape, some in alike.items():
                grads = [p.grad for p in some]
                for p in some:
                    if not self.state[p]:
                        self.state[p]["momentum_buffer"] = torch.zeros_like(p.grad)
                means = [self.state[p]["momentum_buffer"] for p in some]
                torch._foreach_lerp_(means, grads, 1 - momentum)
                ahead = torch._foreach_lerp(grads, means, momentum)
                updates = orthogonalise(torch.stack(ahead)).float().unbind()
                torch._foreach_mul_(some, 1 - lr * group["weight_decay"])
                # Updates as large as AdamW's, so that both halves share one learning rate.
                torch._foreach_add_(some, updates, alpha=-lr * 0.2 * math.sqrt(max(shape)))


class MuonAdamW:
    """`Muon` on `matrices`, `torch.optim.AdamW` on the groups of `others`."""

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
        muon = Muon(matrices, lr=lr, weight_decay=weight_decay, momentum=momentum)
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
