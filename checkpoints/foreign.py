"""Tensors out of other people's files, without running anything that lies in them.

A `.ckpt` or `.pt` is a pickle, and a pickle may name any function to be called. torch's own
tensor-only reader refuses whatever it does not know; many old checkpoints carry such things beside
the weights (a trainer's callbacks, a configuration), and are then read by `_Unpickler`: what it
does not know becomes a `StandIn`, which holds nothing, does nothing, and imports nothing.
"""

from __future__ import annotations

import pickle
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

# Where the weights lie in a checkpoint: Lightning's key, then the average that LlamaGen's own
# evaluation prefers, then the last weights.
PARTS = ("state_dict", "ema", "model")


class Found(NamedTuple):
    """What a file holds of a model."""

    tensors: dict[str, Tensor]
    part: str | None  # which of PARTS they lay in; None if the file is nothing but tensors
    ignored: tuple[str, ...]  # classes and functions that were named and not run


def read(path: Path) -> Found:
    """The named tensors of a safetensors file or a torch checkpoint, on the CPU.

    ValueError with one sentence if it is neither, or is not whole.
    """
    if not path.exists():
        raise ValueError(f"there is no file {path}")
    if not path.is_file():
        raise ValueError(f"{path} is a folder: give the file with the weights")
    if not path.stat().st_size:
        raise ValueError(f"{path} is empty")
    if path.suffix == ".safetensors":
        try:
            return Found(load_file(path), None, ())
        except (SafetensorError, OSError, ValueError) as error:
            raise ValueError(f"{path} is no safetensors file, or not whole: {error}") from error
    ignored: tuple[str, ...] = ()
    try:
        with warnings.catch_warnings():  # it advises about what is then read below
            warnings.simplefilter("ignore")
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can fail in any way
        if not zipfile.is_zipfile(path):
            raise ValueError(_unreadable(path)) from error
        loaded, ignored = _read_zip(path)
    else:
        _check_sums(path)
    return _named(path, loaded, ignored)


def _check_sums(path: Path) -> None:
    """ValueError if an archive's numbers are not those that were written: torch never looks."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if not info.CRC:  # torch was told to write none
                continue
            try:
                with archive.open(info) as file:
                    while file.read(1 << 20):
                        pass
            except (OSError, zipfile.BadZipFile, zlib.error) as error:
                raise ValueError(f"{path} is damaged, so get it again: {error}") from error


def _unreadable(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(64).lstrip().lower()
    if start.startswith(b"pk"):
        return f"{path} is not whole: its end is missing, so get it again"
    if start.startswith((b"<", b"version https://git-lfs")):
        what = "a web page" if start.startswith(b"<") else "a pointer of Git LFS"
        return f"{path} is {what} and not the checkpoint itself: download that one"
    return (
        f"{path} is no torch checkpoint, or one from before torch 1.6 with more than tensors in it "
        "(load it where it was made and save its state_dict alone)"
    )


def _named(path: Path, loaded: object, ignored: tuple[str, ...]) -> Found:
    """The part of a checkpoint that holds the weights."""
    parts: list[tuple[str | None, object]] = []
    if isinstance(loaded, dict):
        parts = [(name, loaded.get(name)) for name in PARTS] + [(None, loaded)]
    for name, part in parts:
        if not isinstance(part, dict):
            continue
        tensors = {str(k): v for k, v in part.items() if isinstance(v, (Tensor, _Stored))}
        if not tensors:
            continue
        if any(isinstance(v, _Stored) for v in tensors.values()):
            tensors = _materialise(path, tensors)
        return Found(tensors, name, ignored)
    raise ValueError(f"{path} holds no weights: neither {', '.join(PARTS)} nor tensors by name")


# --- a pickle in which nothing is run --------------------------------------------------------


def _nothing(self, *_: object, **__: object) -> None:
    """What a stand-in does, whatever it is told."""


class StandIn(dict):
    """In place of any class or function that a pickle names."""

    def __new__(cls, *_: object, **__: object) -> StandIn:
        return super().__new__(cls)

    def __call__(self, *_: object, **__: object) -> StandIn:
        return StandIn()

    __init__ = __setstate__ = __setitem__ = append = extend = add = _nothing
    __hash__ = object.__hash__  # type: ignore[assignment]


class _Names(dict):
    """In place of OrderedDict, whose further state (torch's _metadata) is not needed."""

    __setstate__ = _nothing


class _Storage(NamedTuple):
    """Where a tensor's numbers lie in the archive."""

    key: str
    dtype: torch.dtype


class _Stored(NamedTuple):
    """A tensor that has not been read yet."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def _tensor(storage: _Storage, offset: int, size: Any, stride: Any, *_: object) -> _Stored:
    return _Stored(storage, offset, tuple(size), tuple(stride))


def _parameter(data: _Stored, *_: object) -> _Stored:
    return data


DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
KNOWN = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "collections.OrderedDict": _Names,
    "torch.Size": tuple,
    **{f"torch.{name}": dtype for name, dtype in DTYPES.items()},
}


class _Unpickler(pickle.Unpickler):
    """Reads the pickle of a torch archive; see the module's docstring."""

    def __init__(self, file: Any):
        super().__init__(file)
        self.ignored: set[str] = set()

    def find_class(self, module: str, name: str) -> Any:
        """Never an import: what is known, from this file, or a stand-in."""
        full = f"{module}.{name}"
        if full in KNOWN:
            return KNOWN[full]
        self.ignored.add(full)
        return StandIn

    def persistent_load(self, pid: Any) -> _Storage:
        _, dtype, key, *_ = pid  # "storage", its type, name, device, length
        return _Storage(str(key), dtype)


def _folder(archive: zipfile.ZipFile) -> str:
    """The folder that a torch archive keeps everything in."""
    return next(n for n in archive.namelist() if n.endswith("/data.pkl")).rpartition("/")[0]


def _read_zip(path: Path) -> tuple[Any, tuple[str, ...]]:
    """The pickle of a torch archive with stand-ins, and the names that these stand for."""
    try:
        with zipfile.ZipFile(path) as archive:
            folder = _folder(archive)
            if f"{folder}/constants.pkl" in archive.namelist():
                raise ValueError("it is a TorchScript program, not a checkpoint")
            with archive.open(f"{folder}/data.pkl") as file:
                unpickler = _Unpickler(file)
                return unpickler.load(), tuple(sorted(unpickler.ignored))
    except StopIteration:
        raise ValueError(f"{path} is a zip file, but no torch checkpoint") from None
    except Exception as error:  # a hostile or damaged pickle can fail in any way
        raise ValueError(f"{path} cannot be read as a torch checkpoint: {error}") from error


def _materialise(path: Path, stored: dict[str, Any]) -> dict[str, Tensor]:
    """Read the numbers of stored tensors, each storage once."""
    storages: dict[_Storage, Tensor] = {}
    tensors, name = {}, ""
    try:
        with zipfile.ZipFile(path) as archive:
            folder, files = _folder(archive), set(archive.namelist())
            order = f"{folder}/byteorder"
            if order in files and archive.read(order) != b"little":
                raise ValueError("its numbers are big-endian")
            for name, (storage, offset, size, stride) in stored.items():
                if storage not in storages:
                    data = bytearray(archive.read(f"{folder}/data/{storage.key}"))
                    make = torch.frombuffer if data else torch.tensor  # the first wants bytes
                    storages[storage] = make(data, dtype=storage.dtype)
                whole = storages[storage]
                tensors[name] = whole.as_strided(size, stride, offset)  # checks the bounds
    except Exception as error:
        raise ValueError(f"{path} is not whole, at {name!r}: {error}") from error
    return tensors
