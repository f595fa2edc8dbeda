"""The command `python -m clip_guidance.generate "a red apple" --out apple.png`.

The PNG carries its settings and codes; the app's Text-to-image tab restores them from it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from PIL import Image
from torch import Tensor
from tqdm import tqdm

import checkpoints
from clip_guidance import record
from clip_guidance.guide import GuidanceConfig, Step, methods
from clip_guidance.model import load as load_clip
from clip_guidance.modes import MODES, DrawConfig, Models, Request, run
from clip_guidance.rerank import Ranking
from prior.sample import Progress
from training import flags
from training.device import usable_device
from training.files import replacing, writable
from training.memory import keep_pages
from vqgan.grids import decode_grid
from vqgan.images import open_image


def parser() -> argparse.ArgumentParser:
    p = flags.Parser(prog="python -m clip_guidance.generate", description="Draw what a text says.")
    p.add_argument("prompt", help='such as "a red apple | watercolor:0.5 | text:-1"')
    p.add_argument("--out", required=True, type=Path, help="the PNG to write")
    p.add_argument("--bundle", default=checkpoints.DEFAULT, help="name or folder (%(default)s)")
    p.add_argument("--mode", default="both", help=f"{', '.join(MODES)} (%(default)s)")
    p.add_argument("--clip", help="a published CLIP, such as ViT-B-32; default: the bundle's")
    p.add_argument("--start", type=Path, help="a picture to start from (see --strength)")
    p.add_argument("--image-prompt", type=Path, help="a picture to go towards, beside the text")
    flags.add_device(p, "cpu")
    flags.add_flags(p, GuidanceConfig, "guided steps")
    flags.add_flags(p, DrawConfig, "the prior's candidates")
    return p


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    keep_pages()
    try:
        out = writable(args.out, ".png")
        request = Request(
            args.prompt,
            args.mode,
            DrawConfig(**flags.given(args, DrawConfig)),
            GuidanceConfig(**flags.given(args, GuidanceConfig)),
            picture=open_image(args.start) if args.start else None,
            image_prompt=open_image(args.image_prompt) if args.image_prompt else None,
        )
        device = usable_device(args.device)
        bundle = checkpoints.load(args.bundle, device)
        models = together(bundle, args.clip, device)
        if not hasattr(args, "method"):  # nobody chose one: one that this model's codes allow
            guidance = replace(request.guidance, method=methods(bundle.vqgan)[0])
            request = replace(request, guidance=guidance)
        image, codes, score = last(models, run(models, request), request)
        made = record.settings(request, bundle=bundle.name, clip=models.clip.name, score=score)
        with replacing(out) as file:
            record.write(file, image, made, codes)
    except (ValueError, OSError) as error:
        flags.fail(error)
    print(f"{args.out}: {image.width}x{image.height} px, score {score:.3f}")


def together(bundle: checkpoints.Bundle, name: str | None, device: str) -> Models:
    """The bundle's models with its own CLIP, or a published one."""
    if bundle.clip is None and name is None:
        raise ValueError(
            f"bundle {bundle.name} has no CLIP: choose a bundle with one, or a published CLIP "
            "(--clip ViT-B-32)"
        )
    clip = bundle.clip if name is None else load_clip(name, device)
    return Models(bundle.vqgan, clip, bundle.prior, bundle.clip)


def last(
    models: Models, steps: Iterator[Progress | Ranking | Step], request: Request
) -> tuple[Image.Image, Tensor, float]:
    """Follow a run with a progress bar -> the picture, its codes (1, h, w), its score.

    The picture is decoded once more, in float32: on the way bfloat16 may be off by a few of 255.
    """
    with tqdm() as bar:
        for step in steps:
            if isinstance(step, Progress):
                bar.set_description("codes", refresh=False)
                bar.total, bar.n = step.total, step.done
            elif isinstance(step, Ranking):
                bar.set_description(f"best of {len(step.grids)}: {step.scores.max():.3f}")
                best = step.best
                found = (step.grids[best][None], float(step.scores[best]))
            else:
                bar.set_description(f"steps, score {step.score:.3f}", refresh=False)
                bar.total, bar.n = request.guidance.steps, step.step
                found = (step.indices, step.score)
            bar.refresh()
    codes, score = found
    codes = codes.cpu()
    return decode_grid(models.vqgan, codes[0].numpy()), codes, score


if __name__ == "__main__":
    main()
