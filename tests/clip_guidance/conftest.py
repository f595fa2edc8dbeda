"""Models small enough to build in each test."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest
import torch

import checkpoints
from checkpoints.bundle import pack, save_clip
from clip_guidance import model
from prior.model import GPT, PriorConfig
from tests.fakes import CLIP, ColourClip


@pytest.fixture
def config():
    return copy.deepcopy(CLIP)


@pytest.fixture
def clip(config):
    torch.manual_seed(0)
    return model.create(config, "tiny").requires_grad_(False)


@pytest.fixture
def folder(tmp_path, config, clip):
    """A folder with a tiny CLIP, as a bundle holds it."""
    (tmp_path / model.CONFIG).write_text(json.dumps(config), encoding="utf-8")
    (tmp_path / model.WEIGHTS).write_bytes(pack(clip.model.state_dict()))
    return tmp_path


@pytest.fixture
def vqgan(tiny_vqgan):
    return tiny_vqgan.requires_grad_(False)


@pytest.fixture
def prior(vqgan) -> GPT:
    """One that takes the fake CLIP's embeddings."""
    torch.manual_seed(0)
    side = vqgan.config.resolution // vqgan.config.downsampling
    config = PriorConfig(
        codebook_size=vqgan.config.codebook_size,
        height=side,
        width=side,
        layers=1,
        heads=2,
        dim=16,
        condition="embedding",
        embedding_size=ColourClip.embedding_size,
    )
    return GPT(config).eval().requires_grad_(False)


@pytest.fixture
def bundle(tmp_path, vqgan, prior, clip, config):
    """VQGAN, a real if tiny open_clip model, and a prior conditioned on its embeddings."""
    shape = replace(prior.config, embedding_size=clip.embedding_size)
    path = checkpoints.save(
        tmp_path / "tiny", name="tiny", vqgan=vqgan, card={}, prior=GPT(shape).eval()
    )
    return save_clip(path, config, clip, {})
