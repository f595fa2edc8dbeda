"""What `--help` says is what happens."""

from __future__ import annotations

import importlib
import re

import pytest


@pytest.mark.parametrize(
    ("module", "defaults"),
    [
        ("vqgan.train", {"codebook-size": 1024, "ch": 32, "lr": 0.0004}),
        ("prior.train", {"lr": 0.001, "warmup": 200}),
        ("prior.train_sketch", {"lr": 0.001, "drop": 0.5, "batch": 16}),
        ("clip_guidance.train_text", {"lr": 0.001, "steps": 3000}),
        ("clip_guidance.train_image", {"lr": 0.001, "steps": 6000}),
    ],
)
def test_help_tells_the_commands_own_defaults(module, defaults):
    said = importlib.import_module(module).parser().format_help()
    for name, value in defaults.items():
        found = re.search(rf"^  --{name}[ ,].*?\(default\s+(\S+)\)", said, re.M | re.S)
        assert found and found[1] == str(value), name


def test_a_flag_that_would_be_refused_is_not_listed():
    said = importlib.import_module("prior.train_sketch").parser().format_help()
    assert "--views" not in said and "--distil" not in said and "--pkeep" in said
