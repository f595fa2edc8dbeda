"""Turn a training run into a bundle: `python -m checkpoints.export RUN OUT`.

Takes the averaged weights of RUN/last.pt and the log. Other files of OUT stay, and so does what
config.json says of them, as long as it still holds: metrics belong to exactly these weights, prior
and code statistics to the tokenizer; a CLIP belongs to none. With `--replace` OUT may hold another
tokenizer, whose prior, sketch reader and decoders then go.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import shlex
from pathlib import Path

import torch

from checkpoints.bundle import (
    CARD,
    WEIGHTS,
    adopt_tokenizer,
    find,
    names,
    pack,
    read_card,
    save,
    tokenizer_id,
)
from clip_guidance import model as clip_model
from training.checkpoint import commands, load
from training.files import shown_name, write
from training.flags import Parser, fail
from vqgan import dataset
from vqgan.model import UNSEEN, VQGAN, VQGANConfig


def export(
    run: Path,
    out: Path,
    *,
    before: list[Path] | None = None,
    name: str | None = None,
    raw: bool = False,
    data: Path | None = None,
    onto: bool = False,
    replace: bool = False,
) -> Path:
    """Write the bundle of `run` -> its folder. ValueError if a part is missing or does not fit.

    `before` are the earlier runs that it was started from, first to last: their steps, hours and
    logs are counted in. `onto`: it was started from the very bundle in `out` (`--init`), whose
    steps, hours and log are counted in, so that its runs need not be there any more. `raw` takes
    the last weights instead of their average. `data` names the data set's folder, for licences.
    `replace`: `out` may hold another tokenizer, and loses what belongs to it.
    """
    out = find(out) if onto or str(out) in names() else out
    runs = [*(before or []), run]
    states = [load(r / "last.pt") for r in runs]
    try:
        state = states[-1]
        task = state["task"]
        weights = task["model"] if raw else task["ema"]["shadow"]
        begins = state["config"]["train"].get("autoencoder_steps", 0)
        if state["step"] <= begins:
            raise ValueError(
                f"{run} has no codebook yet: it is at step {state['step']}, and the codebook is "
                f"made after step {begins}: train it further"
            )
        vqgan = VQGAN(VQGANConfig(**state["config"]["model"]))
        vqgan.load_state_dict(weights)
        earlier = _earlier(out, vqgan, states[0]) if onto else {}
        training = _training(states, raw, earlier)
    except (KeyError, TypeError, RuntimeError) as error:
        first = " ".join(str(error).splitlines()[:2])
        raise ValueError(f"{run / 'last.pt'} is not a VQGAN run's checkpoint: {first}") from error
    if data is not None:
        training |= _licences(data, training["data_sha256"])
    gone = _orphans(out, vqgan)
    if gone is not None and not replace:
        raise ValueError(
            f"{out} holds another tokenizer{_and(gone)}: choose a new folder, or add --replace to "
            "lose that"
        )
    card = {**_kept(out, vqgan), "training": training}
    log = joined([r / "log.csv" for r in ([out, *runs] if onto else runs)])
    save(out, name=name or out.resolve().name, vqgan=vqgan.eval(), card=card)
    for file in gone or ():
        (out / file).unlink(missing_ok=True)
    write(out / "log.csv", log.encode())
    return out


def _earlier(out: Path, vqgan: VQGAN, state: dict) -> dict:
    """The "training" of the bundle in `out` that a run goes on from."""
    card = read_card(out)
    if "data_sha256" not in card.get("training", {}):
        raise ValueError(
            f"{out} does not say what it was trained on: export the run without --onto, into a "
            "folder of its own"
        )
    before = VQGANConfig(**card["vqgan"])
    for field in UNSEEN:
        there, here = (getattr(config, field) for config in (before, vqgan.config))
        if there != here:
            raise ValueError(
                f"{field} is {there} in {out} and {here} in the run: train with --init {out.name} "
                "and without flags that change the model"
            )
    if not adopt_tokenizer(vqgan, out):
        raise ValueError(f"the run moved the tokenizer of {out}: train with --freeze-encoder")
    if "--init" not in commands(state["config"])[0]:
        raise ValueError(f"the run was not started from {out}: train with --init {out.name}")
    if card["training"]["data_sha256"] != state["config"]["data"]["sha256"]:
        raise ValueError(f"the run saw other data than {out}: export it into a folder of its own")
    return card["training"]


def _kept(out: Path, vqgan: VQGAN) -> dict:
    """What the card that is in `out` says and is still true of these weights."""
    if not (out / CARD).is_file():
        return {}
    old = read_card(out)
    if old.get("tokenizer_id") != tokenizer_id(vqgan, old):
        return _clip(old)
    weights = hashlib.sha256(pack(vqgan.state_dict())).hexdigest()
    same = old.get("sha256", {}).get(WEIGHTS) == weights
    return {k: v for k, v in old.items() if same or k != "metrics"}


def _orphans(out: Path, vqgan: VQGAN) -> list[str] | None:
    """Files in `out` whose weights belong to another tokenizer; None if it holds no other one."""
    if not (out / CARD).is_file():
        return None
    old = read_card(out)
    if old.get("tokenizer_id") == tokenizer_id(vqgan, old):
        return None
    kept = (WEIGHTS, clip_model.CONFIG, clip_model.WEIGHTS)
    return sorted(file for file in old.get("sha256", {}) if file not in kept)


def _and(files: list[str]) -> str:
    return f", and its {', '.join(files)}" if files else ""


def _clip(card: dict) -> dict:
    """What a card says of its CLIP, which sees pictures and depends on no tokenizer."""
    if "clip" not in card:
        return {}
    files = (clip_model.CONFIG, clip_model.WEIGHTS)
    hashes = {file: card["sha256"][file] for file in files if file in card.get("sha256", {})}
    return {"clip": card["clip"], "sha256": hashes}


def described(state: dict) -> dict:
    """What a card says of one run, with every command that it was run by."""
    return {
        "commands": [without_folders(c) for c in commands(state["config"])],
        "steps": state["step"],
        "hours": round(state["seconds"] / 3600, 3),
        "train": state["config"]["train"],
        "loop": state["config"]["loop"],
    }


def _training(states: list[dict], raw: bool, earlier: dict) -> dict:
    """The card's "training": totals, and one entry a run."""
    runs = [*earlier.get("runs", []), *(described(s) for s in states)]
    return {
        **{k: earlier[k] for k in ("licences", "pictures", "attribution") if k in earlier},
        "steps": sum(r["steps"] for r in runs),
        "hours": round(sum(r["hours"] for r in runs), 3),
        "command": runs[-1]["commands"][-1],
        "weights": "last" if raw else "average",
        "data_sha256": states[-1]["config"]["data"]["sha256"],
        "torch": torch.__version__,
        "runs": runs,
    }


def without_folders(command: str) -> str:
    """A command line whose absolute paths are cut to their last part: a card is published.

    Windows' paths as well, which `shlex.join` has put between quotes.
    """
    command = shown_name(command)
    try:
        words = shlex.split(command)
    except ValueError:
        words = command.split()
    whole = r"^(--[\w-]+=)?(?:[A-Za-z]:)?[/\\](?:.*[/\\])?([^/\\]+)[/\\]*$"
    return shlex.join(re.sub(whole, r"\1\2", word) for word in words)


def _licences(folder: Path, sha256: str | None) -> dict:
    """Licences and counts of the data set, if it is the one that the run saw."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        found = dataset.identity(folder)["sha256"]
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"{folder} is not a data set made by data.build: {error}") from error
    if found != sha256:
        raise ValueError(
            f"{folder} is not the data set that the run was trained on: the sha256 of its "
            f"manifest.jsonl is {found}, the run's was {sha256}"
        )
    return {
        "licences": manifest["licences"],
        "pictures": manifest["counts"]["all"],
        "attribution": manifest["attribution"],
    }


def joined(logs: list[Path]) -> str:
    """The logs of runs that went on from each other as one, with a column `run` counting from 1."""
    rows, columns = [], ["run"]
    for log in logs:
        try:
            with open(log, newline="", encoding="utf-8") as file:
                found = list(csv.DictReader(file))
        except OSError as error:
            raise ValueError(f"{log} cannot be read: {error.strerror}") from error
        first = max((int(row["run"]) for row in rows), default=0)
        # A bundle's log counts its own runs.
        rows += [{**row, "run": first + int(row.get("run", 1))} for row in found]
        columns += [c for row in found[:1] for c in row if c not in columns]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def main(argv: list[str] | None = None) -> None:
    p = Parser(prog="python -m checkpoints.export", description=__doc__)
    p.add_argument("run", metavar="RUN", type=Path, help="folder of the run, with last.pt")
    p.add_argument("out", metavar="OUT", type=Path, help="name or folder of the bundle")
    p.add_argument("--before", metavar="RUN", type=Path, nargs="+", help="runs it started from")
    p.add_argument("--onto", action="store_true", help="RUN was started with --init OUT")
    p.add_argument("--replace", action="store_true", help="OUT may hold another tokenizer: lose it")
    p.add_argument("--name", help="name of the bundle (default: that of OUT)")
    p.add_argument("--raw", action="store_true", help="the last weights instead of their average")
    p.add_argument("--data", type=Path, help="the data set's folder, to record its licences")
    args = p.parse_args(argv)
    try:
        path = export(**vars(args))
    except (ValueError, OSError) as error:
        fail(error)
    card = read_card(path)
    print(f"{path}: {card['training']['steps']:,} steps, {card['training']['hours']} hours")
    print(f"tokenizer {card['tokenizer_id']}")


if __name__ == "__main__":
    main()
