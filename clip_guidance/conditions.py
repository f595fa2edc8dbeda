"""Conditions to train a prior with: `python -m clip_guidance.conditions`.

For each picture of a token file the sentence encoder's embeddings of its six phrases, (P, 6, 384)
fp16, for `python -m prior.train --conditions C.npy`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from tqdm import tqdm

from clip_guidance.captions import main_colour, phrases
from clip_guidance.teacher import Teacher
from prior import tokens
from training import flags
from vqgan import dataset


def picture_phrases(pictures: list[dataset.Picture]) -> list[list[str]]:
    """Each picture's phrases, its colour measured; ValueError for a picture without captions."""
    found = []
    for picture in tqdm(pictures, unit="picture", desc="colours"):
        captions = (picture.row or {}).get("captions")
        if not captions:
            raise ValueError(f"{picture.path} has no captions: give a folder made by data.build")
        mask = dataset.read(picture.mask, "L") if picture.mask else None
        colour = None if picture.photo else main_colour(dataset.read(picture.path), mask)
        found.append(phrases(captions, colour))
    return found


def main(argv: list[str] | None = None) -> None:
    p = argparse.ArgumentParser(prog="python -m clip_guidance.conditions", description=__doc__)
    p.add_argument("--tokens", required=True, type=Path, help="F.npy made by prior.tokens")
    p.add_argument("--data", required=True, help="the folder that the tokens were made from")
    p.add_argument("--out", required=True, type=Path, help="the .npy to write")
    args = p.parse_args(argv)
    try:
        rows, pictures = tokens.load(args.tokens).rows, dataset.scan(args.data)
        ids = [picture.row and picture.row["id"] for picture in pictures]
        if [row.get("id") for row in rows] != ids:
            raise ValueError(f"{args.tokens} was not made from all of {args.data}: encode it again")
        texts = picture_phrases(pictures)
        flat = sorted({text for some in texts for text in some})
        embedded = Teacher().encode(flat, progress=lambda it: tqdm(it, unit="batch", desc="texts"))
        place = {text: i for i, text in enumerate(flat)}
        rows = np.array([[place[text] for text in some] for some in texts])
        args.out.parent.mkdir(parents=True, exist_ok=True)
        np.save(args.out, embedded.astype(np.float16)[rows])
    except (ValueError, OSError) as error:
        flags.fail(error)
    print(f"{args.out}: {len(rows)} pictures, {len(flat)} different phrases")


if __name__ == "__main__":
    main()
