"""What one step of a sketch reader's training does: the prior frozen, lines of its own pictures."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from prior.model import BITS, GPT, PriorConfig, token_nats
from prior.sketch import SketchConfig, SketchReader, thicken
from prior.task import Batch, PriorTask
from prior.tokens import TokenSet
from prior.train_config import TrainConfig
from training import distributed
from training.loop import LoopConfig
from training.precision import autocast

log = logging.getLogger(__name__)

WIDTHS = (1, 3, 5)  # pixels of a pen
SLIP = 2  # pixels that a sketch may lie off its picture


@dataclass(frozen=True)
class Lines:
    """Lines of all pictures, bits packed: (P, 2, H, W / 8) uint8, outlines and every edge."""

    packed: np.ndarray

    def of(self, pictures: np.ndarray, kinds: np.ndarray | int) -> Tensor:
        """(B, 1, H, W) float32 of these pictures, each of its kind (0 outlines, 1 every edge)."""
        bits = np.unpackbits(self.packed[pictures, kinds], axis=2)
        return torch.from_numpy(bits)[:, None].float()


class SketchTask(PriorTask):
    """One optimiser step on a batch of grids and the lines of their pictures."""

    def __init__(
        self,
        prior: GPT,
        config: SketchConfig,
        cfg: TrainConfig,
        loop: LoopConfig,
        tokens: TokenSet,
        sketches: np.ndarray,
        *,
        conditions: np.ndarray | None = None,
        device: str = "cpu",
    ):
        wanted = (len(tokens.rows), 2, config.size[0], config.size[1] // 8)
        if sketches.shape != wanted or sketches.dtype != np.uint8:
            raise ValueError(
                f"the sketches are {sketches.dtype} of shape {sketches.shape}: expected uint8 of "
                f"{wanted}, as prior.sketches --patch {config.size[0] // tokens.grid[0]} writes "
                "them for these tokens"
            )
        if cfg.optimizer != "adamw":
            raise ValueError(f"optimizer is {cfg.optimizer!r}: a sketch reader learns by adamw")
        if cfg.views:
            raise ValueError("views: the sketches are of the pictures as they are, leave it at 0")
        if cfg.distil:
            raise ValueError("distil: a sketch reader has no teacher, leave it at 0")
        self.prior = prior.to(device).eval().requires_grad_(False)
        self.sketch_config, self.lines = config, Lines(sketches)
        super().__init__(prior.config, cfg, loop, tokens, conditions=conditions, device=device)

    def network(self, config: PriorConfig | SketchConfig) -> SketchReader:
        return SketchReader(self.sketch_config)

    def sketches(self, step: int) -> Tensor:
        """(B, 1, H, W): lines as a hand would draw them, some simple, some thick, a little off."""
        picks, flips, _ = self.chosen(step)
        # Each process its own pens and places.
        rng = np.random.default_rng([self.loop.seed, step, len(picks), 2 + distributed.rank()])
        lines = self.lines.of(picks, rng.integers(2, size=len(picks)))
        found = []
        for one, flip in zip(lines, flips, strict=True):
            one = one.flip(2) if flip else one
            down, right = (int(s) for s in rng.integers(-SLIP, SLIP + 1, 2))
            one = F.pad(one, (right, -right, down, -down))  # what leaves the page does not return
            found.append(thicken(one[None], int(rng.choice(WIDTHS))))
        return torch.cat(found).to(self.device)

    def logits(self, step: int, batch: Batch) -> Tensor:
        shifts = self.model(self.sketches(step))
        return self.prior(batch.inputs, batch.condition, batch.dropped, shifts)

    @torch.no_grad()
    def evaluate(self, step: int, out: Path) -> dict[str, float]:
        """Bits per token on clean held-out grids, without a text condition.

        `val_bits` given every edge, `val_outline_bits` given the outlines, `val_free_bits` given
        no sketch, `val_wrong_bits` given another picture's edges.
        """
        reader = self.averaged()
        figures = {
            "val_bits": self.sketch_bits(reader, 1),
            "val_outline_bits": self.sketch_bits(reader, 0),
            "val_free_bits": self.sketch_bits(None, 1),
            "val_wrong_bits": self.sketch_bits(reader, 1, turn=1),
        }
        log.info("step %d: %s", step, {k: round(v, 3) for k, v in figures.items()})
        if self.preview is not None:
            self.preview(reader, step, out)
        return figures

    @torch.no_grad()
    def sketch_bits(self, reader: SketchReader | None, kind: int, turn: int = 0) -> float:
        """Mean bits per token over the held-out grids, each given the lines `turn` places on."""
        total, others = 0.0, np.roll(self.val, turn)
        for start in range(0, len(self.val), 32):
            picks = self.val[start : start + 32]
            grids = torch.from_numpy(self.codes[picks, 0].astype(np.int64)).flatten(1)
            grids, shifts = grids.to(self.device), None
            with autocast(self.device, self.loop.bf16):
                if reader is not None:
                    lines = self.lines.of(others[start : start + 32], kind)
                    shifts = reader(thicken(lines, 3).to(self.device))
                logits = self.prior(grids, None, None, shifts)
            total += float(token_nats(logits, grids).sum())
        return total * BITS / (len(self.val) * self.prior.config.tokens)
