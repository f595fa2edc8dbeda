"""Files with one array, and with several: either in the other's place is a sentence."""

from __future__ import annotations

import numpy as np
import pytest

from prior.ideas import FILE, Ideas
from prior.nearest import Training
from training.arrays import read_array, several
from vqgan.codebook.statistics import CodeStatistics


def test_several_arrays_come_by_name(tmp_path):
    np.savez(tmp_path / "s.npz", a=np.arange(3), b=np.ones(2))
    with several(tmp_path / "s.npz") as found:
        assert found.files == ["a", "b"] and found["a"].tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="holds no codes: it is an "):
        read_array(tmp_path / "s.npz", "codes")


def test_one_array_under_a_name_for_several(tmp_path):
    """What reads such a file says what it was looking for."""
    path = tmp_path / FILE
    with path.open("wb") as file:
        np.save(file, np.arange(3))
    for load, place, lack in (
        (CodeStatistics.load, path, "is not a file of code statistics"),
        (Training.load, path, "is no index of training pictures"),
        (Ideas.load, tmp_path, "holds no ideas"),
    ):
        with pytest.raises(ValueError, match=rf"{lack}: it is one array, not an \.npz of several"):
            load(place)
