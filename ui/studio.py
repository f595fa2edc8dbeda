"""What the whole process shares: the loaded models, read-only. Visitors' data lives in gr.State."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from PIL import Image

from prior.nearest import FILE as TRAINING
from prior.nearest import Training
from ui import busy, compute
from vqgan.codebook import FILE, CellStore, CodeStatistics, decoder_id, nearest_codes
from vqgan.grids import Grid, decode_grid
from vqgan.model import VQGAN
from vqgan.perceptual import PerceptualLoss
from vqgan.rebuild import Closeness, measure, through

log = logging.getLogger(__name__)
T = TypeVar("T")
ONE_THREAD = 2**15  # elements up to which torch spreads an operation over no other threads
KEPT, KEPT_PIXELS = 300, 256 * 256  # answers kept, about pictures of at most so many: 60 MB


class Bundle(Protocol):
    """What the pages ask of a bundle; app.py hands over a `checkpoints.Bundle`."""

    name: str
    vqgan: VQGAN
    prior: Any
    sketch: Any  # what lets the prior follow lines, or None
    decoders: dict[str, VQGAN]
    clip: Any  # built when it is first asked for
    card: dict
    path: Path
    tokenizer_id: str

    def told(self, words: Sequence[str]) -> torch.Tensor:
        """What the prior is told of each prompt, (n, E)."""


@dataclass(frozen=True)
class Studio:
    """The models of one running app. They never change; answers about small pictures are kept."""

    bundle: Bundle
    metric: PerceptualLoss
    device: str = "cpu"
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)
    _kept: OrderedDict = field(default_factory=OrderedDict, repr=False, compare=False)

    @property
    def vqgan(self) -> VQGAN:
        return self.bundle.vqgan

    @property
    def f(self) -> int:
        """Pixels per code along each side."""
        return self.vqgan.config.downsampling

    @property
    def codebook_size(self) -> int:
        return self.vqgan.config.codebook_size

    def decode(self, grid: Grid, size: tuple[int, int]) -> Image.Image:
        """The picture of a grid. The last small ones are kept: undo and "start over" come back."""
        key = ("decode", size, grid.shape, grid.tobytes())
        return self.once(key, size, lambda: compute.run(decode_grid, self.vqgan, grid, size))

    def rebuild(self, original: Image.Image) -> tuple[Image.Image, Grid]:
        """An RGB picture through the model -> (the same size, its codes), kept like a decode."""

        def answer() -> tuple[Image.Image, Grid]:
            result, indices = compute.run(through, self.vqgan, original)
            return result, indices.numpy()

        return self.once(("rebuild", digest(original)), original.size, answer)

    def closeness(self, original: Image.Image, result: Image.Image) -> Closeness:
        """How near two RGB pictures of one size are. As slow as decoding, so it is kept too."""
        key = ("closeness", digest(original), digest(result))
        return self.once(
            key, original.size, lambda: compute.run(measure, self.metric, original, result)
        )

    def neighbours(self, code: int, n: int) -> tuple[np.ndarray, np.ndarray]:
        """`vqgan.codebook.nearest_codes`, which of a small codebook waits for nobody's run."""
        if self.vqgan.quantize.codebook().numel() < ONE_THREAD:
            return nearest_codes(self.vqgan, code, n)
        return compute.run(nearest_codes, self.vqgan, code, n)

    def once(self, key: tuple, size: tuple[int, int], answer: Callable[[], T]) -> T:
        """What was computed before under this key; of a large picture nothing is kept."""
        if size[0] * size[1] > KEPT_PIXELS:
            return answer()
        with self._lock:
            known = self._kept.pop(key, None)
        known = answer() if known is None else known
        with self._lock:
            self._kept[key] = known  # now the newest
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return known

    @cached_property
    def blank_code(self) -> int:
        """The code that plain white paper gets most often: what the eraser paints."""
        side = 8 * self.f

        def answer() -> int:
            with torch.inference_mode():
                white = torch.ones(1, 3, side, side, device=self.device)
                indices = self.vqgan.encode(white).indices
            return int(torch.bincount(indices.flatten()).argmax())

        return compute.run(answer)

    @cached_property
    def _found(self) -> tuple[CodeStatistics | None, str | None]:
        """The bundle's code statistics, or why those beside it cannot be used."""
        path = Path(self.bundle.path) / FILE
        if not path.is_file():
            return None, None
        try:
            statistics = CodeStatistics.load(path)
            statistics.check(self.vqgan, self.bundle.tokenizer_id)
        except ValueError as error:
            return None, str(error)
        return statistics, None

    @property
    def statistics(self) -> CodeStatistics | None:
        """The bundle's code statistics, or None where it ships none of its own tokenizer."""
        return self._found[0]

    @property
    def refused(self) -> str | None:
        """Why a file of code statistics beside the model is not used, in one sentence."""
        return self._found[1]

    @property
    def training(self) -> Training | None:
        """Thumbnails of the training pictures, read when they are first wanted."""
        with self._lock:
            return self._training

    @cached_property
    def _training(self) -> Training | None:
        path = Path(self.bundle.path) / TRAINING
        if not path.is_file():
            return None
        try:
            return Training.load(path)
        except ValueError as error:
            log.warning("nearest training pictures are left out: %s", error)
            return None

    @property
    def store(self) -> CellStore:
        """Every code's decoded cell: shipped ones, else decoded when they are asked for."""
        with self._lock:
            return self._store

    @cached_property
    def _store(self) -> CellStore:
        shipped = self.statistics
        if shipped is not None and shipped.decoder_id == decoder_id(self.vqgan):
            return CellStore(self.vqgan, shipped.cells)
        return CellStore(self.vqgan, pause=busy.give_way, run=compute.run)

    def cells(self) -> np.ndarray:
        """Every code's decoded cell, (K, f, f, 3) uint8; waits until all are decoded."""
        return self.store.all()


def digest(image: Image.Image) -> bytes:
    """A short name of a picture's pixels."""
    return hashlib.blake2b(repr(image.size).encode() + image.tobytes()).digest()
