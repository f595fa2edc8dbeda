"""The VQGAN autoencoder (Esser et al., arXiv:2012.09841): encoder, codebook, decoder.

Layer layout and parameter names are those of the paper's code, so that published checkpoints load
strictly. Losses live in `losses.py`, the discriminator in `discriminator.py`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqgan.quantize import GRADIENTS, QUANTIZERS, Encoding


@dataclass(frozen=True)
class VQGANConfig:
    """Shape of a VQGAN. Defaults are the paper's f16 ImageNet model with 1,024 codes."""

    resolution: int = 256  # side of a training picture; decides where attn_resolutions apply
    in_channels: int = 3
    out_ch: int = 3
    ch: int = 128  # channels of the first level
    ch_mult: tuple[int, ...] = (1, 1, 2, 2, 4)  # per level; each further level halves the side
    num_res_blocks: int = 2
    attn_resolutions: tuple[int, ...] = (16,)
    mid_attn: bool = True  # attention in the middle block of encoder and decoder
    num_groups: int = 32  # GroupNorm groups; 32 groups on 32 channels is instance norm
    dropout: float = 0.0
    z_channels: int = 256
    codebook_size: int = 1024
    embed_dim: int = 256
    quantizer: str = "euclidean"  # euclidean | cosine | gumbel
    gradient: str = "straight_through"  # straight_through | rotation
    legacy_beta: bool = False  # record of old checkpoints: beta stood on the codebook term
    unit_range: bool = False  # the encoder's layers take pixels in [0, 1], as aMUSEd's do

    def __post_init__(self) -> None:
        for name in ("ch_mult", "attn_resolutions"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in ("resolution", "ch", "num_res_blocks", "num_groups", "z_channels", "embed_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be at least 1")
        if self.codebook_size < 2:
            raise ValueError(f"codebook_size is {self.codebook_size}: it must be at least 2")
        if not self.ch_mult or min(self.ch_mult) < 1:
            raise ValueError(f"ch_mult is {self.ch_mult}: it needs one factor >= 1 per level")
        if any(self.ch * m % self.num_groups for m in self.ch_mult):
            raise ValueError(
                f"num_groups is {self.num_groups}: it must divide the channels of every level, "
                f"{[self.ch * m for m in self.ch_mult]}"
            )
        if self.resolution % self.downsampling:
            raise ValueError(
                f"resolution is {self.resolution}: it must be a multiple of the downsampling "
                f"factor {self.downsampling}"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}: it must lie in [0, 1)")
        for name, known in (("quantizer", QUANTIZERS), ("gradient", GRADIENTS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}: choose {', '.join(known)}")

    @property
    def downsampling(self) -> int:
        """f: pixels per code along each axis."""
        return 2 ** (len(self.ch_mult) - 1)

    def to_dict(self) -> dict:
        return asdict(self)


# What decides a picture's codes and shows in no tensor: weights load under another value of these
# and mean something else. (Attention shows: it has weights of its own, named by their level.)
UNSEEN = ("quantizer", "num_groups", "unit_range")

PRESETS = {
    "paper": VQGANConfig(),
    # For two CPU cores: 128 px, f8, 4 M parameters. Few groups per norm, since 32 groups on 32
    # channels lose flat colour; no attention, so that a code means the same wherever it stands.
    "small": VQGANConfig(
        resolution=128,
        ch=32,
        ch_mult=(1, 2, 4, 4),
        num_res_blocks=1,
        attn_resolutions=(),
        mid_attn=False,
        num_groups=4,
        z_channels=128,
        codebook_size=1024,
        embed_dim=8,
        quantizer="cosine",
    ),
}


def norm(channels: int, cfg: VQGANConfig) -> nn.GroupNorm:
    """GroupNorm with the config's groups: (B, channels, H, W) -> the same shape."""
    return nn.GroupNorm(cfg.num_groups, channels, eps=1e-6)


class ResnetBlock(nn.Module):
    """(B, cin, H, W) -> (B, cout, H, W): x + two 3x3 convolutions of it.

    Each convolution is behind norm and SiLU; a 1x1 convolution matches x where cin != cout.
    """

    def __init__(self, cin: int, cout: int, cfg: VQGANConfig):
        super().__init__()
        self.norm1 = norm(cin, cfg)
        self.conv1 = nn.Conv2d(cin, cout, 3, padding=1)
        self.norm2 = norm(cout, cfg)
        self.dropout = nn.Dropout(cfg.dropout)
        self.conv2 = nn.Conv2d(cout, cout, 3, padding=1)
        if cin != cout:
            self.nin_shortcut = nn.Conv2d(cin, cout, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(self.dropout(F.silu(self.norm2(h))))
        return h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class AttnBlock(nn.Module):
    """Single-head self-attention over all positions."""

    def __init__(self, channels: int, cfg: VQGANConfig):
        super().__init__()
        self.norm = norm(channels, cfg)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        y = self.norm(x)
        q, k, v = (m(y).flatten(2).transpose(1, 2) for m in (self.q, self.k, self.v))  # (B, hw, C)
        y = F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]
        return x + self.proj_out(y.transpose(1, 2).reshape(b, c, h, w))


class Downsample(nn.Module):
    """(B, C, H, W) -> (B, C, H/2, W/2), H and W even: a 3x3 convolution of stride 2."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))  # the paper's code pads right and bottom only


class Upsample(nn.Module):
    """(B, C, H, W) -> (B, C, 2H, 2W): each pixel four times, then a 3x3 convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Middle(nn.Module):
    """(B, C, h, w) -> the same shape, at the coarsest level: two blocks, attention between them.

    `mid_attn=False` leaves the attention out. Values are activations of no fixed range.
    """

    def __init__(self, channels: int, cfg: VQGANConfig):
        super().__init__()
        self.block_1 = ResnetBlock(channels, channels, cfg)
        if cfg.mid_attn:
            self.attn_1 = AttnBlock(channels, cfg)
        self.block_2 = ResnetBlock(channels, channels, cfg)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block_1(x)
        return self.block_2(self.attn_1(x) if hasattr(self, "attn_1") else x)


class Level(nn.Module):
    """The blocks of one resolution, with their attention, then an optional change of scale."""

    def __init__(self, cin: int, cout: int, blocks: int, attend: bool, cfg: VQGANConfig):
        super().__init__()
        self.block = nn.ModuleList(
            ResnetBlock(cin if i == 0 else cout, cout, cfg) for i in range(blocks)
        )
        self.attn = nn.ModuleList(AttnBlock(cout, cfg) for _ in range(blocks if attend else 0))

    def forward(self, x: Tensor) -> Tensor:
        for i, block in enumerate(self.block):
            x = block(x)
            if self.attn:
                x = self.attn[i](x)
        for name in ("downsample", "upsample"):
            if hasattr(self, name):
                x = getattr(self, name)(x)
        return x


class Encoder(nn.Module):
    """(B, 3, H, W) in [-1, 1] -> (B, z_channels, H/f, W/f)."""

    def __init__(self, cfg: VQGANConfig):
        super().__init__()
        self.unit_range = cfg.unit_range
        self.conv_in = nn.Conv2d(cfg.in_channels, cfg.ch, 3, padding=1)
        self.down = nn.ModuleList()
        cin, side = cfg.ch, cfg.resolution
        for i, mult in enumerate(cfg.ch_mult):
            cout = cfg.ch * mult
            level = Level(cin, cout, cfg.num_res_blocks, side in cfg.attn_resolutions, cfg)
            if i < len(cfg.ch_mult) - 1:
                level.downsample = Downsample(cout)
                side //= 2
            self.down.append(level)
            cin = cout
        self.mid = Middle(cin, cfg)
        self.norm_out = norm(cin, cfg)
        self.conv_out = nn.Conv2d(cin, cfg.z_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        # Not folded into conv_in's weights: the zeros it pads with would mean another grey.
        x = self.conv_in((x + 1) / 2 if self.unit_range else x)
        for level in self.down:
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(self.mid(x))))


class Decoder(nn.Module):
    """(B, z_channels, h, w) -> (B, 3, h*f, w*f), not clamped."""

    def __init__(self, cfg: VQGANConfig):
        super().__init__()
        cin = cfg.ch * cfg.ch_mult[-1]
        self.conv_in = nn.Conv2d(cfg.z_channels, cin, 3, padding=1)
        self.mid = Middle(cin, cfg)
        levels: list[Level] = []
        side = cfg.resolution // cfg.downsampling
        for i, mult in reversed(list(enumerate(cfg.ch_mult))):
            cout = cfg.ch * mult
            level = Level(cin, cout, cfg.num_res_blocks + 1, side in cfg.attn_resolutions, cfg)
            if i > 0:
                level.upsample = Upsample(cout)
                side *= 2
            levels.insert(0, level)  # named by level, run from the last to the first
            cin = cout
        self.up = nn.ModuleList(levels)
        self.norm_out = norm(cin, cfg)
        self.conv_out = nn.Conv2d(cin, cfg.out_ch, 3, padding=1)

    def features(self, z: Tensor) -> Tensor:
        """Everything before the last layer: (B, z_channels, h, w) -> (B, ch, h*f, w*f).

        Apart, since the adaptive weight lambda is taken from gradients at `conv_out`.
        """
        x = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            x = level(x)
        return F.silu(self.norm_out(x))

    def forward(self, z: Tensor) -> Tensor:
        return self.conv_out(self.features(z))


class VQGAN(nn.Module):
    """Encoder, codebook and decoder. Pure: no loss, no optimiser, no loading in here."""

    def __init__(self, config: VQGANConfig):
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        quantizer = QUANTIZERS[config.quantizer]
        self.quantize = quantizer(config.codebook_size, config.embed_dim, config.gradient)
        self.quant_conv = nn.Conv2d(config.z_channels, config.embed_dim, 1)
        self.post_quant_conv = nn.Conv2d(config.embed_dim, config.z_channels, 1)

    def latents(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) float in [-1, 1] -> (B, D, h, w), before normalising and quantising."""
        f = self.config.downsampling
        if images.ndim != 4 or images.shape[1] != self.config.in_channels:
            raise ValueError(
                f"images have shape {tuple(images.shape)}: expected (B, {self.config.in_channels},"
                " H, W)"
            )
        if images.shape[2] % f or images.shape[3] % f:
            raise ValueError(
                f"images are {images.shape[3]}x{images.shape[2]} pixels: both sides must be "
                f"multiples of {f} (vqgan.images.pad_to_multiple does that)"
            )
        return self.quant_conv(self.encoder(images))

    def encode(self, images: Tensor) -> Encoding:
        """(B, 3, H, W) float in [-1, 1] -> Encoding; the same type in train and eval mode."""
        return self.quantize.encode(self.latents(images))

    def decode(self, quantized: Tensor) -> Tensor:
        """(B, D, h, w) codebook vectors -> (B, 3, h*f, w*f) float, about [-1, 1], not clamped."""
        return self.decoder(self.post_quant_conv(quantized))

    def decode_indices(self, indices: Tensor) -> Tensor:
        """(B, h, w) integer codes in [0, K) -> (B, 3, h*f, w*f)."""
        if indices.ndim != 3 or indices.is_floating_point():
            raise ValueError(
                f"indices are {indices.dtype} of shape {tuple(indices.shape)}: expected whole "
                "numbers of shape (B, h, w)"
            )
        size = self.config.codebook_size
        if indices.numel() and not (0 <= int(indices.min()) and int(indices.max()) < size):
            raise ValueError(
                f"indices run from {int(indices.min())} to {int(indices.max())}: this codebook has "
                f"codes 0 to {size - 1}"
            )
        return self.decode(self.quantize.lookup(indices.long()))

    def forward(self, images: Tensor) -> tuple[Tensor, Encoding]:
        """images (B, 3, H, W) -> (reconstructions (B, 3, H, W), Encoding)."""
        encoding = self.encode(images)
        return self.decode(encoding.quantized), encoding

    @property
    def last_layer(self) -> Tensor:
        """Weight of the decoder's last layer, where lambda is measured (paper eq. 7)."""
        return self.decoder.conv_out.weight


@torch.no_grad()
def reconstruct(model: VQGAN, images: Tensor) -> tuple[Tensor, Tensor]:
    """images (B, 3, H, W) in [-1, 1] -> (reconstructions clamped to [-1, 1], indices (B, h, w))."""
    output, encoding = model(images)
    return output.clamp(-1, 1), encoding.indices
