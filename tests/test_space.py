"""The head of the README is a Space's configuration: what it names must be there and fit."""

import re
import sys
import types
from pathlib import Path

import gradio
import pytest
import torch
import yaml

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def space() -> dict:
    _, head, _ = (ROOT / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(head)


def test_the_app_and_its_sdk(space):
    assert space["sdk"] == "gradio" and (ROOT / space["app_file"]).is_file()
    assert space["sdk_version"] == gradio.__version__  # the one that the tests ran with
    low, high = re.search(
        r"^gradio>=([\d.]+),<([\d.]+)$", (ROOT / "requirements.txt").read_text(), re.M
    ).groups()
    parts = [tuple(map(int, v.split("."))) for v in (low, space["sdk_version"], high)]
    assert parts == sorted(parts)
    assert len(space["short_description"]) <= 60  # the hub's limit


def test_the_space_listens_to_the_outside(monkeypatch):
    import app

    seen = []
    monkeypatch.setenv("SPACE_ID", "someone/studio")
    monkeypatch.setattr(app, "free_port", lambda host, first: seen.append((host, first)) or exit(7))
    with pytest.raises(SystemExit):
        app.main([])
    assert seen == [("0.0.0.0", 7860)]


def test_a_zero_gpu_space_starts_and_computes_on_its_processor(tmp_path, monkeypatch):
    """Without a declared GPU function the platform ends it; what torch says of a GPU is not so."""
    import app
    import checkpoints

    declared, asked = [], []
    fake = types.ModuleType("spaces")
    fake.GPU = declared.append
    monkeypatch.setitem(sys.modules, "spaces", fake)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)

    def load(name, device):
        asked.append((device, len(declared)))
        raise ValueError("far enough")

    monkeypatch.setattr(checkpoints, "load", load)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    assert app.main(["--port", "7990"]) == 2
    assert asked == [("cpu", 1)]
    monkeypatch.delenv("SPACES_ZERO_GPU")
    assert app.main(["--port", "7990"]) == 2
    assert asked[1:] == [("cuda", 1)]  # elsewhere torch is believed, and nothing declared


def test_without_the_platforms_package_it_starts_with_one_warning(monkeypatch, capsys):
    import app

    monkeypatch.setitem(sys.modules, "spaces", None)
    app.report_to_zero_gpu()
    said = capsys.readouterr().err
    assert said.startswith("warning: no package `spaces`") and said.count("\n") == 1
