"""The command `python -m prior.sample`: write grids with a bundle's prior, decode them, one PNG.

The file carries its settings, codes and likelihoods as text: see prior/sheet.py.
"""

from __future__ import annotations

import argparse
import re
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

import checkpoints
from prior.checks import check_count
from prior.classes import choose
from prior.ideas import PULL as IDEA_PULL
from prior.ideas import Ideas
from prior.sample import Progress, Settings, sample
from prior.sheet import Record, bits_per_code, decode, sheet, weights_id
from prior.sketch import PULL, drawn, from_text, picture_lines, shifts_of, to_text
from training import flags
from training.device import usable_device
from training.files import replacing, writable
from training.memory import keep_pages
from vqgan.images import letterbox, open_image


def parser() -> argparse.ArgumentParser:
    p = flags.Parser(
        prog="python -m prior.sample", description="Write pictures with a bundle's prior."
    )
    p.add_argument("--out", required=True, type=Path, help="the PNG to write")
    p.add_argument("-n", type=int, default=16, help="how many pictures (%(default)s)")
    p.add_argument("--seed", type=int, default=0, help="picture i uses seed + i (%(default)s)")
    p.add_argument("--bundle", default=checkpoints.DEFAULT, help="name or folder (%(default)s)")
    p.add_argument("--size", metavar="HxW", help="rows x columns of codes; default: as trained")
    along = p.add_mutually_exclusive_group()
    along.add_argument(
        "--sketch",
        metavar="FILE",
        help="follow dark lines on white, or those that a sketched PNG carries",
    )
    along.add_argument("--lines-of", metavar="FILE", help="follow the edges of a picture")
    told = p.add_mutually_exclusive_group()
    told.add_argument("--words", metavar="TEXT", help="what the pictures show, as in text to image")
    told.add_argument("--ideas", action="store_true", help="for each a title of several drawings")
    told.add_argument(
        "--class-id",
        metavar="N",
        type=int,
        help="class of all pictures, where the prior is told one; without (and without lines to "
        "follow) the seed picks one for each",
    )
    flags.add_device(p, "cpu")
    flags.add_flags(p, Settings, "drawing codes")
    return p


def grid_size(text: str | None) -> tuple[int, int] | None:
    """ "24x16" -> (24, 16)."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+)x(\d+)", text)
    if not found:
        raise ValueError(f"size is {text!r}: give rows x columns of codes, such as 24x24")
    return int(found[1]), int(found[2])


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    keep_pages()
    try:
        out = writable(args.out, ".png")
        chosen = flags.given(args, Settings)
        if args.sketch or args.lines_of:
            chosen.setdefault("cfg_scale", PULL)
        if args.words is not None or args.ideas:
            chosen.setdefault("cfg_scale", IDEA_PULL)
        settings = Settings(**chosen)
        bundle = checkpoints.load(args.bundle, usable_device(args.device))
        if bundle.prior is None:
            raise ValueError(f"bundle {bundle.name} holds no prior: it cannot write pictures")
        lines = asked_lines(args, bundle)
        shifts = None if lines is None else shifts_of(bundle.sketch, lines)
        told, words = asked_words(args, bundle)
        how = {"size": grid_size(args.size), "shifts": shifts, "condition": told}
        how |= asdict(settings)
        last = shown(sample(bundle.prior, args.n, seed=args.seed, **how))
        bits = bits_per_code(last.log_likelihood, last.total)
        made = record(args, settings, bundle)
        made |= {} if lines is None else {"sketch": to_text(lines)}
        made |= words
        kept = Record(made, last.grid.numpy(), tuple(bits))
        picture = sheet(decode(bundle.vqgan, last.grid))
        with replacing(out) as file:
            picture.save(file, "PNG", pnginfo=kept.info())
    except (ValueError, OSError) as error:
        flags.fail(error)
    print(f"{args.out}: {args.n} pictures, {last.tokens_per_second:.0f} codes a second")
    print(f"bits per code: {np.mean(bits):.2f}, from {min(bits):.2f} to {max(bits):.2f}")


def asked_lines(args: argparse.Namespace, bundle: checkpoints.Bundle) -> np.ndarray | None:
    """The sketch to follow, (H, W) bool, if one is asked for."""
    file = args.sketch or args.lines_of
    if file is None:
        return None
    if bundle.sketch is None:
        raise ValueError(
            f"bundle {bundle.name} has nothing that reads sketches: train it with "
            "python -m prior.train_sketch"
        )
    image, (height, width) = open_image(file), bundle.sketch.config.size
    if args.lines_of:
        lines = picture_lines(image, (height, width))
    elif (kept := kept_sketch(file)) is not None:
        try:
            lines = from_text(kept, (height, width))
        except ValueError:
            raise ValueError(
                f"{file} was written along a sketch of another size than {width} x {height}: give "
                "the bundle that wrote it"
            ) from None
    else:  # a thin line must not fade, so the page is as large as the drawing
        scale = max(image.width / width, image.height / height, 1)
        page = letterbox(image, (round(width * scale), round(height * scale)))
        dark = (np.asarray(page.convert("L")) < 128).astype(np.uint8) * 255
        lines = drawn(dark, (height, width))[0, 0].bool().numpy()
    if not lines.any():
        raise ValueError(f"{file} has no lines: give dark ones on white, or try --lines-of")
    return lines


def kept_sketch(file: str) -> str | None:
    """The lines that a PNG of sketched pictures was written along, as it carries them."""
    try:
        return Record.read(file).settings.get("sketch")
    except ValueError:
        return None


def asked_words(
    args: argparse.Namespace, bundle: checkpoints.Bundle
) -> tuple[torch.Tensor | None, dict]:
    """What the prior is told of each picture, (n, E) or classes (n,), and how the file says so."""
    check_count(args.n, args.seed)
    else_told = args.words is not None or args.ideas or args.sketch or args.lines_of
    by_class = bundle.prior.config.classes and not else_told
    if args.class_id is not None or by_class:
        picks = choose(bundle.prior, args.n, args.seed, args.class_id)
        return picks, {"classes": picks.tolist()}
    if args.words is not None:
        return bundle.told([args.words]).expand(args.n, -1), {"text": args.words}
    if not args.ideas:
        return None, {}
    try:
        found = Ideas.load(bundle.path)
    except FileNotFoundError:
        raise ValueError(
            f"bundle {bundle.name} holds no ideas: make some with python -m prior.ideas"
        ) from None
    found.check(bundle.prior.config.embedding_size, bundle.card)
    picks = found.think(args.n, args.seed)
    titles = [found.all[i].text for i in picks]
    return torch.from_numpy(found.conditions[picks]), {"ideas": titles, "ideas_id": found.id}


def record(args: argparse.Namespace, settings: Settings, bundle: checkpoints.Bundle) -> dict:
    """What it takes to write the same pictures again."""
    drawing = {f.name: getattr(settings, f.name) for f in fields(Settings)}
    made = {"bundle": bundle.name, "prior": weights_id(bundle.card)}
    return {**made, "n": args.n, "seed": args.seed, "size": args.size, **drawing}


def shown(steps) -> Progress:
    """The last step of a sampling run, with a progress bar."""
    with tqdm(unit="cell") as bar:
        for step in steps:
            bar.total = step.total
            bar.update(step.done - bar.n)
    return step


if __name__ == "__main__":
    main()
