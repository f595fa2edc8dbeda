"""Checkpoints of a run: written whole or not at all, read without running code."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch


def save(path: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors and plain values) to `path` atomically.

    A kill at any moment leaves either the old file or the new one. The one before is kept as
    `<name>.prev`, in case training went wrong without becoming NaN.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    with open(partial, "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    if path.exists():
        # A link, then a replace: `path` itself exists at every moment.
        previous = path.with_name(path.name + ".prev")
        previous.unlink(missing_ok=True)
        os.link(path, previous)
    os.replace(partial, path)


def load(path: Path, device: str | torch.device = "cpu") -> dict[str, Any]:
    """Read a checkpoint; ValueError where the file is not one."""
    if not path.is_file():
        raise ValueError(f"no checkpoint at {path}: give the folder of a run that has saved one")
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        raise ValueError(f"{path} is not a readable checkpoint: {error}") from error


def commands(config: dict[str, Any]) -> list[str]:
    """The command lines that have trained a run so far, first to last, from its stored config."""
    return [*config.get("earlier_commands", []), config["command"]]
