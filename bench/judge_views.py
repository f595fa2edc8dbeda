"""What the judge's head is trained on: VGG features of the data set's pictures, seen in four ways.

plain     the picture as it is
varied    moved, scaled, perhaps mirrored
rebuilt   decoded from its codes: the decoder's blur is nothing to be marked down for
mirrored  decoded from the codes of its mirror image
Computed once, in an order whose every beginning is of use; a second run goes on where one stopped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bench.judge import FEATURES, describe
from prior.tokens import TokenSet
from training.precision import autocast
from vqgan import dataset
from vqgan.model import VQGAN
from vqgan.perceptual import PerceptualLoss

BATCH = 16
SIDE = 128  # pixels of the data set's drawings
FLUSH = 16  # batches between two notes of how far it got
SIDED = ("left", "right")  # drawings of such names are never mirrored


class Item(NamedTuple):
    """One row of features: which picture (its place in the data set), seen how."""

    picture: int
    view: str


def hashed(row: dict, salt: str) -> int:
    """A whole number that depends on a picture's name only."""
    key = f"{salt}/{row['set']}/{row['id']}".encode()
    return int(hashlib.sha256(key).hexdigest()[:12], 16)


def is_probe(row: dict) -> bool:
    """Whether a training icon is kept back: a drawing the head never sees, of a known concept."""
    return row["split"] == "train" and row["kind"] == "icon" and hashed(row, "probe") % 40 == 0


def is_reference(row: dict) -> bool:
    """Held-out icons. Clip art is left out: few could guess the titles of its files."""
    return row["split"] == "val" and row["kind"] == "icon"


def is_lesson(row: dict) -> bool:
    """Whether the head learns from a picture."""
    return row["split"] == "train" and row["kind"] != "photo" and not is_probe(row)


def items(rows: Sequence[dict]) -> list[Item]:
    """All rows of features: references and probes first, then lessons, icons before clip art.

    Each lesson is seen once as a picture and once through its codes, the halves swapped at random.
    """
    tested = [i for i, row in enumerate(rows) if is_reference(row) or is_probe(row)]
    found = [Item(i, view) for view in ("plain", "rebuilt") for i in tested]
    lessons = [i for i, row in enumerate(rows) if is_lesson(row)]
    lessons.sort(key=lambda i: (rows[i]["kind"] != "icon", hashed(rows[i], "order")))
    for turn in (0, 1):
        for i in lessons:
            chance = hashed(rows[i], "view")
            sided = any(word in rows[i]["name"].split() for word in SIDED)
            coded = "mirrored" if chance // 2 % 2 and not sided else "rebuilt"
            found.append(Item(i, coded if (chance + turn) % 2 else "varied"))
    return found


def vary(pixels: np.ndarray, mirror: bool, rng: np.random.Generator) -> np.ndarray:
    """uint8 (S, S, 3) on white: scaled by 75 to 110 %, moved by up to 8 %, half mirrored."""
    side = len(pixels)
    scaled = round(side * rng.uniform(0.75, 1.1))
    image = Image.fromarray(pixels).resize((scaled, scaled), Image.Resampling.BILINEAR)
    canvas = Image.new("RGB", (side, side), "white")
    corner = (side - scaled) // 2 + rng.integers(-side // 12, side // 12 + 1, 2)
    canvas.paste(image, tuple(int(v) for v in corner))
    varied = np.asarray(canvas)
    return varied[:, ::-1] if rng.random() < 0.5 and mirror else varied


@torch.inference_mode()
def seen(
    some: Sequence[Item], pictures: Sequence[dataset.Picture], tokens: TokenSet, vqgan: VQGAN
) -> Tensor:
    """The items' pictures: (B, 3, SIDE, SIDE) in [-1, 1]."""
    images = torch.empty(len(some), 3, SIDE, SIDE).contiguous(memory_format=torch.channels_last)
    coded = [n for n, item in enumerate(some) if item.view in ("rebuilt", "mirrored")]
    if coded:
        flips = [some[n].view == "mirrored" for n in coded]
        codes = tokens.codes[[some[n].picture for n in coded], np.array(flips, int)]
        with autocast("cpu"):
            output = vqgan.decode_indices(torch.from_numpy(codes.astype(np.int64)))
        images[coded] = output.float().clamp(-1, 1)
    for n, (place, view) in enumerate(some):
        if n in coded:
            continue
        pixels = dataset.whole(pictures[place], SIDE)
        if view == "varied":
            sided = any(word in pictures[place].row["name"].split() for word in SIDED)
            pixels = vary(pixels, not sided, np.random.default_rng([7, place]))
        images[n] = dataset.to_tensor(pixels.copy())
    return images


def features(
    wanted: Sequence[Item],
    look: Callable[[Sequence[Item]], Tensor],
    vgg: PerceptualLoss,
    folder: Path,
    about: dict,
    progress: Callable[[Iterable], Iterable] = iter,
) -> np.ndarray:
    """(len(wanted), FEATURES) float16; what `folder` holds of it is read, the rest computed.

    `look` turns items into pictures. `about` says what they are of; ValueError if the folder holds
    features of something else.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, note = folder / "features.npy", folder / "features.json"
    done = 0
    if note.is_file():
        stored = json.loads(note.read_text(encoding="utf-8"))
        if stored["about"] != about:
            raise ValueError(f"{path} was made from something else: give an empty --cache")
        done = stored["done"]
    else:
        about_size = (about["items"], FEATURES)
        np.lib.format.open_memmap(path, "w+", np.float16, about_size).flush()
    table = np.lib.format.open_memmap(path, "r+")
    starts = range(done, len(wanted), BATCH)
    for turn, start in enumerate(progress(starts), 1):
        some = wanted[start : start + BATCH]
        table[start : start + len(some)] = describe(vgg, look(some)).numpy()
        if turn % FLUSH == 0 or turn == len(starts):
            table.flush()
            state = {"about": about, "done": start + len(some)}
            note.write_text(json.dumps(state), encoding="utf-8")
    return table[: len(wanted)]
