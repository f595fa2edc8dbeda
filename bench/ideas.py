"""How often a picture shows the idea it was drawn after: `python -m bench.ideas --sheet S.webp`.

One picture for each of COUNT ideas, as the Sample tab begins, seeds from FIRST on, none picked. The
judge of `bench.text_to_image` ranks each picture's own title among POOL: its own and others drawn
by its place, none of whose MiniLM cosine with it reaches SYNONYM. Beside it what the same pictures
get under the title of another one: what guessing would bring. MiniLM is a dev requirement.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

import checkpoints
from bench import judge as judges
from bench.copies import load_index, twins
from bench.judge import POOL, SYNONYM, Judge, shares
from bench.sheets import PICTURES, grid
from clip_guidance.teacher import Teacher
from prior.ideas import PULL, Ideas
from prior.sample import finish, sample
from prior.sheet import decode
from training.files import writable
from training.flags import Parser, fail
from training.memory import keep_pages
from vqgan.images import to_tensor

COUNT, FIRST = 192, 2000  # pictures, and the first one's seed: what is told was chosen below it
TOP_P = 0.95  # as the Sample tab begins
TOGETHER, COLUMNS = 16, 16
SHIFT = 7  # places on, for guessing


def draw(bundle: checkpoints.Bundle, ideas: Ideas, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Places of `count` ideas (n,), and their pictures (n, H, W, 3) uint8."""
    picks, pictures = ideas.think(count, FIRST), []
    for start in tqdm(range(0, count, TOGETHER), unit="batch"):
        told = torch.from_numpy(ideas.conditions[picks[start : start + TOGETHER]])
        how = {"seed": FIRST + start, "top_p": TOP_P, "condition": told, "cfg_scale": PULL}
        pictures.append(decode(bundle.vqgan, finish(sample(bundle.prior, len(told), **how)).grid))
    return picks, np.concatenate(pictures)


def pool(titles: np.ndarray, own: int) -> np.ndarray:
    """Places of the candidates that a picture of title `own` is ranked against, its own first.

    titles  (T, E) float32, unit length
    """
    apart = np.flatnonzero(titles @ titles[own] < SYNONYM)
    chosen = np.random.default_rng(own).permutation(apart)[: POOL - 1]
    if len(chosen) < POOL - 1:
        raise ValueError(f"there are too few ideas to rank one among {POOL}: {len(titles)}")
    return np.concatenate([[own], chosen])


def ranks(seen: np.ndarray, titles: np.ndarray, picks: np.ndarray) -> list[int]:
    """For each picture (n, E) how many candidates beat the title `picks` gives it."""
    found = []
    for x, own in zip(seen, picks, strict=True):
        score, *others = titles[pool(titles, int(own))] @ x
        found.append(sum(other >= score for other in others))
    return found


def figures(judge: Judge, titles: np.ndarray, picks: np.ndarray, pictures: np.ndarray) -> dict:
    """Top-1 and top-5 over ideas, and the top-5 that guessing would bring."""
    images = torch.cat([to_tensor(Image.fromarray(p)) for p in pictures])
    seen = torch.cat([judge.embed(part) for part in images.split(TOGETHER)]).float().numpy()
    names = [str(pick) for pick in picks]
    found = shares(ranks(seen, titles, picks), names)
    others = np.roll(picks, SHIFT)
    return found | {"guessing": shares(ranks(seen, titles, others), names)["top5"]}


def main(argv: list[str] | None = None) -> None:
    p = Parser(prog="python -m bench.ideas", description=__doc__.splitlines()[0])
    p.add_argument("--bundle", default=checkpoints.DEFAULT, help="name or folder (%(default)s)")
    p.add_argument("-n", type=int, default=COUNT, help="pictures (%(default)s)")
    p.add_argument("--sheet", type=Path, metavar="S.webp", help="all of them, under their ideas")
    args = p.parse_args(argv)
    keep_pages()
    try:
        if args.n < 1:
            raise ValueError(f"n is {args.n}: it must be at least 1")
        if args.sheet:
            writable(args.sheet, *PICTURES)
        bundle, judge = checkpoints.load(args.bundle), judges.load()
        if bundle.prior is None:
            raise ValueError(f"bundle {bundle.name} holds no prior")
        try:
            ideas = Ideas.load(bundle.path)
        except FileNotFoundError:
            raise ValueError(f"bundle {bundle.name} holds no ideas") from None
        ideas.check(bundle.prior.config.embedding_size, bundle.card)
        titles = Teacher().encode([f"a {idea.text}" for idea in ideas.all])
        began = time.perf_counter()
        picks, pictures = draw(bundle, ideas, args.n)
        seconds = (time.perf_counter() - began) / args.n
        found = figures(judge, titles, picks, pictures)
        texts, images = [ideas.all[i].text for i in picks], [Image.fromarray(x) for x in pictures]
        if args.sheet:
            grid(images, COLUMNS, [t[:18] for t in texts]).save(args.sheet, quality=82, method=6)
        index = load_index(bundle)
    except (ValueError, OSError) as error:
        fail(error)
    print(f"{found['groups']} ideas, {found['pictures']} pictures, {seconds:.2f} s each")
    top = "top-1 {top1:.1%}, top-5 {top5:.1%}".format(**found)
    print(f"{top} of {POOL}; guessing: {found['guessing']:.1%}")
    if index is not None and "copies" in judge.card:
        limit = judge.card["copies"]["distance"]
        near = twins(index, zip(texts, images, strict=True))
        copies = sum(twin.near.distance < limit for twin in near)
        print(f"copies of training pictures: {copies}")


if __name__ == "__main__":
    main()
