"""Pictures -> grids of codes, once: `python -m prior.tokens --bundle B --data DIR --out F.npy`.

A token file belongs to one tokenizer (encoder, quant_conv and codebook, by their hash): the decoder
may still improve under it, and codes of another tokenizer are refused.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from prior.views import check_kinds, drawn, varied
from training.files import replacing, write
from vqgan import dataset
from vqgan.model import VQGAN

FORMAT = 1
KEPT = ("id", "set", "kind", "name", "captions", "captions_zh", "concept")  # of a manifest's row


@dataclass(frozen=True)
class TokenSet:
    """The codes of a data set and what is known of its pictures."""

    codes: np.ndarray  # (P, 2 + V, h, w) uint16: each picture as it is, mirrored, in varied views
    rows: list[dict]  # P rows: path, split, kind, captions, ...
    tokenizer_id: str
    codebook_size: int
    data: dict  # name and sha256 of the data set
    view_kinds: tuple[str, ...] = ()  # V kinds of `prior.views`, of the varied views in turn

    def __post_init__(self) -> None:
        codes = self.codes
        if codes.ndim != 4 or codes.shape[1] < 2 or codes.dtype != np.uint16:
            raise ValueError(
                f"codes are {codes.dtype} of shape {codes.shape}: expected uint16 (P, 2 or more, "
                "h, w)"
            )
        if len(codes) != len(self.rows):
            raise ValueError(f"{len(codes)} grids but {len(self.rows)} rows: one a picture, please")
        if codes.size and codes.max() >= self.codebook_size:
            raise ValueError(f"code {codes.max()} is not in a codebook of {self.codebook_size}")
        if len(self.view_kinds) != self.views:
            raise ValueError(f"{self.views} varied views but {len(self.view_kinds)} kinds of them")
        check_kinds(self.view_kinds)

    @property
    def views(self) -> int:
        """Varied views of each picture, beside itself and its mirror image."""
        return self.codes.shape[1] - 2

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of a picture's codes."""
        return self.codes.shape[2], self.codes.shape[3]

    def pictures(self, found: Sequence[dataset.Picture]) -> list[dataset.Picture]:
        """The pictures behind the grids, in their order, out of all `found` in the data set.

        `found` may hold more: what could not be read has no codes. ValueError if it lacks one, or
        if the pictures had no manifest to name them.
        """
        known = {_key(picture.row): picture for picture in found if picture.row}
        chosen = []
        for row in self.rows:
            if "id" not in row:
                raise ValueError("the tokens do not name their pictures: give data of data.build")
            if _key(row) not in known:
                name = "/".join(filter(None, _key(row)))
                raise ValueError(
                    f"the tokens name a picture that the data lacks, {name}: give the folder that "
                    "they were made from, or encode it again"
                )
            chosen.append(known[_key(row)])
        return chosen

    def where(self, split: str, kinds: Sequence[str] = ()) -> np.ndarray:
        """Indices (n,) int64 of the pictures of a split, of these kinds (all if none is given)."""
        chosen = [
            i
            for i, row in enumerate(self.rows)
            if row["split"] == split and (not kinds or row["kind"] in kinds)
        ]
        return np.array(chosen, dtype=np.int64)


@torch.inference_mode()
def encode(
    vqgan: VQGAN,
    pictures: Sequence[dataset.Picture],
    *,
    tokenizer_id: str,
    size: int,
    data: dict,
    batch: int = 16,
    view_kinds: Sequence[str] = (),
    progress: Callable[[Iterable], Iterable] = iter,
) -> TokenSet:
    """Codes of all pictures at `size` pixels, and of their mirror images, in float32.

    One more of each for every one of `view_kinds` is of the picture as `prior.views.varied` changes
    it, the same ones for the same list of pictures.
    Pictures that cannot be read are left out, with a warning; ValueError if none is left.
    `progress` wraps the iterable of batch starts (a tqdm, say).
    """
    if vqgan.config.codebook_size > 2**16:
        raise ValueError(f"the codebook has {vqgan.config.codebook_size} codes: uint16 holds 65536")
    device = next(vqgan.parameters()).device
    side = size // vqgan.config.downsampling
    changes = [
        drawn(kind, len(pictures), np.random.default_rng([view, 1]))
        for view, kind in enumerate(view_kinds)
    ]
    codes = np.zeros((len(pictures), 2 + len(changes), side, side), dtype=np.uint16)
    rows: list[dict] = []
    found = dataset.wholes(pictures, size)
    for _ in progress(range(0, len(pictures), batch)):
        part = list(itertools.islice(found, batch))
        if not part:  # so many were left out
            continue
        pixels = dataset.to_tensor(np.stack([pixels for _, pixels in part])).to(device)
        here = slice(len(rows), len(rows) + len(part))
        for view in range(codes.shape[1]):
            seen = varied(pixels, changes[view - 2][here]) if view >= 2 else pixels
            seen = seen.flip(3) if view == 1 else seen
            indices = vqgan.encode(seen.contiguous(memory_format=torch.channels_last)).indices
            codes[here, view] = indices.cpu().numpy()
        rows += [_row(picture) for picture, _ in part]
    size = vqgan.config.codebook_size
    return TokenSet(codes[: len(rows)], rows, tokenizer_id, size, data, tuple(view_kinds))


def _key(row: dict) -> tuple[str | None, str | None]:
    """What names a picture of a manifest: ids repeat from set to set."""
    return row.get("set"), row.get("id")


def _row(picture: dataset.Picture) -> dict:
    known = {k: picture.row[k] for k in KEPT if k in picture.row} if picture.row else {}
    kind = "photo" if picture.photo else "icon"
    return {"kind": kind, "captions": [], **known, "split": picture.split}


def save(tokens: TokenSet, path: Path) -> None:
    """Write F.npy (codes) and F.json (captions, tokenizer id); the .json last, each in one step."""
    path = named(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        np.save(file, tokens.codes)
    card = {
        "format": FORMAT,
        "tokenizer_id": tokens.tokenizer_id,
        "codebook_size": tokens.codebook_size,
        "data": tokens.data,
        "view_kinds": tokens.view_kinds,
        "pictures": tokens.rows,
    }
    text = json.dumps(card, ensure_ascii=False) + "\n"
    write(path.with_suffix(".json"), text.encode())


def named(path: str | Path) -> Path:
    """`path`, if it can be the name of a token file."""
    path = Path(path)
    if path.suffix != ".npy":
        raise ValueError(f"{path} is no name for tokens: it must end in .npy")
    return path


def load(path: str | Path, tokenizer_id: str | None = None) -> TokenSet:
    """Read F.npy and F.json. ValueError if they are unreadable or of another tokenizer."""
    path = named(path)
    try:
        card = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        codes = np.load(path, allow_pickle=False)
        if card["format"] != FORMAT:
            raise ValueError(f"format {card['format']} is unknown")
        # Files from before there were other kinds do not name them.
        kinds = tuple(card.get("view_kinds", ["moved"] * (codes.shape[1] - 2)))
        names = ("pictures", "tokenizer_id", "codebook_size", "data")
        tokens = TokenSet(codes, *(card[name] for name in names), view_kinds=kinds)
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} and its .json are no readable tokens: {error}") from error
    if tokenizer_id is not None and tokens.tokenizer_id != tokenizer_id:
        raise ValueError(
            f"{path} was made by tokenizer {tokens.tokenizer_id[:12]}, not by {tokenizer_id[:12]}: "
            "encode the data again with python -m prior.tokens"
        )
    return tokens


def unigram_bits(train: np.ndarray, held_out: np.ndarray, codebook_size: int) -> float:
    """Bits per token of a model that knows only how often each code occurs.

    The cross-entropy of `held_out` codes under the frequencies of `train` codes (any shapes, whole
    numbers), one added to each count so that unseen codes cost a finite amount.
    """
    counts = np.bincount(train.ravel(), minlength=codebook_size) + 1.0
    return float(-np.log2(counts / counts.sum())[held_out.ravel()].mean())


if __name__ == "__main__":
    from prior.encode import main

    main()
