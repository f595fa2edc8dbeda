"""What a picture should show: "a red apple | watercolor:0.5 | text:-1" -> prompts and weights.

Parts stand between bars; a number after a part's last colon is its weight (1 where there is none,
negative: away from it). Full-width bars, colons, commas and digits (｜ ： ， ５) are read as their
narrow ones, and an emoji as its name, since text towers have seen few of them.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from clip_guidance.model import Clip

MAX_CHARACTERS = 1000
MAX_PARTS = 16
MAX_WEIGHT = 100.0
WEIGHT = re.compile(r"^(?P<text>.*?)\s*:\s*(?P<weight>[+-]?\s*(?:\d+(?:[.,]\d*)?|[.,]\d+))$", re.S)
BARE = re.compile(r"[+-]\s*\d+|[+-]?\s*\d*[.,]\d+")  # a number that can only be a weight
DASHES = str.maketrans({"−": "-", "–": "-", "—": "-"})
EXAMPLE = "write what the picture should show, such as: a red apple"


class PromptError(ValueError):
    """A prompt that says nothing; `reason` and `values` let a page say it in another language."""

    def __init__(self, reason: str, message: str, **values: object):
        super().__init__(message)
        self.reason, self.values = reason, values


@dataclass(frozen=True)
class Prompt:
    """One thing to go towards, or away from (negative weight)."""

    text: str = ""
    weight: float = 1.0
    image: Tensor | None = None  # (1, 3, H, W) in [-1, 1]: a picture instead of a text

    def __post_init__(self) -> None:
        if self.image is None and not any(c.isalnum() for c in self.text):
            part = self.text[:40]
            raise PromptError("words", f"{part!r} has no words: {EXAMPLE}", part=part)
        if not math.isfinite(self.weight) or abs(self.weight) > MAX_WEIGHT:
            part, most = self.text[:40], f"{MAX_WEIGHT:g}"
            raise PromptError(
                "range",
                f"the weight of {part!r} is {self.weight:g}: it must lie in -{most} to {most}",
                part=part,
                most=most,
            )


@dataclass(frozen=True)
class Targets:
    """Prompts as a CLIP sees them."""

    embeddings: Tensor  # (P, E) float32, unit length
    weights: Tensor  # (P,) float32; absolute values add up to 1

    def similarity(self, embeddings: Tensor) -> Tensor:
        """Weighted cosine of pictures with the prompts: (B, E) -> (B,), at most 1."""
        return embeddings @ self.direction

    @property
    def direction(self) -> Tensor:
        """(E,): the weighted sum of the prompts, not of unit length."""
        return self.weights @ self.embeddings

    def condition(self, n: int) -> Tensor:
        """What a prior is conditioned on: the prompts' sum at unit length, (n, E)."""
        return F.normalize(self.direction, dim=0).expand(n, -1).contiguous()


def parse(text: str, *, alone: bool = True) -> tuple[Prompt, ...]:
    """A visitor's line -> its prompts. ValueError with one sentence if it says nothing.

    "at 12:30" ends in a number after a colon, so 30 is a weight: the last colon decides. A colon
    that no number follows stays in the text. Parts of weight 0 are left out. Where the text does
    not stand `alone` but beside a picture to go towards, it may lead away from all it names.
    """
    if len(text) > MAX_CHARACTERS:
        count, most = f"{len(text):,}", f"{MAX_CHARACTERS:,}"
        message = f"the prompt has {count} characters: {most} are the most"
        raise PromptError("long", message, count=count, most=most)
    parts = [part.strip() for part in spoken(text).split("|")]
    parts = [part for part in parts if part]
    if not parts:
        raise PromptError("empty", f"the prompt is empty: {EXAMPLE}")
    if len(parts) > MAX_PARTS:
        message = f"the prompt has {len(parts)} parts: {MAX_PARTS} are the most"
        raise PromptError("parts", message, count=len(parts), most=MAX_PARTS)
    prompts = tuple(prompt for prompt in map(_part, parts) if prompt.weight)
    if alone:
        check(prompts)
    return prompts


def check(prompts: Sequence[Prompt]) -> None:
    """ValueError unless something has a positive weight."""
    if not any(prompt.weight > 0 for prompt in prompts):
        raise PromptError(
            "negative",
            "every weight is 0 or negative: at least one part must say what the picture should "
            "show, with a weight above 0",
        )


def _part(part: str) -> Prompt:
    plain = part.translate(DASHES)
    found = WEIGHT.match(plain)
    if not found and not BARE.fullmatch(plain):
        return Prompt(part)
    if not found or not found["text"]:
        message = f"{part[:40]!r} is a weight without a text: {EXAMPLE}"
        raise PromptError("weight", message, part=part[:40])
    weight = found["weight"].replace(",", ".").replace(" ", "")
    return Prompt(part[: len(found["text"])], float(weight))


def spoken(text: str) -> str:
    """Narrow forms for full-width ones, emoji as their Unicode names, single spaces."""
    words = []
    for character in unicodedata.normalize("NFKC", text):
        kind = unicodedata.category(character)
        if kind == "So":  # a symbol, such as an emoji
            words.append(f" {unicodedata.name(character, '').lower()} ")
        elif kind in ("Cf", "Mn", "Sk") and ord(character) > 0x2000:
            continue  # joiners, variation selectors, skin tones
        else:
            words.append(" " if kind in ("Cc", "Cs", "Co", "Cn") else character)
    return " ".join("".join(words).split())


@torch.no_grad()
def targets(clip: Clip, prompts: Sequence[Prompt]) -> Targets:
    """The prompts' embeddings, in their order. ValueError if they cancel each other."""
    check(prompts)
    texts = [prompt.text for prompt in prompts if prompt.image is None]
    encoded = iter(clip.encode_text(texts)) if texts else iter(())
    rows = [
        next(encoded) if prompt.image is None else clip.encode_image(prompt.image)[0]
        for prompt in prompts
    ]
    weights = torch.tensor([prompt.weight for prompt in prompts])
    found = Targets(torch.stack(rows).float(), (weights / weights.abs().sum()).to(rows[0].device))
    if found.direction.norm() < 1e-4:
        message = "the parts of the prompt cancel each other: give them unequal weights"
        raise PromptError("cancel", message)
    return found
