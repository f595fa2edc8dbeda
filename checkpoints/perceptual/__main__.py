"""Makes the shipped metric's weights: `python -m checkpoints.perceptual`.

Reads the AlexNet file of the PyPI package stlpips-pytorch and writes `alex.safetensors` (fp16).
"""

from __future__ import annotations

from pathlib import Path

import torch

from checkpoints.bundle import METRIC, pack
from training.files import write
from training.flags import Parser, fail
from vqgan.perceptual import from_shift_tolerant, pypi_weights


def main(argv: list[str] | None = None) -> None:
    parser = Parser(prog="python -m checkpoints.perceptual", description=__doc__)
    parser.add_argument("--out", type=Path, default=METRIC, help="file to write (%(default)s)")
    args = parser.parse_args(argv)
    try:
        state = torch.load(pypi_weights("alex"), map_location="cpu", weights_only=True)
        data = pack(from_shift_tolerant(state, "alex").state_dict())
        write(args.out, data)
    except OSError as error:
        fail(error)
    print(f"{args.out}: {len(data):,} bytes")


if __name__ == "__main__":
    main()
