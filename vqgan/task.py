"""What one step of VQGAN training does: losses, lambda, discriminator, codebook upkeep."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from training import distributed
from training.chance import generator
from training.ema import EMA
from training.loop import (
    LoopConfig,
    check_losses,
    figures,
    learning_rate,
    optimise,
    restore_optimizer,
)
from training.precision import autocast
from vqgan import dataset, losses, metrics, perceptual
from vqgan.discriminator import PatchDiscriminator
from vqgan.model import UNSEEN, VQGAN, VQGANConfig, reconstruct
from vqgan.quantize import Encoding
from vqgan.train_config import TrainConfig, check_fit
from vqgan.usage import CodeUsage, kmeans, perplexity

log = logging.getLogger(__name__)
LATENTS_A_CODE = 40  # that k-means sees where it makes a codebook


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
        self.was_quantised = False
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
        quantised = self.quantised(step)
        if quantised and not self.was_quantised and (cfg.autoencoder_steps or cfg.new_codebook):
            self.start_codebook(step)  # later than asked for where --resume asks for an earlier one
        self.was_quantised = quantised
        images = self.batch(step)
        output, encoding, vq, parts = self.forward(images, step)
        grad, more = self.output_gradient(images, output, step)
        report = figures(parts | more)
        report["total"] = self.total(report)
        check_losses(report)
        if vq.requires_grad:
            torch.autograd.backward([output, vq], [grad, None])
        else:
            output.backward(grad)
        report["grad"] = optimise(self.opt, self.model, lr, self.loop.clip)
        if self.disc and step >= cfg.disc_start:
            report["disc"] = self.discriminator_step(images, output.detach(), lr)
        if quantised:
            self.usage.update(encoding.indices)
            if not cfg.freeze_encoder:
                self.restart_codes(step, encoding.latents)
        self.ema.update(self.model)
        return report | {"lr": lr}

    def forward(
        self, images: Tensor, step: int
    ) -> tuple[Tensor, Encoding, Tensor, dict[str, Tensor]]:
        """Reconstruction (B, 3, H, W), encoding, codebook + commitment loss, and figures."""
        model, cfg = self.model, self.cfg
        frozen = torch.no_grad() if cfg.freeze_encoder else nullcontext()
        with self.autocast():
            with frozen:
                raw = model.latents(images)
                encoding = model.quantize.encode(raw)
            vq, report = torch.zeros(()), {}
            quantized = encoding.latents
            if self.quantised(step):
                quantized = encoding.quantized
                codes = model.quantize.lookup(encoding.indices)
                vq = losses.vq_loss(encoding.latents, codes, cfg.beta, model.config.legacy_beta)
                report["vq"] = vq.detach()
                vq = cfg.codebook_weight * vq
            features = model.decoder.features(model.post_quant_conv(quantized))
        # The last layer in fp32: bf16 resolves pixels no finer than 1/256.
        output = model.decoder.conv_out(features.float())
        return output, encoding, vq, report

    def output_gradient(
        self, images: Tensor, output: Tensor, step: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Gradient of the whole loss at the reconstruction, and the loss figures.

        Each loss runs backward once, to `output` only; lambda takes both last-layer norms from
        those gradients, and the caller sends their weighted sum through the decoder once.
        """
        cfg = self.cfg
        x_hat = output.detach().requires_grad_()
        l1 = losses.reconstruction_loss(images, x_hat, "l1")
        l2 = losses.reconstruction_loss(images, x_hat, "l2")
        loss = cfg.l1_weight * l1 + cfg.l2_weight * l2
        report = {"l1": l1.detach(), "l2": l2.detach()}
        if self.perceptual is not None:
            with self.autocast():
                seen = max(1, round(len(images) * cfg.perceptual_share))
                distance = self.perceptual(images[:seen], x_hat[:seen]).mean()
            loss = loss + cfg.perceptual_weight * distance
            report["perceptual"] = distance.detach()
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
        report |= {"gan": gan.detach(), "lambda": lam}
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
        """Move dead codes to latents (B, D, h, w) of the batch, every so many steps."""
        cfg = self.cfg
        if not cfg.restart_every or step % cfg.restart_every or step == cfg.autoencoder_steps:
            return
        table = self.model.quantize.embedding.weight
        seed = generator(self.loop.seed, step, 1)
        rows = latents.permute(0, 2, 3, 1).flatten(0, 2)  # (N, D)
        moved = self.usage.restart(table.data, rows, cfg.restart_below, seed)
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
        config = self.model.config
        a_batch = self.cfg.batch * (self.cfg.crop // config.downsampling) ** 2
        for i in range(max(8, -(-LATENTS_A_CODE * config.codebook_size // a_batch))):
            with self.autocast():
                latents = self.model.quantize.encode(self.model.latents(self.batch(step + i)))[0]
            rows.append(distributed.gather(latents.permute(0, 2, 3, 1).flatten(0, 2)).cpu())
        unit = config.quantizer == "cosine"
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
        for picture, pixels in dataset.wholes(self.held_out, size):
            image = dataset.to_tensor(pixels)[None].to(self.device)
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
        found = {"val_psnr": sum(psnr) / len(psnr)}
        if foreground:
            found["val_fg_psnr"] = sum(foreground) / len(foreground)
        if self.quantised(step - 1):
            found |= {"val_codes": int((counts > 0).sum()), "val_perplexity": perplexity(counts)}
        log.info("step %d: %s", step, {k: round(v, 2) for k, v in found.items()})
        return found

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
        self.was_quantised = self.usage.counted
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


def decibels(mean_squared: Tensor) -> float:
    """PSNR in dB of a mean squared error of pictures in [-1, 1]; of none at all 106."""
    return float(metrics.decibels(mean_squared.clamp_min(1e-10)))


def save_strip(columns: list[Tensor], path: Path) -> None:
    """Write pictures (3, H, W) in [-1, 1] side by side as a PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    strip = torch.cat(columns, dim=2).add(1).mul(127.5).round().clamp(0, 255).byte()
    Image.fromarray(strip.permute(1, 2, 0).numpy()).save(path)
