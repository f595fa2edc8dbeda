"""The Text-to-image tab's board: what a run fills, and how it does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import gradio as gr
import numpy as np

from clip_guidance import record
from ui import drawing
from ui import drawing_panel as panel
from ui.clips import Clips
from ui.downloads import Folders
from ui.drawing import Drawn, View
from ui.runs import Filled, Run, Runs
from ui.studio import Studio
from ui.text import add, both

KEPT = 12  # pictures in the history
NEAREST = 2  # training pictures shown beside a result
LOOKS, PAUSE = 100, 0.05  # how often, and how many seconds apart, a click looks for a run's end

add(
    {
        "draw.busy": (
            "A picture is being drawn: wait until it is there, or press Stop first.",
            "正在画图：请等它画完，或先按“停止”。",
        ),
    }
)


@dataclass(frozen=True)
class Desk:
    """What this tab knows; shared by all visitors."""

    studio: Studio
    clips: Clips
    runs: Runs = field(default_factory=Runs)
    downloads: Folders = field(default_factory=Folders)
    # Set while a run's picture is out and its figures and files are still to come.
    ending: threading.Event = field(default_factory=threading.Event)

    def files(self, drawn: Drawn) -> tuple[str, str | None]:
        """The picture as a PNG that knows how it was made, and the way as a GIF."""
        folder = self.downloads.new()
        stem = panel.name(drawn)
        also: dict[str, Any] = {} if drawn.stopped is None else {"stopped": drawn.stopped}
        if drawn.cut is not None:
            also["stopped_code"] = drawn.cut[0]
        if drawn.earlier:
            also["earlier"] = drawn.earlier
        if drawn.ranking is not None and drawn.picked is not None:
            place = drawn.ranking.order.index(drawn.picked)
            # The visitor's choice, not CLIP's; or CLIP's, without the steps that Draw would take.
            bare = drawn.request.mode != "prior" and drawn.state is None and drawn.stopped is None
            also |= {"candidate": place + 1} if place or bare else {}
        made = record.settings(
            drawn.request,
            bundle=self.studio.bundle.name,
            clip=drawn.clip,
            score=round(drawn.score, 4),
            **also,
        )
        record.write(folder / f"{stem}.png", drawn.image, made, drawn.codes)
        way = drawing.animation(drawn.frames, drawn.image)
        if way is None:
            return str(folder / f"{stem}.png"), None
        (folder / f"{stem}.gif").write_bytes(way)
        return str(folder / f"{stem}.png"), str(folder / f"{stem}.gif")

    def given(self, drawn: Drawn) -> tuple[list[str], dict[str, Any]]:
        """What a program gets: the picture, the way there if there is one, and the score."""
        files = [path for path in self.files(drawn) if path is not None]
        return files, {"score": round(drawn.score, 4), "steps": drawn.taken}


@dataclass(frozen=True)
class Board(Filled):
    """What a run fills."""

    drawn: gr.State
    results: gr.State
    stage: gr.HTML
    found: gr.HTML
    history: gr.HTML
    png: gr.DownloadButton
    gif: gr.DownloadButton
    go: gr.Button
    halt: gr.Button
    more: gr.Button
    open: gr.Button


def switch(running: bool, more: bool) -> dict[str, gr.Button]:
    """Which buttons can be pressed. Those of files come back with `told_of` or `had` alone: the
    picture of a run is seen before its files are there, and the ones of before are not its own.
    """
    return {
        "go": gr.Button(interactive=not running),
        "halt": gr.Button(interactive=running),
        "more": gr.Button(interactive=not running and more),
        "open": gr.Button(interactive=not running and more),
        **(had(None) if running else {}),
    }


def had(drawn: Drawn | None) -> dict[str, gr.DownloadButton]:
    """The buttons of a picture's files, which are there; of no picture there are none."""
    way = drawn is not None and bool(drawn.frames)
    return {
        "png": gr.DownloadButton(interactive=drawn is not None),
        "gif": gr.DownloadButton(interactive=way),
    }


def follow(
    desk: Desk,
    board: Board,
    run: Run,
    results: list[Drawn],
    before: Drawn | None,
    steps: Iterator[View | Drawn],
) -> Iterator[list[Any]]:
    """Show a run all the while, then keep what came out of it; `before` was on the stage."""
    step = None
    for step in steps:
        if isinstance(step, View):
            yield board.change(stage=panel.live(step))
    unfinished = isinstance(step, View)
    # What was hardly begun when the visitor wished for something else is no picture to keep.
    hardly = step is None or unfinished or not step.taken
    nothing = step is None or (run.newer is not None and hardly)
    switches = {} if run.replaced else switch(False, not nothing or before is not None)
    if nothing:
        key = "draw.waiting" if run.replaced else "draw.unbegun"
        told = {} if before is None else told_of(desk, before)
        told |= had(None) if run.replaced else {}
        yield board.change(stage=panel.kept(before, key), **switches, **told)
        return
    if unfinished:  # it stays on the stage, and there is nothing to say about it
        listed, off = panel.history(results, None), {**switch(False, False), **had(None)}
        yield board.change(drawn=None, found="", history=listed, **off)
        return
    results = [*results, step][-KEPT:]
    desk.ending.set()
    try:
        yield board.change(
            drawn=step,
            results=results,
            stage=panel.kept(step, "draw.waiting") if run.replaced else panel.finished(step),
            history=panel.history(results, step.number),
            **switches,
        )
        yield board.change(**told_of(desk, step))
    finally:
        desk.ending.clear()


def told_of(desk: Desk, drawn: Drawn) -> dict[str, Any]:
    """What there is to say about a picture, and its files."""
    png, gif = desk.files(drawn)
    training = desk.studio.training
    nearest = None if training is None else training.nearest(np.asarray(drawn.image), NEAREST)
    return {
        "found": panel.found(drawn, nearest, training and training.scale),
        "png": gr.DownloadButton(value=png, interactive=True),
        "gif": gr.DownloadButton(value=gif, interactive=gif is not None),
    }


def opened(desk: Desk, board: Board, results: list[Drawn], visitor: str) -> list[Any]:
    """The examples, when the tab is opened for the first time."""
    kept = [] if results else drawing.examples(desk.studio)
    if not kept:
        return board.change()
    return board.change(results=kept, **shown(desk, kept[-1], kept, visitor, opening=True))


def shown(
    desk: Desk, drawn: Drawn, results: list[Drawn], visitor: str, opening: bool = False
) -> dict[str, Any]:
    """One of the results on the stage, with all there is to say about it.

    While a run of the visitor waits or works, the page is left to it: nothing changes, or on
    opening all but the buttons and the stage.
    """
    values = {"drawn": drawn, "stage": panel.finished(drawn), **told_of(desk, drawn)}
    values["history"] = panel.history(results, drawn.number)
    if not desk.runs.alive(visitor):  # asked last: meanwhile a run may have been wished for
        return values | switch(False, True)
    if not opening:
        return {}
    del values["stage"]
    return values


def looked_at(
    desk: Desk, board: Board, drawn: Drawn, results: list[Drawn], visitor: str
) -> list[Any]:
    """A click on a picture that is there. The page is one run's or one picture's, never of both."""
    for _ in range(LOOKS):
        if not (desk.ending.is_set() and desk.runs.alive(visitor)):
            break
        time.sleep(PAUSE)
    values = {} if desk.runs.alive(visitor) else shown(desk, drawn, results, visitor)
    if not values:
        gr.Info(both("draw.busy"))
    return board.change(**values)


def in_turn(
    desk: Desk, board: Board, handler: Callable[..., Iterator[list[Any]]], clicked: bool = True
) -> Callable[..., Iterator[list[Any]]]:
    """The handler with the run that it is; quiet where that has ended in line."""

    def clicks(request: gr.Request, number: int | None, *given: Any) -> Iterator[list[Any]]:
        with desk.runs.turn(request.session_hash, number) as run:
            # Something must be said: of nothing at all Gradio makes empty components.
            yield from [board.change()] if run is None else handler(desk, board, run, *given)

    def asked(request: gr.Request, *values: Any) -> Iterator[list[Any]]:
        yield from clicks(request, None, [], None, *values)

    return clicks if clicked else asked
