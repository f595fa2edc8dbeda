"""A CLIP that knows colours: small, differentiable, and right about what it sees."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

COLOURS = {"red": (1, -1, -1), "green": (-1, 1, -1), "blue": (-1, -1, 1), "white": (1, 1, 1)}


class ColourClip:
    """Embeds a picture by its coarse colours, a text by the first colour it names."""

    name, size, embedding_size = "colours", 16, 16

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(1)
        self.weight = torch.randn(12, self.embedding_size, generator=generator)
        self.seen: list[tuple[int, ...]] = []  # shapes that were looked at

    def encode_image(self, images: Tensor) -> Tensor:
        self.seen.append(tuple(images.shape))
        small = F.adaptive_avg_pool2d(images.float(), 2).flatten(1)
        return F.normalize((torch.tanh(small) @ self.weight).float(), dim=-1)

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        rows = []
        for text in texts:
            colour = next((c for c in COLOURS if c in text.lower()), "white")
            rows.append(torch.tensor(COLOURS[colour], dtype=torch.float32))
        return self.encode_image(torch.stack(rows)[:, :, None, None].expand(-1, -1, 4, 4))
