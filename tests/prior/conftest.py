"""Tiny priors with weights large enough to have opinions."""

import pytest
import torch

from prior.model import GPT, PriorConfig

TINY = {"codebook_size": 48, "height": 6, "width": 7, "layers": 2, "heads": 2, "dim": 16}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Tiny products gain nothing from two, and wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def build(**changes) -> GPT:
    """A seeded random prior over 6 x 7 grids: 42 cells, so its cache grows once."""
    torch.manual_seed(0)
    model = GPT(PriorConfig(**{**TINY, **changes})).eval().requires_grad_(False)
    for name, p in model.named_parameters():
        if p.ndim == 2 or name == "start":
            p.mul_(12)
        elif name.endswith("bias"):
            p.normal_(std=0.1)
    return model


@pytest.fixture(scope="session")
def tiny():
    return build


@pytest.fixture(scope="session")
def prior() -> GPT:
    return build()


@pytest.fixture(scope="session")
def grids() -> torch.Tensor:
    """(5, 42) int64: random codes."""
    return torch.randint(48, (5, 42), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def few_ranges():
    """What is exported here is not written with in int8: its ranges may come from a few grids."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("prior.ranges.BATCH", 4)
        patch.setattr("prior.ranges.BATCHES", 2)
        yield
