"""Writing grids code by code: `python -m prior.sample --out grid.png -n 16 --seed 0`.

Order and its limits. A grid is written in raster order, and each code is drawn given those before
it: above, and to the left in its row. Cells known beforehand are kept as they are, but only those
already passed can be seen. So a given upper half or given rows are continued; a given lower half
is not foreseen, and free cells above it join it by chance. For free masks draw several candidates
and keep those whose `log_likelihood`, which counts the known cells too, is highest.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from prior.ahead import count_right, fill, look_ahead, reach, runs
from prior.checks import check_known, check_memory, check_request
from prior.decode import packed
from prior.model import GPT
from prior.noise import RowNoise
from prior.reader import Reader, windows
from prior.sketch import check_shifts
from training.flags import option

COLD = 1e-6  # temperature below which a code leads the next one by more than any float tells
NUCLEUS = 128  # likeliest codes that are sorted for top-p; all only if these do not reach it


@dataclass(frozen=True)
class Settings:
    """How a code is drawn from what the prior predicts."""

    temperature: float = option(1.0, "logits are divided by it; 0: always the likeliest code")
    top_k: int = option(0, "only the k likeliest codes, and those as likely as the last; 0: all")
    top_p: float = option(1.0, "only the likeliest codes that together reach this probability")
    cfg_scale: float = option(1.0, "guidance: free + scale * (given - free) logits; 1: none")

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and 0 <= self.temperature <= 100):
            raise ValueError(f"temperature is {self.temperature}: it must lie in 0 to 100")
        if isinstance(self.top_k, bool) or not isinstance(self.top_k, int) or self.top_k < 0:
            raise ValueError(f"top_k is {self.top_k}: it must be a whole number, 0 or more")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}: it must lie above 0 and up to 1")
        if not (math.isfinite(self.cfg_scale) and 0 <= self.cfg_scale <= 100):
            raise ValueError(f"cfg_scale is {self.cfg_scale}: it must lie in 0 to 100")


@dataclass(frozen=True)
class Progress:
    """Where a batch of grids stands. The tensors are the receiver's own, on the CPU."""

    grid: Tensor  # (B, h, w) int64, -1 where nothing is known or written yet
    done: int  # cells passed so far in raster order
    total: int  # cells of a grid
    tokens_per_second: float  # over the whole batch; the receiver's own time is not counted
    log_likelihood: Tensor  # (B,) float32, nats: sum of log p(code) at temperature 1, untruncated


# --- logits -> token ------------------------------------------------------------------------------


def logits_to_probs(
    logits: Tensor, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0
) -> Tensor:
    """(B, K) logits -> (B, K) float32 probabilities, 0 for codes that are left out.

    In this order: temperature, the `top_k` likeliest (0: all), then the likeliest whose
    probabilities together reach `top_p`, at least one. Codes as likely as the last one that is kept
    are kept as well, so that a row never depends on how a sort orders them. Temperature 0, or any
    below `COLD`, gives all to the likeliest code.
    """
    if temperature < COLD:
        return F.one_hot(logits.argmax(-1), logits.shape[-1]).float()
    logits = logits.float() if temperature == 1 else logits.float() / temperature
    probs = torch.softmax(logits, -1)
    size = probs.shape[-1]
    if top_k == 0 and top_p == 1:
        return probs
    best = torch.topk(probs, top_k or min(NUCLEUS, size), dim=-1).values  # likeliest first
    if top_k:
        least = best[:, -1:] if top_p == 1 else _least(best, top_p * best.sum(-1, keepdim=True))
    else:
        least = _least(best, top_p)
        short = best.sum(-1) < top_p
        if short.any():
            least[short] = _least(torch.topk(probs[short], size, dim=-1).values, top_p)
    probs = probs.masked_fill(probs < least, 0)
    return probs / probs.sum(-1, keepdim=True)


def _least(best: Tensor, share: Tensor | float) -> Tensor:
    """(B, n) probabilities, likeliest first -> (B, 1) the last of those that reach the share."""
    before = best.cumsum(-1) - best  # probability of the likelier ones
    return best.masked_fill(before >= share, torch.inf).amin(-1, keepdim=True)


def sample_one(probs: Tensor, noise: Tensor) -> Tensor:
    """One code a row: probs (B, K), noise (B, K) of exponential distribution -> (B,) int64.

    The smallest of exponential variables with rates p is each one with probability p. A row's code
    depends on its own noise only, and a code with probability 0 is never drawn.
    """
    chosen = probs / noise
    if chosen.device.type == "cpu":  # a tenth of the time of torch's own
        return torch.from_numpy(chosen.numpy().argmax(-1))
    return torch.argmax(chosen, -1)


def draw(logits: Tensor, noise: Tensor, settings: Settings) -> Tensor:
    """Codes (M,) int64: logits (M, K), noise (M, K)."""
    probs = logits_to_probs(logits, settings.temperature, settings.top_k, settings.top_p)
    return sample_one(probs, noise)


def token_log_probs(logits: Tensor, tokens: Tensor) -> Tensor:
    """log p(token), natural: logits (..., K), tokens (...) int64 -> (...) float32."""
    return torch.log_softmax(logits.float(), -1).gather(-1, tokens[..., None])[..., 0]


# --- sampling -------------------------------------------------------------------------------------


def sample(
    prior: GPT,
    n: int,
    *,
    seed: int,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    cfg_scale: float = 1.0,
    known: Tensor | None = None,
    condition: Tensor | None = None,
    shifts: Tensor | None = None,
    size: tuple[int, int] | None = None,
    stride: int = 4,
    dtype: torch.dtype | None = None,
    ahead: int | None = None,
) -> Iterator[Progress]:
    """Write `n` grids; yields after every cell, the last time with `done == total`.

    known      (n, h, w) or (1, h, w) int64, -1 where free; see above what raster order can see
    condition  embeddings (n, E), class ids (n,), or None for unconditional pictures
    shifts     (n or 1, h w, layers + 1, dim) floats, what a sketch adds (`prior.sketch`), or None
    size       rows and columns, at least those the prior was trained on; larger grids are written
               through a sliding window that moves `stride` cells at a time (the paper: 1)
    dtype      of the products, see `prior.decode`; None: int8, bfloat16 or float32, the first that
               the processor has and, for int8, the prior is ready for
    ahead      cells drawn in one pass (`prior.ahead`); 1: code by code; None: as many as is quick

    Row i depends on seed + i, not on the batch it is in (see `prior.decode`). ValueError at once,
    not at the first step, for settings that are out of range or do not belong together.
    """
    settings = Settings(temperature, top_k, top_p, cfg_scale)
    cfg = prior.config
    size = check_request(prior, n, seed, settings, condition, size or (cfg.height, cfg.width))
    if condition is None and shifts is None and cfg_scale != 1:
        raise ValueError(f"cfg_scale is {cfg_scale}: guidance needs a condition or a sketch")
    if stride < 1:
        raise ValueError(f"stride is {stride}: it must be at least 1")
    if ahead is not None and ahead < 1:
        raise ValueError(f"ahead is {ahead}: it must be at least 1")
    check_memory(prior, n, copies=1 if cfg_scale == 1 else 2)
    known = check_known(known, n, size, cfg.codebook_size)
    plan = windows(size, (cfg.height, cfg.width), stride)
    weights = packed(prior, dtype)
    device = weights.device
    condition = None if condition is None else condition.to(device)
    shifts = check_shifts(prior, shifts, n, size)
    with torch.no_grad():
        reader = Reader(prior, weights, n, condition, cfg_scale, shifts)
    noise = RowNoise(seed, n, cfg.codebook_size)
    return _Writer(reader, noise, settings, known.to(device), plan, ahead).steps()


class _Writer:
    """The state of a sampling run: what is written of each grid, and what is drawn next.

    Rows move at their own speed: a pass draws several cells of each from guesses, and a row goes on
    from its first wrong guess (`prior.ahead`). What is shown is what all rows have reached.
    """

    def __init__(
        self,
        reader: Reader,
        noise: RowNoise,
        settings: Settings,
        known: Tensor,
        plan: list[tuple[int, int, int]],
        ahead: int | None,
    ):
        self.reader, self.noise, self.settings = reader, noise, settings
        self.plan, self.chosen = plan, ahead
        self.shape, device = known.shape, known.device  # (B, h, w)
        self.given = known.flatten(1)  # -1 where free
        self.free = (self.given < 0).any(0).tolist()
        self.all_free = bool((self.given < 0).all())
        # Written, then guessed, then -1.
        self.text = self.given.clone(memory_format=torch.contiguous_format)
        batch, total = self.given.shape
        self.numbers = torch.arange(total, device=device)
        # Of the rows that are still written: which they are, what they hold, their next cell.
        self.rows = torch.arange(batch, device=device)
        self.part = self.text
        self.cells = torch.zeros(batch, dtype=torch.int64, device=device)
        self.gains = torch.zeros(batch, total, device=device)  # log p of each code
        self.likelihood = torch.zeros(batch, device=device)

    def steps(self) -> Iterator[Progress]:
        """Write all cells; yields one `Progress` a cell."""
        began, spent, (batch, total) = time.perf_counter(), 0.0, self.given.shape
        for start, end in runs(self.plan):
            done = start
            while done < end:
                with torch.inference_mode():  # a tenth quicker than `no_grad` at these sizes
                    ends, *made = self._pass(start, end, done)
                # Copied out here, or nobody could train on them.
                shown, sums = (x.to("cpu", copy=True) for x in made)
                for stop, grid, likelihood in zip(ends, shown, sums, strict=True):
                    done, now = stop, spent + time.perf_counter() - began
                    yield Progress(grid, done, total, batch * done / max(now, 1e-9), likelihood)
                    spent, began = now, time.perf_counter()

    def _pass(self, start: int, end: int, done: int) -> tuple[list[int], Tensor, Tensor]:
        """Read and draw the next cells of every row, in the window of cells `start` to `end` - 1.

        `done` cells are finished in all rows before the pass. It finishes more of them, which are
        shown in E steps -> how many are finished after each step, the grids then (E, B, h, w) and
        their log likelihoods (E, B).
        """
        # Where all codes are equally likely there is nothing to guess or to truncate.
        uniform = self.plan[done][2] == 0 and not self.reader.prefix.shape[1]
        rows = self.reader.batch * (1 + self.reader.twice)
        ahead = self.chosen or look_ahead(rows, self.reader.weights.products)
        count = 1 if uniform else reach(self.plan, self.free, done, ahead) - done
        # Rows that are nearly through, or wait for others, draw their latest cells again.
        columns = self.cells.clamp(max=end - count)[:, None] + self.numbers[:count]  # (B, count)
        width = self.shape[2]
        guesses = fill(self.part, columns[:, :-1], width) if count > 1 else columns[:, :0]
        if done == start:
            context = _context(self.text.view(self.shape), self.plan[start], count - 1, self.reader)
            guided, plain = self.reader.restart(context, count)
        else:
            at = columns[:, 0] - 1 + self.plan[start][2] - start
            guided, plain = self.reader.feed(self.part.gather(1, columns - 1), at)
        drawn = self._draw(guided, columns, done, Settings() if uniform else self.settings)
        self.cells = columns[:, 0] + count_right(guesses, drawn)
        self.part.scatter_(1, columns, drawn)
        if self.part is not self.text:
            self.text[self.rows] = self.part
        self.gains[self.rows[:, None], columns] = token_log_probs(plain, drawn)
        reached = int(self.cells.min())  # every row has come so far
        # Known cells show together with the one before them.
        ends = [c for c in range(done + 1, reached + 1) if c == reached or self.free[c]]
        passed = self.numbers < torch.tensor(ends, device=columns.device)[:, None, None]
        shown = torch.where(passed, self.text, self.given)
        sums = []
        for cell in range(done, reached):
            self.likelihood = self.likelihood + self.gains[:, cell]
            if cell + 1 in ends:
                sums.append(self.likelihood)
        if end == len(self.plan) > reached:
            self._leave_behind(self.cells == end)
        return ends, shown.view(len(ends), *self.shape), torch.stack(sums)

    def _leave_behind(self, through: Tensor) -> None:
        """Once half of the rows (B,) are through, drop them: the others can look farther ahead."""
        if 2 * int(through.sum()) < len(through):
            return
        left = (~through).nonzero()[:, 0]
        self.reader.keep(left)
        self.rows, self.cells, self.part = self.rows[left], self.cells[left], self.part[left]

    def _draw(self, logits: Tensor, columns: Tensor, done: int, settings: Settings) -> Tensor:
        """Codes for cells `columns` (B, S), all from `done` on; known cells keep their codes."""
        rows = self.rows[:, None].expand_as(columns)
        if self.all_free:
            chance = self.noise.at(rows.flatten().cpu(), columns.flatten().cpu(), done)
            drawn = draw(logits.flatten(0, 1), chance.to(logits.device), settings)
            return drawn.view_as(columns)
        drawn = self.given[rows, columns]
        open_ = drawn < 0
        if open_.any():
            chance = self.noise.at(rows[open_].cpu(), columns[open_].cpu(), done)
            drawn[open_] = draw(logits[open_], chance.to(logits.device), settings)
        return drawn


def _context(grid: Tensor, first: tuple[int, int, int], more: int, reader: Reader) -> Tensor:
    """(B, S): the codes of a window that precede its cell `first`, and the `more` after these.

    grid (B, h, w); first: top and left of the window, the cell's place in it (`reader.windows`)
    """
    cfg, (top, left, place) = reader.weights.config, first
    window = grid[:, top : top + cfg.height, left : left + cfg.width]
    return window.flatten(1)[:, : place + more]


def finish(steps: Iterator[Progress]) -> Progress:
    """The last step of a sampling run."""
    for step in steps:
        last = step
    return last


if __name__ == "__main__":
    from prior.draw import main

    main()
