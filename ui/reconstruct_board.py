"""The Reconstruct tab's board: what one picture shows, and what a stroke on its grid does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr
import numpy as np

from ui import kept, panels
from ui import session as sessions
from ui.common import ANSWER, EACH, QUICK, Sentence, answered, friendly, said, whole
from ui.session import Session
from ui.studio import Studio
from ui.text import add
from vqgan.grids import check_code, paint, shuffle, swap

Answer = Callable[[Session], list[Any]]  # a session -> new values for `Board.shown`
Edit = Callable[[Session, dict], Session]

# What a refused stroke would have painted goes from the canvas; its answer else takes it away.
REFUSED = "() => { window.dispatchEvent(new Event('studio:refused')); }"
PRIVATE: dict[str, Any] = {"api_visibility": "private"}

add(
    {
        "rec.stroke": (
            "That stroke could not be understood: reload the page and try again.",
            "无法识别这一笔：请刷新页面后重试。",
        ),
    }
)


@dataclass(frozen=True)
class Board:
    """What one picture shows."""

    session: gr.State
    picked: gr.State
    last: gr.State
    caption: gr.HTML  # says when the slider's pictures take long
    slider: gr.ImageSlider
    grid: gr.HTML
    save_picture: gr.DownloadButton
    save_codes: gr.DownloadButton
    figures: gr.HTML
    card: gr.HTML
    error: gr.HTML

    @property
    def shown(self) -> list[gr.components.Component]:
        """In the order of `reconstruct._answer`."""
        saved = self.save_picture, self.save_codes
        return [self.session, self.slider, self.grid, *saved, self.caption]

    @property
    def busy(self) -> dict[str, Any]:
        """For events that change the picture: studio.css shows a bar once one takes long.

        Not on the slider itself: Gradio draws its clock anew with every frame, which on two cores
        takes a tenth of a second from a quick answer.
        """
        return {"show_progress_on": self.caption, "show_progress": "minimal", **ANSWER}


def _cells(data: dict, indices: np.ndarray) -> list[tuple[int, int]]:
    """The cells of a stroke, as the browser sent them."""
    cells = data.get("cells")
    if not isinstance(cells, list) or len(cells) > 4 * indices.size:
        raise Sentence("rec.stroke")
    try:
        return [(whole(row), whole(column)) for row, column in cells]
    except (TypeError, ValueError):  # no pairs, or not of whole numbers
        raise Sentence("rec.stroke") from None


def edits(studio: Studio) -> dict[str, Edit]:
    """What each event of the code grid does to a session."""

    def stroke(session: Session, data: dict) -> Session:
        cells = _cells(data, session.indices)
        erase = data.get("tool") == "erase"
        code = studio.blank_code if erase else check_code(data.get("code"), studio.codebook_size)
        return sessions.redraw(studio, session, paint(session.indices, cells, code))

    def swap_all(session: Session, data: dict) -> Session:
        old, new = (check_code(data.get(k), studio.codebook_size) for k in ("old", "new"))
        return sessions.redraw(studio, session, swap(session.indices, old, new))

    def shuffle_all(session: Session, data: dict) -> Session:
        grid = shuffle(session.indices, seed=len(session.history))
        return sessions.redraw(studio, session, grid)

    return {
        "stroke": stroke,
        "swap": swap_all,
        "shuffle": shuffle_all,
        "undo": lambda session, data: sessions.undo(studio, session),
        "restore": lambda session, data: sessions.redraw(studio, session, session.encoded),
    }


def connect(studio: Studio, answer: Answer, board: Board) -> tuple[gr.events.Dependency, ...]:
    """Clicks and strokes on the code grid -> the events that change the picture."""

    def pick(event: gr.EventData, session: Session) -> tuple[int, int, str]:
        data = said(event)
        code = check_code(data.get("code"), studio.codebook_size)
        return code, code, panels.code_card(studio, kept.known(session, data.get("picture")), code)

    def handler(edit: Edit) -> Callable:
        def change(event: gr.EventData, session: Session) -> Any:
            data = said(event)
            kept.check(session, data.get("picture"))
            return answer(edit(session, data))

        return friendly(change)

    looked = board.grid.look(
        friendly(pick),
        board.session,
        [board.picked, board.last, board.card],
        show_progress="hidden",
        **EACH,
        **QUICK,
    )
    looked.then(None, js=answered("studio:looked"))
    found = {
        name: getattr(board.grid, name)(
            handler(edit),
            board.session,
            board.shown,
            **EACH,  # each stroke counts, however fast they follow
            **PRIVATE,
            **board.busy,
        )
        for name, edit in edits(studio).items()
    }
    found["stroke"].failure(None, js=REFUSED)
    return tuple(found.values())
