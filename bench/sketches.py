"""How well the prior follows sketches: `python -m bench.sketches --data DIR --sheet S.webp`.

Every edge of held-out drawings is the sketch, and one picture is written along each, as the Sample
tab begins. Agreement of a picture with lines is the harmonic mean of two shares: of the lines that
have an edge of the picture within NEAR pixels, and of the picture's edges that have a line as near.
Beside it the least and the most that can be had: the same pictures against the lines of the next
drawing, pictures written without lines, and the drawings themselves as their codes give them back.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

import checkpoints
from bench.sheets import PICTURES, grid
from checkpoints.bundle import read_card, write_card
from prior.sample import finish, sample
from prior.sheet import decode
from prior.sketch import PULL, edges, paper, shifts_of, thicken
from training.files import writable, write
from training.flags import Parser, fail
from vqgan import dataset

NEAR = 3  # pixels
TOP_P = 0.95  # as the Sample tab begins
TOGETHER = 8
COLUMNS = 8


def agreement(lines: Tensor, pictures: np.ndarray) -> Tensor:
    """(B,) in 0 to 1: thin lines (B, 1, H, W) bool beside pictures (B, H, W, 3) uint8."""
    found = edges(dataset.to_tensor(pictures))[:, 1:].float()
    asked, width = lines.float(), 2 * NEAR + 1
    share = lambda a, b: (a * thicken(b, width)).sum((1, 2, 3)) / a.sum((1, 2, 3)).clamp(min=1)  # noqa: E731
    drawn, needed = share(asked, found), share(found, asked)
    return 2 * drawn * needed / (drawn + needed).clamp(min=1e-9)


def held_out(data: str, count: int, side: int) -> np.ndarray:
    """Held-out drawings, evenly chosen: (n, side, side, 3) uint8."""
    drawings = [p for p in dataset.scan(data) if not p.photo and p.shown]
    chosen = dataset.held_out(drawings, count)
    if len(chosen) < 2:
        raise ValueError(f"{data} has {len(chosen)} held-out drawings: at least 2 are needed")
    return np.stack([p for _, p in dataset.wholes(chosen, side)])


def measure(
    bundle: checkpoints.Bundle, pixels: np.ndarray, seed: int, pull: float = PULL
) -> tuple[dict[str, float], np.ndarray, np.ndarray]:
    """Agreements in percent; the sketches and what was written along them, (n, H, W, 3) uint8."""
    images = dataset.to_tensor(pixels)
    lines = edges(images)[:, 1:]
    thick = thicken(lines.float(), 3)
    grids: dict[str, list[Tensor]] = {"along": [], "free": [], "rebuilt": []}
    for start in tqdm(range(0, len(pixels), TOGETHER), unit="batch"):
        part = slice(start, start + TOGETHER)
        count = len(images[part])
        asked = torch.cat([shifts_of(bundle.sketch, x[0].bool().numpy()) for x in thick[part]])
        how = {"seed": seed + start, "top_p": TOP_P}
        grids["along"].append(
            finish(sample(bundle.prior, count, shifts=asked, cfg_scale=pull, **how)).grid
        )
        grids["free"].append(finish(sample(bundle.prior, count, **how)).grid)
        with torch.inference_mode():
            grids["rebuilt"].append(bundle.vqgan.encode(images[part]).indices)
    made = {name: decode(bundle.vqgan, torch.cat(parts)) for name, parts in grids.items()}
    found: dict[str, int | Tensor] = {
        "pictures": len(pixels),
        "along its lines": agreement(lines, made["along"]),
        "against the next drawing's": agreement(lines.roll(1, 0), made["along"]),
        "written without lines": agreement(lines, made["free"]),
        "the drawing from its own codes": agreement(lines, made["rebuilt"]),
    }
    figures = {
        k: v if isinstance(v, int) else round(100 * float(v.mean()), 1) for k, v in found.items()
    }
    return figures, paper(thick), made["along"]


def sheet(sketches: np.ndarray, pictures: np.ndarray, path: Path) -> None:
    """Each sketch above what was written for it."""
    cells, columns = [], min(COLUMNS, len(sketches))
    for start in range(0, len(sketches) - columns + 1, columns):
        part = slice(start, start + columns)
        cells += [Image.fromarray(x) for x in (*sketches[part], *pictures[part])]
    grid(cells, columns).save(path, quality=85)


def parser() -> argparse.ArgumentParser:
    p = Parser(prog="python -m bench.sketches", description=__doc__)
    p.add_argument("--data", required=True, help="folder made by data.build")
    p.add_argument("--bundle", default=checkpoints.DEFAULT, help="name or folder (%(default)s)")
    p.add_argument("--limit", type=int, default=64, help="held-out drawings (%(default)s)")
    p.add_argument("--seed", type=int, default=0, help="of the first picture (%(default)s)")
    p.add_argument("--pull", type=float, default=PULL, help="guidance scale (%(default)s)")
    p.add_argument("--sheet", type=Path, metavar="S.webp", help="the first 32, to look at")
    p.add_argument("--card", action="store_true", help="put the figures into the bundle's card")
    p.add_argument("--json", type=Path, metavar="F", help="write the figures")
    return p


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    try:
        if args.sheet:
            writable(args.sheet, *PICTURES)
        if args.json:
            writable(args.json)
        bundle = checkpoints.load(args.bundle)
        if bundle.sketch is None:
            raise ValueError(f"bundle {bundle.name} has nothing that reads sketches")
        if args.limit < 2:
            raise ValueError(f"limit is {args.limit}: it must be at least 2")
        pixels = held_out(args.data, args.limit, bundle.vqgan.config.resolution)
        figures, sketches, pictures = measure(bundle, pixels, args.seed, args.pull)
        if args.sheet:
            sheet(sketches[:32], pictures[:32], args.sheet)
        if args.card:
            card = read_card(bundle.path)
            card["sketch"].setdefault("metrics", {})["agreement"] = figures
            write_card(bundle.path, card)
        if args.json:
            write(args.json, (json.dumps(figures, indent=1) + "\n").encode())
    except (ValueError, OSError) as error:
        fail(error)
    for name, value in figures.items():
        print(f"{name}: {value}" + ("" if name == "pictures" else " %"))


if __name__ == "__main__":
    main()
