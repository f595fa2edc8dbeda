"""Tiny models that every test can afford, and where the fixture pictures lie."""

import os
import tempfile
from pathlib import Path

import pytest
import torch

from tests.fakes import TINY
from tests.measured import MEASURED
from vqgan.model import VQGAN, VQGANConfig

# Two workers (-n 2) have a core each: more threads would wait for each other. So for what they run.
SHARED = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) > 1
if SHARED:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1 if SHARED else 2)

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


@pytest.hookimpl(tryfirst=True)  # before the workers read the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With --dist loadgroup a file stays on one worker, and so do all browser tests: one app."""
    for item in items:
        group = item.path.parent if item.path.parent.name == "e2e" else item.path
        item.add_marker(pytest.mark.xdist_group(str(group)))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker's measured times go to the process that reports."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["measured"] = dict(MEASURED)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error: object) -> None:
    for name, seconds in getattr(node, "workeroutput", {}).get("measured", {}).items():
        MEASURED[name] += seconds


def pytest_terminal_summary(terminalreporter) -> None:
    for name, seconds in MEASURED.items():
        times = ", ".join(f"{s * 1000:.0f}" for s in seconds)
        terminalreporter.write_line(f"{name}: {times} ms")
