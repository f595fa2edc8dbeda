"""The CLIP wrapper: unit vectors, gradients to the pixels, folders and published names."""

from __future__ import annotations

import logging
import time

import open_clip
import pytest
import torch

from clip_guidance import model


def images(n=2, side=32, seed=0):
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_vectors_have_unit_length(clip):
    texts = clip.encode_text(["a red apple", "", "🍎", "苹果", "x" * 10_000, "果" * 10_000])
    pictures = clip.encode_image(images())
    assert clip.embedding_size == 12 and texts.shape == (6, 12) and pictures.shape == (2, 12)
    assert texts.dtype == pictures.dtype == torch.float32
    for vectors in (texts, pictures):
        assert torch.allclose(vectors.norm(dim=1), torch.ones(len(vectors)), atol=1e-5)
    assert (texts @ texts.T - torch.eye(6)).fill_diagonal_(0).max() < 0.999  # all differ


def test_no_texts(clip):
    assert clip.encode_text([]).shape == (0, 12)


def test_a_long_text_is_cut_quickly(clip):
    began = time.process_time()  # of a busy machine's clock nothing follows
    clip.encode_text(["果" * 100_000])
    assert time.process_time() - began < 2
    words = "a red apple on a green table near the old blue house by the sea"
    first = clip.encode_text([words, words + " and more"])
    assert torch.equal(first[0], first[1])


def test_a_single_text_is_refused(clip):
    with pytest.raises(ValueError, match="list of texts"):
        clip.encode_text("a red apple")


def test_pixels_are_normalised_as_the_config_says(clip, config):
    """[-1, 1] -> [0, 1] -> minus mean over std: what open_clip's own transform feeds the model."""
    x = images()
    mean, std = (torch.tensor(config["preprocess_cfg"][k]).view(3, 1, 1) for k in ("mean", "std"))
    wanted = clip.model.encode_image(((x + 1) / 2 - mean) / std, normalize=True)
    assert torch.allclose(clip.encode_image(x), wanted, atol=1e-5)


def test_any_size_is_resized(clip):
    flat = torch.full((1, 3, 70, 50), 0.3)
    small = torch.full((1, 3, 32, 32), 0.3)
    assert torch.allclose(clip.encode_image(flat), clip.encode_image(small), atol=1e-5)
    with pytest.raises(ValueError, match=r"expected \(B, 3, H, W\)"):
        clip.encode_image(torch.zeros(3, 32, 32))


@pytest.mark.parametrize("side", [32, 48])
def test_differentiable_to_the_pixels(clip, side):
    x = images(side=side).requires_grad_(True)
    target = clip.encode_text(["a cat"])
    before = clip.encode_image(x) @ target.T
    before.sum().backward()
    assert x.grad.isfinite().all() and (x.grad != 0).float().mean() > 0.9
    assert all(p.grad is None for p in clip.parameters())
    with torch.no_grad():
        after = clip.encode_image(x + 0.05 * x.grad / x.grad.abs().mean()) @ target.T
    assert (after > before).all()


def test_strided_depthwise_convolutions_compute_in_float32_under_autocast():
    """Their bfloat16 gradient is some 20 times slower on a CPU; dense ones stay in bfloat16."""
    torch.manual_seed(0)
    convs = torch.nn.ModuleDict(
        {
            "depthwise": torch.nn.Conv2d(8, 8, 3, stride=2, groups=8),
            "unstrided": torch.nn.Conv2d(8, 8, 3, groups=8),
            "dense": torch.nn.Conv2d(8, 8, 3, stride=2),
        }
    ).requires_grad_(False)
    x = torch.randn(2, 8, 9, 9).bfloat16()
    exact = {name: conv(x.float()) for name, conv in convs.items()}
    model.quicken(convs)
    with torch.autocast("cpu", torch.bfloat16):
        found = {name: conv(x) for name, conv in convs.items()}
    same = {name: torch.equal(y, exact[name].bfloat16()) for name, y in found.items()}
    assert same == {"depthwise": True, "unstrided": False, "dense": False}
    assert all(y.dtype == torch.bfloat16 for y in found.values())


def test_the_small_clip_has_strided_depthwise_convolutions_quickened():
    trunk = torch.nn.Sequential(torch.nn.Conv2d(4, 4, 3, stride=2, groups=4))
    wrapped = torch.nn.Module()
    wrapped.visual = trunk
    trunk.preprocess_cfg = {"size": 8, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    model.Clip("tiny", wrapped, None)
    assert "forward" in vars(trunk[0])


def test_round_trip(folder, clip):
    again = model.load(folder)
    assert again.name == folder.name and again.size == 32
    assert not again.training and not any(p.requires_grad for p in again.parameters())
    x = images()
    assert torch.allclose(again.encode_image(x), clip.encode_image(x), atol=2e-3)  # fp16
    assert torch.allclose(again.encode_text(["hi"]), clip.encode_text(["hi"]), atol=2e-3)


def test_loading_does_not_alarm(folder, caplog):
    with caplog.at_level(logging.WARNING):
        model.load(folder)
    assert not caplog.records


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("clip.json", b'{"model_cfg": ', "cannot be read"),
        ("clip.json", b"[]", "describes no CLIP"),
        ("clip.json", b'{"model_cfg": {"embed_dim": 3}}', "cannot build"),
        (
            "clip.json",
            b'{"model_cfg": {"embed_dim": 3, "vision_cfg": {"x": 1}, "text_cfg": {}}}',
            "cannot build",
        ),
        ("clip.safetensors", b"not weights", "does not fit"),
        ("clip.safetensors", None, "cannot be read"),
    ],
)
def test_a_damaged_folder_is_one_sentence(folder, name, content, says):
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=says) as caught:
        model.load(folder)
    assert "\n" not in str(caught.value)


def test_weights_of_another_model_are_refused(folder, config, clip):
    from checkpoints.bundle import pack

    state = clip.model.state_dict()
    del state["text.ln_final.weight"]
    (folder / model.WEIGHTS).write_bytes(pack(state))
    with pytest.raises(ValueError, match=r"does not fit its clip\.json: .*text\.ln_final\.weight"):
        model.load(folder)


def test_a_folder_without_clip(tmp_path):
    with pytest.raises(ValueError, match=r"holds no clip\.json"):
        model.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "says"),
    [("ViT-B-33", "there is no CLIP"), ("", "there is no"), ("ViT-B-32/nope", "no weights 'nope'")],
)
def test_an_unknown_name(name, says, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=says):
        model.load(name)


def test_a_published_name_without_network(monkeypatch):
    def offline(*args, **kwargs):
        raise OSError("connection refused\nand a long trace")

    monkeypatch.setattr("open_clip.factory.download_pretrained", offline)
    with pytest.raises(ValueError, match=r"could not be downloaded.*connection refused") as caught:
        model.load("ViT-B-32")
    assert "\n" not in str(caught.value) and "laion2b_s34b_b79k" in str(caught.value)


def test_a_published_name_goes_through_the_same_factory(monkeypatch, tmp_path, config, clip):
    """A config registered with open_clip stands for a published model; its file is here."""
    import json

    from safetensors.torch import save_file

    (tmp_path / "tiny-published.json").write_text(json.dumps(config["model_cfg"]), "utf-8")
    open_clip.add_model_config(tmp_path / "tiny-published.json")
    weights = tmp_path / "weights.safetensors"
    save_file({k: v.contiguous() for k, v in clip.model.state_dict().items()}, weights)
    tag = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.25, 0.5), "url": "", "quick_gelu": True}
    table = {"tiny-published": {"ours": tag}}
    for module in ("open_clip.pretrained", "open_clip.factory"):
        monkeypatch.setattr(f"{module}._PRETRAINED", table, raising=False)
    monkeypatch.setattr("open_clip.factory.download_pretrained", lambda *a, **k: str(weights))
    found = model.load("tiny-published")
    assert found.name == "tiny-published" and not any(p.requires_grad for p in found.parameters())
    assert type(found.model.text.transformer.resblocks[0].mlp.gelu).__name__ == "QuickGELU"
    assert found.encode_text(["a"]).shape == (1, 12)


def test_default_tags():
    tags = open_clip.list_pretrained_tags_by_model("ViT-B-32")
    assert model.default_tag("ViT-B-32", tags) == "laion2b_s34b_b79k"
    assert model.default_tag("RN50", ["openai", "yfcc15m"]) == "openai"
