"""Groups pictures into concepts, splits concepts into train and val, and finds near twins."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from data.captions import EmojiTable, name_key

# Of the concepts; of the pictures it is less, some 3 %: large families stay in train and concepts
# with near twins go there.
VAL_SHARE = 0.05
# There are some forty photographs only. Held out are this many of those under the freest licences,
# so that fixtures and figures can be cut from held-out photographs.
VAL_PHOTOS = 4
OPEN_LICENCES = ("CC0-1.0", "CC-BY-4.0")
# A concept with more drawings than this goes to train: one family such as the country flags
# (some 258 drawings in each of six sets) would be most of the val split. It is about 0.25 % of
# the whole set, several times the 6 or 7 drawings of a usual concept.
MAX_VAL_PICTURES = 40

# --- concepts -------------------------------------------------------------------------------------

_TONES = {f"1f3f{x}" for x in "bcdef"}
_HAIR = {f"1f9b{x}" for x in "0123"}
_PERSON = "1f9d1"
_DROPPED = _TONES | {"fe0f", "fe0e"}
# Suffixes after a zero-width joiner that only vary a person: gender sign, hair, direction.
_VARIANTS = {"2640", "2642", "27a1"} | _HAIR


def _codes(text: str) -> set[str]:
    """ "1f311-1f318 2b1b" -> the set of those single code points, ranges spelled out."""
    found = set()
    for part in text.split():
        first, _, last = part.partition("..")
        found |= {f"{c:x}" for c in range(int(first, 16), int(last or first, 16) + 1)}
    return found


_FAMILIES = {
    name: _codes(codes)
    for name, codes in {
        "person": "1f466..1f469 1f474..1f476 1f9d1..1f9d4 1f471 1f9b0..1f9b3 1f464 1f465 1f9cd",
        "family": "1f46a",
        "couple": "1f46b..1f46d",
        "pregnant person": "1f930 1fac3 1fac4",
        "prince": "1f934 1f478 1fac5",
        "santa claus": "1f385 1f936",
        "dancer": "1f483 1f57a",
        "clock": "1f550..1f567",
        "moon phase": "1f311..1f318",
        "globe": "1f30d..1f310",
        "heart": "2764 1f499..1f49c 1f5a4 1f90d 1f90e 1f9e1 1fa75..1fa77 2665",
        "square": "1f7e5..1f7eb 2b1b 2b1c 25aa 25ab 25fb..25fe 1f532 1f533",
        "circle": "1f7e0..1f7e4 1f534 1f535 26aa 26ab 2b55",
        "diamond": "1f536..1f539 1f4a0",
        "triangle": "1f53a 1f53b",
        "book": "1f4d5 1f4d7..1f4d9",
        "zodiac": "2648..2653 26ce",
        "arrow": "27a1 2b05..2b07 2194..2199 21a9 21aa 2934 2935 1f503 1f504",
        "arrow text": "1f519..1f51d",
        "media button": "25b6 25c0 23e9..23ef 23f8..23fa 1f53c 1f53d",
        "card suit": "2660 2663 2666",
        "mailbox": "1f4ea..1f4ed",
        "speaker": "1f507..1f50a",
        "lock": "1f50f..1f513",
        "pointing hand": "1f446..1f449 261d 1faf5",
        "pushing hand": "1faf7 1faf8",
        "leading hand": "1faf1 1faf2",
        "thumb": "1f44d 1f44e",
        "fist": "1f91b 1f91c 1f44a",
        "blood type": "1f170 1f171 1f17e 1f18e",
        "japanese button": "1f201 1f202 1f21a 1f22f 1f232..1f23a 1f250 1f251 3297 3299",
        "word button": "1f191..1f19a 1f520..1f524",
        "medal": "1f947..1f949 1f3c5",
        "flag": "1f3f3 1f3f4",
        "letter": "1f1e6..1f1ff",
        "monkey gesture": "1f648..1f64a",
        "water pistol": "1f52b",
        "snowman": "2603 26c4",
        "hourglass": "231b 23f3",
    }.items()
}
_FAMILY_OF = {code: name for name, codes in _FAMILIES.items() for code in codes}
_KEYS = _codes("23 2a 30..39")
_REGIONAL, _PEOPLE = _FAMILIES["letter"], _FAMILIES["person"]

_FOLDERS = (  # clip-art folders whose pictures are all one thing
    ("signs_and_symbols/flags/semaphore", "semaphore flag"),
    ("signs_and_symbols/flags", "flag"),
    ("recreation/games/cards", "playing card"),
    ("recreation/games/chess", "chess piece"),
    ("shapes/stars", "star shape"),
    ("shapes/jigsaw", "jigsaw"),
    ("shapes/arrows", "arrow"),
    ("shapes/callouts", "callout"),
    ("shapes/flowchart", "flowchart"),
    ("signs_and_symbols/led", "led"),
    ("signs_and_symbols/clocks", "clock"),
    ("people/stickmen", "stick figure"),
    ("computer/folders", "folder"),
)
_STOP = re.compile(
    r"a|an|the|of|with|and|in|on|at|for|by|to|or|icon|symbol|sign|button|simple|shaded|"
    r"outline|bw|bwh|black|white|small|large|big|mini|new|remix|clip|art|image|picture|"
    r"silhouette|color|colour|colored|coloured|version|vector|drawing|male|female"
)


def family_of(codepoints: str) -> str:
    """The family a code-point sequence belongs to: a name ("clock") or the bare code points.

    Skin tones, gender (signs and man / woman / person / boy / girl), hair and direction are
    stripped, so that every artist is one family; clock hours, country flags, keycaps and the
    like are one family each.
    """
    codes = [c for c in codepoints.lower().split("-") if c not in _DROPPED]
    if "20e3" in codes or codepoints in _KEYS:
        return "keycap"
    if len(codes) > 1 and codes[0] in _REGIONAL:
        return "flag"
    groups = [g for g in " ".join(codes).replace("200d", "|").split("|") if g.strip()]
    parts = [g.split()[0] for g in groups]
    if parts[0] in _FAMILIES["flag"]:  # with a suffix: rainbow, pirate, England ...
        return "flag"
    parts = [parts[0], *(p for p in parts[1:] if p not in _VARIANTS)]
    people = [p for p in parts if p in _PEOPLE]
    if len(people) > 1:
        if "1f48b" in parts:
            return "1f48f"  # kiss
        if "2764" in parts:
            return "1f491"  # couple with heart
        return "couple" if "1f91d" in parts else "family"
    if len(parts) > 1 and parts[0] in _PEOPLE:
        special = {"1f384": "santa claus", "1f430": "1f46f"}.get(parts[1])
        return special or "-200d-".join((_PERSON, *parts[1:]))
    if len(parts) == 1:
        return _FAMILY_OF.get(parts[0], parts[0])
    return "-200d-".join(parts)


def normal_title(title: str) -> str:
    """Lower case, no digits, stop words or lone letters, plain singulars; never empty."""
    words = [w for w in re.split(r"[^a-z]+", name_key(title)) if w]
    kept = [_singular(w) for w in words if not _STOP.fullmatch(w) and len(w) > 1]
    return " ".join(kept) or " ".join(words) or name_key(title) or title


def _singular(word: str) -> str:
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and re.search(r"(s|x|z|ch|sh)es$", word):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def concept_of(code: str | None, title: str, folder: str, table: EmojiTable) -> str:
    """The concept of one picture: code-point family if it has one, else its folder or title."""
    for prefix, concept in _FOLDERS:
        if folder.startswith(prefix):
            return concept
    code = code or table.code(title)
    if code is None:
        title = normal_title(title)
        code = table.code(title)
        if code is None:
            return title
    family = family_of(code)
    emoji = table.by_code.get(family)
    if emoji is None:  # a family's name, or code points too new for emojibase
        return family if family in _FAMILIES or family == "keycap" else normal_title(title)
    # "dog face" and "dog" are one thing to draw; "grinning face" without "face" is unharmed by it.
    return re.sub(r"(?<=\w) face$", "", normal_title(emoji.label))


# --- split ----------------------------------------------------------------------------------------


def split_concepts(counts: Mapping[str, int], seed: int) -> dict[str, str]:
    """concept -> "train" | "val", from its number of pictures.

    The hash of seed and concept decides, so a concept falls the same way whatever else is built.
    """
    return {
        concept: "val"
        if count <= MAX_VAL_PICTURES and hash_unit(seed, concept) < VAL_SHARE
        else "train"
        for concept, count in counts.items()
    }


def split_photos(licences: Mapping[str, str], seed: int) -> dict[str, str]:
    """concept -> "train" | "val" for photographs, one concept each, from their licences."""
    freest = [concept for concept, licence in licences.items() if licence in OPEN_LICENCES]
    freest.sort(key=lambda concept: hash_unit(seed, concept))
    return dict.fromkeys(licences, "train") | dict.fromkeys(freest[:VAL_PHOTOS], "val")


def hash_unit(seed: int, text: str) -> float:
    """A number in [0, 1) that depends on `seed` and `text` only."""
    return int.from_bytes(sha256(f"{seed}:{text}".encode()).digest()[:8], "big") / 2**64


# --- near twins -----------------------------------------------------------------------------------

INK_SIDE = 16  # pixels a side of the ink thumbnails
EDGE_SIDE = 32  # pixels a side of the grey thumbnails whose gradients are compared
# Limits of the relative distance |a - b|^2 / (|a| |b|), chosen by eye on some 300 pairs around
# them. Close ink alone is a twin (two yellow faces that differ in the mouth); close gradients
# make one of the same drawing in another colour; registered and copyright sign lie at the edge.
INK_TWIN = 0.05
EDGE_TWIN, EDGE_TWIN_INK = 0.5, 0.3


@dataclass(frozen=True)
class Twin:
    """A val picture and the train picture that nearly equals it (indices into the arrays)."""

    val: int
    train: int
    distance: float  # of the ink


@dataclass(frozen=True)
class Looks:
    """What is compared of N pictures, two (N, D) float32 arrays."""

    ink: np.ndarray
    edges: np.ndarray

    @classmethod
    def stack(cls, pairs: list[tuple[np.ndarray, np.ndarray]]) -> "Looks":
        """From the `look` of each picture."""
        return cls(np.stack([ink for ink, _ in pairs]), np.stack([edge for _, edge in pairs]))


def look(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(128, 128, 3) uint8 -> ink (INK_SIDE^2 * 3,), 0 for white, and grey gradients, float32."""
    ink = 1 - _shrink(rgb, INK_SIDE) / 255
    grey = 1 - _shrink(rgb, EDGE_SIDE).mean(axis=2) / 255
    across, down = np.diff(grey, axis=1), np.diff(grey, axis=0)
    edges = np.concatenate([across.ravel(), down.ravel()])
    return ink.ravel().astype(np.float32), edges.astype(np.float32)


def _shrink(rgb: np.ndarray, side: int) -> np.ndarray:
    block = rgb.shape[0] // side
    return rgb.reshape(side, block, side, block, 3).mean(axis=(1, 3))


def twins(looks: Looks, is_val: np.ndarray) -> list[Twin]:
    """For each val picture that has near twins in train, the nearest of them."""
    val, train = np.flatnonzero(is_val), np.flatnonzero(~is_val)
    found = []
    for start in range(0, len(val) if len(train) else 0, 256):
        rows = val[start : start + 256]
        ink, edges = (_distances(x, rows, train) for x in (looks.ink, looks.edges))
        near = (ink < INK_TWIN) | ((edges < EDGE_TWIN) & (ink < EDGE_TWIN_INK))
        ink[~near] = np.inf
        best = ink.argmin(axis=1)
        found += [
            Twin(int(row), int(train[column]), float(ink[i, column]))
            for i, (row, column) in enumerate(zip(rows, best, strict=True))
            if near[i, column]
        ]
    return found


def _distances(vectors: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """|a - b|^2 / (|a| |b|): relative to how much is drawn, so that thin lines count too."""
    norm = np.maximum(np.linalg.norm(vectors, axis=1), 1e-6)
    a, b = norm[rows][:, None], norm[columns][None]
    dots = vectors[rows] @ vectors[columns].T
    return np.maximum(0, (a**2 + b**2 - 2 * dots) / (a * b))


def move_twins(
    concepts: list[str], looks: Looks, split: dict[str, str]
) -> tuple[dict[str, str], list[Twin]]:
    """Move every val concept with a near twin in train to train, until there is none.

    Returns the new split and the twins that caused a move. Moving a concept can make twins of
    other val concepts, hence the rounds; each one shrinks val, so they end.
    """
    split, moved = dict(split), []
    while True:
        found = twins(looks, np.array([split[c] == "val" for c in concepts], dtype=bool))
        if not found:
            return split, moved
        moved += found
        split.update({concepts[twin.val]: "train" for twin in found})


def count_by(rows: Iterable[Mapping], key: str) -> dict[str, int]:
    """How many rows have each value of `key`, sorted by value."""
    return dict(sorted(Counter(row[key] for row in rows).items()))
