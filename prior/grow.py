"""A deeper prior that begins as the one it grew from: `prior.train --init BUNDLE --layers N`.

Its sketch reader follows: `prior.train_sketch --init BUNDLE`.

Block expansion (Wu et al., "LLaMA Pro", section 3.1; the idea is Chen et al., "Net2Net"): copies of
layers go in between, with what they add to the residual stream set to 0. So the first step gives
the same logits, nothing learned is lost, and training begins where the smaller prior stopped.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from prior.model import GPT
from prior.sketch import SketchReader


def origins(before: int, after: int) -> list[tuple[int, bool]]:
    """For each of `after` layers: the one of `before` it comes from, and whether it is a new one.

    New layers are spread evenly; each follows the layer that it copies.
    """
    copies = [(i + 1) * after // before - i * after // before for i in range(before)]
    return [(i, copy > 0) for i, count in enumerate(copies) for copy in range(count)]


@torch.no_grad()
def grown(prior: GPT, layers: int) -> GPT:
    """A prior of `layers` layers with the same logits; ValueError for fewer than it has."""
    if layers < prior.config.layers:
        raise ValueError(
            f"layers is {layers}: a prior of {prior.config.layers} layers can only grow"
        )
    model = GPT(replace(prior.config, layers=layers))
    rest = {k: v for k, v in prior.state_dict().items() if not k.startswith("blocks.")}
    model.load_state_dict(rest, strict=False)
    layout = origins(prior.config.layers, layers)
    for block, (source, new) in zip(model.blocks, layout, strict=True):
        block.load_state_dict(prior.blocks[source].state_dict())
        if new:
            for added in (block.proj, block.out):
                for value in added.parameters():
                    nn.init.zeros_(value)
    return model


@torch.no_grad()
def reader_grown(reader: SketchReader, layers: int) -> SketchReader:
    """A sketch reader for a prior grown to `layers` layers, which together give the same logits.

    It adds before each old layer what it added there, and nothing before the new ones.
    """
    config = reader.config
    if layers < config.layers:
        raise ValueError(f"layers is {layers}: a reader for {config.layers} layers can only grow")
    model = SketchReader(replace(config, layers=layers))  # new shifts are 0
    rest = {k: v for k, v in reader.state_dict().items() if not k.startswith("shifts.")}
    model.load_state_dict(rest, strict=False)
    layout = origins(config.layers, layers)
    kept = [i for i, (_, new) in enumerate(layout) if not new] + [layers]  # after the last as well
    for kind in ("weight", "bias"):
        old, new = (getattr(r.shifts, kind).unflatten(0, (-1, config.dim)) for r in (reader, model))
        new[kept] = old
    return model
