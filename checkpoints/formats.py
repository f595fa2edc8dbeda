"""Other people's tensor names and configurations: one key table for each format.

What `python -m checkpoints.convert` reads; see there for what the formats are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Shapes = dict[str, tuple[int, ...]]  # by our names
# The fields of a VQGANConfig, with "levels" (those that have attention, 0 is the largest picture)
# in place of attn_resolutions.
Fields = dict[str, Any]


@dataclass(frozen=True)
class Format:
    """Whose names, and how they differ from ours."""

    names: tuple[tuple[str, str], ...]  # (ours, theirs), whole parts of a dotted name; N a number
    fields: Callable[[Path | None, Shapes], Fields]
    upwards: bool = False  # their decoder numbers its levels as they run, from the smallest picture
    aliases: tuple[tuple[str, str], ...] = ()  # (today's name, older name)
    dropped: tuple[str, ...] = ()  # what a name starts with that only training needs


def rename(name: str, pairs: Iterable[tuple[str, str]]) -> str:
    """A dotted name with whole parts replaced, each (old, new) where it occurs."""
    for old, new in pairs:
        pattern = re.escape(old).replace("N", r"(\d+)")
        name = re.sub(rf"(?<![^.]){pattern}(?![^.])", new.replace("N", r"\1"), name)
    return name


def theirs(name: str, form: Format, levels: int) -> str:
    """What `form` calls our tensor `name`, in a model of so many levels."""
    return rename(_turned(name, levels) if form.upwards else name, form.names)


def ours(name: str, form: Format, levels: int) -> str:
    """What we call the tensor that `form` calls `name`."""
    name = rename(name, [(b, a) for a, b in form.names])
    return _turned(name, levels) if form.upwards else name


def _turned(name: str, levels: int) -> str:
    """Count the decoder's levels from the other end."""
    return re.sub(r"^decoder\.up\.(\d+)", lambda m: f"decoder.up.{levels - 1 - int(m[1])}", name)


# --- shapes -> configuration -----------------------------------------------------------------


def count(names: Iterable[str], pattern: str) -> int:
    """How many different numbers the names have where `pattern` has its group."""
    return len({m[1] for name in names if (m := re.match(pattern, name))})


def _dims(shapes: Shapes, name: str, expected: int) -> tuple[int, ...]:
    """A tensor's shape, of so many dimensions. KeyError if there is no such tensor."""
    if len(shapes[name]) != expected:
        raise ValueError(f"{name} has {len(shapes[name])} dimensions, and here it has {expected}")
    return shapes[name]


def inferred(shapes: Shapes) -> Fields:
    """The fields that weights tell by their shapes. KeyError if a layer every VQGAN has is missing.

    What they do not tell is the taming layout's: 32 groups a norm, no dropout.
    """
    ch, channels = _dims(shapes, "encoder.conv_in.weight", 4)[:2]
    levels = range(count(shapes, r"encoder\.down\.(\d+)\."))
    widths = [_dims(shapes, f"encoder.down.{i}.block.0.conv1.weight", 4)[0] for i in levels]
    codes, dim = _dims(shapes, f"quantize.{'embed' if gumbel(shapes) else 'embedding'}.weight", 2)
    return {
        "in_channels": channels,
        "out_ch": _dims(shapes, "decoder.conv_out.weight", 4)[0],
        "ch": ch,
        "ch_mult": factors(widths, ch),
        "num_res_blocks": count(shapes, r"encoder\.down\.0\.block\.(\d+)\."),
        "levels": [i for i in levels if f"encoder.down.{i}.attn.0.q.weight" in shapes],
        "mid_attn": "encoder.mid.attn_1.q.weight" in shapes,
        "z_channels": _dims(shapes, "encoder.conv_out.weight", 4)[0],
        "codebook_size": codes,
        "embed_dim": dim,
        "quantizer": "gumbel" if gumbel(shapes) else "euclidean",
    }


def gumbel(shapes: Shapes) -> bool:
    """Whether codes are chosen by a projection."""
    return "quantize.proj.weight" in shapes


def factors(widths: list[int], ch: int) -> tuple[int, ...]:
    """ch_mult of levels that are so many channels wide."""
    if ch < 1 or any(width % ch for width in widths):
        raise ValueError(f"its levels have {widths} channels: our VQGAN needs multiples of {ch}")
    return tuple(width // ch for width in widths)


# --- configuration files ---------------------------------------------------------------------


def parsed(path: Path, parse: Callable[[str], Any]) -> dict:
    """A configuration file as a dict."""
    try:
        found = parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path} cannot be read as a configuration: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} is no configuration: it holds no names and values")
    return found


def _only(path: Path, found: dict, known: set[str], fixed: dict[str, tuple]) -> None:
    """ValueError where a configuration says something that our VQGAN cannot be."""
    for name, value in found.items():
        if name in fixed and value not in fixed[name]:
            able = " or ".join(map(json.dumps, fixed[name]))
            raise ValueError(f"{path}: {name} is {json.dumps(value)}, our VQGAN can only do {able}")
        if name not in fixed and name not in known:
            raise ValueError(f"{path}: {name} is not known here, so it would not be obeyed")


TAMING_SAME = ("resolution", "in_channels", "out_ch", "ch", "ch_mult", "num_res_blocks", "dropout")
TAMING_FIXED = {
    "double_z": (False,),
    "resamp_with_conv": (True,),
    "give_pre_end": (False,),
    "tanh_out": (False,),
    "use_linear_attn": (False,),
    "attn_type": ("vanilla", "none"),
}


def taming_fields(path: Path | None, shapes: Shapes) -> Fields:
    """Of a model's .yaml, or read off the weights."""
    # Its codebook loss had beta on the wrong term; Gumbel models have no such term.
    legacy = {"legacy_beta": not gumbel(shapes)}
    if path is None:
        return inferred(shapes) | legacy
    try:
        params = parsed(path, yaml.safe_load)["model"]["params"]
        if "first_stage_config" in params:  # of both stages
            params = params["first_stage_config"]["params"]
        dd = params["ddconfig"]
        _only(path, dd, {*TAMING_SAME, "z_channels", "attn_resolutions"}, TAMING_FIXED)
        sides = [dd["resolution"] // 2**i for i in range(len(dd["ch_mult"]))]
        attend = dd.get("attn_type") != "none"
        return {
            **{name: dd[name] for name in TAMING_SAME if name in dd},
            "levels": [i for i, s in enumerate(sides) if attend and s in dd["attn_resolutions"]],
            "mid_attn": attend,
            "z_channels": dd["z_channels"],
            "codebook_size": params["n_embed"],
            "embed_dim": params["embed_dim"],
            "quantizer": "gumbel" if gumbel(shapes) else "euclidean",
            **legacy,
        }
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is no configuration of a taming VQGAN: {error} is missing or misplaced "
            "(model.params with ddconfig, n_embed and embed_dim)"
        ) from error


DIFFUSERS_KNOWN = {
    *("in_channels", "out_channels", "block_out_channels", "layers_per_block", "latent_channels"),
    *("num_vq_embeddings", "vq_embed_dim", "norm_num_groups", "mid_block_add_attention"),
    *("down_block_types", "up_block_types", "sample_size"),
    *("scaling_factor", "lookup_from_codebook", "force_upcast"),  # no part of the network
}
DIFFUSERS_FIXED = {
    "_class_name": ("VQModel",),
    "act_fn": ("silu", "swish"),
    "norm_type": ("group",),
}
DOWN = {"DownEncoderBlock2D": False, "AttnDownEncoderBlock2D": True}  # whether it has attention
UP = {"UpDecoderBlock2D": False, "AttnUpDecoderBlock2D": True}
UNSAID = 32  # sample_size where nobody set it


def diffusers_fields(path: Path | None, shapes: Shapes) -> Fields:
    """Of a VQModel's config.json."""
    if path is None:
        raise ValueError("the config.json of the VQModel is missing: name it with --config")
    found = parsed(path, json.loads)
    told = {k: v for k, v in found.items() if k == "_class_name" or not k.startswith("_")}
    _only(path, told, DIFFUSERS_KNOWN, DIFFUSERS_FIXED)
    try:
        widths = found["block_out_channels"]
        down = [DOWN[kind] for kind in found["down_block_types"]]
        up = [UP[kind] for kind in found["up_block_types"]]
        if down != up[::-1] or len(down) != len(widths):
            raise ValueError(f"{path}: encoder and decoder differ in their blocks; ours may not")
        side = found.get("sample_size", UNSAID)
        return {
            **({} if side == UNSAID else {"resolution": side}),
            "in_channels": found.get("in_channels", 3),
            "out_ch": found.get("out_channels", 3),
            "ch": widths[0],
            "ch_mult": factors(widths, widths[0]),
            "num_res_blocks": found["layers_per_block"],
            "levels": [i for i, attend in enumerate(down) if attend],
            "mid_attn": found.get("mid_block_add_attention", True),
            "num_groups": found.get("norm_num_groups", 32),  # old files leave it out
            "z_channels": found["latent_channels"],
            "codebook_size": found["num_vq_embeddings"],
            "embed_dim": found.get("vq_embed_dim") or found["latent_channels"],
            "legacy_beta": True,  # its quantiser is taming's
        }
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no configuration of a VQModel we know: {error}") from error


def llamagen_fields(path: Path | None, shapes: Shapes) -> Fields:
    """Read off the weights."""
    if path is not None:
        raise ValueError("LlamaGen has no configuration file: leave --config out")
    return inferred(shapes) | {"quantizer": "cosine"}


FORMATS = {
    "taming": Format(
        names=(),
        fields=taming_fields,
        # The last two: from what its EMAVQ moved the codes by
        dropped=("loss.", "quantize.embedding.cluster_size", "quantize.embedding.embed_avg"),
    ),
    "diffusers": Format(
        names=(
            ("encoder.down.N.block", "encoder.down_blocks.N.resnets"),
            ("encoder.down.N.attn", "encoder.down_blocks.N.attentions"),
            ("encoder.down.N.downsample", "encoder.down_blocks.N.downsamplers.0"),
            ("decoder.up.N.block", "decoder.up_blocks.N.resnets"),
            ("decoder.up.N.attn", "decoder.up_blocks.N.attentions"),
            ("decoder.up.N.upsample", "decoder.up_blocks.N.upsamplers.0"),
            ("mid.block_1", "mid_block.resnets.0"),
            ("mid.attn_1", "mid_block.attentions.0"),
            ("mid.block_2", "mid_block.resnets.1"),
            ("nin_shortcut", "conv_shortcut"),
            ("norm_out", "conv_norm_out"),
            ("norm", "group_norm"),
            ("q", "to_q"),
            ("k", "to_k"),
            ("v", "to_v"),
            ("proj_out", "to_out.0"),
        ),
        fields=diffusers_fields,
        upwards=True,
        aliases=(
            ("to_q", "query"),
            ("to_k", "key"),
            ("to_v", "value"),
            ("to_out.0", "proj_attn"),
        ),
    ),
    "llamagen": Format(
        names=(
            ("encoder.down.N.block", "encoder.conv_blocks.N.res"),
            ("encoder.down.N.attn", "encoder.conv_blocks.N.attn"),
            ("encoder.down.N.downsample", "encoder.conv_blocks.N.downsample"),
            ("decoder.up.N.block", "decoder.conv_blocks.N.res"),
            ("decoder.up.N.attn", "decoder.conv_blocks.N.attn"),
            ("decoder.up.N.upsample", "decoder.conv_blocks.N.upsample"),
            ("mid.block_1", "mid.0"),
            ("mid.attn_1", "mid.1"),
            ("mid.block_2", "mid.2"),
        ),
        fields=llamagen_fields,
        upwards=True,
        dropped=("quantize.codebook_used",),
    ),
}
LANDMARK = "encoder.down.0.block.0.norm1.weight"  # every VQGAN has it, each format names it its way
