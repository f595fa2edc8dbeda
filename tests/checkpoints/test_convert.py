"""Foreign tokenizers become bundles that compute the same; what does not fit is refused."""

import argparse
import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import checkpoints
from checkpoints.convert import main
from tests.checkpoints.foreign_models import VQMODEL, Foreign, model_yaml


@pytest.fixture
def sources(tmp_path):
    """A folder with each format's tiny model as its project would save it."""
    folder = tmp_path / "sources"
    (folder / "vqvae").mkdir(parents=True)
    taming = Foreign("taming").state
    loss = {"loss.discriminator.main.0.weight": 3, "loss.perceptual_loss.lin0.model.1.weight": 1}
    loss = {name: torch.ones(size) for name, size in loss.items()}
    torch.save({"epoch": 1, "state_dict": taming | loss}, folder / "last.ckpt")
    save_file(taming, folder / "taming.safetensors")
    (folder / "model.yaml").write_text(model_yaml())
    llamagen = Foreign("llamagen").state | {"quantize.codebook_used": torch.zeros(65536)}
    torch.save({"model": llamagen}, folder / "vq.pt")
    state = Foreign("diffusers", groups=16).state
    save_file(state, folder / "vqvae" / "diffusion_pytorch_model.safetensors")
    (folder / "vqvae" / "config.json").write_text(json.dumps(VQMODEL))
    return folder


def same(bundle, foreign: Foreign, unit: bool = False) -> None:
    """The bundle's model gives the foreign one's codes and pictures."""
    images = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(3)) * 2 - 1
    expected, codes = foreign((images + 1) / 2 if unit else images)
    with torch.inference_mode():
        output, encoding = bundle.vqgan(images)
    assert torch.equal(encoding.indices, codes) and codes.unique().numel() > 3
    expected = expected * 2 - 1 if unit else expected
    torch.testing.assert_close(output, expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "args", "resolution"),
    [
        ("taming", "last.ckpt --config model.yaml", 64),
        ("taming", "last.ckpt", 256),
        ("taming", "taming.safetensors --resolution 128", 128),
        ("diffusers", "vqvae", 256),
        ("diffusers", "vqvae/diffusion_pytorch_model.safetensors --config vqvae/config.json", 256),
        ("llamagen", "vq.pt", 256),
    ],
)
def test_the_bundle_computes_what_the_source_did(
    sources, tmp_path, monkeypatch, capsys, name, args, resolution
):
    monkeypatch.chdir(sources)
    source, *more = args.split()
    main([source, str(tmp_path / "out"), "--format", name, *more])
    bundle = checkpoints.load(tmp_path / "out")
    foreign = Foreign(name, groups=16 if name == "diffusers" else 32)
    same(bundle, foreign)
    config = bundle.vqgan.config
    assert config.resolution == bundle.card["preprocess"]["size"] == resolution
    assert config.attn_resolutions == (resolution // 2,) and config.mid_attn
    assert (config.ch, config.ch_mult, config.num_res_blocks) == (32, (1, 2), 1)
    assert (config.z_channels, config.codebook_size, config.embed_dim) == (8, 16, 4)
    assert config.quantizer == ("cosine" if name == "llamagen" else "euclidean")
    assert config.legacy_beta == (name != "llamagen")
    stored = load_file(tmp_path / "out" / "vqgan.safetensors")
    assert sum(v.numel() for v in stored.values()) == sum(v.numel() for v in foreign.state.values())
    assert torch.equal(stored["encoder.conv_in.weight"], foreign.state["encoder.conv_in.weight"])
    file = sources / source / "diffusion_pytorch_model.safetensors" if source == "vqvae" else source
    sha256 = hashlib.sha256(Path(file).read_bytes()).hexdigest()
    said = {"format": name, "file": Path(file).name, "sha256": sha256}
    assert bundle.card["converted"] == said and bundle.name == "out"
    said = capsys.readouterr().out
    assert f"next: python app.py --bundle {tmp_path / 'out'}" in said
    if source == "last.ckpt":
        assert "training only: loss.discriminator 1, loss.perceptual_loss 1" in said
    if name == "llamagen":
        assert "training only: quantize.codebook_used 1" in said


def test_a_gumbel_model(tmp_path):
    foreign = Foreign("taming", gumbel=True)
    assert "quantize.proj.weight" in foreign.state and "quantize.embed.weight" in foreign.state
    save_file(foreign.state, tmp_path / "g.safetensors")
    (tmp_path / "g.yaml").write_text(model_yaml(kl_weight=1e-8))
    for more in ([], ["--config", str(tmp_path / "g.yaml")]):
        out = tmp_path / f"out{len(more)}"
        main([str(tmp_path / "g.safetensors"), str(out), "--format", "taming", *more])
        bundle = checkpoints.load(out)
        assert bundle.vqgan.config.quantizer == "gumbel" and not bundle.vqgan.config.legacy_beta
        same(bundle, foreign)


def test_pixels_from_zero_to_one(sources, tmp_path):
    main([str(sources / "vqvae"), str(tmp_path / "o"), "--format", "diffusers", "--unit-range"])
    same(checkpoints.load(tmp_path / "o"), Foreign("diffusers", groups=16), unit=True)


def test_older_names_of_diffusers_attention(sources, tmp_path):
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    file, renamed = sources / "vqvae" / "diffusion_pytorch_model.safetensors", {}
    for name, value in load_file(file).items():
        for new, was in old.items():
            name = name.replace(f".{new}.", f".{was}.")
        renamed[name] = value
    assert "decoder.mid_block.attentions.0.proj_attn.bias" in renamed
    save_file(renamed, file)
    main([str(sources / "vqvae"), str(tmp_path / "out"), "--format", "diffusers"])
    same(checkpoints.load(tmp_path / "out"), Foreign("diffusers", groups=16))


@pytest.mark.parametrize("file", ["model.bin", "model.fp16.safetensors", "model.fp16.bin"])
def test_a_folder_as_diffusers_wrote_it_before_safetensors(sources, tmp_path, file):
    foreign, new = Foreign("diffusers", groups=16), f"diffusion_pytorch_{file}"
    (sources / "vqvae" / "diffusion_pytorch_model.safetensors").unlink()
    write = torch.save if file.endswith("bin") else save_file
    write(foreign.state, sources / "vqvae" / new)
    main([str(sources / "vqvae"), str(tmp_path / "out"), "--format", "diffusers"])
    bundle = checkpoints.load(tmp_path / "out")
    same(bundle, foreign)
    assert bundle.card["converted"]["file"] == new


def test_what_the_first_vqmodels_leave_unsaid(sources, tmp_path):
    """As CompVis/ldm-celebahq-256 does: how many groups its norms have."""
    foreign = Foreign("diffusers")
    save_file(foreign.state, sources / "vqvae" / "diffusion_pytorch_model.safetensors")
    said = {k: v for k, v in VQMODEL.items() if k not in ("norm_num_groups", "scaling_factor")}
    (sources / "vqvae" / "config.json").write_text(json.dumps(said))
    main([str(sources / "vqvae"), str(tmp_path / "out"), "--format", "diffusers"])
    same(checkpoints.load(tmp_path / "out"), foreign)


def test_llamagen_average_is_taken_before_the_last_weights(sources, tmp_path, capsys):
    good = Foreign("llamagen").state
    worse = {name: value + 1 for name, value in good.items()}
    torch.save({"model": worse, "ema": good, "steps": 9}, sources / "vq.pt")
    out = tmp_path / "my own"
    main([str(sources / "vq.pt"), str(out), "--format", "llamagen"])
    said = capsys.readouterr().out
    assert "taken: ema" in said and f"next: python app.py --bundle '{out}'" in said
    same(checkpoints.load(out), Foreign("llamagen"))


@pytest.mark.parametrize(
    "start", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."]
)
def test_names_may_be_those_of_a_wrapped_model(sources, tmp_path, start):
    """DistributedDataParallel and torch.compile each put a word before every name."""
    state = {start + name: value for name, value in Foreign("taming").state.items()}
    torch.save({"state_dict": state}, sources / "wrapped.ckpt")
    main([str(sources / "wrapped.ckpt"), str(tmp_path / "out"), "--format", "taming"])
    same(checkpoints.load(tmp_path / "out"), Foreign("taming"))


def test_latent_diffusions_average_is_taken(sources, tmp_path, capsys):
    """Its LitEma lies in the state dict beside the last weights, names without dots."""
    good = Foreign("taming").state
    ema = {"model_ema." + name.replace(".", ""): value for name, value in good.items()}
    ema |= {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(7)}
    last = {name: torch.zeros_like(value) for name, value in good.items()}
    torch.save({"state_dict": last | ema}, sources / "ema.ckpt")
    main([str(sources / "ema.ckpt"), str(tmp_path / "out"), "--format", "taming"])
    assert "taken: state_dict, of these the average (model_ema.*)" in capsys.readouterr().out
    same(checkpoints.load(tmp_path / "out"), Foreign("taming"))


def test_what_moved_the_codes_in_training_is_left_out(sources, tmp_path, capsys):
    """Taming's EMAVQ keeps how often each code was taken, and the sum of what it stood for."""
    state = Foreign("taming").state
    kept = {"cluster_size": torch.ones(16), "embed_avg": torch.ones(16, 4)}
    kept = {f"quantize.embedding.{name}": value for name, value in kept.items()}
    torch.save({"state_dict": state | kept}, sources / "last.ckpt")
    main([str(sources / "last.ckpt"), str(tmp_path / "out"), "--format", "taming"])
    assert "for training only: quantize.embedding 2" in capsys.readouterr().out
    same(checkpoints.load(tmp_path / "out"), Foreign("taming"))


def test_precision_is_the_sources_and_stays(sources, tmp_path):
    """fp16 moves latents over to other codes, and a prior trained elsewhere would not fit."""
    main([str(sources / "last.ckpt"), str(tmp_path / "full"), "--format", "taming"])
    halves = {name: value.half() for name, value in Foreign("taming").state.items()}
    save_file(halves, sources / "half.safetensors")
    main([str(sources / "half.safetensors"), str(tmp_path / "half"), "--format", "taming"])
    for kind, dtype in (("full", torch.float32), ("half", torch.float16)):
        bundle = checkpoints.load(tmp_path / kind)
        for _ in range(2):
            stored = load_file(bundle.path / "vqgan.safetensors")
            assert {value.dtype for value in stored.values()} == {dtype}
            checkpoints.save(bundle.path, name=kind, vqgan=bundle.vqgan, card=bundle.card)


@pytest.mark.parametrize("name", ["in_channels", "out_ch"])
def test_a_yaml_that_leaves_out_the_channels_means_rgb(sources, tmp_path, name):
    text = (sources / "model.yaml").read_text()
    assert f"      {name}: 3\n" in text
    (sources / "model.yaml").write_text(text.replace(f"      {name}: 3\n", ""))
    args = [str(sources / "last.ckpt"), str(tmp_path / "out"), "--format", "taming"]
    main([*args, "--config", str(sources / "model.yaml")])
    same(checkpoints.load(tmp_path / "out"), Foreign("taming"))


def test_one_finer_tensor_keeps_all_of_them_fine(sources, tmp_path):
    state = {name: value.half() for name, value in Foreign("taming").state.items()}
    state["encoder.conv_in.weight"] = Foreign("taming").state["encoder.conv_in.weight"]
    save_file(state, sources / "mixed.safetensors")
    main([str(sources / "mixed.safetensors"), str(tmp_path / "out"), "--format", "taming"])
    stored = load_file(tmp_path / "out" / "vqgan.safetensors")["encoder.conv_in.weight"]
    assert torch.equal(stored, state["encoder.conv_in.weight"])


def test_what_was_not_run_is_said(sources, tmp_path, capsys):
    whole = {"state_dict": Foreign("taming").state, "callbacks": argparse.Namespace()}
    torch.save(whole, sources / "last.ckpt")
    main([str(sources / "last.ckpt"), str(tmp_path / "out"), "--format", "taming"])
    assert "named in the file and not run: argparse.Namespace" in capsys.readouterr().out


def test_a_model_without_attention(tmp_path):
    foreign = Foreign("taming")
    foreign.layers = [layer for layer in foreign.layers if layer[0] != "attn"]
    foreign.state = {name: v for name, v in foreign.state.items() if ".attn" not in name}
    save_file(foreign.state, tmp_path / "w.safetensors")
    (tmp_path / "w.yaml").write_text(model_yaml({"attn_type": "none"}))
    for more in ([], ["--config", str(tmp_path / "w.yaml")]):
        out = tmp_path / f"out{len(more)}"
        main([str(tmp_path / "w.safetensors"), str(out), "--format", "taming", *more])
        bundle = checkpoints.load(out)
        assert not bundle.vqgan.config.mid_attn and not bundle.vqgan.config.attn_resolutions
        same(bundle, foreign)


def test_what_a_vqmodel_says_of_its_pictures_and_its_middle(sources, tmp_path):
    foreign = Foreign("diffusers", groups=16)
    foreign.layers = [at for at in foreign.layers if "mid_block.attentions" not in at[1]]
    foreign.state = {k: v for k, v in foreign.state.items() if "mid_block.attentions" not in k}
    save_file(foreign.state, sources / "vqvae" / "diffusion_pytorch_model.safetensors")
    said = VQMODEL | {"sample_size": 64, "mid_block_add_attention": False}
    (sources / "vqvae" / "config.json").write_text(json.dumps(said))
    main([str(sources / "vqvae"), str(tmp_path / "out"), "--format", "diffusers"])
    bundle = checkpoints.load(tmp_path / "out")
    assert bundle.vqgan.config.resolution == 64 and not bundle.vqgan.config.mid_attn
    same(bundle, foreign)


def test_a_configuration_that_is_named_goes_before_the_one_beside_the_weights(sources, tmp_path):
    beside = sources / "vqvae" / "config.json"
    named = shutil.copy(beside, sources / "mine.json")
    beside.write_text("{}")
    args = [str(sources / "vqvae"), str(tmp_path / "out"), "--format", "diffusers"]
    main([*args, "--config", str(named)])
    same(checkpoints.load(tmp_path / "out"), Foreign("diffusers", groups=16))


# --- refusals --------------------------------------------------------------------------------


def refused(capsys, folder, *args: object) -> str:
    """What the command says when it refuses; it leaves the folder as it was."""
    before = sorted(folder.rglob("*"))
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(list(map(str, args)))
    assert stop.value.code == 2 and sorted(folder.rglob("*")) == before
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("error: ") and said.err.count("\n") == 1
    return said.err


def cut(path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def rewrite(path, **changes) -> None:
    """A safetensors file with tensors added, replaced or (None) taken out; __ is a dot."""
    changes = {name.replace("__", "."): value for name, value in changes.items()}
    state = load_file(path) | changes
    save_file({k: v for k, v in state.items() if v is not None}, path)


BAD_FILES = {
    "missing": (lambda p: p.unlink(), "there is no file"),
    "empty": (lambda p: p.write_bytes(b""), "is empty"),
    "text": (lambda p: p.write_text("a picture of a cat\n" * 99), "is no torch checkpoint"),
    "cut": (cut, "is not whole: its end is missing"),
    "nothing": (lambda p: torch.save({"epoch": 3}, p), "holds no weights"),
    "a list": (lambda p: torch.save([1, 2], p), "holds no weights"),
    "a zip": (
        lambda p: shutil.move(shutil.make_archive(p.parent / "z", "zip", p.parent / "vqvae"), p),
        "is a zip file, but no torch checkpoint",
    ),
    "a folder": (lambda p: (p.unlink(), p.mkdir()), "is a folder"),
    "other names": (
        lambda p: torch.save({"state_dict": {"conv.weight": torch.ones(1)}}, p),
        "has no encoder.down.0.block.0.norm1.weight, as taming checkpoints do: is it a VQGAN",
    ),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files(sources, tmp_path, capsys, case):
    spoil, sentence = BAD_FILES[case]
    spoil(sources / "last.ckpt")
    said = refused(capsys, tmp_path, sources / "last.ckpt", tmp_path / "o", "--format", "taming")
    assert sentence in said


BAD_TENSORS = {
    "unknown": ({"encoder__extra": torch.ones(1)}, "has no place here for encoder.extra"),
    "another part": ({"model_ema__decay": torch.ones(1)}, "no place here for model_ema.decay"),
    "average": (
        {"model_ema__quant_convbias": torch.ones(4), "model_ema__encoderextra": torch.ones(1)},
        "has no place here for model_ema.encoderextra",
    ),
    "lost": ({"decoder__up__0__block__1__conv2__bias": None}, "lacks decoder.up.0.block.1.conv2"),
    "lost, wanted early": ({"decoder__conv_out__weight": None}, "lacks decoder.conv_out.weight"),
    "shape": ({"quant_conv__weight": torch.ones(5, 8, 1, 1)}, "quant_conv.weight is 5x8x1x1, and"),
    "flat": ({"encoder__conv_in__weight": torch.ones(9)}, "has 1 dimensions, and here it has 4"),
    "numbers": ({"quant_conv__bias": torch.ones(4).long()}, "quant_conv.bias is torch.int64"),
    "nan": ({"quant_conv__bias": torch.full((4,), torch.nan)}, "not finite in float32"),
    "grey": ({"encoder__conv_in__weight": torch.ones(32, 1, 3, 3)}, "has in_channels 1: only RGB"),
    "grey out": ({"decoder__conv_out__weight": torch.ones(1, 32, 3, 3)}, "has out_ch 1: only RGB"),
    "turned": ({"quant_conv__weight": torch.ones(8, 4, 1, 1)}, "quant_conv.weight is 8x4x1x1, and"),
    "odd widths": (
        {"encoder__conv_in__weight": torch.ones(48, 3, 3, 3)},
        "needs multiples of 48",
    ),
}


@pytest.mark.parametrize("case", BAD_TENSORS)
def test_every_tensor_must_have_its_place(sources, tmp_path, capsys, case):
    changes, sentence = BAD_TENSORS[case]
    file = sources / "taming.safetensors"
    rewrite(file, **changes)
    assert sentence in refused(capsys, tmp_path, file, tmp_path / "o", "--format", "taming")


def test_bad_safetensors(sources, tmp_path, capsys):
    file = sources / "taming.safetensors"
    cut(file)
    assert "or not whole" in refused(capsys, tmp_path, file, tmp_path / "o", "--format", "taming")
    file.write_text("weights")
    assert "no safetensors" in refused(capsys, tmp_path, file, tmp_path / "o", "--format", "taming")


@pytest.mark.parametrize("name", ["taming", "diffusers", "llamagen"])
def test_another_formats_names(sources, tmp_path, capsys, name):
    files = {"taming": "last.ckpt", "diffusers": "vqvae/diffusion_pytorch_model.safetensors"}
    for other in {"taming", "diffusers", "llamagen"} - {name}:
        source = sources / files.get(other, "vq.pt")
        said = refused(capsys, tmp_path, source, tmp_path / "o", "--format", name)
        assert f"its names are those of --format {other}" in said


def test_where_the_bundle_may_go(sources, tmp_path, capsys):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    for out in ("folder", "file"):
        said = refused(
            capsys, tmp_path, sources / "last.ckpt", tmp_path / out, "--format", "taming"
        )
        assert "is there already" in said
    said = refused(
        capsys, tmp_path, sources / "last.ckpt", tmp_path / "file" / "o", "--format", "taming"
    )
    assert "file" in said


BAD_YAML = {
    "fits not": (
        model_yaml({"ch": 64}),
        "encoder.conv_in.weight is 32x3x3x3, and by its configuration 64x3",
    ),
    "more blocks": (model_yaml({"num_res_blocks": 2}), "lacks decoder.up.0.block.2.conv1.bias"),
    "fewer levels": (model_yaml({"ch_mult": [1]}), "has no place here for"),
    "other codes": (model_yaml(n_embed=32), "quantize.embedding.weight is 16x4, and by its"),
    "tanh": (model_yaml({"tanh_out": True}), "tanh_out is true, our VQGAN can only do false"),
    "pooling": (model_yaml({"resamp_with_conv": False}), "resamp_with_conv is false, our VQGAN"),
    "linear": (model_yaml({"attn_type": "linear"}), 'attn_type is "linear", our VQGAN can only'),
    "two outputs": (
        model_yaml({"double_z": True}),
        "double_z is true, our VQGAN can only do false",
    ),
    "unknown": (model_yaml({"window": 8}), "window is not known here, so it would not be obeyed"),
    "unknown and off": (
        model_yaml({"window": 0}),
        "window is not known here, so it would not be obeyed",
    ),
    "groups": (model_yaml({"ch": 40}), "num_groups is 32: it must divide"),
    "size": (model_yaml({"resolution": 63}), "resolution is 63: it must be a multiple"),
    "words": (model_yaml({"ch": "many"}), "is no VQGAN of ours"),
    "no section": ("model: {params: {n_embed: 3}}", "'ddconfig' is missing or misplaced"),
    "a list": ("[1, 2]", "it holds no names and values"),
    "no yaml": ("{", "cannot be read as a configuration"),
    "code": ("!!python/object/apply:os.mkdir [pwned]", "cannot be read as a configuration"),
    "nothing": (None, "cannot be read as a configuration"),
}


@pytest.mark.parametrize("case", BAD_YAML)
def test_bad_yaml(sources, tmp_path, monkeypatch, capsys, case):
    text, sentence = BAD_YAML[case]
    monkeypatch.chdir(sources)
    (sources / "model.yaml").unlink()
    if text is not None:
        (sources / "model.yaml").write_text(text)
    args = "last.ckpt", "o", "--format", "taming", "--config", "model.yaml"
    assert sentence in refused(capsys, tmp_path, *args)


BAD_JSON = {
    "MoVQ": ({"norm_type": "spatial"}, 'norm_type is "spatial", our VQGAN can only do "group"'),
    "class": ({"_class_name": "AutoencoderKL"}, 'can only do "VQModel"'),
    "activation": ({"act_fn": "mish"}, 'act_fn is "mish"'),
    "unknown": ({"windows": 3}, "windows is not known here"),
    "blocks": ({"up_block_types": ["UpDecoderBlock2D"] * 2}, "encoder and decoder differ"),
    "kind": ({"down_block_types": ["Down", "Down"]}, "is no configuration of a VQModel we know"),
    "widths": ({"block_out_channels": [32, 48]}, "needs multiples of 32"),
    "nothing wide": ({"block_out_channels": [0, 0]}, "needs multiples of 0"),
    "groups": ({"norm_num_groups": 24}, "num_groups is 24: it must divide"),
    "codes as wide as latents": ({"vq_embed_dim": None}, "16x4, and by its configuration 16x8"),
    "levels": ({"block_out_channels": [32, 64, 64]}, "encoder and decoder differ"),
    "misfit": ({"latent_channels": 4}, "and by its configuration"),
}


@pytest.mark.parametrize("case", BAD_JSON)
def test_bad_vqmodels(sources, tmp_path, capsys, case):
    changes, sentence = BAD_JSON[case]
    (sources / "vqvae" / "config.json").write_text(json.dumps(VQMODEL | changes))
    said = refused(capsys, tmp_path, sources / "vqvae", tmp_path / "o", "--format", "diffusers")
    assert sentence in said


def test_configurations_at_the_wrong_place(sources, tmp_path, capsys):
    (sources / "vqvae" / "config.json").unlink()
    said = refused(capsys, tmp_path, sources / "vqvae", tmp_path / "o", "--format", "diffusers")
    assert "name it with --config" in said
    args = sources / "vq.pt", tmp_path / "o", "--format", "llamagen"
    said = refused(capsys, tmp_path, *args, "--config", sources / "model.yaml")
    assert "LlamaGen has no configuration file" in said
    assert "resolution is 33" in refused(capsys, tmp_path, *args, "--resolution", 33)
    assert "resolution is 0" in refused(capsys, tmp_path, *args, "--resolution", 0)
