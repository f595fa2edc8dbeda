"""Files that are there whole or not at all, and whether there is a place for them."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


class NoData(ValueError):
    """Nothing of a data set can be read, or no longer."""


def shown_name(name: str) -> str:
    """A file's name as text that any file can hold: old archives bring names that are no UTF-8."""
    return os.fsencode(name).decode("utf-8", "replace")


@contextlib.contextmanager
def naming(path: Path, *others: Path) -> Iterator[None]:
    """Let an OSError say which file it is about: a full disk is told without a name."""
    try:
        yield
    except OSError as error:
        if error.filename in (None, *map(str, others)):
            error.filename = str(path)
        raise


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of `path` once the block has ended well.

    Else nothing of it stays, and `path` is as it was. Devices and pipes are written to directly.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        with open(path, "wb") as file:
            yield file
        return
    real = Path(os.path.realpath(path))
    part = real.with_name(f".{real.name}.{os.getpid()}.part")
    try:
        with naming(real, part), open(part, "wb") as file:
            yield file
        os.replace(part, real)
    finally:
        part.unlink(missing_ok=True)


def write(path: str | os.PathLike, data: bytes) -> None:
    """Replace a file in one step."""
    with replacing(path) as file:
        file.write(data)


def swap(folder: Path, pattern: str, files: dict[str, bytes]) -> None:
    """Write `files` into a folder, then remove what else is there under names like `pattern`."""
    for name, data in files.items():
        write(folder / name, data)
    for old in folder.glob(pattern):
        if old.name not in files:
            old.unlink()


def usable_folder(folder: Path) -> None:
    """Make a folder. ValueError in one sentence if it cannot be one, or takes no files."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (FileExistsError, NotADirectoryError) as error:
        raise ValueError(f"{folder} cannot be a folder: there is a file of that name") from error
    except OSError as error:
        raise ValueError(
            f"nothing can be written into {folder}: {error.strerror}: choose another folder"
        ) from error


def writable(path: str | os.PathLike, *suffixes: str) -> Path:
    """`path`, whose folder is there from now on and takes files, so that no work is in vain.

    `suffixes`: those that it may end in, if any are given. ValueError in one sentence otherwise.
    """
    path = Path(path)
    if suffixes and path.suffix.lower() not in suffixes:
        raise ValueError(f"{path} is no name for this file: it must end in {' or '.join(suffixes)}")
    if path.is_dir():
        raise ValueError(f"{path} is a folder: give the name of a file to write")
    if path.is_file() or not path.exists():  # a device needs no folder
        usable_folder(path.parent)
    return path
