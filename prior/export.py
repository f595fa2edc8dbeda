"""Put a trained prior into its tokenizer's bundle: `python -m prior.export RUN BUNDLE`.

RUN is one of prior.train, or one of prior.train_sketch: then the sketch reader joins its prior.
Takes the averaged weights of RUN/last.pt. The bundle's other files and figures stay, but a sketch
reader goes when the prior beside which it was trained is replaced.
"""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import torch

import checkpoints
from checkpoints.bundle import PRIOR, SKETCH, find, save_sketch
from checkpoints.export import joined, without_folders
from prior import ranges
from prior.grow import grown, reader_grown
from prior.model import GPT, PriorConfig
from prior.sketch import SketchConfig, SketchReader
from training.checkpoint import commands, load
from training.files import write
from training.flags import Parser, fail

FIGURES = ("val_bits", "val_free_bits", "unigram_bits", "val_outline_bits", "val_wrong_bits")
LOG, SKETCH_LOG = "prior-log.csv", "sketch-log.csv"


def export(
    run: Path, bundle: str | Path, before: str | Path | None = None, mix: float = 1.0
) -> Path:
    """Write `run`'s prior, or sketch reader, into `bundle` -> the file.

    `before` is the bundle that `run` was started from (`--init`): its steps, hours, commands and
    log are counted in. `mix` is the share of the run's weights in a mean with those it was started
    from, which often holds what both are good at (Wortsman et al., "Robust fine-tuning of
    zero-shot models", section 3). ValueError if they do not fit.
    """
    if not 0 < mix <= 1 or (mix < 1 and before is None):
        raise ValueError(f"mix is {mix}: it must lie in (0, 1], and below 1 it needs --before")
    state, home = load(run / "last.pt"), checkpoints.load(bundle)
    try:
        config = state["config"]
        sketched = "sketch" in config
        shape = SketchConfig(**config["sketch"]) if sketched else PriorConfig(**config["model"])
        model = (SketchReader(shape) if sketched else GPT(shape)).eval()
        model.load_state_dict(state["task"]["ema"]["shadow"])
        if not sketched and shape.view_kinds:
            model = _untold(model)
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
    about = {"training": training, "metrics": figures(text)}
    if before is not None:
        earlier, part = checkpoints.load(before), "sketch" if sketched else "prior"
        if mix < 1:
            _mix(model, getattr(earlier, part), mix)
            about |= {"mix": mix, "metrics": {}}  # what was measured is of the run alone
        about["training"] = _counted_in(training, earlier.card.get(part, {}), earlier.name)
        text = joined([earlier.path / (SKETCH_LOG if sketched else LOG), run / "log.csv"])
    if sketched:
        if config["prior_sha256"] != home.card["sha256"].get(PRIOR):
            raise ValueError(f"{run} was trained beside another prior than {home.name}'s")
        save_sketch(home.path, model, about)
        write(home.path / SKETCH_LOG, text.encode())
        return home.path / SKETCH
    model.ranges = ranges.measure(model, ranges.conditions(model, home))
    card = home.card | {"prior": about}
    checkpoints.save(home.path, name=home.name, vqgan=home.vqgan, card=card, prior=model)
    write(home.path / LOG, text.encode())
    return home.path / PRIOR


def _untold(model: GPT) -> GPT:
    """The same prior without its embeddings of kinds of views, which only training uses."""
    kept = GPT(replace(model.config, view_kinds=0)).eval()
    state = model.state_dict()
    kept.load_state_dict({k: v for k, v in state.items() if not k.startswith("view_emb.")})
    return kept


@torch.no_grad()
def _mix(model: GPT | SketchReader, start: GPT | SketchReader | None, share: float) -> None:
    """Move a model's weights to their mean with those of `start`, grown as the run began."""
    if start is not None and start.config.layers < model.config.layers:
        grow = grown if isinstance(start, GPT) else reader_grown
        start = grow(start, model.config.layers)
    state = {} if start is None else start.state_dict()
    shapes = [{k: v.shape for k, v in s.items()} for s in (state, model.state_dict())]
    if shapes[0] != shapes[1]:
        raise ValueError("mix: the run and what it was started from differ in shape")
    for name, value in model.state_dict().items():
        value.lerp_(state[name], 1 - share)


def _counted_in(training: dict, earlier: dict, name: str) -> dict:
    """`training` with what a card says of the weights it began with."""
    known = earlier.get("training")
    if known is None:
        raise ValueError(f"bundle {name} does not say how what the run began with was trained")
    if "--init" not in training["commands"][0]:
        raise ValueError(f"the run was not started from {name}: train with --init")
    if known["data_sha256"] != training["data_sha256"]:
        raise ValueError(f"the run saw other data than {name}: leave out --before")
    return training | {
        "commands": [*known["commands"], *training["commands"]],
        "steps": known["steps"] + training["steps"],
        "hours": round(known["hours"] + training["hours"], 3),
    }


def figures(log: str) -> dict[str, float]:
    """The last evaluation in a run's log: bits per token, held out."""
    rows = [row for row in csv.DictReader(log.splitlines()) if row.get(FIGURES[0])]
    return {k: float(rows[-1][k]) for k in FIGURES if rows[-1].get(k)} if rows else {}


def main(argv: list[str] | None = None) -> None:
    p = Parser(prog="python -m prior.export", description=__doc__)
    p.add_argument("run", metavar="RUN", type=Path, help="folder of the run, with last.pt")
    p.add_argument("bundle", metavar="BUNDLE", help="name or folder of the tokenizer's bundle")
    p.add_argument("--before", metavar="BUNDLE", help="the one RUN was started from, by --init")
    p.add_argument(
        "--mix", type=float, default=1.0, help="share of RUN's weights in a mean with --before's"
    )
    args = p.parse_args(argv)
    try:
        reader = find(args.bundle) / SKETCH
        drawn = reader.exists()
        path = export(args.run, args.bundle, args.before, args.mix)
    except (ValueError, OSError) as error:
        fail(error)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    if drawn and not reader.exists():
        print(f"{reader} is gone: it read sketches for the prior before; prior.train_sketch")


if __name__ == "__main__":
    main()
