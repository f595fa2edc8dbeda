"""The ways a picture, or a grid of codes, comes to the Reconstruct tab."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from ui import examples, kept
from ui import session as sessions
from ui.common import EACH, QUICK, Sent, Sentence, friendly, path_of, said, whole
from ui.examples import EXAMPLES
from ui.reconstruct_board import PRIVATE, Answer, Board
from ui.session import Session
from ui.studio import Studio
from ui.text import add, both, t
from vqgan.grids import IndexFile
from vqgan.rebuild import NATIVE_LIMIT, SIDES

add(
    {
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
        "rec.other": (
            "These codes were made by another encoder or codebook: here they mean other things.",
            "这些码由另一个编码器或码本生成：在这里含义不同。",
        ),
    }
)


@dataclass(frozen=True)
class Sources:
    """Where a picture can come from."""

    upload: gr.Image
    thumbnails: gr.HTML
    side: gr.Radio
    codes: gr.UploadButton
    inbox: gr.State
    picture: gr.Textbox  # `kept.shown`


def tray(first: str) -> tuple[gr.Image, gr.HTML, gr.Radio]:
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


@dataclass(frozen=True)
class Opening:
    """What the event of each source shows: new values for its outputs."""

    studio: Studio
    answer: Answer

    def upload(self, file: dict | None, side: str) -> Any:
        if file is None:  # the visitor cleared the box: what is on the board stays
            return gr.skip()
        path, name = path_of(file), file.get("orig_name")
        name = name if isinstance(name, str) and name else "picture"
        return self.answer(sessions.open_picture(self.studio, path, side, name))

    def example(self, event: gr.EventData, side: str) -> Any:
        path = EXAMPLES[whole(said(event).get("index")) % len(EXAMPLES)].path
        return [None, *self.answer(sessions.open_picture(self.studio, path, side))]

    def size(self, session: Session, side: str, shown: str = "") -> Any:
        kept.check_shown(session, shown)
        if session.source is None:
            raise Sentence("rec.side.bare", f=self.studio.f)
        return self.answer(sessions.resized(self.studio, session, side))

    def codes(self, path: str) -> Any:
        if path is None:
            raise Sentence("error.file")
        file = IndexFile.read(path, self.studio.codebook_size, self.studio.f)
        if file.tokenizer_id not in (None, self.studio.bundle.tokenizer_id):
            gr.Warning(both("rec.other"))
        return [None, *self.answer(sessions.open_codes(self.studio, file, Path(path).name))]

    def sent(self, sent: Sent | None) -> Any:
        if sent is None:
            return gr.skip()
        rows, columns = sent.indices.shape
        file = IndexFile(sent.indices, (columns * self.studio.f, rows * self.studio.f))
        return [None, *self.answer(sessions.open_codes(self.studio, file, sent.name))]


def connect(
    studio: Studio, answer: Answer, board: Board, sources: Sources
) -> tuple[gr.events.Dependency, ...]:
    """A new picture, another size, a file of codes or those of another tab -> the board anew."""
    opening, shown, side = Opening(studio, answer), board.shown, sources.side
    anew, busy = [sources.upload, *shown], board.busy
    # preprocess=False: the file reaches our own reader unopened, which knows more formats and
    # answers a broken one with a sentence. Gradio still checks that it was uploaded here.
    newest = {"trigger_mode": "always_last"}  # a quick second choice counts, not the first
    uploaded = sources.upload.input(
        friendly(opening.upload),
        [sources.upload, side],
        shown,
        preprocess=False,
        api_name="reconstruct",
        **busy,
        **newest,
    )
    # A file that could not be read would look as if it were what the board shows.
    uploaded.failure(lambda: None, None, sources.upload, show_progress="hidden", **QUICK)
    picked = sources.thumbnails.pick(
        friendly(opening.example), side, anew, **PRIVATE, **busy, **EACH
    )
    size, given = friendly(opening.size), [board.session, side]
    told = kept.told([*given, sources.picture])
    resized = side.input(size, outputs=shown, **told, **PRIVATE, **busy, **newest)
    gr.on([], size, given, shown, api_name="resize", **busy)  # programs show no picture
    decoded = sources.codes.upload(
        friendly(opening.codes), sources.codes, anew, api_name="decode", **busy, **newest
    )
    received = sources.inbox.change(
        friendly(opening.sent), sources.inbox, anew, **PRIVATE, **busy, **newest
    )
    return uploaded, picked, resized, decoded, received
