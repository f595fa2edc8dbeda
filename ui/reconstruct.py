"""The Reconstruct tab: a picture, what comes back from its codes, and the codes to play with."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from ui import between, code_grid, kept, one_loss_off, panels, reconstruct_board, surprise
from ui import reconstruct_inputs as inputs
from ui import session as sessions
from ui.common import AFTER, LATEX, QUICK, TabHandles
from ui.downloads import Folders
from ui.examples import EXAMPLES
from ui.reconstruct_board import PRIVATE, Board
from ui.session import Session
from ui.studio import Studio, digest
from ui.text import add, explanation, t
from vqgan.grids import IndexFile
from vqgan.metrics import webp_at_bytes
from vqgan.rebuild import usual_side

# A chip of the code card hands its code to the code grid, which then picks it.
CHIPS = """
element.addEventListener('click', (event) => {
  const chip = event.target.closest('[data-code]');
  if (!chip || chip.tagName !== 'BUTTON') return;
  window.dispatchEvent(new CustomEvent('studio:code', { detail: Number(chip.dataset.code) }));
});
"""

add(
    {
        "rec.tab": ("Reconstruct", "重建"),
        "rec.save": ("Take it with you", "保存与载入"),
        "rec.png": ("Picture (PNG)", "图片（PNG）"),
        "rec.npz": ("Codes (NPZ)", "码（NPZ）"),
        "rec.open": ("Open codes…", "打开码文件…"),
    }
)


class Downloads(Folders):
    """The picture now shown, as files."""

    def write(self, studio: Studio, session: Session) -> tuple[str, str]:
        """The picture as PNG and its codes as NPZ -> two paths."""
        folder = self.new()
        picture = folder / f"{session.name}-vqgan.png"
        session.result.save(picture)
        file = IndexFile(
            session.indices, session.size, studio.codebook_size, studio.bundle.tokenizer_id
        )
        return str(picture), str(file.save(folder / f"{session.name}-codes.npz"))


def _answer(studio: Studio, downloads: Downloads, session: Session) -> list[Any]:
    """New values for `Board.shown`: the picture and its codes, as soon as they are there."""
    before = session.original or studio.decode(session.encoded, session.size)
    return [
        session,
        (before, session.result),
        code_grid.value(studio, session),
        *downloads.write(studio, session),
        panels.caption(session),
    ]


def _figures(studio: Studio, session: Session) -> tuple[str, str]:
    """Tiles and error map. After the picture: measuring takes as long as decoding."""
    error = "" if session.original is None else panels.error_map(session)
    return panels.tiles(session, sessions.closeness(studio, session)), error


def _rival(studio: Studio, session: Session) -> str:
    """The WebP comparison. Last, since it takes about as long as the rest together."""
    if session.original is None:
        return ""
    original = session.original
    key = ("webp", digest(original), session.bytes)
    rival, used = studio.once(key, original.size, lambda: webp_at_bytes(original, session.bytes))
    theirs = studio.closeness(session.original, rival)
    return panels.webp(session, sessions.closeness(studio, session), rival, used, theirs)


def prepare(studio: Studio, path: Path) -> None:
    """Compute what opening a file at the first working size will show; the studio keeps it."""
    session = sessions.open_picture(studio, path, usual_side(studio.vqgan))
    _figures(studio, session)
    _rival(studio, session)
    if studio.bundle.prior is not None:
        surprise.panel(studio, session)


def build(studio: Studio) -> TabHandles:
    """The tab, with a worked example in it before the first click."""
    first = sessions.open_picture(studio, EXAMPLES[0].path, usual_side(studio.vqgan))
    first = replace(first, opening=True)
    example, downloads = _telling_code(first, studio.f), Downloads()
    with gr.Tab(t("rec.tab"), id="reconstruct") as tab:
        # Inside the tab: a State among the tabs would be counted as one of them.
        session, picked, inbox = gr.State(first), gr.State(example), gr.State(None)
        last, shown = gr.State(example), kept.shown()
        with gr.Row(elem_classes="desk"):
            with gr.Column(min_width=240, elem_classes="tray"):
                upload, thumbnails, side = inputs.tray(first.side)
                with gr.Accordion(t("rec.save"), open=False, elem_id="files"):
                    png, npz = downloads.write(studio, first)
                    save_picture = gr.DownloadButton(t("rec.png"), png, size="sm", elem_id="png")
                    save_codes = gr.DownloadButton(t("rec.npz"), npz, size="sm", elem_id="npz")
                    codes = gr.UploadButton(
                        t("rec.open"), file_types=[".npz", ".npy"], size="sm", elem_id="open-codes"
                    )
            with gr.Column(min_width=300, elem_classes="board"):
                caption = gr.HTML(
                    panels.caption(first), apply_default_css=False, elem_id="slider-caption"
                )
                slider = _slider(first)
            with gr.Column(min_width=300, elem_classes="board"):
                grid = code_grid.build(studio, first, example)
        card = gr.HTML(
            panels.code_card(studio, first, example),
            apply_default_css=False,
            js_on_load=CHIPS,
            elem_id="code-card",
        )
        code_actions = gr.Row(elem_classes="code-actions")
        tiles = panels.tiles(first, sessions.closeness(studio, first))
        figures = gr.HTML(tiles, apply_default_css=False, elem_id="figures")
        with gr.Row(elem_classes="compare"):
            error = gr.HTML(panels.error_map(first), apply_default_css=False, elem_id="error")
            renew_surprise = surprise.build(studio, session, shown)
            rival = gr.HTML(_rival(studio, first), apply_default_css=False, elem_id="rival")
        renew_between = between.build(studio, session, shown)
        with gr.Accordion(t("app.how"), open=False, elem_id="how-reconstruct") as fold:
            gr.Markdown(explanation("reconstruct"), latex_delimiters=LATEX)
            renew_experiment = one_loss_off.build(studio, session, shown, fold)

    saved = save_picture, save_codes
    board = Board(session, picked, last, caption, slider, grid, *saved, figures, card, error)
    answer = partial(_answer, studio, downloads)
    sources = inputs.Sources(upload, thumbnails, side, codes, inbox, shown)
    strokes = reconstruct_board.connect(studio, answer, board)
    measured = [_measure(studio, board, event) for event in strokes]
    for opened in inputs.connect(studio, answer, board, sources):
        measured.append(_measure(studio, board, opened))
        renew_between(measured[-1])
    for event in measured:
        event.success(
            partial(_rival, studio),
            session,
            rival,
            show_progress="minimal",  # dimmed as the figures are
            trigger_mode="always_last",
            **PRIVATE,
            **AFTER,
        )
        renew_surprise(event)
        renew_experiment(event)
    return TabHandles(tab, picked, last, session, code_actions, inbox, shown)


def _measure(studio: Studio, board: Board, event: gr.events.Dependency) -> gr.events.Dependency:
    """Let card and figures follow an event that changes the picture."""
    event.success(
        partial(panels.code_card, studio),
        [board.session, board.picked],
        board.card,
        show_progress="hidden",
        **QUICK,
    )
    return event.success(
        partial(_figures, studio),
        board.session,
        [board.figures, board.error],
        show_progress="minimal",  # studio.css dims old figures, but only if new ones are slow
        show_progress_on=[board.figures, board.error],
        trigger_mode="always_last",
        **PRIVATE,
        **AFTER,
    )


def _telling_code(session: Session, f: int) -> int:
    """The code to start with: one that occurs a few times, and the most colourful of those."""
    rows, columns = session.indices.shape
    pixels = np.asarray(session.result, np.float32)  # (rows * f, columns * f, 3)
    patches = pixels.reshape(rows, f, columns, f, 3).mean((1, 3))  # (rows, columns, 3)
    spread = patches.max(2) - patches.min(2)
    codes, which, counts = np.unique(session.indices, return_inverse=True, return_counts=True)
    colour = np.bincount(which.ravel(), spread.ravel()) / counts
    return int(codes[np.where((counts > 1) & (counts < 9), colour, colour - 256).argmax()])


def _slider(first: Session) -> gr.ImageSlider:
    """Your picture and what came back, one behind the other."""
    return gr.ImageSlider(
        (first.original, first.result),
        format="png",
        label=t("rec.slider"),
        show_label=False,
        interactive=False,
        buttons=["fullscreen"],
        elem_id="slider",
    )
