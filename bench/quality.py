"""How well a bundle reconstructs held-out pictures: `python -m bench.quality --data DIR`.

Whole pictures at the bundle's size. The target figures are means over pictures of each picture's
own PSNR; the PSNR of the mean squared error, which a few hard pictures rule, stands beside them.
WebP gets as many bytes as the codes take without entropy coding, its container included, and the
quality and size at which its perceptual distance is lowest; beside it WebP's smallest file at the
picture's full size.
"""

from __future__ import annotations

import argparse
import json
import logging
import shlex
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

import checkpoints
from bench.sheets import blind, comparison
from checkpoints.bundle import read_card, write_card
from checkpoints.export import without_folders
from training.device import usable_device
from training.files import writable
from training.flags import Parser, add_device, fail
from training.spread import spread
from vqgan import dataset
from vqgan.images import to_image, to_tensor
from vqgan.metrics import (
    code_bytes,
    decibels,
    decode_webp,
    encode_webp,
    mean_squared_error,
    ssim,
    webp_at_bytes,
)
from vqgan.model import VQGAN, reconstruct
from vqgan.perceptual import PerceptualLoss, training_loss
from vqgan.usage import perplexity

log = logging.getLogger(__name__)

FIXTURES = Path(__file__).parents[1] / "tests" / "fixtures"
LEAST_ERROR = 1e-10  # an equal picture counts as 106 dB, so that means stay finite


def load_mask(picture: dataset.Picture, size: int) -> Tensor | None:
    """The picture's alpha as weights (1, 1, size, size) in [0, 1]; None without one."""
    if picture.mask is None:
        return None
    alpha = Image.fromarray(dataset.read(picture.mask, "L")).resize((size, size))
    mask = torch.from_numpy(np.array(alpha)).float().div(255)[None, None]
    return mask if mask.any() else None


def measure(
    vqgan: VQGAN,
    pictures: list[dataset.Picture],
    *,
    size: int,
    metrics: dict[str, PerceptualLoss] | None = None,
) -> tuple[list[dict], Tensor]:
    """One row of figures a picture, and how often each code occurs (K,) int64.

    `metrics` by name; the first one also chooses the WebP that is compared with. Without any, only
    PSNR and SSIM are measured. Rebuilt pictures are rounded to 8 bits first.
    """
    counts = torch.zeros(vqgan.config.codebook_size, dtype=torch.int64)
    device, rows = next(vqgan.parameters()).device, []
    for picture in tqdm(pictures, unit="picture", disable=len(pictures) < 2):
        x = dataset.to_tensor(dataset.whole(picture, size).copy())[None]
        with torch.inference_mode():
            output, indices = reconstruct(vqgan, x.to(device))
            x_hat = to_tensor(to_image(output))
            counts += torch.bincount(indices.flatten().cpu(), minlength=len(counts))
            row = {"path": picture.path.name, **pixel_figures(x, x_hat, load_mask(picture, size))}
            if picture.row:
                row["path"] = picture.row["path"]
            if metrics:
                budget = code_bytes(indices.numel(), len(counts))
                row |= distances(x.to(device), x_hat.to(device), metrics, budget)
        rows.append(row)
    return rows, counts


def pixel_figures(x: Tensor, x_hat: Tensor, mask: Tensor | None) -> dict:
    """PSNR and SSIM of one picture, and PSNR of what its mask covers."""
    error = mean_squared_error(x, x_hat).clamp_min(LEAST_ERROR)
    row = {"error": error.item(), "psnr": decibels(error).item(), "ssim": ssim(x, x_hat).item()}
    if mask is not None:
        error = mean_squared_error(x, x_hat, mask).clamp_min(LEAST_ERROR)
        row |= {"fg_error": error.item(), "fg_psnr": decibels(error).item()}
    return row


def distances(x: Tensor, x_hat: Tensor, metrics: dict[str, PerceptualLoss], budget: int) -> dict:
    """Perceptual distances of the codes' picture and of the two WebPs, and the WebPs' bytes."""
    features = {name: metric.features(x) for name, metric in metrics.items()}

    def distance(name: str, other: Tensor) -> float:
        metric = metrics[name]
        return metric.compare(features[name], metric.features(other)).item()

    def of_image(name: str, image: Image.Image) -> float:
        return distance(name, to_tensor(image).to(x.device))

    judge = next(iter(metrics))
    original = to_image(x)
    webp, used = webp_at_bytes(original, budget, score=lambda image: of_image(judge, image))
    full = encode_webp(original, 0)
    row = {"code_bytes": budget, "webp_bytes": used, "webp_full_bytes": len(full)}
    row["webp_psnr"] = decibels(mean_squared_error(x.cpu(), to_tensor(webp))).item()
    for name in metrics:
        row[name] = distance(name, x_hat)
        row[f"webp_{name}"] = of_image(name, webp)
        row[f"webp_full_{name}"] = of_image(name, decode_webp(full, original.size))
    return row


def summarise(rows: list[dict], counts: Tensor) -> dict:
    """Means over pictures, code usage, and how often the codes are nearer than WebP."""
    if not rows:
        raise ValueError("there is no picture to measure")

    def mean(name: str) -> float | None:
        found = [row[name] for row in rows if name in row]
        return round(sum(found) / len(found), 6) if found else None

    def of_mean_error(name: str) -> float | None:
        value = mean(name)
        return None if value is None else round(decibels(torch.tensor(value)).item(), 4)

    names = [n for n in rows[0] if n not in ("path", "error", "fg_error", "fg_psnr")]
    summary = {
        "pictures": len(rows),
        "pictures_with_mask": sum("fg_psnr" in row for row in rows),
        "fg_psnr": mean("fg_psnr"),
        "fg_psnr_of_mean_error": of_mean_error("fg_error"),
        **{name: mean(name) for name in names},
        "psnr_of_mean_error": of_mean_error("error"),
        "codes": len(counts),
        "codes_used": int((counts > 0).sum()),
        "perplexity": round(perplexity(counts), 2),
    }
    for name in names:
        if f"webp_{name}" in names and name != "psnr":
            wins = sum(row[name] < row[f"webp_{name}"] for row in rows)
            summary[f"nearer_than_webp_{name}"] = round(wins / len(rows), 4)
    return summary


def table(s: dict) -> str:
    """The summary as a few lines to read."""
    dash = "-"

    def number(name: str, digits: int) -> str:
        return dash if s.get(name) is None else f"{s[name]:.{digits}f}"

    lines = [
        f"foreground PSNR    {number('fg_psnr', 2)} dB, mean of {s['pictures_with_mask']} pictures "
        f"(of the mean error: {number('fg_psnr_of_mean_error', 2)})",
        f"full PSNR          {number('psnr', 2)} dB, mean of {s['pictures']} pictures "
        f"(of the mean error: {number('psnr_of_mean_error', 2)})",
        f"SSIM               {number('ssim', 4)}",
        f"codes used         {s['codes_used']} of {s['codes']} "
        f"({s['codes_used'] / s['codes']:.1%}), perplexity {number('perplexity', 1)}",
    ]
    judged = [n.removeprefix("nearer_than_webp_") for n in s if n.startswith("nearer_than_webp_")]
    if judged:
        lines.append(f"{'':18} codes      WebP       WebP, full size")
        lines.append(
            f"bytes              {number('code_bytes', 0):10} {number('webp_bytes', 0):10} "
            f"{number('webp_full_bytes', 0)}"
        )
    for name in judged:
        lines.append(
            f"{'distance, ' + name:18} {number(name, 4):10} {number(f'webp_{name}', 4):10} "
            f"{number(f'webp_full_{name}', 4):10} codes nearer than WebP on "
            f"{s[f'nearer_than_webp_{name}']:.1%}"
        )
    return "\n".join(lines)


def choose(root: Path, split: str, limit: int | None) -> list[dataset.Picture]:
    """Pictures of a split ("all": both), `limit` of them spread evenly if given."""
    pictures = [p for p in dataset.scan(root) if split in ("all", p.split)]
    if not pictures:
        raise ValueError(f"{root} holds no pictures of the split {split}")
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}: it must be at least 1")
    return pictures if limit is None else spread(pictures, limit)


def load_metrics(device: torch.device) -> dict[str, PerceptualLoss]:
    """The shipped metric and, where its package is installed, the VGG one."""
    metrics = {"alex": checkpoints.metric(device)}
    try:
        metrics["vgg"] = training_loss("vgg").to(device)
    except FileNotFoundError:
        log.warning("distances by the shipped AlexNet only: stlpips-pytorch is not installed")
    return metrics


def parser() -> argparse.ArgumentParser:
    p = Parser(prog="python -m bench.quality", description=__doc__)
    source = p.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", type=Path, help="folder made by data.build, or of pictures")
    source.add_argument("--fixtures", action="store_true", help="the pictures of tests/fixtures")
    p.add_argument("--bundle", default=checkpoints.DEFAULT, help="name or folder (%(default)s)")
    p.add_argument("--split", choices=("train", "val", "all"), help="default: val; fixtures: all")
    p.add_argument("--limit", type=int, metavar="N", help="only N pictures, spread evenly")
    p.add_argument("--json", type=Path, metavar="F", help="write all figures")
    p.add_argument("--sheet", type=Path, metavar="PNG", help="originals, rebuilt, WebP")
    p.add_argument("--blind", type=Path, metavar="DIR", help="32 numbered icons to name, and a key")
    p.add_argument("--seed", type=int, default=0, help="picks the icons of --blind")
    p.add_argument("--card", action="store_true", help="write the means into the bundle's card")
    add_device(p, "cpu")
    return p


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    split = args.split or ("all" if args.fixtures else "val")
    root = FIXTURES if args.fixtures else args.data
    words = sys.argv[1:] if argv is None else argv
    command = without_folders(f"python -m bench.quality {shlex.join(words)}")
    try:
        if args.card and (args.limit or split == "train"):
            raise ValueError("a card takes whole held-out sets: leave out --limit or --split train")
        for path in filter(None, (args.json, args.sheet)):
            writable(path)
        device = usable_device(args.device)
        bundle = checkpoints.load(args.bundle, device)
        size = bundle.card["preprocess"]["size"]
        pictures = [p for p, _ in dataset.wholes(choose(root, split, args.limit), size)]
        if args.blind:
            blind(bundle.vqgan, pictures, args.blind, size=size, seed=args.seed)
        rows, counts = measure(bundle.vqgan, pictures, size=size, metrics=load_metrics(device))
        summary = {**summarise(rows, counts), "size": size, "command": command}
        print(f"{bundle.name} on {root.name}, split {split}, {size} px\n{table(summary)}")
        if args.json:
            about = {"bundle": bundle.name, "tokenizer_id": bundle.tokenizer_id, "split": split}
            about |= {"data": dataset.identity(root), "means": summary, "pictures": rows}
            args.json.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        if args.sheet:
            comparison(bundle.vqgan, pictures, args.sheet, size=size)
        if args.card:
            card = read_card(bundle.path)
            key = "fixtures" if args.fixtures else split
            write_card(bundle.path, {**card, "metrics": {**card.get("metrics", {}), key: summary}})
    except (ValueError, OSError) as error:
        fail(error)


if __name__ == "__main__":
    main()
