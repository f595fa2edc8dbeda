"""The command `python -m prior.ideas`: what there is to draw, beside a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import checkpoints
from prior import ideas, tokens
from prior.ideas import Ideas
from training import flags
from training.arrays import read_array


def main(argv: list[str] | None = None) -> None:
    p = flags.Parser(
        prog="python -m prior.ideas",
        description="Write titles that several artists of the training pictures drew.",
    )
    p.add_argument("--tokens", required=True, type=Path, help="F.npy of prior.tokens")
    p.add_argument("--bundle", default=checkpoints.DEFAULT, help="name or folder (%(default)s)")
    p.add_argument(
        "--artists", type=int, default=ideas.ARTISTS, help="how many at least (%(default)s)"
    )
    p.add_argument(
        "--conditions", type=Path, help="what the prior was trained with: the mean over a title's "
        "drawings is told, not its words alone",
    )  # fmt: skip
    args = p.parse_args(argv)
    try:
        if args.artists < 1:
            raise ValueError(f"artists is {args.artists}: it must be at least 1")
        bundle = checkpoints.load(args.bundle)
        kinds = bundle.card.get("prior", {}).get("training", {}).get("train", {}).get("kinds")
        known = tokens.load(args.tokens, bundle.tokenizer_id)
        # Of another kind than the prior's is as good as held out.
        rows = [
            row if not kinds or row["kind"] in kinds else row | {"split": "val"}
            for row in known.rows
        ]
        titles = ideas.collect(rows, args.artists)
        if not titles and not ideas.collect(rows, 1):
            raise ValueError(
                f"none of {args.tokens}'s training pictures has a title and a set: encode a folder "
                "made by data.build, or with both in its manifest.jsonl (captions, set)"
            )
        if not titles:
            raise ValueError(
                f"no title was drawn by {args.artists} sets of the training pictures: try a "
                "smaller --artists"
            )
        if args.conditions is None:
            told = bundle.told([idea.text for idea in titles]).cpu().numpy()
        else:
            told = means(args.conditions, ideas.places(rows, titles), len(rows))
        found = Ideas(tuple(titles), told, ideas.clip_id(bundle.card))
        found.check(bundle.prior.config.embedding_size if bundle.prior else 0, bundle.card)
        size = found.save(bundle.path)
    except (ValueError, OSError) as error:
        flags.fail(error)
    print(f"{bundle.path / ideas.FILE}: {len(titles)} titles, {size / 1e6:.2f} MB")


def means(path: Path, places: list[list[int]], count: int) -> np.ndarray:
    """The mean of all conditions of each idea's drawings, at unit length: (n, E) float32."""
    given = read_array(path, "conditions", mmap=True)
    given = given[:, None] if given.ndim == 2 else given
    if given.ndim != 3 or len(given) != count:
        raise ValueError(
            f"{path} holds conditions of shape {given.shape}: expected ({count}, choices, size), "
            "those of these tokens"
        )
    found = np.stack([np.asarray(given[p], np.float32).mean((0, 1)) for p in places])
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    if not (np.isfinite(lengths) & (lengths > 0)).all():
        raise ValueError(f"{path} holds conditions that are zero or not finite: make them again")
    return found / lengths


if __name__ == "__main__":
    main()
