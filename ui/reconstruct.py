"""The Reconstruct tab: a picture, what comes back from its codes, and the codes to play with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from ui import between, code_grid, examples, one_loss_off, panels, surprise
from ui import session as sessions
from ui.common import (
    AFTER,
    ANSWER,
    EACH,
    LATEX,
    QUICK,
    Sent,
    Sentence,
    TabHandles,
    friendly,
    path_of,
    said,
    whole,
)
from ui.downloads import Folders
from ui.examples import EXAMPLES
from ui.session import Session
from ui.studio import Studio, digest
from ui.text import add, both, explanation, t
from vqgan.grids import IndexFile, check_code, paint, shuffle, swap
from vqgan.metrics import webp_at_bytes
from vqgan.rebuild import NATIVE_LIMIT, SIDES, usual_side

Edit = Callable[[Session, dict], Session]

# A chip of the code card hands its code to the code grid, which then picks it.
CHIPS = """
element.addEventListener('click', (event) => {
  const chip = event.target.closest('[data-code]');
  if (!chip || chip.tagName !== 'BUTTON') return;
  window.dispatchEvent(new CustomEvent('studio:code', { detail: Number(chip.dataset.code) }));
});
"""
PRIVATE: dict[str, Any] = {"api_visibility": "private"}

add(
    {
        "rec.tab": ("Reconstruct", "重建"),
        "rec.drop": (
            "Drop a picture here\nor click to choose one",
            "把图片拖到这里\n或点击选择",
        ),
        "rec.picture": ("Your picture", "你的图片"),
        "rec.side": ("Longest side, in pixels", "最长边（像素）"),
        "rec.side.info": (
            f"Native keeps the picture's own size, up to {NATIVE_LIMIT}.",
            f"“原尺寸”保留图片自身大小，最大 {NATIVE_LIMIT}。",
        ),
        "rec.native": ("native", "原尺寸"),
        "rec.side.bare": (
            "These codes came without their picture, so their size is fixed: {f} pixels a code.",
            "这些码没有附带原图，因此尺寸固定：每个码 {f} 像素。",
        ),
        "rec.save": ("Take it with you", "保存与载入"),
        "rec.png": ("Picture (PNG)", "图片（PNG）"),
        "rec.npz": ("Codes (NPZ)", "码（NPZ）"),
        "rec.open": ("Open codes…", "打开码文件…"),
        "rec.other": (
            "These codes were made by another encoder or codebook: here they mean other things.",
            "这些码由另一个编码器或码本生成：在这里含义不同。",
        ),
        "rec.stroke": (
            "That stroke could not be understood: reload the page and try again.",
            "无法识别这一笔：请刷新页面后重试。",
        ),
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


@dataclass(frozen=True)
class Sources:
    """Where a picture can come from."""

    upload: gr.Image
    thumbnails: gr.HTML
    side: gr.Radio
    codes: gr.UploadButton
    inbox: gr.State


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
        """In the order of `_answer`."""
        saved = self.save_picture, self.save_codes
        return [self.session, self.slider, self.grid, *saved, self.caption]

    @property
    def busy(self) -> dict[str, Any]:
        """For events that change the picture: studio.css shows a bar once one takes long.

        Not on the slider itself: Gradio draws its clock anew with every frame, which on two cores
        takes a tenth of a second from a quick answer.
        """
        return {"show_progress_on": self.caption, "show_progress": "minimal", **ANSWER}


def build(studio: Studio) -> TabHandles:
    """The tab, with a worked example in it before the first click."""
    first = sessions.open_picture(studio, EXAMPLES[0].path, usual_side(studio.vqgan))
    example, downloads = _telling_code(first, studio.f), Downloads()
    with gr.Tab(t("rec.tab"), id="reconstruct") as tab:
        # Inside the tab: a State among the tabs would be counted as one of them.
        session, picked, inbox = gr.State(first), gr.State(example), gr.State(None)
        last = gr.State(example)
        with gr.Row(elem_classes="desk"):
            with gr.Column(min_width=240, elem_classes="tray"):
                upload, thumbnails, side = _tray(first.side)
                with gr.Accordion(t("rec.save"), open=False):
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
            renew_surprise = surprise.build(studio, session)
            rival = gr.HTML(_rival(studio, first), apply_default_css=False, elem_id="rival")
        renew_between = between.build(studio, session)
        with gr.Accordion(t("app.how"), open=False, elem_id="how-reconstruct") as fold:
            gr.Markdown(explanation("reconstruct"), latex_delimiters=LATEX)
            renew_experiment = one_loss_off.build(studio, session, fold)

    saved = save_picture, save_codes
    board = Board(session, picked, last, caption, slider, grid, *saved, figures, card, error)
    answer = partial(_answer, studio, downloads)
    sources = Sources(upload, thumbnails, side, codes, inbox)
    measured = [_measure(studio, board, e) for e in _connect_grid(studio, answer, board)]
    for opened in _connect_sources(studio, answer, board, sources):
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
    return TabHandles(tab, picked, last, session, code_actions, inbox)


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


def _tray(first: str) -> tuple[gr.Image, gr.HTML, gr.Radio]:
    """The thing to do first: bring a picture."""
    upload = gr.Image(
        sources=["upload", "clipboard", "webcam"],
        type="filepath",
        label=t("rec.picture"),
        placeholder=t("rec.drop"),
        height=200,
        buttons=[],
        elem_id="upload",
    )
    thumbnails = examples.row("examples")
    side = gr.Radio(
        [(t("rec.native") if s == "native" else s, s) for s in SIDES],
        value=first,
        label=t("rec.side"),
        info=t("rec.side.info"),
        elem_id="side",
    )
    return upload, thumbnails, side


def _connect_sources(
    studio: Studio,
    answer: Callable[[Session], list[Any]],
    board: Board,
    sources: Sources,
) -> tuple[gr.events.Dependency, ...]:
    """A new picture, another size, a file of codes or those of another tab -> the board anew."""

    def show_upload(file: dict | None, side: str) -> Any:
        if file is None:  # the visitor cleared the box: what is on the board stays
            return gr.skip()
        path, name = path_of(file), file.get("orig_name")
        name = name if isinstance(name, str) and name else "picture"
        return answer(sessions.open_picture(studio, path, side, name))

    def show_example(event: gr.EventData, side: str) -> Any:
        path = EXAMPLES[whole(said(event).get("index")) % len(EXAMPLES)].path
        return [None, *answer(sessions.open_picture(studio, path, side))]

    def show_size(session: Session, side: str) -> Any:
        if session.source is None:
            raise Sentence("rec.side.bare", f=studio.f)
        return answer(sessions.resized(studio, session, side))

    def show_codes(path: str) -> Any:
        if path is None:
            raise Sentence("error.file")
        file = IndexFile.read(path, studio.codebook_size, studio.f)
        if file.tokenizer_id not in (None, studio.bundle.tokenizer_id):
            gr.Warning(both("rec.other"))
        return [None, *answer(sessions.open_codes(studio, file, Path(path).name))]

    def show_sent(sent: Sent | None) -> Any:
        if sent is None:
            return gr.skip()
        rows, columns = sent.indices.shape
        file = IndexFile(sent.indices, (columns * studio.f, rows * studio.f))
        return [None, *answer(sessions.open_codes(studio, file, sent.name))]

    shown, side, hidden, busy = board.shown, sources.side, PRIVATE, board.busy
    # preprocess=False: the file reaches our own reader unopened, which knows more formats and
    # answers a broken one with a sentence. Gradio still checks that it was uploaded here.
    newest = {"trigger_mode": "always_last"}  # a quick second choice counts, not the first
    uploaded = sources.upload.input(
        friendly(show_upload),
        [sources.upload, side],
        shown,
        preprocess=False,
        api_name="reconstruct",
        **busy,
        **newest,
    )
    # A file that could not be read would look as if it were what the board shows.
    uploaded.failure(lambda: None, None, sources.upload, show_progress="hidden", **QUICK)
    return (
        uploaded,
        sources.thumbnails.pick(
            friendly(show_example), side, [sources.upload, *shown], **hidden, **busy, **EACH
        ),
        side.input(
            friendly(show_size), [board.session, side], shown, api_name="resize", **busy, **newest
        ),
        sources.codes.upload(
            friendly(show_codes),
            sources.codes,
            [sources.upload, *shown],
            api_name="decode",
            **busy,
            **newest,
        ),
        sources.inbox.change(
            friendly(show_sent), sources.inbox, [sources.upload, *shown], **hidden, **busy, **newest
        ),
    )


def _connect_grid(
    studio: Studio,
    answer: Callable[[Session], list[Any]],
    board: Board,
) -> tuple[gr.events.Dependency, ...]:
    """Clicks and strokes on the code grid -> the events that change the picture."""

    def pick(event: gr.EventData, session: Session) -> tuple[int, int, str]:
        code = check_code(said(event).get("code"), studio.codebook_size)
        return code, code, panels.code_card(studio, session, code)

    def handler(edit: Edit) -> Callable:
        def change(event: gr.EventData, session: Session) -> Any:
            return answer(edit(session, said(event)))

        return friendly(change)

    board.grid.look(
        friendly(pick),
        board.session,
        [board.picked, board.last, board.card],
        show_progress="hidden",
        **EACH,
        **QUICK,
    )
    return tuple(
        getattr(board.grid, name)(
            handler(edit),
            board.session,
            board.shown,
            **EACH,  # each stroke counts, however fast they follow
            **PRIVATE,
            **board.busy,
        )
        for name, edit in edits(studio).items()
    )
