"""A CLIP in a bundle: put in, loaded at first use, refused when its files are not the card's."""

from __future__ import annotations

import pytest
import torch

import checkpoints
from checkpoints import bundle as module
from clip_guidance import model


@pytest.fixture
def bundle(tmp_path, tiny_vqgan, config, clip):
    path = checkpoints.save(tmp_path / "b", name="b", vqgan=tiny_vqgan, card={"metrics": {"x": 1}})
    (path / "codes.npz").write_bytes(b"stays")
    return module.save_clip(path, config, clip, {"metrics": {"recall": 0.5}})


def test_a_bundle_brings_its_clip(bundle, clip):
    found = checkpoints.load(bundle)
    assert found.card["clip"] == {"metrics": {"recall": 0.5}} and found.card["metrics"] == {"x": 1}
    assert (bundle / "codes.npz").read_bytes() == b"stays"
    assert isinstance(found.clip, model.Clip) and found.clip is found.clip
    assert torch.allclose(found.clip.encode_text(["a"]), clip.encode_text(["a"]), atol=2e-3)


def test_saving_the_vqgan_again_keeps_the_clip(bundle, tiny_vqgan):
    card = checkpoints.load(bundle).card
    checkpoints.save(bundle, name="b", vqgan=tiny_vqgan, card=card)
    assert checkpoints.load(bundle).clip is not None


@pytest.mark.parametrize("file", [model.WEIGHTS, model.CONFIG])
def test_files_that_are_not_the_cards_are_refused(bundle, file):
    content = bytearray((bundle / file).read_bytes())
    content[-3] ^= 1
    (bundle / file).write_bytes(content)
    with pytest.raises(ValueError, match="sha256 differs"):
        checkpoints.load(bundle)
    (bundle / file).unlink()
    with pytest.raises(ValueError, match="cannot be read"):
        checkpoints.load(bundle)


def test_a_clip_leaves_the_other_hashes(bundle):
    files = {"vqgan.safetensors", model.CONFIG, model.WEIGHTS}
    assert checkpoints.load(bundle).card["sha256"].keys() == files


def test_a_prior_of_another_clip_takes_no_words(bundle, prior):
    found = checkpoints.load(bundle)
    found.prior = prior  # told 16 numbers, and this CLIP has 12
    with pytest.raises(ValueError, match="takes no words"):
        found.told(["a"])
