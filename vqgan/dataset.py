"""Training pictures from a folder made by `data.build`, or from any plain folder of images."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from training.files import NoData, shown_name
from training.spread import spread
from vqgan.images import FORMATS, check_image, open_image

log = logging.getLogger(__name__)

# Code points of drawings that are measured like any other, but put on no sheet for people's eyes:
# the raised middle finger.
UNSHOWN = {"1f595"}
PHOTO_SIDE = 512  # pixels of a photograph's shorter side, as `data.build` makes them
MAX_PIXELS = 178_000_000  # some 540 MB as RGB while one is read; larger ones are left out
MADE_HERE = ("last.pt", "vqgan.safetensors")  # a folder with one of these is a run or a bundle
# Endings of other pictures, which are named when they are left out.
UNREAD = frozenset(
    f".{kind}" for kind in "heic heif jxl svg psd xcf cr2 cr3 nef arw dng orf raf".split()
)
CACHE_BYTES = 2 * 2**30  # of decoded pictures kept in memory, in each process


@cache
def extensions() -> frozenset[str]:
    """Endings, such as ".png", of the files that `images.open_image` reads."""
    return frozenset(s for s, name in Image.registered_extensions().items() if name in FORMATS)


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
    """Every image under `root`; one in twenty, chosen by hash of its name, is held out.

    A file whose header is not that of a picture is left out (see `Skipped`), and so are kinds of
    pictures that are not read here (`UNREAD`) and the pictures of a run or bundle that lies in
    there: it would learn from its own samples.
    """
    found, skipped = [], Skipped()
    own = {p.parent for mark in MADE_HERE for p in root.rglob(mark)} - {root}
    kinds = extensions() | UNREAD
    for path in sorted(p for p in root.rglob("*") if p.suffix.lower() in kinds):
        if not own.isdisjoint(path.parents):
            continue
        try:
            if path.suffix.lower() not in extensions():
                raise ValueError(
                    f"{path} is of a kind that is not read here: make it a PNG or JPEG"
                )
            check_image(path, max_pixels=MAX_PIXELS)
        except ValueError as error:
            skipped.add(error)
            continue
        name = path.relative_to(root).as_posix()
        held_out = int(hashlib.sha256(os.fsencode(name)).hexdigest(), 16) % 20 == 0
        found.append(Picture(path, photo=True, split="val" if held_out else "train"))
    skipped.report(len(found))
    if len({p.split for p in found}) == 1:  # too few for the hash to hold one out
        val = next((i for i, p in enumerate(found) if _opens(p)), 0)
        splits = ("val" if i == val else "train" for i in range(len(found)))
        found = [Picture(p.path, photo=True, split=s) for p, s in zip(found, splits, strict=True)]
    return found


def _opens(picture: Picture) -> bool:
    try:
        read(picture.path, shortest=1)
    except ValueError:
        return False
    return True


def manifest_folder(root: Path) -> list[Picture]:
    """The pictures that `manifest.jsonl` lists, with masks, kinds and split.

    ValueError, naming the line, where it is none of `data.build`.
    """
    found, number, path = [], 0, root / "manifest.jsonl"
    try:
        with open(path, encoding="utf-8") as file:
            for line in file:
                number += 1
                row = json.loads(line)
                mask = root / row["mask"] if row.get("mask") else None
                photo = row["kind"] == "photo"
                found.append(Picture(root / row["path"], mask, photo, row["split"], row))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"line {number} of {path} is no row of data.build ({type(error).__name__}: {error}): "
            "without that file the folder is read as one of plain pictures"
        ) from error
    return found


def scan(root: str | Path) -> list[Picture]:
    """All pictures of a data folder; ValueError where there is none."""
    root = Path(root)
    if not root.is_dir():
        raise ValueError(f"{root} is not a folder: give one made by data.build or one of images")
    pictures = manifest_folder(root) if (root / "manifest.jsonl").is_file() else plain_folder(root)
    if not pictures:
        raise ValueError(f"{root} holds no pictures ({', '.join(sorted(extensions()))})")
    return pictures


def identity(root: str | Path) -> dict:
    """What a data set was: sha256 of its manifest (None for a plain folder) and its name."""
    manifest = Path(root) / "manifest.jsonl"
    digest = hashlib.sha256(manifest.read_bytes()).hexdigest() if manifest.is_file() else None
    return {"name": shown_name(os.path.basename(os.path.abspath(root))), "sha256": digest}


class Skipped:
    """Counts pictures that cannot be read, to say so in one line."""

    def __init__(self) -> None:
        self.count, self.first = 0, ""

    def add(self, error: ValueError) -> None:
        """One more, that `error` speaks of."""
        self.first = self.first or str(error)
        self.count += 1

    def report(self, others: int) -> None:
        """Warn, if any was left out. NoData if there are no `others`."""
        if self.count and not others:
            raise NoData(f"none of the pictures can be opened, {self.count} in all: {self.first}")
        if self.count:
            log.warning(
                "left out %d of %d pictures that cannot be opened, the first: %s",
                self.count,
                self.count + others,
                self.first,
            )


def read(path: Path, mode: str = "RGB", shortest: int | None = None) -> np.ndarray:
    """A picture file as uint8 (H, W, 3) by `images.open_image`, or a mask (H, W) for mode "L".

    `shortest`: scale down until the shorter side is so many pixels. ValueError if it is damaged.
    """
    if mode == "RGB":
        return np.asarray(open_image(path, max_pixels=MAX_PIXELS, shortest=shortest))
    with Image.open(path) as image:
        return np.asarray(image.convert(mode))


def pixels_of(picture: Picture, size: int) -> np.ndarray:
    """All of a picture: uint8 (H, W, 3). Photographs no larger than pictures of `size` need."""
    return read(picture.path, shortest=max(PHOTO_SIDE, size) if picture.photo else None)


def centred(pixels: np.ndarray, size: int) -> np.ndarray:
    """uint8 (H, W, 3) -> its centred square at `size` pixels, uint8 (size, size, 3)."""
    h, w = pixels.shape[:2]
    if (h, w) == (size, size):
        return pixels
    side = min(h, w)
    top, left = (h - side) // 2, (w - side) // 2
    image = Image.fromarray(pixels[top : top + side, left : left + side])
    return np.asarray(image.resize((size, size), Image.Resampling.LANCZOS))


def whole(picture: Picture, size: int) -> np.ndarray:
    """The centred square of a picture at `size` pixels: uint8 (size, size, 3)."""
    return centred(pixels_of(picture, size), size)


def wholes(pictures: Iterable[Picture], size: int) -> Iterator[tuple[Picture, np.ndarray]]:
    """Each picture that can be read, with its pixels by `whole`.

    The others are left out, with one warning at the end; NoData if all had to be.
    """
    good, skipped = 0, Skipped()
    for picture in pictures:
        try:
            pixels = whole(picture, size)
        except ValueError as error:
            skipped.add(error)
            continue
        good += 1
        yield picture, pixels
    skipped.report(good)


def to_tensor(pixels: np.ndarray) -> Tensor:
    """uint8 (..., H, W, 3) -> float32 (..., 3, H, W) in [-1, 1]."""
    return torch.tensor(pixels).movedim(-1, -3).float().div(127.5).sub(1)


class Crops:
    """Random training crops, a pure function of (seed, step): resuming needs no sampler state.

    Icons and clip art are cropped at the size they were rendered at; photographs are cut at a
    random scale and make up `photo_share` of the crops. Half of all are mirrored, and
    `colour_shuffle` of them have their colour channels permuted: icons are mostly yellow and blue,
    and an autoencoder that sees few greens and purples is slow to find a third axis of colour.

    Pictures stay in memory up to `cache_bytes`. Where a damaged one is drawn, the next draw takes
    its place: which crops a step sees still depends on nothing but (seed, step) and the files.
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
        cache_bytes: int = CACHE_BYTES,
    ):
        self.size, self.crop, self.seed = size, crop, seed
        self.colour_shuffle = colour_shuffle
        train = [p for p in pictures if p.split == "train"]
        self.drawn = [p for p in train if not p.photo]
        self.photos = [p for p in train if p.photo]
        if not train:
            raise ValueError(
                "the data folder has no picture for training: all are held out; give it at least "
                "two pictures"
            )
        if not self.drawn or not self.photos:
            photo_share = float(not self.drawn)
        self.photo_share = photo_share
        self.cache: dict[Path, np.ndarray] = {}
        self.room = cache_bytes
        self.damaged: dict[bool, set[int]] = {False: set(), True: set()}  # of drawn, of photos
        for photo in (False, True):
            if photo_share != float(not photo):  # some are wanted: is there one that opens?
                self._draw(photo, np.random.default_rng(0))

    def _pixels(self, picture: Picture) -> np.ndarray:
        pixels = self.cache.get(picture.path)
        if pixels is None:
            pixels = pixels_of(picture, self.size)
            if min(pixels.shape[:2]) < self.crop:
                pixels = centred(pixels, self.size)
            # Every picture is as likely as any other, so none makes way for a newer one.
            if pixels.nbytes <= self.room:
                self.cache[picture.path] = pixels
                self.room -= pixels.nbytes
        return pixels

    def _draw(self, photo: bool, rng: np.random.Generator) -> np.ndarray:
        """A random photograph or drawing: uint8 (H, W, 3). NoData if none can be read."""
        pool, damaged = self.photos if photo else self.drawn, self.damaged[photo]
        while True:
            number = int(rng.integers(len(pool)))
            if number in damaged:
                continue
            try:
                return self._pixels(pool[number])
            except ValueError as error:
                damaged.add(number)
                if len(damaged) == len(pool):
                    raise NoData(f"none of the pictures can be opened: {error}") from error
                if len(damaged).bit_count() == 1:  # a line for each would bury the log
                    log.warning("left out %d of %d so far: %s", len(damaged), len(pool), error)

    def one(self, step: int, index: int) -> np.ndarray:
        """Crop `index` of the global batch of `step`: uint8 (crop, crop, 3)."""
        rng = np.random.default_rng([self.seed, step, index])
        photo = rng.random() < self.photo_share
        pixels = self._draw(photo, rng)
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


def held_out(pictures: Sequence[Picture], count: int) -> list[Picture]:
    """`count` held-out pictures spread evenly over the data set, always the same ones."""
    return spread([p for p in pictures if p.split == "val"], count)
