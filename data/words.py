"""`python -m data.words --out words.json`: words to teach a text tower with, from Debian packages.

WordNet's concrete nouns with their definitions (wordnet-base, Princeton's licence) and Unihan's
English glosses of Chinese characters (unicode-data, Unicode's licence).
"""

from __future__ import annotations

import bz2
import json
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from data.sources import SourceError, fetch
from training.files import writable, write
from training.flags import Parser, fail

# Lexicographer files of WordNet nouns that can be drawn, more or less.
DRAWABLE = {
    "04": "act",
    "05": "animal",
    "06": "artifact",
    "08": "body",
    "10": "communication",
    "11": "event",
    "12": "feeling",
    "13": "food",
    "17": "object",
    "18": "person",
    "19": "phenomenon",
    "20": "plant",
    "25": "shape",
    "27": "substance",
    "28": "time",
}
LONGEST = 14  # words of a definition


def nouns(data: Iterable[str], known: set[str]) -> list[tuple[str, str]]:
    """(lemma, definition) of each drawable sense in WordNet's data.noun, common words only.

    `known`: lemmas that WordNet's concordance counts; the rest is mostly Latin names and people.
    """
    found = []
    for line in data:
        if line.startswith("  "):  # the licence
            continue
        fields, _, gloss = line.partition(" | ")
        fields = fields.split(" ")
        if fields[1] not in DRAWABLE:
            continue
        lemmas = [fields[4 + 2 * i] for i in range(int(fields[3], 16))]
        definition = " ".join(re.split(r"[;(:]", gloss.strip())[0].split()[:LONGEST])
        for lemma in lemmas[:3]:
            if lemma.islower() and (lemma in known or fields[1] in ("06", "13")):
                found.append((lemma.replace("_", " "), definition))
    return found


def counted(cntlist: Iterable[str]) -> set[str]:
    """Lemmas of nouns that occur in WordNet's concordance, from cntlist.rev."""
    return {line.split("%")[0] for line in cntlist if "%1:" in line}


def glosses(readings: Iterable[str]) -> list[tuple[str, str]]:
    """(character, English gloss) from Unihan_Readings.txt: first senses, main block."""
    found = []
    for line in readings:
        if not line.startswith("U+"):
            continue
        code, _, rest = line.rstrip("\n").partition("\t")
        key, _, text = rest.partition("\t")
        if key != "kDefinition" or not 0x4E00 <= int(code[2:], 16) <= 0x9FFF:
            continue  # the older blocks only: what people type
        senses = [re.sub(r"\(.*?\)", "", s).strip() for s in re.split("[;,]", text)]
        senses = [s for s in senses if s and s.isascii() and len(s.split()) <= 4]
        if senses:
            found.append((chr(int(code[2:], 16)), ", ".join(senses[:3])))
    return found


def build(cache: Path) -> dict:
    """Fetch both packages into `cache` and read them."""
    wordnet, unicode = fetch("wordnet-base", cache), fetch("unicode-data", cache)
    folder = wordnet.folder / "usr/share/wordnet"
    known = counted((folder / "cntlist.rev").read_text("utf-8").splitlines())
    senses = nouns((folder / "data.noun").read_text("utf-8").splitlines(), known)
    file = unicode.folder / "usr/share/unicode/Unihan_Readings.txt.bz2"
    with bz2.open(file, "rt", encoding="utf-8") as lines:
        characters = glosses(lines)
    return {
        "sources": [f"{p.name}@{p.version}" for p in (wordnet, unicode)],
        "nouns": senses,
        "characters": characters,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code 0, or ends with 2 after one line on standard error."""
    p = Parser(prog="python -m data.words", description=__doc__)
    p.add_argument("--out", type=Path, required=True, help="the .json to write")
    p.add_argument("--cache", type=Path, help="unpacked packages (default: beside OUT)")
    args = p.parse_args(argv)
    try:
        writable(args.out)
        words = build(args.cache or args.out.parent / "cache")
        write(args.out, json.dumps(words, ensure_ascii=False).encode())
    except (SourceError, ValueError, OSError) as error:
        fail(error)
    print(f"{args.out}: {len(words['nouns'])} senses, {len(words['characters'])} characters")
    return 0


if __name__ == "__main__":
    sys.exit(main())
