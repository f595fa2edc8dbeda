"""Nearest codes of 65,536 latents among 16,384 codes of 256 dimensions."""

from __future__ import annotations

import torch

from bench import Row, compare
from vqgan.quantize import nearest

LATENTS, CODES, DIM = 65_536, 16_384, 256


def run(latents: int = LATENTS, codes: int = CODES, dim: int = DIM, repeats: int = 3) -> list[Row]:
    """`nearest` beside the whole distance matrix (4 GiB at the default sizes)."""
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(latents, dim, generator=generator)
    table = torch.randn(codes, dim, generator=generator)
    seconds = compare(
        lambda: nearest(z, table), lambda: torch.cdist(z, table).argmin(1), repeats=repeats
    )
    what = f"look up {latents:,} latents in {codes:,} x {dim}"
    return [Row(what, "torch.cdist over all pairs", *seconds)]
