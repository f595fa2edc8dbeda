"""The Reconstruct tab's own HTML: figures, the card of a code, comparisons. Pure: data -> HTML."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from ui.common import data_url
from ui.session import Session
from ui.studio import Studio
from ui.text import add, both, percent
from vqgan.codebook import SIDE
from vqgan.rebuild import NATIVE_LIMIT, Closeness

NEAREST = 8  # codes offered on the card of a code
ERROR_TOP = 64  # grey levels off at which the error map is brightest
# Dark to bright in steps of about equal lightness, readable without telling red from green.
COLOURS = np.array(
    [[12, 10, 38], [74, 21, 92], [150, 41, 96], [219, 83, 68], [249, 156, 52], [252, 240, 164]]
)

add(
    {
        "rec.slider": (
            "Before | after: your picture, and what its codes give back",
            "之前 | 之后：你的图片，以及由码还原的图",
        ),
        "rec.slider.bare": (
            "Before | after: the codes as they came, and as they are now",
            "之前 | 之后：载入时的码，以及现在的码",
        ),
        "tile.psnr": ("PSNR", "峰值信噪比"),
        "tile.psnr.note": ("pixel by pixel, higher is closer", "逐像素比较，越高越接近"),
        "tile.ssim": ("SSIM", "结构相似度"),
        "tile.ssim.note": ("structure, 1 = equal", "结构，1 = 相同"),
        "tile.distance": ("Perceptual distance", "感知距离"),
        "tile.distance.note": ("as eyes judge, 0 = equal", "接近人眼的判断，0 = 相同"),
        "tile.codes": ("Distinct codes", "不同的码"),
        "tile.codes.note": ("in {cells} cells, of {codebook}", "共 {cells} 格，码本 {codebook} 个"),
        "tile.bits": ("Bits per pixel", "每像素比特"),
        "tile.bits.note": ("{bytes} in all", "总共 {bytes}"),
        "tile.ratio": ("Smaller than your file", "比原文件小"),
        "tile.larger": ("Larger than your file", "比原文件大"),
        "tile.ratio.note": (
            "{bytes} as it came ({width}×{height} px now)",
            "原文件 {bytes}（现为 {width}×{height} 像素）",
        ),
        "tile.capped": (
            "This picture was larger than {limit} px, the most that is decoded in one piece, and "
            "was scaled down to that.",
            "这张图片大于 {limit} 像素（一次解码的上限），因此已缩小到该尺寸。",
        ),
        "tile.bare": (
            "These codes came without their picture, so there is nothing to compare with.",
            "这些码没有附带原图，因此没有可比较的对象。",
        ),
        "card.code": ("Code", "码"),
        "card.here": (
            "in {count} of {cells} cells here ({share})",
            "在此图 {cells} 格中出现 {count} 次（{share}）",
        ),
        "card.alone": (
            "What it looks like alone: the middle of a {side}×{side} grid of nothing else.",
            "单独的样子：全部为此码的 {side}×{side} 网格的中央一格。",
        ),
        "card.near": (
            "The codes nearest to it (click to go on)",
            "与它最近的码（点击继续）",
        ),
        "webp.title": ("WebP at the same size", "相同字节数的 WebP"),
        "webp.note": (
            "{bytes} beside our {ours}. Perceptual distance {theirs} against {mine}.",
            "{bytes}，我们是 {ours}。感知距离 {theirs}，我们是 {mine}。",
        ),
        "webp.over": (
            "WebP cannot go below {bytes} here; our codes take {ours}. Perceptual distance "
            "{theirs} against {mine}.",
            "WebP 在此无法小于 {bytes}；我们的码占 {ours}。感知距离 {theirs}，我们是 {mine}。",
        ),
        "error.title": ("Where it is wrong", "误差分布"),
        "error.note": (
            "Dark: equal. Bright: off by {top} of 255 or more.",
            "暗：相同。亮：相差 {top}/255 或更多。",
        ),
    }
)


def byte_count(count: int) -> str:
    """612 B, 7.9 KB, 3.1 MB."""
    if count < 1000:
        return f"{count} B"
    unit, scale = ("KB", 1e3) if count < 999_500 else ("MB", 1e6)
    return f"{_times(count / scale)} {unit}"


def caption(session: Session) -> str:
    """What the slider compares."""
    key = "rec.slider.bare" if session.original is None else "rec.slider"
    return f'<div class="caption">{both(key)}</div>'


def _times(ratio: float) -> str:
    """How many times: 1.23, 45.6, 1,172."""
    return f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.3g}"


def _tile(key: str, value: str, label: str | None = None, **note: object) -> str:
    title = both(f"tile.{label or key}")
    return (
        f'<div class="tile" data-tile="{key}"><span class="tile-label">{title}</span>'
        f'<b>{value}</b><span class="tile-note">{both(f"tile.{key}.note", **note)}</span></div>'
    )


def tiles(session: Session, near: Closeness | None) -> str:
    """The figures of the picture now shown; `near` is how close it is to its original."""
    html = []
    if near is not None:
        psnr = "∞" if math.isinf(near.psnr) else f"{near.psnr:.1f}"
        html += [
            _tile("psnr", f"{psnr}<i>dB</i>"),
            _tile("ssim", f"{near.ssim:.3f}"),
            _tile("distance", f"{near.distance:.3f}"),
        ]
    html += [
        _tile("codes", str(session.distinct), cells=session.cells, codebook=session.codebook_size),
        _tile("bits", f"{session.bits_per_pixel:.3f}", bytes=byte_count(session.bytes)),
    ]
    if session.file_bytes:
        width, height = session.size
        ratio, label = session.file_bytes / session.bytes, None
        if ratio < 1:
            ratio, label = 1 / ratio, "larger"
        note = {"bytes": byte_count(session.file_bytes), "width": width, "height": height}
        html.append(_tile("ratio", f"{_times(ratio)}<i>×</i>", label, **note))
    notes = ""
    if session.capped:
        notes += f'<p class="note">{both("tile.capped", limit=NATIVE_LIMIT)}</p>'
    if near is None:
        notes += f'<p class="note">{both("tile.bare")}</p>'
    return f'<div class="tiles">{"".join(html)}</div>{notes}'


def code_card(studio: Studio, session: Session | None, code: int) -> str:
    """One code: its number, its look, its use in this picture, its neighbours in the codebook."""
    near = studio.neighbours(code, NEAREST)[0].tolist()
    own, *others = studio.store.of([code, *near])
    chips = "".join(
        f'<button type="button" class="chip" data-code="{n}"><img alt="" src="{data_url(cell)}">'
        f"{n}</button>"
        for n, cell in zip(near, others, strict=True)
    )
    here = both("rec.lost") if session is None else _use(session, code)
    return (
        f'<div class="card" data-code="{code}"><img class="card-cell" alt="" '
        f'src="{data_url(own)}"><div><div class="card-title">{both("card.code")} '
        f'<b>{code}</b></div><p>{here}</p><p class="note">{both("card.alone", side=SIDE)}</p></div>'
        f'<div class="card-near"><p class="note">{both("card.near")}</p>{chips}</div></div>'
    )


def _use(session: Session, code: int) -> str:
    count = int((session.indices == code).sum())
    share = percent(count / session.cells)
    return both("card.here", count=count, cells=session.cells, share=share)


def _figure(name: str, picture: Image.Image, note: str, extra: str = "") -> str:
    return (
        f'<figure class="picture" data-figure="{name}"><figcaption>{both(f"{name}.title")}'
        f'</figcaption><img alt="" src="{data_url(picture)}">{extra}<p class="note">{note}</p>'
        "</figure>"
    )


def webp(
    session: Session, mine: Closeness, rival: Image.Image, used: int, theirs: Closeness
) -> str:
    """The same picture as WebP, in as many bytes as its codes take."""
    key = "webp.over" if used > session.bytes else "webp.note"
    note = both(
        key,
        bytes=byte_count(used),
        ours=byte_count(session.bytes),
        theirs=f"{theirs.distance:.3f}",
        mine=f"{mine.distance:.3f}",
    )
    return _figure("webp", rival, note)


def error_map(session: Session) -> str:
    """Mean absolute error of each pixel, on a fixed scale."""
    a, b = (np.asarray(i, np.float32) for i in (session.original, session.result))
    picture = Image.fromarray(colours(np.abs(a - b).mean(2) / ERROR_TOP))
    legend = (
        f'<div class="legend"><span>0</span><i style="background:{gradient()}"></i>'
        f"<span>{ERROR_TOP}</span></div>"
    )
    return _figure("error", picture, both("error.note", top=ERROR_TOP), legend)


def colours(amount: np.ndarray) -> np.ndarray:
    """(H, W) in 0 to 1, clipped beyond -> (H, W, 3) uint8 from dark to bright."""
    at = amount.clip(0, 1) * (len(COLOURS) - 1)
    low = np.minimum(at.astype(int), len(COLOURS) - 2)
    share = (at - low)[..., None]
    return (COLOURS[low] * (1 - share) + COLOURS[low + 1] * share).round().astype(np.uint8)


def gradient() -> str:
    """The same scale for a legend, as CSS."""
    stops = ",".join(f"rgb({r} {g} {b})" for r, g, b in COLOURS)
    return f"linear-gradient(90deg,{stops})"
