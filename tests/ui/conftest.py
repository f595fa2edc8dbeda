"""A studio around a tiny random model: real events and figures, in milliseconds."""

from __future__ import annotations

import pytest
import torch

import checkpoints
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
