"""What a grid's codes are drawn from: the prior, reading the codes before them window by window."""

from __future__ import annotations

import torch
from torch import Tensor

from prior.decode import Cache, Packed, read
from prior.model import GPT


def windows(
    size: tuple[int, int], trained: tuple[int, int], stride: int = 1
) -> list[tuple[int, int, int]]:
    """For each cell of a grid in raster order: top and left of its window, its place in the window.

    The paper's sliding window (section 3.2): the cell sits in the middle of a window of the
    `trained` size, or off it where the window would leave the grid. With `stride` s the window
    stays for s cells of a row, so that they are read once and not s times.
    """
    (height, width), (h, w) = size, trained
    plan = []
    for i in range(height):
        top = min(max(i - h // 2, 0), height - h)
        left = since = -stride
        for j in range(width):
            wanted = min(max(j - w // 2, 0), width - w)
            if wanted != left and (j - since >= stride or j - left >= w):
                left, since = wanted, j
            plan.append((top, left, (i - top) * w + j - left))
    return plan


class Reader:
    """The prior's view of one window of the grids: feed it codes, get logits of the next ones.

    With guidance every row is read twice, with what it is given (a condition, a sketch, or both)
    and with neither. All logits come back as a pair, both (B, S, K): guided ones to draw from,
    plain ones to measure likelihood with.
    """

    def __init__(
        self,
        prior: GPT,
        weights: Packed,
        batch: int,
        condition: Tensor | None,
        scale: float,
        shifts: Tensor | None = None,
    ):
        self.weights, self.batch, self.scale = weights, batch, scale
        self.twice = scale != 1
        prefix = prior.embed_prefix(batch)
        if condition is not None:  # one by one: in float32 a row's bits depend on the batch
            prefix = torch.cat([prior.embed_prefix(1, row[None]) for row in condition])
        if self.twice:
            prefix = torch.cat([prefix, prior.embed_prefix(batch)])
        self.prefix = prefix.to(weights.codes.dtype)  # (rows, 0 or 1, dim)
        self.shifts = None if shifts is None else self._shared(shifts.to(weights.codes.dtype))

    def _shared(self, shifts: Tensor) -> tuple[Tensor, Tensor]:
        """Shifts as `read` takes them: a table of sketches and each row's place in it (rows, 1).

        One sketch for all rows is kept once. With guidance a last entry of zeros is for the rows
        that are given nothing.
        """
        own = torch.arange(self.batch, device=shifts.device) % len(shifts)
        if self.twice:
            own = torch.cat([own, torch.full_like(own, len(shifts))])
        return torch.cat([shifts, torch.zeros_like(shifts[:1])]), own[:, None]

    def restart(self, tokens: Tensor, last: int = 1) -> tuple[Tensor, Tensor]:
        """Begin a window with these codes (B, S), S >= 0.

        -> logits (B, last, K): those that predict the last `last` - 1 of these codes, and those of
        the code that comes next.
        """
        self.cache = Cache(self.weights, len(self.prefix))
        x = torch.cat([self.prefix, self._embed(tokens)], 1)
        if not x.shape[1]:  # nothing precedes the first code: it is uniform
            logits = x.new_zeros(self.batch, 1, self.weights.config.codebook_size)
            return logits, logits
        start = torch.zeros(self.batch, dtype=torch.int64, device=x.device)
        return self._read(x, start, last)

    def feed(self, tokens: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
        """Read codes (B, S), S >= 1 -> logits (B, S, K) of the code after each.

        at  (B,) int64: place in the window of each row's first one; what was read there or later
            is forgotten
        """
        return self._read(self._embed(tokens), at + self.prefix.shape[1], tokens.shape[1])

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows only, (n,) int64, to the end of the window."""
        own = torch.cat([rows, rows + self.batch]) if self.twice else rows
        self.batch = len(rows)
        self.cache.keep(own)
        if self.shifts is not None:
            self.shifts = self.shifts[0], self.shifts[1][own]

    def _embed(self, tokens: Tensor) -> Tensor:
        codes = self.weights.codes[tokens]  # (B, S, dim)
        return torch.cat([codes, codes]) if self.twice else codes

    def _read(self, x: Tensor, at: Tensor, last: int) -> tuple[Tensor, Tensor]:
        at = torch.cat([at, at]) if self.twice else at
        logits = read(self.weights, self.cache, x, at, self.shifts)[:, -last:]
        if not self.twice:
            return logits, logits
        plain, free = logits.float().chunk(2)
        return free + self.scale * (plain - free), plain
