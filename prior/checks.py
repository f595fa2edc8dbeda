"""What cannot be written: counts, seeds, sizes and known cells that `prior.sample` refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from prior.model import GPT
from prior.noise import NOISE_BLOCK
from training.memory import free_memory

if TYPE_CHECKING:
    from prior.sample import Settings

MAX_CELLS = 128 * 128  # of a grid; the same as for grids from files


def check_count(n: int, seed: int) -> None:
    """ValueError unless n >= 1 and the seeds of all pictures, seed + i, lie in [0, 2**63)."""
    for name, value, low in (("n", n, 1), ("seed", seed, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise ValueError(f"{name} is {value}: it must be a whole number of at least {low}")
    if seed + n > 2**63:
        raise ValueError(f"seed is {seed}: it must be smaller than 2**63")


def check_request(
    prior: GPT,
    n: int,
    seed: int,
    settings: Settings,
    condition: Tensor | None,
    size: tuple[int, int],
) -> tuple[int, int]:
    """`size` as whole numbers; ValueError for anything that this prior cannot write."""
    cfg = prior.config
    check_count(n, seed)
    if settings.top_k > cfg.codebook_size:
        raise ValueError(
            f"top_k is {settings.top_k}: this codebook has {cfg.codebook_size} codes, and 0 takes "
            "them all"
        )
    prior.check_condition(condition, n)
    if size[0] < cfg.height or size[1] < cfg.width:
        raise ValueError(
            f"size is {size[0]} x {size[1]}: this prior writes {cfg.height} x {cfg.width} or more"
        )
    if size[0] * size[1] > MAX_CELLS:
        raise ValueError(f"size is {size[0]} x {size[1]}: {MAX_CELLS} codes are the most")
    return int(size[0]), int(size[1])


def check_known(known: Tensor | None, n: int, size: tuple[int, int], codebook_size: int) -> Tensor:
    """Known cells as (n, h, w) int64 with -1 where free."""
    if known is None:
        return torch.full((n, *size), -1, dtype=torch.int64)
    if known.is_floating_point() or known.shape[1:] != size or known.shape[0] not in (1, n):
        raise ValueError(
            f"known cells are {known.dtype} of shape {tuple(known.shape)}: expected whole numbers "
            f"of shape {(n, *size)}, -1 where free"
        )
    if known.min() < -1 or known.max() >= codebook_size:
        raise ValueError(
            f"known cells run from {int(known.min())} to {int(known.max())}: codes are 0 to "
            f"{codebook_size - 1}, and -1 means free"
        )
    return known.long().expand(n, *size)


def check_memory(prior: GPT, n: int, copies: int = 1) -> None:
    """ValueError if writing `n` grids at once would not fit into the free memory.

    copies: rows that each grid takes, two where it is guided
    """
    rows = n * copies
    cfg = prior.config
    # Queries, keys and values, both copies of them while the cache grows.
    heads = cfg.heads + 2 * cfg.stored_heads
    cache = heads * cfg.head_channels * cfg.layers * cfg.positions * 4 * 2
    noise = (NOISE_BLOCK + cfg.tokens) * cfg.codebook_size * 4  # where rows are far apart
    need = rows * (cache + noise + cfg.positions * cfg.dim * 8 * 4)
    free = free_memory(prior.wte.weight.device)
    if free is not None and need > free:
        most = int(n * free / need)
        raise ValueError(
            f"{n} grids at once need about {need / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB "
            f"are free: ask for {most} or fewer"
        )
