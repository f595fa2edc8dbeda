"""The CLIP in this checkout: it knows held-out drawings better than chance, and some Chinese."""

from __future__ import annotations

import pytest
import torch

import checkpoints
from bench.clip import look
from clip_guidance.image_task import recalls
from vqgan import dataset


@pytest.fixture(scope="module")
def clip():
    return checkpoints.load().clip


def test_it_names_held_out_drawings(clip, fixtures):
    """The fixtures are drawings of held-out concepts; guessing names one in six at ten tries."""
    pictures = [p for p in dataset.scan(fixtures) if not p.photo and p.row["kind"] == "icon"]
    names = [p.row["captions"][0] for p in pictures]
    figures = recalls(
        look(clip, pictures), clip.encode_text(names), [p.row["concept"] for p in pictures]
    )
    guess = 5 / len(set(names))
    assert figures["name@5"] > 2 * guess and figures["find@5"] > 2 * guess


def test_it_reads_english_and_chinese(clip):
    english = ["a red apple", "a black cat", "the sun", "a dog", "a car", "a flower"]
    chinese = ["红苹果", "黑猫", "太阳", "狗", "汽车", "花"]
    with torch.no_grad():
        scores = clip.encode_text(chinese) @ clip.encode_text(english).T
    assert (scores.argmax(1) == torch.arange(6)).float().mean() >= 5 / 6
