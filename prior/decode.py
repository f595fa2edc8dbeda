"""Writing one token at a time: packed weights, a key-value cache, two pure steps.

`prefill` reads any number of tokens at once, `decode_one_token` one a row. Both give what
`GPT.forward` gives (up to rounding), at a small share of its cost. What makes them quick on a CPU:
bfloat16 where the processor multiplies it natively, weights packed once into oneDNN's own layout
(twice the speed of `F.linear` at these sizes), GELU and residual fused into the products, and a
cache that stays contiguous, so that attention never copies it.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from prior.model import GELUS, GPT, PriorConfig
from training.precision import native_bf16

BLOCK = 32  # the cache grows by this many positions: few shapes, so that oneDNN plans them once
Product = Callable[[Tensor], Tensor]
Residual = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class PackedBlock:
    """One layer: LayerNorm weights and the four products."""

    norm_1: tuple[Tensor, Tensor]
    qkv: Product  # (M, dim) -> (M, 3 dim); queries come scaled by 1 / sqrt(head size)
    proj: Residual  # (M, dim), (M, dim) -> their sum after the product
    norm_2: tuple[Tensor, Tensor]
    fc: Product  # GELU included
    out: Residual


@dataclass(frozen=True)
class Packed:
    """A GPT laid out for writing. Holds copies: later changes of the model do not reach it."""

    config: PriorConfig
    dtype: torch.dtype
    device: torch.device
    codes: Tensor  # (K, dim)
    positions: Tensor  # (positions, dim)
    blocks: tuple[PackedBlock, ...]
    norm: tuple[Tensor, Tensor]
    head: Product


def native_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the device multiplies it natively, else float32."""
    return torch.bfloat16 if native_bf16(device) else torch.float32


@functools.cache
def _onednn(device: str, dtype: torch.dtype) -> bool:
    """Whether oneDNN's packed products can be had, found out by trying one."""
    if device != "cpu":
        return False
    x, weight = torch.ones(2, 16, dtype=dtype), torch.eye(16, dtype=dtype)
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, 16)
        y = torch.ops.mkldnn._linear_pointwise.default(x, packed, None, "none", [], "")
        return torch.equal(y, x)
    except (AttributeError, RuntimeError):
        return False


def _product(weight: Tensor, bias: Tensor | None, gelu: str | None = None) -> Product:
    """x -> x @ weight.T + bias, then GELU if asked for."""
    if not _onednn(weight.device.type, weight.dtype):
        if gelu is None:
            return lambda x: F.linear(x, weight, bias)
        return lambda x: F.gelu(F.linear(x, weight, bias), approximate=gelu)
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, 16)
    op = torch.ops.mkldnn._linear_pointwise.default
    kind, algorithm = ("none", "") if gelu is None else ("gelu", gelu)
    return lambda x: op(x, packed, bias, kind, [], algorithm)


def _residual(weight: Tensor, bias: Tensor) -> Residual:
    """(x, r) -> r + x @ weight.T + bias."""
    if not _onednn(weight.device.type, weight.dtype):
        return lambda x, r: r + F.linear(x, weight, bias)
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, 16)
    op = torch.ops.mkldnn._linear_pointwise.binary
    return lambda x, r: op(x, r, packed, bias, "add")


@torch.no_grad()
def pack(model: GPT, dtype: torch.dtype) -> Packed:
    """Lay out a model's weights in `dtype` (bfloat16 or float32), on its own device."""
    cfg = model.config

    def get(p: Tensor) -> Tensor:
        return p.detach().to(dtype, copy=True).contiguous()

    def norm(m: torch.nn.LayerNorm) -> tuple[Tensor, Tensor]:
        return get(m.weight), get(m.bias)

    blocks = []
    for block in model.blocks:
        scale = torch.ones(3 * cfg.dim, device=block.qkv.weight.device)
        scale[: cfg.dim] = (cfg.dim // cfg.heads) ** -0.5
        qkv = get(block.qkv.weight * scale[:, None]), get(block.qkv.bias * scale)
        packed = PackedBlock(
            norm(block.ln_1),
            _product(*qkv),
            _residual(get(block.proj.weight), get(block.proj.bias)),
            norm(block.ln_2),
            _product(get(block.fc.weight), get(block.fc.bias), GELUS[cfg.gelu]),
            _residual(get(block.out.weight), get(block.out.bias)),
        )
        blocks.append(packed)
    codes, device = get(model.wte.weight), model.wte.weight.device
    head = _product(get(model.head_weight), None)
    positions = get(model.wpe.weight)
    return Packed(cfg, dtype, device, codes, positions, tuple(blocks), norm(model.ln_f), head)


_packed: weakref.WeakKeyDictionary[GPT, tuple] = weakref.WeakKeyDictionary()


def packed(model: GPT, dtype: torch.dtype | None = None) -> Packed:
    """`pack`, remembered for as long as the model lives and its weights stay as they are."""
    dtype = dtype or native_dtype(model.wte.weight.device)
    state = dtype, tuple((p.data_ptr(), p._version) for p in model.parameters())
    known = _packed.get(model)
    if known is None or known[0] != state:
        known = _packed[model] = state, pack(model, dtype)
    return known[1]


class Cache:
    """Keys and values of every layer for the positions read so far.

    Grows in blocks, with positions not yet written masked by `bias`: contiguous in use, and no
    larger than the text.
    """

    def __init__(self, weights: Packed, batch: int):
        cfg = weights.config
        self.batch, self.length, self.capacity = batch, 0, 0
        self.heads, self.size = cfg.heads, cfg.dim // cfg.heads
        rows = batch * cfg.heads
        # One query a row and head: with few rows float32 products are quicker than bfloat16 ones.
        few = weights.device.type == "cpu" and rows < 24
        self.dtype = torch.float32 if few else weights.dtype
        kind = {"dtype": self.dtype, "device": weights.device}
        self.both = [torch.empty(2, rows, 0, self.size, **kind) for _ in weights.blocks]
        self.bias = torch.empty(1, 1, 0, **kind)
        self.views: list[tuple[Tensor, Tensor, Tensor]] = []

    def advance(self, count: int) -> None:
        """The next `count` positions will be written: make room and unmask them."""
        length = self.length + count
        more = -(-length // BLOCK) * BLOCK - self.capacity
        if more > 0:
            self.both = [F.pad(kv, (0, 0, 0, more)) for kv in self.both]
            self.bias = F.pad(self.bias, (0, more), value=float("-inf"))
            self.capacity += more
            self.views = [self._views(kv) for kv in self.both]
        self.bias[..., self.length : length] = 0
        self.length = length

    def retract(self, count: int) -> None:
        """The latest `count` positions were not to be read: forget and mask them."""
        self.bias[..., self.length - count : self.length] = float("-inf")
        self.length -= count

    def _views(self, kv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Where position t is written, [t] (B, 2, heads, size); keys (BH, size, T); values."""
        split = kv.view(2, self.batch, self.heads, self.capacity, self.size)
        return split.permute(3, 1, 0, 2, 4), kv[0].transpose(1, 2), kv[1]


def decode_one_token(weights: Packed, cache: Cache, x: Tensor) -> Tensor:
    """Read one position a row: x (B, dim) embedded -> logits (B, K) of the next token.

    Adds to the cache. The result has the dtype of the weights.
    """
    (b, c), at, shape = x.shape, cache.length, (x.shape[1],)
    cache.advance(1)
    x = x + weights.positions[at]
    for block, (write, keys, values) in zip(weights.blocks, cache.views, strict=True):
        qkv = block.qkv(torch.layer_norm(x, shape, *block.norm_1))
        qkv = qkv.view(b, 3, cache.heads, cache.size)
        write[at].copy_(qkv[:, 1:])
        q = qkv[:, 0].to(cache.dtype).reshape(-1, 1, cache.size)
        weighted = torch.softmax(torch.baddbmm(cache.bias, q, keys), -1)  # (BH, 1, T)
        y = torch.bmm(weighted, values).view(b, c)
        x = block.proj(y.to(weights.dtype), x)
        x = block.out(block.fc(torch.layer_norm(x, shape, *block.norm_2)), x)
    return weights.head(torch.layer_norm(x, shape, *weights.norm))


def prefill(weights: Packed, cache: Cache, x: Tensor) -> Tensor:
    """Read S positions at once: x (B, S, dim) embedded -> logits (B, S, K).

    Logits [:, s] are of the token after position s. Adds to the cache, which may hold some already.
    """
    (b, s, c), at, shape = x.shape, cache.length, (x.shape[2],)
    cache.advance(s)
    mask = torch.ones(s, at + s, dtype=torch.bool, device=x.device).tril(at)
    x = (x + weights.positions[at : at + s]).reshape(b * s, c)
    for block, (write, keys, values) in zip(weights.blocks, cache.views, strict=True):
        qkv = block.qkv(torch.layer_norm(x, shape, *block.norm_1))
        qkv = qkv.view(b, s, 3, cache.heads, cache.size)
        write[at : at + s].copy_(qkv[:, :, 1:].transpose(0, 1))
        q = qkv[:, :, 0].to(cache.dtype).transpose(1, 2)  # (B, heads, S, size)
        k = keys.transpose(1, 2).unflatten(0, (b, cache.heads))[:, :, : at + s]
        v = values.unflatten(0, (b, cache.heads))[:, :, : at + s]
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=1.0)
        y = y.transpose(1, 2).reshape(b * s, c).to(weights.dtype)
        x = block.proj(y, x)
        x = block.out(block.fc(torch.layer_norm(x, shape, *block.norm_2)), x)
    return weights.head(torch.layer_norm(x, shape, *weights.norm)).view(b, s, -1)
