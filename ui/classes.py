"""Pictures of one class each, where the prior is told a class: named by the visitor, or drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from prior.classes import choose
from ui.studio import Studio
from ui.text import add, both

add(
    {
        "class.label": ("Class", "类别"),
        "class.info": (
            "Of all pictures; empty: the seed picks one for each.",
            "用于所有图片;留空:由种子为每张图片各选一个。",
        ),
        "class.title": ("class {number}", "类别 {number}"),
    }
)


@dataclass(frozen=True)
class Classes:
    """The class of each picture of a run; one for all of them is told to all."""

    labels: tuple[int | None, ...]  # None: of a picture that was brought along

    note = "one.bits.class"

    def label(self, index: int) -> int | None:
        """The class of one picture."""
        return self.labels[0 if len(self.labels) == 1 else index]

    def of(self, index: int) -> Classes | None:
        """What one picture was told."""
        label = self.label(index)
        return None if label is None else Classes((label,))

    def after_original(self) -> Classes:
        """The same with a picture in front that was told none."""
        return self if len(self.labels) == 1 else Classes((None, *self.labels))

    def drawing(self, studio: Studio, count: int) -> dict[str, Any]:
        """Keyword arguments of `prior.sample.sample`."""
        return {"condition": torch.tensor(self.labels).expand(count)}

    def settings(self, index: int) -> dict[str, Any]:
        """What the PNG of one picture keeps."""
        label = self.label(index)
        return {} if label is None else {"classes": [label]}

    def caption(self, index: int) -> str | None:
        """HTML with one picture's class in both languages."""
        label = self.label(index)
        return None if label is None else both("class.title", number=label)


def told(studio: Studio, count: int, seed: int, label: int | None) -> Classes | None:
    """A class for each of `count` pictures; None where the prior takes none."""
    if not studio.bundle.prior.config.classes:
        return None
    return Classes(tuple(choose(studio.bundle.prior, count, seed, label).tolist()))


def again(studio: Studio, labels: Sequence[int]) -> Classes | None:
    """What a file of `prior.sample` was told; None if this prior knows no such class."""
    known = range(studio.bundle.prior.config.classes)
    return Classes(tuple(labels)) if all(label in known for label in labels) else None
