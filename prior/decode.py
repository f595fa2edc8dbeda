"""Writing some tokens at a time: packed weights, a key-value cache, a pure step.

`read` reads one token a row or any number, and gives what `GPT.forward` gives (up to rounding), at
a small share of its cost. What makes it quick on a CPU:
bfloat16 where the processor multiplies it natively, weights packed once into oneDNN's own layout
(twice the speed of `F.linear` at these sizes), GELU and residual fused into the products, and a
cache that stays contiguous, so that attention never copies it. In float32, weights that are float16
numbers (shipped ones are) lie in memory as such and are multiplied in float32 all the same.

In bfloat16 on a CPU all of this gives a row the same bits, whatever rows and positions are read
with it (where oneDNN's products do: seen with AVX-512), so a seed gives its picture in every batch.
Elsewhere it does so up to rounding, which seldom shows in float32.

Every row is read where it stands: a place that a row has not come to is masked, so what was read
too early is forgotten by reading that place again.
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
    qkv: Product  # (M, dim) -> (M, 3 dim)
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


@functools.cache
def _halves() -> bool:
    """Whether float32 can be multiplied by weights kept in float16, found out by trying."""
    x, weight = torch.full((2, 16), 1 / 3), torch.eye(16)
    try:
        packed = torch.ops.quantized.linear_prepack_fp16(weight, None)
        return torch.equal(torch.ops.quantized.linear_dynamic_fp16(x, packed), x)
    except (AttributeError, RuntimeError):
        return False


def _half_product(weight: Tensor, bias: Tensor | None) -> Product | None:
    """x -> x @ weight.T + bias with the weight in float16, where that loses nothing."""
    plain = weight.device.type == "cpu" and weight.dtype == torch.float32
    if not (plain and _halves() and torch.equal(weight.half().float(), weight)):
        return None
    packed = torch.ops.quantized.linear_prepack_fp16(weight, bias)
    op = torch.ops.quantized.linear_dynamic_fp16
    return lambda x: op(x, packed)


def _product(weight: Tensor, bias: Tensor | None, gelu: str | None = None) -> Product:
    """x -> x @ weight.T + bias, then GELU if asked for."""
    half = _half_product(weight, bias)
    if half is not None:
        return half if gelu is None else lambda x: F.gelu(half(x), approximate=gelu)
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
    half = _half_product(weight, bias)
    if half is not None:
        return lambda x, r: half(x).add_(r)
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
        packed = PackedBlock(
            norm(block.ln_1),
            _product(get(block.qkv.weight), get(block.qkv.bias)),
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
    """Keys and values of every layer, for the places of a text that its rows have come to.

    Grows in blocks: contiguous in use, and no larger than the longest row.
    """

    def __init__(self, weights: Packed, batch: int):
        cfg = weights.config
        self.batch, self.capacity = batch, 0
        self.heads, self.size = cfg.heads, cfg.dim // cfg.heads
        rows = batch * cfg.heads
        # One type for few rows and many, or what a row gets would depend on the batch it is in.
        kind = {"dtype": weights.dtype, "device": weights.device}
        self.both = [torch.empty(2, rows, 0, self.size, **kind) for _ in weights.blocks]
        self.views: list[tuple[Tensor, Tensor, Tensor]] = []
        self.rows = torch.arange(batch, device=weights.device)[:, None]

    def reach(self, length: int) -> None:
        """Make room for this many positions. New ones are 0: a masked NaN would not stay masked."""
        more = -(-length // BLOCK) * BLOCK - self.capacity
        if more > 0:
            self.both = [self._longer(kv, self.capacity + more) for kv in self.both]
            self.capacity += more
            self.views = [self._views(kv) for kv in self.both]

    def _longer(self, kv: Tensor, capacity: int) -> Tensor:
        new = kv.new_empty(*kv.shape[:2], capacity, self.size)
        new[:, :, : self.capacity] = kv  # F.pad would fill all of it first
        new[:, :, self.capacity :] = 0
        return new

    def _views(self, kv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What is written, [row, place] (2, heads, size); keys (BH, T, size); values likewise."""
        split = kv.view(2, self.batch, self.heads, self.capacity, self.size)
        return split.permute(1, 3, 0, 2, 4), kv[0], kv[1]


def read(
    weights: Packed,
    cache: Cache,
    x: Tensor,
    at: Tensor,
    shifts: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Read S positions of each row: x (B, S, dim) embedded -> logits (B, S, K).

    at      (B,) int64: row b's positions are at[b] to at[b] + S - 1, and see all up to themselves,
            so those before must have been read
    shifts  (rows, positions, layers + 1, dim) in the dtype of the weights, as `GPT.forward` takes
            them, and which of these rows is each row's, (B, 1) int64

    Logits [:, s] are of the code after position s, in the dtype of the weights.
    """
    (b, s, c), shape = x.shape, (x.shape[2],)
    places = at[:, None] + torch.arange(s, device=at.device)  # (B, S)
    cache.reach(int(places.max()) + 1)
    unseen = torch.arange(cache.capacity, device=at.device) > places[..., None]  # (B, S, T)
    bias = torch.zeros(unseen.shape, dtype=weights.dtype, device=x.device)
    bias = bias.masked_fill_(unseen, float("-inf"))[:, None]
    x = (x + weights.positions[places]).reshape(b * s, c)
    # torch's fused attention is the slower one for a single query, and in bfloat16 on a CPU.
    products = s == 1 or (weights.dtype == torch.bfloat16 and x.device.type == "cpu")
    attend = _attend_by_products if products else _attend
    if products:
        bias = bias.expand(b, cache.heads, s, -1).reshape(b * cache.heads, s, -1)
    if shifts is not None:
        added = shifts[0][shifts[1], places].reshape(b * s, -1, c).unbind(1)
    for layer, block in enumerate(weights.blocks):
        write, keys, values = cache.views[layer]
        x = x if shifts is None else x + added[layer]
        qkv = block.qkv(torch.layer_norm(x, shape, *block.norm_1))
        qkv = qkv.view(b, s, 3, cache.heads, cache.size)
        write[cache.rows, places] = qkv[:, :, 1:]
        y = attend(qkv[:, :, 0], keys, values, bias)
        x = block.proj(y.reshape(b * s, c), x)
        x = block.out(block.fc(torch.layer_norm(x, shape, *block.norm_2)), x)
    x = x if shifts is None else x + added[-1]
    return weights.head(torch.layer_norm(x, shape, *weights.norm)).view(b, s, -1)


def _attend_by_products(q: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
    """q (B, S, heads, size), keys and values (BH, T, size), bias (BH, S, T) -> as q."""
    b, s, heads, size = q.shape
    q = q.transpose(1, 2).reshape(-1, s, size)
    scores = torch.baddbmm(bias, q, keys.transpose(1, 2), alpha=size**-0.5)
    y = torch.bmm(torch.softmax(scores, -1), values)  # (BH, S, size)
    return y.view(b, heads, s, size).transpose(1, 2)


def _attend(q: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
    """The same by torch's fused attention, with bias (B, 1, S, T)."""
    k, v = (x.unflatten(0, (q.shape[0], q.shape[2])) for x in (keys, values))
    y = F.scaled_dot_product_attention(q.transpose(1, 2), k, v, attn_mask=bias)
    return y.transpose(1, 2)  # (B, S, heads, size)
