"""The text tower's corpus with its vectors: `python -m clip_guidance.texts`.

Writes OUT.json (the texts) and OUT.npy ((N, 384) fp16: where each belongs in the sentence encoder's
space) for `python -m clip_guidance.train_text`.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
from tqdm import tqdm

from clip_guidance import corpus
from clip_guidance.captions import captioned, phrase_vectors
from clip_guidance.teacher import Teacher
from training import flags
from training.files import replacing, writable, write
from training.precision import autocast
from vqgan import dataset

log = logging.getLogger(__name__)


def embed(texts: list[str], known: dict[str, np.ndarray]) -> np.ndarray:
    """(N, 384) float32: known vectors, and the encoder's for the rest."""
    new = [text for text in texts if text not in known]
    log.info("%d texts, %d to encode", len(texts), len(new))
    with autocast("cpu"):
        found = Teacher().encode(new, progress=lambda it: tqdm(it, unit="batch"))
    vectors = dict(zip(new, found, strict=True)) | known
    return np.array([vectors[text] for text in texts], np.float32)


def load(path: Path) -> tuple[list[str], np.ndarray]:
    """Texts and their vectors (N, E) float32. ValueError if they are not there or do not fit."""
    try:
        texts = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["texts"]
        vectors = np.load(path.with_suffix(".npy"), allow_pickle=False)
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no corpus made by clip_guidance.texts: {error}") from error
    if vectors.ndim != 2 or len(texts) != len(vectors):
        raise ValueError(f"{path}: {len(texts)} texts and vectors of shape {vectors.shape}")
    return texts, vectors.astype(np.float32)


def read_words(path: Path) -> dict:
    """What `data.words` wrote. ValueError for another file."""
    try:
        words = json.loads(path.read_text(encoding="utf-8"))
        pairs = [*words["nouns"], *words["characters"]]
        if not words["sources"] or any(not isinstance(t, str) for a, b in pairs for t in (a, b)):
            raise ValueError("it does not hold pairs of words")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no words.json made by data.words: {error}") from error
    return words


def main(argv: list[str] | None = None) -> None:
    p = flags.Parser(prog="python -m clip_guidance.texts", description=__doc__)
    p.add_argument("--data", required=True, type=Path, help="folder made by data.build")
    p.add_argument("--words", required=True, type=Path, help="words.json made by data.words")
    p.add_argument("--phrases", type=Path, help=".npy by clip_guidance.conditions, to save time")
    p.add_argument("--out", required=True, type=Path, help="name of the .json and .npy to write")
    p.add_argument("--made-up", type=int, default=12_000, help="scenes (%(default)s)")
    p.add_argument("--seed", type=int, default=0)
    args = p.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        writable(args.out.with_suffix(".json"))
        rows, words = captioned(dataset.scan(args.data)), read_words(args.words)
        made = corpus.build(rows, words, args.made_up, args.seed)
        known = corpus.known_vectors(rows, phrase_vectors(args.phrases)) if args.phrases else {}
        vectors = made.vectors(embed(list(made.english), known))
        content = {"texts": made.texts(), "sources": words["sources"], "seed": args.seed}
        write(args.out.with_suffix(".json"), json.dumps(content, ensure_ascii=False).encode())
        with replacing(args.out.with_suffix(".npy")) as file:
            np.save(file, vectors.astype(np.float16))
    except (ValueError, OSError) as error:
        flags.fail(error)
    print(f"{args.out}: {len(made.english)} English and {len(made.chinese)} Chinese texts")


if __name__ == "__main__":
    main()
