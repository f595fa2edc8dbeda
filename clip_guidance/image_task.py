"""What one step of CLIP's image training does: pictures learn to land on their phrases' vectors.

As in LiT (Zhai et al. 2022, "LiT: Zero-Shot Transfer with Locked-image text Tuning", here with the
text side locked), the text vectors are fixed beforehand, so thousands of negatives cost nothing.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from clip_guidance import lite
from clip_guidance.augment import AugmentConfig, augment
from clip_guidance.captions import concept
from clip_guidance.model import Clip
from clip_guidance.pictures import Pictures
from training import distributed
from training.chance import Epochs, generator
from training.ema import EMA
from training.flags import option
from training.loop import LoopConfig, figures, learning_rate, optimise, restore_optimizer
from training.spread import spread

log = logging.getLogger(__name__)

SIDED = re.compile(r"\b(left|right|east|west|flag|letter|button|keycap|clock)", re.IGNORECASE)


@dataclass(frozen=True)
class ImageTrainConfig:
    """Batches and losses of CLIP's image tower."""

    batch: int = option(128, "pictures a step, over all processes")
    size: int = option(64, "side of the pictures that the tower sees, in pixels")
    frozen_stages: int = option(2, "stem and this many stages keep their ImageNet weights")
    negatives: int = option(2048, "other phrases that each picture is told from")
    soft: float = option(0.05, "temperature of the targets: phrases of like meaning share them")
    align: float = option(1.0, "weight of 1 - cosine of picture and phrase")
    trunk_lr: float = option(0.4, "learning rate of the trunk as a factor on lr")
    weight_decay: float = option(0.05, "AdamW's, on matrices only")
    painted: float = option(
        0.3, "share of pictures as the VQGAN gives them back, where there are any"
    )
    leave_out: tuple[str, ...] = option(("noto-v1",), "sets kept for testing: an unseen style")
    held_out: int = option(512, "held-out pictures evaluated at each sample")

    def __post_init__(self) -> None:
        for name in ("batch", "negatives", "held_out"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be at least 1")
        if self.size < 32:
            raise ValueError(f"size is {self.size}: it must be at least 32 pixels")
        if not 0 <= self.frozen_stages <= len(lite.STAGES):
            raise ValueError(
                f"frozen_stages is {self.frozen_stages}: it must lie in 0 to {len(lite.STAGES)}"
            )
        if not self.soft > 0:
            raise ValueError(f"soft is {self.soft}: it must be positive")
        for name in ("align", "trunk_lr", "weight_decay"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}: it must not be negative")
        if not 0 <= self.painted <= 1:
            raise ValueError(f"painted is {self.painted}: it must lie in [0, 1]")


def contrast(
    images: Tensor, texts: Tensor, own: Tensor, scale: Tensor, soft: float
) -> tuple[Tensor, Tensor]:
    """Cross-entropies of pictures among phrases, and of the phrases among the pictures.

    images (B, E), texts (N, E) of unit length, own (B,) int64: each picture's phrase. The targets
    are not one-hot but softmax(phrase . phrases / soft), since other phrases may say the same:
    "an apple" is no negative of "a red apple".
    """
    logits = scale * images @ texts.T  # (B, N)
    mine = texts[own]
    to_texts = F.cross_entropy(logits, (mine @ texts.T / soft).softmax(-1))
    to_images = F.cross_entropy(logits[:, own].T, (mine @ mine.T / soft).softmax(-1))
    return to_texts, to_images


class ImageTask:
    """One optimiser step on a batch of pictures (see `training.loop.Task`)."""

    def __init__(
        self,
        clip: Clip,
        cfg: ImageTrainConfig,
        augment_cfg: AugmentConfig,
        loop: LoopConfig,
        pictures: Pictures,
        vectors: np.ndarray,
        device: str = "cpu",
    ):
        """`vectors` (P, M, E): the embeddings of each picture's M phrases, the first its name."""
        if vectors.ndim != 3 or vectors.shape[::2] != (len(pictures), clip.embedding_size):
            raise ValueError(
                f"the phrases' vectors have shape {vectors.shape}: expected ({len(pictures)}, "
                f"phrases, {clip.embedding_size})"
            )
        world = distributed.world_size()
        if cfg.batch % world:
            raise ValueError(f"batch is {cfg.batch}: it must be a multiple of {world} processes")
        self.cfg, self.augment, self.loop, self.device = cfg, augment_cfg, loop, device
        self.clip, self.pictures = clip.to(device), pictures
        self.vectors = torch.from_numpy(vectors.astype(np.float32))
        rows = pictures.rows
        seen = [r["split"] == "train" and r.get("set") not in cfg.leave_out for r in rows]
        self.train = np.flatnonzero(seen)
        self.val = spread(np.flatnonzero([r["split"] == "val" for r in rows]), cfg.held_out)
        if not len(self.train) or not len(self.val):
            raise ValueError(
                f"the data holds {len(self.train)} training and {len(self.val)} held-out pictures: "
                "both are needed"
            )
        self.epochs = Epochs(len(self.train), cfg.batch, loop.seed)
        self.mirrors = torch.tensor([not SIDED.search(" ".join(r["captions"])) for r in rows])
        self.bank = self.vectors[self.train].flatten(0, 1)
        clip.requires_grad_(False)
        self.tower = clip.model.visual.requires_grad_(True)
        self.scale = torch.nn.Parameter(torch.tensor(30.0).log().to(device))
        self.frozen = lite.freeze_stages(self.tower.trunk, cfg.frozen_stages)
        self.ema = EMA(self.tower, loop.ema)
        self.module = torch.nn.ModuleDict({"tower": self.tower})
        self.module.register_parameter("scale", self.scale)
        self.opt = torch.optim.AdamW(self._groups(), lr=loop.lr, betas=(0.9, 0.98), fused=True)

    def _groups(self) -> list[dict[str, Any]]:
        groups: dict[tuple[float, float], list] = {}
        for name, parameter in self.module.named_parameters():
            if parameter.requires_grad:
                factor = self.cfg.trunk_lr if "trunk." in name else 1.0
                decay = self.cfg.weight_decay if parameter.ndim >= 2 else 0.0
                groups.setdefault((factor, decay), []).append(parameter)
        return [
            {"params": found, "lr_scale": factor, "weight_decay": decay}
            for (factor, decay), found in groups.items()
        ]

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """This process's augmented pictures (B, 3, size, size) and their indices (B,)."""
        picks = self.train[self.epochs.share(step)]
        rng = np.random.default_rng([self.loop.seed, step, distributed.rank()])
        own = torch.Generator().manual_seed(int(rng.integers(2**63)))
        painted = rng.random(len(picks)) < self.cfg.painted
        images, masks = self.pictures.tensors(picks, painted)
        images = augment(images, masks, self.mirrors[picks], self.cfg.size, self.augment, own)
        return images.to(self.device), torch.from_numpy(picks)

    def texts(self, step: int, picks: Tensor) -> tuple[Tensor, Tensor]:
        """(B + negatives, E): one phrase of each picture, then phrases of others; own (B,)."""
        chance = generator(self.loop.seed, step, distributed.rank(), 1)
        choice = torch.randint(self.vectors.shape[1], (len(picks),), generator=chance)
        others = torch.randint(len(self.bank), (self.cfg.negatives,), generator=chance)
        texts = torch.cat([self.vectors[picks, choice], self.bank[others]])
        return texts.to(self.device), torch.arange(len(picks), device=self.device)

    def train_step(self, step: int) -> dict[str, float]:
        self.module.train()
        for module in self.frozen:
            module.eval()
        images, picks = self.batch(step)
        texts, own = self.texts(step, picks)
        vectors = self.clip.encode_image(images)
        scale = self.scale.clamp(max=np.log(100)).exp()
        to_texts, to_images = contrast(vectors, texts, own, scale, self.cfg.soft)
        cosine = (vectors * texts[own]).sum(-1).mean()
        loss = (to_texts + to_images) / 2 + self.cfg.align * (1 - cosine)
        loss.backward()
        lr = learning_rate(step, self.loop)
        grad = optimise(self.opt, self.module, lr, self.loop.clip)
        self.ema.update(self.tower)
        report = {"to_texts": to_texts, "to_images": to_images, "cosine": cosine, "scale": scale}
        return figures(report) | {"grad": grad, "lr": lr}

    @torch.no_grad()
    def evaluate(self, step: int, out: Path) -> dict[str, float]:
        """Recall of held-out pictures by their names' vectors, of the averaged weights."""
        kept = {k: v.clone() for k, v in self.tower.state_dict().items()}
        self.tower.load_state_dict(self.ema.shadow)
        self.clip.eval()
        found = [
            self.clip.encode_image(self.pictures.tensors(part)[0].to(self.device)).cpu()
            for part in np.array_split(self.val, max(1, len(self.val) // 64))
        ]
        self.tower.load_state_dict(kept)
        concepts = [concept(self.pictures.rows[i]) for i in self.val]
        shares = recalls(torch.cat(found), self.vectors[self.val, 0], concepts)
        log.info("step %d: %s", step, {k: round(v, 4) for k, v in shares.items()})
        return shares

    def state_dict(self) -> dict[str, Any]:
        return {
            "tower": self.module.state_dict(),
            "opt": self.opt.state_dict(),
            "ema": self.ema.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.module.load_state_dict(state["tower"])
        restore_optimizer(self.opt, state["opt"])
        self.ema.load_state_dict(state["ema"])


def recalls(
    images: Tensor,
    texts: Tensor,
    concepts: Sequence[str],
    at: Sequence[int] = (1, 5, 10),
    names: Sequence[str] | None = None,
) -> dict[str, float]:
    """Recall at k both ways, a hit being any of the same concept.

    images (N, E) and texts (N, E), row by row; a text that comes twice is one candidate: the same
    of `names`, or of the vectors where these are not given.
    """
    kinds = sorted(set(concepts))
    label = torch.tensor([kinds.index(c) for c in concepts])
    keys = [text.numpy().tobytes() for text in texts] if names is None else names
    first = [keys.index(key) for key in dict.fromkeys(keys)]
    asked, asked_label = texts[first], label[first]
    scores = images @ asked.T  # (N, T)
    figures = {}
    for way, order, wanted, got in (
        ("find", scores.T, asked_label, label),
        ("name", scores, label, asked_label),
    ):
        ranks = got[order.argsort(dim=-1, descending=True, stable=True)] == wanted[:, None]
        for k in at:
            figures[f"{way}@{k}"] = float(ranks[:, :k].any(-1).float().mean())
    return figures
