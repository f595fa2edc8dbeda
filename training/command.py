"""What the training commands share: refusing to write over a run, and running one to its end."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training import checkpoint, distributed, flags
from training.loop import DoesNotFit, LoopConfig, NotFinite, Task, run
from training.precision import warn_if_emulated


def refuse_overwriting(out: Path, resume: bool) -> None:
    """ValueError if `out` holds a run already and this one would begin anew."""
    if not resume and (out / "last.pt").exists():
        raise ValueError(f"{out} holds a run already: add --resume, or give another folder")


def refuse_other_data(out: Path, stored: dict[str, Any], present: dict[str, Any]) -> None:
    """DoesNotFit if a run would go on with another data set; plain folders are not known apart.

    Both are configs of a run, whose "data" is as `vqgan.dataset.identity` gives it.
    """
    old, new = stored.get("data", {}), present.get("data", {})
    hashes = old.get("sha256"), new.get("sha256")
    if None not in hashes and hashes[0] != hashes[1]:
        raise DoesNotFit(
            f"{out} was trained on other data: the sha256 of its manifest.jsonl, {old['name']}, "
            f"was {hashes[0][:12]}, and that of {new['name']} is {hashes[1][:12]}: resume with the "
            "same data, or start a new run"
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
    1 and one line where a loss or gradient is no longer finite; 2 where `resume` does not fit.
    """
    words = " ".join(sys.argv[1:] if argv is None else argv)
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
    except NotFinite as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from error
    finally:
        distributed.stop()
