"""Measurements: `python -m bench` (speed) and `python -m bench.quality` (pictures)."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import NamedTuple


class Row(NamedTuple):
    """One comparison; `ours` and `theirs` are medians in `unit`, less is better."""

    what: str
    beside: str
    ours: float
    theirs: float
    unit: str = "s"

    @property
    def faster(self) -> float:
        """How many times faster ours is."""
        return self.theirs / self.ours


def compare(
    ours: Callable[[], object], theirs: Callable[[], object], *, repeats: int
) -> tuple[float, float]:
    """Median seconds of both, run in turn after one warm-up call each."""
    times: tuple[list[float], list[float]] = ([], [])
    for i in range(repeats + 1):
        for function, measured in zip((ours, theirs), times, strict=True):
            start = time.perf_counter()
            function()
            if i:
                measured.append(time.perf_counter() - start)
    return median(times[0]), median(times[1])
