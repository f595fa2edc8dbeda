"""The chance in writing: noise that belongs to a seed and a cell, whatever else is written."""

from __future__ import annotations

import torch
from torch import Tensor

NOISE_BLOCK = 16  # cells whose noise is drawn in one go


class RowNoise:
    """Exponential noise for cell after cell, where row i depends on seed + i alone."""

    def __init__(self, seed: int, batch: int, codebook_size: int):
        self.generators = [torch.Generator().manual_seed(seed + i) for i in range(batch)]
        self.shape = batch, NOISE_BLOCK, codebook_size
        self.blocks: dict[int, Tensor] = {}
        self.drawn = -1

    def at(self, cells: list[int]) -> Tensor:
        """(B, len(cells), K) float32 for rising cells; a cell gives the same noise again.

        Cells before the first one of a call are over: no later call may ask for them.
        """
        places = [divmod(cell, NOISE_BLOCK) for cell in cells]
        for over in [block for block in self.blocks if block < places[0][0]]:
            del self.blocks[over]
        while self.drawn < places[-1][0]:
            self.drawn += 1
            self.blocks[self.drawn] = self._draw()
        return torch.stack([self.blocks[block][:, i] for block, i in places], 1)

    def _draw(self) -> Tensor:
        block = torch.empty(self.shape)
        for row, generator in zip(block, self.generators, strict=True):
            torch.rand(row.shape, generator=generator, out=row)
        return block.log_().neg_()  # a quarter of the time that `exponential_` takes
