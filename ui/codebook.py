"""The Codebook tab: all codes as one picture, and what each of them means."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from ui import codebook_panel as panel
from ui import kept, timelapse
from ui.common import EACH, LATEST, LATEX, QUICK, TabHandles, answered, data_url, friendly
from ui.session import Session
from ui.studio import Studio
from ui.text import add, both, explanation, t
from vqgan.codebook import (
    SIDE,
    CellStore,
    CodeStatistics,
    Usage,
    by_hue,
    by_similarity,
    by_usage,
    in_rows,
    look,
    mosaic,
    norms,
    receptive_field,
)
from vqgan.grids import check_code

STATIC = Path(__file__).parent / "static"
NEAREST = 12  # codes offered to go on to
# Puts the keyboard on the map, whose arrows go on from the code shown, once its tab is there.
FOCUS = """() => {
  const look = (tries) => {
    const map = document.querySelector('#codebook-map .cm-stage > canvas');
    if (map?.offsetHeight) return map.focus();
    if (tries) requestAnimationFrame(() => look(tries - 1));
  };
  look(100);
}"""

add(
    {
        "codes.tab": ("Codebook", "码本"),
        "codes.open": ("Open in the Codebook", "在码本中打开"),
        "codes.lead": (
            "All {codes} codes this model can write with. The decoder sees a cell's neighbours, so "
            "a code has no picture of its own: shown here is the middle of a {side}×{side} grid of "
            "nothing but that code, decoded.",
            "该模型可以使用的全部 {codes} 个码。解码器会看到相邻的格子，所以一个码本身没有固定的"
            "样子：这里显示的是全部为该码的 {side}×{side} 网格解码后的中央一格。",
        ),
        "codes.map": (
            "All codes. Arrow keys open the code beside, + and − zoom.",
            "全部码。方向键打开相邻的码，+ 和 − 缩放。",
        ),
        "codes.order.similarity": ("Similarity", "相似度"),
        "codes.order.hue": ("Hue", "色相"),
        "codes.order.usage": ("Usage", "使用率"),
        "codes.order.number": ("Number", "编号"),
        "codes.look.decoded": ("Decoded", "解码"),
        "codes.look.real": ("Real patches", "真实图块"),
        "codes.hint.real": (
            "Each cell is the mean of the real patches nearest to its code.",
            "每格是离该码最近的真实图块的平均。",
        ),
        "codes.show.all": ("All", "全部"),
        "codes.show.picture": ("In your picture", "你的图片中"),
        "codes.show.dead": ("Never used", "从未使用"),
        "codes.go": ("Code", "码"),
        "codes.wait": ("Decoding every code once…", "正在逐个解码所有的码……"),
        "codes.left.seconds": ("Less than a minute to go.", "还需不到一分钟。"),
        "codes.left.minutes": (
            "Some {n} minutes to go. The page can be used meanwhile.",
            "还需大约 {n} 分钟，期间页面可以照常使用。",
        ),
        "codes.left.hours": (
            "Some {n} hours to go. The page can be used meanwhile.",
            "还需大约 {n} 小时，期间页面可以照常使用。",
        ),
        "codes.hint.similarity": (
            "Neighbours look alike. Click a cell; zoom with + and −, then drag.",
            "相邻的格子看起来相似。点击格子；用 + 和 − 缩放，然后拖动。",
        ),
        "codes.hint.hue": (
            "Greys first, then round the colour wheel; each row from dark to light.",
            "先是灰色，然后绕色环一周；每行由暗到亮。",
        ),
        "codes.hint.usage": ("The most used code comes first.", "最常用的码在最前。"),
        "codes.hint.number": ("As they lie in the codebook.", "按码本中的编号排列。"),
    }
)


@dataclass(frozen=True)
class Codes:
    """Everything this page knows about one model's codebook; shared by all visitors."""

    studio: Studio
    _urls: dict[int, str] = dataclasses.field(default_factory=dict, repr=False)

    @property
    def statistics(self) -> CodeStatistics | None:
        return self.studio.statistics

    @cached_property
    def usage(self) -> Usage | None:
        return None if self.statistics is None else Usage.of(self.statistics.counts)

    @cached_property
    def norms(self) -> np.ndarray:
        return norms(self.studio.vqgan)

    @cached_property
    def field(self):
        return receptive_field(self.studio.vqgan.config)

    @cached_property
    def map(self) -> dict[str, Any]:
        """What the browser draws the map from. Needs every cell."""
        cells, count = self.studio.store.all(), self.studio.codebook_size
        number = in_rows(np.arange(count))
        shipped = self.statistics
        kept = shipped is not None and cells is shipped.cells
        orders = {
            "similarity": shipped.similarity if kept else by_similarity(look(cells)),
            "hue": by_hue(cells),
            "number": number,
        }
        images = {"decoded": data_url(mosaic(cells, number))}
        if shipped is not None and self.usage is not None:
            orders["usage"] = by_usage(self.usage.counts)
            images["real"] = data_url(mosaic(shipped.means, number))
        return {
            "images": images,
            "codes": count,
            "columns": number.shape[1],
            "f": self.studio.f,
            "orders": {name: grid.tolist() for name, grid in orders.items()},
            "counted": shipped is not None,
            "counts": None if self.usage is None else self.usage.counts.tolist(),
            "total": None if self.usage is None else self.usage.total,
        }

    def code(self, data: object) -> int:
        """The code that an event of the map names. ValueError if there is no such code."""
        named = data.get("code") if isinstance(data, dict) else None
        return check_code(named, self.studio.codebook_size)

    def looks(self, codes: list[int]) -> list[str]:
        """The decoded cells of some codes, each as a URL; kept, as pages share most of them."""
        missing = [code for code in codes if code not in self._urls]
        cells = self.studio.store.of(missing)
        self._urls.update(zip(missing, map(data_url, cells), strict=True))
        return [self._urls[code] for code in codes]

    def page(self, code: int, session: Session | None) -> str:
        """All about one code."""
        studio, config = self.studio, self.studio.vqgan.config
        numbers, distances = studio.neighbours(code, NEAREST)
        looks = {"decoded": self.looks([code])[0]}
        if self.usage is not None and self.usage.counts[code]:
            looks["real"] = data_url(self.statistics.means[code])
        parts = [
            panel.card(code, looks, self.norms[code], config, self.usage),
            panel.near(numbers.tolist(), distances, self.looks, config),
        ]
        if self.statistics is not None:
            parts.append(panel.patches(code, self.statistics, self.field))
        parts.append(panel.here(code, session, studio.f))
        if self.statistics is not None:
            parts.append(panel.beside(code, self.statistics, self.looks))
        return f'<div class="cb-page" data-code="{code}">{"".join(parts)}</div>'


def _script(name: str) -> str:
    return (STATIC / name).read_text("utf-8")


_numbers = itertools.count()


def _shown(code: int, session: Session | None) -> dict[str, Any]:
    """What the map marks: the open code, and those of the visitor's picture.

    Never twice the same: after clicks, which the map marks by itself, it would not hear of a code
    that was the last one to be sent.
    """
    here = [] if session is None else np.unique(session.indices).tolist()
    return {"code": code, "here": here, "number": next(_numbers)}


def _map(codes: Codes, value: dict[str, Any]) -> gr.HTML:
    """The picture of all codes; its `pick` event carries {code}."""
    template = re.sub(r"\[\[(.+?)\]\]", lambda m: both(m[1]), _script("codebook_map.html"))
    return gr.HTML(
        value,
        html_template=template,
        js_on_load=LATEST + _script("codebook_map.js"),
        server_functions=[_sheet(codes)],
        apply_default_css=False,
        elem_id="codebook-map",
    )


def _sheet(codes: Codes) -> Callable[[object], dict[str, Any]]:
    """A function for the browser: the map, or how far decoding it has come."""

    def sheet(_: object) -> dict[str, Any]:  # Gradio passes the browser's arguments as one
        store = codes.studio.store
        if not store.whole:
            store.fill()
            return {
                "pending": [store.done, codes.studio.codebook_size],
                "left": left(store),
                "counted": codes.statistics is not None,
            }
        return codes.map

    return sheet


def left(store: CellStore) -> str:
    """How long decoding will take, in round numbers; nothing before its first codes."""
    seconds = store.seconds_left
    if seconds is None:
        return ""
    if seconds < 60:
        return both("codes.left.seconds")
    minutes = max(2, round(seconds / 60)) if seconds < 600 else 5 * round(seconds / 300)
    if minutes < 100:
        return both("codes.left.minutes", n=minutes)
    return both("codes.left.hours", n=round(minutes / 60))


def _whole(codes: Codes) -> str:
    """Below the map: the codebook in figures, or how to get them."""
    statistics, usage = codes.statistics, codes.usage
    if statistics is None or usage is None:
        command = f"python -m vqgan.codebook --bundle {codes.studio.bundle.word} --data DIR"
        return panel.without(command, codes.studio.refused)
    return panel.figures(usage, statistics)


def build(studio: Studio, reading: TabHandles, tabs: gr.Tabs) -> TabHandles:
    """The tab; `reading` is the Reconstruct tab, whose picture and picked code it shows."""
    codes = Codes(studio)
    first, example = reading.selected_code.value, reading.session.value
    with gr.Tab(t("codes.tab"), id="codebook") as tab:
        lead = both("codes.lead", codes=f"{studio.codebook_size:,}", side=SIDE)
        gr.HTML(f'<p class="cb-lead">{lead}</p>', apply_default_css=False)
        with gr.Row(elem_classes="cb-desk"):
            with gr.Column(min_width=0, elem_classes="cb-map"):
                atlas = _map(codes, _shown(first, example))
            with gr.Column(min_width=0, elem_classes="cb-about"):
                page = gr.HTML(
                    codes.page(first, example),
                    apply_default_css=False,
                    js_on_load=_script("codebook_page.js"),
                    elem_id="codebook-page",
                )
            with gr.Column(min_width=0, elem_classes="cb-figures"):
                gr.HTML(_whole(codes), apply_default_css=False, elem_id="codebook-figures")
        training = studio.bundle.card.get("training", {})
        timelapse.build(studio.bundle.path, training.get("hours", 0))
        with gr.Accordion(t("app.how"), open=False, elem_id="how-codebook"):
            gr.Markdown(explanation("codebook"), latex_delimiters=LATEX)
    handles = TabHandles(tab, reading.last_code)
    _connect(codes, handles, reading, tabs, atlas, page)
    return handles


def _connect(
    codes: Codes,
    handles: TabHandles,
    reading: TabHandles,
    tabs: gr.Tabs,
    atlas: gr.HTML,
    page: gr.HTML,
) -> None:
    """Clicks here, and codes picked in the Reconstruct tab."""

    def pick(event: gr.EventData, session: Session, picture: str) -> tuple[int, str]:
        code = codes.code(event._data)
        return code, codes.page(code, kept.known(session, picture))

    def show(code: int, session: Session, picture: str) -> tuple[dict[str, Any], str]:
        known = kept.known(session, picture)
        return _shown(code, known), codes.page(code, known)

    def open_(code: int, session: Session, picture: str) -> tuple:
        return gr.Tabs(selected="codebook"), code, *show(code, session, picture)

    quiet: dict[str, Any] = {"show_progress": "hidden", **QUICK}
    answer = [handles.selected_code, page]
    now = [reading.session, reading.shown]
    picked = atlas.pick(friendly(pick), outputs=answer, **kept.told(now), **EACH, **quiet)
    picked.then(None, js=answered("studio:opened"))
    given = kept.told([handles.selected_code, *now])
    handles.tab.select(friendly(show), outputs=[atlas, page], **given, **quiet)
    with reading.code_actions:
        button = gr.Button(t("codes.open"), size="sm", elem_id="open-codebook")
    opens = button.click(
        friendly(open_),
        outputs=[tabs, handles.selected_code, atlas, page],
        **kept.told([reading.selected_code, *now]),
        **quiet,
    )
    opens.success(None, js=FOCUS)
