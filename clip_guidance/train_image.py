"""Train CLIP's image tower: `python -m clip_guidance.train_image --data DIR --out RUN`.

Starts from ImageNet weights and learns to land on the sentence encoder's vectors of each picture's
phrases (`python -m clip_guidance.conditions`).
"""

from __future__ import annotations

import argparse
import json
import zipfile
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

import checkpoints
from checkpoints.bundle import WEIGHTS, find, read_card
from clip_guidance import lite, model, pictures
from clip_guidance.augment import AugmentConfig
from clip_guidance.captions import phrase_vectors
from clip_guidance.config import ClipConfig
from clip_guidance.image_task import ImageTask, ImageTrainConfig
from training import checkpoint, flags
from training.arrays import several
from training.command import launch, prepare
from training.files import writable
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
TEXT = ("context_length", "text_width", "text_layers", "text_heads")  # the other tower's


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
    flags.add_flags(p, ClipConfig, "model", without=TEXT)
    flags.add_flags(p, ImageTrainConfig, "losses and data")
    flags.add_flags(p, AugmentConfig, "augmentations")
    flags.add_flags(p, LoopConfig, "schedule", LOOP, without=("compile", "bf16"))
    return p


def get_pictures(args: argparse.Namespace) -> pictures.Pictures:
    """The data set in memory, with reconstructions if a bundle is given or the run has them."""
    found = dataset.scan(args.data)
    if args.pixels and args.pixels.exists():
        loaded = pictures.Pictures([p.row for p in found], *_kept(args.pixels, "pixels", "masks"))
        if len(loaded.pixels) != len(found):
            raise ValueError(f"{args.pixels} was not made from {args.data}: delete it")
    else:
        if args.pixels:
            writable(args.pixels, ".npz")
        loaded = pictures.read(found, SIDE, lambda it: tqdm(it, unit="picture"))
        if args.pixels:
            pictures.save(args.pixels, pixels=loaded.pixels, masks=loaded.masks)
    painted = get_painted(args, found)
    return loaded if painted is None else replace(loaded, painted=painted[0], painted_of=painted[1])


def get_painted(
    args: argparse.Namespace, found: list[dataset.Picture]
) -> tuple[np.ndarray, np.ndarray] | None:
    """What a VQGAN gives back for some of the pictures, kept in OUT; None without a bundle.

    A run that is resumed has its own. ValueError if what is kept was made from something else.
    """
    path, made = args.out / "painted.npz", None
    if args.bundle:
        card = read_card(find(args.bundle))
        made = {"bundle": card.get("sha256", {}).get(WEIGHTS), "count": args.painted_count}
        made = json.dumps(made | {"data": dataset.identity(args.data)["sha256"]})
    elif not (args.resume and path.exists()):
        return None
    if not path.exists():
        args.out.mkdir(parents=True, exist_ok=True)
        vqgan = checkpoints.load(args.bundle).vqgan
        painted, of = pictures.paint(found, vqgan, args.painted_count, SIDE, tqdm)
        pictures.save(path, painted=painted, of=of, made=np.array(made))
    painted, of, known = _kept(path, "painted", "of", "made")
    if made is not None and made != str(known):
        raise ValueError(
            f"{path} was made with another bundle, data set or --painted-count: delete it, or give "
            "another --out"
        )
    return painted, of


def _kept(path: Path, *names: str) -> list[np.ndarray]:
    """Arrays of an .npz that an earlier run has written. ValueError for another file."""
    try:
        with several(path) as arrays:
            return [arrays[name] for name in names]
    except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} holds no {' and '.join(names)}: {error}") from error


def get_task(args: argparse.Namespace, device: str) -> tuple[ImageTask, dict]:
    """The task and its configs, from flags or, with --resume, from the run."""
    stored = {"model": {}, "train": {}, "augment": {}, "loop": LOOP}
    if args.resume and args.init:
        raise ValueError("--resume goes on with the run's own weights: leave out --init")
    if args.resume:
        stored = checkpoint.config_of(args.out, "clip_guidance.train_image", stored)
    configs = {k: flags.build(c, stored[k], flags.given(args, c)) for k, c in PARTS.items()}
    side = configs["train"].size
    if flags.given(args, ClipConfig).get("image_size", side) != side:
        raise ValueError(f"image_size is not {side}, which --size says that the tower sees")
    vectors = phrase_vectors(args.phrases)
    torch.manual_seed(configs["loop"].seed)
    clip = model.create(configs["model"].open_clip())
    if not args.resume and not args.init:
        lite.start_from_imagenet(clip.model.visual.trunk)
    clip.size = side
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
