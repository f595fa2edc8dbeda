"""The pictures that the Text-to-image tab opens with, kept in the bundle.

The prompts that the tab offers, each drawn once as a visitor would get it: mode both, seed 0,
every setting as it is. All are kept, none is picked. They belong to the weights that drew them;
`python -m clip_guidance.redraw` makes them anew.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from clip_guidance import record
from clip_guidance.modes import Request

PROMPTS = ("a smiling yellow face", "a blue heart", "红苹果", "a green apple", "红心")
FOLDER = "drawn"  # in a bundle's folder
DRAWING = ("vqgan.safetensors", "prior.safetensors", "clip.json", "clip.safetensors")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Example:
    """One of them."""

    request: Request
    image: Image.Image
    codes: Tensor  # (1, h, w) int64
    score: float


def weights_id(card: dict[str, Any]) -> str:
    """One sha256 for VQGAN, prior and CLIP together, from a bundle's card.

    Whatever else the bundle holds takes no part in what is drawn.
    """
    files = sorted(f for f in card.get("sha256", {}).items() if f[0] in DRAWING)
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()


def read(folder: str | os.PathLike, card: dict[str, Any]) -> list[Example]:
    """A bundle's examples in order; those that other weights drew are left out, and logged."""
    found = []
    for path in sorted((Path(folder) / FOLDER).glob("*.png")):
        try:
            request, made = record.read(path)
            if made.get("weights") != weights_id(card):
                raise ValueError("other weights drew it: run python -m clip_guidance.redraw")
            with Image.open(path) as image:
                picture, codes = image.convert("RGB"), torch.tensor(json.loads(image.info["codes"]))
            found.append(Example(request, picture, codes, float(made["score"])))
        except (ValueError, KeyError) as error:
            log.warning("%s is left out: %s", path, error)
    return found
