"""A picture made from a text, as a PNG that knows how it was made.

Settings and codes stand in the file as text (PNG keys "settings" and "codes", both JSON), as
`prior.sample` writes them.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, fields
from typing import Any, BinaryIO

from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from clip_guidance.guide import GuidanceConfig
from clip_guidance.modes import DrawConfig, Request

KIND = "text to image"


def settings(request: Request, **also: Any) -> dict[str, Any]:
    """What it takes to make the same picture again; `also`: bundle, clip, score."""
    plain = {"kind": KIND, "prompt": request.prompt, "mode": request.mode}
    return {**plain, **asdict(request.drawing), **asdict(request.guidance), **also}


def write(path: str | os.PathLike, image: Image.Image, made: dict[str, Any], codes: Tensor) -> None:
    """The picture with its settings and its codes (1, h, w)."""
    info = PngInfo()
    info.add_text("settings", json.dumps(made))
    info.add_text("codes", json.dumps(codes.tolist()))
    image.save(path, "PNG", pnginfo=info)


def read(source: str | os.PathLike | BinaryIO) -> tuple[Request, dict[str, Any]]:
    """The request that a PNG was made by, and all its settings. ValueError if it holds none."""
    try:
        with Image.open(source, formats=["PNG"]) as image:
            image.load()
            made = json.loads(image.info["settings"])
        if made.get("kind") != KIND:
            raise KeyError("kind")
        request = Request(
            made["prompt"], made["mode"], _some(DrawConfig, made), _some(GuidanceConfig, made)
        )
    except Exception as error:  # Pillow's readers raise a dozen kinds on foreign bytes
        raise ValueError(
            "this file does not say how it was made: take a PNG that was saved here, unaltered"
        ) from error
    return request, made


def _some(cls: type, made: dict[str, Any]) -> Any:
    names = {f.name for f in fields(cls)}
    return cls(**{k: v for k, v in made.items() if k in names})
