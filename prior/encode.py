"""The command `python -m prior.tokens`: a bundle's tokenizer over a data folder."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

import checkpoints
from prior import tokens
from prior.views import KINDS
from training import flags
from training.device import usable_device
from training.files import writable
from training.memory import keep_pages
from vqgan import dataset


def parser() -> argparse.ArgumentParser:
    p = flags.Parser(
        prog="python -m prior.tokens",
        description="Encode a data folder once, mirror images included, for prior.train.",
    )
    p.add_argument("--bundle", default=checkpoints.DEFAULT, help="name or folder (%(default)s)")
    p.add_argument("--data", required=True, help="folder made by data.build, or any of pictures")
    p.add_argument("--out", required=True, type=Path, help="F.npy; captions go to F.json beside it")
    p.add_argument("--limit", type=int, default=0, help="encode this many, evenly spread; 0: all")
    p.add_argument(
        "--views", type=int, default=0, help="varied views of each as well (%(default)s)"
    )
    p.add_argument(
        "--view-kinds", nargs="+", choices=KINDS, default=KINDS[:1], metavar="KIND",
        help=f"{', '.join(KINDS)}: of the varied views in turn ({KINDS[0]})",
    )  # fmt: skip
    p.add_argument("--batch", type=int, default=16, help="pictures at a time (%(default)s)")
    flags.add_device(p)
    return p


def encode_folder(
    bundle: checkpoints.Bundle,
    data: str,
    *,
    limit: int = 0,
    batch: int = 16,
    views: int = 0,
    view_kinds: Sequence[str] = KINDS[:1],
) -> tokens.TokenSet:
    """The TokenSet of a data folder, with a progress bar."""
    if batch < 1 or limit < 0 or views < 0:
        raise ValueError(
            f"batch is {batch}, limit {limit}, views {views}: at least 1, 0 and 0, please"
        )
    pictures = dataset.scan(data)
    if limit and limit < len(pictures):  # the same ones as ever: recorded trials name it
        step = len(pictures) / limit
        pictures = [pictures[int(i * step)] for i in range(limit)]
    return tokens.encode(
        bundle.vqgan,
        pictures,
        tokenizer_id=bundle.tokenizer_id,
        size=bundle.card.get("preprocess", {}).get("size", bundle.vqgan.config.resolution),
        data=dataset.identity(data),
        batch=batch,
        view_kinds=list(itertools.islice(itertools.cycle(view_kinds), views)),
        progress=lambda it: tqdm(it, unit="batch"),
    )


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    keep_pages()
    try:
        out = writable(tokens.named(args.out))
        bundle = checkpoints.load(args.bundle, usable_device(args.device))
        options = {n: getattr(args, n) for n in ("limit", "batch", "views", "view_kinds")}
        found = encode_folder(bundle, args.data, **options)
        if not len(found.where("train")):
            raise ValueError(f"{args.data} has no picture for training: all are held out")
        if not len(found.where("val")):
            raise ValueError(f"{args.data} has no held-out picture: a prior could not be measured")
        tokens.save(found, out)
    except (ValueError, OSError) as error:
        flags.fail(error)
    train, val = (found.codes[found.where(split)] for split in ("train", "val"))
    more = f", varied views of each: {found.views}" if found.views else ""
    print(
        f"{out}: {len(train)} training and {len(val)} held-out pictures, each also mirrored{more}"
    )
    print(f"tokenizer {found.tokenizer_id}")
    print(f"{len(np.unique(train))} of {found.codebook_size} codes are used")


if __name__ == "__main__":
    main()
