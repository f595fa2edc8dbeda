"""A studio around a tiny random model: real events and figures, in milliseconds."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

import checkpoints
from prior.model import GPT, PriorConfig
from prior.sketch import SketchReader, config_for
from tests.fakes import ColourClip
from ui.studio import Studio
from vqgan.model import VQGAN, VQGANConfig
from vqgan.perceptual import PerceptualLoss

TINY = VQGANConfig(
    resolution=32,
    ch=8,
    ch_mult=(1, 1, 2, 2),
    num_res_blocks=1,
    attn_resolutions=(),
    mid_attn=False,
    num_groups=2,
    z_channels=8,
    codebook_size=64,
    embed_dim=4,
    quantizer="cosine",
)


@pytest.fixture(scope="session")
def studio(tmp_path_factory) -> Studio:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("bundle")
    checkpoints.save(path, name="tiny", vqgan=VQGAN(TINY).eval(), card={})
    return Studio(checkpoints.load(path), PerceptualLoss("alex"), "cpu")


@pytest.fixture(scope="session")
def writer(studio, tmp_path_factory) -> Studio:
    """The tiny studio with a tiny prior of 6 x 7 codes beside it."""
    torch.manual_seed(1)
    config = PriorConfig(
        codebook_size=64, height=6, width=7, layers=2, heads=2, dim=16,
        condition="embedding", embedding_size=4,
    )  # fmt: skip
    prior = GPT(config).eval().requires_grad_(False)
    for p in prior.parameters():
        if p.ndim == 2:
            p.mul_(12)
    path = tmp_path_factory.mktemp("written")
    checkpoints.save(path, name="tiny", vqgan=studio.vqgan, card={}, prior=prior)
    reader = SketchReader(config_for(config, studio.f, 8)).requires_grad_(False)
    reader.shifts.weight.normal_(std=0.5)
    checkpoints.bundle.save_sketch(path, reader, {})
    return Studio(checkpoints.load(path), PerceptualLoss("alex"), "cpu")


@pytest.fixture(scope="session")
def able(studio) -> Studio:
    """The tiny studio with a CLIP that knows colours, and a prior that takes its embeddings."""
    torch.manual_seed(0)
    config = PriorConfig(
        codebook_size=64,
        height=4,
        width=4,
        layers=1,
        heads=2,
        dim=16,
        condition="embedding",
        embedding_size=ColourClip.embedding_size,
    )
    bundle = SimpleNamespace(
        sketch=None,
        name="tiny",
        vqgan=studio.vqgan,
        prior=GPT(config).eval().requires_grad_(False),
        clip=ColourClip(),
        decoders={},
        card={**studio.bundle.card, "clip": {}},
        path=studio.bundle.path,
        word=studio.bundle.word,
        tokenizer_id=studio.bundle.tokenizer_id,
    )
    return Studio(bundle, studio.metric, "cpu")
