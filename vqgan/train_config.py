"""What can be chosen about a VQGAN's training, and what does not go together."""

from __future__ import annotations

import math
from dataclasses import dataclass

from training import distributed
from training.flags import option
from vqgan import losses, perceptual
from vqgan.model import VQGANConfig

NOT_NEGATIVE = (
    *("l1_weight", "l2_weight", "perceptual_weight", "codebook_weight", "beta", "gan_weight"),
    *("disc_start", "gan_start", "disc_lr", "autoencoder_steps", "restart_every"),
)


@dataclass(frozen=True)
class TrainConfig:
    """Losses, batches and schedules of VQGAN training."""

    batch: int = option(16, "pictures a step, over all processes")
    crop: int = option(64, "side of the training crops in pixels")
    photo_share: float = option(0.25, "share of photograph crops in a batch")
    colour_shuffle: float = option(0.0, "share of crops with permuted colour channels")
    beta1: float = option(0.9, "Adam's first-moment decay (the paper: 0.5)")
    beta2: float = option(0.99, "Adam's second-moment decay (the paper: 0.9)")
    l1_weight: float = option(4.0, "weight of mean |x - x_hat|")
    l2_weight: float = option(4.0, "weight of mean (x - x_hat)^2, the article's form")
    perceptual_weight: float = option(0.15, "weight of the perceptual loss; 0 switches it off")
    perceptual_net: str = option("auto", "auto, lpips, vgg or alex")
    perceptual_share: float = option(
        1.0, "share of the batch that the perceptual loss looks at: half costs half, same mean"
    )
    codebook_weight: float = option(1.0, "weight of codebook + beta * commitment loss")
    beta: float = option(0.25, "weight of the commitment loss within it")
    gan_weight: float = option(0.0, "factor on lambda * GAN loss; 0: no discriminator")
    gan_loss: str = option("hinge", "hinge, or the article's log")
    disc_start: int = option(0, "step from which the discriminator trains")
    gan_start: int = option(500, "step from which its loss reaches the generator")
    disc_lr: float = option(1.0, "discriminator learning rate as a factor on lr")
    disc_ch: int = option(64, "channels of the discriminator's first layer")
    disc_layers: int = option(3, "its strided layers: 3 see patches of 70 px, 2 of 34 px")
    disc_norm: str = option("batch", "batch (the paper) or group")
    autoencoder_steps: int = option(0, "train unquantised until here, then k-means the codebook")
    new_codebook: bool = option(False, "with --init: a new codebook, of any size, by k-means")
    restart_every: int = option(50, "steps between restarts of dead codes; 0: never")
    restart_below: float = option(0.03, "a code is dead below this share of even use")
    freeze_encoder: bool = option(False, "train the decoder only: tokens stay valid")
    held_out: int = option(64, "held-out pictures evaluated at each sample")

    def __post_init__(self) -> None:
        for name in ("batch", "crop", "disc_ch", "disc_layers", "held_out"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be at least 1")
        for name in NOT_NEGATIVE:
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be a number >= 0")
        for name in ("photo_share", "colour_shuffle", "perceptual_share", "restart_below"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it must lie in [0, 1]")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it must lie in [0, 1)")
        if self.freeze_encoder and (self.autoencoder_steps or self.new_codebook):
            other = "new_codebook" if self.new_codebook else "autoencoder_steps"
            raise ValueError(
                f"freeze_encoder keeps the codebook and {other} replaces it: choose one of them"
            )
        if self.gan_loss not in losses.GAN_LOSSES:
            raise ValueError(f"gan_loss is {self.gan_loss!r}: choose hinge or log")
        if self.gan_start < self.disc_start:
            raise ValueError(
                f"gan_start is {self.gan_start}: the discriminator must train first, from "
                f"disc_start ({self.disc_start})"
            )


def check_fit(model: VQGANConfig, cfg: TrainConfig) -> None:
    """ValueError unless this model can be trained in this way, on so many processes."""
    world, crop = distributed.world_size(), cfg.crop
    if model.quantizer == "gumbel":
        raise ValueError(
            "quantizer is 'gumbel': it is for published checkpoints, and cannot be trained here: "
            "choose euclidean or cosine"
        )
    for name in ("in_channels", "out_ch"):
        if getattr(model, name) != 3:
            raise ValueError(f"{name} is {getattr(model, name)}: it must be 3, pictures are RGB")
    if cfg.batch % world:
        raise ValueError(f"batch is {cfg.batch}: it must be a multiple of {world} processes")
    if crop % model.downsampling:
        raise ValueError(
            f"crop is {crop}: it must be a multiple of the downsampling factor {model.downsampling}"
        )
    if crop > model.resolution:
        raise ValueError(
            f"crop is {crop}: it must not be larger than whole pictures (resolution, "
            f"{model.resolution})"
        )
    least = 2 ** (cfg.disc_layers + 2)
    if cfg.gan_weight and crop < least:
        raise ValueError(
            f"crop is {crop}: a discriminator of {cfg.disc_layers} layers needs at least {least}"
        )
    least = perceptual.MINIMUM_SIDE
    if cfg.perceptual_weight and crop < least:
        raise ValueError(f"crop is {crop}: the perceptual loss needs at least {least}")
