"""Several grids of codes, ranked by how well CLIP finds that they show the prompt."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from clip_guidance.guide import decode, look
from clip_guidance.model import Clip
from clip_guidance.prompts import Targets
from vqgan.model import VQGAN

BATCH = 8  # pictures decoded and looked at together


@dataclass(frozen=True)
class Ranking:
    """Candidates in the order they were drawn, and how they fared."""

    grids: Tensor  # (N, h, w) int64
    images: Tensor  # (N, 3, H, W) float32 in [-1, 1]
    scores: Tensor  # (N,) float32: weighted cosine of the whole picture with the prompts

    @property
    def best(self) -> int:
        return int(self.scores.argmax())

    @property
    def order(self) -> list[int]:
        """Places of the candidates, best first."""
        return self.scores.argsort(descending=True, stable=True).tolist()


@torch.no_grad()
def rank(vqgan: VQGAN, clip: Clip, grids: Tensor, wanted: Targets) -> Ranking:
    """Decode grids (N, h, w) int64 and score each as a whole."""
    if grids.ndim != 3 or not len(grids):
        raise ValueError(f"the grids have shape {tuple(grids.shape)}: expected (N, h, w), N >= 1")
    device = next(vqgan.parameters()).device
    images, scores = [], []
    for part in grids.to(device).split(BATCH):
        pictures = decode(vqgan, vqgan.quantize.lookup(part)).clamp(-1, 1)
        images.append(pictures)
        scores.append(wanted.similarity(look(clip, pictures)))
    return Ranking(grids, torch.cat(images), torch.cat(scores))
