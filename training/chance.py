"""Random numbers that follow from (seed, step) alone, so that resuming needs no sampler's state."""

from __future__ import annotations

import numpy as np
import torch

from training import distributed


def mixed(*numbers: int) -> int:
    """One seed in [0, 2**63) that depends on all the whole numbers given, the same in every run."""
    return hash(numbers) & 0x7FFF_FFFF_FFFF_FFFF  # of whole numbers: only text hashes vary


def generator(*seed: int) -> torch.Generator:
    """A torch.Generator that depends on all the numbers given."""
    return torch.Generator().manual_seed(mixed(*seed))


class Epochs:
    """Which of `size` items the steps see: each once an epoch, in a new order every time.

    All processes together see the next `batch` items at each step, each process its own share.
    """

    def __init__(self, size: int, batch: int, seed: int):
        self.size, self.batch, self.seed = size, batch, seed
        self.epoch, self.order = -1, np.empty(0, np.int64)  # the latest one is kept

    def share(self, step: int) -> np.ndarray:
        """(batch / processes,) int64 in [0, size): this process's items of a step."""
        count = self.batch // distributed.world_size()
        first = step * self.batch + distributed.rank() * count
        places = (divmod(place, self.size) for place in range(first, first + count))
        return np.array([self._order_of(epoch)[offset] for epoch, offset in places])

    def _order_of(self, epoch: int) -> np.ndarray:
        if self.epoch != epoch:
            rng = np.random.default_rng([self.seed, epoch, 2**32 - 1])
            self.epoch, self.order = epoch, rng.permutation(self.size)
        return self.order
