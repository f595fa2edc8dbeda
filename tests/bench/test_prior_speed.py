"""The prior's speed rows compare equal work."""

from dataclasses import replace

import pytest
import torch

from bench import prior_speed
from prior.decode import native_dtype
from prior.model import GPT, PriorConfig

SMALL = PriorConfig(codebook_size=32, height=3, width=4, layers=1, heads=2, dim=16)


def test_both_ways_write_as_many_codes(monkeypatch):
    """The start token and 12 codes there, 12 codes here."""
    seen = []

    def both(ours, theirs, repeats):
        seen.append((ours().grid.shape, theirs().shape))
        return 1.0, 4.0

    monkeypatch.setattr(prior_speed, "compare", both)
    row = prior_speed.writing(GPT(SMALL).eval(), torch.float32, 3, 1)
    assert seen == [((3, 3, 4), (3, 13))] and row.faster == 4


def test_rows_are_measured():
    rows = prior_speed.run(
        GPT(SMALL).eval(), batches=(2,), training_batch=2, repeats=1, compiled=(False,)
    )
    kinds = {torch.float32, native_dtype(torch.device("cpu"))}
    assert len(rows) == len(kinds) + 1
    assert all(row.ours > 0 and row.theirs > 0 for row in rows)
    assert rows[0].beside == "transformers' generate, float32"


def test_a_conditioned_prior_is_measured_without_its_condition():
    torch.manual_seed(0)
    prior = GPT(replace(SMALL, condition="embedding", embedding_size=5)).eval()
    plain = prior_speed.unconditional(prior)
    tokens = torch.randint(32, (2, 12))
    assert plain.config == SMALL and torch.equal(plain(tokens), prior(tokens))
    theirs = prior_speed.transformers_model(plain)
    start = torch.full((2, 1), 32)
    logits = theirs(torch.cat([start, tokens[:, :-1]], 1)).logits[..., :32]
    torch.testing.assert_close(logits, plain(tokens), atol=1e-4, rtol=0)


def test_narrow_heads_have_a_row_more_beside_the_same_function_as_narrow():
    torch.manual_seed(0)
    prior = GPT(replace(SMALL, head_size=3)).eval()
    for p in prior.parameters():
        torch.nn.init.normal_(p, std=0.3)
    tokens = torch.randint(32, (2, 12))
    text = torch.cat([torch.full((2, 1), 32), tokens[:, :-1]], 1)
    theirs = prior_speed.cut_by_hand(prior_speed.transformers_model(prior), prior)
    assert theirs.transformer.h[0].attn.c_attn.weight.shape == (16, 18)
    with torch.no_grad():
        logits = theirs(text).logits[..., :32]
    torch.testing.assert_close(logits, prior(tokens), atol=1e-4, rtol=0)
    rows = prior_speed.run(prior, batches=(2,), training_batch=2, repeats=1, compiled=())
    assert [row.beside.endswith("cut by hand") for row in rows][-2:] == [False, True]
    assert not any(map(prior_speed.narrow, (GPT(SMALL), GPT(replace(SMALL, head_size=8)))))


@pytest.mark.parametrize("head_size", [0, 3])
def test_shared_heads_have_a_row_more_beside_the_very_same_architecture(head_size):
    torch.manual_seed(0)
    prior = GPT(replace(SMALL, heads=4, kv_heads=1, head_size=head_size)).eval()
    for p in prior.parameters():
        torch.nn.init.normal_(p, std=0.3)
    tokens = torch.randint(32, (2, 12))
    text = torch.cat([torch.full((2, 1), 32), tokens[:, :-1]], 1)
    theirs = prior_speed.big_code_model(prior)
    assert theirs.num_parameters() == sum(p.numel() for p in prior.parameters())
    plain = prior_speed.transformers_model(prior)
    if head_size:
        plain = prior_speed.cut_by_hand(plain, prior)
    for model in (theirs, plain):
        with torch.no_grad():
            logits = model(text).logits[..., :32]
        torch.testing.assert_close(logits, prior(tokens), atol=1e-4, rtol=0)
    rows = prior_speed.run(prior, batches=(2,), training_batch=2, repeats=1, compiled=())
    assert [row.beside for row in rows if "float32, " in row.beside] == [
        *["transformers' generate, float32, cut by hand"] * bool(head_size),
        "transformers' generate, float32, GPTBigCode",
    ]


def test_a_prior_of_the_default_shape_stands_in(monkeypatch):
    monkeypatch.setattr("checkpoints.names", lambda: [])
    assert prior_speed.bundled().config == PriorConfig()
