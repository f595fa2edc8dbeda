"""`python -m bench`: how fast this project's parts are, each beside another way to do the same.

Both ways run alternately in one process, so that their ratio means something on a noisy machine.
`python -m bench.quality` measures how good the pictures are.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import torch

from bench import Row
from training.flags import Parser, fail
from training.memory import keep_pages

BENCHES = {
    "lookup": "bench.lookup",
    "train-step": "bench.train_step",
    "prior": "bench.prior_speed",
}


def table(rows: list[Row]) -> str:
    """Aligned text: what was measured, ours, theirs, and how many times faster ours is."""
    lines = [("", "ours", "theirs", "times faster")]
    for row in rows:
        ours, theirs = (f"{v:.3g} {row.unit}" for v in (row.ours, row.theirs))
        lines.append((f"{row.what} | beside {row.beside}", ours, theirs, f"{row.faster:.2f}"))
    widths = [max(len(line[i]) for line in lines) for i in range(4)]
    return "\n".join(
        "  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in lines
    )


def main(argv: list[str] | None = None) -> None:
    p = Parser(prog="python -m bench", description=__doc__)
    p.add_argument("--only", choices=BENCHES, nargs="+", help="these only (default: all)")
    p.add_argument("--json", type=Path, metavar="F", help="also write the figures to F")
    args = p.parse_args(argv)
    if args.json and not args.json.resolve().parent.is_dir():
        fail(f"--json {args.json}: there is no folder {args.json.resolve().parent}")
    keep_pages()
    rows: list[Row] = []
    for name in args.only or BENCHES:
        rows += importlib.import_module(BENCHES[name]).run()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(table(rows))
    if args.json:
        content = [row._asdict() | {"faster": row.faster} for row in rows]
        args.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
