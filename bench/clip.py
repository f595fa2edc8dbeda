"""What a bundle's CLIP has learned: `python -m bench.clip --data DIR`.

Recall among the pictures of held-out concepts, English and Chinese: `find` is the share of names
whose k nearest pictures hold one of their concept, `name` the share of pictures whose k nearest
names hold one of theirs. Then the same `name` on a drawing style that training left out, among all
of its names. Beside it, on the same questions: MiniLM's vectors for the names in place of the text
tower's, MiniLM without any picture (a name against the picture's other captions: tags, folders),
and chance.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import checkpoints
from checkpoints.bundle import read_card, write_card
from checkpoints.export import without_folders
from clip_guidance.captions import captioned, concept
from clip_guidance.image_task import recalls
from clip_guidance.model import Clip
from clip_guidance.teacher import Teacher
from training.files import writable
from training.flags import Parser, fail
from training.memory import keep_pages
from vqgan import dataset

Embed = Callable[[Sequence[str]], Tensor]  # texts -> (N, E) of unit length
STYLE = "noto-v1"  # where the card does not say what was left out


@torch.inference_mode()
def look(clip: Clip, pictures: list[dataset.Picture], side: int = 128) -> Tensor:
    """Vectors of whole pictures: (N, E)."""
    parts = []
    for start in range(0, len(pictures), 64):
        pixels = np.stack([dataset.whole(p, side) for p in pictures[start : start + 64]])
        parts.append(clip.encode_image(dataset.to_tensor(pixels).to(clip.device)).cpu())
    return torch.cat(parts)


def questions(pictures: list[dataset.Picture], language: str) -> tuple[list[int], list[str]]:
    """Indices of the pictures that have a name in that language ("en", "zh"), and the names."""
    key = {"en": "captions", "zh": "captions_zh"}[language]
    picks = [i for i, p in enumerate(pictures) if p.row.get(key)]
    return picks, [pictures[i].row[key][0] for i in picks]


def others(picture: dataset.Picture) -> str:
    """A picture's captions without its name, for matching without pixels."""
    name, *more = picture.row["captions"]
    return ", ".join(c for c in more if c != name) or picture.row.get("set", "")


def concepts_table(
    clip: Clip, pictures: list[dataset.Picture], teacher: Embed | None, seed: int = 0
) -> dict[str, dict[str, dict[str, float]]]:
    """language -> way of matching -> figures."""
    vectors, table = look(clip, pictures), {}
    generator = torch.Generator().manual_seed(seed)
    for language in ("en", "zh"):
        picks, names = questions(pictures, language)
        if not picks:
            continue
        labels = [concept(pictures[i].row) for i in picks]
        mine, texts = vectors[picks], clip.encode_text(names).cpu()
        ways = {"clip": recalls(mine, texts, labels, names=names)}
        if teacher is not None:
            said = teacher(names)
            tags = teacher([others(pictures[i]) for i in picks])
            ways["pictures, MiniLM's words"] = recalls(mine, said, labels, names=names)
            ways["no pictures, MiniLM"] = recalls(tags, said, labels, names=names)
        noise = F.normalize(torch.randn(mine.shape, generator=generator), dim=-1)
        ways["chance"] = recalls(noise, texts, labels, names=names)
        table[language] = {k: {"pictures": len(picks), **v} for k, v in ways.items()}
    return table


def style_table(clip: Clip, pictures: list[dataset.Picture]) -> dict[str, float]:
    """Naming of pictures in a style that training left out, among all their names."""
    names = [p.row["captions"][0] for p in pictures]
    found = recalls(look(clip, pictures), clip.encode_text(names).cpu(), names, names=names)
    named = {k: v for k, v in found.items() if k.startswith("name")}
    return {"pictures": len(pictures), "names": len(set(names)), **named}


def cutout_ms(clip: Clip, count: int = 16, rounds: int = 8) -> float:
    """Processor milliseconds a cutout of the tower's own size takes, forward and backward to the
    pixels: the median. All cores together, so that what else the machine does hardly counts."""
    views = torch.zeros(count, 3, clip.size, clip.size, device=clip.device, requires_grad=True)
    target = clip.encode_text(["a red apple"])
    times = []
    for _ in range(rounds + 2):
        began = time.process_time()
        torch.autograd.grad((clip.encode_image(views) @ target.T).sum(), views)
        times.append(time.process_time() - began)
    return float(np.median(times[2:])) / count * 1000


def markdown(table: dict[str, dict[str, dict[str, float]]]) -> str:
    """The recall table as the model card shows it."""
    keys = [f"{way}@{k}" for way in ("find", "name") for k in (1, 5, 10)]
    lines = ["| | " + " | ".join(keys) + " |", "| --- |" + " --- |" * len(keys)]
    for language, ways in table.items():
        for way, figures in ways.items():
            cells = " | ".join(f"{100 * figures[k]:.1f}" for k in keys)
            lines.append(f"| {language}, {way} | {cells} |")
    return "\n".join(lines)


def parser() -> argparse.ArgumentParser:
    p = Parser(prog="python -m bench.clip", description=__doc__)
    p.add_argument("--data", required=True, type=Path, help="folder made by data.build")
    p.add_argument("--bundle", default=checkpoints.DEFAULT, help="name or folder (%(default)s)")
    p.add_argument("--no-teacher", action="store_true", help="leave out MiniLM's rows")
    p.add_argument("--json", type=Path, metavar="F", help="also write the figures to F")
    p.add_argument("--card", action="store_true", help="put them into the bundle's config.json")
    return p


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    words = sys.argv[1:] if argv is None else argv
    keep_pages()
    try:
        if args.json:
            writable(args.json)
        bundle = checkpoints.load(args.bundle)
        if bundle.clip is None:
            raise ValueError(
                f"{bundle.path} has no CLIP: put one in (python -m clip_guidance.export)"
            )
        image = bundle.card["clip"].get("training", {}).get("image", {})
        left_out = image.get("train", {}).get("leave_out", [STYLE])
        found = dataset.scan(args.data)
        captioned(found)
        teacher = None
        if not args.no_teacher:
            minilm = Teacher()
            teacher = lambda texts: torch.from_numpy(minilm.encode(texts))  # noqa: E731
        drawn = [p for p in found if not p.photo]
        held_out = [p for p in drawn if p.split == "val"]
        style = [p for p in drawn if p.row.get("set") in left_out]
        if not held_out:
            raise ValueError(f"{args.data} has no held-out pictures")
    except (ValueError, OSError) as error:
        fail(error)
    metrics = {"concepts": concepts_table(bundle.clip, held_out, teacher)}
    print(markdown(metrics["concepts"]))
    if style:
        metrics["style"] = {"sets": list(left_out), **style_table(bundle.clip, style)}
        print(f"unseen style: {metrics['style']}")
    metrics["cpu_ms_a_cutout"] = round(cutout_ms(bundle.clip), 2)
    print(f"{metrics['cpu_ms_a_cutout']} CPU ms a cutout of {bundle.clip.size} px, 16 at a time")
    metrics["command"] = without_folders(f"python -m bench.clip {shlex.join(words)}")
    metrics = json.loads(json.dumps(metrics), parse_float=lambda s: round(float(s), 4))
    if args.json:
        args.json.write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
    if args.card:
        card = read_card(bundle.path)
        write_card(bundle.path, card | {"clip": card["clip"] | {"metrics": metrics}})


if __name__ == "__main__":
    main()
