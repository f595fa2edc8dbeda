"""What comes before a run of Text to image: is the wish a good one, and is its CLIP there?

A published CLIP may take minutes to come. So it is fetched before the run waits in line, where it
would hold up everybody, and only for a wish that can be drawn.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from clip_guidance.modes import Request
from ui import compute
from ui import drawing_panel as panel
from ui.clips import Clips
from ui.common import Sentence
from ui.drawing import Drawn
from ui.drawing_inputs import Inputs, Opener, asked, opened, shown, unopened
from ui.runs import Runs

Wish = Callable[..., tuple[Request, str]]  # an event's inputs -> the request, the CLIP's name
POLL = 0.2  # seconds between two looks at a download
NAMES = [f.name for f in dataclasses.fields(Inputs)]


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
