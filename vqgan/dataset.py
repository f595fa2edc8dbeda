"""Training pictures from a folder made by `data.build`, or from any plain folder of images."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

# Code points of drawings that are measured like any other, but put on no sheet for people's eyes:
# the raised middle finger.
UNSHOWN = {"1f595"}
EXTENSIONS = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif"}


@dataclass(frozen=True)
class Picture:
    """One file of a data set."""

    path: Path
    mask: Path | None = None
    photo: bool = False
    split: str = "train"
    row: dict | None = None  # its line of the manifest, captions included

    @property
    def shown(self) -> bool:
        """Whether it may be displayed as a sample; see `UNSHOWN`."""
        return (self.row or {}).get("codepoints") not in UNSHOWN


def plain_folder(root: Path) -> list[Picture]:
    """Every image under `root`; one in twenty, chosen by hash of its name, is held out."""
    found = []
    for path in sorted(p for p in root.rglob("*") if p.suffix.lower() in EXTENSIONS):
        name = path.relative_to(root).as_posix()
        held_out = int(hashlib.sha256(name.encode()).hexdigest(), 16) % 20 == 0
        found.append(Picture(path, photo=True, split="val" if held_out else "train"))
    if found and len({p.split for p in found}) == 1:  # too few for the hash to hold one out
        found[0] = Picture(found[0].path, photo=True, split="val")
        found[1:] = [Picture(p.path, photo=True) for p in found[1:]]
    return found


def manifest_folder(root: Path) -> list[Picture]:
    """The pictures that `manifest.jsonl` lists, with masks, kinds and split."""
    found = []
    with open(root / "manifest.jsonl", encoding="utf-8") as file:
        for row in map(json.loads, file):
            mask = root / row["mask"] if row.get("mask") else None
            photo = row["kind"] == "photo"
            found.append(Picture(root / row["path"], mask, photo, row["split"], row))
    return found


def scan(root: str | Path) -> list[Picture]:
    """All pictures of a data folder; ValueError where there is none."""
    root = Path(root)
    if not root.is_dir():
        raise ValueError(f"{root} is not a folder: give one made by data.build or one of images")
    pictures = manifest_folder(root) if (root / "manifest.jsonl").is_file() else plain_folder(root)
    if not pictures:
        raise ValueError(f"{root} holds no pictures ({', '.join(sorted(EXTENSIONS))})")
    return pictures


def identity(root: str | Path) -> dict:
    """What a data set was: sha256 of its manifest (None for a plain folder) and its name."""
    manifest = Path(root) / "manifest.jsonl"
    digest = hashlib.sha256(manifest.read_bytes()).hexdigest() if manifest.is_file() else None
    return {"name": Path(root).name, "sha256": digest}


def read(path: Path, mode: str = "RGB") -> np.ndarray:
    """A picture file as uint8 (H, W, 3), transparency on white; or (H, W) for mode "L"."""
    with Image.open(path) as image:
        if mode == "RGB" and ("A" in image.getbands() or "transparency" in image.info):
            image = image.convert("RGBA")
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image)
        return np.asarray(image.convert(mode))


def whole(picture: Picture, size: int) -> np.ndarray:
    """The centred square of a picture at `size` pixels: uint8 (size, size, 3)."""
    pixels = read(picture.path)
    h, w = pixels.shape[:2]
    if (h, w) == (size, size):
        return pixels
    side = min(h, w)
    top, left = (h - side) // 2, (w - side) // 2
    image = Image.fromarray(pixels[top : top + side, left : left + side])
    return np.asarray(image.resize((size, size), Image.Resampling.LANCZOS))


def to_tensor(pixels: np.ndarray) -> Tensor:
    """uint8 (..., H, W, 3) -> float32 (..., 3, H, W) in [-1, 1]."""
    return torch.tensor(pixels).movedim(-1, -3).float().div(127.5).sub(1)


class Crops:
    """Random training crops, a pure function of (seed, step): resuming needs no sampler state.

    Icons and clip art are cropped at the size they were rendered at; photographs are cut at a
    random scale and make up `photo_share` of the crops. Half of all are mirrored, and
    `colour_shuffle` of them have their colour channels permuted: icons are mostly yellow and blue,
    and an autoencoder that sees few greens and purples is slow to find a third axis of colour.
    """

    def __init__(
        self,
        pictures: list[Picture],
        *,
        size: int,
        crop: int,
        photo_share: float,
        seed: int,
        colour_shuffle: float = 0.0,
    ):
        self.size, self.crop, self.seed = size, crop, seed
        self.colour_shuffle = colour_shuffle
        train = [p for p in pictures if p.split == "train"]
        self.drawn = [p for p in train if not p.photo]
        self.photos = [p for p in train if p.photo]
        if not train:
            raise ValueError("the data folder has no picture for training: all are held out")
        if not self.drawn or not self.photos:
            photo_share = float(not self.drawn)
        self.photo_share = photo_share
        self.cache: dict[Path, np.ndarray] = {}

    def _pixels(self, picture: Picture) -> np.ndarray:
        pixels = self.cache.get(picture.path)
        if pixels is None:
            pixels = read(picture.path)
            if min(pixels.shape[:2]) < self.crop:
                pixels = whole(picture, self.size)
            self.cache[picture.path] = pixels
        return pixels

    def one(self, step: int, index: int) -> np.ndarray:
        """Crop `index` of the global batch of `step`: uint8 (crop, crop, 3)."""
        rng = np.random.default_rng([self.seed, step, index])
        photo = rng.random() < self.photo_share
        pool = self.photos if photo else self.drawn
        pixels = self._pixels(pool[rng.integers(len(pool))])
        h, w = pixels.shape[:2]
        side = self.crop
        if photo:
            # A whole photograph (at `size`) down to its finest detail (at the crop's own size).
            low, high = self.crop, max(self.crop, min(h, w) * self.crop // self.size)
            side = round(low * (high / low) ** rng.random())
        top, left = rng.integers(h - side + 1), rng.integers(w - side + 1)
        cut = pixels[top : top + side, left : left + side]
        if side != self.crop:
            image = Image.fromarray(cut).resize((self.crop, self.crop), Image.Resampling.BOX)
            cut = np.asarray(image)
        cut = cut[:, ::-1] if rng.random() < 0.5 else cut
        return cut[..., rng.permutation(3)] if rng.random() < self.colour_shuffle else cut

    def batch(self, step: int, batch: int, rank: int = 0, world: int = 1) -> Tensor:
        """This process's share of the global batch: float32 (batch / world, 3, crop, crop)."""
        share = batch // world
        crops = [self.one(step, rank * share + i) for i in range(share)]
        return to_tensor(np.stack(crops)).contiguous(memory_format=torch.channels_last)


def held_out(pictures: list[Picture], count: int) -> list[Picture]:
    """`count` held-out pictures spread evenly over the data set, always the same ones."""
    val = [p for p in pictures if p.split == "val"]
    picks = np.linspace(0, len(val) - 1, min(count, len(val))).round().astype(int)
    return [val[i] for i in picks]
