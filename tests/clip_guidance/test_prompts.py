"""What a visitor may write, and what it means."""

from __future__ import annotations

import pytest
import torch

from clip_guidance.prompts import MAX_CHARACTERS, Prompt, parse, spoken, targets
from tests.fakes import ColourClip


@pytest.fixture
def clip() -> ColourClip:
    return ColourClip()


def read(text: str) -> list[tuple[str, float]]:
    return [(p.text, p.weight) for p in parse(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a red apple", [("a red apple", 1)]),
        (
            "a red apple | watercolor:0.5 | text:-1",
            [("a red apple", 1), ("watercolor", 0.5), ("text", -1)],
        ),
        ("红苹果｜水彩：０．５｜文字：－１", [("红苹果", 1), ("水彩", 0.5), ("文字", -1)]),
        ("水彩：0，5", [("水彩", 0.5)]),
        ("cat, sitting:2", [("cat, sitting", 2)]),
        ("一只猫，坐着", [("一只猫,坐着", 1)]),
        ("note: a cat", [("note: a cat", 1)]),
        ("note: a cat:2", [("note: a cat", 2)]),
        ("ratio 4:3 picture", [("ratio 4:3 picture", 1)]),
        ("sad face :( ", [("sad face :(", 1)]),
        ("a cat: ", [("a cat:", 1)]),
        ("cat : + 2", [("cat", 2)]),
        ("cat:−1|dog", [("cat", -1), ("dog", 1)]),
        ("cat:.5||  |dog:1.", [("cat", 0.5), ("dog", 1)]),
        ("cat:0 | dog", [("dog", 1)]),
        ("cat:100 | dog:-100", [("cat", 100), ("dog", -100)]),
        ("at 12:30", [("at 12", 30)]),
        ("cat:1e9", [("cat:1e9", 1)]),  # no number in our notation
        ("7", [("7", 1)]),
        ("🍎", [("red apple", 1)]),
        ("🐱:2 | 👍🏽", [("cat face", 2), ("thumbs up sign", 1)]),
        ("a\nred\tapple\x00", [("a red apple", 1)]),
    ],
)
def test_a_line_is_read_as_it_is_meant(text, expected):
    assert read(text) == expected


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "empty"),
        (" \n ", "empty"),
        ("| ｜ |", "empty"),
        ("x" * 10_000, "10,000 characters"),
        (":0.5", "weight without a text"),
        (":1 | :-2", "weight without a text"),
        ("0.5 | -1", "weight without a text"),
        ("text:-1 | noise:-0.5", "0 or negative"),
        ("cat | dog:-101", "must lie in -100 to 100"),
        ("cat:0", "0 or negative"),
        ("cat:1000000", "must lie in -100 to 100"),
        ("???", "no words"),
        ("!!:2", "no words"),
        ("|".join("abcdefghijklmnopq"), "17 parts"),
    ],
)
def test_what_says_nothing_is_answered_with_a_sentence(text, sentence):
    with pytest.raises(ValueError, match=sentence):
        parse(text)


def test_the_longest_prompt_passes():
    assert len(read("x" * MAX_CHARACTERS)) == 1
    assert len(read("|".join("abcdefghijklmnop"))) == 16
    assert spoken("हिन्दी") == "हिन्दी"  # marks that words are written with stay
    assert spoken("👨‍👩‍👧 family") == "man woman girl family"


def test_targets_are_unit_vectors_with_weights_that_add_up_to_one(clip):
    found = targets(clip, parse("red:3 | blue:-1"))
    assert torch.allclose(found.embeddings.norm(dim=1), torch.ones(2))
    assert found.weights.tolist() == [0.75, -0.25]
    red, blue = clip.encode_text(["red", "blue"])
    expected = torch.nn.functional.normalize(3 * red - blue, dim=0)
    assert torch.allclose(found.condition(2), expected.expand(2, -1), atol=1e-6)
    assert torch.allclose(found.similarity(red[None]), 0.75 - 0.25 * (red @ blue))


def test_a_picture_can_be_a_prompt(clip):
    image = torch.tensor([1.0, -1, -1]).view(1, 3, 1, 1).expand(1, 3, 8, 8)
    found = targets(clip, [Prompt("blue", -1), Prompt("picture", 1, image)])
    assert torch.allclose(found.embeddings, clip.encode_text(["blue", "red"]), atol=1e-6)


def test_prompts_that_were_not_written_are_checked_as_well(clip):
    with pytest.raises(ValueError, match="must lie in -100 to 100"):
        Prompt("red", float("nan"))
    with pytest.raises(ValueError, match="0 or negative"):
        targets(clip, [Prompt("blue", -1)])


def test_prompts_that_cancel_are_answered_with_a_sentence(clip):
    with pytest.raises(ValueError, match="cancel"):
        targets(clip, parse("red | red:-1"))
