"""Tiny models that every test can afford, and where the fixture pictures lie."""

import os
import tempfile
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from tests.fakes import TINY
from tests.measured import MEASURED
from vqgan.model import VQGAN, VQGANConfig

# Two workers (-n 2) have a core each: more threads would wait for each other. So for what they run.
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if WORKERS > 1:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1 if WORKERS > 1 else 2)

# Uploads lie under the hash of their content: another app that ends would take equal ones along.
# So each worker has a folder of its own; in that of the process that starts them lie their locks.
FOLDER = tempfile.TemporaryDirectory(prefix="vqgan-studio-tests-")
os.environ["GRADIO_TEMP_DIR"] = FOLDER.name
os.environ.setdefault("VQGAN_TESTS_LOCKS", FOLDER.name)


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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """A test marked `quiet` measures how soon something answers: the other workers wait for it."""
    with ExitStack() as held:
        if WORKERS > 1:
            quiet = item.get_closest_marker("quiet")
            own = os.environ["PYTEST_XDIST_WORKER"]
            with lock("gate"):  # who waits for the others holds it, so that they begin nothing
                for worker in [f"gw{i}" for i in range(WORKERS)] if quiet else [own]:
                    held.enter_context(lock(worker))
        return (yield)


def lock(name: str) -> FileLock:
    """One for all workers of this run."""
    return FileLock(Path(os.environ["VQGAN_TESTS_LOCKS"]) / f"{name}.lock", poll_interval=0.01)


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
