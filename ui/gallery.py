"""The pictures being written: a gr.HTML of tiles, drawn by static/gallery.js.

Its one event is `pick` {picture, batch}. While a run goes on it gets the pictures so far as one
sheet, and hatches what is not written yet.
"""

from __future__ import annotations

import base64
import io
import math
import re
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from prior.sheet import columns_of, sheet
from ui.common import data_url
from ui.text import add, both
from ui.writing import Batch, Given, Request, Step

STATIC = Path(__file__).parent / "static"

add(
    {
        "gallery.order": ("Order", "顺序"),
        "gallery.written": ("As written", "书写顺序"),
        "gallery.likely": ("Likeliest first", "似然从高到低"),
        "gallery.original": ("original", "原图"),
        "gallery.bits": ("bits per code under each", "图下为每码比特数"),
        "gallery.empty": (
            "Nothing is written yet: press Write.",
            "还没有写任何图片：请按“书写”。",
        ),
        "gallery.waiting": ("Waiting for its turn…", "排队中……"),
        "gallery.live": (
            "row {row} of {rows} · {rate} codes a second",
            "第 {row} / {rows} 行 · 每秒 {rate} 个码",
        ),
        "gallery.stopping": ("Stopped at row {row} of {rows}", "已停在第 {row} / {rows} 行"),
        "gallery.done": (
            "{count} pictures, {codes} codes · {rate} codes a second",
            "{count} 张图片，{codes} 个码 · 每秒 {rate} 个码",
        ),
        "gallery.done.one": (
            "1 picture, {codes} codes · {rate} codes a second",
            "1 张图片，{codes} 个码 · 每秒 {rate} 个码",
        ),
        "gallery.example": (
            "Seeds {first} to {last}, written beforehand and not picked: this is what the first "
            "{count} look like.",
            "种子 {first} 到 {last}，事先写好，未经挑选：这就是最前面 {count} 张的样子。",
        ),
        "gallery.nothing": (
            "Stopped before the first code was written.",
            "在写出第一个码之前已停止。",
        ),
    }
)


def lossy(pictures: np.ndarray) -> str:
    """A sheet of unfinished pictures, small and quick, as a URL."""
    buffer = io.BytesIO()
    sheet(pictures, gap=0).save(buffer, "WEBP", quality=85, method=0)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def _value(count: int, size: tuple[int, int], **more: Any) -> dict[str, Any]:
    rows, columns = size
    blank = {
        "count": count,
        "rows": rows,
        "columns": columns,
        "across": columns_of(count),
        "image": None,
        "shown": 0,
        "kept": None,
        "live": False,
        "bits": None,
        "order": None,
        "original": False,
        "begun": 0,  # codes that the original has
        "titles": None,
        "picked": None,
    }
    return {**blank, **more}


def empty(count: int, size: tuple[int, int], status: str = "gallery.empty") -> dict[str, Any]:
    """Tiles with nothing in them."""
    return _value(count, size, status=both(status))


def says(key: str) -> dict[str, Any]:
    """Another sentence beside what is shown, which stays."""
    return {"status": both(key), "waits": key == "gallery.waiting"}


def _row(done: int, columns: int, total: int) -> int:
    return min(done // columns + 1, total // columns)


def live(
    ask: Request,
    step: Step,
    image: str | None,
    kept: np.ndarray | None = None,
    given: Given | None = None,
) -> dict[str, Any]:
    """A run on its way; `image` is the sheet of `step.pictures` as a URL."""
    rows, columns = ask.size
    key = "gallery.stopping" if step.stopped else "gallery.live"
    where = {"row": _row(step.done, columns, step.total), "rows": rows}
    rate = {} if step.stopped else {"rate": f"{step.rate:,.0f}"}
    return _value(
        ask.count,
        ask.size,
        image=image,
        shown=step.shown,
        kept=None if kept is None else kept.ravel().tolist(),
        live=not step.stopped,
        titles=_titles(given, ask.count),
        status=both(key, **where, **rate),
    )


def finished(batch: Batch, picked: int) -> dict[str, Any]:
    """A batch that is there to be looked at."""
    count, rows, columns = batch.grids.shape
    original = batch.seeds[0] is None
    first = int(original)  # of those written here: an original may be unfinished itself
    whole = bool((batch.grids[first:] >= 0).all())
    done = rows * columns if whole else int(batch.counted[first:].min())
    if batch.origin == "example":
        values = {"first": batch.seeds[0], "last": batch.seeds[-1], "count": count}
        status = both("gallery.example", **values)
    elif not whole:
        status = both("gallery.stopping", row=_row(done, columns, rows * columns), rows=rows)
    else:
        written = sum(seed is not None for seed in batch.seeds)
        cells = rows * columns if batch.kept is None else int((~batch.kept).sum())
        values = {"count": written, "codes": f"{written * cells:,}"}
        key = "gallery.done.one" if written == 1 else "gallery.done"
        status = both(key, **values, rate=f"{batch.rate:,.0f}")
    return _value(
        count,
        (rows, columns),
        image=data_url(sheet(batch.pictures, gap=0)),
        shown=done,
        kept=None if batch.kept is None else batch.kept.ravel().tolist(),
        bits=[None if math.isnan(b) else f"{b:.2f}" for b in batch.bits.tolist()],
        order=batch.order.tolist(),
        original=original,
        begun=int(batch.counted[0]) if original else 0,
        titles=_titles(batch.given, count),
        picked=picked,
        number=batch.number,
        ranked=batch.origin == "completed",
        status=status,
    )


def _titles(given: Given | None, count: int) -> list[str] | None:
    """What stands under each picture; None for nothing under any."""
    titles = [] if given is None else [given.caption(i) for i in range(count)]
    return [title or "" for title in titles] if any(titles) else None


def build(elem_id: str, value: dict[str, Any]) -> gr.HTML:
    """The component, showing `value`."""
    template = (STATIC / "gallery.html").read_text("utf-8")
    return gr.HTML(
        value,
        html_template=re.sub(r"\[\[(.+?)\]\]", lambda m: both(m[1]), template),
        js_on_load=(STATIC / "gallery.js").read_text("utf-8"),
        apply_default_css=False,
        elem_id=elem_id,
    )
