"""Vector quantisation: latents -> nearest codebook vectors, with gradients that pass through.

Three quantisers share one small protocol (see `Quantizer`): Euclidean (VQ-VAE, arXiv:1711.00937),
cosine (ViT-VQGAN, arXiv:2110.04627: latents and codes on the unit sphere) and Gumbel (the argmax
of a projection, for published dVAE-style checkpoints; inference only).
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Encoding(NamedTuple):
    """What an encoder and its codebook say about a batch of images."""

    latents: Tensor  # (B, D, h, w) float32, z-hat; on the unit sphere for the cosine quantiser
    quantized: Tensor  # (B, D, h, w) float32, z_q; its gradient is copied to `latents`
    indices: Tensor  # (B, h, w) int64 in [0, K)


class Quantizer(Protocol):
    """What the rest of the project asks of a codebook."""

    codebook_size: int

    def encode(self, latents: Tensor) -> Encoding: ...

    def lookup(self, indices: Tensor) -> Tensor: ...

    def project(self, latents: Tensor) -> Tensor: ...

    def relaxed(self, latents: Tensor) -> Tensor: ...

    def codebook(self) -> Tensor: ...


def nearest(latents: Tensor, codebook: Tensor, *, chunk: int = 4096) -> Tensor:
    """Index of the nearest codebook vector in squared Euclidean distance (VQGAN eq. 2).

    latents (N, D) and codebook (K, D) float32 -> (N,) int64. Works through `chunk` latents at a
    time, so that memory is chunk x K and never N x K. |z|^2 is the same for every code and left
    out: argmin |e|^2 - 2 z.e.
    """
    squares = codebook.square().sum(1)
    parts = [
        torch.addmm(squares, part, codebook.t(), alpha=-2).argmin(1)
        for part in latents.split(chunk)
    ]
    return torch.cat(parts)


def straight_through(latents: Tensor, quantized: Tensor) -> Tensor:
    """The article's eq. (1): z_q = z + sg(z_q - z).

    Forward value: z_q. Backward: the loss gradient, evaluated at z_q, is copied to z unchanged.
    Same shape and dtype in and out.
    """
    return latents + (quantized - latents).detach()


def rotate(latents: Tensor, quantized: Tensor) -> Tensor:
    """The rotation trick (arXiv:2410.06424 eq. 4): z_q as a rotated and scaled z.

    Forward value z_q (up to rounding); backward: the gradient is rotated from z_q's direction back
    to z's, rather than copied. Vectors lie along the last dimension: (..., D) -> (..., D).
    """
    z_norm = latents.norm(dim=-1, keepdim=True).clamp_min(1e-6)
    q_norm = quantized.norm(dim=-1, keepdim=True).clamp_min(1e-6)
    z_hat, q_hat = (latents / z_norm).detach(), (quantized / q_norm).detach()
    half = F.normalize(z_hat + q_hat, dim=-1, eps=1e-6)
    scale = (q_norm / z_norm).detach()
    reflected = latents - 2 * (latents * half).sum(-1, keepdim=True) * half
    return scale * (reflected + 2 * (latents * z_hat).sum(-1, keepdim=True) * q_hat)


GRADIENTS = {"straight_through": straight_through, "rotation": rotate}


class EuclideanQuantizer(nn.Module):
    """Nearest neighbour in a table of K vectors of size D (taming's `quantize.embedding`)."""

    def __init__(self, codebook_size: int, dim: int, gradient: str = "straight_through"):
        super().__init__()
        if gradient not in GRADIENTS:
            raise ValueError(f"gradient is {gradient!r}: choose one of {', '.join(GRADIENTS)}")
        self.codebook_size = codebook_size
        self.gradient = gradient
        self.embedding = nn.Embedding(codebook_size, dim)
        nn.init.uniform_(self.embedding.weight, -1 / codebook_size, 1 / codebook_size)

    def codebook(self) -> Tensor:
        """(K, D) float32, the vectors that `encode` compares latents with."""
        return self.embedding.weight.float()

    def normalize(self, latents: Tensor) -> Tensor:
        """(..., D) latents as they are compared with the codebook; here unchanged."""
        return latents

    def encode(self, latents: Tensor) -> Encoding:
        """(B, D, h, w) latents -> their nearest codes, always in float32 (autocast is off here)."""
        with torch.autocast(latents.device.type, enabled=False):
            b, _, h, w = latents.shape
            rows = self.normalize(latents.float().permute(0, 2, 3, 1))  # (B, h, w, D)
            flat = rows.reshape(b * h * w, -1)
            indices = nearest(flat.detach(), self.codebook().detach())
            codes = self.codebook().detach()[indices].view_as(rows)
            quantized = GRADIENTS[self.gradient](rows, codes) if rows.requires_grad else codes
            return Encoding(
                rows.permute(0, 3, 1, 2), quantized.permute(0, 3, 1, 2), indices.view(b, h, w)
            )

    def lookup(self, indices: Tensor) -> Tensor:
        """(B, h, w) int64 -> (B, D, h, w) float32, with gradient to the codebook."""
        return F.embedding(indices, self.codebook()).permute(0, 3, 1, 2)

    def project(self, latents: Tensor) -> Tensor:
        """(B, D, h, w) -> the same, moved to where codes live: the codebook's bounding box."""
        codes = self.codebook().detach()
        low, high = codes.amin(0).view(1, -1, 1, 1), codes.amax(0).view(1, -1, 1, 1)
        return latents.clamp(low, high)

    def relaxed(self, latents: Tensor) -> Tensor:
        """(B, D, h, w) latents -> what a decoder draws them from without codebook: themselves."""
        return latents


class CosineQuantizer(EuclideanQuantizer):
    """Latents and codes on the unit sphere: nearest in Euclidean distance = highest cosine."""

    def __init__(self, codebook_size: int, dim: int, gradient: str = "straight_through"):
        super().__init__(codebook_size, dim, gradient)
        nn.init.normal_(self.embedding.weight)

    def codebook(self) -> Tensor:
        """(K, D) float32 of unit length."""
        return F.normalize(self.embedding.weight.float(), dim=1)

    def normalize(self, latents: Tensor) -> Tensor:
        """(..., D) -> unit length along the last dimension."""
        return F.normalize(latents, dim=-1)

    def project(self, latents: Tensor) -> Tensor:
        """(B, D, h, w) -> the same, of unit length along D."""
        return F.normalize(latents, dim=1)


class GumbelQuantizer(nn.Module):
    """The argmax of a 1x1 projection: the likeliest code of taming's Gumbel models.

    `proj` (K, D, 1, 1) scores the codes, `embed` (K, D) holds them, so latents and codes live in
    different spaces. Taming's own code draws the code by Gumbel noise even at inference; here the
    same picture always gets the same codes. Training one (the relaxed softmax) is not offered:
    published checkpoints are what this is for.
    """

    def __init__(self, codebook_size: int, dim: int, gradient: str = "straight_through"):
        super().__init__()
        self.codebook_size = codebook_size
        self.proj = nn.Conv2d(dim, codebook_size, 1)
        self.embed = nn.Embedding(codebook_size, dim)

    def codebook(self) -> Tensor:
        """(K, D) float32."""
        return self.embed.weight.float()

    def encode(self, latents: Tensor) -> Encoding:
        """(B, D, h, w) -> the codes with the highest projected score."""
        with torch.autocast(latents.device.type, enabled=False):
            latents = latents.float()
            indices = self.proj(latents).argmax(1)
            codes = self.lookup(indices).detach()
            return Encoding(latents, straight_through(latents, codes), indices)

    lookup = EuclideanQuantizer.lookup

    def project(self, latents: Tensor) -> Tensor:
        """(B, D, h, w) -> the same: any latents have scores."""
        return latents

    def relaxed(self, latents: Tensor) -> Tensor:
        """(B, D, h, w) -> the codes' mean by softmax of the scores (arXiv:1611.01144, without noise
        at temperature 1): what the decoder knows are mixtures of codes, not latents."""
        with torch.autocast(latents.device.type, enabled=False):
            weights = self.proj(latents.float()).softmax(1)
            return torch.einsum("bkhw,kd->bdhw", weights, self.codebook())


QUANTIZERS = {
    "euclidean": EuclideanQuantizer,
    "cosine": CosineQuantizer,
    "gumbel": GumbelQuantizer,
}
