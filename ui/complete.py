"""Completing a picture: the visitor keeps some of its codes, and the prior writes the others."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import torch
from PIL import Image

from prior.sheet import decode
from ui.common import Sentence, data_url
from ui.session import Session
from ui.studio import Studio
from ui.text import add, both
from vqgan.images import letterbox, open_image, to_tensor

STATIC = Path(__file__).parent / "static"

add(
    {
        "complete.rows": ("Rows", "行"),
        "complete.erase": ("Erase", "擦除"),
        "complete.keep": ("Keep", "保留"),
        "complete.half": ("Upper half", "上半部"),
        "complete.all": ("Keep all", "全部保留"),
        "complete.go": ("Complete", "补全"),
        "complete.hint": (
            "Hatched cells will be written anew. Rows: click where that begins, or use ↑ and ↓; "
            "Erase and Keep: draw, or use arrows and Enter. The prior writes row by row and cannot "
            "look ahead, so cells above a kept part join it by chance: several are written, and "
            "the likeliest come first.",
            "带斜线的格子将被重新书写。“行”：点击从哪一行开始，或用 ↑ 和 ↓；"
            "“擦除”和“保留”：用画笔，或用方向键和回车。"
            "先验模型逐行书写，看不到后面，所以保留部分上方的格子只能碰巧衔接：因此会写多张，似然最高的排在最前。",
        ),
        "complete.none": (
            "Nothing is erased, so there is nothing to write: erase some cells first.",
            "没有擦除任何格子，无可书写：请先擦除一些。",
        ),
        "complete.mask": (
            "What was erased could not be understood: reload the page and try again.",
            "无法识别擦除的部分：请刷新页面后重试。",
        ),
        "complete.own": ("Another picture…", "其他图片…"),
        "complete.session": ("The one in Reconstruct", "“重建”页的图片"),
    }
)


@dataclass(frozen=True)
class Source:
    """A picture to complete, as the codes the prior reads."""

    grid: np.ndarray  # (h, w) int64, of the size the prior was trained on
    picture: np.ndarray  # (H, W, 3) uint8, their decode
    own: bool  # a file of the visitor's, not the picture open in Reconstruct


def encoded(studio: Studio, image: Image.Image, own: bool) -> Source:
    """Any RGB picture, scaled onto white paper of the prior's size, as codes."""
    cfg = studio.bundle.prior.config
    page = letterbox(image, (cfg.width * studio.f, cfg.height * studio.f))
    with torch.inference_mode():
        indices = studio.vqgan.encode(to_tensor(page).to(studio.device)).indices.cpu()
    return Source(indices[0].numpy(), decode(studio.vqgan, indices)[0], own)


def from_file(studio: Studio, path: str) -> Source:
    """The visitor's own file. ValueError with a sentence if it is no picture."""
    return encoded(studio, open_image(path), own=True)


def from_session(studio: Studio, session: Session) -> Source:
    """The picture open in Reconstruct: its codes as painted where they fit, else encoded anew."""
    cfg = studio.bundle.prior.config
    if session.indices.shape == (cfg.height, cfg.width):
        size = (cfg.width * studio.f, cfg.height * studio.f)
        if session.size == size:
            return Source(session.indices, np.asarray(session.result), own=False)
    return encoded(studio, session.result, own=False)


def known(source: Source, free: object) -> np.ndarray:
    """(h, w) int64: the kept codes, -1 where `free`, "0110..." in raster order, has a 1."""
    if not isinstance(free, str) or not re.fullmatch("[01]*", free):
        raise Sentence("complete.mask")
    if len(free) != source.grid.size:
        raise Sentence("complete.mask")
    if "1" not in free:
        raise Sentence("complete.none")
    mask = np.array([c == "1" for c in free]).reshape(source.grid.shape)
    return np.where(mask, -1, source.grid)


def value(source: Source | None) -> dict[str, Any]:
    """What the canvas draws."""
    if source is None:
        return {"image": None}
    rows, columns = source.grid.shape
    return {"image": data_url(source.picture), "rows": rows, "columns": columns}


def build() -> gr.HTML:
    """The canvas and its tools; its `complete` event carries {free: "0110..."}, in raster order."""
    template = (STATIC / "complete.html").read_text("utf-8")
    return gr.HTML(
        value(None),
        html_template=re.sub(r"\[\[(.+?)\]\]", lambda m: both(m[1]), template),
        js_on_load=(STATIC / "complete.js").read_text("utf-8"),
        apply_default_css=False,
        elem_id="sample-mask",
    )
