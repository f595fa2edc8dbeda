"""A picture made from a text, as a PNG that knows how it was made.

Settings and codes stand in the file as text (PNG keys "settings" and "codes", both JSON), as
`prior.sample` writes them.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, fields
from typing import Any, BinaryIO

from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from clip_guidance.guide import GuidanceConfig
from clip_guidance.modes import DrawConfig, Request
from clip_guidance.prompts import MAX_CHARACTERS

KIND = "text to image"
MAX_PIXELS = 4_000_000  # no picture made here has more
CLIP = re.compile(r"(?=.{1,100}$)\w[\w.-]*(/\w[\w.-]*)?")  # its name, or name/weights


def settings(request: Request, **also: Any) -> dict[str, Any]:
    """What it takes to make the same picture again; `also`: bundle, clip, score.

    Of pictures that it began from or went towards only that there were some.
    """
    plain = {"kind": KIND, "prompt": request.prompt, "mode": request.mode}
    given = {name: getattr(request, name) is not None for name in ("picture", "image_prompt")}
    return {**plain, **asdict(request.drawing), **asdict(request.guidance), **given, **also}


def write(path: str | os.PathLike, image: Image.Image, made: dict[str, Any], codes: Tensor) -> None:
    """The picture with its settings and its codes (1, h, w)."""
    info = PngInfo()
    info.add_text("settings", json.dumps(made))
    info.add_text("codes", json.dumps(codes.tolist()))
    image.save(path, "PNG", pnginfo=info)


def read(source: str | os.PathLike | BinaryIO) -> tuple[Request, dict[str, Any]]:
    """The request that a PNG was made by, and all its settings. ValueError if it holds none."""
    try:
        made = _settings(source)
        sampled = "kind" not in made and "prior" in made
        request = None if sampled else _request(made)
    except Exception as error:  # Pillow's readers raise a dozen kinds on foreign bytes
        raise ValueError(
            "this file does not say how it was made: take a PNG that was saved here, unaltered"
        ) from error
    if request is None:
        raise ValueError(
            "this file comes from the Sample tab: take a PNG that was saved in Text to image"
        )
    return request, made


def _settings(source: str | os.PathLike | BinaryIO) -> dict[str, Any]:
    """What a PNG no larger than those written here says; a CLIP that cannot be one is left out."""
    with Image.open(source, formats=["PNG"]) as image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError("it is too large")
        image.load()
        made = json.loads(image.info["settings"], parse_int=_whole)
    if not (isinstance(made.get("clip"), str) and CLIP.fullmatch(made["clip"])):
        made.pop("clip", None)
    return made


def _whole(digits: str) -> int:
    """ValueError for a number that no answer to a browser can hold."""
    number = int(digits)
    if not -(2**63) <= number < 2**63:
        raise ValueError("a number is too large")
    return number


def _request(made: dict[str, Any]) -> Request:
    """ValueError or TypeError for what no picture made here can hold."""
    prompt = made["prompt"]
    if made["kind"] != KIND or not isinstance(prompt, str) or len(prompt) > MAX_CHARACTERS:
        raise ValueError("its settings are of another kind")
    return Request(prompt, made["mode"], _some(DrawConfig, made), _some(GuidanceConfig, made))


def _some(cls: type, made: dict[str, Any]) -> Any:
    names = {f.name for f in fields(cls)}
    return cls(**{k: v for k, v in made.items() if k in names})
