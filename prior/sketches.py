"""Lines of a data set's pictures, once: `python -m prior.sketches --tokens F --data DIR --out S`.

For `prior.train_sketch`. A sketch file holds, for each picture of a token file and in its order,
the outlines and every edge as bits: (P, 2, H, W / 8) uint8.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np
from tqdm import tqdm

import checkpoints
from checkpoints.bundle import find, read_card
from prior import tokens
from prior.sketch import edges
from training import flags
from training.files import replacing, writable
from training.memory import keep_pages
from vqgan import dataset
from vqgan.model import VQGANConfig

BATCH = 32


def gather(found: tokens.TokenSet, data: str, patch: int = 8) -> np.ndarray:
    """The lines of the pictures behind a token file, bits packed. ValueError if others are there.

    patch  pixels along a cell, so that pictures are as large as when they were encoded
    """
    if dataset.identity(data)["sha256"] != found.data.get("sha256"):
        raise ValueError(f"the tokens were not made from {data}: give the folder they come from")
    side = found.grid[0] * patch
    pictures, parts = dataset.wholes(dataset.scan(data), side), []
    for _ in tqdm(range(0, len(found.rows), BATCH), unit="batch"):
        some = [pixels for _, pixels in itertools.islice(pictures, BATCH)]
        if some:  # else more files are gone than a batch has
            lines = edges(dataset.to_tensor(np.stack(some))).numpy()
            parts.append(np.packbits(lines, axis=3))
    packed = np.concatenate(parts)
    if len(packed) != len(found.rows) or next(pictures, None) is not None:
        raise ValueError(
            f"{data} has not the {len(found.rows)} pictures of the tokens: encode it again "
            "(python -m prior.tokens)"
        )
    return packed


def patch_of(bundle: str, found: tokens.TokenSet) -> int:
    """Pixels along a cell of a bundle's pictures. ValueError if it did not make these tokens."""
    card = read_card(find(bundle))
    if card.get("tokenizer_id") != found.tokenizer_id:
        raise ValueError(
            f"the tokens are not of bundle {card['name']}: name theirs with --bundle, or how many "
            "pixels a cell has with --patch"
        )
    return VQGANConfig(**card["vqgan"]).downsampling


def parser() -> argparse.ArgumentParser:
    p = flags.Parser(
        prog="python -m prior.sketches",
        description="Draw the lines of a data folder's pictures, for prior.train_sketch.",
    )
    p.add_argument("--tokens", required=True, type=Path, help="F.npy of prior.tokens")
    p.add_argument("--data", required=True, help="the folder that the tokens were made from")
    p.add_argument("--out", required=True, type=Path, help="S.npy")
    p.add_argument("--bundle", default=checkpoints.DEFAULT, help="whose tokens (%(default)s)")
    p.add_argument("--patch", type=int, help="pixels along a cell (as the bundle has it)")
    return p


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    keep_pages()
    try:
        if args.patch is not None and args.patch < 1:
            raise ValueError(f"patch is {args.patch}: it must be at least 1")
        out, found = writable(args.out, ".npy"), tokens.load(args.tokens)
        packed = gather(found, args.data, args.patch or patch_of(args.bundle, found))
        with replacing(out) as file:
            np.save(file, packed)
    except (ValueError, OSError) as error:
        flags.fail(error)
    drawn = [float(np.unpackbits(packed[:, kind]).mean()) for kind in (0, 1)]
    print(
        f"{args.out}: {len(packed)} pictures, lines on {drawn[0]:.1%} (outlines) and "
        f"{drawn[1]:.1%} (every edge) of their pixels"
    )


if __name__ == "__main__":
    main()
