"""The Text-to-image tab's own HTML: the picture as it grows, curves, candidates, history. Pure."""

from __future__ import annotations

import re
import zlib
from html import escape
from textwrap import shorten

from clip_guidance.rerank import Ranking
from prior.nearest import Found
from ui import compute
from ui.common import data_url
from ui.drawing import Drawn, View
from ui.sample_panel import near
from ui.session import file_stem
from ui.text import add, both
from vqgan.images import to_image

add(
    {
        "draw.start": (
            "Write what you want to see, or take one of the examples.",
            "写下想看到的内容，或选一个例子。",
        ),
        "draw.waiting": ("Waiting for its turn…", "排队中……"),
        "draw.ready": ("Getting ready…", "准备中……"),
        "draw.unbegun": ("Stopped before anything was drawn", "在开始画之前已停止"),
        "draw.fetching": (
            "Fetching the published CLIP. The first time takes minutes…",
            "正在获取公开的 CLIP，首次需要几分钟……",
        ),
        "draw.fetching.stopped": (
            "Stopped before the CLIP was there, so nothing was drawn. The download goes on: try "
            "again later.",
            "CLIP 还没取到就停止了，所以什么也没画。它会继续下载：请稍后再试。",
        ),
        "draw.writing": (
            "The prior writes: code {done} of {total}",
            "先验模型书写中：第 {done} / {total} 个码",
        ),
        "draw.unfinished": (
            "Stopped at code {done} of {total}",
            "已停在第 {done} / {total} 个码",
        ),
        "draw.picked": ("Best of {count} by CLIP", "CLIP 从 {count} 个中选出的最佳"),
        "draw.steps": ("Step {done} of {total}", "第 {done} / {total} 步"),
        "draw.rate": ("{rate} steps a second", "每秒 {rate} 步"),
        "draw.done": ("Done", "完成"),
        "draw.stopped": ("Stopped after {done} of {total} steps", "已在第 {done} / {total} 步停止"),
        "draw.example": (
            "An example: “{prompt}”, by the settings that this page opens with",
            "示例：“{prompt}”，用本页打开时的设置绘制",
        ),
        "draw.score": ("Score", "得分"),
        "draw.score.note": (
            "how well CLIP finds that the picture shows the prompt, at most 1",
            "CLIP 认为图片与提示词相符的程度，最高为 1",
        ),
        "draw.distance": ("Loss", "损失"),
        "draw.distance.note": (
            "spherical distance of the cutouts from the prompt, lower is nearer",
            "各裁剪与提示词的球面距离，越低越接近",
        ),
        "draw.candidates": ("What the prior wrote, best first", "先验模型写出的图，最佳在前"),
        "draw.candidates.note": (
            "CLIP's score below each. Click one to take it instead, then Continue.",
            "下方是 CLIP 得分。点击可改选，然后按“继续”。",
        ),
        "draw.candidates.other": (
            "CLIP's score below each, for “{prompt}”. Click one to take it instead, then Continue.",
            "下方是 CLIP 对“{prompt}”的得分。点击可改选，然后按“继续”。",
        ),
        "draw.history": ("Drawn so far", "已画的图"),
        "draw.seed.at": ("seed {seed}", "种子 {seed}"),
    }
)


def _chart(name: str, values: list[float]) -> str:
    """One curve over the steps, with its last value."""
    low, high = min(values), max(values)
    span = max(high - low, 1e-6)
    wide = max(len(values) - 1, 1)
    points = " ".join(
        f"{100 * i / wide:.2f},{38 - 36 * (v - low) / span:.2f}" for i, v in enumerate(values)
    )
    return (
        f'<figure class="dr-chart" data-chart="{name}" data-points="{len(values)}"><figcaption>'
        f"<span>{both(f'draw.{name}')}</span><b>{values[-1]:.3f}</b></figcaption>"
        '<svg viewBox="0 0 100 40" preserveAspectRatio="none" aria-hidden="true">'
        f'<polyline points="{points}" vector-effect="non-scaling-stroke"/></svg>'
        f'<p class="note">{both(f"draw.{name}.note")}</p></figure>'
    )


def curves(curve: tuple[tuple[float, float], ...]) -> str:
    """Score and loss of every step so far; nothing before the second one."""
    if len(curve) < 2:
        return ""
    distances, scores = (list(values) for values in zip(*curve, strict=True))
    return f'<div class="dr-charts">{_chart("score", scores)}{_chart("distance", distances)}</div>'


def name(drawn: Drawn) -> str:
    """What its files are called: the prompt, as far as a file's name can hold it."""
    words = re.sub(r"[/\\.]", "_", drawn.request.prompt[:40]).strip(" _")
    return file_stem(f"{words}.png") if words else file_stem("")


def _stage(picture: str, status: str, share: float, below: str, phase: str, step: int) -> str:
    return (
        f'<div class="dr" data-phase="{phase}" data-step="{step}"><div class="dr-status">'
        f'<span>{status}</span></div><div class="dr-bar"><i style="width:{100 * share:.1f}%"></i>'
        f'</div><div class="dr-picture">{picture}</div>{below}</div>'
    )


def _img(picture: object, says: str = "") -> str:
    return f'<img alt="{escape(says)}" decoding="sync" src="{data_url(picture)}">'


def _phase(key: str) -> str:
    """What goes on while a sentence stands there."""
    return "empty" if key in ("draw.start", "draw.unbegun") else "waiting"


def empty(key: str = "draw.start") -> str:
    """Before the first picture, or while a run waits and gets ready."""
    phase = _phase(key)
    return _stage(f"<p>{both(key)}</p>", "", 0, "", phase, 0)


def live(view: View) -> str:
    """The picture as it grows, or as far as it had grown."""
    status = both(f"draw.{view.phase}", done=view.done, total=view.total)
    if view.phase == "steps" and view.done and view.rate:
        status += f" · {both('draw.rate', rate=f'{view.rate:.1f}')}"
    if view.score is not None:
        status += f" · {both('draw.score')} {view.score:.3f}"
    share = view.done / max(view.total, 1)
    return _stage(_img(view.image), status, share, curves(view.curve), view.phase, view.done)


def kept(drawn: Drawn | None, key: str) -> str:
    """The picture that was there, while nothing has come of a newer wish; `key` says why."""
    if drawn is None:
        return empty(key)
    waits = _phase(key) == "waiting"
    image, phase = _img(drawn.image, drawn.request.prompt), "waiting" if waits else "kept"
    return _stage(image, both(key), float(not waits), curves(drawn.curve), phase, drawn.taken)


def finished(drawn: Drawn) -> str:
    """The picture as it was left."""
    total = drawn.request.guidance.steps
    cut = None if drawn.taken else drawn.cut
    if cut is not None:
        status = both("draw.unfinished", done=cut[0], total=cut[1])
    elif drawn.stopped is not None and drawn.stopped < total:
        status = both("draw.stopped", done=drawn.taken, total=total)
    elif drawn.example:
        status = both("draw.example", prompt=drawn.request.prompt)
    else:
        status = both("draw.done")
    status += f" · {both('draw.score')} {drawn.score:.3f}"
    stopped = cut is not None or drawn.stopped is not None
    phase = "example" if drawn.example else "stopped" if stopped else "done"
    image = _img(drawn.image, drawn.request.prompt)
    return _stage(image, status, 1, curves(drawn.curve), phase, drawn.taken)


def found(
    drawn: Drawn, nearest: list[Found] | None = None, scale: tuple[float, float] | None = None
) -> str:
    """The candidates it came from, and the training pictures that are most like it."""
    parts = []
    if drawn.ranking is not None and len(drawn.ranking.grids) > 1:
        parts.append(_candidates(drawn))
    if nearest:
        parts.append(near(nearest, scale, ""))
    return f'<div class="dr-found">{"".join(parts)}</div>' if parts else ""


def name_of(ranking: Ranking) -> str:
    """Tells these candidates from all others."""
    return f"{zlib.crc32(ranking.grids.cpu().numpy().tobytes()):08x}"


def _candidates(drawn: Drawn) -> str:
    ranking = drawn.ranking
    of = name_of(ranking)
    buttons = "".join(
        f'<button type="button" data-of="{of}" data-candidate="{i}" '
        f'aria-pressed="{str(i == drawn.picked).lower()}">'
        f'<img alt="" src="{data_url(compute.run(to_image, ranking.images[i]))}">'
        f"<span>{float(ranking.scores[i]):.3f}</span></button>"
        for i in ranking.order
    )
    return (
        f'<section><h3>{both("draw.candidates")}</h3><div class="dr-strip">{buttons}</div>'
        f'<p class="note">{_scored(drawn)}</p></section>'
    )


def _scored(drawn: Drawn) -> str:
    """What the candidates' scores are, by name where the prompt is another one by now."""
    wrote = drawn.request if drawn.wrote is None else drawn.wrote[0]
    if wrote.prompt == drawn.request.prompt or not wrote.prompt.strip():
        return both("draw.candidates.note")
    return both("draw.candidates.other", prompt=shorten(wrote.prompt, 80, placeholder="…"))


def history(results: list[Drawn], shown: int | None) -> str:
    """Everything drawn on this page, newest first; a click shows it again."""
    if not results:
        return ""
    buttons = "".join(
        f'<button type="button" data-number="{d.number}" title="{escape(d.request.prompt)}" '
        f'aria-pressed="{str(d.number == shown).lower()}"><img alt="" src="{data_url(d.image)}">'
        f"<span>{escape(d.request.prompt[:24])}</span></button>"
        for d in reversed(results)
    )
    return (
        f'<section><h3>{both("draw.history")}</h3><div class="dr-strip">{buttons}</div></section>'
    )
