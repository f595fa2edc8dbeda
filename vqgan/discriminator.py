"""The patch discriminator of VQGAN (PatchGAN, Isola et al., arXiv:1611.07004).

Parameter names are those of the paper's code (`main.0.weight`, ...).
"""

from __future__ import annotations

from torch import Tensor, nn


class PatchDiscriminator(nn.Module):
    """(B, 3, H, W) in [-1, 1] -> (B, 1, h, w) logits, one for each overlapping patch.

    BatchNorm as in the paper by default. `norm="group"` does not let the statistics of a batch
    mix real and rebuilt pictures, and gives equal results on one process and on many.
    """

    def __init__(self, in_channels: int = 3, ch: int = 64, layers: int = 3, norm: str = "batch"):
        super().__init__()
        if norm not in ("batch", "group"):
            raise ValueError(f"norm is {norm!r}: choose batch or group")

        def normalisation(c: int) -> nn.Module:
            return nn.BatchNorm2d(c) if norm == "batch" else nn.GroupNorm(8, c)

        bias = norm != "batch"
        stack = [nn.Conv2d(in_channels, ch, 4, 2, 1), nn.LeakyReLU(0.2, True)]
        cin = ch
        for i in range(1, layers + 1):
            cout = ch * min(2**i, 8)
            stack += [
                nn.Conv2d(cin, cout, 4, 2 if i < layers else 1, 1, bias=bias),
                normalisation(cout),
                nn.LeakyReLU(0.2, True),
            ]
            cin = cout
        self.main = nn.Sequential(*stack, nn.Conv2d(cin, 1, 4, 1, 1))
        self.apply(init_weights)

    def forward(self, images: Tensor) -> Tensor:
        return self.main(images)


def init_weights(module: nn.Module) -> None:
    """N(0, 0.02) convolutions and N(1, 0.02) normalisation gains, as in pix2pix."""
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, (nn.BatchNorm2d, nn.GroupNorm)):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)
