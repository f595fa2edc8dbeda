"""The quick path gives what the plain forward pass gives."""

import pytest
import torch

from prior import decode
from prior.decode import Cache, decode_one_token, pack, packed, prefill


def embedded(model, weights, grids, condition=None):
    """(B, 42, dim): what the blocks read for these grids, before positions."""
    prefix = model.embed_prefix(len(grids), condition).to(weights.dtype)
    return torch.cat([prefix, weights.codes[grids[:, :-1]]], 1)


def step_by_step(weights, x):
    cache = Cache(weights, len(x))
    return torch.stack([decode_one_token(weights, cache, x[:, i]) for i in range(x.shape[1])], 1)


@pytest.mark.parametrize("rows", [1, 5, 20])
@pytest.mark.parametrize("shape", [{}, {"tie_head": False, "gelu": "exact"}])
def test_cached_logits_equal_uncached_ones(tiny, rows, shape):
    """42 positions: past the 32 of the cache's first block; 20 rows: past the float32 ones."""
    model = tiny(**shape)
    grids = torch.randint(48, (rows, 42), generator=torch.Generator().manual_seed(3))
    weights = pack(model, torch.float32)
    plain = model(grids)
    assert plain.std() > 0.5
    x = embedded(model, weights, grids)
    torch.testing.assert_close(step_by_step(weights, x), plain, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(prefill(weights, Cache(weights, rows), x), plain, atol=1e-4, rtol=0)


@pytest.mark.parametrize("cuts", [(1, 40, 1), (31, 1, 10), (10, 25, 7)])
def test_reading_in_pieces_equals_reading_at_once(prior, grids, cuts):
    weights, pieces = pack(prior, torch.float32), []
    cache, x = Cache(weights, 5), embedded(prior, weights, grids)
    for part in x.split(cuts, 1):
        if part.shape[1] == 1:
            pieces.append(decode_one_token(weights, cache, part[:, 0])[:, None])
        else:
            pieces.append(prefill(weights, cache, part))
    torch.testing.assert_close(torch.cat(pieces, 1), prior(grids), atol=1e-4, rtol=0)
    assert cache.length == 42 and cache.capacity == 64


@pytest.mark.parametrize("rows", [2, 20])
def test_bfloat16_stays_close(prior, rows):
    grids = torch.randint(48, (rows, 42), generator=torch.Generator().manual_seed(3))
    weights = pack(prior, torch.bfloat16)
    quick, plain = step_by_step(weights, embedded(prior, weights, grids)).float(), prior(grids)
    assert quick.sub(plain).square().mean().sqrt() < 0.05 * plain.std()


def test_without_onednn_the_numbers_are_the_same(tiny, grids, monkeypatch):
    for gelu in ("tanh", "exact"):
        model = tiny(gelu=gelu)
        monkeypatch.setattr(decode, "_onednn", lambda device, dtype: False)
        weights = pack(model, torch.float32)
        result = step_by_step(weights, embedded(model, weights, grids))
        torch.testing.assert_close(result, model(grids), atol=1e-4, rtol=0)


def test_packing_is_remembered_until_the_weights_change(tiny):
    model = tiny()
    first = packed(model)
    assert packed(model) is first
    assert packed(model, torch.float64) is not first
    second = packed(model)
    model.blocks[1].fc.weight.mul_(2)
    assert packed(model) is not second


def test_packed_weights_are_copies(tiny, grids):
    model = tiny()
    weights = pack(model, torch.float32)
    before = step_by_step(weights, embedded(model, weights, grids))
    start = embedded(model, weights, grids)
    for p in model.parameters():
        p.zero_()
    assert torch.equal(step_by_step(weights, start), before)


def test_small_batches_keep_their_cache_in_float32(prior):
    weights = pack(prior, torch.bfloat16)
    assert Cache(weights, 1).dtype == torch.float32
    assert Cache(weights, 12).dtype == torch.bfloat16
