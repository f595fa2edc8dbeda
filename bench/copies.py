"""Made pictures that are copies of training pictures: `python -m bench.copies --data DIR`.

A picture counts as a copy when its nearest training picture (`prior.nearest`, mirror images
included) is nearer than all but PERCENT of the held-out pictures are to theirs, both seen through
the codes, as every made picture is. That distance is fixed by this command before any made picture
is looked at, and kept in the judge's card, together with the share of training pictures that it
does find when they come back from their own codes: a counter that misses copies would be no use.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

import checkpoints
from bench.judge import CARD, FILES
from prior.nearest import FILE, Found, Training
from training import flags
from training.files import write
from training.precision import autocast
from training.spread import spread
from vqgan import dataset
from vqgan.images import to_image
from vqgan.model import VQGAN, reconstruct

PERCENT = 1.0
BATCH = 16
MEASURED = 100  # training pictures that say how many copies are found


class Twin(NamedTuple):
    """A picture, what it is called, and the training picture nearest to it."""

    title: str
    picture: Image.Image
    near: Found


def load_index(bundle: checkpoints.Bundle) -> Training | None:
    """The bundle's training pictures, if it has them."""
    path = bundle.path / FILE
    return Training.load(path) if path.is_file() else None


def twins(index: Training, pictures: Iterable[tuple[str, Image.Image]]) -> list[Twin]:
    """Each picture beside its nearest training picture, nearest pair first."""
    found = [Twin(title, image, index.nearest(np.array(image))[0]) for title, image in pictures]
    return sorted(found, key=lambda twin: twin.near.distance)


def rebuilt(vqgan: VQGAN, pictures: list[dataset.Picture]) -> list[tuple[str, Image.Image]]:
    """What comes back of pictures from their codes."""
    found: list[tuple[str, Image.Image]] = []
    for start in tqdm(range(0, len(pictures), BATCH), unit="batch", mininterval=5):
        some = pictures[start : start + BATCH]
        pixels = np.stack([dataset.whole(p, vqgan.config.resolution) for p in some])
        x = dataset.to_tensor(pixels).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode(), autocast("cpu"):
            output = reconstruct(vqgan, x)[0].float()
        found += [(p.path.stem, to_image(y[None])) for p, y in zip(some, output, strict=True)]
    return found


def calibrate(vqgan: VQGAN, index: Training, pictures: list[dataset.Picture]) -> dict:
    """The distance below which a picture is a copy, and how many true copies it finds."""
    icons = [p for p in pictures if p.row and p.row["kind"] == "icon"]
    held_out = [p for p in icons if p.split == "val"]
    if not held_out:
        raise ValueError("there are no held-out icons: give a folder made by data.build")
    known = spread([p for p in icons if p.split == "train"], MEASURED)
    new, old = (
        [t.near.distance for t in twins(index, rebuilt(vqgan, some))] for some in (held_out, known)
    )
    limit = float(np.percentile(new, PERCENT))
    return {
        "distance": round(limit, 4),
        "percent_of_held_out": PERCENT,
        "held_out": {"pictures": len(new), "median": round(float(np.median(new)), 4)},
        "training": {
            "pictures": len(old),
            "median": round(float(np.median(old)), 4),
            "found": round(float(np.mean([d < limit for d in old])), 4),
        },
    }


def main(argv: list[str] | None = None) -> None:
    p = flags.Parser(prog="python -m bench.copies", description=__doc__)
    p.add_argument("--data", required=True, type=Path, help="folder made by data.build")
    p.add_argument("--bundle", default=checkpoints.DEFAULT, help="name or folder (%(default)s)")
    p.add_argument("--judge", type=Path, default=FILES, help="whose card to write (%(default)s)")
    args = p.parse_args(argv)
    try:
        bundle, card = checkpoints.load(args.bundle), args.judge / CARD
        index = load_index(bundle)
        if index is None:
            raise ValueError(f"{bundle.path} has no {FILE}: python -m prior.nearest makes it")
        content = json.loads(card.read_text(encoding="utf-8"))
        content["copies"] = calibrate(bundle.vqgan, index, dataset.scan(args.data))
        write(card, (json.dumps(content, indent=1) + "\n").encode())
    except (ValueError, OSError) as error:
        flags.fail(error)
    print(json.dumps(content["copies"], indent=1))


if __name__ == "__main__":
    main()
