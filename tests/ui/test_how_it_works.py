"""The fold-outs: what they name exists, and both languages explain the same things."""

from __future__ import annotations

import importlib
import itertools
import json
import re
from functools import reduce
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "ui" / "how_it_works"
SHIPPED = ROOT / "checkpoints" / "emoji-128"
TABS = ("reconstruct", "codebook", "sample", "text_to_image")
PACKAGES = ("vqgan", "prior", "clip_guidance")
NAME = re.compile(r"`([a-z_]+)((?:\.[A-Za-z_]+)+)`")


def text(tab: str, language: str) -> str:
    return (FOLDER / f"{tab}.{language}.md").read_text("utf-8")


def named(tab: str, language: str) -> set[tuple[str, str]]:
    """(module, attributes) of all functions that a fold-out names."""
    return {(module, rest[1:]) for module, rest in NAME.findall(text(tab, language))}


@pytest.mark.parametrize("tab", TABS)
def test_every_function_named_exists(tab):
    found = named(tab, "en")
    assert len(found) >= 5
    for module, path in found:
        homes = [p for p in PACKAGES if (ROOT / p / f"{module}.py").exists()]
        homes += [p for p in PACKAGES if (ROOT / p / module).is_dir()]
        assert homes, f"{tab}: no module {module}"
        loaded = [importlib.import_module(f"{p}.{module}") for p in homes]
        has = [reduce(lambda o, name: getattr(o, name, None), path.split("."), m) for m in loaded]
        assert any(map(callable, has)), f"{tab}: {module} has no {path}"


def test_how_long_the_gan_took_part_is_what_the_card_says():
    runs = json.loads((SHIPPED / "config.json").read_text())["training"]["runs"]
    runs = [run for run in runs if run["train"]["gan_weight"]]
    of, took = (sum(r["steps"] - r["train"]["gan_start"] * i for r in runs) for i in (0, 1))
    said = re.search(r"joined for ([\d,]+) of .* last ([\d,]+) steps", text("reconstruct", "en"))
    assert [int(figure.replace(",", "")) for figure in said.groups()] == [took, of]
    assert f"最后 {of:,} 步中 {took:,} 步" in text("reconstruct", "zh")


@pytest.mark.parametrize("tab", TABS)
def test_both_languages_name_the_same_functions_and_formulas(tab):
    assert named(tab, "en") == named(tab, "zh")
    shown = [re.findall(r"\$\$.+?\$\$", text(tab, language), re.S) for language in ("en", "zh")]
    assert [re.sub(r"\\text\{.*?\}", "", f) for f in shown[0]] == [
        re.sub(r"\\text\{.*?\}", "", f) for f in shown[1]
    ]


@pytest.mark.parametrize("tab", TABS)
@pytest.mark.parametrize(("language", "words"), [("en", ("symbol", "the article", "function")),
                                                 ("zh", ("符号", "文章", "函数"))])  # fmt: skip
def test_symbols_and_the_articles_form_stand_in_tables(tab, language, words):
    lines = text(tab, language).splitlines()
    tables = [
        list(rows)
        for inside, rows in itertools.groupby(lines, lambda line: line.startswith("|"))
        if inside
    ]
    for word in words:
        assert any(word in rows[0] for rows in tables), word
    for rows in tables:
        bars = {len(re.findall(r"(?<!\\)\|", row)) for row in rows}
        assert len(bars) == 1, f"a bare | breaks a row of the table {rows[0]}"
