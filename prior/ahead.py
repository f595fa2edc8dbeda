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

from torch import Tensor

Plan = list[tuple[int, int, int]]  # of each cell: top and left of its window, its place in there


def look_ahead(rows: int) -> int:
    """Cells a pass looks at. All rows must agree on how many were right, so only one row gains."""
    return 12 if rows == 1 else 1


def goes_on(plan: Plan, cell: int) -> bool:
    """Whether the cell after this one goes on in the same window."""
    top, left, place = plan[cell]
    return cell + 1 < len(plan) and plan[cell + 1] == (top, left, place + 1)


def reach(plan: Plan, free: list[bool], cell: int, ahead: int) -> int:
    """Where a pass that begins at `cell` stops: after `ahead` free cells, or with the window.

    Cells that every row knows cost no guess and do not count.
    """
    stop, count = cell + 1, int(free[cell])
    while count < ahead and goes_on(plan, stop - 1):
        count += free[stop]
        stop += 1
    return stop


def fill(guesses: Tensor, cell: int, stop: int, width: int) -> None:
    """Put the code above, or the code before it, where cells in cell..stop - 1 have no guess yet.

    guesses (B, cells) int64, -1 where there is none; cells before `cell` are written ones.
    """
    for i in range(cell, stop):
        beside = guesses[:, i - width] if i >= width else guesses[:, i - 1] if i else 0
        guesses[:, i] = guesses[:, i].where(guesses[:, i] >= 0, beside)


def count_right(guesses: Tensor, drawn: Tensor) -> int:
    """Leading cells of a pass that are as they would be cell by cell, in every row.

    guesses (B, S - 1): what was read of all cells but the last; drawn (B, S): what came out.
    """
    wrong = (guesses != drawn[:, :-1]).any(0).tolist()
    return [*wrong, True].index(True) + 1
