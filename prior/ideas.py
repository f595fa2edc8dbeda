"""Something to draw for each picture, so that "from nothing" has a subject.

p(s) = sum over y of p(y) p(s | y): first draw what the picture shows, then the picture. Li et al.,
"Return of Unconditional Generation" (section 3) do so with a diffusion model over image embeddings.
Here p(y) is uniform over the titles that several artists of the training pictures drew, and y is a
condition in the space that the prior was trained with: the mean of those of a title's drawings, or
its text embedding alone. `python -m prior.ideas` writes both beside a model.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from training.arrays import several
from training.files import replacing

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
        chinese[title] = chinese.get(title) or next(iter(row.get("captions_zh") or []), "")
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


def clip_id(card: dict) -> str:
    """sha256 of a bundle's CLIP, from its card, "" for none: in whose space conditions are."""
    return card.get("sha256", {}).get("clip.safetensors", "")


@dataclass(frozen=True)
class Ideas:
    """All there is to draw, and how the prior is told."""

    all: tuple[Idea, ...]
    conditions: np.ndarray  # (n, E) float32
    clip: str = ""  # `clip_id` of the CLIP that they are from

    @cached_property
    def id(self) -> str:
        """Twelve hex digits: which list of ideas and conditions a file of samples was told from."""
        told = self.conditions.astype(np.float16).tobytes()
        return hashlib.sha256(json.dumps(self.all).encode() + told).hexdigest()[:12]

    def save(self, folder: str | os.PathLike) -> int:
        """Write them beside a model -> bytes of the file."""
        text = zlib.compress(json.dumps(self.all, ensure_ascii=False).encode(), 9)
        path = Path(folder) / FILE
        with replacing(path) as file:
            np.savez(
                file,
                ideas=np.frombuffer(text, np.uint8),
                conditions=self.conditions.astype(np.float16),
                clip=np.array(self.clip),
            )
        return path.stat().st_size

    @classmethod
    def load(cls, folder: str | os.PathLike) -> Ideas:
        """The ideas beside a model. FileNotFoundError without any, ValueError for another file."""
        path = Path(folder) / FILE
        try:
            with several(path) as arrays:
                pairs = json.loads(zlib.decompress(arrays["ideas"].tobytes()))
                conditions, clip = arrays["conditions"].astype(np.float32), str(arrays["clip"])
            ideas = tuple(Idea(*map(str, pair)) for pair in pairs)
        except FileNotFoundError:
            raise
        except (*BROKEN, zlib.error, zipfile.BadZipFile) as error:
            raise ValueError(f"{path} holds no ideas: {error}") from error
        if not ideas or conditions.ndim != 2 or len(ideas) != len(conditions):
            raise ValueError(f"{path} holds no ideas: titles and conditions do not fit")
        return cls(ideas, conditions, clip)

    def check(self, size: int, card: dict) -> None:
        """ValueError unless a prior takes conditions of this length, of the CLIP in its card."""
        if not np.isfinite(self.conditions).all():
            raise ValueError(
                "the ideas' conditions hold numbers that are not finite: make new ones"
            )
        if self.conditions.shape[1] != size:
            raise ValueError(
                f"the ideas are {self.conditions.shape[1]} numbers long, and this prior takes "
                f"{size or 'no condition'}: make its own with python -m prior.ideas"
            )
        if self.clip != clip_id(card):
            raise ValueError(
                "the ideas were made with another CLIP: make new ones with python -m prior.ideas"
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
