"""Writing pictures with the prior, and a step of training it, beside `transformers`' GPT-2.

Same weights, same machine, in turn: `generate` with its key-value cache, in its default float32
beside ours as it comes, and both in one number format, the quickest that `generate` has here;
training steps as they are and with torch.compile.

GPT2LMHeadModel has no heads narrower than dim / heads: ours are filled up with zeros there, which
it multiplies all the same. So where they are narrower, one row more stands beside a copy of it
whose attention was cut to their size by hand. Nor has it heads that share keys and values: ours are
repeated there. Where all share the same ones, one row more stands beside transformers' GPTBigCode,
which is GPT-2 with just these (multi-query attention): the very same architecture, nothing
repeated, and cut by hand as well where heads are narrow.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

import checkpoints
from bench import Row, compare
from prior.decode import native_dtype, quickest
from prior.hugging_face import to_big_code, to_hugging_face, unshared
from prior.model import GPT, PriorConfig, token_nats
from prior.sample import finish, sample
from training.precision import autocast, native_bf16

BATCHES = (1, 16)
TRAINING_BATCH = 16


def bundled() -> GPT:
    """The shipped prior, or a random one of the default shape where none is shipped."""
    if checkpoints.DEFAULT in checkpoints.names():
        prior = checkpoints.load().prior
        if prior is not None:
            return unconditional(prior)
    torch.manual_seed(0)
    return GPT(PriorConfig()).eval().requires_grad_(False)


def unconditional(prior: GPT) -> GPT:
    """The same weights without the projection of embeddings: GPT2LMHeadModel has none."""
    if prior.config.condition != "embedding":
        return prior
    model = GPT(replace(prior.config, condition="start", embedding_size=0))
    state = {k: v for k, v in prior.state_dict().items() if not k.startswith("condition_proj.")}
    model.load_state_dict(state)
    model.ranges = prior.ranges
    return model.eval().requires_grad_(False)


def transformers_model(prior: GPT) -> nn.Module:
    """The same weights as a GPT2LMHeadModel."""
    from transformers import GPT2Config, GPT2LMHeadModel

    arguments, state = to_hugging_face(prior)
    model = GPT2LMHeadModel(GPT2Config(**arguments, bos_token_id=None, eos_token_id=None))
    model.load_state_dict(state)
    return model.eval()


def big_code_model(prior: GPT) -> nn.Module:
    """The same weights as a GPTBigCodeForCausalLM, where all heads share keys and values."""
    from transformers import GPTBigCodeConfig, GPTBigCodeForCausalLM

    arguments, state = to_big_code(prior)
    model = GPTBigCodeForCausalLM(
        GPTBigCodeConfig(**arguments, bos_token_id=None, eos_token_id=None)
    )
    model.load_state_dict(state)
    model = model.eval()
    return cut_by_hand(model, prior) if narrow(prior) else model


def narrow(prior: GPT) -> bool:
    """Whether heads are narrower than GPT2LMHeadModel has them."""
    return prior.config.heads * prior.config.head_channels < prior.config.dim


def cut_by_hand(theirs: nn.Module, prior: GPT) -> nn.Module:
    """Its attention as wide as the prior's, with the prior's weights."""
    cfg, size, state = prior.config, prior.config.head_channels, prior.state_dict()
    plain = theirs.config.model_type == "gpt2"
    state = unshared(state, cfg) if plain else state
    for i, layer in enumerate(theirs.transformer.h):
        attention = layer.attn
        attention.head_dim, attention.scaling = size, size**-0.5
        attention.split_size = attention.embed_dim = cfg.heads * size
        attention.kv_dim = size  # GPTBigCode's
        for product, name in ((attention.c_attn, "qkv"), (attention.c_proj, "proj")):
            weight, bias = (state[f"blocks.{i}.{name}.{kind}"] for kind in ("weight", "bias"))
            product.nf, product.nx = weight.shape  # GPT-2's
            product.weight = nn.Parameter(weight.t().contiguous() if plain else weight.clone())
            product.bias = nn.Parameter(bias.clone())
    return theirs


BIG_CODE = "GPTBigCode"
PEERS: dict[str, Callable[[GPT], nn.Module]] = {
    "": transformers_model,
    "cut by hand": lambda prior: cut_by_hand(transformers_model(prior), prior),
    BIG_CODE: big_code_model,
}


def writing(
    prior: GPT,
    dtype: torch.dtype,
    batch: int,
    repeats: int,
    own: torch.dtype | None = None,
    *,
    peer: str = "",
) -> Row:
    """`sample` in `own`, or as it comes, beside `generate` in `dtype` of one of `PEERS`.

    A new seed each time: how many guesses come true (`prior.ahead`) depends on the picture.
    """
    theirs, count = PEERS[peer](prior).to(dtype), prior.config.tokens
    seeds = itertools.count(step=batch)
    start = torch.full((batch, 1), prior.config.codebook_size if prior.config.prefix else 0)

    def generate() -> torch.Tensor:
        made = count - 1 + prior.config.prefix
        return theirs.generate(
            start, do_sample=True, top_k=0, max_new_tokens=made, min_new_tokens=made, pad_token_id=0
        )

    seconds = compare(
        lambda: finish(sample(prior, batch, seed=next(seeds), dtype=own)), generate, repeats=repeats
    )
    kind = str(own or quickest(prior)).removeprefix("torch.")
    what = f"write {batch} pictures of {count} codes, {kind}"
    beside = f"transformers' generate, {str(dtype).removeprefix('torch.')}"
    return Row(what, f"{beside}, {peer}" if peer else beside, *seconds)


def training(prior: GPT, batch: int, repeats: int, *, compiled: bool) -> Row:
    """One step of AdamW on one batch, in bfloat16 where it is native; both compiled or neither."""
    cfg = prior.config
    ours = GPT(cfg)
    theirs = transformers_model(ours)
    tokens = torch.randint(cfg.codebook_size, (batch, cfg.tokens))
    if compiled:
        ours.compile()
        theirs.compile()
    seconds = compare(
        step(ours, lambda: token_nats(ours(tokens), tokens).mean()),
        step(theirs, lambda: theirs(tokens, labels=tokens).loss),
        repeats=repeats,
    )
    own = "bfloat16" if native_bf16("cpu") else "float32"
    way = "compiled" if compiled else "not compiled"
    rate = f"{batch / seconds[0]:.1f} and {batch / seconds[1]:.1f} pictures a second"
    what = f"training step on {batch} pictures of {cfg.tokens} codes, {own}, {way}, {rate}"
    return Row(what, "transformers' GPT2LMHeadModel", *seconds)


def step(model: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], None]:
    """A function that takes one training step."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def take() -> None:
        optimizer.zero_grad()
        with autocast("cpu"):
            value = loss()
        value.backward()
        optimizer.step()

    return take


def run(
    prior: GPT | None = None,
    batches: tuple[int, ...] = BATCHES,
    training_batch: int = TRAINING_BATCH,
    repeats: int = 2,
    compiled: tuple[bool, ...] = (False, True),
) -> list[Row]:
    """Two rows a batch size, one more where heads are narrow or share one, two for training."""
    prior = prior or bundled()
    native = native_dtype(prior.wte.weight.device)
    pairs = dict.fromkeys([(torch.float32, quickest(prior)), (native, native)])
    kinds = [(dtype, own, "") for dtype, own in pairs]
    more = {"cut by hand": narrow(prior), BIG_CODE: prior.config.kv_heads == 1}
    kinds += [(torch.float32, quickest(prior), peer) for peer, fits in more.items() if fits]
    rows = [
        writing(prior, dtype, batch, repeats * max(1, 5 // batch), own, peer=peer)
        for batch in batches
        for dtype, own, peer in kinds
    ]
    return rows + [training(prior, training_batch, repeats, compiled=c) for c in compiled]
