"""Between two pictures: the way from one to the other in z and in codes, side by side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr
import numpy as np
import torch

from ui import examples, kept
from ui import session as sessions
from ui.common import ANSWER, EACH, Sentence, data_url, heavy, path_of, present, said, whole
from ui.examples import EXAMPLES
from ui.session import Session
from ui.studio import Studio
from ui.text import add, both, t
from vqgan.grids import blend, jumps
from vqgan.images import letterbox, open_image

add(
    {
        "between.title": ("Between two pictures", "两张图片之间"),
        "between.own": ("Another picture…", "其他图片…"),
        "between.t": ("Share of the second picture", "第二张图片所占比例"),
        "between.z": ("In z: mixed, not quantised", "在 z 中：混合，不量化"),
        "between.z.note": (
            "The decoder gets the mixture itself, so every step moves everything a little.",
            "解码器直接得到混合结果，因此每一步都让整体稍微移动。",
        ),
        "between.codes": ("In codes: mixed, then quantised", "在码中：混合，再量化"),
        "between.codes.note": (
            "Each cell must take a code that exists. {same} of {cells} cells have one code in both "
            "pictures; of the others, {first} still have the first one's, {second} have the "
            "second's already, {neither} have one of neither.",
            "每个格子都必须取一个已有的码。{cells} 格中，{same} 格在两张图里是同一个码；"
            "其余的格子中，{first} 格仍是第一张图的码，{second} 格已是第二张图的码，"
            "{neither} 格两者都不是。",
        ),
        "between.jumps": (
            "Cells that change their code, step by step. z has no such steps: a discrete space "
            "can only jump.",
            "逐步发生换码的格子数。z 中没有这样的台阶：离散空间只能跳跃。",
        ),
    }
)


@dataclass(frozen=True)
class Pair:
    """Two pictures as latents (1, D, h, w), and how many cells jump at each step between them."""

    of: tuple  # the session's picture it was made for
    first: torch.Tensor
    second: torch.Tensor
    size: tuple[int, int]
    jumps: np.ndarray
    second_source: str


def identity(session: Session) -> tuple:
    """What tells one picture of a visitor from the next.

    The codes too: those of another tab have no file, and their names come again.
    """
    return session.source, session.name, session.size, session.encoded.tobytes()


def pair(studio: Studio, session: Session, second: str) -> Pair:
    """The visitor's picture (as the encoder saw it) and a second one."""
    if session.original is not None:
        a = sessions.latents(studio, session.original)
    elif studio.vqgan.config.quantizer == "gumbel":  # whose codes lie elsewhere than its latents
        a = sessions.latents(studio, session.result)
    else:
        codes = torch.from_numpy(session.encoded)[None].to(studio.device)
        with torch.inference_mode():
            a = studio.vqgan.quantize.lookup(codes)
    b = sessions.latents(studio, letterbox(open_image(present(second)), session.size))
    steps = jumps(studio.vqgan, a, b)
    return Pair(identity(session), a, b, session.size, steps, second)


def _bars(steps: np.ndarray, share: float) -> str:
    """The jumps as bars, those already passed in full colour."""
    top, width = max(int(steps.max()), 1), 100 / len(steps)
    bars = "".join(
        f'<rect x="{i * width:.2f}" width="{width * 0.8:.2f}" y="{30 - 30 * n / top:.2f}" '
        f'height="{30 * n / top:.2f}" class="{"past" if (i + 0.5) / len(steps) <= share else ""}"/>'
        for i, n in enumerate(steps.tolist())
    )
    return (
        '<svg class="bars" viewBox="0 0 100 30" preserveAspectRatio="none" aria-hidden="true">'
        f"{bars}</svg>"
        f'<p class="note">{both("between.jumps")}</p>'
    )


def panel(studio: Studio, two: Pair, share: float) -> str:
    """Both pictures at one point of the way, and where the codes jump."""
    found = blend(studio.vqgan, two.first, two.second, share, two.size)
    with torch.inference_mode():
        a, b = (
            studio.vqgan.quantize.encode(z).indices[0].cpu().numpy()
            for z in (two.first, two.second)
        )
    now, same = found.indices, a == b
    counts = {
        "cells": a.size,
        "same": int(same.sum()),
        "first": int(((now == a) & ~same).sum()),
        "second": int(((now == b) & ~same).sum()),
        "neither": int(((now != a) & (now != b)).sum()),
    }
    figures = "".join(
        f'<figure class="picture" data-figure="{key}"><figcaption>{both(f"between.{key}")}'
        f'</figcaption><img alt="" src="{data_url(image)}"><p class="note">{note}</p></figure>'
        for key, image, note in (
            ("z", found.continuous, both("between.z.note")),
            ("codes", found.discrete, both("between.codes.note", **counts)),
        )
    )
    return f'<div class="pair">{figures}</div>{_bars(two.jumps, share)}'


def _place(share: object) -> float:
    """How far along the way, 0 to 1, of what the slider has sent."""
    if isinstance(share, bool) or not isinstance(share, (int, float)) or share != share:  # NaN
        raise Sentence("error.said")
    return float(min(max(share, 0), 1))


def build(
    studio: Studio, session: gr.State, picture: gr.Textbox
) -> Callable[[gr.events.Dependency], None]:
    """The fold-out. Nothing is computed before it is opened.

    `picture`: which one the page shows (`kept.shown`).
    -> a function that keeps it up to date: call it with each event that opens another picture.
    """
    with gr.Accordion(t("between.title"), open=False, elem_id="between") as fold:
        two = gr.State(None)
        second = gr.State(str(EXAMPLES[1].path))
        with gr.Row(elem_classes="between-sources"):
            thumbnails = examples.row("examples-second", "example.second")
            own = gr.UploadButton(t("between.own"), file_types=["image"], size="sm", scale=0)
        share = gr.Slider(0, 1, 0.5, step=0.025, label=t("between.t"), elem_id="share")
        view = gr.HTML(apply_default_css=False, elem_id="between-view")

    def show(
        session: Session, two: Pair | None, second: str, share: float, picture: str = ""
    ) -> tuple[Any, str]:
        kept.check_shown(session, picture)
        if two is None or two.of != identity(session) or two.second_source != second:
            two = pair(studio, session, second)
        return two, panel(studio, two, _place(share))

    def take_example(
        event: gr.EventData, session: Session, share: float, picture: str
    ) -> tuple[Any, str, str]:
        path = str(EXAMPLES[whole(said(event).get("index")) % len(EXAMPLES)].path)
        return (path, *show(session, None, path, share, picture))

    def take_upload(
        file: object, session: Session, share: float, picture: str
    ) -> tuple[Any, str, str]:
        path = str(path_of(file))
        return (path, *show(session, None, path, share, picture))

    def renew(session: Session, two: Pair | None, second: str, share: float) -> Any:
        if two is None or two.of == identity(session):
            return gr.skip()  # never opened, or the same picture
        return show(session, two, second, share)

    common: dict[str, Any] = {"show_progress": "minimal", "api_visibility": "private", **ANSWER}
    unread = {"preprocess": False, **common}  # Gradio would stumble over what is no number
    inputs, outputs = [session, two, second, share], [two, view]
    chosen, now = [second, *outputs], [session, share, picture]
    last: dict[str, Any] = {"trigger_mode": "always_last", **unread}

    fold.expand(heavy(show), outputs=outputs, **kept.told([*inputs, picture]), **unread)
    share.input(heavy(show), outputs=outputs, **kept.told([*inputs, picture]), **last)
    thumbnails.pick(heavy(take_example), outputs=chosen, **kept.told(now), **unread, **EACH)
    own.upload(heavy(take_upload), outputs=chosen, **kept.told([own, *now]), **last)

    def follow(event: gr.events.Dependency) -> None:
        event.success(heavy(renew), inputs, outputs, **unread)

    return follow
