"""The training time-lapse of a bundle: `python -m checkpoints.timelapse RUN --bundle B`.

Runs leave samples/STEP.png (held-out originals above what came back, `vqgan.train`) behind. With
`--snapshot`, called every few minutes while a run goes on, this command adds codes/STEP.png: every
code, decoded. From both it makes a few dozen small pictures for the Codebook tab.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from checkpoints.bundle import find, load
from training import checkpoint
from training.files import swap, usable_folder, write
from training.flags import Parser, fail
from vqgan.codebook import by_similarity, decode_cells, in_rows, look, mosaic, split_mosaic
from vqgan.model import VQGAN, VQGANConfig

FOLDER, INDEX = "timelapse", "index.json"
COLUMNS, ROWS = 4, 2  # of held-out pictures, each above its reconstruction
GAP = 16  # pixels between the pictures and the codebook
PAPER = 255


@dataclass(frozen=True)
class Moment:
    """One sample of one run."""

    strip: Path  # (2 S, n S) pixels: originals above reconstructions
    codes: Path | None  # every code in order of its number, as last seen before
    minutes: float  # of training, over all runs up to here
    step: int  # over all runs
    psnr: float | None = None  # dB, mean of the held-out pictures
    losses: tuple[str, ...] = ()  # of pixels, vgg, gan: what the decoder was trained on


def snapshot(run: Path) -> Path:
    """Decode every code with the averaged weights of RUN/last.pt -> RUN/codes/STEP.png."""
    state = checkpoint.load(run / "last.pt")
    try:
        vqgan = VQGAN(VQGANConfig(**state["config"]["model"])).eval()
        vqgan.load_state_dict(state["task"]["ema"]["shadow"])
        step = int(state["step"])
    except (KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"{run / 'last.pt'} is not a checkpoint of vqgan.train") from error
    cells = decode_cells(vqgan.to(memory_format=torch.channels_last))
    path = run / "codes" / f"{step:07d}.png"
    path.parent.mkdir(exist_ok=True)
    file = io.BytesIO()
    Image.fromarray(mosaic(cells, in_rows(np.arange(len(cells))))).save(file, "PNG")
    write(path, file.getvalue())
    return path


def read_log(run: Path) -> list[dict[str, str]]:
    """The rows of a run's log: `step` counts from 0, `hours` ascend, "" where nothing was said."""
    try:
        with open(run / "log.csv", newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            int(row["step"]), float(row["hours"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{run} has no log.csv of vqgan.train: give a run's folder") from error
    if not rows:
        raise ValueError(f"the log of {run} is empty: it has not trained yet")
    return rows


def losses_of(row: dict[str, str]) -> tuple[str, ...]:
    """Which losses reached the decoder in the step of this row."""
    known = {"pixels": "l1", "vgg": "perceptual", "gan": "lambda"}
    return tuple(name for name, column in known.items() if row.get(column))


def moments(runs: list[Path]) -> list[Moment]:
    """Every sample of runs that went on from each other, first to last."""
    found, minutes, steps = [], 0.0, 0
    for run in runs:
        log = read_log(run)
        done, hours = zip(*((int(r["step"]) + 1, float(r["hours"])) for r in log), strict=True)
        kept = {int(p.stem): p for p in sorted((run / "codes").glob("*.png"))}
        for strip in sorted((run / "samples").glob("*.png")):
            step = int(strip.stem)
            # An evaluation says how many codes it used, if the model was quantised by then.
            said = {k: v for r, d in zip(log, done, strict=True) if d == step for k, v in r.items()}
            before = max((s for s in kept if s <= step), default=None)  # never a later codebook
            codes = None if said.get("val_codes") == "" else kept.get(before)
            trained = [row for row, d in zip(log, done, strict=True) if d <= step and row.get("l1")]
            at = minutes + 60 * float(np.interp(step, done, hours))
            psnr = float(said["val_psnr"]) if said.get("val_psnr") else None
            losses = losses_of(trained[-1]) if trained else ()
            found.append(Moment(strip, codes, at, steps + step, psnr, losses))
        minutes, steps = minutes + 60 * hours[-1], steps + done[-1]
    if not found:
        raise ValueError("these runs left no samples/*.png: train with --sample-every above 0")
    return found


def is_another(run: Path, vqgan: VQGAN) -> bool:
    """Whether this model's codebook did not come from `run`, as far as its checkpoint is there."""
    if not (run / "last.pt").is_file():
        return False
    name = "quantize.embedding.weight"
    try:
        theirs = checkpoint.load(run / "last.pt")["task"]["ema"]["shadow"][name].float()
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{run / 'last.pt'} is not a checkpoint of vqgan.train") from error
    own = vqgan.state_dict()[name].float()
    return own.shape != theirs.shape or not torch.allclose(own, theirs, rtol=1e-2, atol=1e-2)


def spread(found: list[Moment], count: int) -> list[Moment]:
    """At most `count` moments: the first, the last, and denser early on, where more happens."""
    minutes = np.array([m.minutes for m in found])
    wanted = np.linspace(np.sqrt(minutes[0]), np.sqrt(minutes[-1]), count) ** 2
    picks = sorted({int(np.abs(minutes - w).argmin()) for w in wanted})
    return [found[i] for i in picks]


def frame(
    moment: Moment, places: np.ndarray | None, f: int, leave_out: Iterable[int] = ()
) -> Image.Image:
    """The picture of one moment: COLUMNS x ROWS pairs, and the codebook as `places` orders it.

    Without `places` only the pairs. `leave_out`: places on the strip, from 0, not to be shown.
    """
    strip = np.asarray(Image.open(moment.strip).convert("RGB"))
    side = strip.shape[0] // 2
    pairs = strip.reshape(2 * side, -1, side, 3).transpose(1, 0, 2, 3)
    pairs = pairs[[i for i in range(len(pairs)) if i not in set(leave_out)]][: COLUMNS * ROWS]
    if len(pairs) < COLUMNS * ROWS:
        raise ValueError(
            f"{moment.strip} shows {len(pairs)} pictures, and the time-lapse needs "
            f"{COLUMNS * ROWS}: train with --held-out {COLUMNS * ROWS} or more, on a folder that "
            "holds out as many (of a plain one every twentieth: some 160 pictures in all)"
        )
    left = pairs.reshape(ROWS, COLUMNS, 2 * side, side, 3).transpose(0, 2, 1, 3, 4)
    left = left.reshape(ROWS * 2 * side, COLUMNS * side, 3)
    if places is None:
        return Image.fromarray(left)
    height = left.shape[0]
    gap = np.full((height, GAP, 3), PAPER, np.uint8)
    right = np.full((height, height, 3), PAPER, np.uint8)
    if moment.codes is not None:
        numbered = np.asarray(Image.open(moment.codes).convert("RGB"))
        cells = split_mosaic(numbered, f, int(places.max()) + 1)
        codebook = Image.fromarray(mosaic(cells, places, empty=PAPER))
        right = np.asarray(codebook.resize((height, height), Image.Resampling.NEAREST))
    return Image.fromarray(np.concatenate([left, gap, right], 1))


def order(chosen: list[Moment], vqgan: VQGAN) -> np.ndarray | None:
    """Places of the codes in every picture: similar ones side by side in the last one kept."""
    kept = [moment.codes for moment in chosen if moment.codes]
    if not kept:
        return None
    numbered = np.asarray(Image.open(kept[-1]).convert("RGB"))
    f, count = vqgan.config.downsampling, vqgan.config.codebook_size
    if numbered.shape[:2] != tuple(f * side for side in in_rows(np.arange(count)).shape):
        raise ValueError(f"{kept[-1]} does not show {count} codes of {f} pixels: another model's?")
    return by_similarity(look(split_mosaic(numbered, f, count)))


def build(
    runs: list[Path], bundle: Path, *, frames: int, quality: int, leave_out: Iterable[int] = ()
) -> dict:
    """Write BUNDLE/timelapse/ -> its index.

    The index: {"another_run": whether the bundle's codebook came from other runs than these,
    "moments": [{"file", "minutes", "step", "codes", "psnr", "losses"}]}.
    """
    vqgan, chosen = load(bundle).vqgan, spread(moments(runs), frames)
    places, another = order(chosen, vqgan), is_another(runs[-1], vqgan)
    files, rows = {}, []
    for moment in tqdm(chosen, "time-lapse", unit="picture"):
        file = io.BytesIO()
        picture = frame(moment, places, vqgan.config.downsampling, leave_out)
        picture.save(file, "WEBP", quality=quality, method=6)
        name = f"{len(rows):03d}.webp"
        files[name] = file.getvalue()
        row = {"file": name, "minutes": round(moment.minutes, 1), "step": moment.step}
        row |= {"codes": moment.codes is not None, "losses": list(moment.losses)}
        rows.append(row if moment.psnr is None else row | {"psnr": round(moment.psnr, 2)})
    out = bundle / FOLDER
    usable_folder(out)
    index = {"another_run": another, "moments": rows}
    files[INDEX] = (json.dumps(index, indent=1) + "\n").encode()
    swap(out, "*.webp", files)
    return index


def parser() -> argparse.ArgumentParser:
    p = Parser(prog="python -m checkpoints.timelapse", description=__doc__)
    p.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="first to last")
    p.add_argument("--bundle", help="folder that receives timelapse/")
    p.add_argument("--snapshot", action="store_true", help="only keep the codebook of RUN now")
    p.add_argument("--frames", type=int, default=30, help="pictures at most (%(default)s)")
    p.add_argument(
        "--leave-out", type=int, nargs="+", default=[], metavar="N",
        help="pictures on the runs' strips that are not to be shown, counted from 1",
    )  # fmt: skip
    p.add_argument("--quality", type=int, default=85, help="of the WebPs (%(default)s)")
    return p


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    try:
        if args.snapshot:
            for run in args.runs:
                print(snapshot(run))
            return
        if args.bundle is None:
            raise ValueError("give --bundle FOLDER, which receives the time-lapse, or --snapshot")
        if args.frames < 2 or not 1 <= args.quality <= 100:
            raise ValueError("--frames must be at least 2, and --quality lie between 1 and 100")
        if min(args.leave_out, default=1) < 1:
            raise ValueError("--leave-out counts the pictures of a strip from 1")
        bundle = find(args.bundle)
        leave_out = [number - 1 for number in args.leave_out]
        options = {"frames": args.frames, "quality": args.quality, "leave_out": leave_out}
        rows = build(args.runs, bundle, **options)["moments"]
    except (ValueError, OSError) as error:
        fail(error)
    size = sum(p.stat().st_size for p in (bundle / FOLDER).iterdir())
    print(f"{bundle / FOLDER}: {len(rows)} pictures, {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
