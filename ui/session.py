"""One visitor's picture: where it came from, its codes now, and how it got there.

A `Session` is a value in gr.State; every function returns a new one.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ui.common import present
from ui.studio import Studio
from vqgan.grids import Grid, IndexFile
from vqgan.images import open_image, pad_to_multiple, to_tensor
from vqgan.metrics import bits_per_pixel, code_bytes
from vqgan.rebuild import NATIVE_LIMIT, SIDES, Closeness, at_size

UNDO_STEPS = 100


@dataclass(frozen=True)
class Session:
    """A picture being looked at. `original` and what follows from it is None for bare codes."""

    indices: Grid  # as painted now
    encoded: Grid  # as the encoder (or the file) gave them
    result: Image.Image  # the decode of `indices`
    codebook_size: int
    original: Image.Image | None = None  # scaled to the working size
    source: str | None = None  # the visitor's file, to open again at another size
    name: str = "picture"
    file_bytes: int | None = None
    capped: bool = False
    history: tuple[Grid, ...] = field(default=(), repr=False)
    side: str | None = None  # the working size, a key of SIDES
    others: tuple[Session, ...] = field(default=(), repr=False)  # what was painted at other sizes
    opening: bool = False  # what every page begins with, and so what is there of a lost session

    @property
    def size(self) -> tuple[int, int]:
        return self.result.size

    @property
    def picture(self) -> str:
        """Tells pictures apart, whatever was painted on them, and is the same after a restart."""
        said = repr(self.encoded.shape).encode() + self.encoded.tobytes()
        return hashlib.blake2b(said, digest_size=8).hexdigest()

    @property
    def cells(self) -> int:
        return self.indices.size

    @property
    def distinct(self) -> int:
        return len(np.unique(self.indices))

    @property
    def bytes(self) -> int:
        return code_bytes(self.cells, self.codebook_size)

    @property
    def bits_per_pixel(self) -> float:
        return bits_per_pixel(self.cells, self.codebook_size, math.prod(self.size))


def open_picture(
    studio: Studio, source: str | os.PathLike, side: str, name: str | None = None
) -> Session:
    """Encode and decode a file at working size `side` (a key of SIDES)."""
    if not isinstance(side, str) or side not in SIDES:
        raise ValueError(f"the working size is {side!r}: choose {', '.join(map(repr, SIDES))}")
    wanted = SIDES[side] or NATIVE_LIMIT
    original, capped = at_size(open_image(source, side=wanted), SIDES[side])
    result, indices = studio.rebuild(original)
    return Session(
        indices=indices,
        encoded=indices,
        result=result,
        codebook_size=studio.codebook_size,
        original=original,
        source=str(source),
        name=file_stem(name or source),
        file_bytes=Path(source).stat().st_size,
        capped=capped,
        side=side,
    )


def resized(studio: Studio, session: Session, side: str) -> Session:
    """The picture at another working size, with what was painted when it last had that size."""
    known = {s.side: s for s in (*session.others, replace(session, others=())) if s.history}
    found = known.pop(side, None)
    if found is None:
        found = open_picture(studio, present(session.source), side, session.name)
    return replace(found, others=tuple(known.values()), opening=False)


def open_codes(studio: Studio, file: IndexFile, name: str) -> Session:
    """Decode a grid that has no original."""
    return Session(
        indices=file.indices,
        encoded=file.indices,
        result=studio.decode(file.indices, file.size),
        codebook_size=studio.codebook_size,
        name=file_stem(name),
    )


def file_stem(name: str | os.PathLike) -> str:
    """A name for downloads: the visitor's own, less what a file system may refuse."""
    stem = re.sub(r"[^\w .()+-]", "_", Path(name).stem)[:60].strip(" .")
    return stem or "picture"


def redraw(studio: Studio, session: Session, indices: Grid) -> Session:
    """The session with other codes, decoded, and the old ones kept for `undo`."""
    if np.array_equal(indices, session.indices):
        return session
    history = (*session.history, session.indices)[-UNDO_STEPS:]
    return _shown(studio, replace(session, indices=indices, history=history))


def undo(studio: Studio, session: Session) -> Session:
    """One step back; the same session where there is none."""
    if not session.history:
        return session
    *history, indices = session.history
    return _shown(studio, replace(session, indices=indices, history=tuple(history)))


def _shown(studio: Studio, session: Session) -> Session:
    return replace(session, result=studio.decode(session.indices, session.size))


def closeness(studio: Studio, session: Session) -> Closeness | None:
    """How near the picture now shown is to the original; None without one."""
    if session.original is None:
        return None
    return studio.closeness(session.original, session.result)


def latents(studio: Studio, image: Image.Image) -> torch.Tensor:
    """A picture's latents (1, D, h, w), padded to whole cells, before the codebook."""
    with torch.inference_mode():
        padded, _ = pad_to_multiple(to_tensor(image).to(studio.device), studio.f)
        return studio.vqgan.encode(padded).latents
