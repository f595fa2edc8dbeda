"""Nearest codes of 65,536 latents among 16,384 codes of 256 dimensions."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor

from bench import Row, compare
from training.memory import free_memory
from vqgan.quantize import nearest

log = logging.getLogger(__name__)

LATENTS, CODES, DIM = 65_536, 16_384, 256
MATRICES = 7  # of all distances, for which the package needs room: killed here as it held 5.8


def package(table: Tensor) -> Callable[[Tensor], Tensor] | None:
    """vector-quantize-pytorch with this codebook: latents -> their nearest codes; None without it.

    Its forward pass in eval mode, Euclidean, as its users call it.
    """
    try:
        from vector_quantize_pytorch import VectorQuantize
    except ImportError:
        log.warning("not beside vector-quantize-pytorch: pip install vector-quantize-pytorch")
        return None
    quantizer = VectorQuantize(table.shape[1], len(table), rotation_trick=False).eval()
    quantizer._codebook.embed.data.copy_(table[None])
    return lambda z: quantizer(z[None])[0][0]


@torch.inference_mode()
def run(latents: int = LATENTS, codes: int = CODES, dim: int = DIM, repeats: int = 3) -> list[Row]:
    """`nearest` beside the whole distance matrix (4 GiB at the default sizes) and the package."""
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(latents, dim, generator=generator)
    table = torch.randn(codes, dim, generator=generator)
    seconds = compare(
        lambda: nearest(z, table), lambda: torch.cdist(z, table).argmin(1), repeats=repeats
    )
    what = f"look up {latents:,} latents in {codes:,} x {dim}"
    rows = [Row(what, "torch.cdist over all pairs", *seconds)]
    theirs, need = package(table), MATRICES * latents * codes * 4
    free = free_memory(z.device)
    if theirs is not None and free is not None and need > free:
        log.warning("not beside vector-quantize-pytorch: it needs %.0f GiB", need / 2**30)
    elif theirs is not None:
        seconds = compare(lambda: table[nearest(z, table)], lambda: theirs(z), repeats=repeats)
        rows.append(Row(f"{what}, and fetch them", "vector-quantize-pytorch", *seconds))
    return rows
