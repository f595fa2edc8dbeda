"""The Sample tab at work: runs that are started, watched and stopped, pictures that are picked."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from gradio.context import Context
from PIL import Image

from ui import classes, complete, endpoint, gallery, ideas, kept, sketching, writing
from ui import sample_panel as panel
from ui.common import ANSWER, EACH, Sent, Sentence, TabHandles, friendly, heavy, whole
from ui.complete import Source
from ui.downloads import Folders
from ui.opening import Example
from ui.runs import Run, Runs
from ui.sample_board import QUICK, Board, Starter, Turn, ready, switch
from ui.session import Session
from ui.sketching import Sketching
from ui.studio import Studio
from ui.text import add, both
from ui.writing import Batch, Given, Request, Step

ABOUT = (
    "Write pictures, each after an idea of its own or (ideas=False) from nothing. Returns a PNG "
    "for each, with codes and settings in it, and seeds, bits per code, and how many codes were "
    "written (fewer than all where a Space's time for a run ended)."
)
ENDINGS = 7  # pictures that rewriting gives, beside the one it starts from
NEIGHBOURS = 3
TOLD = 0.5  # share of a picture that must be written before others are called near it
LIGHT: dict[str, Any] = {
    "show_progress": "hidden",
    "api_visibility": "private",
    "concurrency_limit": 4,
}

add(
    {
        "sample.lost": (
            "These pictures are no longer kept here: the page was left for long, or the app was "
            "restarted. Press Write.",
            "这些图片已不再保留：页面闲置过久，或应用已重启。请按“书写”。",
        ),
        "sample.gone": (
            "That picture is no longer there: click one of those shown.",
            "那张图片已不在：请点击现在显示的图片。",
        ),
    }
)


@dataclass(frozen=True)
class Sampler:
    """What this tab knows; shared by all visitors."""

    studio: Studio
    runs: Runs
    ideas: ideas.Source
    example: Example
    downloads: Folders

    @classmethod
    def of(cls, studio: Studio) -> Sampler:
        known = ideas.Source(studio)
        return cls(studio, Runs(), known, Example(studio, known), Folders())

    def page(self, batch: Batch, index: int) -> str:
        """All about one picture."""
        if (batch.grids[index] >= 0).mean() < TOLD:
            return panel.page(batch, index, "")  # near it would be what is white
        training, found, scale = self.studio.training, None, None
        if training is not None:
            scale, found = training.scale, training.nearest(batch.pictures[index], NEIGHBOURS)
        command = f"python -m prior.nearest --bundle {self.studio.bundle.word} --data DIR"
        return panel.page(batch, index, panel.near(found, scale, command))

    def given(self, batch: Batch) -> tuple[list[str], dict[str, Any]]:
        """What a program gets: a PNG for each picture, and figures of them."""
        bits = [None if math.isnan(b) else round(float(b), 4) for b in batch.bits]
        written = (batch.grids >= 0).sum((1, 2)).tolist()
        said: dict[str, Any] = {
            "seeds": list(batch.seeds), "bits_per_code": bits, "codes_written": written
        }  # fmt: skip
        if batch.given is not None:
            said["given"] = [batch.given.settings(i) for i in range(len(batch.grids))]
        folder = self.downloads.new()
        return [self.file(batch, i, folder) for i in range(len(batch.grids))], said

    def file(self, batch: Batch, index: int, folder: Path | None = None) -> str:
        """One picture as a PNG that carries its settings and codes -> its path."""
        seed = batch.seeds[index]
        name = f"original-{batch.number}" if seed is None else f"sample-seed-{seed}"
        path = (folder or self.downloads.new()) / f"{name}.png"
        info = batch.record(index).info()
        Image.fromarray(batch.pictures[index]).save(path, "PNG", pnginfo=info)
        return str(path)


@dataclass(frozen=True)
class Settings:
    """The inputs of `writing.request`, in its order."""

    count: gr.Slider
    temperature: gr.Slider
    top_k: gr.Slider
    top_p: gr.Slider
    seed: gr.Number
    size: gr.Radio
    label: gr.Textbox | None = None  # where the prior is told a class

    @property
    def all(self) -> list[gr.components.Component]:
        found = [getattr(self, f.name) for f in dataclasses.fields(self)]
        return [component for component in found if component is not None]


Outcome = Callable[[Batch], Batch]


def show(
    sampler: Sampler, board: Board, batch: Batch, picked: int, run: Run | None = None
) -> Iterator[list[Any]]:
    """A batch, what `run` wrote or the example, then what there is to say about one picture."""
    pictures, more = gallery.finished(batch, picked), {}
    if run is not None and run.replaced:
        pictures |= gallery.says("gallery.waiting")
    elif run is not None:
        more = switch(False)
    yield board.change(batch=batch, picked=picked, pictures=pictures, **more)
    yield board.change(**tell(sampler, batch, picked))


def tell(sampler: Sampler, batch: Batch, picked: int) -> dict[str, Any]:
    """All about one picture, and what can be done with it."""
    return {
        "about": sampler.page(batch, picked),
        "save": gr.DownloadButton(value=sampler.file(batch, picked), interactive=True),
        "open": ready(bool((batch.grids[picked] >= 0).all())),
    }


def follow(
    sampler: Sampler,
    board: Board,
    ask: Request,
    turn: Turn,
    *,
    known: np.ndarray | None = None,
    given: Given | None = None,
    origin: str = "sampled",
    outcome: Outcome = lambda batch: batch,
) -> Iterator[list[Any]]:
    """Write what was asked for, showing it on the board all the while."""
    kept = None if known is None else known >= 0
    painted, image = None, None
    how = {"known": known, "given": given, "origin": origin}
    for step in writing.write(sampler.studio, ask, turn.run.stop, **how):
        if isinstance(step, Step):
            if step.stopped and (turn.run.newer is not None or not step.done):
                yield board.change(**turn.nothing(ask))
                return
            if step.pictures is not painted:
                painted, image = step.pictures, gallery.lossy(step.pictures)
            off = switch(False) if step.stopped else {}
            yield board.change(pictures=gallery.live(ask, step, image, kept, given), **off)
        else:
            batch = outcome(step)
            written = [i for i in batch.order.tolist() if batch.seeds[i] is not None]
            first = written[0] if origin == "completed" else min(written)
            yield from show(sampler, board, batch, first, turn.run)


@dataclass(frozen=True)
class Completing:
    """Where a picture to complete comes from, and what of it is kept."""

    tab: gr.Tab
    source: gr.State
    mask: gr.HTML
    own: gr.UploadButton
    session: gr.Button


def connect(
    sampler: Sampler,
    board: Board,
    settings: Settings,
    thinking: gr.Checkbox,
    completing: Completing,
    sketch: Sketching | None,
    reading: TabHandles,
) -> None:
    """Clicks that start or stop a run, and where pictures to begin with come from."""
    start = Starter(sampler.runs, board)
    write = partial(_write, sampler, board)
    start.by(board.go.click, None, write, [*settings.all, thinking])
    named = {name: c for name, c in vars(settings).items() if c is not None}
    named["ideas"] = thinking
    found = start.unclicked(write)
    endpoint.add("sample", ABOUT, found, named, board, "batch", sampler.given, heavy)
    start.by(board.about.rewrite, "asked", partial(_rewrite, sampler, board), settings.all)
    start.by(
        completing.mask.complete,
        "free",
        partial(_complete, sampler, board),
        [completing.source, *settings.all],
    )

    if sketch is not None:
        draw = partial(_sketch, sampler, board)
        start.by(sketch.canvas.sketch, "asked", draw, settings.all)
        sketching.connect(sampler.studio, sketch, reading)

    def stop(request: gr.Request) -> list[Any]:
        if not sampler.runs.stop(request.session_hash):
            return board.change()  # the run itself will show where it has stopped
        return board.change(pictures=gallery.says("gallery.nothing"), **switch(False))

    def leave(request: gr.Request) -> None:
        sampler.runs.forget(request.session_hash)

    board.halt.click(stop, None, board.shown, **QUICK)
    Context.root_block.unload(leave)  # a run for no one would only make others wait
    _connect_sources(sampler.studio, completing, reading)


def _write(
    sampler: Sampler, board: Board, turn: Turn, said: Any, *values: Any
) -> Iterator[list[Any]]:
    *values, thinking = values
    ask = writing.request(sampler.studio, *values)
    given = classes.drawn(sampler.studio, ask.count, ask.seed, ask.label)
    if thinking:
        given = sampler.ideas.told(ask.count, ask.seed)
        if given is None:
            raise Sentence("ideas.missing")
    yield from follow(sampler, board, ask, turn, given=given)


def _rewrite(
    sampler: Sampler,
    board: Board,
    turn: Turn,
    asked: Any,
    *values: Any,
) -> Iterator[list[Any]]:
    """Other endings of the picture that was shown at the click, beside the one that it has."""
    asked, batch = asked if isinstance(asked, dict) else {}, turn.batch
    picked, row = _shown(batch, asked), whole(asked.get("row"))
    grid = batch.grids[picked]
    ask = writing.request(sampler.studio, *values)
    fresh = 1 + max(seed for seed in (-1, *batch.seeds) if seed is not None)
    ask = dataclasses.replace(ask, count=ENDINGS, seed=fresh, size=grid.shape)
    known = grid.copy()
    known[min(max(row, 1), len(grid) - 1) :] = -1

    def outcome(new: Batch) -> Batch:
        nats = float(batch.nats[picked])
        return writing.with_original(new, grid, batch.pictures[picked], nats)

    given = None if batch.given is None else batch.given.of(picked)
    how = {"known": known, "given": given, "origin": "rewritten", "outcome": outcome}
    yield from follow(sampler, board, ask, turn, **how)


def _complete(
    sampler: Sampler,
    board: Board,
    turn: Turn,
    free: Any,
    source: Source | None,
    *values: Any,
) -> Iterator[list[Any]]:
    """What the prior makes of the erased part, likeliest first, beside the picture itself."""
    ask = writing.request(sampler.studio, *values)
    if source is None:
        raise Sentence("complete.mask")
    known = complete.known(source, free)
    ask, given = dataclasses.replace(ask, size=source.grid.shape), classes.named(ask.label)

    def outcome(new: Batch) -> Batch:
        nats = writing.likelihood(sampler.studio, source.grid, given)
        return writing.with_original(new, source.grid, source.picture, nats)

    how = {"known": known, "given": given, "origin": "completed", "outcome": outcome}
    yield from follow(sampler, board, ask, turn, **how)


def _sketch(
    sampler: Sampler,
    board: Board,
    turn: Turn,
    asked: Any,
    *values: Any,
) -> Iterator[list[Any]]:
    """Pictures along the visitor's lines."""
    ask = writing.request(sampler.studio, *values)
    given = sketching.given(sampler.studio, asked, ask.label)
    cfg = sampler.studio.bundle.prior.config
    size = cfg.height, cfg.width
    if ask.size != size:
        gr.Info(both("sketch.size", rows=size[0], columns=size[1]))
    ask = dataclasses.replace(ask, size=size)
    yield from follow(sampler, board, ask, turn, given=given, origin="sketched")


def _connect_sources(studio: Studio, completing: Completing, reading: TabHandles) -> None:
    """A file, or the picture open in Reconstruct -> the canvas."""

    def show(source: Source) -> tuple[Source, dict]:
        return source, complete.value(source)

    def from_session(session: Session, picture: str) -> tuple[Source, dict]:
        kept.check_shown(session, picture)
        return show(complete.from_session(studio, session))

    def opened(source: Source | None, session: Session, picture: str) -> Any:
        if source is not None and source.own:
            return gr.skip()
        return from_session(session, picture)

    def from_file(path: str) -> tuple[Source, dict]:
        return show(complete.from_file(studio, path))

    shown, quiet = [completing.source, completing.mask], {**LIGHT, **ANSWER}
    now = [reading.session, reading.shown]
    first = [completing.source, *now]
    completing.tab.select(heavy(opened), first, shown, js=kept.saying(len(first)), **quiet)
    completing.session.click(heavy(from_session), now, shown, js=kept.saying(len(now)), **quiet)
    completing.own.upload(heavy(from_file), completing.own, shown, **quiet)


def _grid(batch: Batch | None, picked: int) -> np.ndarray:
    """The codes of a picture that must still be there."""
    if batch is None:
        raise Sentence("sample.lost")
    if not 0 <= picked < len(batch.grids):
        raise Sentence("sample.gone")
    return batch.grids[picked]


def _shown(batch: Batch | None, said: dict[str, Any]) -> int:
    """Which picture a page named: {batch's number, picture}. It must still be there."""
    picture = said.get("picture")
    index = picture if isinstance(picture, int) else -1
    _grid(batch, index)
    if said.get("batch") != batch.number:
        raise Sentence("sample.gone")
    return index


def connect_board(
    sampler: Sampler, board: Board, tab: gr.Tab, reading: TabHandles, tabs: gr.Tabs
) -> None:
    """Clicks on pictures, and the example that the tab opens with."""

    def pick(event: gr.EventData, batch: Batch | None) -> list[Any]:
        data = event._data if isinstance(event._data, dict) else {}
        index = _shown(batch, data)
        return board.change(picked=index, **tell(sampler, batch, index))

    def opened(request: gr.Request, batch: Batch | None) -> Any:
        example = sampler.example.batch  # takes seconds: by then a run may have been asked for
        if batch is not None or example is None or sampler.runs.alive(request.session_hash):
            yield gr.skip()
            return
        yield from show(sampler, board, example, int(example.order[0]))

    def send(batch: Batch | None, picked: int) -> tuple[Any, Sent]:
        grid, seed = _grid(batch, picked), batch.seeds[picked]
        name = "original" if seed is None else f"sample-seed-{seed}"
        return gr.Tabs(selected="reconstruct"), Sent(grid, name)

    # One after the other: of two quick clicks the second is shown.
    how = {**LIGHT, **EACH, "concurrency_limit": 1}
    board.pictures.pick(friendly(pick), board.batch, board.shown, **how)
    tab.select(heavy(opened), board.batch, board.shown, **LIGHT)
    given, opening = [board.batch, board.picked], [tabs, reading.inbox]
    opens = board.open.click(friendly(send), given, opening, **LIGHT)
    opens.success(None, js=panel.INTO_SIGHT)
