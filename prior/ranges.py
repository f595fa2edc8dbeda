"""Make a bundle's prior ready for int8: `python -m prior.ranges BUNDLE`.

Products of bytes (`prior.int8`) need to know between which numbers lies what enters each of them.
The prior writes some grids, reads them in float32, and the extremes go into the bundle's card;
`prior.export` does this for every prior that it exports. Weights stay as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor

import checkpoints
from checkpoints.bundle import ranges_of, write_card
from prior.classes import choose
from prior.decode import native_dtype
from prior.ideas import Ideas
from prior.model import GPT
from prior.sample import finish, sample
from training.flags import Parser, fail

BATCH, BATCHES = 16, 4  # grids that are read


@torch.no_grad()
def measure(prior: GPT, told: Tensor | None = None) -> Tensor:
    """Least and greatest of what enters each product, as `GPT.ranges` has them: on the CPU.

    told  (64,) classes or (64, E) embeddings: conditions for half of the grids, if there are any
    """
    found = [[0.0, 0.0] for _ in range(4 * len(prior.blocks) + 1)]

    def extend(place: int, x: Tensor) -> None:
        low, high = found[place]
        found[place] = [min(low, float(x.min())), max(high, float(x.max()))]

    handles = [prior.ln_f.register_forward_hook(lambda module, args, out: extend(-1, out))]
    for i, block in enumerate(prior.blocks):
        for j, product in enumerate((block.qkv, block.proj, block.fc, block.out)):
            place = 4 * i + j
            hook = lambda module, args, place=place: extend(place, args[0])  # noqa: E731
            handles.append(product.register_forward_pre_hook(hook))
    device = prior.wte.weight.device
    told = None if told is None else told.to(device)
    try:
        for batch in range(BATCHES):
            some = slice(batch * BATCH, (batch + 1) * BATCH)
            given = None if told is None or batch % 2 else told[some]
            how = {"seed": some.start, "condition": given, "dtype": native_dtype(device)}
            grids = finish(sample(prior, BATCH, **how)).grid.flatten(1)
            prior(grids.to(device), given)
    finally:
        for handle in handles:
            handle.remove()
    return torch.tensor(found)


def conditions(prior: GPT, bundle: checkpoints.Bundle) -> Tensor | None:
    """What the prior of a bundle is told of 64 grids: classes, or ideas where there are any."""
    count = BATCH * BATCHES
    if prior.config.classes:
        return choose(prior, count, 0)
    try:
        ideas = Ideas.load(bundle.path)
        ideas.check(prior.config.embedding_size, bundle.card)
    except (FileNotFoundError, ValueError):
        return None
    return torch.from_numpy(ideas.conditions[ideas.think(count, 0)])


def main(argv: list[str] | None = None) -> None:
    p = Parser(prog="python -m prior.ranges", description=__doc__.split("\n\n")[0])
    p.add_argument("bundle", metavar="BUNDLE", help="name or folder")
    args = p.parse_args(argv)
    try:
        bundle = checkpoints.load(args.bundle)
        if bundle.prior is None:
            raise ValueError(f"bundle {bundle.name} holds no prior: there is nothing to measure")
        prior = bundle.prior
        prior.ranges = measure(prior, conditions(prior, bundle))
        about = bundle.card["prior"] | ranges_of(prior)
        write_card(bundle.path, bundle.card | {"prior": about})
    except (ValueError, OSError) as error:
        fail(error)
    low, high = float(prior.ranges.min()), float(prior.ranges.max())
    print(f"{bundle.path}: {len(prior.ranges)} products, from {low:.1f} to {high:.1f}")


if __name__ == "__main__":
    main()
