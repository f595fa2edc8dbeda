"""Which codes are alive: k-means start, running usage, restart of dead codes."""

from __future__ import annotations

import torch
from torch import Tensor

from training import distributed
from vqgan.quantize import nearest


def perplexity(counts: Tensor) -> float:
    """exp of the entropy of code counts (K,): how many codes are used evenly, in [1, K]."""
    p = counts.double() / counts.sum().clamp_min(1)
    return float(torch.exp(-(p * p.clamp_min(1e-30).log()).sum()))


@torch.no_grad()
def kmeans(
    points: Tensor, k: int, generator: torch.Generator, steps: int = 20, unit: bool = False
) -> Tensor:
    """Lloyd's algorithm: points (N, D) float32 -> k centres (k, D), of unit length if `unit`.

    Starts from distinct points, so that a background repeated in every picture gets one code; an
    empty cluster moves to the point that is worst served.
    """
    distinct = torch.unique((points * 64).round(), dim=0, return_inverse=True)[1]
    shuffled = torch.randperm(len(points), generator=generator)
    place = torch.empty_like(shuffled)
    place[shuffled] = torch.arange(len(points))
    # One point of each distinct value, the last of the shuffled ones. (Of several written to one
    # place by an assignment, threads would decide.)
    last = torch.full((int(distinct.max()) + 1,), -1).scatter_reduce_(0, distinct, place, "amax")
    first = shuffled[last]
    picks = first[torch.randperm(len(first), generator=generator)[:k]]
    if len(picks) < k:
        extra = torch.randint(len(points), (k - len(picks),), generator=generator)
        picks = torch.cat([picks, extra])
    centres = points[picks].clone()
    for _ in range(steps):
        owner = nearest(points, centres)
        counts = torch.bincount(owner, minlength=k).to(points.dtype)
        sums = torch.zeros_like(centres).index_add_(0, owner, points)
        moved = sums / counts.clamp_min(1)[:, None]
        empty = (counts == 0).nonzero().flatten()
        if len(empty):
            error = (points - centres[owner]).square().sum(1)
            empty = empty[: len(points)]  # of few points there are not enough for all
            moved[empty] = points[error.topk(len(empty)).indices]
        centres = torch.nn.functional.normalize(moved, dim=1) if unit else moved
    return centres


class CodeUsage:
    """Running share of each code, over all processes, and restart of codes below a threshold."""

    def __init__(self, codebook_size: int, decay: float = 0.98):
        self.decay = decay
        self.share = torch.full((codebook_size,), 1.0 / codebook_size)

    def update(self, indices: Tensor) -> None:
        """Count a batch's indices (any shape, int64)."""
        counts = torch.bincount(indices.flatten().cpu(), minlength=len(self.share)).float()
        counts = distributed.sum_(counts)
        self.share.lerp_(counts / counts.sum(), 1 - self.decay)

    @property
    def counted(self) -> bool:
        """Whether any batch was counted yet."""
        return bool((self.share != 1.0 / len(self.share)).any())

    def dead(self, threshold: float) -> Tensor:
        """Codes (n,) int64 whose share is below `threshold` of an even one."""
        return (self.share * len(self.share) < threshold).nonzero().flatten()

    @torch.no_grad()
    def restart(
        self, codes: Tensor, latents: Tensor, threshold: float, generator: torch.Generator
    ) -> Tensor:
        """Move dead codes (rows of `codes` (K, D), in place) to latents (N, D) of the batch.

        Each to another one, if there are enough: of two codes in one place one stays dead. Every
        process draws the same latents from the gathered batch. Returns the moved rows.
        """
        dead = self.dead(threshold).to(codes.device)
        if len(dead):
            pool = distributed.gather(latents.detach().contiguous())
            if len(dead) <= len(pool):
                picks = torch.randperm(len(pool), generator=generator)[: len(dead)]
            else:
                picks = torch.randint(len(pool), (len(dead),), generator=generator)
            codes[dead] = pool[picks.to(pool.device)].to(codes.dtype)
            self.share[dead.cpu()] = 1.0 / len(self.share)
        return dead

    def state_dict(self) -> dict:
        return {"share": self.share}

    def load_state_dict(self, state: dict) -> None:
        self.share.copy_(state["share"])
