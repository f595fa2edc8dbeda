"""A prior with less to keep of each place, that begins near the one it is cut from.

`--init B --head-size N` narrows heads to N channels, `--init B --kv-heads G` lets the heads of each
of G groups share keys and values (one group: multi-query attention), or both.

Of each group the directions stay that count most on real grids: once for the scores of all its
heads, q k^T, and once for what its values add to the residual stream, v O^T. Both become the
nearest matrix of their rank, in mean squared error over what the grids bring (Eckart and Young; for
a layer's weights, Wang et al., "SVD-LLM", section 3.1; for heads that come to share keys and
values, Meng et al., "TransMLA"; Ainslie et al., "GQA", begin with the mean of the heads instead).
Keys and values then take less memory and writing less time; the little that is lost, training
learns back.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from prior.model import GPT, Block


@torch.no_grad()
def narrowed(prior: GPT, size: int, grids: Tensor, kv_heads: int = 0) -> GPT:
    """A prior with `size` channels a head and `kv_heads` heads of keys and values (0: all).

    ValueError unless that is less to keep than it has, and for a prior whose heads share keys and
    values already: what counts for one may not for another. Neighbouring heads share.

    grids  (B, N) int64, on its device: read, unconditionally, to see which directions count
    """
    cfg, stored = prior.config, kv_heads or prior.config.heads
    if cfg.stored_heads != cfg.heads:
        raise ValueError(
            f"this prior's heads share keys and values already (kv_heads {cfg.kv_heads}): only "
            "heads with their own can get narrower or come to share them"
        )
    limit = cfg.heads * cfg.head_channels // stored
    if not 0 < size < limit:
        raise ValueError(
            f"head_size is {size}: beside {stored} heads of keys and values it must be at least 1 "
            f"and less than {limit}, or nothing gets less"
        )
    model = GPT(replace(cfg, head_size=size, kv_heads=kv_heads))
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
        _cut(old, new, x.flatten(0, 1), size)
    return model


def _cut(old: Block, new: Block, x: Tensor, size: int) -> None:
    """Give `new` the attention of `old`, as nearly as its heads allow; x (M, dim) enters qkv."""
    weight, bias = (p.double().unflatten(0, (3, old.heads, -1)) for p in old.qkv.parameters())
    out = old.proj.weight.double().unflatten(1, (old.heads, -1))  # (dim, heads, wide)
    wide, each = out.shape[2], old.heads // new.stored_heads
    x, added = x.double(), old.proj.bias.double()
    share = (size / wide) ** 0.25  # scores are divided by the square root of the size
    parts: list[list[tuple[Tensor, Tensor]]] = [[], [], []]  # new weights and biases of q, k, v
    outs = []
    for group in torch.arange(old.heads).split(each):  # heads that are to share keys and values
        w, b = weight[:, group], bias[:, group]  # (3, each, wide, dim), (3, each, wide)
        q = torch.einsum("md,hcd->hmc", x, w[0]) + b[0][:, None]
        k, v = (x @ w[i].flatten(0, 1).T + b[i].flatten() for i in (1, 2))  # (M, each wide)
        # What is added to all of a query's scores changes nothing: keys count from their mean.
        roots = torch.block_diag(*(_root(rows) for rows in q))
        for_q, for_k = _nearest(roots, _root(k - k.mean(0)), size)
        # Shares of values sum to 1: their mean passes whole.
        taken = torch.block_diag(*(out[:, h].T for h in group))  # (each wide, each dim)
        for_v, for_out = _nearest(_root(v - v.mean(0)), taken, size)
        for_q, for_out = (m.unflatten(0, (each, wide)) for m in (for_q, for_out))
        for m, own_w, own_b in zip(for_q * share, w[0], b[0], strict=True):
            parts[0].append((m.T @ own_w, m.T @ own_b))
        for i, m in ((1, for_k * share), (2, for_v)):
            parts[i].append((m.T @ w[i].flatten(0, 1), m.T @ b[i].flatten()))
        for h, m, own in zip(group, for_out, v.mean(0).view(each, wide), strict=True):
            outs.append(out[:, h] @ m)
            added = added + out[:, h] @ (own - m @ (for_v.T @ v.mean(0)))
    weights, biases = zip(*(pair for part in parts for pair in part), strict=True)
    new.qkv.weight.copy_(torch.cat(weights))
    new.qkv.bias.copy_(torch.cat(biases))
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
