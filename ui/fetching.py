"""What comes before a run of Text to image: is the wish a good one, and is its CLIP there?

A published CLIP may take minutes to come. So it is fetched before the run waits in line, where it
would hold up everybody, and only for a wish that can be drawn.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any

import gradio as gr

from clip_guidance.modes import Models, Request
from ui import compute
from ui import drawing_panel as panel
from ui.clips import Clips
from ui.common import Sentence
from ui.drawing import Drawn
from ui.drawing_inputs import Inputs, Opener, asked, opened, shown, unopened
from ui.runs import Run, Runs, budget
from ui.text import add

Wish = Callable[..., tuple[Request, str]]  # an event's inputs -> the request, the CLIP's name
POLL = 0.2  # seconds between two looks at a download
PATIENCE = 5.0  # the same for a run that a program asked for, with other visitors behind it
NAMES = [f.name for f in dataclasses.fields(Inputs)]

add(
    {
        "draw.fetching.later": (
            "The published CLIP “{name}” is being fetched, which takes minutes: ask again later.",
            "正在获取公开的 CLIP“{name}”，需要几分钟：请稍后再试。",
        ),
    }
)


def to_draw(_: Drawn | None, *values: Any, opener: Opener = opened) -> tuple[Request, str]:
    """What Draw wishes for. ValueError, saying what is wrong with it."""
    return asked(dict(zip(NAMES, values, strict=True)), opener)


def to_go_on(drawn: Drawn | None, *values: Any, opener: Opener = opened) -> tuple[Request, str]:
    """What Continue wishes for."""
    if drawn is None:
        raise Sentence("draw.nothing")
    return shown(dict(zip(NAMES, values, strict=True)), opener)


def fetcher(
    wish: Wish, clips: Clips, runs: Runs, change: Callable[..., list[Any]]
) -> Callable[..., Iterator[list[Any]]]:
    """The handler; `change` gives what an event shows. Stop ends the waiting, not the download."""

    def fetch(
        request: gr.Request, number: int, _: list[Drawn], drawn: Drawn | None, *given: Any
    ) -> Iterator[list[Any]]:
        with runs.turn(request.session_hash, number, last=False) as run:
            if run is None:  # it has ended in line
                yield change()
                return
            # Pictures are opened when the run has its turn: here many may be looked at at once.
            _, clip = wish(drawn, *given, opener=unopened)
            if clips.ready(clip):
                yield change()
                return
            yield change(stage=panel.kept(drawn, "draw.fetching"))
            coming = compute.apart(clips.get, clip)
            while not coming.done():
                if run.stop.wait(POLL):
                    raise Sentence("draw.fetching.stopped")
            coming.result()
            yield change(stage=panel.kept(drawn, "draw.waiting"))

    return fetch


def models(
    clips: Clips, clip: str, run: Run, nothing: list[Any]
) -> Generator[list[Any], None, Models | None]:
    """The models of a run that has its turn; None where it is stopped before they are there.

    What a click wishes for is there already (see `fetcher`). For what a program asks for it waits,
    telling `nothing` again and again, so that Gradio can end the run of a program that has left;
    but on a public Space not for long.
    """
    coming = compute.apart(clips.models, clip)
    if not clips.ready(clip):
        end = math.inf if budget() is None else time.monotonic() + PATIENCE
        while not coming.done():
            if run.stop.wait(POLL):
                return None
            if time.monotonic() > end:
                raise Sentence("draw.fetching.later", name=clip)
            yield nothing
    return coming.result()
