"""Averaged weights follow the formula, buffers included."""

import pytest
import torch
from torch import nn

from training.ema import EMA


def test_average_follows_the_formula_and_survives_a_checkpoint():
    module = nn.BatchNorm1d(1)
    ema = EMA(module, decay=0.9)
    expected = module.weight.item()
    for i in range(30):
        module.weight.data.fill_(float(i))
        module.num_batches_tracked += 1
        ema.update(module)
        decay = min(0.9, (2 + i) / (11 + i))
        expected = decay * expected + (1 - decay) * i
    assert ema.shadow["weight"].item() == pytest.approx(expected, rel=1e-5)
    assert ema.shadow["num_batches_tracked"] == 30
    other = EMA(nn.BatchNorm1d(1), decay=0.9)
    other.load_state_dict(ema.state_dict())
    module.weight.data.fill_(5.0)
    ema.update(module)
    other.update(module)
    assert torch.equal(ema.shadow["weight"], other.shadow["weight"])
    with pytest.raises(ValueError, match=r"ema is 1\.0: it must lie in \[0, 1\)"):
        EMA(module, 1.0)
