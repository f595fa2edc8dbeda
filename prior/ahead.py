"""Several codes a pass: guess those to come, read the guesses at once, keep those that were right.

Reading eight positions costs little more than reading one: the weights come from memory once. And
a cell's noise is fixed by its row's seed, so which code is drawn there depends on nothing but the
codes before it: where a guess turns out to be the code that is drawn, everything read after it was
read rightly, and the grid is the one that writing code by code would have given (up to rounding).
A guess is the code above at first, then what the last pass drew at that cell from guesses before
it. This is Jacobi iteration (Song et al., "Accelerating Feedforward Computation via Parallel
Nonlinear Equation Solving", section 3.1), for pictures with a prior also Teng et al., "Accelerating
Auto-regressive Text-to-Image Generation with Training-free Speculative Jacobi Decoding".
"""

from __future__ import annotations

import torch
from torch import Tensor

Plan = list[tuple[int, int, int]]  # of each cell: top and left of its window, its place in there


def look_ahead(rows: int, dtype: torch.dtype) -> int:
    """Cells of each of `rows` that a pass draws: what was quickest with the shipped prior.

    `dtype` is that of the products. Reading more codes at once is nearly free up to some eight in
    float32 and some fifty in bfloat16 (where native) and int8; beyond, time grows as they do.
    """
    if dtype in (torch.bfloat16, torch.int8):
        return max(1, min(16, 48 // rows))
    return max(1, 12 // rows)


def goes_on(plan: Plan, cell: int) -> bool:
    """Whether the cell after this one goes on in the same window."""
    top, left, place = plan[cell]
    return cell + 1 < len(plan) and plan[cell + 1] == (top, left, place + 1)


def runs(plan: Plan) -> list[tuple[int, int]]:
    """First cell, and the one after the last, of each run of cells that share a window."""
    ends = [cell + 1 for cell in range(len(plan)) if not goes_on(plan, cell)]
    return list(zip([0, *ends], ends, strict=False))


def reach(plan: Plan, free: list[bool], cell: int, ahead: int) -> int:
    """Where a pass that begins at `cell` stops: after `ahead` free cells, or with the window.

    Cells that every row knows cost no guess and do not count.
    """
    stop, count = cell + 1, int(free[cell])
    while count < ahead and goes_on(plan, stop - 1):
        count += free[stop]
        stop += 1
    return stop


def fill(guesses: Tensor, columns: Tensor, width: int) -> Tensor:
    """Put guesses where cells of a pass have none yet: the code above, or else the row's latest.

    guesses (B, cells) int64, -1 where there is none; columns (B, S): cells of each row, one after
    another, all before the first written -> guesses of those cells (B, S).
    """
    found, above = guesses.gather(1, columns), columns - width
    beside = guesses.gather(1, above.clamp(min=0)).masked_fill(above < 0, -1)
    latest = guesses.gather(1, (columns[:, :1] - 1).clamp(min=0)).clamp(min=0)  # (B, 1)
    beside = torch.where(beside < 0, latest, beside)
    found = torch.where(found < 0, beside, found)
    guesses.scatter_(1, columns, found)
    return found


def count_right(guesses: Tensor, drawn: Tensor) -> Tensor:
    """(B,): leading cells of a pass that are, in each row, as they would be cell by cell.

    guesses (B, S - 1): what was read of all cells but the last; drawn (B, S): what came out.
    """
    return (guesses == drawn[:, :-1]).long().cumprod(1).sum(1) + 1
