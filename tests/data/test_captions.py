"""Names to code points to captions, on a hand-made emojibase folder."""

import json
from pathlib import Path

import pytest

from data.captions import EmojiTable, captions_of, clipart_title, name_key, normal_code
from data.sources import Picture


@pytest.fixture
def table(tmp_path) -> EmojiTable:
    write(
        tmp_path / "en/data.json",
        [
            {"hexcode": "1F34E", "label": "red apple", "tags": ["fruit", "red"]},
            {"hexcode": "1F1E7-1F1E6", "label": "flag: Bosnia & Herzegovina", "tags": ["flag"]},
            {"hexcode": "0035-FE0F-20E3", "label": "keycap: 5"},
        ],
    )
    write(
        tmp_path / "zh/data.json",
        [{"hexcode": "1F34E", "label": "红苹果", "tags": ["水果", "红苹果"]}],
    )
    write(tmp_path / "en/shortcodes/github.json", {"1F34E": "apple", "1F1E7-1F1E6": ["ba"]})
    write(tmp_path / "chars.json", {"35-fe0f-20e3": "keycap-5", "1f34e": "the-red-one"})
    return EmojiTable.load(tmp_path, [tmp_path / "chars.json"])


def write(file: Path, content) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content), encoding="utf-8")


def picture(kind="icon", name="red apple", folder="") -> Picture:
    return Picture("s", "x", kind, name, "MIT", "A", "p@1", svg="<svg/>", folder=folder)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("red-apple", "1f34e"),  # emojibase's label
        ("the red one", "1f34e"),  # chars.json
        ("apple", "1f34e"),  # a short code
        ("flag-for-bosnia-and-herzegovina", "1f1e7-1f1e6"),  # emojione's spelling
        ("digit-five", "35-20e3"),  # renamed since
        ("ba", None),  # short codes of two letters are too ambiguous
        ("no such thing", None),
    ],
)
def test_code(table, name, code):
    assert table.code(name) == code


def test_variation_selectors_and_case_do_not_matter():
    assert normal_code("2764-FE0F-200D-1F525") == "2764-200d-1f525"
    assert name_key("São Tomé & Príncipe’s") == "sao-tome-principes"


def test_icon_captions_are_english_and_chinese_without_repeats(table):
    english, chinese = captions_of(picture(), "1f34e", table)
    assert english == ["red apple", "fruit", "red"]
    assert chinese == ["红苹果", "水果"]


def test_clipart_captions_end_with_the_folders(table):
    clip = picture("clipart", "pear_jean-victor_balin_01", "food/fruit_bowl")
    assert captions_of(clip, None, table) == (["pear", "fruit bowl", "food"], [])
    card = picture("clipart", "simple_h_8", "recreation/games/cards")
    assert captions_of(card, None, table)[0][0] == "8 of hearts", "as its name in the manifest"


@pytest.mark.parametrize(
    ("stem", "folder", "title"),
    [
        ("lightbulb_jon_phillips_02", "", "lightbulb"),
        ("cigni_bianchi_architetto_fra", "", "cigni bianchi"),  # the artist, cut short
        ("architetto_01", "", "architetto"),  # never empty
        ("cone_r_03", "", "cone"),
        ("area_51", "", "area"),
        ("simple_h_q", "recreation/games/cards/simple", "queen of hearts"),
        ("simple_h_10", "recreation/games/cards/simple", "10 of hearts"),
        ("simple_h_q", "shapes", "simple"),
    ],
)
def test_clipart_title(stem, folder, title):
    assert clipart_title(stem, folder) == title
