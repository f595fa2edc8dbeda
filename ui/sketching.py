"""From a sketch: lines that the visitor draws, and the prior fills with codes."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import torch
from PIL import Image

from clip_guidance.prompts import parse
from prior.sketch import PULL, from_text, picture_lines, shifts_of, to_text
from ui import kept
from ui.common import ANSWER, Sentence, TabHandles, heavy, understood
from ui.session import Session
from ui.studio import Studio
from ui.text import add, both, t
from vqgan.images import open_image

STATIC = Path(__file__).parent / "static"
LONGEST = 200  # characters of the words
MOST_PULL = 6  # guidance scale
LIGHT: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", **ANSWER}

add(
    {
        "sketch.tab": ("Sketch", "草图"),
        "sketch.pen": ("Pen", "画笔"),
        "sketch.rubber": ("Eraser", "橡皮"),
        "sketch.undo": ("Undo", "撤销"),
        "sketch.clear": ("Clear", "清空"),
        "sketch.go": ("Fill in", "填充"),
        "sketch.hint": (
            "Draw outlines, or click one of the small sketches. The prior writes codes that fit "
            "the lines; colours are its own choice, or that of your words.",
            "画出轮廓，或点击一张小草图。先验模型写出与线条相符的码；颜色由它决定，或由你的文字决定。",
        ),
        "sketch.ready": ("Small sketches to begin with", "可供开始的小草图"),
        "sketch.words": ("What is it? (may stay empty)", "画的是什么？（可留空）"),
        "sketch.pull": ("How closely to follow the lines", "多大程度遵循线条"),
        "sketch.pull.bad": (
            "“How closely to follow the lines” must be a number from 1 to {most}.",
            "“多大程度遵循线条”必须是 1 到 {most} 之间的数。",
        ),
        "sketch.session": ("Lines of the one in Reconstruct", "“重建”页图片的线条"),
        "sketch.own": ("Lines of a picture…", "某张图片的线条…"),
        "sketch.empty": (
            "Nothing is drawn yet: draw some lines first, or click one of the small sketches.",
            "还没有画任何东西：请先画几笔，或点击一张小草图。",
        ),
        "sketch.bad": (
            "The sketch could not be understood: reload the page and try again.",
            "无法识别草图：请刷新页面后重试。",
        ),
        "sketch.long": (
            "The words have {count} characters: {most} at most, please.",
            "文字有 {count} 个字符：最多 {most} 个。",
        ),
        "sketch.size": (
            "A sketch always becomes {rows} × {columns} codes: the size chosen below counts only "
            "for “From nothing”.",
            "草图固定生成 {rows} × {columns} 个码：下方选择的尺寸只用于“从零开始”。",
        ),
        "sketch.wordless": (
            "This bundle's prior takes no words: leave them empty.",
            "该模型包的先验模型不接受文字：请留空。",
        ),
    }
)


@dataclass(frozen=True)
class Given:
    """What a run keeps to beside codes: a sketch, and perhaps words for it."""

    lines: np.ndarray  # (H, W) bool
    text: str = ""
    pull: float = PULL  # guidance scale
    label: int | None = None  # class of all pictures, where the prior is told one

    note = "one.bits.given"

    def of(self, index: int) -> Given:
        """The same sketch for all."""
        return self

    def drawing(self, studio: Studio, count: int) -> dict:
        """Keyword arguments of `prior.sample.sample`."""
        how = {"shifts": shifts_of(studio.bundle.sketch, self.lines), "cfg_scale": self.pull}
        if self.label is not None:
            return how | {"condition": torch.tensor([self.label]).expand(count)}
        if not self.text:
            return how
        clip, prior = studio.bundle.clip, studio.bundle.prior
        if clip is None or prior.config.embedding_size != clip.embedding_size:
            raise Sentence("sketch.wordless")
        with understood():
            told = studio.bundle.told([self.text])
        return how | {"condition": told.expand(count, -1)}

    def caption(self, index: int) -> None:
        """Nothing stands under a picture: all follow the same lines."""

    def settings(self, index: int) -> dict:
        """What a PNG keeps of it."""
        words = {"text": self.text} if self.text else {}
        words |= {} if self.label is None else {"classes": [self.label]}
        return {"sketch": to_text(self.lines), "cfg_scale": self.pull, **words}


@dataclass(frozen=True)
class Sketching:
    """The canvas, whose `sketch` event carries {asked: {lines: base64, words, pull}}."""

    canvas: gr.HTML
    own: gr.UploadButton
    session: gr.Button


def given(studio: Studio, asked: object, label: int | None = None) -> Given:
    """What came from the browser, checked."""
    asked = asked if isinstance(asked, dict) else {}
    words = asked.get("words")
    try:
        found = from_text(str(asked.get("lines")), studio.bundle.sketch.config.size)
    except ValueError:
        raise Sentence("sketch.bad") from None
    if not found.any():
        raise Sentence("sketch.empty")
    text = words.strip() if isinstance(words, str) else ""
    if len(text) > LONGEST:
        raise Sentence("sketch.long", count=len(text), most=LONGEST)
    if text:
        with understood():
            parse(text)
    pull = asked.get("pull", PULL)
    if isinstance(pull, bool) or not isinstance(pull, (int, float)) or not 1 <= pull <= MOST_PULL:
        raise Sentence("sketch.pull.bad", most=MOST_PULL)
    return Given(found, text, float(pull), label)


def lines_of(studio: Studio, image: Image.Image) -> np.ndarray:
    """The lines of any RGB picture, scaled onto white paper of the prior's size."""
    return picture_lines(image, studio.bundle.sketch.config.size)


_numbers = itertools.count()


def value(studio: Studio, lines: np.ndarray | None) -> dict[str, Any]:
    """What the canvas shows. Never twice the same: the page would not hear of the second."""
    height, width = studio.bundle.sketch.config.size
    shown = None if lines is None else to_text(lines)
    clip, size = studio.bundle.card.get("clip"), studio.bundle.prior.config.embedding_size
    known = {"width": width, "height": height, "pull": PULL, "most": MOST_PULL}
    return known | {"lines": shown, "worded": bool(clip and size), "number": next(_numbers)}


def build(studio: Studio) -> Sketching:
    """The canvas, its tools, and where other lines come from."""
    template = (STATIC / "sketch.html").read_text("utf-8")
    canvas = gr.HTML(
        value(studio, None),
        html_template=re.sub(r"\[\[(.+?)\]\]", lambda m: both(m[1]), template),
        js_on_load=(STATIC / "sketch.js").read_text("utf-8"),
        apply_default_css=False,
        elem_id="sample-sketch",
    )
    with gr.Row():
        own = gr.UploadButton(
            t("sketch.own"), file_types=["image"], size="sm", elem_id="sketch-own"
        )
        session = gr.Button(t("sketch.session"), size="sm", elem_id="sketch-session")
    return Sketching(canvas, own, session)


def connect(studio: Studio, sketch: Sketching, reading: TabHandles) -> None:
    """Lines of a file, or of the picture open in Reconstruct -> the canvas."""

    def from_session(session: Session, picture: str) -> dict[str, Any]:
        kept.check_shown(session, picture)
        return value(studio, lines_of(studio, session.result))

    def from_file(path: str) -> dict[str, Any]:
        return value(studio, lines_of(studio, open_image(path)))

    now = [reading.session, reading.shown]
    sketch.session.click(heavy(from_session), now, sketch.canvas, js=kept.saying(len(now)), **LIGHT)
    sketch.own.upload(heavy(from_file), sketch.own, sketch.canvas, **LIGHT)
