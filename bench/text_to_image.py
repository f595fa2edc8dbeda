"""How well text to image does: `python -m bench.text_to_image --json F --sheet S.webp`.

The 60 prompts of bench/prompts.json, 4 seeds each, in every mode, with the settings that a visitor
starts with. `bench.judge` says how it judges, `bench.copies` what counts as a copy. The judge's
top-5 on real held-out pictures comes first; a mode's own top-5 is also given as a share of that,
as a share of what unseen real drawings of known concepts get (most prompts ask for known ones),
and beside it what the same pictures get under another prompt's words: what guessing would bring.
Pictures are kept in `--pictures`, and a second run goes on from there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
from PIL import Image, PngImagePlugin
from tqdm import tqdm

import checkpoints
from bench import judge as judges
from bench.copies import Twin, load_index, twins
from bench.judge import Judge, shares
from bench.sheets import PICTURES, grid
from clip_guidance.generate import last, together
from clip_guidance.guide import GuidanceConfig
from clip_guidance.modes import MODES, DrawConfig, Request, run
from training import flags
from training.files import replacing, writable
from training.memory import keep_pages
from vqgan.images import to_tensor

PROMPTS = Path(__file__).parent / "prompts.json"
NOTE = "bench"  # text chunk of a kept picture
COLUMNS, TITLE, TWINS = 10, 18, 20
Generate = Callable[[str, str, int], Image.Image]  # prompt, mode, seed


class Wanted(NamedTuple):
    """One picture to make and judge."""

    prompt: str
    english: str
    category: str
    language: str
    mode: str
    seed: int


class Made(NamedTuple):
    """It, and the seconds it took; None if that was on another machine."""

    wanted: Wanted
    image: Image.Image
    seconds: float | None


def wanted(modes: list[str], limit: int | None = None, seeds: int | None = None) -> list[Wanted]:
    """Every picture of the bench: modes x prompts x seeds, `limit` prompts spread evenly."""
    content = json.loads(PROMPTS.read_text(encoding="utf-8"))
    prompts, numbers = content["prompts"], content["seeds"][:seeds]
    for name, value in (("--limit", limit), ("--seeds", seeds)):
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}: it must be at least 1")
    if limit is not None and limit < len(prompts):  # the same ones as ever
        prompts = [prompts[round(i * len(prompts) / limit)] for i in range(limit)]
    keys = ("prompt", "english", "category", "language")
    return [
        Wanted(*(p[k] for k in keys), mode, seed)
        for mode in modes
        for seed in numbers
        for p in prompts
    ]


def generator(bundle: checkpoints.Bundle) -> Generate:
    """What the app does with a prompt, its settings left as they are."""
    models = together(bundle, None, "cpu")

    def generate(prompt: str, mode: str, seed: int) -> Image.Image:
        request = Request(prompt, mode, guidance=GuidanceConfig(seed=seed))
        return last(models, run(models, request), request)[0]

    return generate


def about(bundle: checkpoints.Bundle, mode: str) -> str:
    """What a mode's pictures depend on: files and settings. Guided ones know nothing of a prior."""
    parts = ("vqgan", "clip") if mode == "guided" else ("vqgan", "clip", "prior")
    files = {n: h for n, h in bundle.card.get("sha256", {}).items() if n.split(".")[0] in parts}
    drawing = "" if mode == "guided" else repr(DrawConfig())
    return json.dumps([files, repr(GuidanceConfig()), drawing])


def machine() -> str:
    """Eight hex digits: where, and with how many threads and which torch, seconds are measured."""
    here = (platform.node(), platform.machine(), torch.get_num_threads(), torch.__version__)
    return hashlib.sha256(repr(here).encode()).hexdigest()[:8]


def make(
    todo: list[Wanted], generate: Generate, folder: Path | None, about: Callable[[str], str]
) -> list[Made]:
    """Make the pictures, or read those in `folder` that the same models and settings made."""
    found, here = [], machine()
    for item in tqdm(todo, unit="picture"):
        key = json.dumps([about(item.mode), *item])
        name = hashlib.sha256(key.encode()).hexdigest()[:16]
        path = None if folder is None else folder / f"{name}.png"
        if path is not None and path.is_file():
            with Image.open(path) as image:
                note = json.loads(image.text[NOTE])
                seconds = note["seconds"] if note.get("machine") == here else None
                found.append(Made(item, image.convert("RGB"), seconds))
            continue
        began = time.perf_counter()
        image = generate(item.prompt, item.mode, item.seed)
        made = Made(item, image, round(time.perf_counter() - began, 3))
        if path is not None:
            folder.mkdir(parents=True, exist_ok=True)
            text = PngImagePlugin.PngInfo()
            note = {**item._asdict(), "seconds": made.seconds, "machine": here}
            text.add_text(NOTE, json.dumps(note))
            with replacing(path) as file:
                image.save(file, "PNG", pnginfo=text)
        found.append(made)
    return found


def ranks(judge: Judge, made: list[Made], shift: int = 0, batch: int = 16) -> list[int]:
    """Each picture's rank under its own prompt, or under that of the `shift`-th picture after."""
    texts = [made[(i + shift) % len(made)].wanted.english for i in range(len(made))]
    parts = [
        judge.embed(torch.cat([to_tensor(m.image) for m in made[i : i + batch]]))
        for i in range(0, len(made), batch)
    ]
    return judge.ranks(torch.cat(parts), texts)


def figures(judge: Judge, made: list[Made]) -> dict:
    """Top-1, top-5, share of the real pictures' top-5, by language and category; seconds."""
    found = ranks(judge, made)
    prompts = [m.wanted.prompt for m in made]
    real = judge.card["real_pictures"]
    result = shares(found, prompts)
    result["of_real"] = round(result["top5"] / real["held_out_plain"]["top5"], 4)
    if "known_concepts_rebuilt" in real:
        result["of_known"] = round(result["top5"] / real["known_concepts_rebuilt"]["top5"], 4)
    if len(set(prompts)) > 1:
        step = 7 if len(made) % 7 else 1
        result["guessing"] = shares(ranks(judge, made, step), prompts)["top5"]
    took = [m.seconds for m in made if m.seconds is not None]
    if took:
        result["seconds"] = {"median": median(took), "most": max(took), "of": len(took)}
    for key in ("language", "category"):
        groups = sorted({getattr(m.wanted, key) for m in made})
        result[key] = {}
        for group in groups:
            chosen = [i for i, m in enumerate(made) if getattr(m.wanted, key) == group]
            top = shares([found[i] for i in chosen], [prompts[i] for i in chosen])
            result[key][group] = top["top5"]
    return result


def copies(judge: Judge, near: list[Twin]) -> dict:
    """How many pictures are copies of training pictures; `near` as `twins` gives it."""
    limit = judge.card["copies"]["distance"]
    return {
        "copies": sum(t.near.distance < limit for t in near),
        "nearest": [
            {"title": t.title, "training": t.near.name, "distance": round(t.near.distance, 2)}
            for t in near[:TWINS]
        ],
    }


def contact_sheet(made: list[Made], path: Path) -> None:
    """All pictures of the first mode and seed, under their prompts."""
    first = made[0].wanted
    chosen = [m for m in made if (m.wanted.mode, m.wanted.seed) == (first.mode, first.seed)]
    titles = [short(m.wanted.english.removeprefix("a ").removeprefix("an ")) for m in chosen]
    columns = min(COLUMNS, len(chosen))
    grid([m.image for m in chosen], columns, titles).save(path, quality=82, method=6)


def short(title: str) -> str:
    """What fits above a picture."""
    return title if len(title) <= TITLE else title[: TITLE - 1].rstrip() + "\u2026"


def twin_sheet(near: list[Twin], path: Path) -> None:
    """The pictures nearest to a training picture, each beside it."""
    cells, titles = [], []
    for twin in near[:TWINS]:
        other = Image.fromarray(twin.near.thumbnail).resize(twin.picture.size)
        cells += [twin.picture, other]
        titles += [short(twin.title), f"{twin.near.name[:12]} {twin.near.distance:.1f}"]
    grid(cells, min(COLUMNS, len(cells)), titles).save(path, quality=82, method=6)


def table(result: dict) -> str:
    """The figures as a few lines."""
    real = result["real_pictures"]
    lines = [f"{'':28} top-1   top-5"]
    for name in ("held_out_plain", "held_out_rebuilt", "known_concepts_rebuilt"):
        if name in real:
            lines.append(f"real, {name:22} {real[name]['top1']:.1%}   {real[name]['top5']:.1%}")
    for mode, f in result["modes"].items():
        more = f"{f['of_real']:.0%} of held-out, {f.get('of_known', 0):.0%} of known; "
        more += f"guessing {f.get('guessing', 0):.1%}; "
        took = f.get("seconds")
        more += f"median {took['median']:.1f} s" if took else "no times: kept from elsewhere"
        if "copies" in f:
            more += f"; {f['copies']} copies of {f['pictures']}"
        lines.append(f"mode {mode:23} {f['top1']:.1%}   {f['top5']:.1%}   {more}")
    return "\n".join(lines)


def parser() -> argparse.ArgumentParser:
    p = flags.Parser(prog="python -m bench.text_to_image", description=__doc__)
    p.add_argument("--bundle", default=checkpoints.DEFAULT, help="name or folder (%(default)s)")
    p.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES), help="default: all")
    p.add_argument("--limit", type=int, metavar="N", help="only N prompts, spread evenly")
    p.add_argument("--seeds", type=int, metavar="N", help="only the first N seeds")
    p.add_argument("--pictures", type=Path, metavar="DIR", help="keep the pictures here")
    p.add_argument("--json", type=Path, metavar="F", help="write all figures")
    p.add_argument("--sheet", type=Path, metavar="S.webp", help="the first mode's, first seed")
    p.add_argument("--twins", type=Path, metavar="T.webp", help="those nearest to training")
    return p


def judged(args: argparse.Namespace, generate: Generate | None = None) -> dict:
    """Everything the command does but print; `generate` takes the models' place in tests."""
    for path in filter(None, (args.sheet, args.twins)):
        writable(path, *PICTURES)
    if args.json:
        writable(args.json)
    todo = wanted(args.modes, args.limit, args.seeds)
    judge, bundle = judges.load(), checkpoints.load(args.bundle)
    made = make(todo, generate or generator(bundle), args.pictures, partial(about, bundle))
    index = load_index(bundle) if "copies" in judge.card else None
    result = {"bundle": bundle.name, "pool": judges.POOL, "modes": {}}
    result["real_pictures"] = judge.card["real_pictures"]
    near: list[Twin] = []
    for mode in args.modes:
        own = [m for m in made if m.wanted.mode == mode]
        result["modes"][mode] = figures(judge, own)
        if index is not None:
            some = twins(index, ((m.wanted.english, m.image) for m in own))
            result["modes"][mode] |= copies(judge, some)
            near += some
    if args.sheet:
        contact_sheet(made, args.sheet)
    if args.twins and near:
        twin_sheet(sorted(near, key=lambda t: t.near.distance), args.twins)
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    keep_pages()
    try:
        print(table(judged(args)))
    except (ValueError, OSError) as error:
        flags.fail(error)


if __name__ == "__main__":
    main()
