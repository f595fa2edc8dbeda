"""Put a trained CLIP into a bundle: `python -m clip_guidance.export --image RUN --text RUN BUNDLE`.

Takes the averaged weights of each RUN/last.pt. The bundle's other files and figures stay.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from checkpoints.bundle import find, save_clip
from checkpoints.export import without_folders
from clip_guidance import model
from clip_guidance.config import ClipConfig
from training.checkpoint import commands, load
from training.files import write
from training.flags import Parser, fail

LOGS = {"image": "clip-image-log.csv", "text": "clip-text-log.csv"}


def export(image: Path, text: Path, bundle: str | Path, size: int | None = None) -> Path:
    """Write the CLIP of two runs into `bundle` -> its folder. ValueError if they do not fit.

    `size` is the side of the pictures it will look at (default: what it was trained on).
    """
    home = find(bundle)
    if size is not None and size < 32:
        raise ValueError(f"size is {size}: it must be at least 32")
    states = {"image": load(image / "last.pt"), "text": load(text / "last.pt")}
    try:
        side = size or states["image"]["config"]["train"]["size"]
        shape = ClipConfig(**{**states["text"]["config"]["model"], "image_size": side})
        clip = model.create(shape.open_clip())
        for part, tower in (("image", clip.model.visual), ("text", clip.model.text)):
            tower.load_state_dict(states[part]["task"]["ema"]["shadow"])
        with torch.no_grad():
            clip.model.logit_scale.copy_(states["image"]["task"]["tower"]["scale"])
        training = {part: _training(state) for part, state in states.items()}
    except (KeyError, TypeError, RuntimeError) as error:
        first = " ".join(str(error).splitlines()[:2])
        raise ValueError(f"{image} and {text} are no runs of one CLIP: {first}") from error
    save_clip(home, shape.open_clip(), clip, {"training": training})
    for part, run in (("image", image), ("text", text)):
        write(home / LOGS[part], (run / "log.csv").read_bytes())
    return home


def _training(state: dict[str, Any]) -> dict[str, Any]:
    """What the card says of one tower's run."""
    config = state["config"]
    parts = ("train", "augment", "loop")
    return {
        "commands": [without_folders(c) for c in commands(config)],
        "steps": state["step"],
        "hours": round(state["seconds"] / 3600, 3),
        **{part: config[part] for part in parts if part in config},
        "data_sha256": config["data"]["sha256"],
        "torch": torch.__version__,
    }


def main(argv: list[str] | None = None) -> None:
    p = Parser(prog="python -m clip_guidance.export", description=__doc__)
    p.add_argument("--image", required=True, type=Path, metavar="RUN", help="the image tower's run")
    p.add_argument("--text", required=True, type=Path, metavar="RUN", help="the text tower's run")
    p.add_argument("--size", type=int, help="side of its pictures in px (default: as trained)")
    p.add_argument("bundle", metavar="BUNDLE", help="name or folder of the bundle")
    args = p.parse_args(argv)
    try:
        path = export(args.image, args.text, args.bundle, args.size)
    except (ValueError, OSError) as error:
        fail(error)
    megabytes = (path / model.WEIGHTS).stat().st_size / 1e6
    print(f"{path}: a CLIP of {megabytes:.1f} MB; python -m bench.clip measures it")


if __name__ == "__main__":
    main()
