"""The Sample tab's own HTML about one picture: codes, figures, neighbours. Pure: data -> HTML."""

from __future__ import annotations

import math
from html import escape

import numpy as np

from prior.nearest import Found
from ui.common import data_url
from ui.text import add, both, together
from ui.writing import Batch

# The button that opens a picture in Reconstruct may lie far down, and there the page would stay.
# On a phone that tab's picture is below the fold; it has a place once the tab has come.
INTO_SIGHT = """() => {
  const look = (tries) => {
    const slider = document.querySelector('#slider'), place = () => slider.getBoundingClientRect();
    if (!slider?.offsetHeight) return tries && requestAnimationFrame(() => look(tries - 1));
    window.scrollTo({ top: 0 });
    if (place().bottom > innerHeight) slider.scrollIntoView({ block: 'center' });
  };
  look(100);
}"""

add(
    {
        "one.title": ("Picture {number} of {count}", "第 {number} 张，共 {count} 张"),
        "one.original": ("What it started from", "起始图片"),
        "one.bits": ("Bits per code", "每码比特"),
        "one.bits.note": (
            "{total} bits in all: log₂ p(s) = −{total}",
            "总共 {total} 比特：log₂ p(s) = −{total}",
        ),
        "one.bits.given": (
            "{total} bits in all, given the sketch: log₂ p(s | y) = −{total}",
            "给定草图时总共 {total} 比特：log₂ p(s | y) = −{total}",
        ),
        "one.bits.idea": (
            "{total} bits in all, given the idea: log₂ p(s | y) = −{total}",
            "给定标题时总共 {total} 比特：log₂ p(s | y) = −{total}",
        ),
        "one.bits.class": (
            "{total} bits in all, given the class: log₂ p(s | y) = −{total}",
            "给定类别时总共 {total} 比特：log₂ p(s | y) = −{total}",
        ),
        "one.rank": ("Likelihood", "似然"),
        "one.rank.value": ("no. {rank}", "第 {rank} 名"),
        "one.rank.note": ("of {count} here", "共 {count} 张"),
        "one.codes": ("Distinct codes", "不同的码"),
        "one.codes.note": ("in {cells} cells", "共 {cells} 格"),
        "one.seed": ("Seed", "种子"),
        "one.seed.note": ("writes this one again", "可再次写出这一张"),
        "one.seed.part": ("drew what was not given", "抽取了未给定的部分"),
        "one.seed.example": (
            "wrote this one beforehand; in another precision it may write another",
            "事先写出了这一张；换一种精度可能写出另一张",
        ),
        "one.none": ("none", "无"),
        "one.none.note": ("brought along, not drawn", "带入的图，并非抽样"),
        "one.near": ("Nearest training picture", "最接近的训练图片"),
        "one.near.note": (
            "Off by {distance} of 255: root mean square over 16 × 16 pixels, mirror images "
            "included.",
            "相差 {distance}/255：16 × 16 像素上的均方根，含镜像。",
        ),
        "one.near.scale": (
            "A training picture that only went through the codes is off by {own} (median), a "
            "held-out one from its nearest by {held_out}.",
            "只经过编码再解码的训练图片相差 {own}（中位数）；"
            "未参与训练的图片与其最接近者相差 {held_out}。",
        ),
        "one.near.mirrored": ("mirrored", "镜像"),
        "one.near.missing": (
            "This bundle ships no thumbnails of its training pictures. To add them, run",
            "该模型包没有附带训练图片的缩略图。要添加，请运行",
        ),
        "one.row": (
            "Click a row, then rewrite all from there on.",
            "点击一行，然后从那里开始重写其余部分。",
        ),
        "one.rewrite": ("Rewrite from row", "重写，从第几行起："),
        "one.partial": (
            "Stopped before the end: {done} of {cells} codes are written.",
            "在写完之前停止：已写 {done} / {cells} 个码。",
        ),
    }
)


def lightness(picture: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(h, w) bool: where dark figures can be read on a picture (H, W, 3) uint8."""
    h, w = shape
    fh, fw = picture.shape[0] // h, picture.shape[1] // w
    cells = picture[: h * fh, : w * fw].reshape(h, fh, w, fw, 3).mean((1, 3))
    return cells @ np.array([0.3, 0.6, 0.1]) > 125


def codes_svg(
    picture: np.ndarray,
    grid: np.ndarray,
    *,
    marks: np.ndarray | None = None,
    titles: list[str] | None = None,
) -> str:
    """A picture (H, W, 3) uint8 with its codes (h, w) on it; -1 is an empty, hatched cell.

    marks   (h, w) class names, '' for none
    titles  h * w texts for the pointer
    """
    h, w = grid.shape
    light = lightness(picture, grid.shape)
    parts = [
        f'<svg class="codes" viewBox="0 0 {w} {h}" role="img"><image width="{w}" height="{h}" '
        f'preserveAspectRatio="none" href="{data_url(picture)}"/>'
    ]
    for r in range(h):
        for c in range(w):
            code, title = int(grid[r, c]), ""
            if titles is not None:
                title = f"<title>{escape(titles[r * w + c])}</title>"
            mark = "" if marks is None else str(marks[r, c])
            if code < 0:
                mark = "empty"
            if mark or title:
                box = f'x="{c + 0.04}" y="{r + 0.04}" width=".92" height=".92"'
                parts.append(f'<rect class="{mark}" {box}>{title}</rect>')
            if code >= 0:
                tone = "dark" if light[r, c] else "light"
                parts.append(f'<text class="{tone}" x="{c + 0.5}" y="{r + 0.62}">{code}</text>')
    return "".join([*parts, "</svg>"])


def _tile(key: str, value: str, note: str) -> str:
    return (
        f'<div class="tile" data-tile="{key}"><span class="tile-label">{both(f"one.{key}")}</span>'
        f'<b>{value}</b><span class="tile-note">{note}</span></div>'
    )


def _seed_note(batch: Batch) -> str:
    """What the seed of a written picture does here."""
    if batch.origin == "example":
        return "one.seed.example"
    given = batch.kept is not None and batch.kept.any()
    return "one.seed.part" if given else "one.seed.note"


def figures(batch: Batch, index: int) -> str:
    """How likely the prior finds one picture, and what wrote it."""
    bits, cells = float(batch.bits[index]), int(batch.counted[index])
    rank = int(np.flatnonzero(batch.order == index)[0]) + 1
    grid = batch.grids[index]
    counted = "one.bits.note" if batch.given is None else batch.given.note
    known = "–" if math.isnan(bits) else f"{bits:.2f}"
    total = "–" if math.isnan(bits) else f"{bits * cells:,.0f}"
    seed = batch.seeds[index]
    if seed is None:
        written = _tile("seed", both("one.none"), both("one.none.note"))
    else:
        written = _tile("seed", str(seed), both(_seed_note(batch)))
    return "".join(
        (
            '<div class="tiles">',
            _tile("bits", known, both(counted, total=total)),
            _tile(
                "rank",
                both("one.rank.value", rank=rank),
                both("one.rank.note", count=len(batch.grids)),
            ),
            _tile(
                "codes",
                str(len(np.unique(grid[grid >= 0]))),
                both("one.codes.note", cells=int((grid >= 0).sum())),
            ),
            written,
            "</div>",
        )
    )


def near(found: list[Found] | None, scale: tuple[float, float] | None, command: str) -> str:
    """The training pictures nearest to the one shown, the nearest one first."""
    title = f"<h4>{both('one.near')}</h4>"
    if not found:
        missing = f'<p class="note">{both("one.near.missing")}</p>'
        return f'<div class="sp-near">{title}{missing}<pre>{escape(command)}</pre></div>'
    cards = []
    for one in found:
        mirrored = f" · {both('one.near.mirrored')}" if one.mirrored else ""
        cards.append(
            f'<figure><img alt="" src="{data_url(np.ascontiguousarray(one.thumbnail))}">'
            f"<figcaption><b>{escape(one.name)}</b> {escape(one.set)}{mirrored}"
            f"<i>{one.distance:.1f}</i></figcaption></figure>"
        )
    notes = [both("one.near.note", distance=f"{found[0].distance:.1f}")]
    if scale is not None:
        own, held_out = (f"{x:.0f}" for x in scale)
        notes.append(both("one.near.scale", own=own, held_out=held_out))
    return (
        f'<div class="sp-near">{title}<div class="sp-found">{"".join(cards)}</div>'
        f'<p class="note">{together(*notes)}</p></div>'
    )


def page(batch: Batch, index: int, neighbours: str) -> str:
    """All about one picture of a batch; `neighbours` is what `near` gave."""
    grid, rows = batch.grids[index], batch.grids.shape[1]
    if batch.seeds[index] is None:
        title = both("one.original")
    else:
        ours = [seed is not None for seed in batch.seeds]  # not the one brought along
        title = both("one.title", number=sum(ours[: index + 1]), count=sum(ours))
    if batch.given is not None and (named := batch.given.caption(index)) is not None:
        title = f"{title} · {named}"
    written, partial = int((grid >= 0).sum()), ""
    if written < grid.size:
        partial = both("one.partial", done=written, cells=grid.size)
        partial = f'<p class="note">{partial}</p>'
    # Rewriting begins below a row that is whole, as are all above it.
    whole = int(np.logical_and.accumulate((grid >= 0).all(1)).sum())
    last = min(rows - 1, whole)
    off = "" if last else " disabled"
    return (
        f'<div class="sp" data-picture="{index}" data-batch="{batch.number}" data-rows="{rows}" '
        f'data-last="{last}"><div class="sp-codes"><h3>{title}</h3>'
        '<div class="sp-stage" tabindex="0" role="slider" aria-orientation="vertical" '
        f'aria-labelledby="sp-from" aria-describedby="sp-hint" aria-valuemin="{min(2, last + 1)}" '
        f'aria-valuemax="{last + 1}" aria-valuenow="{last + 1}">'
        f"{codes_svg(batch.pictures[index], grid)}"
        f'<i class="sp-cut"></i></div><p class="note" id="sp-hint">{both("one.row")}</p>'
        f'<button type="button" class="sp-rewrite" data-act="rewrite"{off}>'
        f'<span id="sp-from">{both("one.rewrite")}</span> <b></b></button></div>'
        f'<div class="sp-about">{figures(batch, index)}{partial}{neighbours}</div></div>'
    )
