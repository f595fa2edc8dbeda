"""Pictures drawn from a text for a visitor: what was asked for, how it goes, what came out.

Nothing here knows of Gradio. `draw` and `go_on` are generators that look at their `stop` event
after every code and every step, so that a visitor who presses Stop never waits for long.
"""

from __future__ import annotations

import io
import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from clip_guidance import record
from clip_guidance.examples import read as read_examples
from clip_guidance.guide import State, Step, decode
from clip_guidance.modes import Models, Request, prompts, run
from clip_guidance.modes import go_on as run_on
from clip_guidance.prompts import parse, targets
from clip_guidance.rerank import Ranking, rank
from prior.sample import Progress
from ui import compute
from ui.clips import OWN
from ui.common import understood
from ui.studio import Studio
from ui.text import add
from vqgan.grids import decode_grid
from vqgan.images import to_image
from vqgan.model import VQGAN

SHOWN = 0.12  # seconds between two previews of guided steps
PAINTED = 0.35  # seconds between two previews of a grid that is being written
PREVIEWS = 0.3  # share of the time that may go into these
FRAMES = 80  # of the way that are kept; beyond, every second one goes
WHOLE = 0.9  # share of a grid from which on it counts as a picture, though the prior was stopped

add(
    {
        "draw.prompt.empty": (
            "The prompt is empty: write what the picture should show, such as: a red apple.",
            "提示词为空：请写出想看到的内容，例如：红苹果。",
        ),
        "draw.prompt.long": (
            "The prompt has {count} characters: {most} are the most.",
            "提示词有 {count} 个字符：最多 {most} 个。",
        ),
        "draw.prompt.parts": (
            "The prompt has {count} parts: {most} are the most.",
            "提示词有 {count} 个部分：最多 {most} 个。",
        ),
        "draw.prompt.words": (
            "“{part}” has no words: write what the picture should show.",
            "“{part}”中没有文字：请写出想看到的内容。",
        ),
        "draw.prompt.weight": (
            "“{part}” is a weight without a text: write the text before its colon.",
            "“{part}”只有权重没有文字：请在冒号前写上文字。",
        ),
        "draw.prompt.range": (
            "The weight of “{part}” is too large: it must lie in -{most} to {most}.",
            "“{part}”的权重过大：必须在 -{most} 到 {most} 之间。",
        ),
        "draw.prompt.negative": (
            "Every weight is 0 or negative: at least one part must say what the picture should "
            "show.",
            "所有权重都是 0 或负数：至少要有一部分写出想看到的内容。",
        ),
        "draw.prompt.cancel": (
            "The parts of the prompt cancel each other: give them unequal weights.",
            "提示词的各部分互相抵消：请给它们不同的权重。",
        ),
    }
)


@dataclass(frozen=True)
class View:
    """Where a run stands."""

    phase: str  # writing | steps | unfinished
    done: int
    total: int
    image: Image.Image | None
    rate: float  # codes or steps a second
    score: float | None = None
    curve: tuple[tuple[float, float], ...] = ()  # (distance, score) of every step
    ranking: Ranking | None = None  # when it has just been made


_numbers = itertools.count(1)


@dataclass(frozen=True)
class Drawn:
    """A picture that was drawn, and all it takes to draw it again or to go on."""

    request: Request
    clip: str  # OWN or a published one's name
    image: Image.Image
    codes: Tensor  # (1, h, w) int64
    score: float
    state: State | None = None  # after guided steps
    curve: tuple[tuple[float, float], ...] = ()
    frames: tuple[bytes, ...] = field(default=(), repr=False)  # the way, WebP
    ranking: Ranking | None = field(default=None, repr=False)
    picked: int | None = None  # the candidate it comes from
    stopped: int | None = None  # at which step
    cut: tuple[int, int] | None = None  # codes written and of how many, if the prior was stopped
    steps: int | None = None  # that the page showed then; None: those of the request
    earlier: tuple[dict[str, Any], ...] = ()  # what was otherwise, and up to which step
    wrote: tuple[Request, str] | None = None  # request and CLIP of the candidates, if others
    example: bool = False  # one of those that come with the bundle
    number: int = field(default_factory=lambda: next(_numbers))

    @property
    def taken(self) -> int:
        """Guided steps so far."""
        return 0 if self.state is None else self.state.step


def checked(request: Request) -> Request:
    """The request, if its prompt says something; else a sentence in both languages."""
    alone = request.image_prompt is None
    if alone or request.prompt.strip():
        with understood():
            parse(request.prompt, alone=alone)
    return request


def draw(
    studio: Studio, models: Models, request: Request, clip: str, stop: threading.Event
) -> Iterator[View | Drawn]:
    """Some Views, then what was drawn: nothing where it was stopped before it began.

    Where it was stopped while most was still to be written, the last is a View, `unfinished`.
    """
    with understood():
        steps = run(models, checked(request))
    yield from _follow(_Way(studio, models, request, clip, stop), steps)


def go_on(
    studio: Studio, models: Models, drawn: Drawn, shown: Request, clip: str, stop: threading.Event
) -> Iterator[View | Drawn]:
    """Guided steps from a picture, by what the page shows now: `shown`, and `models` with `clip`.

    Where `shown` has fewer steps than were taken, as many again follow; after a Stop with the
    number unchanged, those that it left out. Without words and a picture to go towards, the drawn
    picture's own stay. What `kept` names stays as well.
    """
    request = checked(_going_on(drawn, shown))
    with understood():
        steps = run_on(models, request, drawn.codes if drawn.state is None else drawn.state)
    way = _Way(studio, models, request, clip, stop)
    way.curve, way.frames = list(drawn.curve), list(drawn.frames)
    way.found = (drawn.codes, drawn.score, drawn.state)
    way.ranking, way.picked = drawn.ranking, drawn.picked
    way.steps, way.earlier = shown.guidance.steps, _earlier(drawn, request, clip)
    way.cut = drawn.cut
    way.wrote = drawn.wrote or (drawn.request, drawn.clip)
    yield from _follow(way, steps)


def _going_on(drawn: Drawn, shown: Request) -> Request:
    """What the picture will have been made by, once `shown` has gone on with it."""
    old, state = drawn.request, drawn.state
    words, goal = shown.prompt, shown.image_prompt
    if not words.strip() and goal is None:
        words, goal = old.prompt, old.image_prompt
    done, planned = drawn.taken, old.guidance.steps
    steps = shown.guidance.steps
    if done < planned and steps == (drawn.steps or planned):
        steps = planned
    elif done >= steps:
        steps += done
    guidance = replace(shown.guidance, steps=steps, seed=old.guidance.seed)
    if state is not None:
        guidance = replace(guidance, method=state.method)
    mode = "guided" if old.mode == "guided" else "both"  # the prior's, with steps from there
    return replace(old, prompt=words, image_prompt=goal, mode=mode, guidance=guidance)


def kept(drawn: Drawn, shown: Request) -> list[str]:
    """Settings that differ from the picture's and that `go_on` leaves as they were, by name."""
    old, names = drawn.request, []
    if (shown.mode == "guided") != (old.mode == "guided"):
        names.append("mode")
    if shown.guidance.seed != old.guidance.seed:
        names.append("seed")
    if shown.picture != old.picture:
        names.append("picture")
    now, then = asdict(shown.drawing), asdict(old.drawing)
    without = {"strength"} if old.picture is None else set()
    if old.mode == "guided":
        without |= then.keys() - {"strength"}  # no prior wrote anything
    names += [name for name in then if now[name] != then[name] and name not in without]
    if drawn.state is not None and shown.guidance.method != drawn.state.method:
        names.append("method")
    return names


def _earlier(drawn: Drawn, request: Request, clip: str) -> tuple[dict[str, Any], ...]:
    """The picture's settings so far where they differ from those that it goes on with."""
    was = record.settings(drawn.request, clip=drawn.clip)
    now = record.settings(request, clip=clip)
    other = {name: value for name, value in was.items() if value != now[name]}
    if drawn.example:  # all its steps lie before the first one now, as it comes without a state
        other["steps"] = was["steps"]
    elif drawn.state is None:  # no steps yet: only what the candidates were chosen by
        other = {name: other[name] for name in ("prompt", "clip") if name in other}
    if drawn.request.image_prompt != request.image_prompt:
        other["image_prompt"] = "another"
    return (*drawn.earlier, {"until": drawn.taken, **other}) if other else drawn.earlier


def examples(studio: Studio) -> list[Drawn]:
    """What comes with the bundle, oldest first: the first example is the newest."""
    found = read_examples(studio.bundle.path, studio.bundle.card)
    return [Drawn(e.request, OWN, e.image, e.codes, e.score, example=True) for e in reversed(found)]


def chosen(vqgan: VQGAN, drawn: Drawn, index: int) -> Drawn:
    """Another candidate of the prior instead of the best one."""
    ranking, (request, clip) = drawn.ranking, drawn.wrote or (drawn.request, drawn.clip)
    codes, score = ranking.grids[index][None].cpu(), float(ranking.scores[index])
    image = compute.run(decode_grid, vqgan, codes[0].numpy())
    return Drawn(request, clip, image, codes, score, ranking=ranking, picked=index)


class _Way:
    """What a run gathers while it goes."""

    def __init__(
        self, studio: Studio, models: Models, request: Request, clip: str, stop: threading.Event
    ):
        self.studio, self.models, self.request = studio, models, request
        self.clip, self.stop = clip, stop
        self.curve: list[tuple[float, float]] = []
        self.frames: list[bytes] = []
        self.found: tuple[Tensor, float, State | None] | None = None
        self.ranking: Ranking | None = None
        self.picked: int | None = None
        self.steps: int | None = None
        self.earlier: tuple[dict[str, Any], ...] = ()
        self.wrote: tuple[Request, str] | None = None
        self.cut: tuple[int, int] | None = None
        self.began, self.told, self.next_view = time.monotonic(), 0.0, 0.0

    def written(self, progress: Progress) -> View | None:
        """The first grid as far as it is written, now and then; the rest is white paper."""
        began = time.monotonic()
        if began < self.next_view:
            return None
        view = self.page(progress, "writing")
        self.told = time.monotonic()
        cost = self.told - began
        self.next_view = self.told + max(PAINTED, cost / PREVIEWS - cost)
        return view

    def page(self, progress: Progress, phase: str) -> View:
        """The first grid on white paper."""
        picture = to_image(_decoded(self.models, self.paper(progress.grid[:1])))
        return View(phase, progress.done, progress.total, picture, progress.tokens_per_second)

    def paper(self, grid: Tensor) -> Tensor:
        """Unwritten cells as white ones."""
        return torch.where(grid < 0, self.studio.blank_code, grid)

    def ranked(self, ranking: Ranking) -> View:
        best = ranking.best
        image, score = to_image(ranking.images[best]), float(ranking.scores[best])
        self.found = (ranking.grids[best][None], score, None)
        self.ranking, self.picked, self.began = ranking, best, time.monotonic()
        self.frames.append(_webp(image))
        total = self.request.guidance.steps
        return View("steps", 0, total, image, 0.0, score, ranking=ranking)

    def stepped(self, step: Step, first: int) -> View | None:
        self.curve.append((step.losses["distance"], step.score))
        now, total = time.monotonic(), self.request.guidance.steps
        self.found = (step.indices, step.score, step.state)
        if now - self.told < SHOWN and step.step < total:
            return None
        image, self.told = to_image(step.image), now
        self.frames.append(_webp(image))
        if len(self.frames) > FRAMES:
            self.frames = self.frames[::2]
        rate = (step.step - first) / max(now - self.began, 1e-6)
        return View("steps", step.step, total, image, rate, step.score, tuple(self.curve))

    def end(self) -> Drawn:
        codes, score, state = self.found
        codes = codes.cpu()
        stopped = None
        if self.request.mode != "prior" or state is not None:
            done = 0 if state is None else state.step
            stopped = done if done < self.request.guidance.steps else None
        return Drawn(
            self.request,
            self.clip,
            decode_grid(self.models.vqgan, codes[0].numpy()),  # in float32, as a file's codes give
            codes,
            score,
            state,
            tuple(self.curve),
            tuple(self.frames),
            self.ranking,
            self.picked,
            stopped,
            self.cut,
            self.steps,
            self.earlier,
            self.wrote,
        )


def _follow(way: _Way, steps: Iterator[Progress | Ranking | Step]) -> Iterator[View | Drawn]:
    progress, first = None, None
    if way.stop.is_set():  # or a picture of one code would be the result
        return
    for step in steps:
        if isinstance(step, Progress):
            progress, view = step, way.written(step)
        elif isinstance(step, Ranking):
            view = way.ranked(step)
        else:
            first = step.step - 1 if first is None else first
            view = way.stepped(step, first)
        if view is not None:
            yield view
        if way.stop.is_set():
            break
    if way.found is None:  # stopped while the prior was writing: the first grid, as far as it went
        if (progress.grid[0] >= 0).float().mean() < WHOLE:
            yield way.page(progress, "unfinished")
            return
        way.cut = progress.done, progress.total
        wanted = targets(way.models.clip, prompts(way.request, way.models.side))
        way.ranked(rank(way.models.vqgan, way.models.clip, way.paper(progress.grid[:1]), wanted))
    yield way.end()


@torch.no_grad()
def _decoded(models: Models, grid: Tensor) -> Tensor:
    device = next(models.vqgan.parameters()).device
    return decode(models.vqgan, models.vqgan.quantize.lookup(grid.to(device)))


def _webp(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=90, method=0)
    return buffer.getvalue()


def animation(frames: tuple[bytes, ...], last: Image.Image) -> bytes | None:
    """The way as a GIF, twice as large, the last picture for longer; None if there is none."""
    if not frames:
        return None
    pictures = [Image.open(io.BytesIO(data)).convert("RGB") for data in frames] + [last]
    size = (2 * last.width, 2 * last.height)
    pictures = [p.resize(size, Image.Resampling.NEAREST).quantize(128) for p in pictures]
    buffer = io.BytesIO()
    pictures[0].save(
        buffer,
        "GIF",
        save_all=True,
        append_images=pictures[1:],
        duration=[90] * (len(pictures) - 1) + [1500],
        loop=0,
        disposal=2,
    )
    return buffer.getvalue()
