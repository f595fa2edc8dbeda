"""WordNet's and Unihan's files, a few lines of each."""

import bz2
import json

import pytest

from data import words
from data.sources import Package, SourceError

NOUNS = """\
  1 This software and database is being provided to you
02084071 05 n 03 dog 0 domestic_dog 0 Canis_familiaris 0 001 @ 02083346 n 0000 | a member of the \
genus Canis; "the dog barked all night"
03614007 06 n 02 kettle 0 boiler 0 001 @ 03990474 n 0000 | a metal pot for stewing or boiling
05787 09 n 01 idea 0 001 @ 1 n 0000 | the content of cognition
00001 18 n 01 Einstein 0 001 @ 1 n 0000 | a physicist
00002 20 n 01 genus_abies 0 001 @ 1 n 0000 | firs
""".splitlines()


def test_drawable_common_nouns():
    found = words.nouns(NOUNS, {"dog"})
    assert found == [
        ("dog", "a member of the genus Canis"),
        ("kettle", "a metal pot for stewing or boiling"),
        ("boiler", "a metal pot for stewing or boiling"),
    ]


def test_counted_nouns():
    assert words.counted(["dog%1:05:00:: 1 42", "run%2:38:00:: 1 9"]) == {"dog"}


def test_glosses():
    lines = [
        "# Unihan_Readings.txt\n",
        "\n",
        "U+82F9\tkDefinition\tartemisia; duckweed; apple\n",
        "U+94C1\tkDefinition\tiron; strong, solid, firm\n",
        "U+94C1\tkMandarin\ttiě\n",
        "U+3400\tkDefinition\thillock\n",
        "U+4E00\tkDefinition\t(Cant.) a very long explanation that goes on and on\n",
    ]
    assert words.glosses(lines) == [
        ("苹", "artemisia, duckweed, apple"),
        ("铁", "iron, strong, solid"),
    ]


def test_a_missing_package_is_one_line(monkeypatch, tmp_path, capsys):
    def missing(name, cache):
        raise SourceError(f"package {name} needs `apt-get`")

    monkeypatch.setattr(words, "fetch", missing)
    with pytest.raises(SystemExit) as stop:
        words.main(["--out", str(tmp_path / "w.json")])
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: package wordnet-base needs `apt-get`\n"


def test_the_command(monkeypatch, tmp_path):
    wordnet = tmp_path / "wordnet/usr/share/wordnet"
    unicode = tmp_path / "unicode/usr/share/unicode"
    wordnet.mkdir(parents=True)
    unicode.mkdir(parents=True)
    (wordnet / "data.noun").write_text("\n".join(NOUNS))
    (wordnet / "cntlist.rev").write_text("dog%1:05:00:: 1 42\n")
    lines = "U+72D7\tkDefinition\tdog, canis familiaris\n"
    (unicode / "Unihan_Readings.txt.bz2").write_bytes(bz2.compress(lines.encode()))
    folders = {"wordnet-base": tmp_path / "wordnet", "unicode-data": tmp_path / "unicode"}
    monkeypatch.setattr(words, "fetch", lambda name, cache: Package(name, "1", folders[name]))
    assert words.main(["--out", str(tmp_path / "w.json")]) == 0
    found = json.loads((tmp_path / "w.json").read_text("utf-8"))
    assert found["sources"] == ["wordnet-base@1", "unicode-data@1"]
    assert found["characters"] == [["狗", "dog, canis familiaris"]] and len(found["nouns"]) == 3
