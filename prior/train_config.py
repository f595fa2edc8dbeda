"""What can be chosen about a prior's training, and what does not go together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prior.model import GPT, PriorConfig
from prior.tokens import TokenSet
from prior.views import KINDS
from training import distributed
from training.flags import option


@dataclass(frozen=True)
class TrainConfig:
    """Batches, corruption and optimiser of prior training."""

    batch: int = option(32, "grids a step, over all processes")
    pkeep: float = option(0.9, "share of input tokens kept; the others are random, targets whole")
    drop: float = option(0.15, "share of samples that train without their condition")
    flips: bool = option(True, "train on mirrored pictures too")
    views: float = option(0.0, "share of samples that are varied views, half mirrored")
    kinds: tuple[str, ...] = option((), "kinds of pictures to train on (icon, clipart, photo)")
    optimizer: str = option("adamw", "adamw, or muon for the matrices of the layers")
    distil: float = option(0.0, "share of the loss that is KL to the predictions of --teacher")
    weight_decay: float = option(0.05, "on matrices only")
    beta1: float = option(0.9, "AdamW's first-moment decay")
    beta2: float = option(0.95, "AdamW's second-moment decay")
    held_out: int = option(512, "held-out grids evaluated each time")

    def __post_init__(self) -> None:
        for name in ("batch", "held_out"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be at least 1")
        if not 0 < self.pkeep <= 1:
            raise ValueError(f"pkeep is {self.pkeep}: it must lie in (0, 1]")
        if not 0 <= self.drop <= 1:
            raise ValueError(f"drop is {self.drop}: it must lie in [0, 1]")
        if not 0 <= self.views <= 1:
            raise ValueError(f"views is {self.views}: it must lie in [0, 1]")
        if not 0 <= self.distil <= 1:
            raise ValueError(f"distil is {self.distil}: it must lie in [0, 1]")
        if not self.weight_decay >= 0:
            raise ValueError(f"weight_decay is {self.weight_decay}: it must not be negative")
        if self.optimizer not in ("adamw", "muon"):
            raise ValueError(f"optimizer is {self.optimizer!r}: choose adamw or muon")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it must lie in [0, 1)")


def check_teacher(model: PriorConfig, cfg: TrainConfig, teacher: GPT | None) -> None:
    """ValueError for --distil or --teacher alone, or a teacher of other codes or conditions."""
    if (teacher is not None) != (cfg.distil > 0):
        raise ValueError(
            f"distil is {cfg.distil}: it needs --teacher, a bundle whose prior is learned from"
            if teacher is None
            else "--teacher needs --distil, the share of the loss that follows it (0 to 1)"
        )
    if teacher is None:
        return
    for name in ("codebook_size", "height", "width", "condition", "classes", "embedding_size"):
        own, other = getattr(model, name), getattr(teacher.config, name)
        if own != other:
            raise ValueError(f"--teacher: its prior has {name} {other}, and this one has {own}")


SAME = ("condition", "classes", "embedding_size", "dim", "heads", "gelu", "tie_head")
# Where these stand in full: 0 means as in GPT-2.
FULL = {"kv_heads": "stored_heads", "head_size": "head_channels"}


def check_start(model: PriorConfig, start: PriorConfig) -> None:
    """ValueError if a field differs that the weights of `start` cannot be brought to.

    Of some no tensor's shape would tell: the weights would load and mean something else.
    """
    shares = start.stored_heads == start.heads and model.stored_heads < start.heads
    can = {  # see prior.grow and prior.narrow, which says how wide heads that share can get
        "layers": model.layers > start.layers,
        "kv_heads": shares,
        "head_size": shares or model.head_channels < start.head_channels,
    }
    for name in (*SAME, "height", "width", *can):
        own, other = (getattr(config, FULL.get(name, name)) for config in (model, start))
        if own != other and not can.get(name):
            flag = f"{'no-' if own is False else ''}{name.replace('_', '-')}"
            raise ValueError(
                f"--init: its prior has {name} {other}, and this one would have {own}: leave out "
                f"--{flag}"
            )


def check_fit(
    model: PriorConfig, cfg: TrainConfig, tokens: TokenSet, conditions: np.ndarray | None
) -> None:
    """ValueError unless model, tokens, conditions and processes belong together."""
    if tokens.grid != (model.height, model.width):
        raise ValueError(
            f"the tokens are grids of {tokens.grid[0]} x {tokens.grid[1]}: the prior's height and "
            f"width are {model.height} x {model.width}"
        )
    if tokens.codebook_size != model.codebook_size:
        raise ValueError(
            f"the tokens come from {tokens.codebook_size} codes: the prior's codebook_size is "
            f"{model.codebook_size}"
        )
    if cfg.views and not tokens.views:
        raise ValueError("the tokens hold no varied views: make some with prior.tokens --views N")
    known = 1 + max((KINDS.index(kind) for kind in tokens.view_kinds), default=-1)
    if model.view_kinds and model.view_kinds < known:
        raise ValueError(
            f"view_kinds is {model.view_kinds}: these tokens need {known}, or 0 to tell none apart"
        )
    if cfg.batch % distributed.world_size():
        raise ValueError(
            f"batch is {cfg.batch}: it must be a multiple of {distributed.world_size()} processes"
        )
    if (conditions is not None) != (model.condition in ("class", "embedding")):
        raise ValueError(
            f"condition {model.condition!r} needs a file of conditions"
            if conditions is None
            else f"condition {model.condition!r} takes no file of conditions"
        )
    if conditions is None:
        return
    n = len(tokens.rows)
    if model.condition == "class":
        fits = conditions.shape == (n,) and conditions.dtype.kind in "iu"
        fits = fits and conditions.min() >= 0 and conditions.max() < model.classes
        wanted = f"whole numbers of shape ({n},) in 0 to {model.classes - 1}"
    else:
        fits = conditions.ndim == 3 and conditions.shape[::2] == (n, model.embedding_size)
        fits = (
            fits and np.issubdtype(conditions.dtype, np.floating) and np.isfinite(conditions).all()
        )
        wanted = f"finite floats of shape ({n}, choices, {model.embedding_size})"
    if not fits:
        raise ValueError(
            f"the conditions are {conditions.dtype} of shape {conditions.shape}: expected {wanted}"
        )
