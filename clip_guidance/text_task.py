"""What one step of CLIP's text training does: sentences learn to land where MiniLM puts them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clip_guidance.image_task import contrast
from clip_guidance.model import Clip
from training import distributed
from training.ema import EMA
from training.flags import option
from training.loop import LoopConfig, figures, learning_rate, optimise, restore_optimizer
from training.precision import autocast

log = logging.getLogger(__name__)

BUCKET = 16  # batches that are sorted by length together


@dataclass(frozen=True)
class TextTrainConfig:
    """Batches and losses of CLIP's text tower."""

    batch: int = option(256, "texts a step, over all processes")
    contrast: float = option(0.3, "weight of telling the texts of a batch apart, beside 1 - cosine")
    temperature: float = option(0.05, "of that contrast")
    soft: float = option(0.05, "temperature of its targets: texts of like meaning share them")
    chinese: int = option(2, "how often an epoch shows a Chinese text, an English one once")
    table_lr: float = option(0.3, "learning rate of the token table as a factor on lr")
    weight_decay: float = option(0.01, "AdamW's, on matrices only, the token table aside")

    def __post_init__(self) -> None:
        if self.batch < 2:
            raise ValueError(f"batch is {self.batch}: it must be at least 2")
        if self.chinese < 1:
            raise ValueError(f"chinese is {self.chinese}: it must be at least 1")
        for name in ("temperature", "soft"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be positive")
        for name in ("contrast", "table_lr", "weight_decay"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}: it must not be negative")


class Trimmed:
    """Runs a causal text tower on as many tokens as the longest text of a batch has.

    open_clip's tower wants the full context, most of which is padding here; behind a causal mask
    padding changes nothing.
    """

    def __init__(self, text: nn.Module):
        self.text, self.mask = text, text.attn_mask

    def __call__(self, tokens: Tensor) -> Tensor:
        """(B, context length) int64 -> (B, E)."""
        length = int((tokens != 0).sum(1).max())
        self.text.attn_mask = self.mask[:length, :length]
        try:
            return self.text(tokens[:, :length])
        finally:
            self.text.attn_mask = self.mask


def is_chinese(text: str) -> bool:
    return any("\u4e00" <= character <= "\u9fff" for character in text)


class TextTask:
    """One optimiser step on a batch of texts (see `training.loop.Task`)."""

    def __init__(
        self,
        clip: Clip,
        cfg: TextTrainConfig,
        loop: LoopConfig,
        texts: list[str],
        vectors: np.ndarray,
        held_out: dict[str, tuple[list[str], np.ndarray]],
        device: str = "cpu",
    ):
        """`held_out`: by name, texts that `texts` leaves out, and where they belong. ValueError
        where vectors are of another size than the tower's."""
        for found in (vectors, *(wanted for _, wanted in held_out.values())):
            if found.shape[-1] != clip.embedding_size:
                raise ValueError(
                    f"the texts' vectors have {found.shape[-1]} numbers each and the model's "
                    f"{clip.embedding_size}: --embed-dim must be {found.shape[-1]}"
                )
        self.clip, self.cfg, self.loop, self.device = clip.to(device), cfg, loop, device
        self.tokens = torch.cat(
            [clip.tokenize(texts[i : i + 4096]) for i in range(0, len(texts), 4096)]
        )
        self.targets = torch.from_numpy(vectors)
        self.lengths = (self.tokens != 0).sum(1).numpy()
        times = np.where([is_chinese(t) for t in texts], cfg.chinese, 1)
        self.pool = np.repeat(np.arange(len(texts)), times)
        self.held_out = held_out
        clip.requires_grad_(False)
        self.tower = clip.model.text.requires_grad_(True)
        self.trimmed = Trimmed(self.tower)
        self.ema = EMA(self.tower, loop.ema)
        named = dict(self.tower.named_parameters())
        table = named.pop("token_embedding.weight")
        groups = [
            {"params": [table], "lr_scale": cfg.table_lr, "weight_decay": 0.0},
            {
                "params": [p for p in named.values() if p.ndim >= 2],
                "weight_decay": cfg.weight_decay,
            },
            {"params": [p for p in named.values() if p.ndim < 2], "weight_decay": 0.0},
        ]
        self.opt = torch.optim.AdamW(groups, lr=loop.lr, betas=(0.9, 0.98), fused=True)

    def picks(self, step: int) -> np.ndarray:
        """This process's texts of a step, of about equal length: a function of (seed, step)."""
        size, batch = len(self.pool) // self.cfg.batch, self.cfg.batch
        epoch, position = divmod(step, max(1, size))
        rng = np.random.default_rng([self.loop.seed, epoch])
        order = rng.permutation(self.pool)
        group = BUCKET * batch
        start = position * batch // group * group
        part = order[start : start + group]
        part = part[np.argsort(self.lengths[part], kind="stable")]
        count = max(1, len(part) // batch)
        chosen = rng.permutation(count)[(position * batch - start) // batch % count]
        part = part[chosen * batch : (chosen + 1) * batch]
        return part[distributed.rank() :: distributed.world_size()]

    def train_step(self, step: int) -> dict[str, float]:
        self.tower.train()
        picks = torch.from_numpy(self.picks(step))
        targets = self.targets[picks].to(self.device)
        with autocast(self.device, self.loop.bf16):
            output = self.trimmed(self.tokens[picks].to(self.device))
        found = F.normalize(output.float(), dim=-1)
        cosine = (found * targets).sum(-1).mean()
        own = torch.arange(len(picks), device=self.device)
        told, _ = contrast(
            found, targets, own, torch.tensor(1 / self.cfg.temperature), self.cfg.soft
        )
        loss = 1 - cosine + self.cfg.contrast * told
        loss.backward()
        lr = learning_rate(step, self.loop)
        grad = optimise(self.opt, self.tower, lr, self.loop.clip)
        self.ema.update(self.tower)
        return figures({"cosine": cosine, "told": told}) | {"grad": grad, "lr": lr}

    @torch.no_grad()
    def evaluate(self, step: int, out: Path) -> dict[str, float]:
        """Of the averaged weights: mean cosine of held-out texts to where they belong, and the
        share of them that lies nearest to its own place among all the held-out ones'."""
        kept = {k: v.clone() for k, v in self.tower.state_dict().items()}
        self.tower.load_state_dict(self.ema.shadow)
        self.tower.eval()
        shares = {}
        for name, (texts, vectors) in self.held_out.items():
            found = self.clip.encode_text(texts).cpu()
            # Half precision took some of their length, and by that a place is known below.
            wanted = F.normalize(torch.from_numpy(vectors), dim=-1)
            scores = found @ wanted.T
            best = scores.argmax(1)
            hits = (wanted[best] * wanted).sum(1) > 1 - 1e-4
            shares[f"{name}_cosine"] = float(scores.diagonal().mean())
            shares[f"{name}_at1"] = float(hits.float().mean())
        self.tower.load_state_dict(kept)
        log.info("step %d: %s", step, {k: round(v, 4) for k, v in shares.items()})
        return shares

    def state_dict(self) -> dict[str, Any]:
        return {
            "tower": self.tower.state_dict(),
            "opt": self.opt.state_dict(),
            "ema": self.ema.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.tower.load_state_dict(state["tower"])
        restore_optimizer(self.opt, state["opt"])
        self.ema.load_state_dict(state["ema"])


def fill_table(text: nn.Module, strings: list[str], vectors: Tensor, std: float = 0.05) -> None:
    """Start the token table from word vectors instead of noise.

    strings: what each token says, "" where it is no whole text; vectors (V, D) float32: theirs.
    The `width` main directions of the vectors are kept, scaled to `std`.
    """
    said = torch.tensor([bool(s) for s in strings])
    rows = vectors[said]
    mean = rows.mean(0)
    width = text.token_embedding.weight.shape[1]
    _, values = torch.linalg.eigh((rows - mean).T @ (rows - mean) / len(rows))
    main = values.flip(1)[:, :width]  # (D, width)
    projected = (rows - mean) @ main
    with torch.no_grad():
        text.token_embedding.weight[said, : main.shape[1]] = projected * (std / projected.std())
