"""Train the small CLIP: `python -m clip_guidance.train text ...`, then `... image ...`.

The two towers meet in the sentence encoder's space, so each can be trained on its own; `python -m
clip_guidance.export` puts them together. Each part has its own `--help`.
"""

from __future__ import annotations

import sys

from clip_guidance import train_image, train_text
from training import flags

PARTS = {"text": train_text.main, "image": train_image.main}


def main(argv: list[str] | None = None) -> None:
    words = sys.argv[1:] if argv is None else argv
    p = flags.Parser(prog="python -m clip_guidance.train", description=__doc__)
    p.add_argument("part", choices=PARTS, help="which tower")
    PARTS[p.parse_args(words[:1]).part](words[1:])


if __name__ == "__main__":
    main()
