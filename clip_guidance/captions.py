"""What a picture of the data set can be called: its captions, turned into phrases.

Names seldom say a colour, and people do, so the picture's main colour, measured on its pixels,
goes into some of the phrases.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from training.arrays import read_array
from vqgan import dataset

COLOURS_ZH = {
    "red": "红色",
    "orange": "橙色",
    "yellow": "黄色",
    "green": "绿色",
    "blue": "蓝色",
    "purple": "紫色",
    "pink": "粉色",
    "brown": "棕色",
    "black": "黑色",
    "white": "白色",
    "grey": "灰色",
}
COLOURS = tuple(COLOURS_ZH)
SHARE = 0.45  # of the foreground that a colour must cover to be named
# Upper ends of hue ranges in degrees; beyond the last it is red again.
HUES = ((18, "red"), (37, "orange"), (68, "yellow"), (165, "green"), (250, "blue"))
HUES += ((300, "purple"), (345, "pink"))


def captioned(pictures: Sequence[dataset.Picture]) -> list[dict]:
    """Rows of the manifest. ValueError for a picture without captions."""
    for picture in pictures:
        if not (picture.row or {}).get("captions"):
            raise ValueError(f"{picture.path} has no captions: give a folder made by data.build")
    return [picture.row for picture in pictures]


def concept(row: dict) -> str:
    """What a picture shows, for telling whether another one shows the same: its name by default."""
    return row.get("concept") or row["captions"][0]


def phrase_vectors(path: Path) -> np.ndarray:
    """(P, M, E) float32 as `clip_guidance.conditions` writes them. ValueError for another file."""
    found = read_array(path, "phrases")
    if found.ndim != 3 or not found.size or found.dtype.kind != "f":
        raise ValueError(
            f"{path} holds no phrases: it is {found.dtype} of shape {found.shape}, and not floats "
            "(pictures, phrases, size) as clip_guidance.conditions writes them"
        )
    return found.astype(np.float32)


def main_colour(pixels: np.ndarray, mask: np.ndarray | None = None) -> str | None:
    """The colour that covers most of a picture, if it covers at least 45 %.

    pixels (H, W, 3) uint8; mask (H, W), above 127 where the drawing is; None: where it is not
    nearly white. -> one of `COLOURS`, or None where no colour rules (or nothing is drawn).
    """
    drawn = mask > 127 if mask is not None else pixels.min(-1) < 245
    if drawn.sum() < 16:
        return None
    hsv = np.asarray(Image.fromarray(pixels).convert("HSV"))[drawn].astype(np.float32)
    hue, saturation, value = hsv[:, 0] * (360 / 255), hsv[:, 1] / 255, hsv[:, 2] / 255
    names = np.full(len(hsv), "red", dtype="<U6")
    for end, name in reversed(HUES):
        names[hue < end] = name
    names[(names == "red") & (saturation < 0.55) & (value > 0.75)] = "pink"
    dull = (value < 0.62) & (hue > 8) & (hue < 50)
    names[dull & (saturation >= 0.3)] = "brown"
    plain = saturation < 0.16
    names[plain] = "grey"
    names[plain & (value > 0.88)] = "white"
    names[(value < 0.25) | (plain & (value < 0.35))] = "black"
    found, counts = np.unique(names, return_counts=True)
    best = int(counts.argmax())
    return str(found[best]) if counts[best] >= SHARE * len(names) else None


def article(text: str) -> str:
    """ "apple" -> "an apple"; what starts with an article, a digit or "the" stays."""
    first = text.split(" ", 1)[0].lower()
    if first in ("a", "an", "the") or not first[:1].isalpha():
        return text
    return ("an " if first[0] in "aeiou" else "a ") + text


def coloured(name: str, colour: str | None) -> str:
    """The name with its colour before it, unless it names a colour itself."""
    words = set(re.findall(r"[a-z]+", name.lower()))
    return name if colour is None or words & {*COLOURS, "gray"} else f"{colour} {name}"


def phrases(captions: list[str], colour: str | None = None) -> list[str]:
    """Six English phrases for a picture, from plain to rich; captions: best first, at least one.

    Name; "a" name; "a" colour name; "a drawing of" colour name; the name with its next captions
    (labels, tags, folders); its second name, coloured, where there is one.
    """
    name = captions[0]
    tinted = coloured(name, colour)
    second = captions[1] if len(captions) > 1 and " " in captions[1] else name
    return [
        name,
        article(name),
        article(tinted),
        f"a drawing of {article(tinted)}",
        ", ".join(captions[:4]),
        coloured(second, colour),
    ]


def phrases_zh(captions: list[str], colour: str | None = None) -> list[str]:
    """Chinese phrases: name, "一个" name, colour + 的 + name, further labels; empty without any."""
    if not captions:
        return []
    name = captions[0]
    named = any(word[0] in name for word in COLOURS_ZH.values())
    tinted = name if colour is None or named else f"{COLOURS_ZH[colour]}的{name}"
    return [name, f"一个{name}", tinted, *captions[1:3]]
