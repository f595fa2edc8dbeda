"""How a codebook is used, from counts of its indices; and which codes lie next to each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from vqgan.model import VQGAN
from vqgan.usage import perplexity


@dataclass(frozen=True)
class Usage:
    """Counts of codes over a data set, and what follows from them."""

    counts: np.ndarray  # (K,) int64
    ranks: np.ndarray  # (K,) int64, 1 is the most used; equal counts rank by number
    perplexity: float  # exp(entropy) of the counts, in [1, K]

    @classmethod
    def of(cls, counts: np.ndarray) -> Usage:
        """From counts (K,) of whole numbers >= 0."""
        counts = np.asarray(counts)
        if counts.ndim != 1 or counts.dtype.kind not in "iu" or (counts < 0).any():
            raise ValueError("counts must be one row of whole numbers >= 0, one for each code")
        counts = counts.astype(np.int64)
        ranks = np.empty(len(counts), np.int64)
        ranks[np.argsort(-counts, kind="stable")] = np.arange(1, len(counts) + 1)
        return cls(counts, ranks, perplexity(torch.from_numpy(counts)))

    @property
    def total(self) -> int:
        return int(self.counts.sum())

    @property
    def dead(self) -> np.ndarray:
        """Numbers of the codes that never occur, ascending."""
        return np.flatnonzero(self.counts == 0)

    def share(self, code: int) -> float:
        """Of all cells, the share that carries this code, in [0, 1]."""
        return float(self.counts[code] / max(self.total, 1))


def count_codes(grids: np.ndarray, codebook_size: int) -> np.ndarray:
    """Index grids of any shape -> how often each code occurs, (K,) int64."""
    return np.bincount(np.asarray(grids).ravel(), minlength=codebook_size)


def norms(vqgan: VQGAN) -> np.ndarray:
    """Length of every codebook vector as latents are compared with it: (K,) float32."""
    return vqgan.quantize.codebook().detach().norm(dim=1).cpu().numpy()


def _compared(vqgan: VQGAN) -> torch.Tensor:
    """(K, D) vectors whose distance says how readily one code is chosen in place of another."""
    proj = getattr(vqgan.quantize, "proj", None)
    if proj is not None:  # Gumbel: codes are chosen by their row of the projection
        return proj.weight.detach().flatten(1).float()
    return vqgan.quantize.codebook().detach()


@torch.no_grad()
def nearest_codes(vqgan: VQGAN, code: int, n: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """The n codes next to one in the quantiser's own metric, nearest first, itself left out.

    -> numbers (n,) int64 and distances (n,) float32: Euclidean; on the unit sphere for the cosine
    quantiser, so in [0, 2]; between rows of the projection for Gumbel.
    """
    vectors = _compared(vqgan)
    count = len(vectors)
    if not 0 <= code < count:
        raise ValueError(f"code {code} does not exist: this codebook has codes 0 to {count - 1}")
    distance = (vectors - vectors[code]).norm(dim=1)
    distance[code] = torch.inf
    order = distance.sort(stable=True).indices[: min(n, count - 1)]
    return order.cpu().numpy(), distance[order].cpu().numpy()
