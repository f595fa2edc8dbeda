"""Train CLIP's image tower: `python -m clip_guidance.train_image --data DIR --out RUN`.

Starts from ImageNet weights and learns to land on the sentence encoder's vectors of each picture's
phrases (`python -m clip_guidance.conditions`).
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

import checkpoints
from clip_guidance import lite, model, pictures
from clip_guidance.augment import AugmentConfig
from clip_guidance.captions import phrase_vectors
from clip_guidance.config import ClipConfig
from clip_guidance.image_task import ImageTask, ImageTrainConfig
from training import checkpoint, flags
from training.command import launch, prepare
from training.loop import LoopConfig
from vqgan import dataset

PARTS = {
    "model": ClipConfig,
    "train": ImageTrainConfig,
    "augment": AugmentConfig,
    "loop": LoopConfig,
}
LOOP = {"lr": 1e-3, "bf16": False, "steps": 6000}
SIDE = 96  # the pictures in memory


def parser() -> argparse.ArgumentParser:
    p = flags.Parser(prog="python -m clip_guidance.train_image", description=__doc__)
    p.add_argument("--data", required=True, help="folder made by data.build")
    p.add_argument("--phrases", required=True, type=Path, help=".npy by clip_guidance.conditions")
    p.add_argument("--out", required=True, type=Path, help="folder of the run: checkpoint, log")
    p.add_argument("--pixels", type=Path, help=".npz to keep the decoded pictures in between runs")
    p.add_argument("--bundle", help="train on what its VQGAN gives back too (see --painted)")
    p.add_argument("--painted-count", type=int, default=4000, help="how many (%(default)s)")
    p.add_argument("--init", type=Path, help="start from the averaged weights of this run")
    p.add_argument("--resume", action="store_true", help="go on exactly where OUT stopped")
    flags.add_device(p)
    flags.add_flags(p, ClipConfig, "model")
    flags.add_flags(p, ImageTrainConfig, "losses and data")
    flags.add_flags(p, AugmentConfig, "augmentations")
    flags.add_flags(p, LoopConfig, "schedule", LOOP)
    return p


def get_pictures(args: argparse.Namespace) -> pictures.Pictures:
    """The data set in memory, with reconstructions if a bundle is given (kept in OUT)."""
    found = dataset.scan(args.data)
    if args.pixels and args.pixels.exists():
        with np.load(args.pixels) as arrays:
            rows, data = [p.row for p in found], [arrays["pixels"], arrays["masks"]]
        if len(data[0]) != len(rows):
            raise ValueError(f"{args.pixels} was not made from {args.data}: delete it")
        loaded = pictures.Pictures(rows, *data)
    else:
        loaded = pictures.read(found, SIDE, lambda it: tqdm(it, unit="picture"))
        if args.pixels:
            pictures.save(args.pixels, pixels=loaded.pixels, masks=loaded.masks)
    if not args.bundle:
        return loaded
    path = args.out / "painted.npz"
    if not path.exists():
        args.out.mkdir(parents=True, exist_ok=True)
        vqgan = checkpoints.load(args.bundle).vqgan
        painted, of = pictures.paint(found, vqgan, args.painted_count, SIDE, tqdm)
        pictures.save(path, painted=painted, of=of)
    with np.load(path) as arrays:
        painted, of = arrays["painted"], arrays["of"]
    return pictures.Pictures(loaded.rows, loaded.pixels, loaded.masks, painted, of)


def get_task(args: argparse.Namespace, device: str) -> tuple[ImageTask, dict]:
    """The task and its configs, from flags or, with --resume, from the run."""
    stored = {"model": {}, "train": {}, "augment": {}, "loop": LOOP}
    if args.resume:
        stored = checkpoint.config_of(args.out, "clip_guidance.train_image", stored)
    configs = {k: flags.build(c, stored[k], flags.given(args, c)) for k, c in PARTS.items()}
    vectors = phrase_vectors(args.phrases)
    torch.manual_seed(configs["loop"].seed)
    clip = model.create(configs["model"].open_clip())
    if not args.resume and not args.init:
        lite.start_from_imagenet(clip.model.visual.trunk)
    clip.size = configs["train"].size
    task = ImageTask(
        clip,
        configs["train"],
        configs["augment"],
        configs["loop"],
        get_pictures(args),
        vectors,
        device,
    )
    if args.init:
        try:
            state = checkpoint.load(args.init / "last.pt")["task"]["ema"]["shadow"]
            task.tower.load_state_dict(state)
        except (KeyError, RuntimeError) as error:
            why = " ".join(str(error).splitlines()[:2])
            raise ValueError(f"--init: {args.init} is no run of this tower: {why}") from error
        task.ema.load_state_dict({"updates": 0, "shadow": state})
    return task, {k: asdict(v) for k, v in configs.items()}


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    try:
        device = prepare(args.out, args.resume, args.device)
        task, config = get_task(args, device)
    except (ValueError, OSError) as error:
        flags.fail(error)
    config["data"] = dataset.identity(args.data)
    options = {"module": "clip_guidance.train_image", "argv": argv, "resume": args.resume}
    launch(task, task.loop, args.out, config, **options)


if __name__ == "__main__":
    main()
