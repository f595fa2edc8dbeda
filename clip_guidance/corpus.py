"""The sentences that CLIP's text tower learns from, and what each should mean.

English ones mean what the sentence encoder says. It knows no Chinese, so a Chinese one means its
English label; a tag that several things share ("水果") means the mean of their labels. Captions of
held-out pictures stay out: what the tower knows of them it has from WordNet and Unihan alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from clip_guidance.captions import COLOURS_ZH, article, phrases

FREE = (0, 1, 4)  # columns of `phrases` that do not depend on a picture's colour
TEMPLATES = (
    "{a}",
    "{a} and {b}",
    "a drawing of {a}",
    "{a} on {b}",
    "{a} with {b}",
    "an icon of {a}",
)
ADJECTIVES = "big little old happy sad round striped sleepy angry wooden shiny cute broken".split()
# GB 2312 level 1: the 3,755 most common characters lie below this byte.
COMMON = 0xD8


@dataclass
class Corpus:
    """English texts, and Chinese ones with the indices of the English ones they mean."""

    english: dict[str, int] = field(default_factory=dict)  # text -> index
    chinese: dict[str, list[int]] = field(default_factory=dict)

    def add(self, text: str) -> int:
        return self.english.setdefault(text, len(self.english))

    def texts(self) -> list[str]:
        return [*self.english, *self.chinese]

    def vectors(self, english: np.ndarray) -> np.ndarray:
        """(len(english), E) -> (len(texts), E) of unit length, float32."""
        means = [english[rows].mean(0) for rows in self.chinese.values()]
        found = np.concatenate([english, np.array(means).reshape(-1, english.shape[1])])
        return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def build(rows: Sequence[dict], words: dict, made_up: int, seed: int) -> Corpus:
    """Captions of training rows, WordNet's senses, Unihan's glosses, `made_up` scenes."""
    corpus, rng = Corpus(), np.random.default_rng(seed)
    train = [row for row in rows if row["split"] == "train"]
    for row in train:
        for column in FREE:
            corpus.add(phrases(row["captions"])[column])
        for tag in row["captions"][1:]:
            corpus.add(tag)
    names = list(dict.fromkeys(r["captions"][0] for r in train if r["kind"] == "icon"))
    lemmas = list(dict.fromkeys(lemma for lemma, _ in words["nouns"]))
    for lemma, definition in words["nouns"]:
        corpus.add(lemma)
        if definition and rng.random() < 0.3:
            corpus.add(f"{lemma}: {definition}" if rng.random() < 0.5 else definition)
    scenes(corpus, names, lemmas, made_up, rng)
    chinese(corpus, train, words["characters"], rng)
    return corpus


def scenes(
    corpus: Corpus, names: list[str], lemmas: list[str], count: int, rng: np.random.Generator
) -> None:
    """Add `count` sentences about coloured things, one or two at a time."""
    colours = list(COLOURS_ZH)

    def thing() -> str:
        pool = names if rng.random() < 0.6 else lemmas
        name = pool[rng.integers(len(pool))]
        draw = rng.random()
        if draw < 0.6:
            name = f"{colours[rng.integers(len(colours))]} {name}"
        elif draw < 0.75:
            name = f"{ADJECTIVES[rng.integers(len(ADJECTIVES))]} {name}"
        return article(name)

    for _ in range(count):
        template = TEMPLATES[0] if rng.random() < 0.5 else TEMPLATES[rng.integers(len(TEMPLATES))]
        corpus.add(template.format(a=thing(), b=thing()))


def chinese(
    corpus: Corpus, train: Sequence[dict], characters: Sequence, rng: np.random.Generator
) -> None:
    """Add labels, tags, coloured labels and single characters in Chinese."""
    labels: dict[str, list[int]] = {}
    tags: dict[str, list[int]] = {}
    for row in train:
        if row.get("captions_zh"):
            name = corpus.add(row["captions"][0])
            labels.setdefault(row["captions_zh"][0], []).append(name)
            for tag in row["captions_zh"][1:]:
                tags.setdefault(tag, []).append(name)
    for character, gloss in characters:
        if common(character):
            corpus.chinese[character] = [corpus.add(gloss)]
    corpus.chinese |= {text: sorted(set(found)) for text, found in tags.items()}
    corpus.chinese |= {text: sorted(set(found)) for text, found in labels.items()}
    english = list(corpus.english)
    for label, found in labels.items():
        name = english[found[0]]
        corpus.chinese[f"一个{label}"] = [corpus.add(article(name))]
        for colour in rng.permutation(list(COLOURS_ZH))[:2]:
            meant = corpus.add(article(f"{colour} {name}"))
            joined = "的" if rng.random() < 0.7 else ""
            corpus.chinese[f"{COLOURS_ZH[colour]}{joined}{label}"] = [meant]
    for colour, word in COLOURS_ZH.items():
        for text in (word, word[0]):
            corpus.chinese[text] = [corpus.add(colour)]


def common(character: str) -> bool:
    """Whether a Chinese character is among the 3,755 most common ones."""
    try:
        return character.encode("gb2312")[0] < COMMON
    except UnicodeEncodeError:
        return False


def known_vectors(rows: Sequence[dict], phrase_vectors: np.ndarray) -> dict[str, np.ndarray]:
    """Vectors that `clip_guidance.conditions` has computed already, by text.

    ValueError unless they are of all the rows.
    """
    if len(phrase_vectors) != len(rows):
        raise ValueError(
            f"the phrases are of {len(phrase_vectors)} pictures and the data has {len(rows)}: "
            "take those that cannot be read out of its manifest.jsonl"
        )
    return {
        phrases(row["captions"])[column]: phrase_vectors[i, column]
        for (i, row), column in itertools.product(enumerate(rows), FREE)
    }
