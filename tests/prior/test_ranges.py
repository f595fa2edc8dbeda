"""Ranges hold what enters the products, and travel in the card."""

import json

import numpy as np
import pytest
import torch

import checkpoints
from checkpoints.bundle import ranges_of
from prior import ranges
from prior.ideas import Idea, Ideas
from prior.model import GPT
from prior.sample import finish, sample


@pytest.mark.parametrize("shape", [{}, {"kv_heads": 1}])
def test_ranges_are_those_of_what_the_prior_writes(tiny, shape):
    model = tiny(**shape)
    found = ranges.measure(model)
    assert found.shape == (9, 2) and (found[:, 0] <= 0).all() and (found[:, 1] > 0).all()
    inputs = []
    handle = model.blocks[1].out.register_forward_pre_hook(lambda m, a: inputs.append(a[0]))
    for seed in range(0, 64, 16):
        model(finish(sample(model, 16, seed=seed)).grid.flatten(1))
    handle.remove()
    seen = torch.cat(inputs)
    torch.testing.assert_close(found[7], torch.stack([seen.min(), seen.max()]), atol=1e-3, rtol=0)
    assert not model.ln_f._forward_hooks and not model.blocks[0].qkv._forward_pre_hooks


def test_half_of_the_grids_are_told(tiny, monkeypatch):
    model, seen = tiny(condition="class", classes=3), []
    plain = GPT.forward
    monkeypatch.setattr(GPT, "forward", lambda s, g, c=None: seen.append(c) or plain(s, g, c))
    ranges.measure(model, torch.arange(64) % 3)
    given = [None if c is None else c.tolist() for c in seen]
    assert given == [[i % 3 for i in range(16)], None, [(32 + i) % 3 for i in range(16)], None]


def test_a_bundle_is_made_ready(tmp_path, tiny_vqgan, tiny, capsys):
    path = checkpoints.save(tmp_path / "b", name="b", vqgan=tiny_vqgan, card={}, prior=tiny())
    weights = (path / "prior.safetensors").read_bytes()
    assert checkpoints.load(path).prior.ranges is None
    ranges.main([str(path)])
    assert "9 products, from -" in capsys.readouterr().out
    bundle = checkpoints.load(path)
    assert bundle.prior.ranges.tolist() == torch.tensor(bundle.card["prior"]["ranges"]).tolist()
    assert (path / "prior.safetensors").read_bytes() == weights
    other = tiny()
    checkpoints.save(path, name="b", vqgan=tiny_vqgan, card=bundle.card, prior=other)
    assert checkpoints.load(path).prior.ranges is None, "those were the former's"
    other.ranges = torch.full((9, 2), 0.123456)
    assert ranges_of(other)["ranges"] == [[0.1235, 0.1235]] * 9


def test_ideas_are_told_where_there_are_any(tmp_path, tiny_vqgan, tiny):
    model = tiny(condition="embedding", embedding_size=4)
    path = checkpoints.save(tmp_path / "b", name="b", vqgan=tiny_vqgan, card={}, prior=model)
    bundle = checkpoints.load(path)
    assert ranges.conditions(bundle.prior, bundle) is None
    told = np.arange(8, dtype=np.float32).reshape(2, 4)
    Ideas((Idea("a"), Idea("b")), told).save(path)
    given = ranges.conditions(bundle.prior, bundle)
    assert given.shape == (64, 4) and {tuple(row) for row in given.tolist()} == set(
        map(tuple, told)
    )


@pytest.mark.parametrize("wrong", ["x", [[0.0, 1.0]], [[0.0, float("inf")]] * 9, [[0, 1, 2]] * 9])
def test_ranges_of_another_prior_are_refused(tmp_path, tiny_vqgan, prior, wrong):
    path = checkpoints.save(tmp_path / "b", name="b", vqgan=tiny_vqgan, card={}, prior=prior)
    card = json.loads((path / "config.json").read_text())
    card["prior"]["ranges"] = wrong
    (path / "config.json").write_text(json.dumps(card))
    with pytest.raises(ValueError, match="are not 9 pairs of finite numbers: measure them"):
        checkpoints.load(path)


def test_a_bundle_without_a_prior_is_refused(tmp_path, tiny_vqgan, capsys):
    path = checkpoints.save(tmp_path / "b", name="b", vqgan=tiny_vqgan, card={})
    with pytest.raises(SystemExit):
        ranges.main([str(path)])
    assert "bundle b holds no prior" in capsys.readouterr().err


def test_the_shipped_prior_is_ready():
    assert checkpoints.load().prior.ranges is not None
