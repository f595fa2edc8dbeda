"""The head of the README is a Space's configuration: what it names must be there and fit."""

import re
from pathlib import Path

import gradio
import pytest
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
