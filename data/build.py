"""`python -m data.build --out DIR`: the training set of the bundled models.

Renders icon sets and clip art to 128x128 on white (alpha as a mask), scales photographs, and
writes captions, licences and a train / val split by concept into DIR/manifest.jsonl and
DIR/manifest.json. What exists is kept, so a second run resumes and changes nothing.
"""

import argparse
import importlib.util
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path

from data import sources
from data.sources import Picture, SourceError
from training.files import write
from training.flags import Parser, fail

FORMAT = 1
NEEDED_BYTES = 3 << 30  # unpacked packages (1 GB), pictures (0.3 GB) and room for downloads
PYTHON_PACKAGES = {
    "PIL": "pillow",
    "numpy": "numpy",
    "tqdm": "tqdm",
    "resvg_py": "resvg-py",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code 0, or ends with 2 after one line on standard error."""
    args = _parser().parse_args(argv)
    try:
        _check(args)
        build(args.out, args.only or sources.ALL_SETS, args.seed, args.workers, args.cache)
    except (SourceError, OSError) as error:
        fail(error)
    except KeyboardInterrupt:
        print("\ndata.build: stopped; the same command resumes", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m data.build",
        description="Build the training set of the bundled models from npm and Debian packages. "
        "Takes some five minutes on two cores; the same command resumes an interrupted build.",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the data set")
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the train / val split (default 0)"
    )
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="SET",
        choices=sources.ALL_SETS,
        help=f"build these sets only: {', '.join(sources.ALL_SETS)}",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=os.cpu_count() or 1,
        help="processes (default: all cores)",
    )
    parser.add_argument(
        "--cache",
        type=Path,
        help="folder for unpacked packages (default OUT/.packages)",
    )
    return parser


def _check(args: argparse.Namespace) -> None:
    args.cache = args.cache or args.out / ".packages"
    missing = [pip for module, pip in PYTHON_PACKAGES.items() if not _has(module)]
    if missing:
        raise SourceError(f"Python packages are missing: pip install {' '.join(missing)}")
    if args.workers < 1:
        raise SourceError(f"--workers must be 1 or more, not {args.workers}")
    for flag, folder in (("--out", args.out), ("--cache", args.cache)):
        if folder.exists() and not folder.is_dir():
            raise SourceError(f"{flag} {folder} is a file; name a folder")
    args.out.mkdir(parents=True, exist_ok=True)
    if (args.out / "manifest.json").exists():
        return  # complete: next to nothing will be written
    free = shutil.disk_usage(args.out).free
    if free < NEEDED_BYTES:
        raise SourceError(
            f"{args.out} has {free / 2**30:.1f} GB free and {NEEDED_BYTES / 2**30:.0f} GB are "
            "needed; free some space or name another folder with --out"
        )


def _has(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def build(out: Path, sets: Iterable[str], seed: int, workers: int, cache: Path) -> dict:
    """Fetch, render, caption and split `sets` into `out`; returns the content of manifest.json.

    Raises SourceError if a package cannot be had, or if `out` was built from other versions.
    """
    sets = [name for name in sources.ALL_SETS if name in set(sets)]
    pictures, packages, table = collect(sets, cache)
    _check_same(out, packages, sets, seed)
    kept = render_all(pictures, out, workers)
    rows, report = describe(kept, out, table, seed, workers)
    return write_manifest(out, rows, report, packages, kept, seed)


def collect(sets: Sequence[str], cache: Path):
    """(pictures, package name -> version, EmojiTable) of the named sets, fetched where needed."""
    from data.captions import EmojiTable

    packages: dict[str, str] = {}

    def fetch(name: str, for_set: str | None = None) -> sources.Package:
        print(f"package {name}", file=sys.stderr)
        try:
            package = sources.fetch(name, cache)
        except SourceError as error:
            if for_set is None:  # captions need it, whatever else is built
                raise
            raise SourceError(
                f"{error} (to do without set {for_set}: --only with the others)"
            ) from None
        packages[name] = package.version
        return package

    # Captions and concepts do not depend on --only: the emoji names are always there.
    emojibase = fetch(sources.EMOJIBASE)
    chars = [fetch(sources.ICON_SETS[s]) for s in sources.CHARS_SETS]
    table = EmojiTable.load(
        emojibase.folder / "package", [p.folder / "package/chars.json" for p in chars]
    )
    pictures: list[Picture] = []
    for name in sets:
        if name in sources.ICON_SETS:
            pictures += sources.list_icons(name, fetch(sources.ICON_SETS[name], name))
        elif name in sources.CLIPART_SETS:
            pictures += sources.list_clipart(name, fetch(sources.CLIPART_SETS[name], name))
        else:
            pictures += sources.list_photos(name, fetch(name, name))
    return pictures, packages, table


def _check_same(out: Path, packages: dict[str, str], sets: Sequence[str], seed: int) -> None:
    """SourceError if `out` holds a data set of other versions, sets or another split."""
    manifest = out / "manifest.json"
    if not manifest.exists():
        return
    old = json.loads(manifest.read_text(encoding="utf-8"))
    if old.get("format") != FORMAT:
        raise SourceError(f"{out} has format {old.get('format')}, not {FORMAT}; use a new --out")
    for name, version in packages.items():
        if old["packages"].get(name, version) != version:
            raise SourceError(
                f"{out} was built from {name} {old['packages'][name]} and {version} is here now; "
                "use a new --out, or the old --cache"
            )
    # Another split would hold out pictures that models have been trained on.
    if old["seed"] != seed:
        raise SourceError(f"{out} was split by seed {old['seed']}, not {seed}; use a new --out")
    if missing := set(old["counts"]["set"]) - set(sets):
        raise SourceError(
            f"{out} holds the sets {', '.join(sorted(missing))} as well; name them too (--only), "
            "or use a new --out"
        )


# --- rendering ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Job:
    picture: Picture
    out: Path


def image_path(picture: Picture) -> str:
    """Where the picture lies below the data folder."""
    if picture.kind == "photo":
        return f"photos/{picture.set}/{picture.id}.jpg"
    return f"images/{picture.set}/{picture.id}.png"


def mask_path(picture: Picture) -> str | None:
    """Where its mask lies below the data folder; photographs have none."""
    return None if picture.kind == "photo" else f"masks/{picture.set}/{picture.id}.png"


def render_all(pictures: Sequence[Picture], out: Path, workers: int) -> list[Picture]:
    """Render what is not there yet; returns the pictures that exist now, sorted by path.

    Blank and broken pictures are left out, with a line on standard error for the broken ones.
    """
    from tqdm import tqdm

    todo = [p for p in pictures if not (out / image_path(p)).exists()]
    jobs = [_Job(p, out) for p in todo]
    dropped: set[tuple[str, str]] = set()
    with get_context("spawn").Pool(workers) as pool:
        results = pool.imap(_render_job, jobs, chunksize=8)
        bar = tqdm(results, "render", len(jobs), unit="picture")
        for job, problem in zip(jobs, bar, strict=True):
            if problem is not None:
                dropped.add((job.picture.set, job.picture.id))
                if problem:
                    tqdm.write(
                        f"left out {image_path(job.picture)}: {problem}",
                        file=sys.stderr,
                    )
    kept = [p for p in pictures if (p.set, p.id) not in dropped]
    return sorted(kept, key=image_path)


def _render_job(job: _Job) -> str | None:
    """None if the picture is on disk now, "" if it is blank, else what is wrong with it."""
    from data import render

    picture, file = job.picture, job.out / image_path(job.picture)
    try:
        if picture.kind == "photo":
            photo = render.load_photo(picture.file)
        elif picture.svg:
            # The view box, not the drawing, maps onto the free square, up to MAX_ICON_ZOOM.
            view = (render.SIZE - 2 * render.MARGIN) / render.SUPERSAMPLED
            pair = render.fit(render.render_svg(picture.svg), render.MAX_ICON_ZOOM * view)
        else:
            pair = render.fit(render.load_clipart(picture.file), render.MAX_CLIPART_ZOOM)
    except (ValueError, OSError) as error:
        return f"{type(error).__name__}: {error}"[:200]
    if picture.kind == "photo":
        render.save(photo, file, quality=95, subsampling=0)
        return None
    if pair is None:
        return ""
    # The mask first: a picture that exists has its mask.
    render.save(pair[1], job.out / mask_path(picture))
    render.save(pair[0], file)
    return None


# --- manifest -------------------------------------------------------------------------------------


def describe(
    pictures: Sequence[Picture], out: Path, table, seed: int, workers: int
) -> tuple[list[dict], dict]:
    """(manifest rows sorted by path, near-duplicate report)."""
    from data import split
    from data.captions import captions_of, clipart_title

    rows = []
    for p in pictures:
        title = clipart_title(p.name, p.folder) if p.kind == "clipart" else p.name
        code = table.code(p.name) if p.kind == "icon" else None
        english, chinese = captions_of(p, code, table)
        photo = p.kind == "photo"
        rows.append(
            {
                "id": p.id,
                "path": image_path(p),
                "mask": mask_path(p),
                "set": p.set,
                "kind": p.kind,
                "licence": p.licence,
                "author": p.author,
                "source": p.source,
                "name": title,
                "captions": english,
                "captions_zh": chinese,
                "codepoints": code,
                "concept": f"photo {p.set} {p.id}"
                if photo
                else split.concept_of(code, title, p.folder, table),
            }
        )
    photos = {row["concept"]: row["licence"] for row in rows if row["kind"] == "photo"}
    drawn = split.count_by([row for row in rows if row["kind"] != "photo"], "concept")
    assigned = split.split_concepts(drawn, seed) | split.split_photos(photos, seed)
    report = _separate_twins(rows, out, assigned, workers)
    for row in rows:
        row["split"] = assigned[row["concept"]]
    return rows, report


def _separate_twins(rows: list[dict], out: Path, assigned: dict[str, str], workers: int) -> dict:
    """Move val concepts with near twins in train to train (in `assigned`); returns the report."""
    from tqdm import tqdm

    from data import split

    drawn = [row for row in rows if row["kind"] != "photo"]
    files = [out / row["path"] for row in drawn]
    with get_context("spawn").Pool(workers) as pool:
        looks = list(tqdm(pool.imap(_look, files, 64), "compare", len(files), unit="picture"))
    before, found = dict(assigned), []
    if drawn:
        concepts = [row["concept"] for row in drawn]
        after, found = split.move_twins(concepts, split.Looks.stack(looks), assigned)
        assigned.update(after)
    moved = sorted(c for c in assigned if assigned[c] != before[c])
    return {
        "limits": [split.INK_TWIN, split.EDGE_TWIN, split.EDGE_TWIN_INK],
        "val_pictures_before": sum(before[row["concept"]] == "val" for row in rows),
        "val_pictures_with_twin": len(found),
        "concepts_moved_to_train": len(moved),
        "pictures_moved_to_train": sum(row["concept"] in set(moved) for row in rows),
        "concepts": moved,
        "examples": [
            [drawn[t.val]["path"], drawn[t.train]["path"], round(t.distance, 4)] for t in found[:50]
        ],
    }


def _look(file: Path):
    import numpy as np
    from PIL import Image

    from data.split import look

    with Image.open(file) as picture:
        return look(np.asarray(picture.convert("RGB")))


def write_manifest(
    out: Path,
    rows: list[dict],
    near_duplicates: dict,
    packages: dict[str, str],
    pictures: Sequence[Picture],
    seed: int,
) -> dict:
    """Write manifest.jsonl, then manifest.json, whose presence says that the set is complete."""
    from data.split import count_by

    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    credit = Counter((p.source, p.author, p.licence) for p in pictures)
    manifest = {
        "format": FORMAT,
        "seed": seed,
        "counts": {
            "all": len(rows),
            **{key: count_by(rows, key) for key in ("set", "kind", "split")},
            "val_by_set": count_by([row for row in rows if row["split"] == "val"], "set"),
            "concepts": len({row["concept"] for row in rows}),
        },
        "licences": count_by(rows, "licence"),
        "attribution": [
            f"{source}: {author} ({licence}), {n} pictures, redrawn as 128 px or 512 px rasters"
            for (source, author, licence), n in sorted(credit.items())
        ],
        "packages": dict(sorted(packages.items())),
        "near_duplicates": near_duplicates,
        "sha256": sha256(lines.encode()).hexdigest(),
    }
    _write(out / "manifest.jsonl", lines)
    _write(out / "manifest.json", json.dumps(manifest, ensure_ascii=False, indent=1) + "\n")
    print(
        f"{len(rows)} pictures in {out}: "
        + ", ".join(f"{v} {k}" for k, v in manifest["counts"]["split"].items()),
        file=sys.stderr,
    )
    return manifest


def _write(file: Path, text: str) -> None:
    """Replace `file` in one step, unless it holds `text` already."""
    if file.exists() and file.read_text(encoding="utf-8") == text:
        return
    write(file, text.encode())


if __name__ == "__main__":
    sys.exit(main())
