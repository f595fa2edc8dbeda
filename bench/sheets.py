"""Contact sheets to look at: originals beside what came back, and icons to name blind."""

from __future__ import annotations

import json
import random
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont

from training.spread import spread
from vqgan import dataset
from vqgan.dataset import shown_name
from vqgan.images import to_image
from vqgan.metrics import code_bytes, webp_at_bytes
from vqgan.model import VQGAN, reconstruct

COLUMNS = 8
GAP = 4  # pixels between pictures
CAPTION = 18  # pixels above a numbered picture
MOST = 24  # pictures of a comparison
BLIND = 32
PICTURES = (".webp", ".png", ".jpg")  # what a sheet can be


def rebuilt(vqgan: VQGAN, picture: dataset.Picture, size: int) -> tuple[Image.Image, Image.Image]:
    """(original, reconstruction) of a whole picture at `size` pixels."""
    pixels = dataset.whole(picture, size).copy()
    x = dataset.to_tensor(pixels)[None].to(next(vqgan.parameters()).device)
    with torch.inference_mode():
        return Image.fromarray(pixels), to_image(reconstruct(vqgan, x)[0])


def grid(images: list[Image.Image], columns: int, captions: list[str] | None = None) -> Image.Image:
    """Pictures of one size, left to right and top to bottom, on grey, each under its caption."""
    width, height = images[0].size
    head = CAPTION if captions else 0
    rows = -(-len(images) // columns)
    step_x, step_y = width + GAP, height + head + GAP
    sheet = Image.new("RGB", (columns * step_x + GAP, rows * step_y + GAP), "#c8c8c8")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=14)
    for i, image in enumerate(images):
        x, y = GAP + i % columns * step_x, GAP + i // columns * step_y
        if captions:
            draw.text((x + 2, y), captions[i], fill="black", font=font)
        sheet.paste(image, (x, y + head))
    return sheet


def comparison(vqgan: VQGAN, pictures: list[dataset.Picture], path: Path, *, size: int) -> None:
    """A PNG with up to 24 pictures: the original, from its codes, and as WebP of equal bytes."""
    codes = (size // vqgan.config.downsampling) ** 2
    budget = code_bytes(codes, vqgan.config.codebook_size)
    cells = []
    for picture in spread(pictures, MOST):
        original, result = rebuilt(vqgan, picture, size)
        cells += [original, result, webp_at_bytes(original, budget)[0]]
    grid(cells, 3 * (COLUMNS // 2)).save(path)


def blind(
    vqgan: VQGAN,
    pictures: list[dataset.Picture],
    folder: Path,
    *,
    size: int,
    seed: int = 0,
    count: int = BLIND,
) -> None:
    """Icons to name without knowing them: rebuilt.png, originals.png (to open last), key.json.

    Icons only, where the data says what is one; no two of one concept; drawn by `seed`.
    """
    icons = [p for p in pictures if p.row is None or p.row["kind"] == "icon"]
    if not icons:
        raise ValueError("there are no icons to name among these pictures")
    rng = random.Random(seed)
    rng.shuffle(icons)
    by_concept = {p.row["concept"] if p.row else str(p.path): p for p in icons}
    chosen = rng.sample(list(by_concept.values()), min(count, len(by_concept)))
    pairs = [rebuilt(vqgan, picture, size) for picture in chosen]
    numbers = [str(n) for n in range(1, len(pairs) + 1)]
    folder.mkdir(parents=True, exist_ok=True)
    grid([new for _, new in pairs], COLUMNS, numbers).save(folder / "rebuilt.png")
    grid([old for old, _ in pairs], COLUMNS, numbers).save(folder / "originals.png")
    wanted = ("name", "captions", "set", "path")
    key = [
        {"number": n, **{k: p.row[k] for k in wanted}}
        if p.row
        else {"number": n, "name": shown_name(p.path.stem), "path": shown_name(p.path.name)}
        for n, p in enumerate(chosen, 1)
    ]
    text = json.dumps(key, indent=1, ensure_ascii=False) + "\n"
    (folder / "key.json").write_text(text, encoding="utf-8")
