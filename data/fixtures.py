"""`python -m data.fixtures --data DIR --out tests/fixtures`: the test pictures, from held-out ones.

Writes a data folder in miniature: held-out icons, clip art and crops of held-out photographs that
may be passed on, with the same manifest, plus LICENCES.md. The rows keep `held_out: true` and get
a split of their own, so that tiny trainings in the tests have something to train on.
"""

import json
import shutil
import sys
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from PIL import Image

from data.sources import PUBLIC_DOMAIN
from training.flags import Parser, fail

ICONS, CLIPART, CROPS_PER_PHOTO = 40, 12, 3
CROP, CROP_SIDE = 320, 160  # a square of CROP photo pixels is scaled to CROP_SIDE
ALLOWED = ("Apache-2.0", "MIT", "CC-BY-4.0", "CC0-1.0", PUBLIC_DOMAIN)
# Weapons, rude signs, trade marks and politics do not belong into test output.
AVOIDED = (
    "middle finger",
    "water pistol",
    "dagger",
    "kitchen knife",
    "opera",
    "what have you done dani",
)
LICENCE_TEXT = {
    "Apache-2.0": "Apache License 2.0, https://www.apache.org/licenses/LICENSE-2.0",
    "CC-BY-4.0": "Creative Commons Attribution 4.0, https://creativecommons.org/licenses/by/4.0/",
    "CC0-1.0": "Creative Commons Zero 1.0, https://creativecommons.org/publicdomain/zero/1.0/",
    PUBLIC_DOMAIN: "Creative Commons Public Domain Dedication, "
    "https://creativecommons.org/licenses/publicdomain/",
    "MIT": "MIT License, text below",
}
MIT = """\
Permission is hereby granted, free of charge, to any person obtaining a copy of this software
and associated documentation files (the "Software"), to deal in the Software without
restriction, including without limitation the rights to use, copy, modify, merge, publish,
distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the
Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or
substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING
BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM,
DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE."""


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code 0, or ends with 2 after one line on standard error."""
    parser = Parser(
        prog="python -m data.fixtures",
        description="Choose the test pictures from a data set made by data.build.",
    )
    parser.add_argument("--data", type=Path, required=True, help="folder made by data.build")
    parser.add_argument("--out", type=Path, required=True, help="folder of the fixtures, replaced")
    args = parser.parse_args(argv)
    if not (args.data / "manifest.json").is_file():
        fail(f"{args.data} is no data set; run data.build first")
    out, data = args.out.resolve(), args.data.resolve()
    if out == data or out in data.parents:
        fail(f"{args.data} lies in {args.out}, which is replaced: name another --out")
    if args.out.exists() and any(args.out.iterdir()) and not (args.out / "LICENCES.md").exists():
        fail(f"{args.out} holds other files; name a new folder")
    make_fixtures(args.data, args.out)
    return 0


def make_fixtures(data: Path, out: Path) -> list[dict]:
    """Write the fixture folder anew and return its manifest rows."""
    manifest = json.loads((data / "manifest.json").read_text(encoding="utf-8"))
    with open(data / "manifest.jsonl", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    rows = [r for r in rows if r["split"] == "val" and r["licence"] in ALLOWED]
    rows = [r for r in rows if r["concept"] not in AVOIDED]
    shutil.rmtree(out, ignore_errors=True)
    chosen = []
    icons = choose([r for r in rows if r["kind"] == "icon"], ICONS)
    used = {row["concept"] for row in icons}
    clipart = [r for r in rows if r["kind"] == "clipart" and r["concept"] not in used]
    for row in icons + choose(clipart, CLIPART):
        for path in (row["path"], row["mask"]):
            (out / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(data / path, out / path)
        chosen.append(row)
    for row in (r for r in rows if r["kind"] == "photo"):
        chosen += [_crop(data, out, row, part) for part in range(CROPS_PER_PHOTO)]
    chosen = [{**row, "held_out": True, "split": "train"} for row in chosen]
    for kind in ("icon", "clipart"):  # a quarter of each kind, and one photograph, is val
        for row in [r for r in chosen if r["kind"] == kind][::4]:
            row["split"] = "val"
    photos = [r for r in chosen if r["kind"] == "photo"]
    for row in photos[:CROPS_PER_PHOTO]:
        row["split"] = "val"
    chosen.sort(key=lambda row: row["path"])
    _write_manifest(out, chosen, manifest)
    return chosen


def choose(rows: list[dict], count: int) -> list[dict]:
    """`count` rows of as many sets as there are, in turn, each of another concept."""
    rows = sorted(rows, key=lambda row: sha256(row["path"].encode()).digest())
    sets = sorted({row["set"] for row in rows})
    chosen, concepts = [], set()
    while len(chosen) < count:
        before = len(chosen)
        for name in sets:
            free = (r for r in rows if r["set"] == name and r["concept"] not in concepts)
            row = next(free, None)
            if row is not None and len(chosen) < count:
                chosen.append(row)
                concepts.add(row["concept"])
        if len(chosen) == before:
            break  # fewer concepts than asked for
    return chosen


def _crop(data: Path, out: Path, row: dict, part: int) -> dict:
    """Write crop `part` of a photograph, evenly spread along its diagonal; returns its row."""
    picture_id = f"{row['id']}-{part}"
    path = f"photos/{row['set']}/{picture_id}.jpg"
    with Image.open(data / row["path"]) as photo:
        left, top = ((side - CROP) * part // (CROPS_PER_PHOTO - 1) for side in photo.size)
        square = photo.convert("RGB").crop((left, top, left + CROP, top + CROP))
    (out / path).parent.mkdir(parents=True, exist_ok=True)
    small = square.resize((CROP_SIDE, CROP_SIDE), Image.Resampling.LANCZOS)
    small.save(out / path, quality=92, subsampling=0)
    return {**row, "id": picture_id, "path": path}


def _write_manifest(out: Path, rows: list[dict], manifest: dict) -> None:
    from data.split import count_by

    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (out / "manifest.jsonl").write_text(lines, encoding="utf-8")
    summary = {
        "format": manifest["format"],
        "seed": manifest["seed"],
        "counts": {"all": len(rows), **{k: count_by(rows, k) for k in ("set", "kind", "split")}},
        "licences": count_by(rows, "licence"),
        "cut_from": manifest["sha256"],
        "sha256": sha256(lines.encode()).hexdigest(),
    }
    text = json.dumps(summary, ensure_ascii=False, indent=1) + "\n"
    (out / "manifest.json").write_text(text, encoding="utf-8")
    (out / "LICENCES.md").write_text(licences(rows), encoding="utf-8")


def licences(rows: list[dict]) -> str:
    """LICENCES.md: what came from where, by whom and under which licence, and what was changed."""
    credits: dict[tuple, int] = {}
    for row in rows:
        key = (row["source"], row["author"], row["licence"])
        credits[key] = credits.get(key, 0) + 1
    lines = [
        "# Licences of the test pictures",
        "",
        "Written by `python -m data.fixtures`. All are held out: no bundled model was trained on "
        "them.",
        "Changes: icons and clip art were drawn as 128-pixel rasters on white, photographs scaled "
        "and cut to 160 pixels.",
        "",
        "| package | author | licence | pictures |",
        "| --- | --- | --- | --- |",
    ]
    for (source, author, licence), count in sorted(credits.items()):
        lines.append(f"| {source} | {author} | {LICENCE_TEXT[licence]} | {count} |")
    holders = sorted({row["author"] for row in rows if row["licence"] == "MIT"})
    notices = [f"Copyright (c) {holder}" for holder in holders]
    lines += ["", "## MIT License", "", *notices, "", MIT, ""]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
