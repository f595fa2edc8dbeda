"""The command `python -m prior.ideas`: what there is to draw, beside a model."""

from __future__ import annotations

from pathlib import Path

import checkpoints
from prior import ideas, tokens
from training import flags


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
    args = p.parse_args(argv)
    try:
        bundle = checkpoints.load(args.bundle)
        kinds = bundle.card.get("prior", {}).get("training", {}).get("train", {}).get("kinds")
        found = tokens.load(args.tokens, bundle.tokenizer_id)
        rows = [row for row in found.rows if not kinds or row["kind"] in kinds]
        titles = ideas.collect(rows, args.artists)
        if not titles:
            raise ValueError(
                f"no title was drawn by {args.artists} sets of the training pictures: try a "
                "smaller --artists"
            )
        told = bundle.told([idea.text for idea in titles]).cpu().numpy()
        size = ideas.save(bundle.path / ideas.FILE, titles, told)
    except (ValueError, OSError) as error:
        flags.fail(error)
    print(f"{bundle.path / ideas.FILE}: {len(titles)} titles, {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
