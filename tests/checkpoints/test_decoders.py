"""Extra decoders: exported from a run, loaded strictly, sharing the bundle's tokens."""

import json
import shutil

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import checkpoints
from checkpoints.decoders import main
from checkpoints.export import export
from training.checkpoint import load, save
from vqgan.train import main as train

MODEL = (
    "--resolution 16 --ch 8 --ch-mult 1 2 --num-res-blocks 1 --attn-resolutions --no-mid-attn "
    "--num-groups 4 --z-channels 8 --codebook-size 16 --embed-dim 4 --quantizer cosine"
)
SCHEDULE = (
    "--steps 3 --batch 2 --crop 16 --no-bf16 --log-every 1 --sample-every 0 --device cpu "
    "--perceptual-weight 0"
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A bundle, a run with its encoder frozen, and one that moved the encoder."""
    root = tmp_path_factory.mktemp("decoders")
    (root / "data").mkdir()
    for i in range(4):
        Image.effect_noise((16, 16), 90 + i).convert("RGB").save(root / "data" / f"{i}.png")
    common = ["--data", str(root / "data"), *SCHEDULE.split()]
    train([*common, "--out", str(root / "base"), *MODEL.split()])
    export(root / "base", root / "bundle")
    start = ["--init", str(root / "bundle")]
    train([*common, "--out", str(root / "frozen"), *start, "--freeze-encoder"])
    train([*common, "--out", str(root / "moved"), *start])
    return root


@pytest.fixture
def bundle(trained, tmp_path):
    return shutil.copytree(trained / "bundle", tmp_path / "bundle")


def test_a_decoder_reads_the_same_codes_and_draws_its_own_picture(trained, bundle, capsys):
    assert checkpoints.load(bundle).decoders == {}
    main([str(trained / "frozen"), str(bundle), "no-perceptual"])
    assert capsys.readouterr().out.startswith("no-perceptual: perceptual and gan off, 3 steps")
    loaded = checkpoints.load(bundle)
    (other,) = loaded.decoders.values()
    assert other.encoder is loaded.vqgan.encoder and other.quantize is loaded.vqgan.quantize
    assert not other.training and not any(p.requires_grad for p in other.parameters())
    shadow = load(trained / "frozen" / "last.pt")["task"]["ema"]["shadow"]
    for name, value in other.state_dict().items():
        torch.testing.assert_close(value, shadow[name].half().float(), atol=0, rtol=0)
    codes = torch.arange(16).view(1, 4, 4)
    assert not torch.equal(other.decode_indices(codes), loaded.vqgan.decode_indices(codes))


def test_the_card_says_what_was_off(trained, bundle):
    main([str(trained / "frozen"), str(bundle), "plain"])
    card = json.loads((bundle / "config.json").read_text())
    entry = card["decoders"]["plain"]
    assert entry["off"] == ["perceptual", "gan"] and entry["steps"] == 3
    assert "--freeze-encoder" in entry["commands"][-1]
    assert entry["train"]["freeze_encoder"] is True
    assert entry["tokenizer_id"] == card["tokenizer_id"]
    # A new export of the model with the same tokens keeps them.
    export(trained / "base", bundle)
    assert list(checkpoints.load(bundle).decoders) == ["plain"]


def test_what_is_refused(trained, bundle, capsys):
    for run, name, sentence in (
        ("moved", "x", "the encoder or codebook of"),
        ("frozen", "../x", "use small letters, digits and hyphens"),
        ("frozen", "x/../../x", "use small letters, digits and hyphens"),
        ("none", "x", "last.pt"),
    ):
        with pytest.raises(SystemExit) as stop:
            main([str(trained / run), str(bundle), name])
        assert stop.value.code == 2 and sentence in capsys.readouterr().err
    assert not (bundle / "decoders").exists()


def test_loading_is_strict(trained, bundle):
    main([str(trained / "frozen"), str(bundle), "plain"])
    file, card_path = bundle / "decoders" / "plain.safetensors", bundle / "config.json"
    data, card = file.read_bytes(), json.loads(card_path.read_text())
    file.write_bytes(data[:-1] + b"x")
    with pytest.raises(ValueError, match="sha256 differs"):
        checkpoints.load(bundle)
    file.unlink()
    with pytest.raises(ValueError, match="cannot be read"):
        checkpoints.load(bundle)
    shutil.copy(bundle / "vqgan.safetensors", file)  # a whole model is no decoder
    del card["sha256"]["decoders/plain.safetensors"]
    card_path.write_text(json.dumps(card))
    with pytest.raises(ValueError, match=r"does not fit the model: .* is not the decoder's"):
        _ = checkpoints.load(bundle).decoders
    file.write_bytes(data)
    card["decoders"]["plain"]["tokenizer_id"] = "0" * 64
    card_path.write_text(json.dumps(card))
    with pytest.raises(ValueError, match="codes of another tokenizer"):
        _ = checkpoints.load(bundle).decoders


def altered(trained, run, part: str, **values):
    """The run with the frozen encoder, whose checkpoint says something else."""
    state = load(trained / "frozen" / "last.pt")
    state["config"][part] |= values
    save(run / "last.pt", state)
    return run


def test_decoders_are_added_to_what_the_bundle_has(trained, bundle, tmp_path):
    sharper = altered(trained, tmp_path / "gan", "train", gan_weight=0.5)
    for run, name in ((trained / "frozen", "plain"), (sharper, "gan-on")):
        main([str(run), str(bundle), name])
    card = checkpoints.load(bundle).card
    off = {name: entry["off"] for name, entry in card["decoders"].items()}
    assert off == {"plain": ["perceptual", "gan"], "gan-on": ["perceptual"]}
    files = {f"decoders/{name}.safetensors" for name in off}
    assert card["sha256"].keys() == {"vqgan.safetensors"} | files


def test_another_model_and_another_programs_file_are_refused(trained, bundle, tmp_path, capsys):
    """num_groups shows in no tensor."""
    altered(trained, tmp_path / "groups", "model", num_groups=2)
    save(tmp_path / "alien" / "last.pt", {"step": 1})
    for run, sentence in (("groups", "another shape"), ("alien", "is not a VQGAN run's")):
        with pytest.raises(SystemExit):
            main([str(tmp_path / run), str(bundle), "x"])
        assert sentence in capsys.readouterr().err
    assert not (bundle / "decoders").exists()


def test_the_bundle_may_be_a_shipped_one_by_its_name(trained, bundle, tmp_path, monkeypatch):
    monkeypatch.setattr("checkpoints.bundle.FOLDER", bundle.parent)
    main([str(trained / "frozen"), "bundle", "plain"])
    assert (bundle / "decoders" / "plain.safetensors").is_file()


def test_decoders_of_a_bundle_with_an_older_id_bear_that_id(trained, bundle, tmp_path):
    """Ids were once over tensors alone; today's counts num_groups."""
    run = altered(trained, tmp_path / "run", "model", num_groups=2)
    card = json.loads((bundle / "config.json").read_text())
    card["vqgan"]["num_groups"] = 2
    (bundle / "config.json").write_text(json.dumps(card))
    main([str(run), str(bundle), "plain"])
    assert list(checkpoints.load(bundle).decoders) == ["plain"]


def test_an_incomplete_decoder_is_refused(trained, bundle):
    main([str(trained / "frozen"), str(bundle), "plain"])
    file = bundle / "decoders" / "plain.safetensors"
    state = load_file(file)
    del state["decoder.conv_out.bias"]
    save_file(state, file)
    card = json.loads((bundle / "config.json").read_text())
    del card["sha256"]["decoders/plain.safetensors"]
    (bundle / "config.json").write_text(json.dumps(card))
    with pytest.raises(ValueError, match=r"does not fit the model: .*conv_out\.bias"):
        _ = checkpoints.load(bundle).decoders


def test_decoders_go_where_the_bundle_goes(trained, bundle):
    main([str(trained / "frozen"), str(bundle), "plain"])
    loaded = checkpoints.load(bundle)
    loaded.device = "meta"  # one that every computer has
    assert loaded.decoders["plain"].last_layer.is_meta
