"""The training time-lapse: the same held-out pictures, and the codebook, from start to end.

Shown where a bundle's folder has timelapse/index.json: {"another_run": whether the bundle's own
weights came from other runs, "moments": [{"file", "minutes", "step", "codes": whether the codebook
of that moment was kept, "psnr": dB, "losses": of pixels, vgg, gan}]}.
"""

from __future__ import annotations

import base64
import json
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from ui.text import add, both

log = logging.getLogger(__name__)
STATIC = Path(__file__).parent / "static"
FOLDER, INDEX = "timelapse", "index.json"
LOSSES = ("pixels", "vgg", "gan")

add(
    {
        "timelapse.title": ("How it learned", "它是怎样学会的"),
        "timelapse.note": (
            "Held-out pictures, each above what came back of it, and beside them every code, "
            "decoded as the model then stood (blank while there were no codes yet). Drag from "
            "minute {first} to minute {last}, of {total} in all.",
            "每张未参与训练的图片下方是它的重建结果，右边是当时的模型解码出的全部码"
            "（尚无码本时为空白）。"
            "拖动滑块，从第 {first} 分钟到第 {last} 分钟（共 {total} 分钟）。",
        ),
        "timelapse.pictures": (
            "Held-out pictures, each above what came back of it. Drag from minute {first} to "
            "minute {last}, of {total} in all.",
            "每张未参与训练的图片下方是它的重建结果。拖动滑块，从第 {first} 分钟到第 {last} 分钟"
            "（共 {total} 分钟）。",
        ),
        "timelapse.another": (
            "This is a second run of the same recipe, made for this slider: its codes are not "
            "those above. Held-out pictures, each above what came back of it, and beside them "
            "every code, decoded as the model then stood (blank while there were no codes yet). "
            "Drag from minute {first} to minute {last}.",
            "这是为此滑块用同样方法另行训练的一次，其码本与上方的不同。每张未参与训练的图片下方是"
            "它的重建结果，右边是当时的模型解码出的全部码（尚无码本时为空白）。"
            "拖动滑块，从第 {first} 分钟到第 {last} 分钟。",
        ),
        "timelapse.play": ("Play", "播放"),
    }
)


@dataclass(frozen=True)
class Frame:
    """One moment of the training."""

    path: Path
    minutes: float
    step: int
    codes: bool
    psnr: float | None  # dB
    losses: tuple[str, ...]


@dataclass(frozen=True)
class Lapse:
    """The moments a bundle keeps, in order."""

    frames: list[Frame]
    another_run: bool  # than the one that the bundle's weights came from


def lapse(bundle: Path) -> Lapse | None:
    """The time-lapse of a bundle; None where it has none or the index is broken."""
    folder = bundle / FOLDER
    if not (folder / INDEX).is_file():
        return None
    try:
        index = json.loads((folder / INDEX).read_text("utf-8"))
        found = [
            Frame(
                path=folder / Path(row["file"]).name,
                minutes=float(row["minutes"]),
                step=int(row["step"]),
                codes=bool(row["codes"]),
                psnr=None if row.get("psnr") is None else float(row["psnr"]),
                losses=tuple(name for name in LOSSES if name in row.get("losses", ())),
            )
            for row in index["moments"]
        ]
        found = sorted((f for f in found if f.path.is_file()), key=lambda frame: frame.minutes)
        return Lapse(found, bool(index["another_run"])) if found else None
    except (OSError, AttributeError, TypeError, KeyError, ValueError) as error:
        log.warning("the time-lapse is left out: %s cannot be read: %s", folder / INDEX, error)
        return None


def _frame(found: list[Frame]) -> Callable[[object], str]:
    """A function for the browser: the picture of one moment."""

    def frame(number: object) -> str:
        index = number % len(found) if isinstance(number, int) else 0  # anybody can ask anything
        data = found[index].path.read_bytes()
        return "data:image/webp;base64," + base64.b64encode(data).decode()

    return frame


def build(bundle: Path, hours: float = 0.0) -> gr.HTML | None:
    """The slider, or None where there is nothing to show. `hours`: of all training, where known."""
    whole = lapse(bundle)
    if whole is None:
        return None
    found = whole.frames
    template = (STATIC / "timelapse.html").read_text("utf-8")
    first, last = round(found[0].minutes), round(found[-1].minutes)
    minutes = {"first": first, "last": last, "total": max(round(hours * 60), last)}
    kept = any(frame.codes for frame in found)
    key = "another" if whole.another_run else "note" if kept else "pictures"
    note = both(f"timelapse.{key}", **minutes)
    template = template.replace("[[timelapse.note]]", note)
    value: list[dict[str, Any]] = [
        {"minutes": f.minutes, "step": f.step, "psnr": f.psnr, "losses": f.losses} for f in found
    ]
    return gr.HTML(
        value,
        html_template=re.sub(r"\[\[(.+?)\]\]", lambda m: both(m[1]), template),
        js_on_load=(STATIC / "timelapse.js").read_text("utf-8"),
        server_functions=[_frame(found)],
        apply_default_css=False,
        elem_id="timelapse",
    )
