"""The Codebook tab's own HTML: one code, and the whole codebook in figures. Pure: data -> HTML."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from html import escape

import numpy as np
from PIL import Image

from ui.common import data_url
from ui.session import Session
from ui.text import add, both, together
from vqgan.codebook import CONTEXT, SIDES, CodeStatistics, Field, Usage
from vqgan.codebook.statistics import STRIP_COLUMNS
from vqgan.model import VQGANConfig

MARK = (255, 159, 28)  # the orange that says "this code" everywhere in the app
PICTURE_SIDE = 384  # pixels, the most that the visitor's picture is sent with
SPREAD = 6  # the histogram reaches from 1/64 to 64 times an even share

Looks = Callable[[list[int]], list[str]]  # codes -> their decoded cells, as URLs

add(
    {
        "codes.code": ("Code", "码"),
        "codes.used": (
            "In <b>{count}</b> of {total} training cells ({share}), rank <b>{rank}</b> of {codes}.",
            "在 {total} 个训练格子中出现 <b>{count}</b> 次（{share}），在 {codes} 个码中排第 "
            "<b>{rank}</b>。",
        ),
        "codes.card.decoded": ("decoded alone", "单独解码"),
        "codes.card.real": ("mean of its patches", "真实图块的平均"),
        "codes.unused": (
            "Never used in {pictures} training pictures: a dead code.",
            "在 {pictures} 张训练图片中从未使用：死码。",
        ),
        "codes.norm": (
            "Norm of its vector: <b>{norm}</b>, in {dim} dimensions.",
            "向量的模：<b>{norm}</b>，共 {dim} 维。",
        ),
        "codes.norm.cosine": (
            "Norm of its vector: <b>{norm}</b>, as for all codes: this quantiser compares "
            "directions, in {dim} dimensions.",
            "向量的模：<b>{norm}</b>，所有码都一样：该量化器只比较方向，共 {dim} 维。",
        ),
        "codes.near": (
            "Nearest codes, by {metric}. Click to go on.",
            "最近的码（按{metric}）。点击继续。",
        ),
        "metric.euclidean": ("Euclidean distance", "欧氏距离"),
        "metric.cosine": ("distance on the unit sphere (cosine)", "单位球面上的距离（余弦）"),
        "metric.gumbel": ("distance between rows of the projection", "投影矩阵各行之间的距离"),
        "codes.patches": (
            "The {count} nearest real patches, with what surrounds them",
            "最近的 {count} 个真实图块及其周围",
        ),
        "codes.patches.note": (
            "Solid: the cell itself, {f}×{f} pixels. Dashed: the {field}×{field} pixels where 90 % "
            "of what moves its vector lies. Grey lies outside the picture.",
            "实线：格子本身，{f}×{f} 像素。虚线：影响其向量的因素有 90% 位于这 {field}×{field} "
            "像素之内。灰色在图片之外。",
        ),
        "codes.patches.wide": (
            "Solid: the cell itself, {f}×{f} pixels. 90 % of what moves its vector lies within "
            "{field}×{field} pixels, more than is shown. Grey lies outside the picture.",
            "实线：格子本身，{f}×{f} 像素。影响其向量的因素有 90% 位于 {field}×{field} 像素之内，"
            "超出图示范围。灰色在图片之外。",
        ),
        "codes.field": (
            "The encoder's convolutions reach {side}×{side} pixels around a cell; its "
            "normalisation looks at the whole picture.",
            "编码器的卷积可触及格子周围 {side}×{side} 像素；归一化则会看整张图片。",
        ),
        "codes.field.attention": (
            "The encoder's convolutions reach {side}×{side} pixels around a cell; its attention "
            "and normalisation look at the whole picture.",
            "编码器的卷积可触及格子周围 {side}×{side} 像素；注意力与归一化则会看整张图片。",
        ),
        "codes.here": (
            "In your picture: {count} of {cells} cells",
            "在你的图片中：{cells} 格里有 {count} 格",
        ),
        "codes.here.none": (
            "Your picture does not use this code.",
            "你的图片没有用到这个码。",
        ),
        "codes.beside": (
            "Beside it in the training pictures, most often first",
            "训练图片中与它相邻的码，最常见的在前",
        ),
        "side.left": ("Before it, to the left", "之前：左边"),
        "side.right": ("After it, to the right", "之后：右边"),
        "side.above": ("Before it, above", "之前：上方"),
        "side.below": ("After it, below", "之后：下方"),
        "codes.none": (
            "This model comes without code statistics, so only decoded cells are shown. Usage, "
            "real patches and neighbours are built from a folder of pictures with",
            "该模型没有附带码的统计数据，因此只显示解码后的格子。使用率、真实图块和相邻码可由一个"
            "图片文件夹生成，命令是",
        ),
        "codes.refused": (
            "The statistics beside this model were left aside: {reason}",
            "已忽略该模型旁的统计数据：{reason}",
        ),
        "figure.used": ("Codes used", "用到的码"),
        "figure.used.note": ("of {codes}", "共 {codes} 个"),
        "figure.dead": ("Dead codes", "死码"),
        "figure.dead.note": ("never used", "从未使用"),
        "figure.perplexity": ("Perplexity", "困惑度"),
        "figure.perplexity.note": (
            "codes, if all were used evenly",
            "相当于均匀使用这么多个码",
        ),
        "figure.bits": ("Entropy", "熵"),
        "figure.bits.note": ("bits a cell, of {most}", "比特/格，上限 {most}"),
        "codes.counted": (
            "Counted in {pictures} pictures ({data}).",
            "统计自 {pictures} 张图片（{data}）。",
        ),
        "histogram": (
            "How often codes are used: height, how many codes; across, their share as a multiple "
            "of an even one (1/{codes}).",
            "码的使用频率：高度为码的数量；横轴为其占比相对于均匀占比（1/{codes}）的倍数。",
        ),
    }
)


def chip(code: int, look: str, note: str) -> str:
    """A button that opens a code: its decoded cell, number and a note in plain text."""
    return (
        f'<button type="button" class="cb-chip" data-code="{code}"><img alt="" '
        f'src="{look}"><span>{code}</span><small>{escape(note)}</small></button>'
    )


def percent(share: float) -> str:
    """12 %, 0.42 %, 0.0031 %, < 0.001 %."""
    if 0 < share < 1e-5:
        return "< 0.001 %"
    return f"{100 * share:.2g} %" if share < 0.995 else "100 %"


def card(
    code: int, looks: dict[str, str], norm: float, config: VQGANConfig, usage: Usage | None
) -> str:
    """Number, looks ("decoded", "real"), use and norm."""
    lines = []
    if usage is not None and usage.counts[code]:
        counted = {"count": f"{usage.counts[code]:,}", "total": f"{usage.total:,}"}
        rank = {"rank": f"{usage.ranks[code]:,}", "codes": f"{len(usage.counts):,}"}
        lines.append(both("codes.used", share=percent(usage.share(code)), **counted, **rank))
    pictures = "".join(
        f'<figure data-look="{name}"><img alt="" src="{url}"><figcaption>'
        f"{both(f'codes.card.{name}')}</figcaption></figure>"
        for name, url in looks.items()
    )
    kind = "codes.norm.cosine" if config.quantizer == "cosine" else "codes.norm"
    lines.append(both(kind, norm=f"{norm:.3g}", dim=config.embed_dim))
    return (
        f'<div class="cb-card">{pictures}<div>'
        f"<h3>{both('codes.code')} <b>{code}</b></h3>"
        + "".join(f"<p>{line}</p>" for line in lines)
        + "</div></div>"
    )


def distance(value: float) -> str:
    """0.42; 0.0031 where vectors are that short."""
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def near(codes: list[int], distances: np.ndarray, looks: Looks, config: VQGANConfig) -> str:
    """The nearest codes as buttons, each with its distance."""
    chips = "".join(
        chip(c, look, distance(d))
        for c, look, d in zip(codes, looks(codes), distances, strict=True)
    )
    metric = both(f"metric.{config.quantizer}")
    title = both("codes.near", metric="{metric}").replace("{metric}", metric)
    return (
        f'<section data-part="near"><h4>{title}</h4><div class="cb-chips">{chips}</div></section>'
    )


def _outline(pixels: float, f: int, kind: str) -> str:
    """A square of so many pixels around the middle of a patch, in percent of it."""
    inset = 50 * (1 - pixels / (CONTEXT * f))
    return f'<i class="{kind}" style="inset:{inset:.2f}%"></i>'


def patches(code: int, statistics: CodeStatistics, field: Field) -> str:
    """The nearest real patches, each with the cell and its effective field outlined."""
    f, found = field.stride, int((statistics.patch_picture[code] >= 0).sum())
    if not found:
        text = both("codes.unused", pictures=f"{statistics.pictures:,}")
        return f'<section data-part="patches"><p class="note">{text}</p></section>'
    fits = statistics.field <= CONTEXT * f
    outlines = _outline(f, f, "cell") + (_outline(statistics.field, f, "field") if fits else "")
    rows = -(-found // STRIP_COLUMNS)
    items = []
    for k in range(found):
        x = 100 * (k % STRIP_COLUMNS) / (STRIP_COLUMNS - 1)
        y = 100 * (k // STRIP_COLUMNS) / max(rows - 1, 1)
        name = escape(statistics.names[statistics.patch_picture[code, k]])
        row, column = statistics.patch_cell[code, k]
        items.append(
            f'<span title="{name}, {row + 1}:{column + 1}" data-row="{row}" data-column="{column}" '
            f'style="background-position:{x:.3f}% {y:.3f}%">{outlines}</span>'
        )
    strip = base64.b64encode(statistics.strips[code]).decode()
    size = f"{STRIP_COLUMNS * 100}% {rows * 100}%"
    note = both("codes.patches.note" if fits else "codes.patches.wide", f=f, field=statistics.field)
    reach = both("codes.field.attention" if field.attention else "codes.field", side=field.side)
    return (
        f'<section data-part="patches"><h4>{both("codes.patches", count=found)}</h4>'
        f'<div class="cb-patches" style="--strip:url(data:image/webp;base64,{strip});'
        f'--size:{size}">{"".join(items)}</div><p class="note">{together(note, reach)}</p>'
        "</section>"
    )


def here(code: int, session: Session | None, f: int) -> str:
    """Where a code stands in the visitor's picture: the rest of it dimmed."""
    if session is None:
        return f'<section data-part="here"><p class="note">{both("rec.lost")}</p></section>'
    found = session.indices == code
    count = int(found.sum())
    if not count:
        return f'<section data-part="here"><p class="note">{both("codes.here.none")}</p></section>'
    picture = session.original or session.result
    scale = min(1.0, PICTURE_SIDE / max(picture.size))
    size = tuple(max(1, round(s * scale)) for s in picture.size)
    pixels = np.asarray(picture.resize(size, Image.Resampling.LANCZOS), np.float32)
    cell = f * scale
    ys, xs = (
        np.minimum((np.arange(n) / cell).astype(int), m - 1)
        for n, m in zip(pixels.shape[:2], found.shape, strict=True)
    )
    lit = found[np.ix_(ys, xs)]
    shown = np.where(lit[..., None], pixels, 0.3 * pixels + 0.7 * 128)
    edge = lit & ~_inner(lit)
    shown[edge] = MARK
    title = both("codes.here", count=count, cells=session.cells)
    return (
        f'<section data-part="here"><h4>{title}</h4><img class="cb-here" alt="" '
        f'src="{data_url(shown.round().astype(np.uint8))}"></section>'
    )


def _inner(mask: np.ndarray) -> np.ndarray:
    """The mask without its outermost pixels; the picture's own edge counts as outside."""
    inner = np.pad(mask, 1)
    middle = inner[1:-1, 1:-1]
    return middle & inner[2:, 1:-1] & inner[:-2, 1:-1] & inner[1:-1, 2:] & inner[1:-1, :-2]


def beside(code: int, statistics: CodeStatistics, looks: Looks) -> str:
    """What lies to the left, right, above and below most often, with its share."""
    parts = []
    for side in ("left", "right", "above", "below"):
        i = list(SIDES).index(side)
        codes = statistics.beside[code, i]
        counts = statistics.beside_counts[code, i][codes >= 0]
        codes = codes[codes >= 0].tolist()
        total = max(int(statistics.counts[code]), 1)
        chips = "".join(
            chip(c, look, percent(n / total))
            for c, look, n in zip(codes, looks(codes), counts, strict=True)
        )
        parts.append(
            f'<div data-side="{side}"><h5>{both(f"side.{side}")}</h5>'
            f'<div class="cb-chips">{chips or "–"}</div></div>'
        )
    return (
        f'<section data-part="beside"><h4>{both("codes.beside")}</h4>'
        f'<div class="cb-sides">{"".join(parts)}</div></section>'
    )


def without(command: str, reason: str | None) -> str:
    """What is missing where a bundle has no statistics, or those of another tokenizer."""
    refused = f"<p>{both('codes.refused', reason=reason)}</p>" if reason else ""
    return (
        f'<div class="cb-none">{refused}<p>{both("codes.none")}</p>'
        f"<pre><code>{escape(command)}</code></pre></div>"
    )


def _figure(key: str, value: str, **note: object) -> str:
    return (
        f'<div class="tile" data-tile="{key}"><span class="tile-label">{both(f"figure.{key}")}'
        f'</span><b>{value}</b><span class="tile-note">{both(f"figure.{key}.note", **note)}</span>'
        "</div>"
    )


def figures(usage: Usage, statistics: CodeStatistics) -> str:
    """The whole codebook: used, dead, perplexity, and how unevenly."""
    codes, dead = len(usage.counts), len(usage.dead)
    bits = math.log2(usage.perplexity)
    tiles = [
        _figure("used", f"{codes - dead:,}", codes=f"{codes:,}"),
        _figure("dead", f"{dead:,}"),
        _figure("perplexity", f"{usage.perplexity:,.0f}"),
        _figure("bits", f"{bits:.2f}", most=f"{math.log2(codes):.4g}"),
    ]
    data = statistics.data, statistics.data.replace(", train split", "，训练集")
    counted = both("codes.counted", pictures=f"{statistics.pictures:,}", data=data)
    return (
        f'<div class="tiles">{"".join(tiles)}</div>{histogram(usage)}<p class="note">{counted}</p>'
    )


def bins(usage: Usage) -> list[int]:
    """How many codes have a share of about 2^-SPREAD, ..., 1, ..., 2^SPREAD times an even one.

    The first bin also holds rarer codes and the last one more frequent ones; dead codes are left
    out.
    """
    alive = usage.counts[usage.counts > 0]
    octave = np.round(np.log2(alive * len(usage.counts) / max(usage.total, 1))).astype(int)
    return np.bincount(octave.clip(-SPREAD, SPREAD) + SPREAD, minlength=2 * SPREAD + 1).tolist()


def histogram(usage: Usage) -> str:
    """Bars of `bins`, dead codes first and apart."""
    octaves = range(-SPREAD, SPREAD + 1)
    labels = ["0", *(f"1/{2**-o}" if o < 0 else f"{2**o}" for o in octaves)]
    labels[1], labels[-1] = f"≤{labels[1]}", f"≥{labels[-1]}"
    heights = [len(usage.dead), *bins(usage)]
    top = max(*heights, 1)
    bars = "".join(
        f'<span data-count="{n}"{" class=dead" if i == 0 else ""}><small>{n or ""}</small>'
        f'<i style="--part:{n / top:.3f}"></i><b>{label}</b></span>'
        for i, (n, label) in enumerate(zip(heights, labels, strict=True))
    )
    text = both("histogram", codes=f"{len(usage.counts):,}")
    return f'<div class="cb-histogram">{bars}</div><p class="note">{text}</p>'
