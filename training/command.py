"""What the training commands share: how a run begins, what it refuses, and how it ends."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training import checkpoint, distributed, flags
from training.files import NoData, shown_name, usable_folder
from training.loop import DoesNotFit, LoopConfig, NotFinite, NotWritten, Task, run
from training.memory import keep_pages
from training.precision import warn_if_emulated
from training.stopping import Stopped


def prepare(out: Path, resume: bool, device: str, data: str | Path | None = None) -> str:
    """What each training does first -> the device of this process.

    ValueError, before anything is read or built, if `out` or `device` cannot be used. `data`: the
    folder of pictures, which cannot be `out` too.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    keep_pages()
    if data is not None and out.resolve() == Path(data).resolve():
        raise ValueError(
            f"--out and --data are one folder, {out}: the run's samples would be among the "
            "pictures; give another --out"
        )
    refuse_overwriting(out, resume)
    return distributed.start(device)


def refuse_overwriting(out: Path, resume: bool) -> None:
    """ValueError if `out` holds a bundle, or a run where this one would begin anew, or if it takes
    no files."""
    if holds_bundle(out):
        raise ValueError(
            f"{out} holds a bundle, whose card a run would replace: give another folder, and "
            "export into the bundle afterwards"
        )
    if not resume and (out / "last.pt").exists():
        raise ValueError(f"{out} holds a run already: add --resume, or give another folder")
    if os.environ.get("RANK", "0") != "0":  # of torchrun's processes the first one writes
        return
    new = [folder for folder in (out, *out.parents) if not folder.exists()]
    usable_folder(out)
    for folder in new:  # what else is refused leaves nothing behind
        with contextlib.suppress(OSError):
            folder.rmdir()


def holds_bundle(folder: Path) -> bool:
    """Whether a folder's config.json is a bundle's card, and not a run's."""
    try:
        return "format" in json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, TypeError, ValueError):
        return False


def refuse_other_data(out: Path, stored: dict[str, Any], present: dict[str, Any]) -> None:
    """DoesNotFit if a run would go on with another data set; plain folders are all alike.

    Both are configs of a run, whose "data" is as `vqgan.dataset.identity` gives it.
    """
    old, new = stored.get("data", {}), present.get("data", {})
    hashes = old.get("sha256"), new.get("sha256")
    if hashes[0] == hashes[1] or not (old and new):
        return
    was, given = (
        f"{data['name']}, {f'whose manifest.jsonl has sha256 {h[:12]}' if h else 'a plain folder'}"
        for data, h in zip((old, new), hashes, strict=True)
    )
    raise DoesNotFit(
        f"{out} was trained on other data: on {was}, and not on {given}: resume with the same "
        "data, or start a new run"
    )


def launch(
    task: Task,
    loop: LoopConfig,
    out: Path,
    config: dict[str, Any],
    *,
    module: str,
    argv: Sequence[str] | None,
    resume: bool,
) -> None:
    """Train `task`; `config`, with the command lines of this run so far, goes into the checkpoint.

    module: as in `python -m MODULE`; argv: its arguments, None for those of the process. Exit code
    1 and one line where a loss or gradient is no longer finite, a file cannot be written or the
    data is gone; 2 where `resume` does not fit; 130 after Ctrl-C and 143 after SIGTERM, which save
    a checkpoint first.
    """
    words = shown_name(shlex.join(sys.argv[1:] if argv is None else argv))
    stored = checkpoint.load(out / "last.pt")["config"] if resume else {}
    config = config | {
        "command": f"python -m {module} {words}",
        "earlier_commands": checkpoint.commands(stored) if resume else [],
    }
    warn_if_emulated(task.device, loop.bf16)
    try:
        refuse_other_data(out, stored, config)
        run(task, loop, out, json.loads(json.dumps(config)), resume)
    except DoesNotFit as error:
        flags.fail(error)
    except Stopped as stopped:
        if distributed.rank() == 0:
            print(stopped)
        raise SystemExit(stopped.code) from None
    except (NoData, NotFinite, NotWritten) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from error
    finally:
        distributed.stop()
