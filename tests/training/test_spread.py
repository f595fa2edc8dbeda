"""Evenly spread picks: the ends among them, each once, of what kind they were."""

from __future__ import annotations

import numpy as np
import pytest

from training.spread import spread


@pytest.mark.parametrize(
    ("count", "wanted"),
    [(0, []), (1, [0]), (2, [0, 9]), (4, [0, 3, 6, 9]), (10, [*range(10)]), (99, [*range(10)])],
)
def test_first_and_last_and_evenly_between(count, wanted):
    assert spread(range(10), count) == wanted
    assert spread(np.arange(10), count).tolist() == wanted


def test_none_of_none():
    assert spread([], 3) == [] and not len(spread(np.zeros(0, int), 3))
