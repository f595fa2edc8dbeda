"""The code grid: a picture with its codes drawn over it, and the tools that change them.

A gr.HTML whose canvas and tools live in static/code_grid.js. It only reports what the visitor
did; see `EVENTS`. Codes change on the server, which answers with a new `value`.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from ui.common import LATEST, data_url
from ui.session import Session
from ui.studio import Studio
from ui.text import add, both
from vqgan.codebook import by_similarity, look, mosaic

STATIC = Path(__file__).parent / "static"

# look {code, cell}, stroke {tool, code, cells}, swap {old, new}, shuffle {}, undo {}, restore {};
# all but the first with {picture}, the one that is shown
EVENTS = ("look", "stroke", "swap", "shuffle", "undo", "restore")

add(
    {
        "grid.name": (
            "The picture as a grid of codes. Arrow keys move from cell to cell, Enter uses the "
            "chosen tool.",
            "以码网格表示的图片。方向键逐格移动，回车使用所选工具。",
        ),
        "grid.palette": (
            "All codes. Arrow keys choose the one of the brush.",
            "全部码。方向键选择画笔的码。",
        ),
        "grid.look": ("Look", "查看"),
        "grid.paint": ("Paint", "绘制"),
        "grid.swap": ("Swap all", "全部替换"),
        "grid.erase": ("Erase", "擦除"),
        "grid.numbers": ("Numbers of the codes", "码的编号"),
        "grid.undo": ("Undo", "撤销"),
        "grid.shuffle": ("Shuffle", "打乱"),
        "grid.restore": ("Start over", "复原"),
        "grid.brush": ("Brush: code", "画笔：码"),
        "grid.wait": (
            "The sheet of all codes is being decoded; cells of the picture work meanwhile: "
            "pick one with Look.",
            "正在解码全部的码；在此期间可以用“查看”从图片中取一个码。",
        ),
        "grid.hint.look": (
            "Click a cell: every cell with the same code lights up.",
            "点击一个格子：所有使用同一个码的格子都会亮起。",
        ),
        "grid.hint.paint": (
            "Drag over cells: they get the brush's code, and the picture is decoded again.",
            "在格子上拖动：它们会换成画笔的码，图片随即重新解码。",
        ),
        "grid.hint.swap": (
            "Click a cell: its code becomes the brush's code everywhere.",
            "点击一个格子：它的码在所有位置都换成画笔的码。",
        ),
        "grid.hint.erase": (
            "Drag over cells: they get the code of plain white paper.",
            "在格子上拖动：它们会换成代表纯白纸面的码。",
        ),
    }
)


_numbers = itertools.count()


def value(studio: Studio, session: Session, picked: int | None = None) -> dict[str, Any]:
    """What the canvas draws. `picked` is the code lit up before the first click.

    Never twice the same, as the page would not hear of the second: a stroke that changes no code
    has its answer as well, which takes its preview away.
    """
    changed = np.argwhere(session.indices != session.encoded)
    width, height = session.size
    return {
        "image": data_url(session.result),
        "width": width,
        "height": height,
        "f": studio.f,
        "codes": studio.codebook_size,
        "grid": session.indices.tolist(),
        "changed": changed.tolist(),
        "undo": len(session.history),
        "blank": studio.blank_code,
        "picked": picked,
        "number": next(_numbers),
        "picture": session.picture,
    }


def palette(studio: Studio) -> Callable[[object], dict[str, Any]]:
    """A function for the browser: every code's decoded cell in one picture, alike ones together."""

    @cache
    def sheet() -> dict[str, Any]:
        cells = studio.cells()
        shipped = studio.statistics
        grid = by_similarity(look(cells)) if shipped is None else shipped.similarity
        return {"image": data_url(mosaic(cells, grid)), "grid": grid.tolist()}

    def palette(_: object) -> dict[str, Any]:  # Gradio passes the browser's arguments as one
        return sheet()

    return palette


def build(studio: Studio, session: Session, picked: int) -> gr.HTML:
    """The component, showing `session` and one of its codes from the start."""
    template = (STATIC / "code_grid.html").read_text("utf-8")
    return gr.HTML(
        value(studio, session, picked),
        html_template=re.sub(r"\[\[(.+?)\]\]", lambda m: both(m[1]), template),
        js_on_load=LATEST + (STATIC / "code_grid.js").read_text("utf-8"),
        server_functions=[palette(studio)],
        apply_default_css=False,
        elem_id="code-grid",
    )
