"""Pictures that each have a subject of their own: drawn first, shown under the picture."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from prior.ideas import PULL, Idea, Ideas
from ui.studio import Studio
from ui.text import add, both

log = logging.getLogger(__name__)

add(
    {
        "ideas.first": ("First an idea, then the picture", "先想好画什么，再画"),
        "ideas.info": (
            "The seed picks a title that several artists drew, and the prior is told. "
            "Off: nothing but codes.",
            "由种子选出多位画家画过的一个标题，并告诉先验模型。关闭：只有码。",
        ),
        "ideas.title": ("{title}", "{title}"),
        "ideas.missing": (
            "This bundle holds no ideas: switch “First an idea” off.",
            "该模型包没有可用的标题：请关闭“先想好画什么”。",
        ),
    }
)


@dataclass(frozen=True)
class Told:
    """What each picture of a run is told; one idea for all of them is told to all."""

    ideas: tuple[Idea, ...]
    conditions: torch.Tensor  # (as many, E)
    source: str  # `prior.ideas.Ideas.id`
    pull: float = PULL  # guidance scale

    note = "one.bits.idea"

    def idea(self, index: int) -> Idea:
        return self.of(index).ideas[0]

    def of(self, index: int) -> Told:
        """What one picture was told."""
        if len(self.ideas) == 1:
            return self
        one = self.conditions[index : index + 1]
        return Told((self.ideas[index],), one, self.source, self.pull)

    def drawing(self, studio: Studio, count: int) -> dict:
        """Keyword arguments of `prior.sample.sample`."""
        return {"condition": self.conditions.expand(count, -1), "cfg_scale": self.pull}

    def settings(self, index: int) -> dict:
        """What the PNG of one picture keeps."""
        told = {"ideas": [self.idea(index).text], "ideas_id": self.source}
        return told | {"cfg_scale": self.pull}

    def caption(self, index: int) -> str:
        """HTML with one picture's idea in both languages."""
        idea = self.idea(index)
        return both("ideas.title", title=(idea.text, idea.zh or idea.text))


@dataclass(frozen=True)
class Source:
    """The ideas beside a bundle, read when they are first wanted."""

    studio: Studio

    @cached_property
    def ideas(self) -> Ideas | None:
        """None where the bundle ships none, or its prior takes no such condition."""
        prior = self.studio.bundle.prior
        try:
            found = Ideas.load(self.studio.bundle.path)
            found.check(prior.config.embedding_size, self.studio.bundle.card)
        except FileNotFoundError:
            return None
        except ValueError as error:
            log.warning("ideas are left out: %s", error)
            return None
        return found

    def told(self, count: int, seed: int) -> Told | None:
        """An idea for each of `count` pictures; None where there are none."""
        if self.ideas is None:
            return None
        return self._told(self.ideas.think(count, seed), PULL)

    def again(self, settings: dict) -> Told | None:
        """What a file of `prior.sample --ideas` was told; None if that was from other ideas."""
        if self.ideas is None or settings.get("ideas_id") != self.ideas.id:
            return None
        places = {idea.text: n for n, idea in enumerate(self.ideas.all)}
        return self._told([places[title] for title in settings["ideas"]], settings["cfg_scale"])

    def _told(self, picks: Sequence[int], pull: float) -> Told:
        chosen = tuple(self.ideas.all[i] for i in picks)
        return Told(chosen, torch.from_numpy(self.ideas.conditions[picks]), self.ideas.id, pull)
