"""A prior with narrower heads that begins near the one it is cut from: `--init B --head-size N`.

Of each head the N directions stay that count most on real grids: once for scores, q k^T, and once
for what values add to the residual stream, v O^T. Both become the nearest matrix of rank N, in mean
squared error over what the grids bring (Eckart and Young; for a layer's weights, Wang et al.,
"SVD-LLM", section 3.1). Keys and values then take less memory and writing less time; the little
that is lost, training learns back.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from prior.model import GPT, Block


@torch.no_grad()
def narrowed(prior: GPT, size: int, grids: Tensor) -> GPT:
    """A prior with `size` channels a head; ValueError unless that is fewer than it has.

    Also a ValueError where heads share keys and values: what counts for one may not for another.

    grids  (B, N) int64, on its device: read, unconditionally, to see which directions count
    """
    cfg = prior.config
    if cfg.stored_heads != cfg.heads:
        raise ValueError(
            f"head_size is {size}: only heads with keys and values of their own can get narrower, "
            f"and kv_heads is {cfg.kv_heads}"
        )
    if not 0 < size < cfg.head_channels:
        raise ValueError(
            f"head_size is {size}: heads of {cfg.head_channels} channels can only get narrower"
        )
    model = GPT(replace(cfg, head_size=size))
    state = model.state_dict()
    same = {k: v for k, v in prior.state_dict().items() if v.shape == state[k].shape}
    model.load_state_dict(state | same)
    inputs: list[Tensor] = []
    handles = [
        block.qkv.register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
        for block in prior.blocks
    ]
    try:
        prior(grids)
    finally:
        for handle in handles:
            handle.remove()
    for old, new, x in zip(prior.blocks, model.blocks, inputs, strict=True):
        _cut(old, new, x.flatten(0, 1))
    return model


def _cut(old: Block, new: Block, x: Tensor) -> None:
    """Give `new` the attention of `old`, as nearly as its heads allow; x (M, dim) enters qkv."""
    weight, bias = (p.double().unflatten(0, (3, old.heads, -1)) for p in old.qkv.parameters())
    out = old.proj.weight.double().unflatten(1, (old.heads, -1))  # (dim, heads, wide)
    size, wide = new.qkv.weight.shape[0] // (3 * old.heads), out.shape[2]
    x, added = x.double(), old.proj.bias.double()
    weights, biases, outs = [], [], []
    for h in range(old.heads):
        q, k, v = (x @ weight[i, h].T + bias[i, h] for i in range(3))  # (M, wide)
        # What is added to all of a query's scores changes nothing: keys count from their mean.
        for_q, for_k = _nearest(_root(q), _root(k - k.mean(0)), size)
        share = (size / wide) ** 0.25  # scores are divided by the square root of the size
        # Shares of values sum to 1: their mean passes whole.
        for_v, for_out = _nearest(_root(v - v.mean(0)), out[:, h].T, size)
        added = added + out[:, h] @ (v.mean(0) - for_out @ (for_v.T @ v.mean(0)))
        maps = (for_q * share, for_k * share, for_v)
        weights.append(torch.stack([m.T @ weight[i, h] for i, m in enumerate(maps)]))
        biases.append(torch.stack([m.T @ bias[i, h] for i, m in enumerate(maps)]))
        outs.append(out[:, h] @ for_out)
    new.qkv.weight.copy_(torch.stack(weights, 1).flatten(0, 2))
    new.qkv.bias.copy_(torch.stack(biases, 1).flatten())
    new.proj.weight.copy_(torch.cat(outs, 1))
    new.proj.bias.copy_(added)


def _root(x: Tensor) -> Tensor:
    """(M, n) -> the symmetric root (n, n) of x^T x / M."""
    values, vectors = torch.linalg.eigh(x.T @ x / len(x))
    return vectors * values.clamp(min=1e-9 * values[-1]).sqrt() @ vectors.T


def _nearest(left: Tensor, right: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """A, B (n, size), for which left A B^T right is nearest to left right, and both halves alike.

    left (n, n), invertible; right (n, m)
    """
    u, s, _ = torch.linalg.svd(left @ right, full_matrices=False)
    u, root = u[:, :size], s[:size].sqrt()
    inverse = torch.where(s[:size] > 1e-12 * s[0], 1 / root, 0)  # directions that bring nothing
    return torch.linalg.solve(left, u) * root, left @ u * inverse
