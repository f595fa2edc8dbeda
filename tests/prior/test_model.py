"""The GPT: what it may see and what it refuses."""

import math

import pytest
import torch
import torch.nn.functional as F

from prior.model import (
    BITS,
    GPT,
    PriorConfig,
    causal_attention,
    token_nats,
)


def conditions(model: GPT, batch: int):
    """A condition that fits the model, or None."""
    cfg = model.config
    if cfg.condition == "class":
        return torch.arange(batch) % cfg.classes
    if cfg.condition == "embedding":
        return torch.randn(batch, cfg.embedding_size, generator=torch.Generator().manual_seed(2))
    return None


KINDS = [
    {"condition": "start"},
    {"condition": "first"},
    {"condition": "class", "classes": 3},
    {"condition": "embedding", "embedding_size": 5},
]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"codebook_size": 1}, "codebook_size is 1"),
        ({"height": 0}, "height is 0"),
        ({"width": 0}, "width is 0"),
        ({"heads": 0}, "heads is 0"),
        ({"height": 1, "width": 1}, "at least 2 cells"),
        ({"heads": 5}, "heads is 5"),
        ({"head_size": -1}, "head_size is -1"),
        ({"kv_heads": -1}, "kv_heads is -1"),
        ({"kv_heads": 4}, "kv_heads is 4: it must divide heads, 6, or be 0"),
        ({"kv_heads": 12}, "kv_heads is 12"),
        ({"layers": 0}, "layers is 0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"dropout": float("nan")}, "dropout is nan"),
        ({"gelu": "relu"}, "gelu is 'relu'"),
        ({"condition": "text"}, "condition is 'text'"),
        ({"condition": "class"}, "classes is 0"),
        ({"classes": 3}, "classes is 3"),
        ({"condition": "embedding", "embedding_size": -1}, "embedding_size is -1"),
        ({"view_kinds": -1}, "view_kinds is -1"),
        ({"condition": "first", "view_kinds": 1}, "view_kinds is 1 with condition 'first'"),
    ],
)
def test_a_config_names_what_is_wrong(change, named):
    with pytest.raises(ValueError, match=named):
        PriorConfig(**change)


def test_a_config_survives_json_form(tiny):
    cfg = tiny(**KINDS[2]).config
    assert PriorConfig(**cfg.to_dict()) == cfg


@pytest.mark.parametrize("kind", KINDS)
def test_a_logit_depends_on_earlier_tokens_only(tiny, grids, kind):
    model = tiny(**kind)
    condition = conditions(model, len(grids))
    before = model(grids, condition)
    assert before.shape == (5, 42, 48)
    changed = grids.clone()
    changed[:, 17] = (changed[:, 17] + 1) % 48
    after = model(changed, condition)
    assert torch.equal(before[:, :18], after[:, :18])
    assert ((before[:, 18:] - after[:, 18:]).abs().amax(-1) > 1e-4).all()


def test_the_first_code_is_uniform_where_nothing_precedes_it(tiny, grids):
    model = tiny(condition="first")
    assert torch.equal(model(grids)[:, 0], torch.zeros(5, 48))
    assert model.wpe.weight.shape[0] == 41 and not hasattr(model, "start")
    assert tiny().wpe.weight.shape[0] == 42


@pytest.mark.parametrize("kind", KINDS[2:])
def test_a_dropped_condition_is_no_condition(tiny, grids, kind):
    model = tiny(**kind)
    condition, dropped = conditions(model, 5), torch.tensor([True, False, True, False, False])
    mixed, free, full = model(grids, condition, dropped), model(grids), model(grids, condition)
    torch.testing.assert_close(mixed[dropped], free[dropped])
    torch.testing.assert_close(mixed[~dropped], full[~dropped])
    assert (free - full).abs().amax() > 1e-2


@pytest.mark.parametrize(
    ("kind", "condition", "named"),
    [
        (KINDS[0], torch.zeros(5, dtype=torch.int64), "unconditional"),
        (KINDS[2], torch.zeros(5), "whole numbers of shape"),
        (KINDS[2], torch.full((5,), 3), "0 to 2"),
        (KINDS[2], torch.full((5,), -1), "0 to 2"),
        (KINDS[3], torch.zeros(5, 4), r"shape \(5, 5\)"),
        (KINDS[3], torch.zeros(5, 5, dtype=torch.int64), "floats"),
        (KINDS[3], torch.full((5, 5), math.nan), "NaN"),
    ],
)
def test_a_condition_that_does_not_fit_is_named(tiny, kind, condition, named):
    with pytest.raises(ValueError, match=named):
        tiny(**kind).check_condition(condition, 5)


@pytest.mark.parametrize("kind", [KINDS[0], *KINDS[2:]])
def test_a_kind_of_view_moves_the_prefix_and_none_leaves_it(tiny, grids, kind):
    model, batch = tiny(view_kinds=2, **kind), len(grids)
    given = conditions(model, batch)
    plain = model(grids, given)
    kinds = torch.arange(batch) % 3
    told = model(grids, given, kinds=kinds)
    torch.testing.assert_close(told[kinds == 0], plain[kinds == 0])
    assert ((told - plain).abs().amax((1, 2)) > 1e-4).equal(kinds > 0) and batch > 2
    moved = model.embed_prefix(batch, given, kinds=kinds) - model.embed_prefix(batch, given)
    torch.testing.assert_close(moved[2, 0], model.view_emb.weight[1])


def test_measured_ranges_are_no_weights(tiny):
    """They stand in the card: a file that held them would fit no prior."""
    model = tiny()
    model.ranges = torch.zeros(9, 2)
    assert "ranges" not in model.state_dict()


def test_too_many_tokens_are_refused(prior, grids):
    with pytest.raises(ValueError, match="43 tokens"):
        prior(F.pad(grids, (0, 1)))
    torch.testing.assert_close(prior(grids[:, :9]), prior(grids)[:, :9])  # fewer are not


def test_dropout_is_in_three_places_and_for_training_alone(tiny, grids, monkeypatch):
    model, asked, drop = tiny(dropout=0.25), [], F.dropout
    assert torch.equal(model(grids), tiny()(grids))
    monkeypatch.setattr(F, "dropout", lambda *of: asked.append(of[1:]) or drop(*of))
    model.train()(grids)
    assert asked == [(0.25, True)] * (1 + 2 * 2)


def test_attention_is_torchs_own(grids):
    q, k, v = torch.randn(3, 2, 4, 9, 8, generator=torch.Generator().manual_seed(0))
    expected = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    torch.testing.assert_close(causal_attention(q, k, v), expected)


@pytest.mark.parametrize("shared", [1, 2])
def test_shared_heads_are_those_of_neighbouring_queries(shared):
    q, k, v = torch.randn(3, 2, 4, 9, 8, generator=torch.Generator().manual_seed(0))
    k, v = k[:, :shared], v[:, :shared]
    own = [x[:, [h * shared // 4 for h in range(4)]] for x in (k, v)]
    torch.testing.assert_close(causal_attention(q, k, v), causal_attention(q, *own))


def test_a_block_splits_its_product_into_queries_keys_and_values(tiny):
    """In this order, heads first: here the queries of all four, then what two keep."""
    block = tiny(heads=4, kv_heads=2).blocks[0]
    assert block.qkv.weight.shape == ((4 + 2 * 2) * 4, 16)
    x = torch.randn(3, 9, 16, generator=torch.Generator().manual_seed(0))
    parts = [p.split([16, 8, 8]) for p in block.qkv.parameters()]
    q, k, v = (F.linear(block.ln_1(x), *p).unflatten(2, (-1, 4)) for p in zip(*parts, strict=True))
    y = causal_attention(*(each.transpose(1, 2) for each in (q, k, v)))
    x = x + block.proj(y.transpose(1, 2).flatten(2))
    x = x + block.out(F.gelu(block.fc(block.ln_2(x)), approximate="tanh"))
    found = torch.randn(3, 9, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(block(found), x)


def test_nats_and_bits(grids):
    even = token_nats(torch.zeros(5, 42, 48), grids)
    torch.testing.assert_close(even * BITS, torch.full((5, 42), math.log2(48)))
    assert token_nats(torch.zeros(5, 42, 48).bfloat16(), grids).dtype == torch.float32
    sure = F.one_hot(grids, 48) * 40.0
    assert token_nats(sure, grids).max() < 1e-4
    assert token_nats(sure, (grids + 1) % 48).min() > 39


def test_weights_start_as_gpt2s_do():
    torch.manual_seed(0)
    model = GPT(PriorConfig(layers=8, dim=128, heads=2))
    stds = {name: float(p.detach().std()) for name, p in model.named_parameters() if p.ndim == 2}
    assert stds["wte.weight"] == pytest.approx(0.02, rel=0.05)
    assert stds["blocks.3.qkv.weight"] == pytest.approx(0.02, rel=0.05)
    assert stds["blocks.3.proj.weight"] == pytest.approx(0.005, rel=0.05)
    assert stds["blocks.3.out.weight"] == pytest.approx(0.005, rel=0.05)
    told = GPT(PriorConfig(dim=96, condition="embedding", embedding_size=64))
    for weight in (told.condition_proj.weight, told.start):
        assert float(weight.detach().std()) == pytest.approx(0.02, rel=0.2)
    assert not any(p.any() for name, p in told.named_parameters() if name.endswith("bias"))
