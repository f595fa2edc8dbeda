"""ImageNet weights of EfficientNet-Lite0 under timm's names."""

from __future__ import annotations

import importlib.util

import pytest
import timm
import torch

from clip_guidance import lite
from vqgan import dataset

installed = pytest.mark.skipif(
    importlib.util.find_spec(lite.PACKAGE) is None, reason="requirements-dev.txt brings the package"
)


@pytest.fixture(scope="module")
def trunk():
    return timm.create_model(lite.TIMM, num_classes=0).eval()


@pytest.mark.parametrize(
    ("theirs", "timms"),
    [
        ("_conv_stem.weight", "conv_stem.weight"),
        ("_blocks.0._depthwise_conv.weight", "blocks.0.0.conv_dw.weight"),
        ("_blocks.0._bn2.running_var", "blocks.0.0.bn2.running_var"),
        ("_blocks.1._bn0.bias", "blocks.1.0.bn1.bias"),
        ("_blocks.4._project_conv.weight", "blocks.2.1.conv_pwl.weight"),
        ("_blocks.15._bn2.weight", "blocks.6.0.bn3.weight"),
        ("_bn1.num_batches_tracked", "bn2.num_batches_tracked"),
    ],
)
def test_names(theirs, timms):
    assert lite.timm_key(theirs) == timms


def test_an_unknown_name():
    with pytest.raises(ValueError, match="no tensor of EfficientNet-Lite0"):
        lite.timm_key("_swish.weight")


@installed
def test_every_tensor_has_its_place(trunk):
    state, whole = lite.imagenet(), timm.create_model(lite.TIMM).state_dict()
    assert {k: v.shape for k, v in state.items()} == {k: v.shape for k, v in whole.items()}
    lite.start_from_imagenet(trunk)
    assert torch.equal(trunk.conv_head.weight, state["conv_head.weight"])
    assert trunk.bn1.eps == 1e-3  # TensorFlow's


@installed
def test_padding_and_range_are_those_of_its_training(fixtures):
    """What enters a BatchNorm has about the mean and variance that it remembers, most nearly so
    with TensorFlow's padding and inputs in [-1, 1]."""
    photos = [p for p in dataset.scan(fixtures) if p.photo]
    pixels = torch.stack([dataset.to_tensor(dataset.whole(p, 128)) for p in photos])
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    ours = strangeness(lite.TIMM, pixels)
    assert ours < strangeness(lite.TIMM, ((pixels + 1) / 2 - mean) / std)
    assert ours < strangeness(lite.TIMM, (pixels + 1) / 2)
    assert ours < 0.9 * strangeness("efficientnet_lite0", pixels)  # symmetric padding


def strangeness(name: str, pixels: torch.Tensor) -> float:
    """Mean distance of channel means to the remembered ones, in standard deviations, plus that of
    the logarithms of the variances."""
    trunk = timm.create_model(name, num_classes=0).eval()
    lite.start_from_imagenet(trunk)
    seen = []
    for module in trunk.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.register_forward_hook(lambda m, x, _: seen.append((m, x[0])))
    with torch.no_grad():
        trunk(pixels)
    off = []
    for m, x in seen:
        kept = m.running_var + m.eps
        off.append((x.mean((0, 2, 3)) - m.running_mean).abs() / kept.sqrt())
        off[-1] += ((x.var((0, 2, 3)) + m.eps) / kept).log().abs()
    return float(torch.cat(off).mean())


def test_frozen_stages(trunk):
    frozen = lite.freeze_stages(trunk, 2)
    still = {n for n, p in trunk.named_parameters() if not p.requires_grad}
    assert all(n.startswith(("conv_stem", "bn1", "blocks.0.", "blocks.1.")) for n in still)
    assert still and len(frozen) == 4
    trunk.requires_grad_(True)
    assert lite.freeze_stages(trunk, 0) == []
    assert all(p.requires_grad for p in trunk.parameters())
