"""Rebuild pictures from a VQGAN's codes: `python -m vqgan.reconstruct IN OUT`.

IN is a picture or a folder of pictures, OUT a .png file or a folder; what is written is lossless.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

import torch
from tqdm import tqdm

import checkpoints
from training import flags
from training.device import usable_device
from training.files import replacing
from vqgan.dataset import extensions, shown_name
from vqgan.images import open_image
from vqgan.rebuild import NATIVE_LIMIT, SIDES, Reconstruction, rebuild, usual_side


def parser() -> argparse.ArgumentParser:
    p = flags.Parser(prog="python -m vqgan.reconstruct", description=__doc__)
    p.add_argument("source", metavar="IN", type=Path, help="a picture, or a folder of pictures")
    p.add_argument("out", metavar="OUT", type=Path, help="a .png file, or a folder")
    p.add_argument("--bundle", default=checkpoints.DEFAULT, help="name or folder (%(default)s)")
    p.add_argument(
        "--size",
        choices=SIDES,
        help=f"longest side in pixels; native keeps it, up to {NATIVE_LIMIT} (the model's own)",
    )
    flags.add_device(p, "cpu")
    return p


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    try:
        jobs = plan(args.source, args.out)
        device = usable_device(args.device)
        vqgan, metric = checkpoints.load(args.bundle, device).vqgan, checkpoints.metric(device)
    except (ValueError, OSError) as error:
        flags.fail(error)
    size, done, failed = args.size or usual_side(vqgan), [], 0
    for source, target in tqdm(jobs, unit="picture", disable=len(jobs) == 1):
        try:
            result = rebuild(vqgan, metric, open_image(source), SIDES[size])
            target.parent.mkdir(parents=True, exist_ok=True)
            with replacing(target) as file:
                result.image.save(file, "PNG")
        except (ValueError, OSError) as error:
            tqdm.write(f"error: {error}", file=sys.stderr)
            failed += 1
            continue
        done.append(result)
        tqdm.write(
            line(shown_name(source.name), result, vqgan.config.codebook_size), file=sys.stdout
        )
    if len(done) > 1:
        print(summary(done))
    if failed:
        raise SystemExit(2)


def plan(source: Path, out: Path) -> list[tuple[Path, Path]]:
    """Which picture goes to which file. ValueError if there is nothing to do or it would clash."""
    if not source.is_dir():
        folder = out.is_dir() or not out.suffix
        target = out / f"{source.stem}.png" if folder else out
        if target.suffix.lower() != ".png":
            raise ValueError(f"OUT is {out}: it must end in .png, since the result is lossless")
        if target.resolve() == source.resolve():
            raise ValueError(f"OUT is IN itself, {source}: choose another file")
        return [(source, target)]
    if out.is_file():
        raise ValueError(f"IN is a folder, so OUT must be one too, and {out} is a file")
    if out.resolve() == source.resolve():
        raise ValueError(f"OUT is IN itself, {source}: choose another folder")
    known, own = extensions(), out.resolve()  # what an earlier run has written is no picture of IN
    found = sorted(
        p
        for p in source.rglob("*")
        if p.suffix.lower() in known and p.is_file() and own not in p.resolve().parents
    )
    if not found:
        raise ValueError(f"there is no picture in {source}")
    stems = Counter(p.with_suffix("") for p in found)
    jobs = []
    for path in found:
        name = path.with_suffix(".png") if stems[path.with_suffix("")] == 1 else f"{path}.png"
        jobs.append((path, out / Path(name).relative_to(source)))
    return jobs


def line(name: str, r: Reconstruction, codebook_size: int) -> str:
    """One picture's figures."""
    capped = f" (scaled down to {NATIVE_LIMIT})" if r.capped else ""
    return (
        f"{name}: {r.image.width}x{r.image.height}{capped}, PSNR {r.psnr:.2f} dB, "
        f"SSIM {r.ssim:.3f}, perceptual distance {r.distance:.3f}, "
        f"{r.distinct_codes} distinct codes of {codebook_size} in {r.indices.numel()} cells, "
        f"{r.bits_per_pixel:.3f} bits per pixel"
    )


def summary(results: list[Reconstruction]) -> str:
    """Means over several pictures."""

    def mean(name: str) -> float:
        return sum(getattr(r, name) for r in results) / len(results)

    codes = torch.cat([r.indices.flatten() for r in results]).unique().numel()
    return (
        f"mean of {len(results)}: PSNR {mean('psnr'):.2f} dB, SSIM {mean('ssim'):.3f}, "
        f"perceptual distance {mean('distance'):.3f}, {codes} distinct codes in all, "
        f"{mean('bits_per_pixel'):.3f} bits per pixel"
    )


if __name__ == "__main__":
    main()
