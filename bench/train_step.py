"""Gradients of one VQGAN training step: lambda the cheap way beside the formula as it stands."""

from __future__ import annotations

import torch
from torch import Tensor

from bench import Row, compare
from vqgan import losses, perceptual
from vqgan.discriminator import PatchDiscriminator
from vqgan.model import PRESETS, VQGAN

BATCH, CROP = 8, 64


def run(batch: int = BATCH, crop: int = CROP, net: str = "vgg", repeats: int = 5) -> list[Row]:
    """Both give the same gradients (tests/vqgan/test_task.py shows it); bf16, not compiled."""
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
        with torch.autocast("cpu", torch.bfloat16):
            features = model.decoder.features(model.post_quant_conv(model.encode(images).quantized))
        output = model.decoder.conv_out(features.float())
        x_hat = output.detach().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            grads = [torch.autograd.grad(loss(x_hat), x_hat)[0] for loss in (rec, gan)]
        pair = losses.last_layer_gradients(output, model.last_layer, grads)
        output.backward(grads[0] + losses.adaptive_weight(*pair) * grads[1])

    def as_written() -> None:
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            output, _ = model(images)
            parts = rec(output), gan(output)
        pair = [torch.autograd.grad(p, model.last_layer, retain_graph=True)[0] for p in parts]
        (parts[0] + losses.adaptive_weight(*pair) * parts[1]).backward()

    seconds = compare(cheap, as_written, repeats=repeats)
    what = f"gradients of {batch} crops of {crop} px, VGG and lambda included"
    return [Row(what, "two more backward passes for lambda", *seconds)]
