"""Teach a bundle's prior to follow sketches: `python -m prior.train_sketch --out RUN ...`."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import checkpoints
from prior import tokens
from prior.grow import reader_grown
from prior.sample import finish, sample
from prior.sheet import decode, weights_id
from prior.sketch import PULL, SketchConfig, SketchReader, config_for, paper, thicken
from prior.sketch_task import Lines, SketchTask
from prior.task import Preview
from prior.train import get_conditions
from prior.train_config import TrainConfig
from training import flags
from training.arrays import read_array
from training.checkpoint import config_of
from training.command import launch, prepare
from training.loop import LoopConfig
from training.spread import spread

LOOP = {"lr": 1e-3}
CHANNELS = 192
REFUSED = ("views", "distil")  # of a prior's training; see SketchTask
SHOWN = 12  # sketches in a preview
TRAIN = {"drop": 0.5, "batch": 16}  # half of the samples without their text, so that lines count


def parser() -> argparse.ArgumentParser:
    p = flags.Parser(
        prog="python -m prior.train_sketch",
        description="Train a reader of sketches beside a bundle's prior, which stays as it is.",
    )
    p.add_argument("--bundle", default=checkpoints.DEFAULT, help="with the prior (%(default)s)")
    p.add_argument("--tokens", required=True, type=Path, help="F.npy of prior.tokens")
    p.add_argument("--sketches", required=True, type=Path, help="S.npy of prior.sketches")
    p.add_argument("--conditions", type=Path, help="what the prior was trained with, if anything")
    p.add_argument("--out", required=True, type=Path, help="folder of the run: checkpoint, log")
    p.add_argument("--resume", action="store_true", help="go on exactly where OUT stopped")
    p.add_argument("--init", metavar="BUNDLE", help="start from the reader of this bundle")
    p.add_argument("--channels", type=int, help=f"of the reader ({CHANNELS}, or as in --init)")
    flags.add_device(p)
    flags.add_flags(p, TrainConfig, "corruption and data", TRAIN, without=REFUSED)
    flags.add_flags(p, LoopConfig, "schedule", LOOP)
    return p


def get_sketches(path: Path) -> np.ndarray:
    return read_array(path, "sketches")


def previewer(bundle: checkpoints.Bundle, lines: Lines, found: tokens.TokenSet) -> Preview:
    """Writes held-out sketches above what is written for them, always from the same seeds."""
    asked = thicken(lines.of(spread(found.where("val"), SHOWN), 1), 3)
    shown = paper(asked)

    def preview(reader: SketchReader, step: int, folder: Path) -> None:
        with torch.no_grad():
            shifts = reader(asked.to(next(reader.parameters()).device)).float()
        how = {"seed": 0, "top_p": 0.95, "cfg_scale": PULL, "shifts": shifts}
        grids = finish(sample(bundle.prior, len(asked), **how)).grid
        folder.mkdir(parents=True, exist_ok=True)
        pictures = decode(bundle.vqgan, grids)
        rows = np.stack([shown, pictures], 1)  # (n, 2, H, W, 3)
        columns = [np.concatenate(list(pair)) for pair in rows]  # the sketch above its picture
        Image.fromarray(np.concatenate(columns, 1)).save(folder / f"{step:07d}.png")

    return preview


def initial_reader(source: str, bundle: checkpoints.Bundle) -> SketchReader:
    """The reader of another bundle. ValueError if it has none, or one for a prior of other shape.

    Its prior may be an earlier state of this one, or one that this one grew from (`prior.grow`):
    what it adds is then nearly right already.
    """
    other = checkpoints.load(source)
    if other.sketch is None:
        raise ValueError(f"--init: bundle {other.name} reads no sketches: leave it out")
    reader, layers = other.sketch, bundle.prior.config.layers
    if reader.config.layers < layers:
        reader = reader_grown(reader, layers)
    shape = reader.config
    wanted = config_for(bundle.prior.config, bundle.vqgan.config.downsampling, shape.channels)
    if shape != wanted or other.tokenizer_id != bundle.tokenizer_id:
        raise ValueError(
            f"--init: the reader of {other.name} belongs to another kind of prior than "
            f"{bundle.name}'s: leave it out"
        )
    return reader


def configure(
    args: argparse.Namespace, bundle: checkpoints.Bundle, start: SketchReader | None = None
) -> tuple[SketchConfig, TrainConfig, LoopConfig]:
    """The three configs from the bundle, flags and the run to resume."""
    chosen = {"train": flags.given(args, TrainConfig), "loop": flags.given(args, LoopConfig)}
    patch, stored = bundle.vqgan.config.downsampling, {"train": TRAIN, "loop": LOOP}
    channels = args.channels
    if channels is None:
        channels = CHANNELS if start is None else start.config.channels
    model = config_for(bundle.prior.config, patch, channels)
    if start is not None and model != start.config:
        raise ValueError(f"--init keeps the reader's {start.config.channels} channels")
    if args.resume:
        if args.channels is not None or args.init:
            raise ValueError("--resume goes on with the run's reader: leave out --channels, --init")
        stored = config_of(args.out, "prior.train_sketch", [*stored, "sketch"])
        model = SketchConfig(**stored["sketch"])
        if stored["tokenizer_id"] != bundle.tokenizer_id:
            raise ValueError(f"{args.out} was trained on another tokenizer's codes")
        if stored["prior_sha256"] != weights_id(bundle.card):
            raise ValueError(
                f"{args.out} was trained beside another prior than {bundle.name}'s: resume with "
                "that one, or start a new run"
            )
    train, loop = (
        flags.build(cls, stored[name], chosen[name])
        for name, cls in (("train", TrainConfig), ("loop", LoopConfig))
    )
    return model, train, loop


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    try:
        device = prepare(args.out, args.resume, args.device)
        bundle = checkpoints.load(args.bundle)
        if bundle.prior is None:
            raise ValueError(f"bundle {bundle.name} has no prior: train one (prior.train) first")
        found = tokens.load(args.tokens, bundle.tokenizer_id)
        drawn = get_sketches(args.sketches)
        start = initial_reader(args.init, bundle) if args.init else None
        model, train, loop = configure(args, bundle, start)
        task = SketchTask(
            bundle.prior, model, train, loop, found, drawn,
            conditions=get_conditions(args.conditions), device=device,
        )  # fmt: skip
        if start is not None:
            task.init_from(start)
        task.preview = previewer(bundle, task.lines, found)  # once the sketches are known to fit
    except (ValueError, OSError) as error:
        flags.fail(error)
    config = {
        "sketch": asdict(model), "train": asdict(train), "loop": asdict(loop),
        "tokenizer_id": bundle.tokenizer_id, "data": found.data,
        "prior_sha256": weights_id(bundle.card),
    }  # fmt: skip
    options = {"module": "prior.train_sketch", "argv": argv, "resume": args.resume}
    launch(task, loop, args.out, config, **options)


if __name__ == "__main__":
    main()
