"""Pictures in and out: any file a person may drop in -> RGB, and RGB <-> tensors in [-1, 1]."""

from __future__ import annotations

import contextlib
import io
import math
import os
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageCms, ImageOps
from torch import Tensor

MAX_PIXELS = 64_000_000  # RGB of this size is 192 MB; larger ones are refused unread
MAX_SIDE = 20_000  # Pillow keeps a pointer for every row: 60 million rows of a bit take 1.8 GB
LARGE = 4_000_000  # pixels from which on files are decoded one at a time: each may take a gigabyte
# A list, since Pillow knows formats that no one uploads and some that run other programs (EPS).
FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM")
KNOWN = "PNG, JPEG, WebP, AVIF, GIF, BMP and TIFF can be read"

# First column and row of an interlaced PNG's passes, and the steps to the next ones.
ADAM7 = (
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)
GREY = ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "F")  # modes without colours
_one_large = threading.Lock()

Source = str | os.PathLike | bytes | BinaryIO | Image.Image


def open_image(
    source: Source,
    *,
    max_pixels: float = MAX_PIXELS,
    shortest: int | None = None,
    side: int | None = None,
) -> Image.Image:
    """A path, bytes, binary file or PIL picture -> PIL "RGB", upright, sRGB, alpha on white.

    Of an animation the first frame. A side shorter than `shortest` stays; else the picture is
    scaled down until its shorter side is that long. `side`: all that is wanted of the longest one,
    so that a large JPEG may come smaller, but at least twice as long. ValueError with one sentence
    if it is empty, no picture, of an unknown format, damaged, or has more than `max_pixels` pixels
    or a side of more than MAX_SIDE (found before decoding).
    """
    if isinstance(source, Image.Image):
        _check_size(source.size, max_pixels, "the picture")
        return _shrunk(_to_rgb(source), shortest)
    with _header(source, max_pixels) as (name, image, file):
        large = math.prod(image.size) > LARGE
        with _one_large if large else contextlib.nullcontext():
            try:
                if shortest is not None:
                    _draft(image, shortest / min(image.size))
                elif side is not None and large:
                    _draft(image, side / max(image.size))
                image.load()
                _check_rows(image, file)
                return _shrunk(_to_rgb(image), shortest)
            except Exception as error:
                raise ValueError(f"{name} is damaged or cut off: {error}.") from error


def check_image(source: Source, *, max_pixels: float = MAX_PIXELS) -> None:
    """ValueError as `open_image` raises it, from the header alone: damage behind it goes unseen."""
    with _header(source, max_pixels):
        pass


def _draft(image: Image.Image, scale: float) -> None:
    """JPEG: decode at a fraction of the size, no less than twice what is wanted."""
    if 2 * scale < 1:
        image.draft(None, tuple(math.ceil(2 * scale * s) for s in image.size))


def _check_rows(image: Image.Image, file: BinaryIO) -> None:
    """EOFError if a PNG that ends properly holds fewer rows than its header promises.

    Pillow leaves the missing ones black, so where the last row has content, none is missing.
    """
    last = (0, image.height - 1, *image.size)
    if image.format != "PNG" or (not image.info.get("interlace") and image.crop(last).getbbox()):
        return
    file.seek(16)
    head = file.read(13)
    bits = head[8] * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[head[9]]
    passes = ADAM7 if head[12] else ((0, 0, 1, 1),)
    wanted = 0
    for left, top, across, down in passes:
        columns, rows = -(-(image.width - left) // across), -(-(image.height - top) // down)
        wanted += rows * (1 + (columns * bits + 7) // 8) if columns > 0 else 0
    found = _unpacked(file, wanted)
    if found < wanted:
        raise EOFError(f"it holds {found} of {wanted} bytes")


def _unpacked(file: BinaryIO, wanted: int) -> int:
    """How many bytes the PNG's own picture unpacks to, at most some more than `wanted`."""
    stream, found = zlib.decompressobj(), 0
    file.seek(8)
    while found < wanted and len(head := file.read(8)) == 8:
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if kind != b"IDAT":
            file.seek(length + 4, os.SEEK_CUR)
            continue
        packed = file.read(length)
        while packed and found < wanted:
            found += len(stream.decompress(packed, 2**20))
            packed = stream.unconsumed_tail
        file.seek(4, os.SEEK_CUR)
    return found


@contextlib.contextmanager
def _header(source: Source, max_pixels: float) -> Iterator[tuple[str, Image.Image, BinaryIO]]:
    """What to call a file in a message, its picture, not decoded yet, and the file itself."""
    name, file = _opened(source)
    with contextlib.ExitStack() as stack:
        if isinstance(source, (str, os.PathLike)):
            stack.callback(file.close)
        if file.seek(0, os.SEEK_END) == 0:
            raise ValueError(f"{name} is empty (0 bytes): choose a picture. {KNOWN}.")
        file.seek(0)
        try:
            Image.init()
            image = Image.open(file, formats=[f for f in FORMATS if f in Image.OPEN])
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise ValueError(
                f"{name} has far too many pixels: at most {max_pixels / 1e6:g} million can be "
                "read, so scale it down first."
            ) from None
        except Exception:  # Pillow's readers raise a dozen kinds of error on foreign bytes
            raise ValueError(f"{name} is not a picture of a known format: {KNOWN}.") from None
        _check_size(image.size, max_pixels, name)
        yield name, image, file


def _shrunk(image: Image.Image, shortest: int | None) -> Image.Image:
    """Scaled down until the shorter side is `shortest` pixels, aspect kept; never up."""
    if shortest is None or min(image.size) <= shortest:
        return image
    scale = shortest / min(image.size)
    size = (round(image.width * scale), round(image.height * scale))
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def _opened(source: str | os.PathLike | bytes | BinaryIO) -> tuple[str, BinaryIO]:
    """What to call the source in a message, and the source as a binary file."""
    if isinstance(source, (bytes, bytearray)):
        return "this file", io.BytesIO(source)
    if not isinstance(source, (str, os.PathLike)):
        if not hasattr(source, "seek"):
            raise ValueError(f"no picture was given but {type(source).__name__}: choose a file.")
        return "this file", source
    path = Path(source)
    try:
        return path.name, path.open("rb")
    except FileNotFoundError:
        raise ValueError(f"there is no file {path}.") from None
    except IsADirectoryError:
        raise ValueError(f"{path} is a folder: choose a picture.") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be opened: {error.strerror}.") from error


def _check_size(size: tuple[int, int], max_pixels: float, name: str) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise ValueError(f"{name} is {width}x{height} pixels: it has no content.")
    if width * height > max_pixels:
        raise ValueError(
            f"{name} has {width:,} x {height:,} pixels: at most {max_pixels / 1e6:g} million can "
            "be read, so scale it down first."
        )
    if max(size) > MAX_SIDE:
        raise ValueError(
            f"{name} is {width:,} x {height:,} pixels: no side may be longer than {MAX_SIDE:,}, so "
            "crop it or scale it down first."
        )


def _to_rgb(image: Image.Image) -> Image.Image:
    """Any mode -> a new "RGB" picture: 8 bits, EXIF orientation applied, alpha on white, sRGB."""
    profile = image.info.get("icc_profile")
    with contextlib.suppress(Exception):  # a broken EXIF block is no reason to refuse the picture
        image = ImageOps.exif_transpose(image)
    alpha, grey = None, image.mode in GREY
    if image.mode.startswith("I") or image.mode == "F":
        clear = image.info.get("transparency")  # a PNG's grey of 16 bits that is none
        if clear is not None:
            alpha = Image.fromarray((np.asarray(image) != clear).astype(np.uint8) * np.uint8(255))
        image = _eight_bits(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
    elif image.mode != "CMYK":
        image = image.convert("RGB")
    if profile:
        image = _to_srgb(image, profile, grey)
    image = image.convert("RGB")
    if alpha is None:
        return image
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=alpha)
    return white


def _eight_bits(image: Image.Image) -> Image.Image:
    """Modes I;16, I and F -> "L". Pillow's own convert would clip them to white."""
    given = np.asarray(image)
    values = np.nan_to_num(given)
    top = float(given.max(initial=0, where=np.isfinite(given)))
    if image.mode.startswith("I;16"):
        white = 65535
    else:  # 32-bit TIFF: no range is given, so the smallest usual one that holds its values
        white = next((w for w in (1, 255, 65535) if 0 < top <= w), max(top, 1))
    scaled = (values.clip(0, white) * np.float32(255 / white)).round()
    return Image.fromarray(scaled.astype(np.uint8), "L")


def _to_srgb(image: Image.Image, profile: bytes, grey: bool) -> Image.Image:
    """Colours as the embedded ICC profile means them (wide-gamut phones, printers' CMYK).

    `grey`: there were none, so that the profile may be one of a printer's or scanner's greys.
    """
    with contextlib.suppress(ImageCms.PyCMSError, OSError, ValueError):
        given = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = given.profile.xcolor_space.strip()
        fits = {"CMYK"} if image.mode == "CMYK" else {"RGB", "GRAY"} if grey else {"RGB"}
        if space in fits:
            target, mode = ImageCms.createProfile("sRGB"), {"GRAY": "L"}.get(space, space)
            return ImageCms.profileToProfile(image.convert(mode), given, target, outputMode="RGB")
    return image


def to_tensor(image: Image.Image) -> Tensor:
    """PIL picture (W x H) -> (1, 3, H, W) float32 in [-1, 1]."""
    pixels = torch.from_numpy(np.array(image.convert("RGB")))
    return pixels.permute(2, 0, 1)[None].float().div_(127.5).sub_(1)


def to_image(tensor: Tensor) -> Image.Image:
    """(3, H, W) or (1, 3, H, W) float, clamped to [-1, 1] -> PIL "RGB" (W x H)."""
    pixels = tensor[0] if tensor.ndim == 4 and tensor.shape[0] == 1 else tensor
    if pixels.ndim != 3 or pixels.shape[0] != 3:
        raise ValueError(f"the tensor has shape {tuple(tensor.shape)}: expected (3, H, W)")
    pixels = pixels.detach().float().clamp(-1, 1).add(1).mul(127.5).round()
    return Image.fromarray(pixels.to(torch.uint8).permute(1, 2, 0).contiguous().cpu().numpy())


def fit(image: Image.Image, side: int) -> Image.Image:
    """Scale so that the longest side is `side` pixels, up or down, aspect kept (at least 1 px)."""
    if side < 1:
        raise ValueError(f"side is {side}: it must be at least 1 pixel")
    scale = side / max(image.size)
    size = tuple(max(1, round(s * scale)) for s in image.size)
    if size == image.size:
        return image
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def letterbox(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Scaled to fit into `size`, aspect kept, on white: nothing is stretched or cut."""
    scale = min(size[0] / image.width, size[1] / image.height)
    small = image.resize(
        (max(1, round(image.width * scale)), max(1, round(image.height * scale))),
        Image.Resampling.LANCZOS,
    )
    page = Image.new("RGB", size, "white")
    page.paste(small, ((size[0] - small.width) // 2, (size[1] - small.height) // 2))
    return page


def pad_to_multiple(images: Tensor, f: int) -> tuple[Tensor, tuple[int, int]]:
    """(B, C, H, W) -> (the same with its right and bottom edges repeated, (H, W)).

    Both sides become multiples of `f`; crop a result back with `[..., :H, :W]`.
    """
    height, width = images.shape[-2:]
    pad = (0, math.ceil(width / f) * f - width, 0, math.ceil(height / f) * f - height)
    return F.pad(images, pad, mode="replicate") if any(pad) else images, (height, width)
