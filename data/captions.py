"""Names, labels and tags of a picture, English and Chinese, from emojibase-data and chars.json."""

import json
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from data.sources import Picture

_DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
# Icon names of older sets that neither chars.json nor emojibase know, by their CLDR name.
RENAMED = {
    "asterisk": "keycap-asterisk",
    "pound-symbol": "keycap-hash",
    "exclamation-mark": "red-exclamation-mark",
    "question-mark": "red-question-mark",
    "a-button": "a-button-blood-type",
    "ab-button": "ab-button-blood-type",
    "b-button": "b-button-blood-type",
    "o-button": "o-button-blood-type",
    "up-text-button": "up-button",
    "cat-face-with-tears-of-joy": "cat-with-tears-of-joy",
    "cat-face-with-wry-smile": "cat-with-wry-smile",
    "grinning-cat-face": "grinning-cat",
    "grinning-cat-face-with-smiling-eyes": "grinning-cat-with-smiling-eyes",
    "kissing-cat-face": "kissing-cat",
    "pouting-cat-face": "pouting-cat",
    "smiling-cat-face-with-heart-eyes": "smiling-cat-with-heart-eyes",
    "weary-cat-face": "weary-cat",
    "heavy-large-circle": "hollow-red-circle",
    "laptop-computer": "laptop",
    "white-heavy-check-mark": "check-mark-button",
    "flag-for-chequered-flag": "chequered-flag",
    "flag-for-crossed-flags": "crossed-flags",
    "flag-for-triangular-flag": "triangular-flag",
    "flag-for-black-flag": "black-flag",
    "flag-for-white-flag": "white-flag",
    "flag-for-rainbow-flag": "rainbow-flag",
    "flag-for-macedonia": "flag-north-macedonia",
    "flag-for-swaziland": "flag-eswatini",
    "flag-for-turkey": "flag-turkiye",
    "flag-for-myanmar": "flag-myanmar-burma",
    "flag-for-macau-sar-china": "flag-macao-sar-china",
    **{f"digit-{word}": f"keycap-{digit}" for digit, word in enumerate(_DIGITS)},
}
# Clip-art file names end in the artist, often cut short ("lightbulb_architetto_fra").
ARTISTS = [
    "aj ashton",
    "anthony liekens",
    "architetto francesco rollandin",
    "ben clement",
    "benji park",
    "boyer",
    "chris brill",
    "christoph brill",
    "dan gerhards",
    "dave pena",
    "dirk struve",
    "enrique meza c",
    "frouke",
    "fudriot omic ch",
    "ganson",
    "gerald g",
    "h0us3s",
    "jarno vasamaa",
    "jean victor balin",
    "jon phillips",
    "jonadab",
    "jonathan dietrich",
    "juliane krug",
    "linda kim",
    "machovka",
    "mateya",
    "mimooh",
    "nathan eady",
    "nicu buculei",
    "olivo",
    "peterm",
    "romus",
    "ryan lerch",
    "sergio luiz araujo",
    "stefan bazelkov",
    "susan park",
    "vasamaa",
    "yves guillou",
    "zazou",
    "buculei",
    "jp draws",
]


@dataclass(frozen=True)
class Emoji:
    """What emojibase knows of one code-point sequence."""

    label: str
    tags: tuple[str, ...]
    label_zh: str
    tags_zh: tuple[str, ...]


class EmojiTable:
    """Looks up code points by icon name, and labels by code points."""

    def __init__(self, by_code: dict[str, Emoji], code_of: dict[str, str]):
        self.by_code = by_code  # normal_code -> Emoji
        self.code_of = code_of  # name_key -> normal_code

    @classmethod
    def load(cls, emojibase: Path, chars_files: list[Path]) -> "EmojiTable":
        """Read the unpacked emojibase-data package and the chars.json of some icon sets.

        chars.json names come first, then emojibase's labels, then its short codes.
        """
        english = _read(emojibase / "en/data.json")
        chinese = {entry["hexcode"]: entry for entry in _read(emojibase / "zh/data.json")}
        by_code: dict[str, Emoji] = {}
        code_of: dict[str, str] = {}
        for file in chars_files:
            for code, name in sorted(_read(file).items()):
                code_of.setdefault(name_key(name), normal_code(code))
        for entry in english:
            code = normal_code(entry["hexcode"])
            zh = chinese.get(entry["hexcode"], {})
            by_code[code] = Emoji(
                entry["label"],
                tuple(entry.get("tags", ())),
                zh.get("label", ""),
                tuple(zh.get("tags", ())),
            )
            code_of.setdefault(name_key(entry["label"]), code)
        for file in sorted((emojibase / "en/shortcodes").glob("*.json")):
            for hexcode, names in _read(file).items():
                for name in [names] if isinstance(names, str) else names:
                    if normal_code(hexcode) in by_code and len(name) > 2:
                        code_of.setdefault(name_key(name), normal_code(hexcode))
        return cls(by_code, code_of)

    def code(self, name: str) -> str | None:
        """Code points ("1f468-200d-1f373", no variation selectors) of an icon name, or None."""
        key = name_key(name)
        key = RENAMED.get(key, key)
        flag = re.sub(r"^flag-for-(flag-)?", "flag-", key)
        for candidate in (key, flag, flag.replace("-and-", "-")):
            if candidate in self.code_of:
                return self.code_of[candidate]
        return None


def _read(file: Path):
    return json.loads(file.read_text(encoding="utf-8"))


def normal_code(hexcode: str) -> str:
    """Lower-case code points joined by `-`, without variation selectors."""
    return "-".join(p for p in re.split(r"[-_ ]", hexcode.lower()) if p not in ("fe0f", "fe0e"))


def name_key(name: str) -> str:
    """A name as iconify spells it: ASCII, lower case, words joined by `-`; "&" is dropped."""
    text = unicodedata.normalize("NFKD", name.replace("’", "").replace("'", ""))
    text = text.encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", text).strip("-")


_SUITS = {"c": "clubs", "d": "diamonds", "h": "hearts", "s": "spades"}
_RANKS = {"a": "ace", "j": "jack", "q": "queen", "k": "king"}


def clipart_title(stem: str, folder: str = "") -> str:
    """Title words of a clip-art file name, without artist, trailing numbers and lone letters.

    Playing cards ("simple_h_8") are spelled out: "8 of hearts".
    """
    card = re.fullmatch(r"\w+?_([cdhs])_(\w+)", stem)
    if card and "cards" in folder:
        return f"{_RANKS.get(card[2], card[2])} of {_SUITS[card[1]]}"
    words = [w for w in re.split(r"[^a-z0-9]+", stem.lower()) if w]
    for start in range(1, len(words)):
        tail = " ".join(words[start:])
        bare = " ".join(w for w in words[start:] if not w.isdigit())
        if any(
            (len(bare) >= 4 and artist.startswith(bare)) or tail.startswith(f"{artist} ")
            for artist in ARTISTS
        ):
            words = words[:start]
            break
    while len(words) > 1 and (words[-1].isdigit() or len(words[-1]) == 1):
        words.pop()
    return " ".join(words)


def captions_of(picture: Picture, code: str | None, table: EmojiTable) -> tuple[list, list]:
    """(English, Chinese) captions, the best first and none twice; Chinese may be empty."""
    if picture.kind == "clipart":
        english = [clipart_title(picture.name, picture.folder)]
        english += [part.replace("_", " ") for part in reversed(picture.folder.split("/"))]
    else:
        english = [picture.name]
    chinese: list[str] = []
    emoji = table.by_code.get(code or "")
    if emoji:
        english += [emoji.label, *emoji.tags]
        chinese = [emoji.label_zh, *emoji.tags_zh]
    return _unique(english), _unique(chinese)


def _unique(texts: list[str]) -> list[str]:
    return list(dict.fromkeys(text.strip() for text in texts if text and text.strip()))
