"""Checkpoints of a run: written whole or not at all, read without running code."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from training.files import replacing


def save(path: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors and plain values) to `path` atomically.

    A kill at any moment leaves either the old file or the new one. The one before is kept as
    `<name>.prev`, in case training went wrong without becoming NaN.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with replacing(path) as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
            if path.exists():
                _keep(path, path.with_name(path.name + ".prev"))
    except (OSError, RuntimeError) as error:  # torch's own writer raises RuntimeError
        why = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise OSError(f"{path} could not be written: {why}") from error


def _keep(path: Path, previous: Path) -> None:
    """The present checkpoint under a second name, so that `path` itself exists at every moment."""
    previous.unlink(missing_ok=True)
    try:
        os.link(path, previous)
    except OSError:  # no hard links here: better no earlier one than no new one
        with contextlib.suppress(OSError):
            shutil.copyfile(path, previous)


def load(path: Path, device: str | torch.device = "cpu") -> dict[str, Any]:
    """Read a checkpoint; ValueError where the file is not one."""
    if not path.is_file():
        raise ValueError(f"no checkpoint at {path}: give the folder of a run that has saved one")
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        previous = path.with_name(path.name + ".prev")
        advice = f"; {previous} is the one before: copy it over" if previous.is_file() else ""
        raise ValueError(f"{path} is not a readable checkpoint: {error}{advice}") from error


def config_of(run: Path, module: str, parts: Iterable[str]) -> dict[str, Any]:
    """What a run was built from. ValueError if it lacks a part that each run of `module` has."""
    config = load(run / "last.pt").get("config", {})
    if not {*parts} <= config.keys():
        raise ValueError(f"{run} is no run of {module}: resume it with the command that made it")
    return config


def commands(config: dict[str, Any]) -> list[str]:
    """The command lines that have trained a run so far, first to last, from its stored config."""
    return [*config.get("earlier_commands", []), config["command"]]
