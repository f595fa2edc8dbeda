"""The Sample tab's board: what a run fills, and how a click becomes a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from ui import gallery
from ui.common import RUN, heavy
from ui.runs import Filled, Run, Runs, ticket
from ui.writing import Batch, Request

QUICK: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "queue": False}
# Values reach `writing.request` as the browser sent them, so that each has its own sentence.
STREAM: dict[str, Any] = {
    "show_progress": "hidden",
    "api_visibility": "private",
    "preprocess": False,
    **RUN,
}


@dataclass(frozen=True)
class Board(Filled):
    """What a run fills."""

    batch: gr.State
    picked: gr.State
    pictures: gr.HTML
    about: gr.HTML
    save: gr.DownloadButton
    open: gr.Button
    go: gr.Button
    halt: gr.Button


def ready(interactive: bool) -> gr.Button:
    return gr.Button(interactive=interactive)


def switch(running: bool) -> dict[str, gr.Button]:
    """Which buttons can be pressed."""
    return {"go": ready(not running), "halt": ready(running)}


@dataclass(frozen=True)
class Turn:
    """A run that has its turn, and what the board showed when it began."""

    run: Run = field(default_factory=lambda: Run(None))
    batch: Batch | None = None
    picked: int = 0

    def nothing(self, ask: Request) -> dict[str, Any]:
        """Values for the board if nothing comes of it: what was there before."""
        key = "gallery.waiting" if self.run.replaced else "gallery.nothing"
        if self.batch is None:
            pictures = gallery.empty(ask.count, ask.size, key)
        else:
            pictures = gallery.finished(self.batch, self.picked) | gallery.says(key)
        return {"pictures": pictures, **({} if self.run.replaced else switch(False))}


@dataclass(frozen=True)
class Starter:
    """Makes an event start a run: Stop works from the click on, even while the run waits.

    A handler `(turn, what the event says, *inputs)` is a generator of changes.
    """

    runs: Runs
    board: Board

    def by(self, event: Callable, name: str | None, handler: Callable, inputs: list[Any]) -> None:
        """A click; what it says goes by `name`."""
        runs, board = self.runs, self.board
        told = ticket()

        def armed(event: gr.EventData, request: gr.Request) -> list[Any]:
            data = event._data if isinstance(event._data, dict) else {}
            number = runs.arm(request.session_hash)
            change = board.change(pictures=gallery.says("gallery.waiting"), **switch(True))
            return [{"number": number, "said": data.get(name)}, *change]

        def failed(request: gr.Request, batch: Batch | None, picked: int) -> list[Any]:
            if not runs.failed(request.session_hash):
                return board.change()
            shown = gallery.says("gallery.empty")
            if batch is not None:
                shown = gallery.finished(batch, picked)
            return board.change(pictures=shown, **switch(False))

        armed_ = event(armed, None, [told, *board.shown], **QUICK)
        # "multiple", as else Gradio drops a run asked for while the last one's figures still come.
        how = {**STREAM, "trigger_mode": "multiple"}
        given = [told, board.batch, board.picked, *inputs]
        ran = armed_.then(heavy(self._ran(handler)), given, board.shown, **how)
        ran.failure(failed, [board.batch, board.picked], board.shown, **QUICK)

    def unclicked(self, handler: Callable) -> Callable[..., Iterator[list[Any]]]:
        """The same without a page: `(request, *inputs)`."""
        run = self._ran(handler)
        return lambda request, *values: run(request, None, None, 0, *values)

    def _ran(self, handler: Callable) -> Callable[..., Iterator[list[Any]]]:
        def run(
            request: gr.Request, told: Any, batch: Batch | None, picked: int, *values: Any
        ) -> Iterator[list[Any]]:
            told = told if isinstance(told, dict) else {}
            with self.runs.turn(request.session_hash, told.get("number")) as begun:
                if begun is None:  # it has ended in line
                    yield self.board.change()  # of nothing at all Gradio makes empty components
                    return
                # Again, since an earlier run that has just ended may have switched them back.
                yield self.board.change(**switch(True))
                yield from handler(Turn(begun, batch, picked), told.get("said"), *values)

        return run
