"""Extra decoders of a bundle, trained with a loss off (or all of them on): `python -m
checkpoints.decoders RUN BUNDLE NAME`.

They show what each loss does. RUN must have been trained with `--init BUNDLE --freeze-encoder`, so
that all decoders read the same codes. The file is BUNDLE/decoders/NAME.safetensors (fp16), its
entry in config.json says what was off, for how long it was trained, and by which command.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from checkpoints.bundle import (
    DECODER,
    DECODERS,
    adopt_tokenizer,
    find,
    pack,
    read_card,
    tokenizer_id,
    write,
    write_card,
)
from checkpoints.export import described
from training.checkpoint import load as load_checkpoint
from training.flags import Parser, fail
from vqgan.model import VQGAN, VQGANConfig

OFF = {"perceptual": "perceptual_weight", "gan": "gan_weight"}  # what can be off -> its flag


def export(run: Path, bundle: Path, name: str) -> dict:
    """Write BUNDLE/decoders/NAME.safetensors from RUN's averaged weights -> its entry in the card.

    ValueError if the run is another model or moved the tokenizer.
    """
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise ValueError(f"NAME is {name!r}: use small letters, digits and hyphens")
    bundle = find(bundle)
    card, state = read_card(bundle), load_checkpoint(run / "last.pt")
    try:
        config = VQGANConfig(**state["config"]["model"])
        if config != VQGANConfig(**card["vqgan"]):  # either may be from before a field was added
            raise ValueError(f"the model of {run} has another shape than that of {bundle}")
        model = VQGAN(config)
        model.load_state_dict(state["task"]["ema"]["shadow"])
        train = state["config"]["train"]
        same = adopt_tokenizer(model, bundle)
        off = [loss for loss, weight in OFF.items() if train[weight] == 0]
        entry = {"off": off, "tokenizer_id": tokenizer_id(model, card), **described(state)}
    except (KeyError, TypeError, RuntimeError) as error:
        first = " ".join(str(error).splitlines()[:2])
        raise ValueError(f"{run / 'last.pt'} is not a VQGAN run's checkpoint: {first}") from error
    if not same:
        raise ValueError(
            f"the encoder or codebook of {run} is not that of {bundle}: train with --init {bundle} "
            "--freeze-encoder"
        )
    data = pack({k: v for k, v in model.state_dict().items() if k.startswith(DECODER)})
    (bundle / DECODERS).mkdir(exist_ok=True)
    write(bundle / DECODERS / f"{name}.safetensors", data)
    card["decoders"] = card.get("decoders", {}) | {name: entry}
    hashes = {f"{DECODERS}/{name}.safetensors": hashlib.sha256(data).hexdigest()}
    card["sha256"] = card.get("sha256", {}) | hashes
    write_card(bundle, card)
    return entry


def main(argv: list[str] | None = None) -> None:
    p = Parser(prog="python -m checkpoints.decoders", description=__doc__)
    p.add_argument("run", metavar="RUN", type=Path, help="folder of the run, with last.pt")
    p.add_argument("bundle", metavar="BUNDLE", type=Path, help="name or folder of the bundle")
    p.add_argument("name", metavar="NAME", help="such as no-perceptual")
    args = p.parse_args(argv)
    try:
        entry = export(**vars(args))
    except (ValueError, OSError) as error:
        fail(error)
    off = " and ".join(entry["off"]) or "nothing"
    print(f"{args.name}: {off} off, {entry['steps']:,} steps", end="")
    print(f", {entry['hours']} hours")


if __name__ == "__main__":
    main()
