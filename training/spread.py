"""A few of many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar, overload

import numpy as np

T = TypeVar("T")


@overload
def spread(items: np.ndarray, count: int) -> np.ndarray: ...


@overload
def spread(items: Sequence[T], count: int) -> list[T]: ...


def spread(items: np.ndarray | Sequence[T], count: int) -> np.ndarray | list[T]:
    """At most `count` of them, evenly from the first to the last, always the same ones."""
    picks = np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)
    return items[picks] if isinstance(items, np.ndarray) else [items[i] for i in picks]
