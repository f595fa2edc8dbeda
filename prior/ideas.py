"""Something to draw for each picture, so that "from nothing" has a subject.

p(s) = sum over y of p(y) p(s | y): first draw what the picture shows, then the picture. Li et al.,
"Return of Unconditional Generation" (section 3) do so with a diffusion model over image embeddings.
Here p(y) is uniform over the titles that several artists of the training pictures drew, and y is
the title's text embedding, which the prior is conditioned on. `python -m prior.ideas` writes them
beside a model.
"""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

FILE = "ideas.npz"  # in a bundle's folder
ARTISTS = 4  # sets of pictures that must have drawn a title: what one drew is not known well
STREAM = 0x1DEA  # apart from the noise of the codes, which has the same seeds
PULL = 4.0  # guidance scale, as in text to image
BROKEN = (OSError, EOFError, KeyError, TypeError, ValueError)


class Idea(NamedTuple):
    """A title, in English and in Chinese (empty where there is none)."""

    text: str
    zh: str = ""


def collect(rows: Iterable[dict], artists: int = ARTISTS) -> list[Idea]:
    """The titles that at least so many sets of training pictures share, in alphabetical order.

    rows  as a `prior.tokens.TokenSet` has them; a title is a picture's first caption
    """
    sets, chinese = defaultdict(set), {}
    for row in rows:
        title = _title(row)
        if title is None or not row.get("set"):
            continue
        sets[title].add(row["set"])
        chinese.setdefault(title, next(iter(row.get("captions_zh") or []), ""))
    return [Idea(t, chinese[t]) for t in sorted(sets) if len(sets[t]) >= artists]


def _title(row: dict) -> str | None:
    """What a training picture is called; None for one that is held out or has no name."""
    named = row["split"] == "train" and row.get("captions")
    return row["captions"][0].lower() if named else None


def places(rows: Sequence[dict], ideas: Sequence[Idea]) -> list[list[int]]:
    """For each idea the rows of the training pictures that it is the title of."""
    found = defaultdict(list)
    for place, row in enumerate(rows):
        found[_title(row)].append(place)
    return [found[idea.text] for idea in ideas]


def save(path: str | os.PathLike, ideas: Sequence[Idea], conditions: np.ndarray) -> int:
    """Write ideas and what the prior is told of each, (n, E) floats -> bytes of the file."""
    text = zlib.compress(json.dumps(ideas, ensure_ascii=False).encode(), 9)
    arrays = {"ideas": np.frombuffer(text, np.uint8), "conditions": conditions.astype(np.float16)}
    with open(path, "wb") as file:
        np.savez(file, **arrays)
    return Path(path).stat().st_size


@dataclass(frozen=True)
class Ideas:
    """All there is to draw, and how the prior is told."""

    all: tuple[Idea, ...]
    conditions: np.ndarray  # (n, E) float32

    @classmethod
    def load(cls, folder: str | os.PathLike) -> Ideas:
        """The ideas beside a model. FileNotFoundError without any, ValueError for another file."""
        path = Path(folder) / FILE
        try:
            with np.load(path, allow_pickle=False) as arrays:
                pairs = json.loads(zlib.decompress(arrays["ideas"].tobytes()))
                conditions = arrays["conditions"].astype(np.float32)
            ideas = tuple(Idea(*map(str, pair)) for pair in pairs)
        except FileNotFoundError:
            raise
        except (*BROKEN, zlib.error, zipfile.BadZipFile) as error:
            raise ValueError(f"{path} holds no ideas: {error}") from error
        if not ideas or conditions.ndim != 2 or len(ideas) != len(conditions):
            raise ValueError(f"{path} holds no ideas: titles and conditions do not fit")
        return cls(ideas, conditions)

    def check(self, size: int) -> None:
        """ValueError unless a prior takes conditions of this length."""
        if self.conditions.shape[1] != size:
            raise ValueError(
                f"the ideas are {self.conditions.shape[1]} numbers long, and this prior takes "
                f"{size or 'no condition'}: make its own with python -m prior.ideas"
            )

    def think(self, n: int, seed: int) -> np.ndarray:
        """One of `all` for each of n pictures, (n,) int64: its place.

        Picture i's depends on seed + i only, as its codes do.
        """
        count = len(self.all)
        picks = [np.random.default_rng([STREAM, seed + i]).integers(count) for i in range(n)]
        return np.array(picks, dtype=np.int64)


if __name__ == "__main__":
    from prior.titles import main

    main()
