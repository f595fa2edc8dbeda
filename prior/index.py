"""The command `python -m prior.nearest`: thumbnails of the training pictures, beside a model."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

import checkpoints
from prior.nearest import FILE, check_format, gather, measure
from prior.sheet import DECODED, decode
from training import flags
from training.spread import spread
from vqgan import dataset
from vqgan.dataset import Picture

MEASURED = 128  # pictures of each split that say what a distance means


def parser() -> argparse.ArgumentParser:
    p = flags.Parser(
        prog="python -m prior.nearest",
        description="Index the pictures a prior was trained on, to find the nearest to a sample.",
    )
    p.add_argument("--data", required=True, type=Path, help="the data set of the prior")
    p.add_argument("--bundle", default=checkpoints.DEFAULT, help="name or folder (%(default)s)")
    return p


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    try:
        check_format()
        bundle = checkpoints.load(args.bundle)
        kinds = bundle.card.get("prior", {}).get("training", {}).get("train", {}).get("kinds")
        pictures = [
            p
            for p in dataset.scan(args.data)
            if not kinds or p.row is None or p.row.get("kind") in kinds
        ]
        index = gather(pictures, lambda train: tqdm(train, unit="picture"))
        own, held_out = (seen_again(bundle, pictures, split) for split in ("train", "val"))
        index = replace(index, scale=measure(index, own, held_out))
        size = index.save(bundle.path / FILE)
    except (ValueError, OSError) as error:
        flags.fail(error)
    count, train = len(index.names), sum(p.split == "train" for p in pictures)
    some = f"{count} pictures" if count == train else f"{count} of {train} pictures, evenly chosen"
    print(f"{bundle.path / FILE}: {some}, {size / 1e6:.2f} MB")
    print(
        "median distance to the nearest training picture: {:.1f} for training pictures that went "
        "through the codes, {:.1f} for held-out ones".format(*index.scale)
    )


def seen_again(bundle: checkpoints.Bundle, pictures: list[Picture], split: str) -> np.ndarray:
    """Pictures of a split, evenly chosen, as their codes give them back: (n, H, W, 3) uint8."""
    chosen = [p for p in pictures if p.split == split]
    if not chosen:
        raise ValueError(f"the data folder has no picture of the split {split}")
    side = bundle.vqgan.config.resolution
    pixels = np.stack([p for _, p in dataset.wholes(spread(chosen, MEASURED), side)])
    parts = []
    with torch.inference_mode():
        for images in dataset.to_tensor(pixels).split(DECODED):
            parts.append(decode(bundle.vqgan, bundle.vqgan.encode(images).indices))
    return np.concatenate(parts)


if __name__ == "__main__":
    main()
