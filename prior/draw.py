"""The command `python -m prior.sample`: write grids with a bundle's prior, decode them, one PNG.

The file carries its settings and codes as text (PNG keys "settings" and "codes", both JSON).
"""

from __future__ import annotations

import argparse
import json
import math
import re
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor
from tqdm import tqdm

import checkpoints
from prior.sample import Progress, Settings, sample
from training import flags
from training.memory import keep_pages
from vqgan.model import VQGAN

GAP = 2  # white pixels between pictures
DECODED = 8  # pictures decoded at a time


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m prior.sample", description="Write pictures with a bundle's prior."
    )
    p.add_argument("--out", required=True, type=Path, help="the PNG to write")
    p.add_argument("-n", type=int, default=16, help="how many pictures (%(default)s)")
    p.add_argument("--seed", type=int, default=0, help="picture i uses seed + i (%(default)s)")
    p.add_argument("--bundle", default=checkpoints.DEFAULT, help="name or folder (%(default)s)")
    p.add_argument("--size", metavar="HxW", help="rows x columns of codes; default: as trained")
    p.add_argument("--device", default="cpu", help="cpu, cuda (%(default)s)")
    flags.add_flags(p, Settings, "drawing codes")
    return p


def grid_size(text: str | None) -> tuple[int, int] | None:
    """ "24x16" -> (24, 16)."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+)x(\d+)", text)
    if not found:
        raise ValueError(f"size is {text!r}: give rows x columns of codes, such as 24x24")
    return int(found[1]), int(found[2])


@torch.inference_mode()
def decode(vqgan: VQGAN, grids: Tensor) -> np.ndarray:
    """(B, h, w) int64 -> uint8 (B, H, W, 3)."""
    device = next(vqgan.parameters()).device
    parts = [vqgan.decode_indices(part.to(device)).cpu() for part in grids.split(DECODED)]
    pixels = torch.cat(parts).clamp(-1, 1).add(1).mul(127.5).round().byte()
    return pixels.permute(0, 2, 3, 1).numpy()


def sheet(pictures: np.ndarray) -> Image.Image:
    """uint8 (B, H, W, 3) -> one picture, in about as many rows as columns."""
    count, height, width, _ = pictures.shape
    columns = math.ceil(math.sqrt(count))
    rows = -(-count // columns)
    shape = (rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3)
    canvas = np.full(shape, 255, np.uint8)
    for i, picture in enumerate(pictures):
        top, left = i // columns * (height + GAP), i % columns * (width + GAP)
        canvas[top : top + height, left : left + width] = picture
    return Image.fromarray(canvas)


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    keep_pages()
    try:
        if args.out.suffix.lower() != ".png":
            raise ValueError(f"out is {args.out}: it must end in .png")
        settings = Settings(**flags.given(args, Settings))
        bundle = checkpoints.load(args.bundle, args.device)
        if bundle.prior is None:
            raise ValueError(f"bundle {bundle.name} holds no prior: it cannot write pictures")
        steps = sample(
            bundle.prior, args.n, seed=args.seed, size=grid_size(args.size), **asdict(settings)
        )
        last = shown(steps)
        info = PngInfo()
        info.add_text("settings", json.dumps(record(args, settings, bundle)))
        info.add_text("codes", json.dumps(last.grid.tolist()))
        args.out.parent.mkdir(parents=True, exist_ok=True)
        sheet(decode(bundle.vqgan, last.grid)).save(args.out, "PNG", pnginfo=info)
    except (ValueError, OSError) as error:
        flags.fail(error)
    bits = -last.log_likelihood / math.log(2) / last.total
    print(f"{args.out}: {args.n} pictures, {last.tokens_per_second:.0f} codes a second")
    print(f"bits per code: {bits.mean():.2f}, from {bits.min():.2f} to {bits.max():.2f}")


def record(args: argparse.Namespace, settings: Settings, bundle: checkpoints.Bundle) -> dict:
    """What it takes to write the same pictures again."""
    drawing = {f.name: getattr(settings, f.name) for f in fields(Settings)}
    return {"bundle": bundle.name, "n": args.n, "seed": args.seed, "size": args.size, **drawing}


def shown(steps) -> Progress:
    """The last step of a sampling run, with a progress bar."""
    with tqdm(unit="cell") as bar:
        for step in steps:
            bar.total = step.total
            bar.update(step.done - bar.n)
    return step


if __name__ == "__main__":
    main()
