"""What a code looks like: its decoded cell, and all of them as one picture.

The decoder sees a cell's neighbours, so a code has no picture of its own. Here a decoded cell is
the centre f x f crop of the decode of a uniform `SIDE` x `SIDE` grid of that code.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from time import monotonic

import numpy as np
import torch

from vqgan.model import VQGAN

SIDE = 5  # cells along each side of the uniform grid
PIXELS_AT_ONCE = 2**18  # decoded pixels in one batch: bounds memory, not the result
PORTION, AT_ONCE = 0.25, 64  # seconds and codes between two pauses of background decoding

Progress = Callable[[int, int], None]  # (done, of how many)


@torch.no_grad()
def decode_cells(
    vqgan: VQGAN,
    codes: Sequence[int] | None = None,
    *,
    side: int = SIDE,
    progress: Progress | None = None,
) -> np.ndarray:
    """The decoded cells of some codes (n), or of all K in order: (n, f, f, 3) uint8."""
    if side < 1 or side % 2 == 0:
        raise ValueError(f"side is {side}: a uniform grid has a centre when its side is odd")
    f = vqgan.config.downsampling
    device = next(vqgan.decoder.parameters()).device
    numbers = torch.as_tensor(
        range(vqgan.config.codebook_size) if codes is None else codes, device=device
    )
    count = len(numbers)
    cells = np.empty((count, f, f, 3), np.uint8)
    batch = max(1, PIXELS_AT_ONCE // (side * f) ** 2)
    middle = slice(side // 2 * f, side // 2 * f + f)
    for start in range(0, count, batch):
        part = numbers[start : start + batch]
        grids = part[:, None, None].expand(-1, side, side)  # (B, side, side)
        decoded = vqgan.decode_indices(grids)[:, :, middle, middle].clamp(-1, 1)
        pixels = decoded.add(1).mul(127.5).round().byte()  # (B, 3, f, f)
        cells[start : start + batch] = pixels.permute(0, 2, 3, 1).cpu().numpy()
        if progress:
            progress(min(start + batch, count), count)
    return cells


def decoder_id(vqgan: VQGAN) -> str:
    """sha256 (hex) over all that decides what a code looks like, as fp16 bytes sorted by name.

    The counterpart of a bundle's tokenizer id: decoded cells that were kept stay valid as long as
    this does.
    """
    state, digest = vqgan.state_dict(), hashlib.sha256()
    for name in sorted(n for n in state if n.startswith(("decoder.", "post_quant_conv."))):
        digest.update(state[name].detach().cpu().half().contiguous().numpy().tobytes())
    digest.update(vqgan.quantize.codebook().detach().cpu().half().numpy().tobytes())
    return digest.hexdigest()


def mosaic(cells: np.ndarray, grid: np.ndarray, *, empty: int = 255) -> np.ndarray:
    """One picture of cells: cells (K, f, f, 3) uint8, grid (rows, columns) int, -1 where empty.

    -> (rows * f, columns * f, 3) uint8, where empty places have the grey value `empty`.
    """
    rows, columns = grid.shape
    f = cells.shape[1]
    blank = np.full((1, f, f, 3), empty, np.uint8)
    placed = np.concatenate([cells, blank])[grid]  # -1 is the last one; (rows, columns, f, f, 3)
    return placed.transpose(0, 2, 1, 3, 4).reshape(rows * f, columns * f, 3)


def split_mosaic(picture: np.ndarray, f: int, count: int) -> np.ndarray:
    """The first `count` cells of a mosaic, row by row: (count, f, f, 3) uint8."""
    rows, columns = picture.shape[0] // f, picture.shape[1] // f
    cells = picture.reshape(rows, f, columns, f, 3).transpose(0, 2, 1, 3, 4)
    return cells.reshape(rows * columns, f, f, 3)[:count]


class CellStore:
    """The decoded cells of one model, decoded when first asked for and then kept.

    Any thread may ask. `fill` decodes what is missing in the background, so that a page can be
    used meanwhile: `of` decodes the few codes it needs at once. Between portions of a moment `fill`
    calls `pause`, which may take its time. `run(function, *args)` may decode in another thread.
    """

    def __init__(
        self,
        vqgan: VQGAN,
        kept: np.ndarray | None = None,
        pause: Callable[[], object] = lambda: None,
        run: Callable[..., object] = lambda decode, *args: decode(*args),
    ):
        f, count = vqgan.config.downsampling, vqgan.config.codebook_size
        self._vqgan = vqgan
        self._cells = np.empty((count, f, f, 3), np.uint8) if kept is None else kept
        self._known = np.full(count, kept is not None)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._pause, self._run = pause, run
        self._spent = (0.0, 0)  # seconds and codes of the background, waiting left out
        self._took = 0.0  # seconds of the last decoding

    @property
    def done(self) -> int:
        """How many codes are decoded."""
        return int(self._known.sum())

    @property
    def whole(self) -> bool:
        return self.done == len(self._known)

    @property
    def seconds_left(self) -> float | None:
        """What `fill` still needs, by what it took so far; None before its first codes."""
        seconds, codes = self._spent
        return seconds / codes * (len(self._known) - self.done) if codes else None

    def of(self, codes: Sequence[int]) -> np.ndarray:
        """Cells of some codes: (n, f, f, 3) uint8."""
        codes = np.asarray(codes, np.int64)
        missing = np.unique(codes[~self._known[codes]])
        if len(missing):
            self._run(self._decode, missing)
        return self._cells[codes]

    def _decode(self, codes: np.ndarray) -> None:
        began = monotonic()
        self._cells[codes] = decode_cells(self._vqgan, codes)
        self._known[codes] = True
        self._took = monotonic() - began

    def all(self) -> np.ndarray:
        """Cells of all codes, (K, f, f, 3) uint8; waits until they are there."""
        self.fill()
        if self._thread:
            self._thread.join()
        self.of(range(len(self._known)))  # nothing is left to do, unless the thread failed
        return self._cells

    def fill(self) -> None:
        """Start decoding what is missing, unless that has been done."""

        def work() -> None:
            at_once = 1
            while not self.whole:
                self._pause()
                part = np.flatnonzero(~self._known)[:at_once]
                self.of(part)
                seconds, codes = self._spent
                self._spent = seconds, codes = seconds + self._took, codes + len(part)
                at_once = min(max(int(PORTION * codes / max(seconds, 1e-9)), 1), AT_ONCE)

        with self._lock:
            if self._thread is None and not self.whole:
                self._thread = threading.Thread(target=work, name="decoded cells", daemon=True)
                self._thread.start()
