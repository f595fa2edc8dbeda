"""Turns an SVG, a clip-art PNG or a photograph into the files of the data set."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from training.files import replacing

SIZE = 128  # pixels, icons and clip art
MARGIN = 4  # pixels kept free around the drawing
SUPERSAMPLED = 256  # pixels, the longest side an SVG is rendered at before it is scaled down
MAX_ICON_ZOOM = 1.25  # a small square stays small: its own view box limits how far it is blown up
MAX_CLIPART_ZOOM = 2.0
PHOTO_SHORT_SIDE = 512
MAX_PIXELS = 400_000_000  # some wallpapers and clip art pass PIL's bomb limit
ALPHA_SEEN = 8  # of 255: fainter pixels do not count as drawing
INK_SEEN = 12  # of 255: how far a pixel must be from white to be seen
INK_SHARE = 0.004  # a picture with less ink than this share of its pixels is nearly blank


def render_svg(markup: str) -> Image.Image:
    """RGBA picture of the SVG, its longest side SUPERSAMPLED pixels. ValueError if it is broken."""
    import resvg_py

    head = markup[: markup.index(">")]
    width, height = (float(head.split(f'{key}="')[1].split('"')[0]) for key in ("width", "height"))
    scale = SUPERSAMPLED / max(width, height)
    png = resvg_py.svg_to_bytes(
        svg_string=markup,
        width=max(1, round(width * scale)),
        height=max(1, round(height * scale)),
        skip_system_fonts=True,  # outlines only, and the same result on every machine
    )
    return Image.open(io.BytesIO(bytes(png))).convert("RGBA")


def load_clipart(file: Path) -> Image.Image:
    """RGBA picture of any PNG mode. ValueError or OSError if it is broken or too large."""
    with _open(file) as picture:
        return picture.convert("RGBA")


def fit(picture: Image.Image, max_scale: float) -> tuple[Image.Image, Image.Image] | None:
    """Centre the visible part of an RGBA picture on a white SIZE x SIZE square.

    It is scaled, aspect kept, to touch the margin, but never by more than `max_scale`.
    Returns (RGB, L mask of its alpha), or None if nothing, or nearly nothing, can be seen.
    """
    box = picture.getchannel("A").point(lambda a: 255 * (a > ALPHA_SEEN)).getbbox()
    if box is None:
        return None
    width, height = box[2] - box[0], box[3] - box[1]
    scale = min((SIZE - 2 * MARGIN) / max(width, height), max_scale)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    # PIL premultiplies RGBA while resizing, so transparent pixels leave no dark fringe.
    drawing = picture.resize(size, Image.Resampling.LANCZOS, box=box, reducing_gap=3.0)
    canvas = Image.new("RGBA", (SIZE, SIZE), (255, 255, 255, 0))
    canvas.paste(drawing, ((SIZE - size[0]) // 2, (SIZE - size[1]) // 2))
    mask = canvas.getchannel("A")
    rgb = Image.new("RGB", (SIZE, SIZE), "white")
    rgb.paste(canvas.convert("RGB"), mask=mask)
    ink = 255 - np.asarray(rgb).min(axis=2).astype(int) > INK_SEEN
    return (rgb, mask) if ink.mean() >= INK_SHARE else None


def load_photo(file: Path) -> Image.Image:
    """RGB photograph with a short side of PHOTO_SHORT_SIDE pixels; raises as `load_clipart`."""
    with _open(file) as picture:
        scale = PHOTO_SHORT_SIDE / min(picture.size)
        size = (round(picture.width * scale), round(picture.height * scale))
        # JPEG: decode at a fraction of the size, no less than twice what is wanted.
        picture.draft("RGB", (2 * size[0], 2 * size[1]))
        return picture.convert("RGB").resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


@contextmanager
def _open(file: Path) -> Iterator[Image.Image]:
    """Open a picture of a known package under MAX_PIXELS instead of PIL's bomb limit."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with Image.open(file) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise ValueError(f"{picture.width} x {picture.height} pixels are too many")
            yield picture
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def save(picture: Image.Image, file: Path, **options) -> None:
    """Write `picture` to `file` in one step: a file that exists is whole."""
    file.parent.mkdir(parents=True, exist_ok=True)
    kind = {".png": "PNG", ".jpg": "JPEG"}[file.suffix]
    with replacing(file) as whole:
        picture.save(whole, kind, **options)
