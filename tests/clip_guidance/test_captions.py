import numpy as np
import pytest

from clip_guidance.captions import COLOURS, article, coloured, main_colour, phrases, phrases_zh


def flat(rgb, size=32):
    """A square of one colour on white."""
    pixels = np.full((size, size, 3), 255, np.uint8)
    pixels[8:24, 8:24] = rgb
    return pixels


@pytest.mark.parametrize(
    ("rgb", "name"),
    [
        ((220, 30, 40), "red"),
        ((255, 130, 20), "orange"),
        ((255, 205, 50), "yellow"),
        ((60, 170, 70), "green"),
        ((40, 90, 220), "blue"),
        ((120, 80, 200), "purple"),
        ((250, 130, 180), "pink"),
        ((255, 170, 170), "pink"),
        ((120, 70, 30), "brown"),
        ((15, 15, 20), "black"),
        ((128, 130, 128), "grey"),
    ],
)
def test_colour(rgb, name):
    assert main_colour(flat(rgb)) == name
    assert name in COLOURS


def test_the_mask_says_what_is_drawn():
    pixels, mask = flat((255, 255, 255)), np.zeros((32, 32), np.uint8)
    assert main_colour(pixels) is None  # nothing drawn
    mask[8:24, 8:24] = 255
    assert main_colour(pixels, mask) == "white"


def test_no_colour_where_none_rules():
    pixels = flat((220, 30, 40))
    pixels[8:24, 8:13], pixels[8:24, 13:18] = (40, 90, 220), (60, 170, 70)
    assert main_colour(pixels) is None


def test_article():
    assert [article(x) for x in ("apple", "red apple", "the end", "8 of hearts")] == [
        "an apple",
        "a red apple",
        "the end",
        "8 of hearts",
    ]


def test_a_name_with_a_colour_keeps_it():
    assert coloured("green apple", "red") == "green apple"
    assert coloured("evergreen", "green") == "green evergreen"
    assert coloured("apple", None) == "apple"


def test_phrases():
    assert phrases(["frog", "animal", "frog face"], "green") == [
        "frog",
        "a frog",
        "a green frog",
        "a drawing of a green frog",
        "frog, animal, frog face",
        "green frog",
    ]
    assert phrases(["frog", "happy frog"], "green")[-1] == "green happy frog"
    assert len(phrases(["frog"])) == 6


def test_chinese_phrases():
    assert phrases_zh(["苹果", "水果"], "red") == ["苹果", "一个苹果", "红色的苹果", "水果"]
    assert phrases_zh(["红苹果"], "red")[2] == "红苹果"
    assert phrases_zh([], "red") == []
