"""Arrays in files that a person names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np


def read_array(path: Path, what: str, *, mmap: bool = False) -> np.ndarray:
    """The array in a .npy file. ValueError, which says `what` it should hold, if there is none."""
    try:
        found = np.load(path, allow_pickle=False, mmap_mode="r" if mmap else None)
    except (AttributeError, EOFError, OSError, ValueError) as error:
        raise ValueError(f"{path} holds no {what}: {error}") from error
    if not isinstance(found, np.ndarray):
        raise ValueError(f"{path} holds no {what}: it is an .npz, give a .npy with one array")
    return found


@contextmanager
def several(path: str | os.PathLike) -> Iterator[np.lib.npyio.NpzFile]:
    """The arrays in an .npz, by name. ValueError where there is but one, as in a .npy."""
    found = np.load(path, allow_pickle=False)
    if isinstance(found, np.ndarray):
        raise ValueError("it is one array, not an .npz of several")
    with found:
        yield found
