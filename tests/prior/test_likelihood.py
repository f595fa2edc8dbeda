"""Bits per cell: by hand, as the sampler counts them, and through the sliding window."""

from __future__ import annotations

import math

import pytest
import torch

from prior.likelihood import ROWS, bits_per_cell, check_grids, log_probs
from prior.model import GPT, PriorConfig, token_nats
from prior.reader import windows
from prior.sample import finish, sample

EXACT = {"dtype": torch.float32}


def opinionated(probabilities: list[float]) -> GPT:
    """A prior that gives these probabilities everywhere: zero weights but for head and bias."""
    size = len(probabilities)
    cfg = PriorConfig(
        codebook_size=size, height=2, width=2, layers=1, heads=1, dim=size, tie_head=False
    )
    model = GPT(cfg).eval().requires_grad_(False)
    for p in model.parameters():
        p.zero_()
    model.ln_f.bias[0] = 1.0
    model.head.weight[:, 0] = torch.tensor(probabilities).log()
    return model


def test_bits_are_minus_log2_of_the_probability():
    model = opinionated([0.5, 0.25, 0.125, 0.125])
    grid = torch.tensor([[[0, 1], [2, 3]]])
    bits = bits_per_cell(model, grid, **EXACT)
    assert bits.shape == (1, 2, 2) and bits.dtype == torch.float32
    torch.testing.assert_close(bits, torch.tensor([[[1.0, 2.0], [3.0, 3.0]]]))
    # Through the window as well: 3 x 4 codes for a prior of 2 x 2.
    grid = torch.tensor([[[0, 1, 2, 3], [3, 2, 1, 0], [0, 0, 1, 1]]])
    expected = torch.tensor([1.0, 2, 3, 3])[grid]
    torch.testing.assert_close(bits_per_cell(model, grid, **EXACT), expected)
    many = bits_per_cell(model, grid.expand(ROWS + 1, -1, -1), **EXACT)  # no window fits whole
    torch.testing.assert_close(many, expected.expand(ROWS + 1, -1, -1))


@pytest.mark.parametrize("shape", [{}, {"heads": 4, "kv_heads": 1}])
def test_a_code_costs_what_those_before_it_make_likely(tiny, grids, shape):
    prior = tiny(**shape)
    cells = grids.view(5, 6, 7)
    bits = bits_per_cell(prior, cells, **EXACT)
    nats = token_nats(prior(grids), grids).view(5, 6, 7)
    torch.testing.assert_close(bits, nats / math.log(2), atol=1e-4, rtol=0)
    # Another last code changes no cell but its own.
    other = cells.clone()
    other[:, 5, 6] = (other[:, 5, 6] + 1) % 48
    changed = (bits_per_cell(prior, other, **EXACT) - bits).abs() > 1e-4
    assert not changed.flatten(1)[:, :-1].any() and changed[:, 5, 6].any()


@pytest.mark.parametrize("condition", ["start", "first"])
def test_the_sum_is_the_samplers_likelihood(tiny, condition):
    model = tiny(condition=condition)
    for size, stride in (((6, 7), 1), ((9, 11), 1), ((9, 11), 4)):
        last = finish(sample(model, 2, seed=3, size=size, stride=stride, **EXACT))
        bits = bits_per_cell(model, last.grid, stride=stride, **EXACT)
        total = -bits.sum((1, 2)) * math.log(2)
        torch.testing.assert_close(total, last.log_likelihood, atol=5e-3, rtol=0)


def test_each_cell_of_a_larger_grid_is_read_in_its_own_window(prior):
    grid = torch.randint(48, (2, 9, 11), generator=torch.Generator().manual_seed(2))
    bits = bits_per_cell(prior, grid, **EXACT)
    plan = windows((9, 11), (6, 7))
    for cell in (0, 37, 60, 98):
        top, left, place = plan[cell]
        window = grid[:, top : top + 6, left : left + 7].flatten(1)
        nats = token_nats(prior(window), window)[:, place]
        found = bits.flatten(1)[:, cell]
        torch.testing.assert_close(found, nats / math.log(2), atol=1e-4, rtol=0)


def test_a_condition_changes_what_is_likely(tiny):
    model = tiny(condition="embedding", embedding_size=5)
    grid = torch.randint(48, (2, 8, 7), generator=torch.Generator().manual_seed(2))
    condition = torch.randn(2, 5, generator=torch.Generator().manual_seed(3))
    given = bits_per_cell(model, grid, condition, **EXACT)
    assert not torch.allclose(given, bits_per_cell(model, grid, **EXACT), atol=1e-2)
    # Row by row: each grid is read under its own condition, in every window.
    for i in range(2):
        alone = bits_per_cell(model, grid[i : i + 1], condition[i : i + 1], **EXACT)
        torch.testing.assert_close(given[i : i + 1], alone, atol=1e-4, rtol=0)
    own = -log_probs(model, grid[:, :6], condition, **EXACT).gather(1, grid[:, None, :6])[:, 0]
    given = bits_per_cell(model, grid[:, :6], condition, **EXACT)
    torch.testing.assert_close(own / math.log(2), given, atol=1e-4, rtol=0)
    for read in (bits_per_cell, log_probs):
        with pytest.raises(ValueError, match="condition is"):
            read(model, grid[:, :6], condition[:1])


@pytest.mark.parametrize(
    ("grid", "sentence"),
    [
        (torch.zeros(1, 5, 7, dtype=torch.int64), "has 5 x 7 codes: this prior reads 6 x 7 or"),
        (torch.zeros(1, 9, 6, dtype=torch.int64), "has 9 x 6 codes: this prior reads 6 x 7 or"),
        (torch.full((1, 6, 7), 48), "run from 48 to 48: this prior knows 0 to 47"),
        (torch.full((1, 6, 7), -1), "run from -1 to -1"),
        (torch.zeros(1, 6, 7), "float32 of shape"),
        (torch.zeros(6, 7, dtype=torch.int64), r"expected int64 \(B, h, w\)"),
        (torch.zeros(0, 6, 7, dtype=torch.int64), r"expected int64 \(B, h, w\)"),
        (torch.zeros(1, 200, 200, dtype=torch.int64), "16384 are the most"),
    ],
)
def test_grids_that_do_not_fit_are_a_sentence(prior, grid, sentence):
    with pytest.raises(ValueError, match=sentence):
        bits_per_cell(prior, grid)
    check_grids(prior, torch.zeros(1, 128, 128, dtype=torch.int64))  # 16384 are not too many
    with pytest.raises(ValueError, match="stride is 0"):
        bits_per_cell(prior, torch.zeros(1, 6, 7, dtype=torch.int64), stride=0)


def test_log_probs_of_all_codes_hold_that_of_the_written_one(prior, grids):
    grids = grids[:2].view(2, prior.config.height, prior.config.width)
    found = log_probs(prior, grids, dtype=torch.float32)
    assert torch.allclose(found.exp().sum(1), torch.ones(grids.shape), atol=1e-4)
    own = -found.gather(1, grids[:, None])[:, 0] / math.log(2)
    assert torch.allclose(own, bits_per_cell(prior, grids, dtype=torch.float32), atol=1e-4)
    assert log_probs(prior, grids, dtype=torch.bfloat16).dtype == torch.float32
    with pytest.raises(ValueError, match="this prior was trained on"):
        log_probs(prior, torch.zeros(1, prior.config.height + 1, prior.config.width).long())
