"""Tiny models that every test can afford, and where the fixture pictures lie."""

import os
import tempfile
from pathlib import Path

import pytest
import torch

from tests.fakes import TINY
from vqgan.model import VQGAN, VQGANConfig

torch.set_num_threads(2)

# Uploads lie under the hash of their content: another app that ends would take equal ones along.
UPLOADS = tempfile.TemporaryDirectory(prefix="vqgan-studio-tests-")
os.environ.setdefault("GRADIO_TEMP_DIR", UPLOADS.name)


@pytest.fixture
def tiny_config() -> VQGANConfig:
    return TINY


@pytest.fixture
def tiny_vqgan() -> VQGAN:
    torch.manual_seed(0)
    return VQGAN(TINY).eval()


@pytest.fixture(scope="session")
def fixtures() -> Path:
    """Some 64 licensed pictures with a manifest, laid out as `data.build` does."""
    return Path(__file__).parent / "fixtures"
