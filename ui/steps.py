"""One code at a time: what the prior expects next, and what becomes of a picture if one differs."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import torch

from prior.decode import packed
from prior.reader import Reader
from prior.sample import logits_to_probs, sample
from ui import classes, writing
from ui.common import ANSWER, Sentence, data_url, heavy, whole
from ui.sample_board import STREAM
from ui.sample_runs import LIGHT, Settings
from ui.studio import Studio
from ui.text import add, both, percent, t
from ui.writing import Request
from vqgan.grids import check_code

STATIC = Path(__file__).parent / "static"
OFFERED = 18  # candidates shown
FIRST = ("start", "random", "picked")

add(
    {
        "steps.title": ("One code at a time", "一次一个码"),
        "steps.lead": (
            "The orange cell comes next. Beside it: the codes the prior finds likeliest there. "
            "Click one to force it, or let one be drawn; click a written cell to go back to it and "
            "take another way.",
            "橙色的格子是下一个。旁边是先验模型认为最可能的码。点击一个即可强制采用，也可以抽取；"
            "点击已写的格子可回到那里，另走一条路。",
        ),
        "steps.first": ("First code", "第一个码"),
        "steps.first.info": (
            "From the start token, which the prior knows; random, as the article has it; or one of "
            "your own.",
            "由先验模型的起始标记预测；随机（如文章所述）；或自己选择。",
        ),
        "steps.first.start": ("Start token", "起始标记"),
        "steps.first.random": ("Random", "随机"),
        "steps.first.picked": ("Picked", "自选"),
        "steps.code": ("Code", "码"),
        "steps.one": ("Draw one", "抽一个"),
        "steps.row": ("Draw a row", "抽一行"),
        "steps.rest": ("Draw the rest", "抽完"),
        "steps.back": ("Back one", "退一步"),
        "steps.over": ("Start over", "重新开始"),
        "steps.before": ("predicted", "预测"),
        "steps.after": ("after temperature, top-k, top-p", "经温度、top-k、top-p 之后"),
        "steps.where": (
            "Code {number} of {total}: row {row}, column {column}",
            "第 {number} / {total} 个码：第 {row} 行，第 {column} 列",
        ),
        "steps.others": (
            "The other {count} codes together: {before} of the prediction, {after} after "
            "temperature, top-k and top-p.",
            "其余 {count} 个码共占预测的 {before}；经过温度、top-k 和 top-p 后占 {after}。",
        ),
        "steps.done": (
            "All {total} codes are written. Click a cell to go back to it.",
            "全部 {total} 个码都已写完。点击格子可回到那里。",
        ),
        "steps.code.none": (
            "There is no first code: it must be a whole number from 0 to {most}.",
            "还没有填写第一个码：它必须是 0 到 {most} 之间的整数。",
        ),
        "steps.lost": (
            "What was written here is no longer kept: the page was left for long, or the app was "
            "restarted. Choose the first code to begin anew.",
            "这里写过的内容已不再保留：页面闲置过久，或应用已重启。请选择第一个码重新开始。",
        ),
        "steps.was": ("was here", "原先在此"),
    }
)


@dataclass(frozen=True)
class Text:
    """What has been written so far, in raster order."""

    codes: tuple[int, ...] = ()
    given: int = 0  # codes at the start that no one drew: random or picked
    was: int | None = None  # what stood in the next cell before it was gone back to


@dataclass(frozen=True)
class Candidates:
    """The likeliest codes for the next cell, likeliest first."""

    codes: np.ndarray  # (n,) int64
    before: np.ndarray  # (n,) what the prior predicts
    after: np.ndarray  # (n,) what is drawn from
    others: tuple[int, float, float]  # how many more there are, and their shares


def _told(studio: Studio, ask: Request) -> torch.Tensor | None:
    """(1,) the class of picture 0 of a run; None where the prior takes none."""
    given = classes.drawn(studio, 1, ask.seed, ask.label)
    return None if given is None else given.drawing(studio, 1)["condition"]


def _logits(studio: Studio, codes: tuple[int, ...], ask: Request) -> torch.Tensor:
    """(K,) float32: logits of the code after these."""
    prior = studio.bundle.prior
    weights, told = packed(prior), _told(studio, ask)
    with torch.no_grad():
        told = None if told is None else told.to(weights.device)
        reader = Reader(prior, weights, 1, told, 1.0)
        tokens = torch.tensor([codes], dtype=torch.int64, device=weights.device)
        return reader.restart(tokens)[1][0, -1].float().cpu()


def candidates(studio: Studio, codes: tuple[int, ...], ask: Request) -> Candidates:
    """What may come after `codes`, before and after the settings have had their say."""
    logits = _logits(studio, codes, ask)[None]
    before = torch.softmax(logits, -1)[0].numpy()
    after = logits_to_probs(logits, **ask.drawing)[0].numpy()
    order = np.argsort(-before, kind="stable")
    top, rest = order[:OFFERED], order[OFFERED:]
    others = (len(rest), float(before[rest].sum()), float(after[rest].sum()))
    return Candidates(top, before[top], after[top], others)


def draw(studio: Studio, text: Text, ask: Request, count: int) -> Text:
    """`count` more codes, drawn as picture 0 of a run without ideas would, with this seed."""
    cfg = studio.bundle.prior.config
    until = min(len(text.codes) + count, cfg.tokens)
    known = np.full(cfg.tokens, -1)
    known[: len(text.codes)] = text.codes
    given = torch.from_numpy(known.reshape(1, cfg.height, cfg.width))
    how = {"known": given, "condition": _told(studio, ask), **ask.drawing}
    for step in sample(studio.bundle.prior, 1, seed=ask.seed, **how):
        if step.done >= until:
            break
    codes = step.grid.flatten()[:until].tolist()
    return replace(text, codes=tuple(codes), was=None)


def force(studio: Studio, text: Text, code: object) -> Text:
    """One more code, the visitor's own choice."""
    if len(text.codes) == studio.bundle.prior.config.tokens:
        return text
    code = check_code(code, studio.codebook_size)
    return replace(text, codes=(*text.codes, code), was=None)


def rewind(text: Text, cell: object) -> Text:
    """Back to the moment before `cell` was written; what came before it stays.

    A cell that is not written yet changes nothing. Sentence for what is no whole number.
    """
    if whole(cell) < 0:
        return text
    cell = max(cell, text.given)
    if cell >= len(text.codes):
        return text
    return replace(text, codes=text.codes[:cell], was=text.codes[cell])


def begin(studio: Studio, first: str, seed: int, picked: object) -> Text:
    """An empty text, or one with its first code given."""
    if first == "random":
        source = torch.Generator().manual_seed(seed)
        return Text((int(torch.randint(studio.codebook_size, (1,), generator=source)),), 1)
    if first == "picked" and picked is None:  # the field is empty
        raise Sentence("steps.code.none", most=studio.codebook_size - 1)
    if first == "picked":
        return Text((check_code(picked, studio.codebook_size),), 1)
    return Text()


def share(value: float) -> str:
    """0.4312 -> 43.1 %, 0.00004 -> <0.1 %."""
    if value == 0:
        return "0"
    return "<0.1 %" if value < 0.001 else percent(value)


def value(studio: Studio, text: Text, ask: Request) -> dict[str, Any]:
    """What the page draws."""
    cfg = studio.bundle.prior.config
    total, done = cfg.tokens, len(text.codes)
    flat = np.full(total, -1)
    flat[:done] = text.codes
    picture = writing.paint(studio, torch.from_numpy(flat.reshape(1, cfg.height, cfg.width)))[0]
    shown = {
        "image": data_url(picture),
        "rows": cfg.height,
        "columns": cfg.width,
        "codes": list(text.codes),
        "given": text.given,
        "candidates": [],
        "where": both("steps.done", total=total),
        "others": "",
    }
    if done == total:
        return shown
    found = candidates(studio, text.codes, ask)
    places = {"row": done // cfg.width + 1, "column": done % cfg.width + 1}
    count, before, after = found.others
    rows = zip(
        found.codes.tolist(),
        studio.store.of(found.codes.tolist()),
        found.before.tolist(),
        found.after.tolist(),
        strict=True,
    )
    return shown | {
        "where": both("steps.where", number=done + 1, total=total, **places),
        "others": both("steps.others", count=count, before=share(before), after=share(after)),
        "candidates": [
            {
                "code": code,
                "image": data_url(cell),
                "before": b,
                "after": a,
                "beforeText": share(b),
                "afterText": share(a),
                "was": code == text.was,
            }
            for code, cell, b, a in rows
        ],
    }


def build(studio: Studio, settings: Settings, picked: gr.State | None) -> None:
    """The fold-out. Nothing is computed before it is opened; `picked` is a code of another tab."""
    prefix = bool(studio.bundle.prior.config.prefix)
    choices = FIRST if prefix else FIRST[1:]
    template = (STATIC / "steps.html").read_text("utf-8")
    with gr.Accordion(t("steps.title"), open=False, elem_id="steps") as fold:
        text = gr.State(None)
        with gr.Row(elem_classes="steps-first"):
            first = gr.Radio(
                [(t(f"steps.first.{name}"), name) for name in choices],
                value=choices[0],
                label=t("steps.first"),
                info=t("steps.first.info"),
                elem_id="steps-first",
            )
            code = gr.Number(
                0 if picked is None else picked.value,
                precision=0,
                label=t("steps.code"),
                visible=False,
                elem_id="steps-code",
                scale=0,
                min_width=140,
            )
        board = gr.HTML(
            {"image": None},
            html_template=re.sub(r"\[\[(.+?)\]\]", lambda m: both(m[1]), template),
            js_on_load=(STATIC / "steps.js").read_text("utf-8"),
            apply_default_css=False,
            elem_id="steps-board",
        )
    _connect(studio, settings, fold, text, first, code, board)
    if picked is not None:
        picked.change(lambda code: code, picked, code, **{**LIGHT, "queue": False})


def _connect(
    studio: Studio,
    settings: Settings,
    fold: gr.Accordion,
    text: gr.State,
    first: gr.Radio,
    code: gr.Number,
    board: gr.HTML,
) -> None:
    """Clicks, and settings that change what would be drawn."""

    def show(text: Text, ask: Request) -> tuple[Text, dict[str, Any]]:
        return text, value(studio, text, ask)

    def anew(first: str, code: object, *values: object) -> tuple[Text, dict[str, Any]]:
        ask = writing.request(studio, *values)
        return show(begin(studio, first, ask.seed, code), ask)

    def opened(text: Text | None, first: str, code: object, *values: object) -> Any:
        return gr.skip() if text is not None else anew(first, code, *values)

    def again(text: Text | None, *values: object) -> Any:
        return gr.skip() if text is None else show(text, writing.request(studio, *values))

    def act(event: gr.EventData, text: Text | None, *values: object) -> Any:
        data = event._data if isinstance(event._data, dict) else {}
        if text is None:  # a page cannot act before it has opened
            raise Sentence("steps.lost")
        ask = writing.request(studio, *values)
        if "code" in data:
            if data.get("at") == len(text.codes):  # a double click's second one is for a cell past
                text = force(studio, text, data["code"])
        elif "cell" in data:
            text = rewind(text, data["cell"])
        elif "back" in data:  # from the newest text: the page may not show it yet
            if data["back"] not in ("one", "all"):
                raise Sentence("error.said")
            text = rewind(text, 0 if data["back"] == "all" else len(text.codes) - 1)
        elif "draw" in data:
            width = studio.bundle.prior.config.width
            counts = {
                "one": 1,
                "row": width - len(text.codes) % width,
                "rest": studio.bundle.prior.config.tokens,
            }
            if not isinstance(data["draw"], str) or data["draw"] not in counts:
                raise Sentence("error.said")
            count = counts[data["draw"]]
            text = draw(studio, text, ask, count)
        return show(text, ask)

    how, outputs = {**STREAM, **ANSWER}, [text, board]
    fold.expand(heavy(opened), [text, first, code, *settings.all], outputs, **how)
    start = [first, code, *settings.all]
    first.input(lambda name: gr.Number(visible=name == "picked"), first, code, **LIGHT)
    newest = {"trigger_mode": "always_last", **how}
    first.input(heavy(anew), start, outputs, **newest)
    code.submit(heavy(anew), start, outputs, **newest)
    board.act(heavy(act), [text, *settings.all], outputs, trigger_mode="multiple", **how)
    for knob in (settings.temperature, settings.top_k, settings.top_p):
        knob.change(heavy(again), [text, *settings.all], outputs, trigger_mode="always_last", **how)
