"""Build a bundle's code statistics: `python -m vqgan.codebook --bundle B --data DIR`."""

from __future__ import annotations

import argparse
import logging
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

import checkpoints
from training import flags
from training.device import usable_device
from training.files import writable
from training.spread import spread
from vqgan import dataset
from vqgan.codebook.build import build, redraw
from vqgan.codebook.cells import Progress
from vqgan.codebook.statistics import FILE, CodeStatistics
from vqgan.codebook.usage import Usage


def parser() -> argparse.ArgumentParser:
    p = flags.Parser(
        prog="python -m vqgan.codebook",
        description="Encode the pictures of a folder and write what they say about each code: "
        "how often it occurs, its nearest real patches, and the codes beside it.",
    )
    p.add_argument("--bundle", default=checkpoints.DEFAULT, help="name or folder (%(default)s)")
    p.add_argument("--data", help="folder made by data.build, or any of pictures")
    p.add_argument(
        "--redraw", action="store_true", help="only draw the cells of --out by the bundle's decoder"
    )
    p.add_argument("--out", help=f"file to write; by default {FILE} in the bundle's folder")
    p.add_argument("--limit", type=int, help="use so many pictures, spread over the data set")
    p.add_argument(
        "--split",
        choices=("train", "val", "all"),
        default="train",
        help="pictures to use: those for training (default), held out, or all",
    )
    p.add_argument("--quality", type=int, default=60, help="of the patches' WebP (%(default)s)")
    p.add_argument("--seed", type=int, default=0, help="of the receptive field's measurement")
    flags.add_device(p)
    return p


def choose(data: str, split: str, limit: int | None) -> list[dataset.Picture]:
    """Pictures of a data folder, `limit` of them spread evenly over it."""
    found = [p for p in dataset.scan(data) if split in (p.split, "all")]
    if not found:
        raise ValueError(f"{data} has no picture in its {split} split: try --split all")
    return found if limit is None else spread(found, limit)


def readable(pictures: list[dataset.Picture], size: int) -> list[dataset.Picture]:
    """The pictures that open. A manifest is taken at its word."""
    if pictures[0].row is not None:
        return pictures
    found = dataset.wholes(tqdm(pictures, "check", unit="picture"), size)
    return [picture for picture, _ in found]


def title(picture: dataset.Picture, root: Path) -> str:
    """What to call a picture on the page: its set and name, or its path in the folder."""
    row = picture.row or {}
    if row.get("name"):
        return f"{row['name']} ({row['set']})" if row.get("set") else str(row["name"])
    return dataset.shown_name(picture.path.relative_to(root).as_posix())


def bars(what: str) -> Progress:
    """A progress bar for one stage of the work."""
    bar = tqdm(desc=what, unit={"encode": "picture"}.get(what, "code"))

    def step(done: int, of: int) -> None:
        bar.total = of
        bar.update(done - bar.n)
        if done >= of:
            bar.close()

    return step


def run(args: argparse.Namespace) -> tuple[Path, CodeStatistics]:
    """Build and write what the arguments ask for. ValueError on bad input."""
    if args.limit is not None and args.limit < 1:
        raise ValueError(f"--limit is {args.limit}: it must be at least 1")
    if not 1 <= args.quality <= 100:
        raise ValueError(f"--quality is {args.quality}: it must lie between 1 and 100")
    if not (args.data or args.redraw):
        raise ValueError("give the pictures to encode with --data, or --redraw")
    out = Path(args.out) if args.out else None
    if out and not out.parent.is_dir():
        raise ValueError(f"there is no folder {out.parent} to write {out.name} into")
    out = writable(out) if out else None
    bundle = checkpoints.load(args.bundle, usable_device(args.device))
    size = bundle.card.get("preprocess", {}).get("size", bundle.vqgan.config.resolution)
    out = out or bundle.path / FILE
    if args.redraw:
        found = CodeStatistics.load(out)
        if found.tokenizer_id != bundle.tokenizer_id:
            raise ValueError(f"{out} is of another tokenizer: build it anew, with --data")
        statistics = redraw(found, bundle.vqgan, bars("cells"))
        return statistics.save(out), statistics
    pictures = readable(choose(args.data, args.split, args.limit), size)

    @lru_cache(maxsize=4096)  # patches are cut from pictures that were read before
    def read(number: int) -> np.ndarray:
        return dataset.whole(pictures[number], size)

    statistics = build(
        bundle.vqgan.to(memory_format=torch.channels_last),  # 1.5 times as fast here
        read,
        [title(p, Path(args.data)) for p in pictures],
        tokenizer_id=bundle.tokenizer_id,
        data=f"{dataset.identity(args.data)['name']}, {args.split} split",
        quality=args.quality,
        seed=args.seed,
        progress=bars,
    )
    return statistics.save(out), statistics


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        path, statistics = run(args)
    except (ValueError, OSError, RuntimeError) as error:
        flags.fail(error)
    usage = Usage.of(statistics.counts)
    print(
        f"{path}: {path.stat().st_size / 1e6:.2f} MB, {statistics.pictures} pictures, "
        f"{len(usage.counts) - len(usage.dead)} of {len(usage.counts)} codes used, "
        f"perplexity {usage.perplexity:.0f}, effective field {statistics.field} px"
    )


if __name__ == "__main__":
    main()
