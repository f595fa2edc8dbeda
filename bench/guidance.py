"""`python -m bench.guidance`: which way of guiding gets furthest in the same time?

One thing is changed at a time: cutouts, optimiser (with learning rates of its own), what is
optimised, where it starts. Every run gets the same seconds, and as many steps as fit into them, so
that each has its whole schedule. The score is CLIP's own opinion of the whole picture, the very
thing that is optimised: it says how fast a way climbs, not how good its pictures are. For that
there is `--sheet`: the last picture of every setting and prompt, to look at.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor
from tqdm import tqdm

import checkpoints
from bench.sheets import grid
from clip_guidance.guide import GuidanceConfig, guide
from clip_guidance.modes import DrawConfig, Models, Request, run
from clip_guidance.prompts import parse, targets
from clip_guidance.rerank import Ranking
from training.files import writable
from training.flags import Parser, fail
from vqgan.images import to_image

PROMPTS = Path(__file__).with_name("prompts.json")
WARM = 2  # steps before the clock starts: the first ones plan their kernels
TIMED = 4  # further steps that tell how long one takes
BASE = {"cutouts": 16, "optimizer": "adam", "lr": 0.15, "method": "latents", "start": "noise"}
# What is compared -> the settings that differ from the base.
STUDY: dict[str, list[dict]] = {
    "cutouts": [{"cutouts": n} for n in (4, 8, 16, 32)],
    "optimiser": [
        {"optimizer": name, "lr": lr}
        for name, rates in (
            ("adam", (0.05, 0.15, 0.4)),
            ("adagrad", (0.15, 0.5)),
            ("rmsprop", (0.02, 0.06)),
            ("sgd", (20.0, 100.0)),
        )
        for lr in rates
    ],
    "optimised": [{}, {"method": "logits", "lr": 0.75}, {"method": "logits", "lr": 3.0}],
    "start": [{}, {"start": "prior"}, {"start": "prior", "lr": 0.03}],
}
CLOCKS: dict[str, Callable[[], float]] = {
    "wall": time.perf_counter,
    "processor": time.process_time,
}


@dataclass(frozen=True)
class Outcome:
    """One setting, the mean over prompts and seeds."""

    study: str
    setting: dict
    runs: int
    steps: float
    first: float  # score of the first picture
    last: float
    curve: list[tuple[float, float]]  # (seconds, score) of the first run
    pictures: tuple[Image.Image, ...] = ()  # the last one of each run


@dataclass(frozen=True)
class Climb:
    """One run."""

    curve: list[tuple[float, float]]  # (seconds, score) of every step
    picture: Image.Image  # the last


def climb(
    models: Models, text: str, seed: int, setting: dict, seconds: float, clock: Callable
) -> Climb:
    """One run of as many steps as fit into `seconds`, judging by the first few.

    What the prior takes to write its best is not counted: mode Both has that before the first step.
    """
    wanted = targets(models.clip, parse(text))
    values = BASE | setting
    origin = values.pop("start")
    start = best_of_prior(models, text, seed) if origin == "prior" else None
    common = {**values, "seed": seed}
    trial = GuidanceConfig(steps=WARM + TIMED, **common)
    at = [clock() for _ in guide(models.vqgan, models.clip, wanted, trial)]
    config = GuidanceConfig(
        steps=max(1, int(seconds * TIMED / (at[-1] - at[-TIMED - 1]))), **common
    )
    began, curve = clock(), []
    for step in guide(models.vqgan, models.clip, wanted, config, start=start):
        curve.append((clock() - began, step.score))
    return Climb(curve, to_image(step.image))


def best_of_prior(models: Models, text: str, seed: int) -> Tensor:
    """The grid that mode Both starts from, (1, h, w)."""
    request = Request(text, "prior", DrawConfig(), GuidanceConfig(seed=seed))
    ranking = next(found for found in run(models, request) if isinstance(found, Ranking))
    return ranking.grids[ranking.best][None]


def study(models: Models, texts: list[str], seeds: list[int], seconds: float, clock) -> list:
    """Every setting on every prompt with every seed."""
    outcomes, known = [], {}
    total = sum(map(len, STUDY.values()))
    with tqdm(total=total, unit="setting") as bar:
        for name, settings in STUDY.items():
            for setting in settings:
                key = json.dumps(BASE | setting, sort_keys=True)
                if key not in known:  # the base stands in every comparison
                    known[key] = [
                        climb(models, text, seed, setting, seconds, clock)
                        for text in texts
                        for seed in seeds
                    ]
                outcomes.append(outcome(name, setting, known[key]))
                bar.update()
    return outcomes


def outcome(name: str, setting: dict, climbs: list[Climb]) -> Outcome:
    curves = [climb.curve for climb in climbs]

    def mean(values) -> float:
        return sum(values) / len(curves)

    return Outcome(
        name,
        BASE | setting,
        len(curves),
        mean(len(c) for c in curves),
        mean(c[0][1] for c in curves),
        mean(c[-1][1] for c in curves),
        curves[0],
        tuple(climb.picture for climb in climbs),
    )


def label(found: Outcome) -> str:
    s = found.setting
    return {
        "cutouts": f"{s['cutouts']} cutouts",
        "optimiser": f"{s['optimizer']}, lr {s['lr']:g}",
        "optimised": f"{s['method']}, lr {s['lr']:g}",
        "start": f"from {s['start']}, lr {s['lr']:g}",
    }[found.study]


def table(outcomes: list[Outcome]) -> str:
    """A Markdown table."""
    rows = ["| compared | setting | steps | first score | last score |", "| --- " * 5 + "|"]
    rows += [
        f"| {o.study} | {label(o)} | {o.steps:.0f} | {o.first:.3f} | {o.last:.3f} |"
        for o in outcomes
    ]
    return "\n".join(rows)


def sheet(outcomes: list[Outcome]) -> Image.Image:
    """A row a setting, its last pictures side by side."""
    columns = outcomes[0].runs
    titles = [text for o in outcomes for text in [label(o), *[""] * (columns - 1)]]
    return grid([picture for o in outcomes for picture in o.pictures], columns, titles)


COLOURS = ("#bf4a26", "#2a6f97", "#4c956c", "#8d6a9f", "#c79a2b", "#5b574f", "#9c3b1f", "#1c7c7d")
WIDTH, HEIGHT, LEFT = 520, 300, 44


def plot(outcomes: list[Outcome], seconds: float) -> Image.Image:
    """Score over seconds, a panel a comparison; the first prompt and seed."""
    names = list(STUDY)
    page = Image.new("RGB", (2 * WIDTH, HEIGHT * -(-len(names) // 2)), "white")
    draw = ImageDraw.Draw(page)
    top = max(score for o in outcomes for _, score in o.curve) * 1.05
    for i, name in enumerate(names):
        x0, y0 = i % 2 * WIDTH, i // 2 * HEIGHT
        wide, high = WIDTH - LEFT - 150, HEIGHT - 60
        draw.text((x0 + LEFT, y0 + 8), f"{name}: score over seconds", fill="#1d1c1a")
        for share in (0, 0.5, 1):
            y = y0 + 30 + high * (1 - share)
            draw.line((x0 + LEFT, y, x0 + LEFT + wide, y), fill="#e7e4dd")
            draw.text((x0 + 8, y - 6), f"{top * share:.2f}", fill="#7a766c")
            draw.text(
                (x0 + LEFT + wide * share, y0 + HEIGHT - 24), f"{seconds * share:g}", fill="#7a766c"
            )
        for j, o in enumerate(o for o in outcomes if o.study == name):
            colour = COLOURS[j % len(COLOURS)]
            points = [
                (x0 + LEFT + wide * min(t / seconds, 1), y0 + 30 + high * (1 - max(s, 0) / top))
                for t, s in o.curve
            ]
            if len(points) > 1:
                draw.line(points, fill=colour, width=2)
            draw.text((x0 + LEFT + wide + 8, y0 + 30 + 16 * j), label(o), fill=colour)
    return page


def parser() -> argparse.ArgumentParser:
    p = Parser(prog="python -m bench.guidance", description=__doc__)
    p.add_argument("--bundle", default=checkpoints.DEFAULT, help="name or folder (%(default)s)")
    p.add_argument("--prompts", type=int, default=2, help="of bench/prompts.json (%(default)s)")
    p.add_argument("--seeds", type=int, default=1, help="runs a prompt (%(default)s)")
    p.add_argument("--seconds", type=float, default=8.0, help="for each run (%(default)s)")
    p.add_argument("--clock", choices=CLOCKS, default="wall", help="processor: on a busy machine")
    p.add_argument("--json", type=Path, metavar="F", help="also write the figures to F")
    p.add_argument("--plot", type=Path, metavar="F", help="also draw them, as WebP")
    p.add_argument("--sheet", type=Path, metavar="F", help="also show the last pictures, as WebP")
    return p


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    try:
        if args.prompts < 1 or args.seeds < 1 or not args.seconds > 0:
            raise ValueError("prompts, seeds and seconds must be at least 1")
        for path in filter(None, (args.json, args.plot, args.sheet)):
            writable(path)
        bundle = checkpoints.load(args.bundle)
        if bundle.clip is None or bundle.prior is None:
            raise ValueError(f"bundle {bundle.name} needs a CLIP and a prior for this")
        models = Models(bundle.vqgan, bundle.clip, bundle.prior, bundle.clip)
    except ValueError as error:
        fail(error)
    prompts = json.loads(PROMPTS.read_text("utf-8"))["prompts"]
    texts = [p["prompt"] for p in prompts[:: max(1, len(prompts) // args.prompts)][: args.prompts]]
    seeds = list(range(args.seeds))
    outcomes = study(models, texts, seeds, args.seconds, CLOCKS[args.clock])
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {args.seconds:g} s of "
        f"{args.clock} time a run; prompts: {'; '.join(texts)}; {len(seeds)} seeds"
    )
    print(table(outcomes))
    if args.json:
        found = [asdict(replace(o, pictures=())) for o in outcomes]
        args.json.write_text(json.dumps(found, ensure_ascii=False) + "\n", encoding="utf-8")
    if args.plot:
        plot(outcomes, args.seconds).save(args.plot, "WEBP", quality=90)
    if args.sheet:
        sheet(outcomes).save(args.sheet, "WEBP", quality=90)


if __name__ == "__main__":
    main()
