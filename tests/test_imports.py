"""Imports go one way: ui -> clip_guidance -> prior -> vqgan -> training, and only commands put
models together. Read from the syntax trees, so nothing is imported here."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# What a package may import of this repository, beside itself.
ALLOWED = {
    "training": set(),
    "data": {"training"},
    "vqgan": {"training"},
    "prior": {"vqgan", "training"},
    "clip_guidance": {"prior", "vqgan", "training"},
    "checkpoints": {"vqgan", "prior", "clip_guidance", "training"},
    "ui": {"vqgan", "prior", "clip_guidance"},
    "bench": {"vqgan", "prior", "clip_guidance", "training", "checkpoints", "data"},
    "app": {"ui", "checkpoints", "training"},
}
# Commands put models together, so these may import more than the library modules beside them.
FOR_COMMANDS = {"checkpoints"}
# They see whole numbers, never a tokenizer.
GRIDS_ONLY = {f"prior/{name}.py" for name in ("model", "sample", "reader", "ahead", "noise")}


def modules() -> dict[str, ast.Module]:
    """Every Python file of the program by its path, tests aside."""
    files = [ROOT / "app.py"]
    for package in ALLOWED:
        files += sorted((ROOT / package).rglob("*.py"))
    return {
        str(file.relative_to(ROOT)): ast.parse(file.read_text("utf-8"))
        for file in files
        if file.is_file()
    }


def imported(tree: ast.Module) -> set[str]:
    """Dotted names of all that a file imports, inside functions too.

    What stands under `if __name__ == "__main__"` only runs where the file is the command.
    """
    body = [n for n in tree.body if not (isinstance(n, ast.If) and "__main__" in ast.dump(n.test))]
    names = set()
    for node in (inner for outer in body for inner in ast.walk(outer)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def is_command(path: str, tree: ast.Module) -> bool:
    """Whether a file is there to be run: it has a `main`, or its name says so."""
    has_main = any(isinstance(n, ast.FunctionDef) and n.name == "main" for n in tree.body)
    return has_main or path.endswith("__main__.py")


MODULES = modules()


@pytest.mark.parametrize("path", MODULES)
def test_imports_go_one_way(path):
    tree = MODULES[path]
    package = path.removesuffix(".py").split("/")[0]
    allowed = ALLOWED[package] | {package} | (FOR_COMMANDS if is_command(path, tree) else set())
    wrong = {n.split(".")[0] for n in imported(tree)} & ALLOWED.keys() - allowed
    assert not wrong, f"{path} imports {', '.join(sorted(wrong))}"
    if package != "ui":
        assert not any(n.split(".")[0] == "gradio" for n in imported(tree)), f"{path}: gradio"
    if path in GRIDS_ONLY:
        assert not any(n.split(".")[0] == "vqgan" for n in imported(tree)), f"{path}: vqgan"


@pytest.mark.parametrize("path", MODULES)
def test_library_modules_do_not_import_commands(path):
    tree = MODULES[path]
    if is_command(path, tree) or path.split("/")[0] == "bench":
        return
    commands = {
        other.removesuffix(".py").replace("/", ".")
        for other, other_tree in MODULES.items()
        if is_command(other, other_tree)
    }
    assert not imported(tree) & commands


def test_the_app_does_no_tensor_maths():
    assert not any(n.split(".")[0] in ("torch", "numpy") for n in imported(MODULES["app.py"]))
