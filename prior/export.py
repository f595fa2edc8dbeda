"""Put a trained prior into its tokenizer's bundle: `python -m prior.export RUN BUNDLE`.

Takes the averaged weights of RUN/last.pt. The bundle's other files and figures stay.
"""

from __future__ import annotations

import csv
from pathlib import Path

import torch

import checkpoints
from checkpoints.bundle import write
from checkpoints.export import without_folders
from prior.model import GPT, PriorConfig
from training.checkpoint import commands, load
from training.flags import Parser, fail

FIGURES = ("val_bits", "val_free_bits", "unigram_bits")
LOG = "prior-log.csv"


def export(run: Path, bundle: str | Path) -> Path:
    """Write `run`'s prior into `bundle` -> the bundle's folder. ValueError if they do not fit."""
    state, home = load(run / "last.pt"), checkpoints.load(bundle)
    try:
        config = state["config"]
        prior = GPT(PriorConfig(**config["model"])).eval()
        prior.load_state_dict(state["task"]["ema"]["shadow"])
        tokenizer = config["tokenizer_id"]
    except (KeyError, TypeError, RuntimeError) as error:
        first = " ".join(str(error).splitlines()[:2])
        raise ValueError(f"{run / 'last.pt'} is not a prior's checkpoint: {first}") from error
    if tokenizer != home.tokenizer_id:
        raise ValueError(
            f"{run} was trained on codes of tokenizer {tokenizer[:12]}, and {home.name} has "
            f"{home.tokenizer_id[:12]}: train one on this bundle"
        )
    training = {
        "command": without_folders(config["command"]),
        "commands": [without_folders(c) for c in commands(config)],
        "steps": state["step"],
        "hours": round(state["seconds"] / 3600, 3),
        "train": config["train"],
        "loop": config["loop"],
        "data_sha256": config["data"]["sha256"],
        "torch": torch.__version__,
    }
    text = (run / "log.csv").read_text(encoding="utf-8")
    card = home.card | {"prior": {"training": training, "metrics": figures(text)}}
    checkpoints.save(home.path, name=home.name, vqgan=home.vqgan, card=card, prior=prior)
    write(home.path / LOG, text.encode())
    return home.path


def figures(log: str) -> dict[str, float]:
    """The last evaluation in a run's log: bits per token, held out."""
    rows = [row for row in csv.DictReader(log.splitlines()) if row.get(FIGURES[0])]
    return {k: float(rows[-1][k]) for k in FIGURES if rows[-1].get(k)} if rows else {}


def main(argv: list[str] | None = None) -> None:
    p = Parser(prog="python -m prior.export", description=__doc__)
    p.add_argument("run", metavar="RUN", type=Path, help="folder of the run, with last.pt")
    p.add_argument("bundle", metavar="BUNDLE", help="name or folder of the tokenizer's bundle")
    args = p.parse_args(argv)
    try:
        path = export(args.run, args.bundle)
    except (ValueError, OSError) as error:
        fail(error)
    size = (path / "prior.safetensors").stat().st_size
    print(f"{path}: a prior of {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
