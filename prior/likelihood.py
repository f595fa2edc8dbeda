"""What each code of a grid costs under the prior, in bits: where a picture surprises it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from prior.checks import MAX_CELLS
from prior.decode import packed
from prior.model import BITS, GPT
from prior.reader import Reader, windows
from prior.sample import token_log_probs

ROWS = 16  # windows read at once


def bits_per_cell(
    prior: GPT,
    grids: Tensor,
    condition: Tensor | None = None,
    *,
    stride: int = 1,
    dtype: torch.dtype | None = None,
    run: Callable[..., Tensor] = lambda read, *args: read(*args),
) -> Tensor:
    """-log2 p(code | codes before it in raster order, condition), the exponent of the paper's
    p(s) = prod_i p(s_i | s_<i) (section 3.2), cell by cell.

    grids      (B, h, w) int64 in [0, K), at least as large as the prior's own
    condition  embeddings (B, E), class ids (B,), or None
    stride     larger grids are read through the paper's sliding window (section 3.2), which moves
               this many cells at a time; 1 is the paper's, 4 takes a quarter of the time
    dtype      of the products, as `prior.sample.sample` takes it
    run        run(function, *args) reads some windows at a time, maybe in another thread

    -> (B, h, w) float32, >= 0, on the CPU. Their sum is minus the `log_likelihood` that
    `prior.sample` gives for the same grids, in bits. ValueError for grids that do not fit.
    """
    check_grids(prior, grids)
    prior.check_condition(condition, len(grids))
    if stride < 1:
        raise ValueError(f"stride is {stride}: it must be at least 1")
    cfg, (height, width) = prior.config, grids.shape[1:]
    weights = packed(prior, dtype)
    grids = grids.to(weights.device)
    condition = None if condition is None else condition.to(weights.device)
    cells: dict[tuple[int, int], list[tuple[int, int]]] = {}  # window -> its (cell, place)
    for cell, (top, left, place) in enumerate(
        windows((height, width), (cfg.height, cfg.width), stride)
    ):
        cells.setdefault((top, left), []).append((cell, place))
    bits = torch.empty(len(grids), height * width)
    corners = list(cells)
    at_once = max(1, ROWS // len(grids))
    for start in range(0, len(corners), at_once):
        some = corners[start : start + at_once]
        parts = [grids[:, i : i + cfg.height, j : j + cfg.width].flatten(1) for i, j in some]
        length = 1 + max(place for corner in some for _, place in cells[corner])
        tokens = torch.cat(parts)[:, :length]
        nats = -run(_log_probs, prior, weights, tokens, condition, len(some))
        for corner, part in zip(some, nats.cpu().split(len(grids)), strict=True):
            numbers, places = zip(*cells[corner], strict=True)
            bits[:, list(numbers)] = part[:, list(places)] * BITS
    return bits.view(len(grids), height, width)


def log_probs(
    prior: GPT, grids: Tensor, condition: Tensor | None = None, dtype: torch.dtype | None = None
) -> Tensor:
    """Natural log p of every code in every cell, given the codes before it and the condition.

    grids (B, h, w) int64, exactly as large as the prior's own -> (B, K, h, w) float32; the other
    arguments, and what is refused, as in `bits_per_cell`.
    """
    check_grids(prior, grids)
    prior.check_condition(condition, len(grids))
    height, width = grids.shape[1:]
    if (height, width) != (prior.config.height, prior.config.width):
        raise ValueError(
            f"the grid has {height} x {width} codes: expected {prior.config.height} x "
            f"{prior.config.width}, which this prior was trained on"
        )
    weights = packed(prior, dtype)
    condition = None if condition is None else condition.to(weights.device)
    logits = _logits(prior, weights, grids.flatten(1).to(weights.device), condition)
    found = torch.log_softmax(logits.float(), -1)
    return found.transpose(1, 2).unflatten(2, (height, width)).contiguous()


def _log_probs(
    prior: GPT, weights, tokens: Tensor, condition: Tensor | None, repeats: int
) -> Tensor:
    """Natural log p of each of `tokens` (repeats * B, S) given those before it: same shape."""
    if condition is not None:
        condition = condition.repeat(repeats, *[1] * (condition.ndim - 1))
    return token_log_probs(_logits(prior, weights, tokens, condition), tokens)


@torch.no_grad()
def _logits(prior: GPT, weights, tokens: Tensor, condition: Tensor | None) -> Tensor:
    """Of each of `tokens` (B, S), given those before it: (B, S, K)."""
    reader = Reader(prior, weights, len(tokens), condition, 1.0)
    logits = [reader.restart(tokens[:, :0])[1]]
    if tokens.shape[1] > 1:
        start = torch.zeros(len(tokens), dtype=torch.int64, device=tokens.device)
        logits.append(reader.feed(tokens[:, :-1], start)[1])
    return torch.cat(logits, 1)


def check_grids(prior: GPT, grids: Tensor) -> None:
    """ValueError, with what would be right, unless this prior can read these grids (B, h, w)."""
    cfg = prior.config
    if grids.dtype != torch.int64 or grids.ndim != 3 or not len(grids):
        raise ValueError(
            f"the grids are {grids.dtype} of shape {tuple(grids.shape)}: expected int64 (B, h, w)"
        )
    height, width = grids.shape[1:]
    if height < cfg.height or width < cfg.width:
        raise ValueError(
            f"the grid has {height} x {width} codes: this prior reads {cfg.height} x {cfg.width} "
            "or more"
        )
    if height * width > MAX_CELLS:
        raise ValueError(f"the grid has {height} x {width} codes: {MAX_CELLS} are the most")
    low, high = int(grids.min()), int(grids.max())
    if low < 0 or high >= cfg.codebook_size:
        raise ValueError(
            f"the codes run from {low} to {high}: this prior knows 0 to {cfg.codebook_size - 1}"
        )
