"""VQGAN training steps: lambda the cheap way beside the formula, ours beside the paper's.

The paper's step as its authors run it: float32, the network run forward once for the generator and
once more for the discriminator, and two backward passes for lambda before the one that counts.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import torch
from torch import Tensor

from bench import Row, compare
from training.loop import LoopConfig
from training.precision import autocast
from vqgan import dataset, losses, perceptual
from vqgan.discriminator import PatchDiscriminator
from vqgan.model import PRESETS, VQGAN
from vqgan.task import VQGANTask
from vqgan.train_config import TrainConfig

BATCH, CROP = 8, 64
PICTURES = Path(__file__).parents[1] / "tests" / "fixtures"
STEP = 1  # the step that is repeated: no k-means, no restart of dead codes in it


def run(batch: int = BATCH, crop: int = CROP, net: str = "vgg", repeats: int = 5) -> list[Row]:
    """The gradients' row and the whole step's."""
    return [gradients(batch, crop, net, repeats), whole_step(batch, crop, net, repeats)]


def gradients(batch: int, crop: int, net: str, repeats: int) -> Row:
    """Both give the same gradients (tests/vqgan/test_task.py shows it); not compiled."""
    torch.manual_seed(0)
    last = torch.channels_last
    model = VQGAN(PRESETS["small"]).to(memory_format=last)
    disc = PatchDiscriminator().to(memory_format=last).requires_grad_(False)
    metric = perceptual.training_loss(net).to(memory_format=last)
    images = (torch.rand(batch, 3, crop, crop) * 2 - 1).contiguous(memory_format=last)

    def rec(x_hat: Tensor) -> Tensor:
        return losses.reconstruction_loss(images, x_hat) + metric(images, x_hat).mean()

    def gan(x_hat: Tensor) -> Tensor:
        return losses.generator_loss(disc(x_hat).float())

    def cheap() -> None:
        model.zero_grad()
        with autocast("cpu"):
            features = model.decoder.features(model.post_quant_conv(model.encode(images).quantized))
        output = model.decoder.conv_out(features.float())
        x_hat = output.detach().requires_grad_()
        with autocast("cpu"):
            grads = [torch.autograd.grad(loss(x_hat), x_hat)[0] for loss in (rec, gan)]
        pair = losses.last_layer_gradients(output, model.last_layer, grads)
        output.backward(grads[0] + losses.adaptive_weight(*pair) * grads[1])

    def as_written() -> None:
        model.zero_grad()
        with autocast("cpu"):
            output, _ = model(images)
            parts = rec(output), gan(output)
        pair = [torch.autograd.grad(p, model.last_layer, retain_graph=True)[0] for p in parts]
        (parts[0] + losses.adaptive_weight(*pair) * parts[1]).backward()

    seconds = compare(cheap, as_written, repeats=repeats)
    what = f"gradients of {batch} crops of {crop} px, VGG and lambda included"
    return Row(what, "two more backward passes for lambda", *seconds)


def whole_step(batch: int, crop: int, net: str, repeats: int) -> Row:
    """`VQGANTask.train_step` (reading its crops, EMA and clipping included) beside the paper's."""
    cfg = TrainConfig(
        batch=batch,
        crop=crop,
        l1_weight=1.0,
        l2_weight=0.0,
        perceptual_weight=1.0,
        perceptual_net=net,
        gan_weight=1.0,
        gan_start=0,
        disc_layers=3 if crop >= 64 else 2,
        held_out=1,
    )
    task = VQGANTask(PRESETS["small"], cfg, LoopConfig(warmup=0), dataset.scan(PICTURES))
    theirs = AsWritten(task, task.batch(STEP))
    seconds = compare(lambda: task.train_step(STEP), theirs.train_step, repeats=repeats)
    return Row(
        f"a whole training step on {batch} crops of {crop} px", "the paper's, fp32", *seconds
    )


class AsWritten:
    """The paper's step on the same weights, losses and crops: generator, then discriminator."""

    def __init__(self, task: VQGANTask, images: Tensor):
        self.images, self.cfg = images.contiguous(), task.cfg
        parts = (task.model, task.disc, task.perceptual)
        copies = [deepcopy(part).to(memory_format=torch.contiguous_format) for part in parts]
        self.model, self.disc, self.metric = copies
        self.opt = torch.optim.Adam(self.model.parameters(), lr=4e-4, betas=(0.5, 0.9))
        self.disc_opt = torch.optim.Adam(self.disc.parameters(), lr=4e-4, betas=(0.5, 0.9))

    def train_step(self) -> None:
        """Loss of the paper's equations 4 to 7, both optimisers once."""
        images, model = self.images, self.model
        output, encoding = model(images)
        rec = losses.reconstruction_loss(images, output) + self.metric(images, output).mean()
        gan = losses.generator_loss(self.disc(output))
        pair = [torch.autograd.grad(p, model.last_layer, retain_graph=True)[0] for p in (rec, gan)]
        codes = model.quantize.lookup(encoding.indices)
        vq = losses.vq_loss(encoding.latents, codes, self.cfg.beta)
        self.opt.zero_grad()
        (rec + losses.adaptive_weight(*pair) * gan + vq).backward()
        self.opt.step()
        output, _ = model(images)
        self.disc_opt.zero_grad()
        real, fake = self.disc(images), self.disc(output.detach())
        losses.discriminator_loss(real, fake).backward()
        self.disc_opt.step()
