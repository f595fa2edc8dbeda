"""GPT-2 over grids of codes: the article's second stage.

Sees integer grids only, written in raster order (row by row, left to right). What a code looks
like is the tokenizer's business, and the tokenizer is never imported here.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GELUS = {"tanh": "tanh", "exact": "none"}  # our names -> torch's `approximate`
CONDITIONS = ("start", "first", "class", "embedding")


@dataclass(frozen=True)
class PriorConfig:
    """Shape of a prior. The defaults are about 15 million parameters, 29 MB in fp16."""

    codebook_size: int = 1024  # K: codes of the tokenizer this prior writes for
    height: int = 16  # rows of the grid
    width: int = 16  # columns of the grid
    layers: int = 8
    heads: int = 6
    dim: int = 384  # channels of the residual stream
    head_size: int = 0  # channels of a head; 0: dim / heads, as in GPT-2
    # Heads of keys and values, each shared by heads / kv_heads heads of queries (1: multi-query
    # attention, Shazeer, "Fast Transformer Decoding"); 0: as many as heads, as in GPT-2
    kv_heads: int = 0
    gelu: str = "tanh"  # tanh (GPT-2's own) | exact (minGPT and the paper's checkpoints)
    tie_head: bool = True  # the output layer is the code embedding, transposed
    dropout: float = 0.0  # on embeddings and on what each sub-layer adds
    condition: str = "start"  # what precedes the codes: start | first | class | embedding
    classes: int = 0  # number of classes, for condition "class"
    embedding_size: int = 0  # length of the condition vector, for condition "embedding"
    # Kinds of varied views that training tells apart (prior.views). Afterwards they are of no use:
    # prior.export leaves them out.
    view_kinds: int = 0

    def __post_init__(self) -> None:
        for name in ("height", "width", "layers", "heads", "dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be at least 1")
        if self.codebook_size < 2:
            raise ValueError(f"codebook_size is {self.codebook_size}: it must be at least 2")
        if self.tokens < 2:
            raise ValueError("height and width are 1: a grid needs at least 2 cells")
        if self.head_size < 0:
            raise ValueError(f"head_size is {self.head_size}: it must be at least 1, or 0")
        if self.kv_heads < 0 or (self.kv_heads and self.heads % self.kv_heads):
            raise ValueError(
                f"kv_heads is {self.kv_heads}: it must divide heads, {self.heads}, or be 0"
            )
        if not self.head_size and self.dim % self.heads:
            raise ValueError(f"heads is {self.heads}: it must divide dim, {self.dim}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}: it must lie in [0, 1)")
        if self.gelu not in GELUS:
            raise ValueError(f"gelu is {self.gelu!r}: choose one of {', '.join(GELUS)}")
        if self.condition not in CONDITIONS:
            raise ValueError(
                f"condition is {self.condition!r}: choose one of {', '.join(CONDITIONS)}"
            )
        for name, kind in (("classes", "class"), ("embedding_size", "embedding")):
            if (getattr(self, name) > 0) != (self.condition == kind) or getattr(self, name) < 0:
                raise ValueError(
                    f"{name} is {getattr(self, name)} with condition {self.condition!r}: it must "
                    f"be at least 1 for {kind!r} and 0 otherwise"
                )
        if self.view_kinds < 0 or (self.view_kinds and not self.prefix):
            raise ValueError(
                f"view_kinds is {self.view_kinds} with condition {self.condition!r}: it must be 0, "
                "or at least 1 where something precedes the codes"
            )

    @property
    def tokens(self) -> int:
        """N: cells of a grid."""
        return self.height * self.width

    @property
    def head_channels(self) -> int:
        """Channels of a head's queries, keys and values."""
        return self.head_size or self.dim // self.heads

    @property
    def stored_heads(self) -> int:
        """Heads of keys and of values."""
        return self.kv_heads or self.heads

    @property
    def prefix(self) -> int:
        """Positions before the first code: 0 where the first code itself starts the text."""
        return 0 if self.condition == "first" else 1

    @property
    def positions(self) -> int:
        """Longest input: prefix and all codes but the last, which is only ever predicted."""
        return self.prefix + self.tokens - 1

    def to_dict(self) -> dict:
        return asdict(self)


def causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(size)) v where position t sees 0..t; all (B, heads, T, size).

    Fewer heads of keys and values are each shared by as many neighbouring heads of queries.
    On a CPU as two batched products: at a few hundred positions training is a third faster so than
    with torch's fused attention, which spends its time on small blocks there.
    """
    b, heads, t, size = q.shape
    if k.shape[1] != heads:
        k, v = (x.repeat_interleave(heads // x.shape[1], 1) for x in (k, v))
    if q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    mask = torch.full((t, t), float("-inf"), dtype=q.dtype).triu(1)
    rows = [x.reshape(b * heads, t, size) for x in (q, k, v)]
    scores = torch.baddbmm(mask, rows[0], rows[1].transpose(1, 2), alpha=size**-0.5)
    return torch.bmm(torch.softmax(scores, -1, dtype=q.dtype), rows[2]).view(b, heads, t, size)


class Block(nn.Module):
    """One pre-LN transformer layer: x + attention(ln(x)), then x + mlp(ln(x))."""

    def __init__(self, cfg: PriorConfig):
        super().__init__()
        self.heads, self.stored_heads = cfg.heads, cfg.stored_heads
        self.dropout, self.approximate = cfg.dropout, GELUS[cfg.gelu]
        self.ln_1 = nn.LayerNorm(cfg.dim)
        self.qkv = nn.Linear(cfg.dim, (cfg.heads + 2 * cfg.stored_heads) * cfg.head_channels)
        self.proj = nn.Linear(cfg.heads * cfg.head_channels, cfg.dim)
        self.ln_2 = nn.LayerNorm(cfg.dim)
        self.fc = nn.Linear(cfg.dim, 4 * cfg.dim)
        self.out = nn.Linear(4 * cfg.dim, cfg.dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, dim) -> (B, T, dim); position t sees positions 0..t."""
        b, t, _ = x.shape
        heads = (self.heads, self.stored_heads, self.stored_heads)
        qkv = self.qkv(self.ln_1(x)).view(b, t, sum(heads), -1).transpose(1, 2)
        y = causal_attention(*qkv.split(heads, 1))  # each (B, its heads, T, size of a head)
        y = self.proj(y.transpose(1, 2).reshape(b, t, -1))
        x = x + F.dropout(y, self.dropout, self.training)
        y = self.out(F.gelu(self.fc(self.ln_2(x)), approximate=self.approximate))
        return x + F.dropout(y, self.dropout, self.training)


class GPT(nn.Module):
    """p(grid) = product over cells of p(code | codes before it in raster order, condition)."""

    def __init__(self, config: PriorConfig):
        super().__init__()
        self.config = config
        # (4 layers + 1, 2): least and greatest number that enters qkv, proj, fc and out of each
        # layer, and the head; None: not measured (`prior.ranges`).
        self.register_buffer("ranges", None, persistent=False)
        self.wte = nn.Embedding(config.codebook_size, config.dim)
        self.wpe = nn.Embedding(config.positions, config.dim)
        if config.prefix:
            self.start = nn.Parameter(torch.zeros(config.dim))  # prefix of an unconditional text
        if config.condition == "class":
            self.class_emb = nn.Embedding(config.classes, config.dim)
        if config.condition == "embedding":
            self.condition_proj = nn.Linear(config.embedding_size, config.dim)
        if config.view_kinds:
            self.view_emb = nn.Embedding(config.view_kinds, config.dim)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.ln_f = nn.LayerNorm(config.dim)
        if not config.tie_head:
            self.head = nn.Linear(config.dim, config.codebook_size, bias=False)
        self._initialise()

    def _initialise(self) -> None:
        """GPT-2's: N(0, 0.02), residual outputs scaled by 1 / sqrt(2 * layers), biases 0."""
        for name, p in self.named_parameters():
            if p.ndim == 2:
                residual = name.endswith(("proj.weight", "out.weight")) and "blocks" in name
                std = 0.02 / math.sqrt(2 * self.config.layers) if residual else 0.02
                nn.init.normal_(p, std=std)
            elif name.endswith("bias"):
                nn.init.zeros_(p)
        if self.config.prefix:
            nn.init.normal_(self.start, std=0.02)

    @property
    def head_weight(self) -> Tensor:
        """(K, dim): logits are ln_f(x) @ head_weight.T."""
        return self.wte.weight if self.config.tie_head else self.head.weight

    def check_condition(self, condition: Tensor | None, batch: int) -> None:
        """ValueError unless `condition` fits the config and the batch; None always fits.

        Class ids are (B,) int64 in [0, classes), embeddings (B, embedding_size) finite floats.
        """
        if condition is None:
            return
        cfg, kind = self.config, self.config.condition
        if kind not in ("class", "embedding"):
            raise ValueError("this prior is unconditional: it takes no condition")
        shape = (batch,) if kind == "class" else (batch, cfg.embedding_size)
        if tuple(condition.shape) != shape or condition.is_floating_point() == (kind == "class"):
            wanted = "whole numbers" if kind == "class" else "floats"
            raise ValueError(
                f"the condition is {condition.dtype} of shape {tuple(condition.shape)}: this prior "
                f"takes {wanted} of shape {shape}"
            )
        if kind == "class" and not (condition.min() >= 0 and condition.max() < cfg.classes):
            raise ValueError(f"class ids must lie in 0 to {cfg.classes - 1}")
        if kind == "embedding" and not condition.isfinite().all():
            raise ValueError("the condition holds NaN or infinite values: it must be finite")

    def embed_prefix(
        self,
        batch: int,
        condition: Tensor | None = None,
        dropped: Tensor | None = None,
        kinds: Tensor | None = None,
    ) -> Tensor:
        """(B, prefix, dim): what precedes the codes.

        Rows without a condition (`condition` None, or True in `dropped`, (B,) bool) get the
        start vector, so that one set of weights is conditional and unconditional. `kinds`, (B,)
        int64, says of which kind each grid's view is: 0 the picture as it is, 1 to view_kinds.
        """
        cfg = self.config
        if not cfg.prefix:
            return self.wte.weight.new_zeros(batch, 0, cfg.dim)
        prefix = start = self.start.expand(batch, cfg.dim)
        if condition is not None:
            if cfg.condition == "class":
                prefix = self.class_emb(condition.long())
            else:  # NumPy's floats are float64
                prefix = self.condition_proj(condition.to(self.condition_proj.weight.dtype))
            if dropped is not None:
                prefix = torch.where(dropped[:, None], start.to(prefix.dtype), prefix)
        if kinds is not None:
            prefix = prefix + F.pad(self.view_emb.weight, (0, 0, 1, 0))[kinds]
        return prefix[:, None]

    def forward(
        self,
        tokens: Tensor,
        condition: Tensor | None = None,
        dropped: Tensor | None = None,
        shifts: Tensor | None = None,
        kinds: Tensor | None = None,
    ) -> Tensor:
        """Logits of every token given those before it.

        tokens (B, N) int64 in [0, K), the flattened grid; logits (B, N, K), where [:, i] depends
        on tokens[:, :i], the condition and shifts[:, i] only. With condition "first" nothing
        precedes token 0, which is uniform: its logits are 0, and a text starts from a random code,
        as in the article.

        shifts  (B, N, layers + 1, dim): what a sketch adds to the residual stream where code i is
                predicted, before each layer and after the last (`prior.sketch`)
        kinds   (B,) int64, of what kind of view each grid is (see `embed_prefix`)
        """
        b, n = tokens.shape
        if n > self.config.tokens:
            raise ValueError(f"{n} tokens are too many: this prior writes {self.config.tokens}")
        prefix = self.embed_prefix(b, condition, dropped, kinds)
        codes = self.wte(tokens[:, :-1])  # (B, N-1, dim): the last token is never an input
        x = torch.cat([prefix.to(codes.dtype), codes], 1)
        x = F.dropout(x + self.wpe.weight[: x.shape[1]], self.config.dropout, self.training)
        for layer, block in enumerate(self.blocks):
            x = block(x if shifts is None else x + shifts[:, : x.shape[1], layer])
        x = x if shifts is None else x + shifts[:, : x.shape[1], -1]
        logits = F.linear(self.ln_f(x), self.head_weight)
        if not self.config.prefix:
            logits = torch.cat([logits.new_zeros(b, 1, logits.shape[2]), logits], 1)
        return logits


def token_nats(logits: Tensor, targets: Tensor) -> Tensor:
    """-log p(target) of each token, natural logarithm.

    logits (B, N, K) any float dtype, targets (B, N) int64 -> (B, N) float32. Divide by ln 2 for
    bits (`BITS` times it).
    """
    losses = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none")
    return losses.view(targets.shape)


BITS = 1 / math.log(2)  # bits per nat
