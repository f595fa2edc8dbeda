"""ruff, check and format, is part of the tests."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("args", [["check"], ["format", "--check"]])
def test_ruff(args):
    result = subprocess.run(
        [sys.executable, "-m", "ruff", *args, "."], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("path", ["vqgan/model.py", *sorted(ROOT.glob("training/*.py"))])
def test_what_others_build_on_says_what_it_takes(path):
    """Public classes and functions have a docstring."""
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    public = [
        node
        for node in tree.body
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and not node.name.startswith("_")
    ]
    assert not [node.name for node in public if not ast.get_docstring(node)]


def test_byte_orders_are_named():
    """Python 3.10 knows no usual one: it would call every PNG that ends in black damaged."""
    calls = [
        (path.name, node.lineno)
        for path in ROOT.glob("[!.]*/**/*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "from_bytes"
        if len(node.args) + len(node.keywords) < 2
    ]
    assert not calls
