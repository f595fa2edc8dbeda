"""What one step of prior training does: pick grids, corrupt the inputs, predict every code."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from prior.grow import grown
from prior.model import BITS, GPT, PriorConfig, token_nats
from prior.narrow import narrowed
from prior.tokens import TokenSet, unigram_bits
from prior.train_config import TrainConfig, check_fit, check_start, check_teacher
from prior.views import KINDS
from training import distributed
from training.chance import Epochs
from training.ema import EMA
from training.loop import LoopConfig, figures, learning_rate, optimise, restore_optimizer
from training.muon import MuonAdamW
from training.precision import autocast
from training.spread import spread

log = logging.getLogger(__name__)

NARROWING = 256  # grids read to see which directions of a head count

Preview = Callable[[GPT, int, Path], None]  # (averaged prior, step, folder) -> writes pictures


def corrupt(tokens: Tensor, pkeep: float, codebook_size: int, generator: torch.Generator) -> Tensor:
    """The article's masking: each token stays with probability `pkeep`, else a random one.

    tokens (B, N) int64 -> a new (B, N) int64. Random codes are uniform over the codebook, so one
    in K "replaced" tokens is the same as before. The model reads this and is asked for `tokens`.
    """
    if pkeep == 1:
        return tokens.clone()
    kept = torch.rand(tokens.shape, generator=generator) < pkeep
    noise = torch.randint(codebook_size, tokens.shape, generator=generator)
    return torch.where(kept, tokens, noise)


def divergence(taught: Tensor, logits: Tensor) -> Tensor:
    """Mean KL(teacher || student) over tokens, in nats; both logits (B, N, K).

    Hinton et al., "Distilling the Knowledge in a Neural Network", equation 2 at temperature 1.
    """
    nats = [torch.log_softmax(x.float().flatten(0, 1), -1) for x in (logits, taught)]
    return torch.nn.functional.kl_div(*nats, reduction="batchmean", log_target=True)


class Batch(NamedTuple):
    """What one step reads and is asked for."""

    inputs: Tensor  # (B, N) int64, some replaced
    targets: Tensor  # (B, N) int64, whole
    condition: Tensor | None = None
    dropped: Tensor | None = None  # (B,) bool: trains without its condition
    kinds: Tensor | None = None  # (B,) int64: of what kind of view each grid is


class PriorTask:
    """One optimiser step on a batch of grids (see `training.loop.Task`)."""

    def __init__(
        self,
        model_cfg: PriorConfig,
        cfg: TrainConfig,
        loop: LoopConfig,
        tokens: TokenSet,
        *,
        conditions: np.ndarray | None = None,
        device: str = "cpu",
        preview: Preview | None = None,
        teacher: GPT | None = None,
    ):
        """`conditions`: (P,) whole numbers (classes) or (P, M, E) floats, M choices a picture.

        `teacher`: a prior of the same codes and conditions, for `cfg.distil`.
        """
        check_fit(model_cfg, cfg, tokens, conditions)
        check_teacher(model_cfg, cfg, teacher)
        self.teacher = None if teacher is None else teacher.to(device)
        self.cfg, self.loop, self.device, self.preview = cfg, loop, device, preview
        self.codes, self.conditions = tokens.codes, conditions
        self.codebook_size = model_cfg.codebook_size
        # Of each of a picture's grids: 0 as it is, or the kind of its view, from 1 on.
        told = [1 + KINDS.index(kind) for kind in tokens.view_kinds]
        self.kinds = np.array([0, 0, *told]) if model_cfg.view_kinds else None
        self.train, self.val = tokens.where("train", cfg.kinds), tokens.where("val", cfg.kinds)
        if not len(self.train) or not len(self.val):
            raise ValueError(
                f"the tokens hold {len(self.train)} training and {len(self.val)} held-out "
                f"pictures of {', '.join(cfg.kinds) or 'any kind'}: both are needed"
            )
        self.val = spread(self.val, cfg.held_out)
        self.epochs = Epochs(len(self.train), cfg.batch, loop.seed)
        train, val = self.codes[self.train, :2], self.codes[self.val, 0]
        self.unigram = unigram_bits(train, val, model_cfg.codebook_size)
        torch.manual_seed(loop.seed)
        self.model = self.network(model_cfg).to(device)
        self.ema = EMA(self.model, loop.ema)
        self.opt = self._optimizer()
        self._ahead: dict[int, Batch] = {}  # the next step's, by its number
        if loop.compile:
            self.model.compile()
            if self.teacher is not None:
                self.teacher.compile()

    def network(self, config: PriorConfig) -> torch.nn.Module:
        """What is trained, with new weights."""
        return GPT(config)

    def _optimizer(self) -> torch.optim.Optimizer | MuonAdamW:
        cfg, lr, betas = self.cfg, self.loop.lr, (self.cfg.beta1, self.cfg.beta2)
        named = list(self.model.named_parameters())
        inner = {n for n, p in named if n.startswith("blocks.") and p.ndim == 2}
        inner = inner if cfg.optimizer == "muon" else set()
        matrices = [p for n, p in named if p.ndim >= 2 and n not in inner]
        groups = [
            {"params": matrices, "weight_decay": cfg.weight_decay},
            {"params": [p for _, p in named if p.ndim < 2], "weight_decay": 0.0},
        ]
        if not inner:
            return torch.optim.AdamW(groups, lr=lr, betas=betas, fused=True)
        layers = [p for n, p in named if n in inner]
        return MuonAdamW(layers, groups, lr=lr, betas=betas, weight_decay=cfg.weight_decay)

    def picks(self, step: int) -> tuple[np.ndarray, np.random.Generator]:
        """This process's pictures of a step, and its random numbers: functions of (seed, step)."""
        rng = np.random.default_rng([self.loop.seed, step, distributed.rank()])
        return self.train[self.epochs.share(step)], rng

    def chosen(self, step: int) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
        """Pictures of a step, which of them are mirrored (0 or 1), random numbers for the rest."""
        picks, rng = self.picks(step)
        flips = rng.integers(2, size=len(picks)) if self.cfg.flips else np.zeros(len(picks), int)
        return picks, flips, rng

    def batch(self, step: int) -> Batch:
        """The grids of a step, on the task's device."""
        picks, views, rng = self.chosen(step)
        if self.cfg.views:
            varied = rng.random(len(picks)) < self.cfg.views
            views = np.where(varied, rng.integers(2, self.codes.shape[1], size=len(picks)), views)
        grids = self.codes[picks, views].astype(np.int64)  # (B, h, w)
        targets = torch.from_numpy(grids).flatten(1)
        seed = torch.Generator().manual_seed(int(rng.integers(2**63)))
        inputs = corrupt(targets, self.cfg.pkeep, self.codebook_size, seed)
        condition = dropped = kinds = None
        if self.conditions is not None:
            condition = torch.from_numpy(self._condition(picks, rng)).to(self.device)
            dropped = torch.from_numpy(rng.random(len(picks)) < self.cfg.drop).to(self.device)
        if self.kinds is not None:
            kinds = torch.from_numpy(self.kinds[views]).to(self.device)
        on = (inputs.to(self.device), targets.to(self.device))
        return Batch(*on, condition, dropped, kinds)

    def _condition(self, picks: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
        """Class ids (B,) int64, or one of each picture's embeddings (B, E) float32."""
        rows = self.conditions[picks]
        if rows.ndim == 1:
            return rows.astype(np.int64)
        choice = rng.integers(rows.shape[1], size=len(picks)) if rng else 0
        return rows[np.arange(len(picks)), choice].astype(np.float32)

    def train_step(self, step: int) -> dict[str, float]:
        batch = self._ahead.pop(step, None) or self.batch(step)
        with autocast(self.device, self.loop.bf16):
            logits = self.logits(step, batch)
        nats = token_nats(logits, batch.targets).mean()
        loss, report = nats, {"bits": nats * BITS}
        if self.teacher is not None:
            apart = divergence(self.taught(batch), logits)
            loss = torch.lerp(nats, apart, self.cfg.distil)
            report["kl_bits"] = apart * BITS
        loss.backward()
        # Before anything waits for the loss: a GPU works on meanwhile.
        self._ahead = {step + 1: self.batch(step + 1)}
        lr = learning_rate(step, self.loop)
        grad = optimise(self.opt, self.model, lr, self.loop.clip)
        self.ema.update(self.model)
        return figures(report) | {"grad": grad, "lr": lr}

    @torch.no_grad()
    def taught(self, batch: Batch) -> Tensor:
        """(B, N, K): what the teacher makes of the same inputs."""
        with autocast(self.device, self.loop.bf16):
            return self.teacher(batch.inputs, batch.condition, batch.dropped)

    def logits(self, step: int, batch: Batch) -> Tensor:
        """(B, N, K) of the batch of a step."""
        return self.model(batch.inputs, batch.condition, batch.dropped, kinds=batch.kinds)

    def averaged(self) -> torch.nn.Module:
        """The averaged weights as a model for inference."""
        model = self.network(self.model.config).eval().requires_grad_(False).to(self.device)
        model.load_state_dict(self.ema.shadow)
        return model

    @torch.no_grad()
    def evaluate(self, step: int, out: Path) -> dict[str, float]:
        """Bits per token of the averaged weights on clean held-out grids, computed as training is.

        In bfloat16 where training is (`LoopConfig.bf16`); the logarithms are float32's.
        `val_bits` with the condition, where there is one, and then `val_free_bits` without it.
        """
        model = self.averaged()
        found = {"val_bits": self.held_out_bits(model, conditional=True)}
        if self.conditions is not None:
            found["val_free_bits"] = self.held_out_bits(model, conditional=False)
        found["unigram_bits"] = self.unigram
        log.info("step %d: %s", step, {k: round(v, 3) for k, v in found.items()})
        if self.preview is not None:
            self.preview(model, step, out)
        return found

    @torch.no_grad()
    def held_out_bits(self, model: GPT, *, conditional: bool) -> float:
        """Mean bits per token over the held-out grids."""
        total = 0.0
        for start in range(0, len(self.val), 64):
            picks = self.val[start : start + 64]
            grids = torch.from_numpy(self.codes[picks, 0].astype(np.int64)).flatten(1)
            condition = None
            if conditional and self.conditions is not None:
                condition = torch.from_numpy(self._condition(picks, None)).to(self.device)
            with autocast(self.device, self.loop.bf16):
                logits = model(grids.to(self.device), condition)
            total += float(token_nats(logits, grids.to(self.device)).sum())
        return total * BITS / (len(self.val) * model.config.tokens)

    def init_from(self, start: torch.nn.Module) -> None:
        """Begin with the weights of `start`.

        A deeper prior begins as `start` grown (`prior.grow`), one with narrower heads or fewer of
        keys and values near it (`prior.narrow`). ValueError, saying where, if they do not fit.
        """
        config = self.model.config
        if isinstance(config, PriorConfig):
            check_start(config, start.config)
            # In this order: layers that grew add nothing yet, so no direction of theirs counts.
            size, stored = config.head_channels, config.stored_heads
            if size < start.config.head_channels or stored < start.config.stored_heads:
                grids = self.typical(NARROWING)
                start = narrowed(start, size, grids, config.kv_heads)
            if start.config.layers < config.layers:
                start = grown(start, config.layers)
        # Kinds of views are told apart from here on: no bundle's prior knows them.
        own = self.model.state_dict().items()
        views = {k: v for k, v in own if k.startswith("view_emb.")}
        try:
            self.model.load_state_dict(views | start.state_dict())
        except RuntimeError as error:
            raise ValueError(f"--init: {' '.join(str(error).split())}") from None
        self.ema = EMA(self.model, self.loop.ema)

    def typical(self, count: int) -> Tensor:
        """(count or fewer, N) int64: grids spread over the training pictures."""
        grids = self.codes[spread(self.train, count), 0]
        return torch.from_numpy(grids.astype(np.int64)).flatten(1)

    def state_dict(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "opt": self.opt.state_dict(),
            "ema": self.ema.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        restore_optimizer(self.opt, state["opt"])
        self.ema.load_state_dict(state["ema"])
