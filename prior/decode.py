"""Writing some tokens at a time: packed weights, a key-value cache, a pure step.

`read` reads one token a row or any number, and gives what `GPT.forward` gives (up to rounding), at
a small share of its cost. What makes it quick on a CPU:
bfloat16 where the processor multiplies it natively, weights packed once into oneDNN's own layout
(twice the speed of `F.linear` at these sizes), GELU and residual fused into the products, and a
cache that stays contiguous, so that attention never copies it. Where the processor sums products of
bytes and the model's ranges are known, products are in int8 (`prior.int8`) and what they are added
to in float32. In float32, weights that are float16 numbers (shipped ones are) lie in memory as such
and are multiplied in float32 all the same.

With keys and values in bfloat16 on a CPU all of this gives a row the same bits, whatever rows and
positions are read with it (where oneDNN's products do: seen with AVX-512), so a seed gives its
picture in every batch. Elsewhere it does so up to rounding, which seldom shows in float32.

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

from prior import int8
from prior.model import GELUS, GPT, PriorConfig
from training.precision import native_bf16

BLOCK = 32  # the cache grows by this many positions: few shapes, so that oneDNN plans them once
Product = Callable[[Tensor], Tensor]
Residual = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class PackedBlock:
    """One layer: LayerNorm weights and the four products."""

    norm_1: tuple[Tensor, Tensor]
    qkv: Product  # (M, dim) -> (M, (heads + 2 stored heads) size)
    proj: Residual  # (M, heads size), (M, dim) -> their sum after the product
    norm_2: tuple[Tensor, Tensor]
    fc: Product  # GELU included; what `out` takes
    out: Residual


@dataclass(frozen=True)
class Packed:
    """A GPT laid out for writing. Holds copies: later changes of the model do not reach it."""

    config: PriorConfig
    dtype: torch.dtype  # of keys and values
    products: torch.dtype  # what the weights are multiplied in
    device: torch.device
    codes: Tensor  # (K, dim), of the type of the residual stream
    positions: Tensor  # (positions, dim)
    blocks: tuple[PackedBlock, ...]
    norm: tuple[Tensor, Tensor]
    head: Product


def native_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the device multiplies it natively, else float32."""
    return torch.bfloat16 if native_bf16(device) else torch.float32


def quickest(model: GPT) -> torch.dtype:
    """int8 where the processor has it and the model's ranges are known, else `native_dtype`."""
    device = model.wte.weight.device
    if model.ranges is not None and device.type == "cpu" and int8.supported():
        return torch.int8
    return native_dtype(device)


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
    return _as_of_several(lambda x: op(x, packed, bias, kind, [], algorithm), weight.dtype)


def _residual(weight: Tensor, bias: Tensor) -> Residual:
    """(x, r) -> r + x @ weight.T + bias."""
    half = _half_product(weight, bias)
    if half is not None:
        return lambda x, r: half(x).add_(r)
    if not _onednn(weight.device.type, weight.dtype):
        return lambda x, r: r + F.linear(x, weight, bias)
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, 16)
    op = torch.ops.mkldnn._linear_pointwise.binary
    return _as_of_several(lambda x, r: op(x, r, packed, bias, "add"), weight.dtype)


def _as_of_several(product: Callable[..., Tensor], dtype: torch.dtype) -> Callable[..., Tensor]:
    """A product that gives a single row the bits that it gives it among others.

    In bfloat16 oneDNN adds up a single row in another order, beyond 1,024 channels (AVX-512).
    """
    if dtype != torch.bfloat16:
        return product

    def alike(*rows: Tensor) -> Tensor:
        if len(rows[0]) > 1:
            return product(*rows)
        return product(*(x.repeat(2, 1) for x in rows))[:1]

    return alike


@torch.no_grad()
def pack(model: GPT, dtype: torch.dtype) -> Packed:
    """Lay out a model's weights in `dtype`, on its own device.

    bfloat16, float32, or int8, which needs a CPU and `model.ranges` (ValueError).
    """
    if dtype == torch.int8:
        return _pack_int8(model)
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
    norms = norm(model.ln_f)
    return Packed(cfg, dtype, dtype, device, codes, positions, tuple(blocks), norms, head)


def _pack_int8(model: GPT) -> Packed:
    """Products in int8, what they are added to in float32, keys and values in the native type."""
    if model.ranges is None or not int8.supported():
        lack = "this prior's ranges (python -m prior.ranges)"
        lack = lack if model.ranges is None else "a processor that sums products of bytes"
        raise ValueError(f"dtype is torch.int8: that needs {lack}")
    cfg, kept = model.config, native_dtype(torch.device("cpu"))

    def get(p: Tensor) -> Tensor:
        return p.detach().to(torch.float32, copy=True).contiguous()

    def both(m: torch.nn.Module) -> tuple[Tensor, Tensor]:
        return get(m.weight), get(m.bias)

    def of_norm(product: Product) -> Product:  # a LayerNorm gives numbers in steps already
        return lambda x: product(int8.to_bytes(x))

    def of_floats(steps: int8.Steps, add: Residual) -> Residual:
        rounding = steps.rounding()
        return lambda x, r: add(rounding(x), r)

    steps = [int8.Steps.over(low, high) for low, high in model.ranges.tolist()]
    blocks = []
    for i, block in enumerate(model.blocks):
        qkv, proj, fc, out = steps[4 * i : 4 * i + 4]
        packed = PackedBlock(
            qkv.fold(*both(block.ln_1)),
            of_norm(int8.linear(*both(block.qkv), qkv, kept)),
            of_floats(proj, int8.residual(*both(block.proj), proj)),
            fc.fold(*both(block.ln_2)),
            of_norm(int8.linear(*both(block.fc), fc, out, GELUS[cfg.gelu])),
            int8.residual(*both(block.out), out),
        )
        blocks.append(packed)
    codes, positions = get(model.wte.weight), get(model.wpe.weight)
    head = of_norm(int8.linear(get(model.head_weight), None, steps[-1], torch.float32))
    norm = steps[-1].fold(*both(model.ln_f))
    device = torch.device("cpu")
    return Packed(cfg, kept, torch.int8, device, codes, positions, tuple(blocks), norm, head)


_packed: weakref.WeakKeyDictionary[GPT, tuple] = weakref.WeakKeyDictionary()


def packed(model: GPT, dtype: torch.dtype | None = None) -> Packed:
    """`pack`, remembered for as long as the model lives and its weights stay as they are."""
    dtype = dtype or quickest(model)
    tensors = [p for p in (*model.parameters(), model.ranges) if p is not None]
    state = dtype, tuple((p.data_ptr(), p._version) for p in tensors)
    known = _packed.get(model)
    if known is None or known[0] != state:
        known = _packed[model] = state, pack(model, dtype)
    return known[1]


class Cache:
    """Keys and values of every layer, for the places of a text that its rows have come to.

    Grows in blocks: contiguous in use, and no larger than the longest row. One table holds all of a
    layer, each slot one head's vector of one place: the queries of the latest read first, then all
    keys, then all values, so that one copy puts a layer's products where attention takes them.
    Heads that share keys and values lie side by side, so that their queries are one matrix.
    """

    def __init__(self, weights: Packed, batch: int):
        cfg = weights.config
        self.batch, self.size = batch, cfg.head_channels
        self.heads, self.stored = cfg.heads, cfg.stored_heads
        self.capacity = self.queries = 0  # places of a row; of them, read at once
        # One type for few rows and many, or what a row gets would depend on the batch it is in.
        kind = {"dtype": weights.dtype, "device": weights.device}
        self.table = torch.empty(len(weights.blocks), 0, self.size, **kind)
        most = -(-cfg.positions // BLOCK) * BLOCK
        unseen = torch.full((most, most), float("-inf"), **kind)
        self.causal = unseen.triu_(1)  # [place]: 0 for all up to itself

    def reach(self, length: int, queries: int) -> None:
        """Make room for this many places, and to read this many of each row at once."""
        if length <= self.capacity and queries <= self.queries:
            return
        old, held = self._split(self.table)[1:], self.capacity
        self.capacity = max(held, -(-length // BLOCK) * BLOCK)
        self.queries = max(self.queries, queries)
        self._lay_out(*old)

    def keep(self, rows: Tensor) -> None:
        """Forget all but these rows, (n,) int64."""
        parts = self._split(self.table)[1:]
        held = [x.unflatten(1, (self.batch, -1))[:, rows].flatten(1, 2) for x in parts]
        self.batch = len(rows)
        self._lay_out(*held)

    def _lay_out(self, *filled: Tensor) -> None:
        """A new table with these keys and values (layers, BG, places, size), and room for more."""
        layers, slots = len(self.table), sum(self._sizes())
        self.table = self.table.new_empty(layers, slots, self.size)
        for new, old in zip(self._split(self.table)[1:], filled, strict=True):
            held = old.shape[2]
            new[:, :, :held] = old
            new[:, :, held:] = 0  # a masked NaN would not stay masked
        self.flat = self.table.flatten(0, 1)
        self.views = list(zip(*(x.unbind() for x in self._split(self.table)), strict=True))
        self.starts: dict[int, Tensor] = {}  # by the number of places that are read at once

    def _sizes(self) -> tuple[int, int, int]:
        """Slots of queries, keys and values in a layer."""
        kept = self.batch * self.stored * self.capacity
        return self.batch * self.heads * self.queries, kept, kept

    def _split(self, table: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys, values of all layers: (layers, BG, places, size), the queries flat.

        G are the heads of keys and values.
        """
        queries, *kept = table.split(self._sizes(), 1)
        keys, values = (x.unflatten(1, (self.batch * self.stored, self.capacity)) for x in kept)
        return queries, keys, values

    def slots(self, places: Tensor) -> list[Tensor]:
        """Where each layer's products of these places (B, S) go: (B S (H + 2 G),), query first."""
        count, device = places.shape[1], places.device
        if count not in self.starts:
            layers, total = self.table.shape[:2]
            rows = torch.arange(self.batch, device=device).view(-1, 1, 1)
            each = torch.arange(count, device=device).view(-1, 1)
            heads, stored = (torch.arange(n, device=device) for n in (self.heads, self.stored))
            queries, kept, _ = self._sizes()
            query = (rows * self.heads + heads) * count + each  # (B, S, H)
            key = queries + (rows * self.stored + stored) * self.capacity
            key = key.expand(-1, count, -1)  # (B, S, G)
            slot = torch.cat([query, key, key + kept], 2)
            layer = torch.arange(layers, device=device) * total
            self.starts[count] = slot + layer.view(-1, 1, 1, 1)
            self.moves = (torch.arange(slot.shape[2], device=device) >= self.heads).long()
        found = self.starts[count] + places[..., None] * self.moves
        return found.flatten(1).unbind()

    def put(self, slots: Tensor, vectors: Tensor) -> None:
        """Store vectors (n, size) where `slots` said they go."""
        if vectors.device.type == "mps":  # `index_copy_` is slow there, and was wrong for a while
            self.flat[slots] = vectors
        else:  # half the time of an indexed write
            self.flat.index_copy_(0, slots, vectors)


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
    shifts  (rows, positions, layers + 1, dim) in the dtype of x, as `GPT.forward` takes them, and
            which of these rows is each row's, (B, 1) int64

    Logits [:, s] are of the code after position s, in the dtype of x.
    """
    (b, s, c), shape = x.shape, (x.shape[2],)
    places = at[:, None] + torch.arange(s, device=at.device)  # (B, S)
    cache.reach(int(at.max()) + s, s)
    slots = cache.slots(places)
    bias = cache.causal[places, : cache.capacity][:, None]  # (B, 1, S, T)
    x = (x + weights.positions[places]).reshape(b * s, c)
    # torch's fused attention is the slower one for a single query, and in bfloat16 on a CPU.
    products = s == 1 or (weights.dtype == torch.bfloat16 and x.device.type == "cpu")
    attend = _attend_by_products if products else _attend
    group = cache.heads // cache.stored  # heads that share keys and values
    bias = bias.expand(b, group, s, -1).reshape(b, 1, group * s, -1)
    if products:
        bias = bias.expand(b, cache.stored, group * s, -1).reshape(-1, group * s, bias.shape[-1])
    if shifts is not None:
        added = shifts[0][shifts[1], places].reshape(b * s, -1, c).unbind(1)
    for layer, block in enumerate(weights.blocks):
        x = x if shifts is None else x + added[layer]
        qkv = block.qkv(torch.layer_norm(x, shape, *block.norm_1))
        cache.put(slots[layer], qkv.view(-1, cache.size))
        queries, keys, values = cache.views[layer]
        q = queries[: b * cache.heads * s].view(-1, group * s, cache.size)
        y = attend(q, keys, values, bias).view(b, cache.heads, s, -1)
        x = block.proj(y.transpose(1, 2).reshape(b * s, -1), x)
        x = block.out(block.fc(torch.layer_norm(x, shape, *block.norm_2)), x)
    x = x if shifts is None else x + added[-1]
    return weights.head(torch.layer_norm(x, shape, *weights.norm)).view(b, s, -1)


def _attend_by_products(q: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
    """q (BG, R, size), keys and values (BG, T, size), bias (BG, R, T) -> as q."""
    scores = torch.bmm(q, keys.transpose(1, 2))  # `baddbmm` would first copy the bias
    scores = torch.add(bias, scores, alpha=q.shape[-1] ** -0.5)
    return torch.bmm(torch.softmax(scores, -1), values)


def _attend(q: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
    """The same by torch's fused attention, with bias (B, 1, R, T)."""
    q, k, v = (x.unflatten(0, (len(bias), -1)) for x in (q, keys, values))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)  # (B, G, R, size)
