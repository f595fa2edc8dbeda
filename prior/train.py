"""Train a prior: `python -m prior.train --bundle B --data DIR --out RUN`."""

from __future__ import annotations

import argparse
import logging
from dataclasses import asdict
from pathlib import Path

import numpy as np

import checkpoints
from prior import tokens
from prior.encode import encode_folder
from prior.model import GPT, PriorConfig
from prior.sample import finish, sample
from prior.sheet import decode, sheet, weights_id
from prior.task import Preview, PriorTask
from prior.train_config import TrainConfig
from training import distributed, flags
from training.arrays import read_array
from training.checkpoint import config_of
from training.command import launch, prepare
from training.files import writable
from training.loop import LoopConfig
from vqgan import dataset
from vqgan.model import VQGAN

log = logging.getLogger(__name__)

PARTS = {"model": PriorConfig, "train": TrainConfig, "loop": LoopConfig}
LOOP = {"lr": 1e-3}  # where a prior wants something else than the shared defaults


def parser() -> argparse.ArgumentParser:
    p = flags.Parser(
        prog="python -m prior.train",
        description="Train a GPT-2 on the codes that a bundle's tokenizer gives a data folder.",
        epilog="Data-parallel: torchrun --nproc-per-node N -m prior.train ...",
    )
    p.add_argument("--bundle", default=checkpoints.DEFAULT, help="the tokenizer (%(default)s)")
    p.add_argument("--data", help="folder made by data.build, or any of pictures")
    p.add_argument("--tokens", type=Path, help="codes to read, or to write if the file is missing")
    p.add_argument("--conditions", type=Path, help=".npy: class ids (P,) or floats (P, M, E)")
    p.add_argument("--out", required=True, type=Path, help="folder of the run: checkpoint, log")
    p.add_argument("--resume", action="store_true", help="go on exactly where OUT stopped")
    p.add_argument("--init", metavar="BUNDLE", help="start from the prior of this bundle")
    p.add_argument("--teacher", metavar="BUNDLE", help="follow this bundle's prior, see --distil")
    flags.add_device(p)
    flags.add_flags(p, PriorConfig, "model (grid and codebook follow from the tokens)")
    flags.add_flags(p, TrainConfig, "corruption and data")
    flags.add_flags(p, LoopConfig, "schedule", LOOP)
    return p


def get_tokens(args: argparse.Namespace, bundle: checkpoints.Bundle) -> tokens.TokenSet:
    """The codes of --tokens (OUT/tokens.npy unless given); encoded from --data if missing."""
    path = tokens.named(args.tokens or args.out / "tokens.npy")
    if path.exists():
        found = tokens.load(path, bundle.tokenizer_id)
        if args.data:
            refuse_other_codes(path, found, args.data)
        return found
    if not args.data:
        raise ValueError(f"there is no {path}: give --data to encode, or --tokens")
    if distributed.world_size() > 1:
        raise ValueError(f"there is no {path}: encode first, with python -m prior.tokens")
    if flags.given(args, TrainConfig).get("views"):
        raise ValueError(f"there is no {path} with varied views: make it with prior.tokens --views")
    writable(path)
    log.info("encoding %s", args.data)
    found = encode_folder(bundle, args.data)
    tokens.save(found, path)
    return found


def refuse_other_codes(path: Path, found: tokens.TokenSet, data: str) -> None:
    """ValueError where the codes that are there were made from another folder of pictures."""
    there, here = found.data, dataset.identity(data)
    known = "name" if there.get("sha256") is here["sha256"] is None else "sha256"
    if there.get(known) != here[known]:
        raise ValueError(
            f"{path} holds the codes of {there.get('name')}, not of {here['name']} as it is now: "
            "give another --tokens to encode it, or leave out --data"
        )
    log.info("codes are read from %s; pictures added to %s since then are not in it", path, data)


def get_conditions(path: Path | None) -> np.ndarray | None:
    if path is None:
        return None
    array = read_array(path, "conditions")
    return array[:, None] if array.ndim == 2 else array


def previewer(vqgan: VQGAN, count: int = 16) -> Preview:
    """Writes pictures of the averaged prior, always from the same seeds: a time-lapse."""

    def preview(prior: GPT, step: int, folder: Path) -> None:
        grids = finish(sample(prior, count, seed=0)).grid
        folder.mkdir(parents=True, exist_ok=True)
        sheet(decode(vqgan, grids)).save(folder / f"{step:07d}.png")

    return preview


def with_prior(source: str, tokenizer_id: str, flag: str) -> checkpoints.Bundle:
    """A bundle by name. ValueError if it has no prior, or one of another tokenizer."""
    bundle = checkpoints.load(source)
    if bundle.prior is None:
        raise ValueError(f"{flag}: bundle {bundle.name} holds no prior: leave it out")
    if bundle.tokenizer_id != tokenizer_id:
        raise ValueError(
            f"{flag}: the prior of {bundle.name} reads codes of tokenizer "
            f"{bundle.tokenizer_id[:12]}, and the tokens are of {tokenizer_id[:12]}"
        )
    return bundle


def configure(
    args: argparse.Namespace,
    found: tokens.TokenSet,
    start: GPT | None = None,
    teacher_id: str | None = None,
) -> tuple[PriorConfig, TrainConfig, LoopConfig]:
    """The three configs from flags, tokens and the prior to start from or the run to resume.

    `teacher_id`: sha256 of the teacher's weights, where there is one and it is known.
    """
    chosen = {name: flags.given(args, cls) for name, cls in PARTS.items()}
    stored = {
        "model": {
            "codebook_size": found.codebook_size,
            "height": found.grid[0],
            "width": found.grid[1],
        },
        "train": {},
        "loop": LOOP,
    }
    if start is not None:
        stored["model"] = start.config.to_dict()
    if args.resume:
        stored = config_of(args.out, "prior.train", [*stored, "tokenizer_id"])
        if chosen["model"]:
            given = ", ".join(chosen["model"])
            raise ValueError(f"--resume keeps the model as it is: leave out {given}")
        if stored["tokenizer_id"] != found.tokenizer_id:
            raise ValueError(
                f"{args.out} was trained on codes of another tokenizer, "
                f"{stored['tokenizer_id'][:12]}: resume with the same bundle and tokens"
            )
        followed = stored.get("teacher_sha256")
        if None not in (followed, teacher_id) and followed != teacher_id:
            raise ValueError(
                f"{args.out} followed another teacher, prior {followed[:12]}, and --teacher's is "
                f"{teacher_id[:12]}: resume with the same one"
            )
    model, train, loop = (
        flags.build(cls, stored[name], chosen[name]) for name, cls in PARTS.items()
    )
    return model, train, loop


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    try:
        device = prepare(args.out, args.resume, args.device)
        if args.resume and args.init:
            raise ValueError("--resume goes on with the run's own weights: leave out --init")
        bundle = checkpoints.load(args.bundle)
        found = get_tokens(args, bundle)
        begun, followed = (
            with_prior(source, found.tokenizer_id, flag) if source else None
            for source, flag in ((args.init, "--init"), (args.teacher, "--teacher"))
        )
        start, teacher = (b.prior if b else None for b in (begun, followed))
        teacher_id = weights_id(followed.card) if followed else None
        configs = configure(args, found, start, teacher_id)
        task = PriorTask(
            *configs,
            found,
            conditions=get_conditions(args.conditions),
            device=device,
            preview=previewer(bundle.vqgan),
            teacher=teacher,
        )
        if start is not None:
            task.init_from(start)
    except (ValueError, OSError) as error:
        flags.fail(error)
    config = {
        **{name: asdict(part) for name, part in zip(PARTS, configs, strict=True)},
        "tokenizer_id": found.tokenizer_id,
        "data": found.data,
        "teacher_sha256": teacher_id,
    }
    launch(task, configs[2], args.out, config, module="prior.train", argv=argv, resume=args.resume)


if __name__ == "__main__":
    main()
