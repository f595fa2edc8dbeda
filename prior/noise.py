"""The chance in writing: noise that belongs to a seed and a cell, whatever else is written."""

from __future__ import annotations

import torch
from torch import Tensor

NOISE_BLOCK = 16  # cells whose noise is drawn in one go


class RowNoise:
    """Exponential noise for the cells of rows, where row i depends on seed + i alone."""

    def __init__(self, seed: int, batch: int, codebook_size: int):
        self.generators = [torch.Generator().manual_seed(seed + i) for i in range(batch)]
        self.shape = batch, NOISE_BLOCK, codebook_size
        self.table = torch.empty(batch, 0, codebook_size)
        self.begin = 0  # cell of the table's first

    def at(self, rows: Tensor, cells: Tensor, over: int = 0) -> Tensor:
        """(M, K) float32 for rows and cells (M,) int64; the same again for the same ones.

        Cells before `over` are finished: their noise may be forgotten, so no later call may ask
        for it.
        """
        need = int(cells.max()) + 1 - self.begin - self.table.shape[1]
        if need > 0:
            drop = (over - self.begin) // NOISE_BLOCK * NOISE_BLOCK
            blocks = [self._draw() for _ in range(-(-need // NOISE_BLOCK))]
            # Contiguous, or each call below would copy it.
            self.table = torch.cat([self.table, *blocks], 1)[:, drop:].contiguous()
            self.begin += drop
        places = rows * self.table.shape[1] + cells - self.begin
        return self.table.flatten(0, 1).index_select(0, places)

    def _draw(self) -> Tensor:
        block = torch.empty(self.shape)
        for row, generator in zip(block, self.generators, strict=True):
            torch.rand(row.shape, generator=generator, out=row)
        # A quarter of the time that `exponential_` takes. Without the clamp, once in 2^24 the noise
        # is infinite: even a code with probability 1 could not be drawn then.
        return block.clamp_(min=2.0**-25).log_().neg_()
