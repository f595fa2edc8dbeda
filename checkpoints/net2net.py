"""Published priors: the second stage that a taming-transformers checkpoint holds beside its VQGAN.

Its `Net2NetTransformer` is minGPT behind one token that says what is wanted: the same for every
picture, or the number of a class. Both tokens are rows of the codes' own table.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from torch import Tensor

from checkpoints.formats import parsed
from prior.model import GPT, PriorConfig
from vqgan.model import VQGANConfig

FIRST, SECOND = "first_stage_model.", "transformer."
SHAPE = {"vocab_size", "block_size", "n_layer", "n_head", "n_embd"}
FREE = {"embd_pdrop", "resid_pdrop", "attn_pdrop"}  # dropout, for training only
# Ours, minGPT's (query, key and value are three layers there), the size of each in channels.
BLOCK = {
    "ln_1": (("ln1",), 1),
    "qkv": (("attn.query", "attn.key", "attn.value"), 1, 1),
    "proj": (("attn.proj",), 1, 1),
    "ln_2": (("ln2",), 1),
    "fc": (("mlp.0",), 4, 1),
    "out": (("mlp.2",), 1, 4),
}

UNABLE = (
    "which conditions it on more than a class: our prior can be unconditional or take class "
    "numbers; --no-prior takes its VQGAN alone"
)
REORDERED = (
    "which writes the codes in another order: our prior writes them row by row; --no-prior takes "
    "its VQGAN alone"
)
OTHERS = {"cond_stage_model.": UNABLE, "permuter.": REORDERED}


class Told(NamedTuple):
    """The token before the codes: always `start`, or the number of one of so many classes."""

    start: int = 0
    classes: int = 0


def holds(tensors: Mapping[str, Tensor]) -> bool:
    """Whether a checkpoint has both stages."""
    return f"{SECOND}tok_emb.weight" in tensors and any(k.startswith(FIRST) for k in tensors)


def part(tensors: Mapping[str, Tensor], start: str) -> dict[str, Tensor]:
    """The tensors whose names begin so, by the rest of their names."""
    return {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}


def prior_of(
    src: Path, tensors: Mapping[str, Tensor], config: Path | None, tokenizer: VQGANConfig
) -> GPT:
    """The GPT in a checkpoint that `holds` one. ValueError if ours cannot be what it is.

    Unconditional ones start with their start token; class-conditional ones get the mean of all
    classes for a start, since they never saw a text without one.
    """
    shape, told = _config(src, config)
    for prefix, why in OTHERS.items():
        strange = next((k for k in tensors if k.startswith(prefix)), None)
        if strange:
            raise ValueError(f"{src} has {strange}, {why}")
    side = tokenizer.resolution // tokenizer.downsampling
    codes, tokens = tokenizer.codebook_size, side * side
    if shape["block_size"] < tokens:
        raise ValueError(
            f"{src}: a text of {shape['block_size']} places has no room for {side} x {side} codes"
        )
    _check_vocabulary(src, shape["vocab_size"], codes, told)
    model_config = PriorConfig(
        codebook_size=codes,
        height=side,
        width=side,
        layers=shape["n_layer"],
        heads=shape["n_head"],
        dim=shape["n_embd"],
        gelu="exact",
        tie_head=False,
        condition="class" if told.classes else "start",
        classes=told.classes,
    )
    state = _renamed(src, part(tensors, SECOND), model_config, shape, told)
    with torch.device("meta"):
        model = GPT(model_config)
    model.load_state_dict(state, assign=True)
    return model.eval().requires_grad_(False)


def _config(src: Path, path: Path | None) -> tuple[dict[str, int], Told]:
    """minGPT's shape, and what stands before the codes."""
    if path is None:
        raise ValueError(
            f"{src} holds a prior, whose number of heads only its .yaml tells: name that with "
            "--config, or leave the prior out with --no-prior"
        )
    try:
        params = parsed(path, yaml.safe_load)["model"]["params"]
        shape = dict(params["transformer_config"]["params"])
        target = params["transformer_config"]["target"]
        told = _told(path, params)
        lacking = SHAPE - shape.keys()
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is no configuration of a taming Net2NetTransformer: {error} is missing or "
            "misplaced (model.params with transformer_config, first_stage_config and "
            "cond_stage_config)"
        ) from error
    if not str(target).endswith(".mingpt.GPT"):
        raise ValueError(f"{path}: the transformer is a {target}, and here it must be mingpt.GPT")
    if lacking:
        raise ValueError(f"{path}: transformer_config lacks {', '.join(sorted(lacking))}")
    for name, value in shape.items():
        if name == "n_unmasked" and value in (0, 1):
            continue  # one token sees itself anyway
        if name not in SHAPE | FREE:
            raise ValueError(f"{path}: {name} is {value!r}, which our prior cannot do")
        if name in SHAPE:
            _whole(path, name, value, 1)
    return {name: shape[name] for name in SHAPE}, told


def _whole(path: Path, name: str, value: object, low: int) -> int:
    """A whole number of at least `low`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ValueError(f"{path}: {name} is {value!r}: it must be a whole number from {low} on")
    return value


def _told(path: Path, params: dict) -> Told:
    """What stands before the codes."""
    permuter = params.get("permuter_config")
    if permuter is not None and not permuter["target"].endswith(".Identity"):
        raise ValueError(
            f"{path}: it writes in the order of {permuter['target']}, and our prior row by row; "
            "--no-prior takes its VQGAN alone"
        )
    stage: Any = params["cond_stage_config"]
    if params.get("unconditional") or stage == "__is_unconditional__":
        return Told(start=_whole(path, "sos_token", params.get("sos_token", 0), 0))
    target = stage if isinstance(stage, str) else stage["target"]
    if not target.endswith(".Labelator"):
        raise ValueError(f"{path} has {target}, {UNABLE}")
    return Told(classes=_whole(path, "n_classes", stage["params"]["n_classes"], 1))


def _check_vocabulary(src: Path, size: int, codes: int, told: Told) -> None:
    """ValueError unless all codes and all that stands before them are rows of the table."""
    last = told.classes - 1 if told.classes else told.start
    if size < codes or not 0 <= last < size:
        raise ValueError(
            f"{src}: a vocabulary of {size} has no place for {codes} codes and token {last}"
        )


def _renamed(
    src: Path,
    theirs: dict[str, Tensor],
    cfg: PriorConfig,
    shape: dict[str, int],
    told: Told,
) -> dict[str, Tensor]:
    """Our state dict. ValueError for a tensor that is missing, left over or not as it must be."""
    left = dict(theirs)

    def take(name: str, *size: int) -> Tensor:
        if name not in left:
            raise ValueError(f"{src} lacks {SECOND}{name}")
        value = left.pop(name)
        if not value.is_floating_point():
            raise ValueError(f"{src}: {SECOND}{name} is {value.dtype}, not floating point")
        if tuple(value.shape) != size:
            found, right = ("x".join(map(str, s)) for s in (value.shape, size))
            raise ValueError(f"{src}: {SECOND}{name} is {found}, and by its configuration {right}")
        return value.float()

    dim, vocabulary, block = (shape[name] for name in ("n_embd", "vocab_size", "block_size"))
    tokens = take("tok_emb.weight", vocabulary, dim)
    state = {
        "wte.weight": tokens[: cfg.codebook_size],
        "wpe.weight": take("pos_emb", 1, block, dim)[0, : cfg.positions],
        "head.weight": take("head.weight", vocabulary, dim)[: cfg.codebook_size],
    }
    if told.classes:
        state["class_emb.weight"] = tokens[: told.classes].clone()
        state["start"] = tokens[: told.classes].mean(0)
    else:
        state["start"] = tokens[told.start].clone()
    for kind in ("weight", "bias"):
        state[f"ln_f.{kind}"] = take(f"ln_f.{kind}", dim)
        for i in range(cfg.layers):
            for ours, (names, *size) in BLOCK.items():
                size = [dim * n for n in (size if kind == "weight" else size[:1])]
                parts = [take(f"blocks.{i}.{name}.{kind}", *size) for name in names]
                state[f"blocks.{i}.{ours}.{kind}"] = torch.cat(parts)
    for i in range(cfg.layers):
        if f"blocks.{i}.attn.mask" in left:
            _check_mask(src, take(f"blocks.{i}.attn.mask", 1, 1, block, block), cfg.positions)
    if left:
        more = f" and {len(left) - 1} more" if len(left) > 1 else ""
        raise ValueError(f"{src} has no place here for {SECOND}{sorted(left)[0]}{more}")
    return {name: value.contiguous() for name, value in state.items()}


def _check_mask(src: Path, mask: Tensor, positions: int) -> None:
    """ValueError unless every place sees those up to itself and no others."""
    seen = mask[0, 0, :positions, :positions].bool()
    if not torch.equal(seen, torch.ones_like(seen).tril()):
        raise ValueError(f"{src}: places of its text see others after them, and ours never do")
