"""Command-line flags generated from dataclass fields, so that each default stands once."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")


class Parser(argparse.ArgumentParser):
    """One line for a bad flag, without the usage above it, and one for Ctrl-C from then on."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        sys.excepthook = _without_traceback
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        fail(f"{message} (see {self.prog} --help)")


def _without_traceback(kind: type[BaseException], error: BaseException, where: Any) -> None:
    """A hook for what ends a program: Ctrl-C is no bug. The exit status stays the system's own."""
    if issubclass(kind, KeyboardInterrupt):
        print("\nstopped", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, where)


def option(default: Any, help: str) -> Any:
    """A dataclass field with a help text for its flag."""
    return dataclasses.field(default=default, metadata={"help": help})


def _scalar(annotation: Any) -> Any:
    """The type inside `X | None` or `tuple[X, ...]`."""
    args = [a for a in typing.get_args(annotation) if a not in (type(None), Ellipsis)]
    return args[0] if args else annotation


def add_flags(
    parser: argparse.ArgumentParser,
    cls: type,
    title: str,
    defaults: Mapping[str, Any] | None = None,
    *,
    without: Sequence[str] = (),
) -> None:
    """One `--flag` for each field of dataclass `cls`; booleans also get `--no-flag`.

    `defaults`: where a command's differ from those of `cls`, to be told. `without`: fields that
    get no flag.

    A flag that is not given is absent from the parsed namespace, so that a caller can tell a
    default from a choice (see `given`).
    """
    group = parser.add_argument_group(title)
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        if field.name in without:
            continue
        flag = "--" + field.name.replace("_", "-")
        default = (defaults or {}).get(field.name, field.default)
        text = (field.metadata.get("help", "") + f" (default {default})").strip()
        kind = hints[field.name]
        common = {"dest": field.name, "default": argparse.SUPPRESS, "help": text.replace("%", "%%")}
        if _scalar(kind) is bool:
            group.add_argument(flag, action=argparse.BooleanOptionalAction, **common)
        elif typing.get_origin(kind) is tuple:
            group.add_argument(flag, type=_scalar(kind), nargs="*", metavar="N", **common)
        else:
            if isinstance(kind, types.UnionType):
                kind = _scalar(kind)
            group.add_argument(flag, type=kind, metavar=kind.__name__.upper(), **common)


def add_device(parser: argparse.ArgumentParser, default: str = "auto") -> None:
    """`--device`; `training.device.usable_device` tells whether its value can be used here."""
    parser.add_argument(
        "--device", default=default, help="auto, cpu, cuda, cuda:1, mps (%(default)s)"
    )


def given(args: argparse.Namespace, cls: type) -> dict[str, Any]:
    """The fields of `cls` that were given on the command line."""
    names = {field.name for field in dataclasses.fields(cls)}
    return {k: v for k, v in vars(args).items() if k in names}


def build(cls: type[T], stored: dict[str, Any], chosen: dict[str, Any]) -> T:
    """`cls` from stored values overridden by chosen ones; ValueError for unknown stored fields."""
    unknown = sorted(stored.keys() - {field.name for field in dataclasses.fields(cls)})
    if unknown:
        raise ValueError(
            f"{cls.__name__} has no {unknown[0]}: the stored run or bundle is of another kind"
        )
    return cls(**{**stored, **chosen})


def fail(message: object) -> NoReturn:
    """End a command on bad input: one line on stderr, exit code 2."""
    print(f"error: {' '.join(str(message).split())}", file=sys.stderr)
    raise SystemExit(2)
