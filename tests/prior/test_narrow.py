"""Priors with narrower heads, cut from wider ones."""

from dataclasses import replace

import pytest
import torch

from prior.grow import grown
from prior.hugging_face import _widened, unshared
from prior.model import GPT, PriorConfig
from prior.narrow import narrowed

CONFIG = {"codebook_size": 12, "height": 4, "width": 4, "layers": 3, "heads": 2, "dim": 16}


def trained(**changed) -> GPT:
    """A prior whose every layer does something."""
    torch.manual_seed(0)
    model = GPT(PriorConfig(**{**CONFIG, **changed})).eval()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return model.requires_grad_(False)


def grids(count: int = 64, seed: int = 1) -> torch.Tensor:
    return torch.randint(12, (count, 16), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", [{}, {"condition": "embedding", "embedding_size": 5}])
def test_what_needs_no_more_channels_is_kept_whole(kind):
    """Heads of 8 channels whose scores and values need 3 of them, turned and moved about."""
    small = trained(head_size=3, **kind)
    wide = GPT(PriorConfig(**CONFIG, **kind)).eval().requires_grad_(False)
    wide.load_state_dict(_widened(small.state_dict(), small.config))
    for block in wide.blocks:
        weight = block.qkv.weight.view(3, 2, 8, 16)
        bias, out = block.qkv.bias.view(3, 2, 8), block.proj.weight.view(16, 2, 8)
        out[:, :, 3], bias[2, :, 3] = (
            torch.randn(16, 2),
            2,
        )  # always the same: no direction of its own
        for h in range(2):
            scores, values = (torch.linalg.qr(torch.randn(8, 8))[0] for _ in range(2))
            for i, turn in enumerate((scores, scores, values)):
                weight[i, h], bias[i, h] = turn @ weight[i, h], turn @ bias[i, h]
            out[:, h] = out[:, h] @ values.T
        bias[1:] += torch.randn(2, 2, 8)  # of keys and values: in none of the three directions
    found = narrowed(wide, 3, grids()).eval()
    assert found.config == small.config
    assert not any(block.qkv._forward_pre_hooks for block in wide.blocks), "no more is kept"
    condition = torch.randn(9, 5) if kind else None
    expected = wide(grids(9, 2), condition)
    assert expected.std() > 0.2
    assert (small(grids(9, 2), condition) - expected).abs().max() > 0.1  # the biases say something
    torch.testing.assert_close(found(grids(9, 2), condition), expected, atol=1e-3, rtol=0)


def test_the_directions_that_count_most_are_kept():
    """Nearer with every channel, on grids like those it read, and nearer than the first ones."""
    model = trained()
    for block in model.blocks:  # few codes, so that some directions count more
        block.qkv.weight[:, 6:] *= 0.1
    some, others = grids(256) // 4, grids(32, 2) // 4
    logits = model(others)
    away = [
        (narrowed(model, n, some).eval()(others) - logits).square().mean() for n in (1, 3, 5, 7)
    ]
    assert away == sorted(away, reverse=True) and away[0] > 4 * away[3]
    first = GPT(PriorConfig(**CONFIG, head_size=5)).eval()
    state = model.state_dict()
    for name, value in first.state_dict().items():
        old = state[name]
        if ".qkv." in name:
            old = old.unflatten(0, (3, 2, 8))[:, :, :5].flatten(0, 2)
        elif ".proj.weight" in name:
            old = old.unflatten(1, (2, 8))[:, :, :5].flatten(1)
        value.copy_(old)
    assert (first(others) - logits).square().mean() > 2 * away[2]


def test_what_all_keys_share_counts_for_nothing():
    """It adds the same to all of a query's scores."""
    model = trained()
    logits, cut = model(grids(9, 2)), narrowed(model, 4, grids()).eval()(grids(9, 2))
    for block in model.blocks:
        block.qkv.bias.view(3, 16)[1] += 5 * torch.randn(16)
    torch.testing.assert_close(model(grids(9, 2)), logits, atol=1e-3, rtol=0)
    again = narrowed(model, 4, grids()).eval()(grids(9, 2))
    torch.testing.assert_close(again, cut, atol=1e-3, rtol=0)


def test_how_channels_are_scaled_counts_for_nothing():
    """Queries more and keys less, values more and what takes them less: the same attention."""
    model = trained()
    logits, cut = model(grids(9, 2)), narrowed(model, 4, grids()).eval()(grids(9, 2))
    for block in model.blocks:
        of_q, of_v = torch.rand(2, 16).sub(0.5).mul(4).exp()
        for p in block.qkv.parameters():
            parts = p.view(3, 16, -1)
            for part, scale in zip(parts, (of_q, 1 / of_q, of_v), strict=True):
                part *= scale[:, None]
        block.proj.weight /= of_v
    torch.testing.assert_close(model(grids(9, 2)), logits, atol=1e-3, rtol=0)
    again = narrowed(model, 4, grids()).eval()(grids(9, 2))
    torch.testing.assert_close(again, cut, atol=1e-3, rtol=0)


def test_a_layer_that_adds_nothing_still_adds_nothing():
    deeper = grown(trained(), 5).eval()
    found = narrowed(deeper, 7, grids()).eval()
    assert all(p.isfinite().all() for p in found.parameters())
    for old, new in zip(deeper.blocks, found.blocks, strict=True):
        assert new.proj.weight.any() == old.proj.weight.any()


@pytest.mark.parametrize("size", [0, 8, 9])
def test_heads_only_get_narrower(size):
    with pytest.raises(ValueError, match=f"head_size is {size}: beside 2 heads .* less than 8"):
        narrowed(trained(), size, grids())


@pytest.mark.parametrize("size", [0, 16, 17])
def test_what_shared_heads_hold_only_gets_less(size):
    with pytest.raises(ValueError, match=f"head_size is {size}: beside 1 heads .* less than 16"):
        narrowed(trained(), size, grids(), 1)


def test_shared_heads_do_not_get_narrower():
    with pytest.raises(ValueError, match=r"share keys and values already \(kv_heads 1\)"):
        narrowed(trained(kv_heads=1), 3, grids())
    assert narrowed(trained(kv_heads=2), 3, grids()).config.head_size == 3  # shared with none


def own_turns(shared: GPT) -> GPT:
    """The same function with keys and values for every head, turned in another way for each."""
    cfg = shared.config
    model = GPT(replace(cfg, kv_heads=0)).eval().requires_grad_(False)
    model.load_state_dict(unshared(shared.state_dict(), cfg))
    for block in model.blocks:
        size = cfg.head_channels
        weight = block.qkv.weight.view(3, cfg.heads, size, -1)
        bias = block.qkv.bias.view(3, cfg.heads, size)
        out = block.proj.weight.view(-1, cfg.heads, size)
        for h in range(cfg.heads):
            scores, values = (torch.linalg.qr(torch.randn(size, size))[0] for _ in range(2))
            for i, turn in enumerate((scores, scores, values)):
                weight[i, h], bias[i, h] = turn @ weight[i, h], turn @ bias[i, h]
            out[:, h] = out[:, h] @ values.T
        bias[1] += torch.randn(cfg.heads, size)  # the same for all of a query's scores
    return model


@pytest.mark.parametrize("groups", [1, 2])
def test_heads_that_see_the_same_share_it_whole(groups):
    """Four heads whose keys and values are those of one or two, each turned in its own way."""
    shared = trained(heads=4, head_size=3, kv_heads=groups)
    apart = own_turns(shared)
    found = narrowed(apart, 3, grids(), groups).eval()
    assert found.config == shared.config
    expected = apart(grids(9, 2))
    assert expected.std() > 0.2
    torch.testing.assert_close(found(grids(9, 2)), expected, atol=1e-3, rtol=0)


def test_shared_heads_keep_the_directions_that_count_most():
    """Nearer with more channels, more than a head's own too, and nearer than the heads' mean."""
    model = trained(heads=4)  # of 4 channels, 16 in all
    logits = model(grids(32, 2))
    away = [
        (narrowed(model, n, grids(256), 1).eval()(grids(32, 2)) - logits).square().mean()
        for n in (2, 4, 8, 15)
    ]
    assert away == sorted(away, reverse=True) and away[0] > 4 * away[3]
    mean = GPT(replace(model.config, kv_heads=1)).eval()
    for name, value in mean.state_dict().items():
        old = model.state_dict()[name]
        if ".qkv." in name:
            queries, *kept = old.unflatten(0, (3, 4, 4))
            old = torch.cat([queries.flatten(0, 1), *(x.mean(0) for x in kept)])
        value.copy_(old)
    assert (mean(grids(32, 2)) - logits).square().mean() > 1.3 * away[1]
