"""The optimiser's step: clipping by the norm of all gradients together."""

import pytest
import torch

from training.loop import optimise


@pytest.mark.parametrize(("clip", "moved"), [(2.0, 2.0), (0.0, 50.0), (80.0, 50.0)])
def test_gradients_are_clipped_to_a_norm(clip, moved):
    model = torch.nn.Linear(2, 1)
    before = [p.detach().clone() for p in model.parameters()]
    model.weight.grad, model.bias.grad = torch.tensor([[30.0, 40.0]]), torch.zeros(1)
    norm = optimise(torch.optim.SGD(model.parameters(), lr=1.0), model, 1.0, clip)
    assert float(norm) == pytest.approx(50)
    steps = [p.detach() - b for p, b in zip(model.parameters(), before, strict=True)]
    assert torch.cat([s.flatten() for s in steps]).norm().item() == pytest.approx(moved, rel=1e-4)
    assert model.weight.grad is None, "or the next step would add to it"


def test_a_group_may_learn_at_a_rate_of_its_own():
    slow, plain = torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 1, bias=False)
    groups = [{"params": slow.parameters(), "lr_scale": 0.25}, {"params": plain.parameters()}]
    before = [slow.weight.item(), plain.weight.item()]
    slow.weight.grad = plain.weight.grad = torch.ones(1, 1)
    optimise(torch.optim.SGD(groups, lr=1.0), torch.nn.ModuleList([slow, plain]), 0.4, 0.0)
    after = [slow.weight.item(), plain.weight.item()]
    assert after == pytest.approx([before[0] - 0.1, before[1] - 0.4])
