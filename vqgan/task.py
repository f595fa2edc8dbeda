"""What one step of VQGAN training does: losses, lambda, discriminator, codebook upkeep."""

from __future__ import annotations

import logging
import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from training import distributed
from training.ema import EMA
from training.flags import option
from training.loop import LoopConfig, check_losses, learning_rate, optimise, restore_optimizer
from training.precision import autocast
from vqgan import dataset, losses, perceptual
from vqgan.discriminator import PatchDiscriminator
from vqgan.model import UNSEEN, VQGAN, VQGANConfig, reconstruct
from vqgan.usage import CodeUsage, kmeans, perplexity

log = logging.getLogger(__name__)


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


def generator(*seed: int) -> torch.Generator:
    """A torch.Generator that depends on all the numbers given."""
    mixed = hash(tuple(seed)) & 0x7FFF_FFFF_FFFF_FFFF  # int hashes do not vary between runs
    return torch.Generator().manual_seed(mixed)


class VQGANTask:
    """One generator and one discriminator step on a batch of crops (see `training.loop.Task`)."""

    def __init__(
        self,
        model_cfg: VQGANConfig,
        cfg: TrainConfig,
        loop: LoopConfig,
        pictures: list[dataset.Picture],
        device: str = "cpu",
    ):
        check_fit(model_cfg, cfg)
        self.cfg, self.loop, self.device = cfg, loop, device
        torch.manual_seed(loop.seed)
        self.model = VQGAN(model_cfg).to(device, memory_format=torch.channels_last)
        self.disc = None
        if cfg.gan_weight:
            disc = PatchDiscriminator(3, cfg.disc_ch, cfg.disc_layers, cfg.disc_norm)
            self.disc = disc.to(device, memory_format=torch.channels_last)
        self.perceptual = None
        if cfg.perceptual_weight:
            net = perceptual.training_loss(cfg.perceptual_net)
            self.perceptual = net.to(device, memory_format=torch.channels_last)
        if cfg.freeze_encoder:
            for part in (self.model.encoder, self.model.quant_conv, self.model.quantize):
                part.requires_grad_(False)
        self.ema = EMA(self.model, loop.ema)
        self.usage = CodeUsage(model_cfg.codebook_size)
        betas = (cfg.beta1, cfg.beta2)
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.opt = torch.optim.Adam(trained, lr=loop.lr, betas=betas)
        self.disc_opt = None
        if self.disc:
            group = {"params": list(self.disc.parameters()), "lr_scale": cfg.disc_lr}
            self.disc_opt = torch.optim.Adam([group], lr=loop.lr, betas=(0.5, 0.9))
        self.crops = dataset.Crops(
            pictures,
            size=model_cfg.resolution,
            crop=cfg.crop,
            photo_share=cfg.photo_share,
            seed=loop.seed,
            colour_shuffle=cfg.colour_shuffle,
        )
        self.held_out = dataset.held_out(pictures, cfg.held_out)
        if loop.sample_every:
            if not self.held_out:
                raise ValueError("the data has no held-out picture: add some, or --sample-every 0")
            self.held_out = [p for p, _ in dataset.wholes(self.held_out, model_cfg.resolution)]
        if loop.compile:
            self._compile()

    def _compile(self) -> None:
        """Compile in place: module names, and so checkpoints, stay as they are."""
        self.model.encoder.compile()
        self.model.decoder.features = torch.compile(self.model.decoder.features)
        if self.perceptual is not None and hasattr(self.perceptual, "features"):
            self.perceptual.features = torch.compile(self.perceptual.features)
        if self.disc is not None:
            self.disc.compile()

    def autocast(self) -> AbstractContextManager:
        return autocast(self.device, self.loop.bf16)

    def quantised(self, step: int) -> bool:
        return step >= self.cfg.autoencoder_steps

    def batch(self, step: int) -> Tensor:
        images = self.crops.batch(
            step, self.cfg.batch, distributed.rank(), distributed.world_size()
        )
        return images.to(self.device)

    def train_step(self, step: int) -> dict[str, float]:
        cfg, lr = self.cfg, learning_rate(step, self.loop)
        if (cfg.autoencoder_steps or cfg.new_codebook) and step == cfg.autoencoder_steps:
            self.start_codebook(step)
        images = self.batch(step)
        output, latents, vq, report = self.forward(images, step)
        grad, parts = self.output_gradient(images, output, step)
        report.update(parts)
        report["total"] = self.total(report)
        check_losses(report)
        if vq.requires_grad:
            torch.autograd.backward([output, vq], [grad, None])
        else:
            output.backward(grad)
        report["grad"] = optimise(self.opt, self.model, lr, self.loop.clip)
        if self.disc and step >= cfg.disc_start:
            report["disc"] = self.discriminator_step(images, output.detach(), lr)
        if self.quantised(step) and not cfg.freeze_encoder:
            self.restart_codes(step, latents)
        self.ema.update(self.model)
        return report | {"lr": lr}

    def forward(self, images: Tensor, step: int) -> tuple[Tensor, Tensor, Tensor, dict]:
        """Reconstruction (B, 3, H, W), latents (N, D), codebook + commitment loss, and figures."""
        model, cfg = self.model, self.cfg
        frozen = torch.no_grad() if cfg.freeze_encoder else nullcontext()
        with self.autocast():
            with frozen:
                raw = model.latents(images)
                encoding = model.quantize.encode(raw)
            rows = encoding.latents.permute(0, 2, 3, 1).flatten(0, 2)  # (N, D)
            vq, report = torch.zeros(()), {}
            quantized = encoding.latents
            if self.quantised(step):
                quantized = encoding.quantized
                codes = model.quantize.lookup(encoding.indices)
                vq = losses.vq_loss(encoding.latents, codes, cfg.beta, model.config.legacy_beta)
                report["vq"] = float(vq.detach())
                vq = cfg.codebook_weight * vq
                self.usage.update(encoding.indices)
            features = model.decoder.features(model.post_quant_conv(quantized))
        # The last layer in fp32: bf16 resolves pixels no finer than 1/256.
        output = model.decoder.conv_out(features.float())
        return output, rows, vq, report

    def output_gradient(
        self, images: Tensor, output: Tensor, step: int
    ) -> tuple[Tensor, dict[str, float]]:
        """Gradient of the whole loss at the reconstruction, and the loss figures.

        Each loss runs backward once, to `output` only; lambda takes both last-layer norms from
        those gradients, and the caller sends their weighted sum through the decoder once.
        """
        cfg = self.cfg
        x_hat = output.detach().requires_grad_()
        l1 = losses.reconstruction_loss(images, x_hat, "l1")
        l2 = losses.reconstruction_loss(images, x_hat, "l2")
        loss = cfg.l1_weight * l1 + cfg.l2_weight * l2
        report = {"l1": float(l1.detach()), "l2": float(l2.detach())}
        if self.perceptual is not None:
            with self.autocast():
                seen = max(1, round(len(images) * cfg.perceptual_share))
                distance = self.perceptual(images[:seen], x_hat[:seen]).mean()
            loss = loss + cfg.perceptual_weight * distance
            report["perceptual"] = float(distance.detach())
        (grad,) = torch.autograd.grad(loss, x_hat)
        if self.disc is None or step < cfg.gan_start:
            return grad, report
        self.disc.requires_grad_(False)
        with self.autocast():
            gan = losses.generator_loss(self.disc(x_hat).float(), cfg.gan_loss)
        (gan_grad,) = torch.autograd.grad(gan, x_hat)
        self.disc.requires_grad_(True)
        pair = losses.last_layer_gradients(output, self.model.last_layer, [grad, gan_grad])
        distributed.mean_(pair)
        lam = losses.adaptive_weight(*pair)
        report |= {"gan": float(gan.detach()), "lambda": float(lam)}
        return grad + cfg.gan_weight * lam * gan_grad, report

    def total(self, r: dict[str, float]) -> float:
        """The whole loss from its parts, for the log: gradients are put together one by one."""
        cfg = self.cfg
        rec = cfg.l1_weight * r["l1"] + cfg.l2_weight * r["l2"]
        per, vq = cfg.perceptual_weight * r.get("perceptual", 0.0), r.get("vq", 0.0)
        gan = (r.get("gan", 0.0), r.get("lambda", 0.0))
        return losses.total_loss(rec, per, cfg.codebook_weight * vq, *gan, cfg.gan_weight)

    def discriminator_step(self, images: Tensor, fakes: Tensor, lr: float) -> float:
        with self.autocast():
            real, fake = self.disc(images).float(), self.disc(fakes).float()
        loss = losses.discriminator_loss(real, fake, self.cfg.gan_loss)
        loss.backward()
        optimise(self.disc_opt, self.disc, lr, self.loop.clip)
        return float(loss.detach())

    def restart_codes(self, step: int, latents: Tensor) -> None:
        cfg = self.cfg
        if not cfg.restart_every or step % cfg.restart_every or step == cfg.autoencoder_steps:
            return
        table = self.model.quantize.embedding.weight
        seed = generator(self.loop.seed, step, 1)
        moved = self.usage.restart(table.data, latents, cfg.restart_below, seed)
        if len(moved):
            self.ema.shadow["quantize.embedding.weight"][moved] = table.data[moved]
            for moment in self.opt.state.get(table, {}).values():
                if moment.shape == table.shape:
                    moment[moved] = 0

    @torch.no_grad()
    def start_codebook(self, step: int) -> None:
        """Take the codebook by k-means from latents of the autoencoder trained so far."""
        self.model.eval()
        rows = []
        for i in range(max(8, 40 * self.model.config.codebook_size // (16 * 64))):
            with self.autocast():
                latents = self.model.quantize.encode(self.model.latents(self.batch(step + i)))[0]
            rows.append(distributed.gather(latents.permute(0, 2, 3, 1).flatten(0, 2)).cpu())
        unit = self.model.config.quantizer == "cosine"
        table = self.model.quantize.embedding.weight
        centres = kmeans(torch.cat(rows), len(table), generator(self.loop.seed, step), unit=unit)
        table.copy_(centres)
        self.ema.replace("quantize.embedding.weight", table)
        self.model.train()
        log.info("codebook taken by k-means from %d latents", sum(map(len, rows)))

    @torch.no_grad()
    def evaluate(self, step: int, out: Path) -> dict[str, float]:
        """Averaged weights on whole held-out pictures; writes originals above reconstructions."""
        size = self.model.config.resolution
        shadow = VQGAN(self.model.config).eval()
        shadow.load_state_dict(self.ema.shadow)
        shadow.to(self.device, memory_format=torch.channels_last)
        counts = torch.zeros(shadow.config.codebook_size)
        psnr, foreground, strips = [], [], []
        for picture in self.held_out:
            image = dataset.to_tensor(dataset.whole(picture, size))[None].to(self.device)
            if self.quantised(step - 1):
                rebuilt, indices = reconstruct(shadow, image)
                counts += torch.bincount(indices.flatten().cpu(), minlength=len(counts))
            else:
                z = shadow.quantize.encode(shadow.latents(image)).latents
                rebuilt = shadow.decode(z).clamp(-1, 1)
            error = (image - rebuilt).square().mean(1)[0].cpu()  # (H, W), range 0 to 4
            psnr.append(decibels(error.mean()))
            if picture.mask:
                mask = torch.from_numpy(dataset.read(picture.mask, "L").copy()) > 127
                if mask.any() and mask.shape == error.shape:
                    foreground.append(decibels(error[mask].mean()))
            if picture.shown and len(strips) < 16:
                strips.append(torch.cat([image[0], rebuilt[0]], dim=1).cpu())
        save_strip(strips, out / f"{step:07d}.png")
        figures = {"val_psnr": sum(psnr) / len(psnr)}
        if foreground:
            figures["val_fg_psnr"] = sum(foreground) / len(foreground)
        if self.quantised(step - 1):
            figures |= {"val_codes": int((counts > 0).sum()), "val_perplexity": perplexity(counts)}
        log.info("step %d: %s", step, {k: round(v, 2) for k, v in figures.items()})
        return figures

    def state_dict(self) -> dict[str, Any]:
        state = {
            "model": self.model.state_dict(),
            "opt": self.opt.state_dict(),
            "ema": self.ema.state_dict(),
            "usage": self.usage.state_dict(),
        }
        if self.disc:
            state |= {"disc": self.disc.state_dict(), "disc_opt": self.disc_opt.state_dict()}
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        restore_optimizer(self.opt, state["opt"])
        self.ema.load_state_dict(state["ema"])
        self.usage.load_state_dict(state["usage"])
        if self.disc:
            self.disc.load_state_dict(state["disc"])
            restore_optimizer(self.disc_opt, state["disc_opt"])

    def init_from(self, weights: dict[str, Tensor], config: VQGANConfig) -> None:
        """Start from a trained generator. The discriminator starts anew and warms up again.

        ValueError, with the first difference, where it is of another shape, or where its `config`
        gives the same shapes another meaning.
        """
        for name in UNSEEN:
            there, here = getattr(config, name), getattr(self.model.config, name)
            # Codes that start anew may also be told apart in another way.
            if there != here and not (name == "quantizer" and self.cfg.new_codebook):
                raise ValueError(
                    f"--init: {name} is {there} there and {here} here: leave out flags that "
                    "change the model"
                )
        own = self.model.state_dict()
        if self.cfg.new_codebook:
            # Size and dimension may differ; what belongs to them starts anew.
            sized = ("quant_conv.", "post_quant_conv.")
            weights = {k: v for k, v in weights.items() if not k.startswith("quantize.")}
            weights |= {k: v for k, v in own.items() if k.startswith("quantize.")}
            odd = [k for k in own if k.startswith(sized) and k in weights]
            weights |= {k: own[k] for k in odd if weights[k].shape != own[k].shape}
        shapes, wanted = ({k: tuple(v.shape) for k, v in s.items()} for s in (weights, own))
        odd = [k for k in {**wanted, **shapes} if shapes.get(k) != wanted.get(k)]
        if odd:
            codes = all("quant" in key.split(".")[0] for key in odd)
            raise ValueError(
                f"--init: {odd[0]} is {shapes.get(odd[0], 'missing')} there and "
                f"{wanted.get(odd[0], 'missing')} here: leave out flags that change the model"
                f"{', or add --new-codebook' if codes else ''}"
            )
        self.model.load_state_dict(weights)
        self.ema = EMA(self.model, self.loop.ema)


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


def decibels(mean_squared: Tensor) -> float:
    """PSNR in dB of a mean squared error on the [-1, 1] scale (peak 2)."""
    return float(10 * torch.log10(4 / mean_squared.clamp_min(1e-10)))


def save_strip(columns: list[Tensor], path: Path) -> None:
    """Write pictures (3, H, W) in [-1, 1] side by side as a PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    strip = torch.cat(columns, dim=2).add(1).mul(127.5).round().clamp(0, 255).byte()
    Image.fromarray(strip.permute(1, 2, 0).numpy()).save(path)
