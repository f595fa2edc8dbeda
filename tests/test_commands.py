"""Every command answers a device or flag that it cannot use with one line and exit code 2."""

from __future__ import annotations

import ast
import importlib
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Where `--device` is declared: the module with `main`, and the least that it asks for beside.
WITH_DEVICE = {
    "vqgan/train.py": "--data {data} --out {new}",
    "vqgan/reconstruct.py": "{picture} {new}.png",
    "vqgan/codebook/__main__.py": "--data {data}",
    "prior/train.py": "--data {data} --out {new}",
    "prior/train_sketch.py": "--tokens {data} --sketches {data} --out {new}",
    "prior/encode.py": "--data {data} --out {new}.npy",
    "prior/draw.py": "--out {new}.png",
    "clip_guidance/generate.py": "apple --out {new}.png",
    "clip_guidance/train_text.py": "--texts {data} --data {data} --phrases {data} --out {new}",
    "clip_guidance/train_image.py": "--data {data} --phrases {data} --out {new}",
    "bench/quality.py": "--fixtures",
    "app.py": "",
}
WITHOUT = (
    *("prior/export.py", "prior/index.py", "prior/ranges.py", "prior/sketches.py"),
    "prior/titles.py",
    *("clip_guidance/conditions.py", "clip_guidance/texts.py", "clip_guidance/export.py"),
    *("clip_guidance/redraw.py", "clip_guidance/train.py"),
    *(f"checkpoints/{n}.py" for n in ("catalog", "convert", "decoders", "export", "timelapse")),
    "checkpoints/perceptual/__main__.py",
    *(f"data/{name}.py" for name in ("build", "fixtures", "words")),
    *(f"bench/{name}.py" for name in ("__main__", "answers", "clip", "copies", "guidance")),
    *("bench/ideas.py", "bench/judge_train.py", "bench/sketches.py", "bench/text_to_image.py"),
)


def words(path: str, fixtures: Path, tmp_path: Path) -> list[str]:
    picture = fixtures / "images" / "emojione" / "eye.png"
    given = {"data": fixtures, "picture": picture, "new": tmp_path / "new"}
    return [word.format(**given) for word in WITH_DEVICE.get(path, "").split()]


def refused(capsys, path: str, args: list[str]) -> str:
    """The one line that the command of this file ends with, exit code 2."""
    main = importlib.import_module(path.removesuffix(".py").replace("/", ".")).main
    with pytest.raises(SystemExit) as stop:
        sys.exit(main(args))  # app.main returns its code, the others raise it
    out, error = capsys.readouterr()
    assert stop.value.code == 2 and not out
    assert re.fullmatch(r"error: [^\n]+\n", error), error
    return error


def test_the_lists_are_whole():
    folders = [p for p in ROOT.iterdir() if p.is_dir() and p.name[0] != "." and p.name != "tests"]
    ours = [*ROOT.glob("*.py"), *(p for folder in folders for p in folder.rglob("*.py"))]
    texts = {p.relative_to(ROOT).as_posix(): p.read_text("utf-8") for p in ours}
    declared = re.compile(r'add_device\(p|"--device"')
    found = {path for path, text in texts.items() if declared.search(text)}
    assert found - {"training/flags.py"} == WITH_DEVICE.keys()
    commands = {
        path
        for path, text in texts.items()
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef) and node.name == "main"
    }
    assert commands == {*WITH_DEVICE, *WITHOUT}


@pytest.mark.parametrize("device", ["banana", "cuda:99", "meta"])
@pytest.mark.parametrize("path", WITH_DEVICE)
def test_a_device_that_cannot_be_used(capsys, fixtures, tmp_path, path, device):
    said = refused(capsys, path, [*words(path, fixtures, tmp_path), "--device", device])
    assert f"device '{device}' cannot be used here: choose auto, cpu, cuda or mps" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", [*WITH_DEVICE, *WITHOUT])
def test_a_flag_that_does_not_exist(capsys, fixtures, tmp_path, path):
    said = refused(capsys, path, [*words(path, fixtures, tmp_path), "--no-such-flag"])
    assert "--help" in said
