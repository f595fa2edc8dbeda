"""What README and model cards tell people to type or to open is there."""

from __future__ import annotations

import re
import runpy
import sys
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = (
    ROOT / "README.md",
    ROOT / "bench/README.md",
    *sorted(ROOT.glob("checkpoints/*/README.md")),
)
COMMAND = re.compile(r"python(?: -m ([\w.]+)| (app)\.py)([^\n`;#|]*)")
TOWERS = ("text", "image")
OTHERS = {"venv", "pytest"}  # commands that are not ours


def flags() -> dict[tuple[str, ...], set[str]]:
    """Command -> the flags that some page gives it."""
    found = defaultdict(set)
    for page in PAGES:
        text = re.sub(r"\\\n", " ", page.read_text("utf-8"))
        for module, app, rest in COMMAND.findall(text):
            words = rest.split()
            # The two towers of CLIP have flags of their own.
            tower = words[:1] if module == "clip_guidance.train" and words[0] in TOWERS else []
            given = re.findall(r"(?<![\w-])--[a-z][\w-]*", rest)
            found[(module or app, *tower)] |= {*given} - {"--nproc-per-node"}
    return {command: flags for command, flags in found.items() if command[0] not in OTHERS}


FLAGS = flags()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the module may be imported already
@pytest.mark.parametrize("command", FLAGS, ids=" ".join)
def test_every_command_takes_the_flags_that_are_shown(command, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", [*command, "--help"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_module(command[0], run_name="__main__")
    said = capsys.readouterr().out
    assert not stop.value.code
    assert {f for f in FLAGS[command] if not re.search(rf"{f}(?![\w-])", said)} == set()


def test_most_commands_were_found():
    assert len(FLAGS) > 35 and "--replace" in FLAGS["checkpoints.export",]


def heads(page: Path) -> set[str]:
    """The anchors of a page, as words."""
    found = re.findall(r"(?m)^#+ (.+)", page.read_text("utf-8"))
    return {re.sub(r"[^\w -]", "", head).strip().lower() for head in found}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_every_link_leads_somewhere(page):
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text("utf-8")):
        path, _, anchor = link.partition("#")
        there = page.parent / path if path else page
        assert there.exists(), link
        assert not anchor or anchor.replace("-", " ") in heads(there), link
