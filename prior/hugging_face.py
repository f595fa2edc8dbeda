"""The prior's weights as Hugging Face's models hold them, and back.

GPT2LMHeadModel is the same function where every head has keys and values of its own. GPTBigCode
("SantaCoder", Ben Allal et al. 2023) is GPT-2 whose heads share one of each.

The vocabulary of both: our codes 0..K-1, then the start token K, then class c as token K + 1 + c;
logits beyond K mean nothing. Heads narrower than theirs, which have dim / heads channels, are
filled up with zeros.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from prior.model import GPT, PriorConfig

# GPT-2's linear layers ("Conv1D") hold (in, out) weights, ours and GPTBigCode's (out, in).
_LAYERS = {
    "ln_1": "ln_1",
    "qkv": "attn.c_attn",
    "proj": "attn.c_proj",
    "ln_2": "ln_2",
    "fc": "mlp.c_fc",
    "out": "mlp.c_proj",
}
_TURNED = {"qkv", "proj", "fc", "out"}


def _table(config: PriorConfig) -> dict[str, tuple[str, bool]]:
    """Our key -> (theirs, whether GPT-2 transposes the matrix); the token tables are apart."""
    table = {"wpe.weight": ("transformer.wpe.weight", False)}
    for i in range(config.layers):
        for ours, theirs in _LAYERS.items():
            for kind in ("weight", "bias"):
                turned = kind == "weight" and ours in _TURNED
                table[f"blocks.{i}.{ours}.{kind}"] = (f"transformer.h.{i}.{theirs}.{kind}", turned)
    for kind in ("weight", "bias"):
        table[f"ln_f.{kind}"] = (f"transformer.ln_f.{kind}", False)
    return table


def to_hugging_face(model: GPT) -> tuple[dict, dict[str, Tensor]]:
    """(keyword arguments for GPT2Config, state dict for GPT2LMHeadModel).

    Keys and values that heads share are repeated for each of them. ValueError for condition
    "embedding", which it has no token for, and for heads wider than its own.
    """
    cfg = model.config
    state = unshared(_widened(model.state_dict(), cfg), cfg)
    return _arguments(cfg, "gelu_new"), _converted(state, cfg, turn=True)


def to_big_code(model: GPT) -> tuple[dict, dict[str, Tensor]]:
    """(keyword arguments for GPTBigCodeConfig, state dict for GPTBigCodeForCausalLM).

    ValueError as from `to_hugging_face`, and unless all heads share one of keys and values.
    """
    cfg = model.config
    if cfg.stored_heads != 1:
        raise ValueError(
            f"kv_heads is {cfg.kv_heads}: only priors with kv_heads 1 convert to GPTBigCode, whose "
            "heads all share the same keys and values; see to_hugging_face"
        )
    state = _converted(_widened(model.state_dict(), cfg), cfg, turn=False)
    return _arguments(cfg, "gelu_pytorch_tanh") | {"multi_query": True}, state


def _arguments(config: PriorConfig, tanh: str) -> dict:
    """Keyword arguments that both configs take; `tanh` is their name of GPT-2's own GELU."""
    return {
        "vocab_size": config.codebook_size + config.prefix + config.classes,
        "n_positions": config.positions,
        "n_embd": config.dim,
        "n_layer": config.layers,
        "n_head": config.heads,
        "activation_function": tanh if config.gelu == "tanh" else "gelu",
        "tie_word_embeddings": config.tie_head,
    }


def _converted(state: Mapping[str, Tensor], config: PriorConfig, *, turn: bool) -> dict:
    """The state dict under their names, with matrices as GPT-2 has them if `turn`."""
    _check_condition(config)
    extra = [state["start"][None]] if config.prefix else []
    extra += [state["class_emb.weight"]] if config.condition == "class" else []
    tokens = torch.cat([state["wte.weight"], *extra])
    head = tokens
    if not config.tie_head:
        head = F.pad(state["head.weight"], (0, 0, 0, len(tokens) - config.codebook_size))
    out = {"transformer.wte.weight": tokens, "lm_head.weight": head}
    for ours, (theirs, turned) in _table(config).items():
        out[theirs] = state[ours].t().contiguous() if turned and turn else state[ours]
    return out


def _check_condition(config: PriorConfig) -> None:
    if config.condition == "embedding":
        raise ValueError("transformers' GPT-2 has no embedding prefix: only token prefixes convert")


def unshared(state: Mapping[str, Tensor], config: PriorConfig) -> dict[str, Tensor]:
    """The same function with keys and values for every head: copies of those that heads share."""
    out, (heads, stored) = dict(state), (config.heads, config.stored_heads)
    for i in range(config.layers):
        for name in (f"blocks.{i}.qkv.weight", f"blocks.{i}.qkv.bias"):
            parts = state[name].unflatten(0, (heads + 2 * stored, -1))
            queries, *kept = parts.split((heads, stored, stored))
            kept = [x.repeat_interleave(heads // stored, 0) for x in kept]
            out[name] = torch.cat([queries, *kept]).flatten(0, 1)
    return out


def _widened(state: Mapping[str, Tensor], config: PriorConfig) -> dict[str, Tensor]:
    """The same function with dim / heads channels a head: zeros in those that are new."""
    heads, more = config.heads, config.dim // config.heads - config.head_channels
    if more < 0 or config.dim % heads:
        raise ValueError(
            f"{heads} heads of {config.head_channels} channels do not fit into transformers' "
            f"GPT-2: it shares dim, {config.dim}, evenly among its heads"
        )
    out = dict(state)
    for i in range(config.layers if more else 0):
        for name in (f"blocks.{i}.qkv.weight", f"blocks.{i}.qkv.bias"):
            old = state[name].unflatten(0, (heads + 2 * config.stored_heads, -1)).clone()
            # Scores are divided by the root of a head's size: larger queries make up for it.
            old[:heads] *= (1 + more / config.head_channels) ** 0.5
            pad = (0,) * 2 * (old.ndim - 2) + (0, more)
            out[name] = F.pad(old, pad).flatten(0, 1)
        name = f"blocks.{i}.proj.weight"
        wide = F.pad(state[name].unflatten(1, (heads, -1)), (0, more))
        out[name] = wide.flatten(1)
    return out


def from_hugging_face(state: Mapping[str, Tensor], config: PriorConfig) -> GPT:
    """The GPT that a GPT2LMHeadModel's state dict describes, laid out as `to_hugging_face` does.

    Strict: ValueError names a missing key or a shape that does not fit `config`, or `kv_heads`
    that share what GPT-2 has for every head.
    """
    _check_condition(config)
    if config.stored_heads != config.heads:
        raise ValueError(
            f"kv_heads is {config.kv_heads}: GPT2LMHeadModel has keys and values for each of its "
            f"heads: leave kv_heads at 0"
        )
    try:
        ours = {
            key: state[theirs].t() if turned else state[theirs]
            for key, (theirs, turned) in _table(config).items()
        }
        tokens, head = state["transformer.wte.weight"], state["lm_head.weight"]
    except KeyError as error:
        raise ValueError(f"the state dict has no {error.args[0]}: it is no such GPT-2") from None
    size = config.codebook_size
    wanted = size + config.prefix + config.classes
    if len(tokens) != wanted:
        raise ValueError(f"the token table has {len(tokens)} rows: this config needs {wanted}")
    ours["wte.weight"] = tokens[:size]
    if config.prefix:
        ours["start"] = tokens[size]
    if config.condition == "class":
        ours["class_emb.weight"] = tokens[size + 1 :]
    if not config.tie_head:
        ours["head.weight"] = head[:size]
    model = GPT(config)
    try:
        model.load_state_dict(ours)
    except RuntimeError as error:
        raise ValueError(f"the state dict does not fit the config: {error}") from None
    return model
