"""From a sketch to codes: one of the paper's "other tasks", with a condition that has places.

The paper (section 3.2) gives the transformer a condition grid as a prefix: codes of edges, depth or
segments, by a second VQGAN. Here lines are the condition, and the prior stays as it is. A small
convolutional network looks at the lines around each cell and adds to the prior's residual stream
where that cell's code is predicted, before every layer and after the last; as in ControlNet (Zhang
et al., 2023, section 3.1) what it adds is zero at first. So one prior writes with and without a
sketch, text conditions go on working, and no code more has to be read.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import asdict, dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from prior.model import GPT, PriorConfig
from vqgan.dataset import to_tensor
from vqgan.images import letterbox

SMOOTH = 1.2  # pixels, standard deviation of the blur before edges are looked for
PULL = 3.0  # guidance scale at which lines are followed closely (`bench.sketches`)
FAINT, STRONG = 0.12, 0.28  # gradient per pixel of a range of 1: every edge, and the outlines


@dataclass(frozen=True)
class SketchConfig:
    """Shape of a sketch reader; all but `channels` follows from the prior and its tokenizer."""

    height: int = 16  # rows of the prior's grid
    width: int = 16  # columns of it
    patch: int = 8  # pixels along a cell
    layers: int = 8  # of the prior
    dim: int = 256  # of the prior
    channels: int = 192  # of the reader

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} is {value}: it must be a whole number of at least 1")

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of a sketch, in pixels."""
        return self.height * self.patch, self.width * self.patch

    def to_dict(self) -> dict:
        return asdict(self)


def config_for(prior: PriorConfig, patch: int, channels: int = 192) -> SketchConfig:
    """The shape that fits a prior. ValueError where the prior has no start token."""
    if not prior.prefix:
        raise ValueError("this prior begins with a random code: a sketch needs a start token")
    return SketchConfig(prior.height, prior.width, patch, prior.layers, prior.dim, channels)


class SketchReader(nn.Module):
    """Lines -> what they add to the prior's residual stream, cell by cell."""

    def __init__(self, config: SketchConfig):
        super().__init__()
        self.config, c = config, config.channels
        self.stem = nn.Conv2d(config.patch**2, c, 3, padding=1)
        # Together they look 8 cells far in every direction: half of a grid of 16.
        self.around = nn.ModuleList(nn.Conv2d(c, c, 3, padding=d, dilation=d) for d in (1, 2, 4))
        self.shifts = nn.Linear(c, (config.layers + 1) * config.dim)
        nn.init.zeros_(self.shifts.weight)
        nn.init.zeros_(self.shifts.bias)

    def forward(self, lines: Tensor) -> Tensor:
        """lines (B, 1, H, W) floats, 1 on a line and 0 elsewhere -> (B, h w, layers + 1, dim)."""
        if tuple(lines.shape[1:]) != (1, *self.config.size):
            raise ValueError(
                f"the sketch is of shape {tuple(lines.shape)}: expected (B, 1, "
                f"{self.config.size[0]}, {self.config.size[1]})"
            )
        x = F.gelu(self.stem(F.pixel_unshuffle(lines, self.config.patch)))
        for conv in self.around:
            x = x + F.gelu(conv(x))
        x = self.shifts(x.flatten(2).transpose(1, 2))
        return x.unflatten(2, (self.config.layers + 1, self.config.dim))


# --- pictures -> lines ----------------------------------------------------------------------------


def edges(pictures: Tensor) -> Tensor:
    """Lines one or two pixels wide where a picture's colour changes: a sketch to learn from.

    pictures (B, 3, H, W) floats in [-1, 1] -> (B, 2, H, W) bool: the outlines, and every edge.
    Sobel's gradient of the blurred picture, in whichever colour channel is steepest, where it is
    steepest across the edge (Canny, 1986, without its hysteresis).
    """
    x = _blur(pictures.float().add(1).div(2).clamp(0, 1))
    sobel = x.new_tensor([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]).div(8)
    kernels = torch.stack([sobel, sobel.t()])[:, None]  # to the right, downwards
    b, c, h, w = x.shape
    slopes = F.conv2d(_padded(x.reshape(b * c, 1, h, w), 1), kernels).view(b, c, 2, h, w)
    steepest = slopes.square().sum(2).argmax(1)[:, None, None].expand(b, 1, 2, h, w)
    gx, gy = slopes.gather(1, steepest)[:, 0].unbind(1)  # (B, H, W) each
    height = torch.hypot(gx, gy)
    # Of the four directions through a pixel, the one across the edge.
    turn = torch.atan2(gy, gx).div(torch.pi / 4).round().long() % 4
    around = F.pad(height, (1, 1, 1, 1))
    ridge = torch.zeros_like(height, dtype=torch.bool)
    for number, (dy, dx) in enumerate(((0, 1), (1, 1), (1, 0), (1, -1))):
        one = around[:, 1 + dy : 1 + dy + h, 1 + dx : 1 + dx + w]
        other = around[:, 1 - dy : 1 - dy + h, 1 - dx : 1 - dx + w]
        ridge |= (turn == number) & (height >= one) & (height > other)
    # A step of 1 has a slope of about 1 / (SMOOTH sqrt(2 pi)) a pixel after the blur.
    step = height * (SMOOTH * (2 * torch.pi) ** 0.5)
    return torch.stack([ridge & (step > STRONG), ridge & (step > FAINT)], 1)


def _blur(x: Tensor) -> Tensor:
    """Gaussian, edges repeated."""
    reach = int(3 * SMOOTH)
    kernel = torch.exp(-torch.arange(-reach, reach + 1, device=x.device).square() / (2 * SMOOTH**2))
    kernel = (kernel / kernel.sum())[None, None]
    b, c, h, w = x.shape
    x = _padded(x.reshape(b * c, 1, h, w), reach)
    x = F.conv2d(F.conv2d(x, kernel[..., None]), kernel[:, :, None])
    return x.view(b, c, h, w)


def _padded(x: Tensor, by: int) -> Tensor:
    return F.pad(x, (by, by, by, by), mode="replicate")


def thicken(lines: Tensor, width: int) -> Tensor:
    """Lines (B, 1, H, W) of pixels -> the same with every pixel `width` (an odd number) wide."""
    return F.max_pool2d(lines, width, stride=1, padding=width // 2)


def drawn(canvas: np.ndarray, size: tuple[int, int]) -> Tensor:
    """A drawing -> lines (1, 1, H, W) float32, 1 where something was drawn.

    canvas (h, w) uint8, 255 where the pen was and 0 elsewhere, of any size and the same shape of
    page. Lines thinner than a pixel of `size` stay, since the darkest of what falls on it counts.
    """
    x = torch.from_numpy(canvas.astype(np.float32) / 255)[None, None]
    return (F.adaptive_max_pool2d(x, size) > 0.5).float()


def to_text(lines: np.ndarray) -> str:
    """Lines (H, W) bool, W a multiple of 8 -> base64 of their bits, row by row."""
    return base64.b64encode(np.packbits(lines, axis=1).tobytes()).decode()


def from_text(text: str, size: tuple[int, int]) -> np.ndarray:
    """What `to_text` gave, as (H, W) bool. ValueError if it is no sketch of this size."""
    height, width = size
    try:
        data = base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error):
        data = b""
    if width % 8 or len(data) != height * width // 8:
        raise ValueError(f"the sketch is not the base64 of {height} x {width} bits")
    bits = np.frombuffer(data, np.uint8).reshape(height, width // 8)
    return np.unpackbits(bits, axis=1).astype(bool)


@torch.inference_mode()
def shifts_of(reader: SketchReader, lines: np.ndarray) -> Tensor:
    """What a sketch (H, W) bool adds: (1, h w, layers + 1, dim) float32, for `prior.sample`."""
    device = reader.stem.weight.device
    return reader(torch.from_numpy(lines)[None, None].float().to(device)).float()


def picture_lines(image: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """Every edge of an RGB picture on white paper of (H, W) pixels, three wide: (H, W) bool."""
    page = np.asarray(letterbox(image, size[::-1]))
    return thicken(edges(to_tensor(page)[None])[:, 1:].float(), 3)[0, 0].bool().numpy()


def paper(lines: Tensor) -> np.ndarray:
    """Lines (B, 1, H, W) floats as black on white: (B, H, W, 3) uint8."""
    return (1 - lines).mul(255).byte().expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()


def check_shifts(prior: GPT, shifts: Tensor | None, n: int, size: tuple[int, int]) -> Tensor | None:
    """What a sketch adds, on the prior's device: one row, or one a grid. ValueError otherwise."""
    if shifts is None:
        return None
    cfg = prior.config
    if size != (cfg.height, cfg.width):
        raise ValueError(
            f"size is {size[0]} x {size[1]}: a sketch is of {cfg.height} x {cfg.width} codes"
        )
    wanted = (cfg.tokens, cfg.layers + 1, cfg.dim)
    if not cfg.prefix or shifts.shape[1:] != wanted or shifts.shape[0] not in (1, n):
        raise ValueError(
            f"the sketch's shifts are of shape {tuple(shifts.shape)}: this prior takes "
            f"{(n, *wanted)}" + ("" if cfg.prefix else ", and only with a start token")
        )
    return shifts.to(prior.wte.weight.device)
