"""The surprise map: what each code of the visitor's picture costs under the prior, in bits."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import partial
from html import escape
from pathlib import Path

import gradio as gr
import numpy as np
import torch
from PIL import Image

from prior.checks import MAX_CELLS
from prior.likelihood import bits_per_cell
from prior.reader import windows
from ui import compute, kept
from ui.common import AFTER, ANSWER, data_url, friendly
from ui.panels import colours, gradient
from ui.session import Session
from ui.studio import Studio
from ui.text import add, both

STATIC = Path(__file__).parent / "static"
SIDE = 420  # CSS pixels of the map's longer side
STRIDE = 4  # cells that the window moves at a time: a quarter of the paper's work
TOP = 1.5  # the brightest colour, in multiples of what a code costs if nothing is known

add(
    {
        "surprise.title": ("What surprises the prior", "先验觉得意外之处"),
        "surprise.note": (
            "Bits each code costs under the prior, which reads row by row and knows only the codes "
            "before it. Dark: it saw the code coming. Bright: a surprise. {total} bits in all, "
            "{mean} a code; knowing nothing, each would cost {plain}. Click a cell for its code.",
            "每个码在先验下花费的比特。先验逐行阅读，只知道前面的码。暗：早已料到。亮：感到意外。"
            "总共 {total} 比特，平均每个码 {mean} 比特；若一无所知，每个要花 {plain} 比特。"
            "点击格子可查看其码。",
        ),
        "surprise.name": (
            "Bits that each code costs. Arrow keys move from cell to cell, Enter picks the code.",
            "每个码花费的比特。方向键逐格移动，回车选取该码。",
        ),
        "surprise.unknown": ("{plain}: no idea", "{plain}：一无所知"),
        "surprise.small": (
            "The prior learned grids of {height} × {width} codes and reads nothing smaller; this "
            "picture has {rows} × {columns}.",
            "先验学的是 {height} × {width} 个码的网格，无法阅读更小的；"
            "这张图片是 {rows} × {columns}。",
        ),
        "surprise.large": (
            "This picture has {rows} × {columns} codes, more than the {height} × {width} that the "
            "prior learned. It can be read through {count} windows of that size, which takes a "
            "moment.",
            "这张图片有 {rows} × {columns} 个码，多于先验所学的 {height} × {width} 个。"
            "可以用 {count} 个这样大小的窗口来阅读，需要等一会儿。",
        ),
        "surprise.go": ("Measure", "测量"),
        "surprise.most": (
            "This picture has {rows} × {columns} codes: {most} are the most that are read here.",
            "这张图片有 {rows} × {columns} 个码：这里最多阅读 {most} 个。",
        ),
    }
)


def panel(studio: Studio, session: Session, asked: bool = False) -> str:
    """The map as HTML; for a grid beyond the prior's own size only if `asked`, else an offer."""
    cfg = studio.bundle.prior.config
    rows, columns = session.indices.shape
    values = {"rows": rows, "columns": columns, "height": cfg.height, "width": cfg.width}
    if rows < cfg.height or columns < cfg.width:
        return _figure(f'<p class="note">{both("surprise.small", **values)}</p>')
    if rows * columns > MAX_CELLS:
        return _figure(f'<p class="note">{both("surprise.most", most=MAX_CELLS, **values)}</p>')
    plan = windows((rows, columns), (cfg.height, cfg.width), STRIDE)
    count = len({place[:2] for place in plan})
    if count > 1 and not asked:
        offer = both("surprise.large", count=count, **values)
        button = f'<button type="button" data-measure>{both("surprise.go")}</button>'
        return _figure(f'<p class="note">{offer}</p>{button}')
    codes = session.indices

    def answer() -> np.ndarray:
        grid = torch.from_numpy(codes)[None]
        return bits_per_cell(studio.bundle.prior, grid, stride=STRIDE, run=compute.run)[0].numpy()

    bits = studio.once(("bits", codes.shape, codes.tobytes()), session.size, answer)
    return _map(bits, codes, math.log2(cfg.codebook_size))


def _map(bits: np.ndarray, codes: np.ndarray, plain: float) -> str:
    """bits and codes (h, w); `plain` is what a code costs if nothing is known."""
    picture = Image.fromarray(colours(bits / (TOP * plain)))
    cells = json.dumps({"bits": bits.round(1).tolist(), "codes": codes.tolist()})
    note = both(
        "surprise.note",
        total=f"{bits.sum():,.0f}",
        mean=f"{bits.mean():.1f}",
        plain=f"{plain:.3g}",
    )
    mark = f'<b style="left:{100 / TOP:.1f}%">{both("surprise.unknown", plain=f"{plain:.3g}")}</b>'
    legend = (
        f'<div class="legend"><span>0</span><i style="background:{gradient()}">{mark}</i>'
        f"<span>{TOP * plain:.3g}</span></div>"
    )
    rows, columns = bits.shape
    width = round(SIDE * min(1, columns / rows))
    return _figure(
        '<div class="su-map"><img alt="" tabindex="0" role="application" aria-labelledby="su-name"'
        f' style="width:{width}px" src="{data_url(picture)}" data-cells="{escape(cells)}">'
        '<i class="su-ring" hidden></i><div class="cg-tip" aria-live="polite" hidden></div></div>'
        f'<span class="hidden-name" id="su-name">{both("surprise.name")}</span>'
        f'{legend}<p class="note">{note}</p>'
    )


def _figure(inside: str) -> str:
    return (
        f'<figure class="picture" data-figure="surprise"><figcaption>{both("surprise.title")}'
        f"</figcaption>{inside}</figure>"
    )


def build(
    studio: Studio, session: gr.State, picture: gr.Textbox
) -> Callable[[gr.events.Dependency], None]:
    """The component, where the bundle has a prior -> a function that lets it follow an event.

    `picture`: which one the page shows (`kept.shown`).
    """
    if studio.bundle.prior is None:
        return lambda event: None
    view = gr.HTML(
        panel(studio, session.value),
        apply_default_css=False,
        js_on_load=(STATIC / "surprise.js").read_text("utf-8"),
        elem_id="surprise",
    )
    common = {"show_progress": "minimal", "api_visibility": "private"}
    show = friendly(partial(panel, studio))

    def measure(session: Session, picture: str) -> str:
        kept.check_shown(session, picture)
        return panel(studio, session, asked=True)

    now = kept.told([session, picture])
    view.measure(friendly(measure), outputs=view, **now, **common, **ANSWER)

    def follow(event: gr.events.Dependency) -> None:
        event.success(show, session, view, trigger_mode="always_last", **common, **AFTER)

    return follow
