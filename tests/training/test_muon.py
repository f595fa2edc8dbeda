"""Muon: what torch's own gives, in float32 where bfloat16 is not native."""

import pytest
import torch
from torch import nn

from training import muon
from training.muon import Muon, orthogonalise


@pytest.fixture(params=[False, True], ids=["float32", "bfloat16"])
def native(request, monkeypatch):
    monkeypatch.setattr(muon, "native_bf16", lambda device: request.param)
    return request.param


def matrix(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", [(6, 10), (10, 6), (8, 8)])
def test_singular_values_come_near_one_and_directions_stay(native, shape):
    before = matrix(*shape)
    (after,) = orthogonalise(before[None])
    assert after.dtype == (torch.bfloat16 if native else torch.float32)
    values = torch.linalg.svdvals(after.float())
    assert 0.5 < values.min() and values.max() < 1.3
    u, _, v = torch.linalg.svd(before, full_matrices=False)
    inner = u.T @ after.float() @ v.T  # diagonal: the singular vectors are kept
    assert (inner - inner.diag().diag()).abs().max() < (0.1 if native else 1e-4)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch.optim.Muon came with 2.9")
@pytest.mark.parametrize("shape", [(6, 10), (10, 6)])
def test_it_steps_as_torchs_own(monkeypatch, shape):
    monkeypatch.setattr(muon, "native_bf16", lambda device: True)  # as torch does everywhere
    ours, theirs = (nn.Parameter(matrix(*shape)) for _ in range(2))
    options = {"lr": 0.1, "weight_decay": 0.1, "momentum": 0.9}
    steps = (
        Muon([ours], **options),
        torch.optim.Muon([theirs], **options, adjust_lr_fn="match_rms_adamw"),
    )
    for seed in range(3):
        grad = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        for p, optimizer in zip((ours, theirs), steps, strict=True):
            p.grad = grad.clone()
            optimizer.step()
    torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)
    assert (ours - matrix(*shape)).abs().max() > 0.05


def test_vectors_are_refused():
    with pytest.raises(ValueError, match="for matrices"):
        Muon([nn.Parameter(torch.ones(3))], lr=0.1, weight_decay=0.0, momentum=0.9)
