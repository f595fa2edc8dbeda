"""A few of many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def spread(items: np.ndarray | Sequence[Any], count: int) -> Any:
    """At most `count` of them, evenly from the first to the last, always the same ones.

    An array of an array, a list of anything else.
    """
    picks = np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)
    return items[picks] if isinstance(items, np.ndarray) else [items[i] for i in picks]
