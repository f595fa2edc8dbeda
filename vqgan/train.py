"""Train a VQGAN: `python -m vqgan.train --data DIR --out RUN`.

With `--perceptual-weight 0 --gan-weight 0` this trains the VQ-VAE of the article's section 5.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from training import flags
from training.checkpoint import config_of
from training.checkpoint import load as load_checkpoint
from training.command import launch, prepare
from training.loop import LoopConfig
from vqgan import dataset
from vqgan.model import PRESETS, VQGANConfig
from vqgan.task import VQGANTask
from vqgan.train_config import TrainConfig


def parser() -> argparse.ArgumentParser:
    p = flags.Parser(
        prog="python -m vqgan.train",
        description="Train a VQGAN (or a VQ-VAE) on a folder of pictures.",
        epilog="Data-parallel: torchrun --nproc-per-node N -m vqgan.train ...",
    )
    p.add_argument("--data", required=True, help="folder made by data.build, or any of pictures")
    p.add_argument("--out", required=True, help="folder of the run: checkpoint, log, samples")
    p.add_argument("--resume", action="store_true", help="go on exactly where OUT stopped")
    p.add_argument("--init", metavar="BUNDLE", help="start from a bundle's or a run's weights")
    p.add_argument("--preset", choices=PRESETS, help="shape to start flags from (small)")
    flags.add_device(p)
    flags.add_flags(p, VQGANConfig, "model; defaults of --preset small", PRESETS["small"].to_dict())
    flags.add_flags(p, TrainConfig, "losses and data")
    flags.add_flags(p, LoopConfig, "schedule")
    return p


def initial_weights(source: str) -> tuple[dict, dict]:
    """(state dict, VQGANConfig fields) of a run folder or a bundle."""
    if (Path(source) / "last.pt").is_file():
        state = load_checkpoint(Path(source) / "last.pt")
        try:
            return state["task"]["ema"]["shadow"], state["config"]["model"]
        except KeyError as error:
            raise ValueError(f"--init: {source} is no run of vqgan.train") from error
    import checkpoints

    vqgan = checkpoints.load(source).vqgan
    return vqgan.state_dict(), vqgan.config.to_dict()


def configure(
    args: argparse.Namespace,
) -> tuple[VQGANConfig, TrainConfig, LoopConfig, tuple[dict, VQGANConfig] | None]:
    """The three configs and, with --init, the weights to start from and what they are of."""
    chosen = [flags.given(args, cls) for cls in (VQGANConfig, TrainConfig, LoopConfig)]
    shape = PRESETS[args.preset or "small"].to_dict()
    start, stored = None, {"model": shape, "train": {}, "loop": {}}
    if args.preset and (args.resume or args.init):
        raise ValueError("--resume and --init bring a shape of their own: leave out --preset")
    if args.resume:
        stored = config_of(Path(args.out), "vqgan.train", stored)
        if chosen[0]:
            raise ValueError(f"--resume keeps the model as it is: leave out {', '.join(chosen[0])}")
        if args.init:
            raise ValueError("--resume goes on with the run's own weights: leave out --init")
    elif args.init:
        weights, stored["model"] = initial_weights(args.init)
        start = weights, flags.build(VQGANConfig, stored["model"], {})
    elif chosen[1].get("freeze_encoder"):
        raise ValueError("--freeze-encoder needs a trained encoder: add --init")
    configs = [
        flags.build(cls, stored[key], picked)
        for cls, key, picked in zip(
            (VQGANConfig, TrainConfig, LoopConfig), ("model", "train", "loop"), chosen, strict=True
        )
    ]
    if chosen[1].get("new_codebook") and not args.init:
        raise ValueError(
            "--new-codebook replaces the one of the model that --init names: add --init"
        )
    return *configs, start


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    out = Path(args.out)
    try:
        device = prepare(out, args.resume, args.device, args.data)
        model_cfg, train_cfg, loop_cfg, start = configure(args)
        pictures = dataset.scan(args.data)
        task = VQGANTask(model_cfg, train_cfg, loop_cfg, pictures, device)
        if start is not None:
            task.init_from(*start)
    except (ValueError, OSError) as error:
        flags.fail(error)
    config = {
        "model": model_cfg.to_dict(),
        "train": asdict(train_cfg),
        "loop": asdict(loop_cfg),
        "data": dataset.identity(args.data),
    }
    launch(task, loop_cfg, out, config, module="vqgan.train", argv=argv, resume=args.resume)


if __name__ == "__main__":
    main()
