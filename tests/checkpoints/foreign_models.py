"""Tiny models as other projects name and run them, one line a layer, in the order they run.

Names are written out, and layers are computed here, so that nothing of the converter's tables or
of our VQGAN decides what is right. Three channels, 2 levels of 32 and 64, attention on the second.
"""

import json

import torch
import torch.nn.functional as F
import yaml

TAMING = """
conv  encoder.conv_in 3 32
res   encoder.down.0.block.0 32 32
down  encoder.down.0.downsample.conv 32 32
res   encoder.down.1.block.0 32 64
attn  encoder.down.1.attn.0 64 64
res   encoder.mid.block_1 64 64
attn  encoder.mid.attn_1 64 64
res   encoder.mid.block_2 64 64
norm  encoder.norm_out 64 64
conv  encoder.conv_out 64 8
one   quant_conv 8 4
code  quantize.embedding 16 4
one   post_quant_conv 4 8
conv  decoder.conv_in 8 64
res   decoder.mid.block_1 64 64
attn  decoder.mid.attn_1 64 64
res   decoder.mid.block_2 64 64
res   decoder.up.1.block.0 64 64
attn  decoder.up.1.attn.0 64 64
res   decoder.up.1.block.1 64 64
attn  decoder.up.1.attn.1 64 64
up    decoder.up.1.upsample.conv 64 64
res   decoder.up.0.block.0 64 32
res   decoder.up.0.block.1 32 32
norm  decoder.norm_out 32 32
conv  decoder.conv_out 32 3
"""

DIFFUSERS = """
conv  encoder.conv_in 3 32
res   encoder.down_blocks.0.resnets.0 32 32
down  encoder.down_blocks.0.downsamplers.0.conv 32 32
res   encoder.down_blocks.1.resnets.0 32 64
attn  encoder.down_blocks.1.attentions.0 64 64
res   encoder.mid_block.resnets.0 64 64
attn  encoder.mid_block.attentions.0 64 64
res   encoder.mid_block.resnets.1 64 64
norm  encoder.conv_norm_out 64 64
conv  encoder.conv_out 64 8
one   quant_conv 8 4
code  quantize.embedding 16 4
one   post_quant_conv 4 8
conv  decoder.conv_in 8 64
res   decoder.mid_block.resnets.0 64 64
attn  decoder.mid_block.attentions.0 64 64
res   decoder.mid_block.resnets.1 64 64
res   decoder.up_blocks.0.resnets.0 64 64
attn  decoder.up_blocks.0.attentions.0 64 64
res   decoder.up_blocks.0.resnets.1 64 64
attn  decoder.up_blocks.0.attentions.1 64 64
up    decoder.up_blocks.0.upsamplers.0.conv 64 64
res   decoder.up_blocks.1.resnets.0 64 32
res   decoder.up_blocks.1.resnets.1 32 32
norm  decoder.conv_norm_out 32 32
conv  decoder.conv_out 32 3
"""

LLAMAGEN = """
conv  encoder.conv_in 3 32
res   encoder.conv_blocks.0.res.0 32 32
down  encoder.conv_blocks.0.downsample.conv 32 32
res   encoder.conv_blocks.1.res.0 32 64
attn  encoder.conv_blocks.1.attn.0 64 64
res   encoder.mid.0 64 64
attn  encoder.mid.1 64 64
res   encoder.mid.2 64 64
norm  encoder.norm_out 64 64
conv  encoder.conv_out 64 8
one   quant_conv 8 4
unit  quantize.embedding 16 4
one   post_quant_conv 4 8
conv  decoder.conv_in 8 64
res   decoder.mid.0 64 64
attn  decoder.mid.1 64 64
res   decoder.mid.2 64 64
res   decoder.conv_blocks.0.res.0 64 64
attn  decoder.conv_blocks.0.attn.0 64 64
res   decoder.conv_blocks.0.res.1 64 64
attn  decoder.conv_blocks.0.attn.1 64 64
up    decoder.conv_blocks.0.upsample.conv 64 64
res   decoder.conv_blocks.1.res.0 64 32
res   decoder.conv_blocks.1.res.1 32 32
norm  decoder.norm_out 32 32
conv  decoder.conv_out 32 3
"""

LAYERS = {"taming": TAMING, "diffusers": DIFFUSERS, "llamagen": LLAMAGEN}
SHORTCUT = {"taming": "nin_shortcut", "diffusers": "conv_shortcut", "llamagen": "nin_shortcut"}
ATTENTION = {  # norm, query, key, value, output
    "taming": ("norm", "q", "k", "v", "proj_out"),
    "diffusers": ("group_norm", "to_q", "to_k", "to_v", "to_out.0"),
    "llamagen": ("norm", "q", "k", "v", "proj_out"),
}

DDCONFIG = {
    "double_z": False,
    "z_channels": 8,
    "resolution": 64,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 32,
    "ch_mult": [1, 2],
    "num_res_blocks": 1,
    "attn_resolutions": [32],
    "dropout": 0.0,
}
VQMODEL = {
    "_class_name": "VQModel",
    "_diffusers_version": "0.25.0",
    "act_fn": "silu",
    "block_out_channels": [32, 64],
    "down_block_types": ["DownEncoderBlock2D", "AttnDownEncoderBlock2D"],
    "in_channels": 3,
    "latent_channels": 8,
    "layers_per_block": 1,
    "norm_num_groups": 16,
    "num_vq_embeddings": 16,
    "out_channels": 3,
    "sample_size": 32,
    "scaling_factor": 0.18215,
    "up_block_types": ["AttnUpDecoderBlock2D", "UpDecoderBlock2D"],
    "vq_embed_dim": 4,
}


def model_yaml(dd: dict | None = None, **params) -> str:
    params = {"embed_dim": 4, "n_embed": 16, "ddconfig": DDCONFIG | (dd or {})} | params
    return yaml.safe_dump({"model": {"target": "taming.models.vqgan.VQModel", "params": params}})


CONFIGS = {"taming": model_yaml(), "diffusers": json.dumps(VQMODEL)}


class Foreign:
    """A random model of one format: `state` by its names, and what it makes of pictures."""

    def __init__(self, name: str, *, gumbel: bool = False, groups: int = 32):
        self.name, self.groups = name, groups
        self.generator = torch.Generator().manual_seed(7)
        self.state: dict[str, torch.Tensor] = {}
        text = LAYERS[name]
        if gumbel:
            text = text.replace("code  quantize.embedding 16 4", "pick  quantize 16 4")
        self.layers = [
            (a, b, int(c), int(d)) for a, b, c, d in map(str.split, text.split("\n")[1:-1])
        ]
        for kind, at, cin, cout in self.layers:
            self._make(kind, at, cin, cout)

    def _random(self, *shape: int, scale: float) -> torch.Tensor:
        return torch.randn(*shape, generator=self.generator) * scale

    def _linear(self, at: str, cin: int, cout: int, side: int | None) -> None:
        kernel = () if side is None else (side, side)
        self.state[f"{at}.weight"] = self._random(cout, cin, *kernel, scale=(cin * 9) ** -0.5)
        self.state[f"{at}.bias"] = self._random(cout, scale=0.1)

    def _norm(self, at: str, channels: int) -> None:
        self.state[f"{at}.weight"] = 1 + self._random(channels, scale=0.2)
        self.state[f"{at}.bias"] = self._random(channels, scale=0.2)

    def _make(self, kind: str, at: str, cin: int, cout: int) -> None:
        if kind in ("conv", "down", "up"):
            self._linear(at, cin, cout, 3)
        elif kind == "one":
            self._linear(at, cin, cout, 1)
        elif kind == "norm":
            self._norm(at, cin)
        elif kind in ("code", "unit"):
            self.state[f"{at}.weight"] = self._random(cin, cout, scale=0.3)
        elif kind == "pick":
            self._linear(f"{at}.proj", cout, cin, 1)
            self.state[f"{at}.embed.weight"] = self._random(cin, cout, scale=0.3)
        elif kind == "res":
            self._norm(f"{at}.norm1", cin)
            self._linear(f"{at}.conv1", cin, cout, 3)
            self._norm(f"{at}.norm2", cout)
            self._linear(f"{at}.conv2", cout, cout, 3)
            if cin != cout:
                self._linear(f"{at}.{SHORTCUT[self.name]}", cin, cout, 1)
        else:
            norm, *rest = ATTENTION[self.name]
            self._norm(f"{at}.{norm}", cin)
            for part in rest:
                self._linear(f"{at}.{part}", cin, cin, None if self.name == "diffusers" else 1)

    def _conv(self, x: torch.Tensor, at: str, **options: int) -> torch.Tensor:
        weight = self.state[f"{at}.weight"]
        weight = weight[..., None, None] if weight.ndim == 2 else weight
        return F.conv2d(x, weight, self.state[f"{at}.bias"], **options)

    def _normed(self, x: torch.Tensor, at: str) -> torch.Tensor:
        return F.group_norm(
            x, self.groups, self.state[f"{at}.weight"], self.state[f"{at}.bias"], eps=1e-6
        )

    def _attend(self, x: torch.Tensor, at: str) -> torch.Tensor:
        norm, *rest, out = ATTENTION[self.name]
        y = self._normed(x, f"{at}.{norm}")
        q, k, v = (self._conv(y, f"{at}.{part}").flatten(2) for part in rest)  # (B, C, hw)
        weights = torch.softmax(q.transpose(1, 2) @ k / q.shape[1] ** 0.5, dim=2)
        return x + self._conv((v @ weights.transpose(1, 2)).view_as(x), f"{at}.{out}")

    def __call__(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, 3, H, W) -> (what comes back, codes (B, h, w))."""
        swish = lambda y: y * torch.sigmoid(y)  # noqa: E731
        for kind, at, cin, cout in self.layers:
            if kind == "conv":
                x = self._conv(x, at, padding=1)
            elif kind == "one":
                x = self._conv(x, at)
            elif kind == "down":
                x = self._conv(F.pad(x, (0, 1, 0, 1)), at, stride=2)
            elif kind == "up":
                x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
                x = self._conv(x, at, padding=1)
            elif kind == "norm":
                x = swish(self._normed(x, at))
            elif kind == "attn":
                x = self._attend(x, at)
            elif kind == "res":
                y = self._conv(swish(self._normed(x, f"{at}.norm1")), f"{at}.conv1", padding=1)
                y = self._conv(swish(self._normed(y, f"{at}.norm2")), f"{at}.conv2", padding=1)
                x = y + (x if cin == cout else self._conv(x, f"{at}.{SHORTCUT[self.name]}"))
            elif kind == "pick":
                codes = self._conv(x, f"{at}.proj").argmax(1)
                x = self.state[f"{at}.embed.weight"][codes].permute(0, 3, 1, 2)
            else:
                table, rows = self.state[f"{at}.weight"], x.permute(0, 2, 3, 1)
                if kind == "unit":
                    table, rows = F.normalize(table, dim=1), F.normalize(rows, dim=-1)
                codes = (rows[..., None, :] - table).square().sum(-1).argmin(-1)
                x = table[codes].permute(0, 3, 1, 2)
        return x, codes


class MinGPT:
    """A random second stage as taming-transformers names and computes it: codes after one token."""

    def __init__(self, *, vocabulary: int = 16, block: int = 20, layers: int = 2):
        source = torch.Generator().manual_seed(11)
        self.layers, dim = layers, 24

        def some(*shape: int, scale: float = 0.3) -> torch.Tensor:
            return torch.randn(*shape, generator=source) * scale

        self.state = {
            "tok_emb.weight": some(vocabulary, dim, scale=1),
            "pos_emb": some(1, block, dim, scale=1),
            "ln_f.weight": 1 + some(dim),
            "ln_f.bias": some(dim),
            "head.weight": some(vocabulary, dim),
        }
        sizes = {"attn.key": (24, 24), "attn.query": (24, 24), "attn.value": (24, 24)}
        sizes |= {"attn.proj": (24, 24), "mlp.0": (96, 24), "mlp.2": (24, 96)}
        for i in range(layers):
            for name, size in sizes.items():
                self.state[f"blocks.{i}.{name}.weight"] = some(*size)
                self.state[f"blocks.{i}.{name}.bias"] = some(size[0])
            for name in ("ln1", "ln2"):
                self.state[f"blocks.{i}.{name}.weight"] = 1 + some(dim)
                self.state[f"blocks.{i}.{name}.bias"] = some(dim)
            mask = torch.tril(torch.ones(block, block))[None, None]
            self.state[f"blocks.{i}.attn.mask"] = mask

    def _linear(self, x: torch.Tensor, at: str) -> torch.Tensor:
        return x @ self.state[f"{at}.weight"].T + self.state[f"{at}.bias"]

    def _norm(self, x: torch.Tensor, at: str) -> torch.Tensor:
        return F.layer_norm(x, (24,), self.state[f"{at}.weight"], self.state[f"{at}.bias"])

    def __call__(self, text: torch.Tensor) -> torch.Tensor:
        """(B, T) tokens -> (B, T, vocabulary) logits of the token after each; 3 heads of 8."""
        (b, t), state = text.shape, self.state
        x = state["tok_emb.weight"][text] + state["pos_emb"][:, :t]
        for i in range(self.layers):
            at, y = f"blocks.{i}", self._norm(x, f"blocks.{i}.ln1")
            q, k, v = (
                self._linear(y, f"{at}.attn.{name}").view(b, t, 3, 8).transpose(1, 2)
                for name in ("query", "key", "value")
            )
            scores = q @ k.transpose(2, 3) / 8**0.5
            seen = state[f"{at}.attn.mask"][..., :t, :t]
            weights = torch.softmax(scores.masked_fill(seen == 0, -torch.inf), -1)
            y = (weights @ v).transpose(1, 2).reshape(b, t, 24)
            x = x + self._linear(y, f"{at}.attn.proj")
            y = self._linear(self._norm(x, f"{at}.ln2"), f"{at}.mlp.0")
            y = y * 0.5 * (1 + torch.erf(y / 2**0.5))
            x = x + self._linear(y, f"{at}.mlp.2")
        return self._norm(x, "ln_f") @ state["head.weight"].T


TRANSFORMER = {"vocab_size": 16, "block_size": 20, "n_layer": 2, "n_head": 3, "n_embd": 24}


def net2net_yaml(shape: dict | None = None, dd: dict | None = None, **params) -> str:
    """The configuration of both stages: 8 x 8 px, so 4 x 4 codes."""
    first = {"embed_dim": 4, "n_embed": 16}
    first["ddconfig"] = DDCONFIG | {"resolution": 8, "attn_resolutions": [4]} | (dd or {})
    params = {
        "cond_stage_key": "class_label",
        "transformer_config": {
            "target": "taming.modules.transformer.mingpt.GPT",
            "params": TRANSFORMER | {"embd_pdrop": 0.1} | (shape or {}),
        },
        "first_stage_config": {"target": "taming.models.vqgan.VQModel", "params": first},
        "cond_stage_config": "__is_unconditional__",
    } | params
    target = "taming.models.cond_transformer.Net2NetTransformer"
    return yaml.safe_dump({"model": {"target": target, "params": params}})


def net2net_state(gpt: MinGPT) -> dict[str, torch.Tensor]:
    """Both stages in one state dict, with the first one's loss."""
    first = Foreign("taming").state | {"loss.discriminator.main.0.weight": torch.ones(3)}
    first = {f"first_stage_model.{name}": value for name, value in first.items()}
    return first | {f"transformer.{name}": value for name, value in gpt.state.items()}
