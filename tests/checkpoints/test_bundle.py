"""Bundles: what is saved comes back, and what is not whole is refused in a sentence."""

import json
import os
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

import checkpoints
from checkpoints import bundle as module
from prior.model import GPT, PriorConfig
from vqgan.model import VQGAN


@pytest.fixture
def saved(tiny_vqgan, tmp_path):
    card = {"training": {"steps": 3}, "sha256": {"other.bin": "00"}}
    return checkpoints.save(tmp_path / "tiny", name="tiny", vqgan=tiny_vqgan, card=card)


@pytest.fixture
def prior():
    torch.manual_seed(1)
    return GPT(PriorConfig(codebook_size=32, height=16, width=16, layers=1, heads=1, dim=8))


def edit_card(path, **changes) -> None:
    card = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(card | changes))


def test_round_trip(saved, tiny_vqgan):
    b = checkpoints.load(saved)
    assert b.name == "tiny" and b.path == saved and b.prior is None and b.clip is None
    assert b.vqgan.config == tiny_vqgan.config and not b.vqgan.training
    for name, value in tiny_vqgan.state_dict().items():
        loaded = b.vqgan.state_dict()[name]
        assert loaded.dtype == torch.float32 and torch.equal(loaded, value.half().float())
    assert not any(p.requires_grad for p in b.vqgan.parameters())


def test_the_card_says_what_the_model_is(saved, tiny_vqgan):
    card = checkpoints.load(saved).card
    assert card["format"] == 1 and card["name"] == "tiny"
    assert card["preprocess"] == {"size": 32, "range": [-1, 1], "background": "white"}
    assert card["training"] == {"steps": 3}
    assert card["sha256"]["other.bin"] == "00" and len(card["sha256"]["vqgan.safetensors"]) == 64
    assert card["tokenizer_id"] == checkpoints.tokenizer_id(tiny_vqgan)
    assert next(iter(load_file(saved / "vqgan.safetensors").values())).dtype == torch.float16


def test_what_follows_from_the_model_cannot_be_set(tiny_vqgan, tmp_path):
    stale = {"name": "old", "tokenizer_id": "old", "vqgan": {}, "preprocess": {"size": 64}}
    card = checkpoints.load(
        checkpoints.save(tmp_path / "b", name="new", vqgan=tiny_vqgan, card=stale)
    ).card
    assert card["name"] == "new" and card["tokenizer_id"] == checkpoints.tokenizer_id(tiny_vqgan)
    assert card["preprocess"] == {"size": 64}


def test_tokenizer_id_belongs_to_the_tokens(saved, tiny_vqgan):
    b = checkpoints.load(saved)
    before = checkpoints.tokenizer_id(tiny_vqgan)
    assert b.tokenizer_id == before
    with torch.no_grad():
        for part in (tiny_vqgan.decoder, tiny_vqgan.post_quant_conv):
            for p in part.parameters():
                p += 1
        assert checkpoints.tokenizer_id(tiny_vqgan) == before
        for part in (tiny_vqgan.encoder, tiny_vqgan.quant_conv, tiny_vqgan.quantize):
            next(part.parameters())[0] += 1
            after = checkpoints.tokenizer_id(tiny_vqgan)
            assert after != before
            before = after


UNSEEN = [{"num_groups": 2}, {"quantizer": "euclidean"}, {"unit_range": True}]


def same_weights(vqgan: VQGAN, **changes) -> VQGAN:
    other = VQGAN(replace(vqgan.config, **changes)).eval()
    other.load_state_dict(vqgan.state_dict())
    return other


def test_tokenizer_id_counts_what_no_tensor_shows(tiny_vqgan):
    """The same weights give other codes; a field that decides none changes no id."""
    found = [checkpoints.tokenizer_id(same_weights(tiny_vqgan, **c)) for c in ({}, *UNSEEN)]
    assert len(set(found)) == 4
    plain = same_weights(tiny_vqgan, gradient="rotation", dropout=0.1)
    assert checkpoints.tokenizer_id(plain) == found[0]


@pytest.mark.parametrize("change", UNSEEN)
def test_an_id_over_tensors_alone_stays(tiny_vqgan, tmp_path, change):
    """Tokens and priors of a bundle from before the config counted are known by it."""
    plain, vqgan = checkpoints.tokenizer_id(tiny_vqgan), same_weights(tiny_vqgan, **change)
    path = checkpoints.save(tmp_path / "b", name="b", vqgan=vqgan, card={})
    edit_card(path, tokenizer_id=plain)
    old = checkpoints.load(path)
    assert old.tokenizer_id == plain != checkpoints.tokenizer_id(vqgan)
    checkpoints.save(path, name="b", vqgan=vqgan, card=old.card)
    assert checkpoints.load(path).card["tokenizer_id"] == plain
    # It was of this tokenizer only, not of any with these weights.
    assert checkpoints.tokenizer_id(tiny_vqgan, checkpoints.load(path).card) == plain
    for other in UNSEEN:
        if other != change:
            found = same_weights(tiny_vqgan, **other)
            assert checkpoints.tokenizer_id(found, old.card) == checkpoints.tokenizer_id(found)


def test_names_and_unknown_bundles(saved, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "FOLDER", tmp_path)
    assert checkpoints.names() == ["tiny"]
    assert checkpoints.load("tiny").path == tmp_path / "tiny"
    with pytest.raises(ValueError, match=r"no bundle 'nope': give one of those here \(tiny\)"):
        checkpoints.load("nope")


def test_damaged_weights_are_found_by_their_hash(saved):
    file = saved / "vqgan.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(ValueError, match="sha256 differs"):
        checkpoints.load(saved)
    file.unlink()
    with pytest.raises(ValueError, match="cannot be read"):
        checkpoints.load(saved)


@pytest.mark.parametrize("change", ["missing", "extra", "shape", "garbage"])
def test_loading_is_strict(saved, change):
    file = saved / "vqgan.safetensors"
    state = load_file(file)
    name = next(iter(state))
    if change == "missing":
        del state[name]
    elif change == "extra":
        state["more"] = torch.zeros(1)
    else:
        state[name] = torch.zeros(1, 2, 3)
    save_file(state, file)
    if change == "garbage":
        file.write_bytes(b"no safetensors")
    edit_card(saved, sha256={})
    with pytest.raises(ValueError, match="does not fit the model") as caught:
        checkpoints.load(saved)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": 2}, "not a bundle of format 1"),
        ({"vqgan": {"ch": 8, "unknown": 1}}, "does not describe a VQGANConfig"),
        ({"vqgan": {"ch": 0}}, "ch is 0"),
        ({"vqgan": None}, "does not describe a VQGANConfig"),
        ({"vqgan": {"ch": 8.0}}, "ch is 8.0, and must be a whole number"),
        ({"vqgan": {"ch": True}}, "ch is True, and must be a whole number"),
        ({"vqgan": {"ch_mult": 2}}, "ch_mult is 2, and must be a list"),
        ({"vqgan": {"ch_mult": [1, "2"]}}, "an item of ch_mult is '2', and must be a whole number"),
        ({"vqgan": {"dropout": None}}, "dropout is None, and must be a number"),
        ({"vqgan": {"mid_attn": "no"}}, "mid_attn is 'no', and must be true or false"),
        ({"sha256": None}, "sha256 in .* is None: write an object, or leave it out"),
        ({"prior": None}, "prior in .* is None: write"),
        ({"sketch": []}, r"sketch in .* is \[\]: write"),
        ({"clip": "no"}, "clip in .* is 'no': write"),
        ({"decoders": None}, "decoders in .* is None: write"),
        ({"decoders": {"no-gan": None}}, "decoders.no-gan in .* is None: write"),
    ],
)
def test_bad_cards(saved, changes, said):
    edit_card(saved, **changes)
    with pytest.raises(ValueError, match=said):
        checkpoints.load(saved)


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "cannot be read"), ("[]", "not a bundle"), ('{"format": 1}', "of format 1 with a name")],
)
def test_a_file_that_is_no_card(saved, text, said):
    (saved / "config.json").write_text(text)
    with pytest.raises(ValueError, match=said):
        checkpoints.load(saved)


def test_values_beyond_fp16_are_refused_and_the_old_bundle_stays(saved, tiny_vqgan):
    before = (saved / "vqgan.safetensors").read_bytes()
    with torch.no_grad():
        tiny_vqgan.decoder.conv_in.bias[0] = 1e6
    with pytest.raises(ValueError, match=r"decoder\.conv_in\.bias .* not finite in fp16"):
        checkpoints.save(saved, name="tiny", vqgan=tiny_vqgan, card={})
    assert (saved / "vqgan.safetensors").read_bytes() == before


def test_a_save_that_is_cut_off_leaves_the_old_file(saved, monkeypatch, tiny_config):
    def power_cut(*_):
        raise OSError("power cut")

    (saved / "README.md").write_text("card")
    monkeypatch.setattr(os, "replace", power_cut)
    with pytest.raises(OSError, match="power cut"):
        checkpoints.save(saved, name="tiny", vqgan=VQGAN(tiny_config), card={})
    monkeypatch.undo()
    assert checkpoints.load(saved).card["training"] == {"steps": 3}
    assert (saved / "README.md").read_text() == "card"


def test_a_prior_comes_along(tmp_path, tiny_vqgan, prior):
    card = {"prior": {"metrics": 1}}
    path = checkpoints.save(tmp_path / "b", name="b", vqgan=tiny_vqgan, card=card, prior=prior)
    b = checkpoints.load(path)
    assert b.prior.config == prior.config and not b.prior.training
    assert not any(p.requires_grad for p in b.prior.parameters())
    for name, value in prior.state_dict().items():
        assert torch.equal(b.prior.state_dict()[name], value.half().float())
    assert b.card["prior"]["metrics"] == 1
    assert set(b.card["sha256"]) == {"vqgan.safetensors", "prior.safetensors"}


def test_a_prior_of_another_tokenizer_is_refused(tmp_path, tiny_vqgan, prior):
    path = checkpoints.save(tmp_path / "b", name="b", vqgan=tiny_vqgan, card={}, prior=prior)
    card = json.loads((path / "config.json").read_text())
    edit_card(path, prior=card["prior"] | {"tokenizer_id": "0"})
    with pytest.raises(ValueError, match="codes of another tokenizer"):
        checkpoints.load(path)
    edit_card(path, prior={})
    with pytest.raises(ValueError, match="does not describe a PriorConfig"):
        checkpoints.load(path)


def test_an_old_id_stays_where_the_card_lacks_a_newer_field(tiny_vqgan, tmp_path):
    vqgan = same_weights(tiny_vqgan, num_groups=2)
    path = checkpoints.save(tmp_path / "b", name="b", vqgan=vqgan, card={})
    shape = vqgan.config.to_dict()
    del shape["unit_range"]
    edit_card(path, vqgan=shape, tokenizer_id=checkpoints.tokenizer_id(tiny_vqgan))
    assert checkpoints.load(path).tokenizer_id == checkpoints.tokenizer_id(tiny_vqgan)


def test_a_card_that_cannot_be_written_leaves_the_bundle_as_it_was(saved, tiny_config):
    before = {p: p.read_bytes() for p in saved.iterdir()}
    torch.manual_seed(1)
    with pytest.raises(UnicodeEncodeError):
        checkpoints.save(saved, name="b\udce9", vqgan=VQGAN(tiny_config).eval(), card={})
    assert {p: p.read_bytes() for p in saved.iterdir()} == before


def test_a_first_save_that_is_cut_off_is_no_bundle(tmp_path, tiny_vqgan, monkeypatch):
    def power_cut(file, _):
        raise OSError("power cut") if file.suffix == ".safetensors" else AssertionError(file)

    monkeypatch.setattr(module, "write", power_cut)
    with pytest.raises(OSError, match="power cut"):
        checkpoints.save(tmp_path / "b", name="b", vqgan=tiny_vqgan, card={})


def test_a_command_line_finds_a_bundle_by_its_word(saved, tmp_path, monkeypatch):
    spaced = saved.rename(tmp_path / "my own")
    assert checkpoints.load(spaced).word == f"'{spaced}'"
    monkeypatch.setattr(module, "FOLDER", tmp_path)
    assert checkpoints.load("my own").word == "'my own'"


def test_a_bundle_goes_where_it_is_told(saved):
    assert checkpoints.load(saved, "meta").vqgan.last_layer.is_meta


def test_a_damaged_bundle_can_be_saved_anew(saved, tiny_vqgan):
    (saved / "vqgan.safetensors").write_bytes(b"damaged")
    checkpoints.save(saved, name="tiny", vqgan=tiny_vqgan, card={})
    assert checkpoints.load(saved).name == "tiny"
