"""Pictures of one class each, where the prior is told a class: named by the visitor, or drawn."""

from __future__ import annotations

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
            "Of all pictures. Empty: “From nothing” lets the seed pick one for each; otherwise "
            "none.",
            "用于所有图片。留空：从零开始时由种子为每张图片各选一个；其他情况不指定。",
        ),
        "class.title": ("class {number}", "类别 {number}"),
    }
)


@dataclass(frozen=True)
class Classes:
    """The class of each picture of a run; one for all of them is told to all."""

    labels: tuple[int, ...]
    pull: float = 1.0  # guidance scale

    note = "one.bits.class"

    def label(self, index: int) -> int:
        """The class of one picture."""
        return self.labels[0 if len(self.labels) == 1 else index]

    def of(self, index: int) -> Classes:
        """What one picture was told."""
        return Classes((self.label(index),), self.pull)

    def drawing(self, studio: Studio, count: int) -> dict[str, Any]:
        """Keyword arguments of `prior.sample.sample`."""
        return {"condition": torch.tensor(self.labels).expand(count), "cfg_scale": self.pull}

    def settings(self, index: int) -> dict[str, Any]:
        """What the PNG of one picture keeps."""
        return {"classes": [self.label(index)], "cfg_scale": self.pull}

    def caption(self, index: int) -> str:
        """HTML with one picture's class in both languages."""
        return both("class.title", number=self.label(index))


def drawn(studio: Studio, count: int, seed: int, label: int | None) -> Classes | None:
    """A class for each of `count` pictures; None where the prior takes none."""
    if not studio.bundle.prior.config.classes:
        return None
    return Classes(tuple(choose(studio.bundle.prior, count, seed, label).tolist()))


def named(label: int | None) -> Classes | None:
    """The class that the visitor named, for all pictures; None for none."""
    return None if label is None else Classes((label,))


def again(studio: Studio, settings: dict) -> Classes | None:
    """What a file of `prior.sample` was told; None if it says more than this prior knows."""
    labels, known = settings["classes"], range(studio.bundle.prior.config.classes)
    if "sketch" in settings or not labels or not all(label in known for label in labels):
        return None
    return Classes(tuple(labels), settings["cfg_scale"])
