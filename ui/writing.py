"""Grids that the prior writes for a visitor: what was asked for, how it goes, what came out.

Nothing here knows of Gradio. `write` is a generator that looks at its `stop` event between any two
codes and any two decoded pictures, so that a visitor who presses Stop never waits for long.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import torch

from prior.model import GPT
from prior.sample import Progress, finish, sample
from prior.sheet import Record, decode, weights_id
from ui.common import Sentence
from ui.studio import Studio
from ui.text import add

MOST = 64  # pictures at a time
SEEDS = 2**53  # whole numbers that a browser can hold
PREVIEWS = 0.3  # share of the time that may go into decoding unfinished pictures
STATUS = 0.25  # seconds between two reports without a new picture
TOGETHER = 2  # pictures decoded between two looks at `stop`

add(
    {
        "sample.bad.count": (
            "“How many” must be a whole number from 1 to {most}.",
            "“数量”必须是 1 到 {most} 之间的整数。",
        ),
        "sample.bad.temperature": (
            "Temperature must be a number from 0 to 100.",
            "温度必须是 0 到 100 之间的数。",
        ),
        "sample.bad.top_k": (
            "Top-k must be a whole number from 0 (all codes) to {most}, the size of the codebook.",
            "Top-k 必须是 0（全部码）到 {most}（码本大小）之间的整数。",
        ),
        "sample.bad.top_p": (
            "Top-p must be a number above 0 and up to 1.",
            "Top-p 必须大于 0 且不超过 1。",
        ),
        "sample.bad.seed": (
            "Seed must be a whole number from 0 to {most}.",
            "种子必须是 0 到 {most} 之间的整数。",
        ),
        "sample.bad.class": (
            "Class must be a whole number from 0 to {most}, or empty.",
            "类别必须是 0 到 {most} 之间的整数，或留空。",
        ),
        "sample.bad.size": (
            "Size must be one of those offered: {sizes}.",
            "尺寸必须是列出的选项之一：{sizes}。",
        ),
    }
)


@dataclass(frozen=True)
class Request:
    """What a visitor asked for. Made by `request`, which checks it."""

    count: int
    temperature: float
    top_k: int
    top_p: float
    seed: int
    size: tuple[int, int]  # rows, columns of codes
    label: int | None = None  # class of all pictures; None: by the seed, where there are classes

    @property
    def drawing(self) -> dict:
        """The keyword arguments of `prior.sample.sample` that say how codes are drawn."""
        return {"temperature": self.temperature, "top_k": self.top_k, "top_p": self.top_p}


def sizes(prior: GPT) -> dict[str, tuple[int, int]]:
    """Sizes on offer: as trained, half as large again, twice as wide."""
    h, w = prior.config.height, prior.config.width
    offered = ((h, w), (h + h // 2, w + w // 2), (h, 2 * w))
    return {f"{rows}×{columns}": (rows, columns) for rows, columns in offered}


def _whole(value: object, name: str, low: int, most: int) -> int:
    """A whole number in low..most, or the sentence about `name`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value // 1:
        raise Sentence(f"sample.bad.{name}", most=most)
    if not low <= value <= most:
        raise Sentence(f"sample.bad.{name}", most=most)
    return int(value)


def _number(value: object, name: str, low: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= most:
        raise Sentence(f"sample.bad.{name}")
    return float(value)


def request(
    studio: Studio,
    count: object,
    temperature: object,
    top_k: object,
    top_p: object,
    seed: object,
    size: object,
    label: object = None,
) -> Request:
    """What came from the browser, checked: NaN, gaps and values out of range are a sentence."""
    offered = sizes(studio.bundle.prior)
    if not isinstance(size, str) or size not in offered:
        raise Sentence("sample.bad.size", sizes=", ".join(offered))
    share = _number(top_p, "top_p", 0, 1)
    if share == 0:
        raise Sentence("sample.bad.top_p")
    return Request(
        count=_whole(count, "count", 1, MOST),
        temperature=_number(temperature, "temperature", 0, 100),
        top_k=_whole(top_k, "top_k", 0, studio.codebook_size),
        top_p=share,
        seed=_whole(seed, "seed", 0, SEEDS - MOST),
        size=offered[size],
        label=_label(studio.bundle.prior, label),
    )


def _label(prior: GPT, value: object) -> int | None:
    """The class asked for; None for none."""
    if isinstance(value, str):
        value = value.strip()
        value = float(value) if value.isdecimal() else value or None
    return None if value is None else _whole(value, "class", 0, prior.config.classes - 1)


_numbers = itertools.count(1)


class Given(Protocol):
    """What pictures are written after: a sketch (`ui.sketching`), or for each an idea (`ui.ideas`)
    or a class (`ui.classes`).
    """

    note: str  # key of the sentence that says what their likelihood is given

    def drawing(self, studio: Studio, count: int) -> dict[str, Any]:
        """Keyword arguments of `prior.sample.sample`."""

    def settings(self, index: int) -> dict[str, Any]:
        """What the PNG of one picture keeps of it."""

    def of(self, index: int) -> Given:
        """What one picture was given, for any number of others."""

    def caption(self, index: int) -> str | None:
        """HTML to stand under one picture, in both languages; None for nothing."""


@dataclass(frozen=True)
class Batch:
    """Grids as they were written, and what it takes to write them again."""

    grids: np.ndarray  # (n, h, w) int64, -1 where stopped before it was written
    pictures: np.ndarray  # (n, H, W, 3) uint8; unwritten cells are white paper
    nats: np.ndarray  # (n,) float: log-likelihood of the first `counted` codes
    counted: np.ndarray  # (n,) int
    seeds: tuple[int | None, ...]  # None: not written here but brought along
    settings: dict
    origin: str  # sampled | sketched | rewritten | completed | example
    kept: np.ndarray | None = None  # (h, w) bool: given beforehand
    rate: float = 0.0  # codes a second
    given: Given | None = None
    number: int = field(default_factory=lambda: next(_numbers))

    @property
    def bits(self) -> np.ndarray:
        """(n,) bits per code; NaN where nothing was written."""
        return -self.nats / (math.log(2) * np.where(self.counted > 0, self.counted, np.nan))

    @property
    def order(self) -> np.ndarray:
        """(n,) the pictures, likeliest first."""
        return np.argsort(np.nan_to_num(self.bits, nan=np.inf), kind="stable")

    @property
    def whole(self) -> bool:
        return bool((self.grids >= 0).all())

    def record(self, index: int) -> Record:
        """What the PNG of one picture carries."""
        more = {} if self.given is None else self.given.settings(index)
        own = {"n": 1, "seed": self.seeds[index], "origin": self.origin}
        settings = {**self.settings, **own, **more}
        if self.kept is not None:
            settings["kept"] = self.kept.astype(int).tolist()
        return Record(settings, self.grids[index : index + 1], (float(self.bits[index]),))


@dataclass(frozen=True)
class Step:
    """Where a run stands."""

    done: int  # codes written of each grid
    total: int
    rate: float  # codes a second, all grids together
    shown: int  # codes of each grid that `pictures` shows
    pictures: np.ndarray | None  # (n, H, W, 3) uint8; None until the first row is there
    stopped: bool = False


class Painter:
    """Decodes unfinished grids now and then, within its share of the time.

    `known` (h, w) int64, -1 where free: where it holds cells below, those are shown from the start.
    """

    def __init__(self, studio: Studio, size: tuple[int, int], known: np.ndarray | None):
        self.studio, self.size = studio, size
        given = np.zeros(1) if known is None else (known.ravel() >= 0).astype(int)
        self.whole = bool((np.diff(given) > 0).any())  # a free cell comes before a known one
        self.began, self.spent = time.monotonic(), 0.0
        self.shown, self.pictures = 0, None

    def due(self, done: int) -> bool:
        """Whether a new row is there, and it is a quarter or time for it."""
        rows, columns = self.size
        if done % columns or done <= self.shown or done == rows * columns:
            return False
        quarters = {math.ceil(rows * q / 4) for q in (1, 2, 3)} | {1}
        elapsed = time.monotonic() - self.began
        return done // columns in quarters or self.spent < PREVIEWS * elapsed

    def paint(self, grids: torch.Tensor, done: int, stop: threading.Event) -> None:
        """Decode the rows written so far; keeps the older pictures where `stop` is set."""
        start = time.monotonic()
        rows = self.size[0] if self.whole else done // self.size[1]
        pictures = paint(self.studio, grids, rows, stop, preview=True)
        self.spent += time.monotonic() - start
        if pictures is not None:
            self.shown, self.pictures = done, pictures


def paint(
    studio: Studio,
    grids: torch.Tensor,
    rows: int | None = None,
    stop: threading.Event | None = None,
    *,
    preview: bool = False,
) -> np.ndarray | None:
    """(n, h, w) int64, -1 where unwritten -> (n, H, W, 3) uint8; None if stopped on the way.

    Unwritten cells are decoded as white paper, which is what the decoder expects around a picture.
    With `rows` only those are decoded, above one row of paper, which comes as near to the finished
    picture as decoding all does (24 to 30 dB on four of the examples) and is quicker. Below them is
    white. A preview is in bfloat16 where the processor has it.
    """
    whole = torch.where(grids < 0, studio.blank_code, grids)
    n, h, w = whole.shape
    rows = h if rows is None else rows
    below = torch.full((n, min(1, h - rows), w), studio.blank_code)
    part = torch.cat([whole[:, :rows], below], 1)
    pictures = np.full((n, h * studio.f, w * studio.f, 3), 255, np.uint8)
    for start in range(0, n, TOGETHER):
        if stop is not None and stop.is_set():
            return None
        pixels = decode(studio.vqgan, part[start : start + TOGETHER], preview=preview)
        pictures[start : start + TOGETHER, : rows * studio.f] = pixels[:, : rows * studio.f]
    return pictures


def settings_of(studio: Studio, ask: Request) -> dict:
    """What `prior.draw` keeps in a PNG, for the same codes by command."""
    card = studio.bundle.card
    size = f"{ask.size[0]}x{ask.size[1]}"
    made = {"bundle": studio.bundle.name, "prior": weights_id(card), "n": ask.count}
    return {**made, "seed": ask.seed, "size": size, **ask.drawing, "cfg_scale": 1.0}


def write(
    studio: Studio,
    ask: Request,
    stop: threading.Event,
    *,
    known: np.ndarray | None = None,
    given: Given | None = None,
    origin: str = "sampled",
) -> Iterator[Step | Batch]:
    """Write `ask.count` grids: some Steps, then the Batch. `stop` ends it between two codes.

    known  (h, w) int64, -1 where free: every grid begins with it
    given  a sketch that every grid follows, or an idea or a class for each
    """
    start = None if known is None else torch.from_numpy(known)[None]
    more = {} if given is None else given.drawing(studio, ask.count)
    steps = sample(
        studio.bundle.prior,
        ask.count,
        seed=ask.seed,
        size=ask.size,
        known=start,
        **ask.drawing,
        **more,
    )
    painter, told = Painter(studio, ask.size, known), 0.0
    total = ask.size[0] * ask.size[1]
    last = None
    for last in () if stop.is_set() else steps:
        if stop.is_set():
            break
        if painter.due(last.done):
            painter.paint(last.grid, last.done, stop)
        elif time.monotonic() - told < STATUS:
            continue
        told = time.monotonic()
        rate = _drawn(last, known)
        yield Step(last.done, total, rate, painter.shown, painter.pictures)
    if last is None:
        yield Step(0, total, 0.0, 0, None, stopped=True)
        return
    if last.done < total:
        rate = _drawn(last, known)
        yield Step(last.done, total, rate, painter.shown, painter.pictures, stopped=True)
    rows = None if painter.whole else -(-last.done // ask.size[1])  # no more to see once stopped
    yield Batch(
        grids=last.grid.numpy(),
        pictures=paint(studio, last.grid, rows),
        nats=last.log_likelihood.double().numpy(),
        counted=np.full(ask.count, last.done),
        seeds=tuple(range(ask.seed, ask.seed + ask.count)),
        settings=settings_of(studio, ask),
        origin=origin,
        kept=None if known is None else known >= 0,
        rate=_drawn(last, known),
        given=given,
    )


def _drawn(step: Progress, known: np.ndarray | None) -> float:
    """Codes drawn in a second, those given beforehand not counted."""
    given = 0 if known is None else int((known.ravel()[: step.done] >= 0).sum())
    return step.tokens_per_second * (step.done - given) / step.done


def likelihood(studio: Studio, grid: np.ndarray, given: Given | None = None) -> float:
    """log p of a whole grid (h, w) under the prior, nats: read in one go, nothing is drawn."""
    known = torch.from_numpy(grid)[None]
    more = {} if given is None else given.drawing(studio, 1)
    last = finish(sample(studio.bundle.prior, 1, seed=0, known=known, size=grid.shape, **more))
    return float(last.log_likelihood[0])


def with_original(batch: Batch, grid: np.ndarray, picture: np.ndarray, nats: float) -> Batch:
    """The batch with the picture it started from in front."""
    return replace(
        batch,
        grids=np.concatenate([grid[None], batch.grids]),
        pictures=np.concatenate([picture[None], batch.pictures]),
        nats=np.concatenate([[nats], batch.nats]),
        counted=np.concatenate([[int((grid >= 0).sum())], batch.counted]),
        seeds=(None, *batch.seeds),
    )
