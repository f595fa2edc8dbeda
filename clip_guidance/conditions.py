"""Conditions to train a prior with: `python -m clip_guidance.conditions`.

One row P for each picture in a file of tokens, which leaves out those that cannot be read.
Without a CLIP: the sentence encoder's embeddings of each picture's six English phrases,
(P, 6, 384) fp16. With `--bundle B`, in the space of that bundle's CLIP, what a visitor's prompt
goes through: (P, 12, E), six English phrases, three Chinese ones (English again where there are
none), the picture itself, and the picture mixed evenly with two of its phrases.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

import checkpoints
from clip_guidance.captions import captioned, main_colour, phrases, phrases_zh
from clip_guidance.model import Clip
from clip_guidance.teacher import Teacher
from prior import tokens
from training import flags
from training.files import replacing, writable
from vqgan import dataset


def colour_of(picture: dataset.Picture) -> str | None:
    """The main colour of a drawing; photographs have none."""
    if picture.photo:
        return None
    mask = dataset.read(picture.mask, "L") if picture.mask else None
    return main_colour(dataset.read(picture.path), mask)


def texts_of(pictures: list[dataset.Picture]) -> tuple[list[list[str]], list[list[str]]]:
    """Each picture's six English and up to five Chinese phrases, its colour measured.

    ValueError for a picture without captions.
    """
    english, chinese = [], []
    rows = captioned(pictures)
    for picture, row in zip(tqdm(pictures, unit="picture", desc="colours"), rows, strict=True):
        colour = colour_of(picture)
        english.append(phrases(row["captions"], colour))
        chinese.append(phrases_zh(row.get("captions_zh", []), colour))
    return english, chinese


def embed(texts: list[list[str]], encode: Callable[[list[str]], np.ndarray]) -> np.ndarray:
    """(P, M, E) float32 of P lists of M texts; each different text is encoded once."""
    flat = sorted({text for some in texts for text in some})
    place = {text: i for i, text in enumerate(flat)}
    return encode(flat)[np.array([[place[text] for text in some] for some in texts])]


def by_teacher(pictures: list[dataset.Picture]) -> np.ndarray:
    """(P, 6, 384) float32, unit length: the sentence encoder's view of the English phrases."""
    teacher = Teacher()
    english, _ = texts_of(pictures)
    return embed(english, lambda flat: teacher.encode(flat, progress=_bar("texts")))


@torch.inference_mode()
def by_clip(pictures: list[dataset.Picture], clip: Clip, size: int) -> np.ndarray:
    """(P, 12, E) float32, unit length, from a CLIP's own two towers; pictures at `size` px."""

    def texts(flat: list[str]) -> np.ndarray:
        parts = [flat[i : i + 256] for i in range(0, len(flat), 256)]
        return np.concatenate([clip.encode_text(part).numpy() for part in _bar("texts")(parts)])

    english, chinese = texts_of(pictures)
    # Name, colour + name, and a further label; where there is no Chinese, English stands in.
    chinese = [
        [zh[0], zh[2], zh[-1]] if zh else [en[0], en[2], en[3]]
        for en, zh in zip(english, chinese, strict=True)
    ]
    words = embed([en + zh for en, zh in zip(english, chinese, strict=True)], texts)
    seen = []
    for start in _bar("pictures")(range(0, len(pictures), 32)):
        pixels = np.stack([dataset.whole(p, size) for p in pictures[start : start + 32]])
        seen.append(clip.encode_image(dataset.to_tensor(pixels)).numpy())
    images = np.concatenate(seen)[:, None]
    mixed = images + words[:, [2, 5]]  # "a" colour name, and the second name
    mixed /= np.linalg.norm(mixed, axis=-1, keepdims=True)
    return np.concatenate([words, images, mixed], 1)


def _bar(name: str) -> Callable:
    return lambda it: tqdm(it, unit="batch", desc=name)


def main(argv: list[str] | None = None) -> None:
    p = flags.Parser(prog="python -m clip_guidance.conditions", description=__doc__)
    p.add_argument("--tokens", required=True, type=Path, help="F.npy made by prior.tokens")
    p.add_argument("--data", required=True, help="the folder that the tokens were made from")
    p.add_argument("--out", required=True, type=Path, help="the .npy to write")
    p.add_argument("--bundle", help="use this bundle's CLIP instead of the sentence encoder")
    args = p.parse_args(argv)
    try:
        out = writable(args.out, ".npy")
        pictures = tokens.load(args.tokens).pictures(dataset.scan(args.data))
        if args.bundle:
            bundle = checkpoints.load(args.bundle)
            if bundle.clip is None:
                raise ValueError(f"bundle {bundle.name} holds no CLIP: train one, or leave it out")
            found = by_clip(pictures, bundle.clip, bundle.vqgan.config.resolution)
        else:
            found = by_teacher(pictures)
        with replacing(out) as file:
            np.save(file, found.astype(np.float16))
    except (ValueError, OSError) as error:
        flags.fail(error)
    print(f"{args.out}: {found.shape[0]} pictures, {found.shape[1]} conditions each")


if __name__ == "__main__":
    main()
