"""Every formula of the article and the paper, one named function each.

Symbols: x an image, x_hat its reconstruction, z the encoder's output, z_q the nearest codebook
vector of each z, sg() stop-gradient, D the discriminator, G_L the decoder's last layer.
Means are taken over all elements (the paper's code does so; the article writes norms). The
straight-through estimator stands beside the codebook, in `quantize.straight_through`; the
perceptual loss beside its network, in `perceptual.PerceptualLoss`.
"""

from __future__ import annotations

from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

GAN_LOSSES = ("hinge", "log")


def reconstruction_loss(x: Tensor, x_hat: Tensor, kind: str = "l1") -> Tensor:
    """L_rec: mean |x - x_hat| ("l1", the paper's code) or mean (x - x_hat)^2 ("l2", the article).

    Two tensors of one shape, values in [-1, 1] -> scalar.
    """
    if kind == "l1":
        return (x - x_hat).abs().mean()
    if kind == "l2":
        return (x - x_hat).square().mean()
    raise ValueError(f"kind is {kind!r}: choose l1 or l2")


def codebook_loss(z: Tensor, z_q: Tensor) -> Tensor:
    """||sg(E(x)) - z_q||^2: pulls the chosen codebook vectors towards the encoder's outputs."""
    return (z.detach() - z_q).square().mean()


def commitment_loss(z: Tensor, z_q: Tensor) -> Tensor:
    """||E(x) - sg(z_q)||^2: keeps the encoder near the codes it chose.

    Its weight is beta (`vq_loss`); the article calls beta a learning rate, but it is a loss weight.
    """
    return (z - z_q.detach()).square().mean()


def vq_loss(z: Tensor, z_q: Tensor, beta: float = 0.25, legacy_beta: bool = False) -> Tensor:
    """L_code = codebook_loss + beta * commitment_loss (article 5.2; VQ-VAE eq. 3).

    `legacy_beta` puts beta on the codebook term, as the paper's code did by mistake, only to
    continue checkpoints trained that way.
    """
    if legacy_beta:
        return beta * codebook_loss(z, z_q) + commitment_loss(z, z_q)
    return codebook_loss(z, z_q) + beta * commitment_loss(z, z_q)


def generator_loss(fake_logits: Tensor, kind: str = "hinge") -> Tensor:
    """What G minimises: -mean D(x_hat) ("hinge"), or the article's mean log(1 - D(x_hat)) ("log").

    Logits of any shape -> scalar. The log form saturates where D is sure, which lambda's division
    by the gradient's size then makes up for.
    """
    if kind == "hinge":
        return -fake_logits.mean()
    if kind == "log":
        return -F.softplus(fake_logits).mean()  # log(1 - sigmoid(l)) = -softplus(l)
    raise ValueError(f"kind is {kind!r}: choose {' or '.join(GAN_LOSSES)}")


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor, kind: str = "hinge") -> Tensor:
    """What D minimises.

    "hinge": (mean max(0, 1 - D(x)) + mean max(0, 1 + D(x_hat))) / 2.
    "log": -(mean log D(x) + mean log(1 - D(x_hat))) / 2, the article's L_GAN with its sign turned,
    since D maximises it. The half is the paper's code's; Adam's steps hardly depend on it.
    """
    if kind == "hinge":
        return 0.5 * (F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean())
    if kind == "log":
        return 0.5 * (F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean())
    raise ValueError(f"kind is {kind!r}: choose {' or '.join(GAN_LOSSES)}")


def adaptive_weight(
    rec_grad: Tensor, gan_grad: Tensor, delta: float = 1e-6, maximum: float = 1e4
) -> Tensor:
    """lambda = |grad_GL[L_rec]| / (|grad_GL[L_GAN]| + delta), clamped and detached (paper eq. 7).

    `rec_grad` and `gan_grad` are gradients with respect to the decoder's last layer of
    reconstruction + perceptual loss and of the generator's GAN loss. Norms are taken in float32.
    """
    weight = rec_grad.float().norm() / (gan_grad.float().norm() + delta)
    return weight.clamp(0, maximum).detach()


Scalar = TypeVar("Scalar", Tensor, float)


def total_loss(
    rec: Scalar, perceptual: Scalar, vq: Scalar, gan: Scalar, lam: Scalar, gan_weight: float = 1.0
) -> Scalar:
    """L = L_rec + L_per + L_code + weight * lambda * L_GAN (article 6.2; paper eq. 6).

    `rec` and `perceptual` come already weighted. `gan_weight` is 0 while D warms up.
    """
    return rec + perceptual + vq + gan_weight * lam * gan


def last_layer_gradients(output: Tensor, weight: Tensor, grads: list[Tensor]) -> list[Tensor]:
    """Gradients at the last layer's weight, given gradients at its output.

    The chain rule at G_L only: `output` = conv(features, weight) is linear, so neither the decoder
    nor the perceptual network runs backward again. The paper's code runs both twice.
    """
    return [
        torch.autograd.grad(output, weight, grad_outputs=g, retain_graph=True)[0] for g in grads
    ]
