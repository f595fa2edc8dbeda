"""Whatever a person drops in: shown as they expect it, or refused in one clear sentence."""

import io
import math
import resource
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from vqgan import images
from vqgan.images import fit, letterbox, open_image, pad_to_multiple, to_image, to_tensor

RED, WHITE = (255, 0, 0), (255, 255, 255)


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG by hand, for what Pillow does not write. `rows` are unfiltered, each after a 0."""

    def chunk(name: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + check

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def bomb(side: int) -> bytes:
    """A valid black-and-white PNG of side x side pixels in a few kilobytes."""
    return png(side, side, 1, 0, (b"\0" + bytes(-(-side // 8))) * side)


def refused(source) -> str:
    with pytest.raises(ValueError) as caught:
        open_image(source)
    message = str(caught.value)
    assert "\n" not in message and message.endswith(".")
    return message


def test_zero_bytes_and_text_and_unknown_formats_are_named(tmp_path):
    for name, content in (("empty.png", b""), ("note.png", b"hello, I am text\n" * 50)):
        (tmp_path / name).write_bytes(content)
    assert "empty.png is empty (0 bytes)" in refused(tmp_path / "empty.png")
    assert "note.png is not a picture of a known format" in refused(str(tmp_path / "note.png"))
    assert "0 bytes" in refused(b"") and "0 bytes" in refused(io.BytesIO())
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200)
    assert "known format: PNG, JPEG, WebP" in refused(heic)
    assert "there is no file" in refused(tmp_path / "gone.png")
    assert "is a folder" in refused(tmp_path)
    assert "has no content" in refused(Image.new("RGB", (0, 5)))


def test_formats_that_start_other_programs_are_not_tried():
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    assert "known format" in refused(eps)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [20_000, 10_000])  # beyond Pillow's own limit, and below it
def test_bombs_are_refused_from_the_header(side):
    data = bomb(side)
    assert len(data) < 100_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "at most 64 million can be read" in refused(data)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kilobytes


def test_the_limit_is_the_callers_and_holds_for_open_pictures():
    image = Image.new("RGB", (20, 10))
    assert open_image(encoded(image), max_pixels=200).size == (20, 10)
    for source in (encoded(image), image):
        with pytest.raises(ValueError, match="20 x 10 pixels"):
            open_image(source, max_pixels=199)


def test_truncated_jpeg_is_called_damaged():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = encoded(Image.fromarray(noise), "JPEG")
    assert "damaged or cut off" in refused(data[: len(data) // 2])


def test_one_pixel():
    image = open_image(encoded(Image.new("RGB", (1, 1), RED)))
    assert image.size == (1, 1) and image.getpixel((0, 0)) == RED


def test_cmyk_jpeg_keeps_its_colours():
    cmyk = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    image = open_image(encoded(cmyk, "JPEG", quality=100))
    assert image.mode == "RGB"
    assert np.abs(np.array(image).astype(int) - RED).max() <= 3


def test_sixteen_bits_keep_their_shades():
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)[None].repeat(4, 0)
    expected = np.arange(256)
    grey = np.array(open_image(encoded(Image.fromarray(ramp))))
    assert np.abs(grey[0, :, 0].astype(int) - expected).max() <= 1
    rows = b"".join(b"\0" + np.repeat(row.astype(">u2"), 3).tobytes() for row in ramp)
    colour = np.array(open_image(png(256, 4, 16, 2, rows)))
    assert np.abs(colour[0].astype(int) - expected[:, None]).max() <= 1


@pytest.mark.parametrize("top", [1.0, 255.0, 65535.0])
def test_floating_point_tiff_keeps_its_shades(top):
    ramp = np.linspace(0, top, 256, dtype=np.float32)[None].repeat(4, 0)
    ramp[1:] = [[np.inf], [-top], [np.nan]]
    shown = np.array(open_image(encoded(Image.fromarray(ramp), "TIFF")))
    assert (shown[1] == 255).all() and not shown[2:].any()
    shades = shown[0, :, 0]
    assert np.abs(shades.astype(int) - np.arange(256)).max() <= 1


def test_palette_and_bilevel():
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 255, *RED])
    assert open_image(encoded(image)).getpixel((0, 0)) == RED
    assert open_image(encoded(Image.new("1", (4, 4), 1))).getpixel((0, 0)) == WHITE


def transparent(mode: str) -> bytes:
    """The left pixel opaque, the right one transparent (but dark underneath)."""
    if mode == "P":
        image = Image.new("P", (2, 1), 0)
        image.putpalette([90, 90, 90, 0, 0, 0])
        image.putpixel((1, 0), 1)
        return encoded(image, transparency=1)
    image = Image.new(mode, (2, 1))
    grey = (90, 90, 90) if mode == "RGBA" else (90,)
    image.putpixel((0, 0), (*grey, 255))
    image.putpixel((1, 0), (*(0 for _ in grey), 0))
    return encoded(image)


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P"])
def test_alpha_is_laid_on_white(mode):
    image = open_image(transparent(mode))
    assert [image.getpixel((x, 0)) for x in (0, 1)] == [(90, 90, 90), WHITE]


def test_half_transparent_mixes_with_white():
    image = open_image(encoded(Image.new("RGBA", (1, 1), (255, 0, 0, 51))))
    assert image.getpixel((0, 0)) == (255, 204, 204)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    upright = Image.new("RGB", (24, 16), "white")
    upright.paste(RED, (0, 0, 8, 8))  # top left
    undo = {
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }
    stored = upright
    for step in undo.get(orientation, []):
        stored = stored.transpose(step)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = open_image(encoded(stored, "JPEG", quality=100, subsampling=0, exif=exif))
    assert image.size == (24, 16)
    assert np.abs(np.array(image).astype(int) - np.array(upright)).max() < 20


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
def test_an_animation_gives_its_first_frame(kind):
    frames = [Image.new("RGB", (16, 16), c) for c in (RED, (0, 0, 255))]
    image = open_image(encoded(frames[0], kind, save_all=True, append_images=frames[1:]))
    assert np.abs(np.array(image).astype(int) - RED).max() <= 4


def test_embedded_colour_profiles_are_followed():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = profile.replace(b"rXYZ", b"tmp ").replace(b"bXYZ", b"rXYZ").replace(b"tmp ", b"bXYZ")
    red = Image.new("RGB", (2, 2), RED)
    plain = open_image(encoded(red, icc_profile=profile)).getpixel((0, 0))
    assert np.abs(np.subtract(plain, RED)).max() <= 2
    blue = open_image(encoded(red, icc_profile=swapped)).getpixel((0, 0))
    assert np.abs(np.subtract(blue, (0, 0, 255))).max() <= 2
    assert open_image(encoded(red, icc_profile=b"no profile")).getpixel((0, 0)) == RED


def test_a_file_is_read_and_left_open_and_a_path_is_closed(tmp_path, recwarn):
    Image.new("RGB", (3, 2), RED).save(tmp_path / "a.png")
    with open(tmp_path / "a.png", "rb") as file:
        assert open_image(file).size == (3, 2)
        assert not file.closed
    open_image(tmp_path / "a.png")
    assert not [w for w in recwarn if issubclass(w.category, ResourceWarning)]


def test_tensors_and_back():
    pixels = np.random.default_rng(1).integers(0, 256, (5, 7, 3), np.uint8)
    x = to_tensor(Image.fromarray(pixels))
    assert x.shape == (1, 3, 5, 7) and x.dtype == torch.float32
    assert x[0, 2, 4, 6].item() == pytest.approx(pixels[4, 6, 2] / 127.5 - 1)
    for tensor in (x, x[0]):
        assert np.array_equal(np.array(to_image(tensor)), pixels)
    assert to_image(torch.tensor([-9.0, 0.0, 9.0]).view(3, 1, 1)).getpixel((0, 0)) == (0, 128, 255)
    with pytest.raises(ValueError, match="expected"):
        to_image(torch.zeros(2, 3, 4, 4))


def test_fit_keeps_the_aspect():
    sizes = {(100, 50): (128, 64), (50, 100): (64, 128), (1, 1): (128, 128), (3000, 2): (128, 1)}
    for given, expected in sizes.items():
        assert fit(Image.new("RGB", given), 128).size == expected
    image = Image.new("RGB", (128, 90))
    assert fit(image, 128) is image
    with pytest.raises(ValueError, match="at least 1"):
        fit(image, 0)


def test_padding_repeats_the_edge_and_crops_back():
    x = torch.arange(2 * 3 * 5 * 9, dtype=torch.float32).view(2, 3, 5, 9)
    padded, (height, width) = pad_to_multiple(x, 8)
    assert padded.shape == (2, 3, 8, 16) and (height, width) == (5, 9)
    assert torch.equal(padded[..., :5, :9], x)
    assert torch.equal(padded[..., 7, 15], x[..., 4, 8])
    assert pad_to_multiple(torch.zeros(1, 3, 8, 16), 8)[0].shape == (1, 3, 8, 16)
    assert pad_to_multiple(torch.zeros(1, 3, 1, 1), 8)[0].shape == (1, 3, 8, 8)


def test_a_letterbox_stretches_nothing():
    box = letterbox(Image.new("RGB", (40, 20), "red"), (100, 100))
    pixels = np.asarray(box)
    red = (pixels == (255, 0, 0)).all(2)
    assert box.size == (100, 100) and red.sum() == 100 * 50
    assert (pixels[:25] == 255).all() and red[25:75].all()
    tall = np.asarray(letterbox(Image.new("RGB", (20, 40), "red"), (100, 100)))
    assert (tall == (255, 0, 0)).all(2)[:, 25:75].all() and (tall[:, :25] == 255).all()
    line = np.asarray(letterbox(Image.new("RGB", (2000, 3), "red"), (100, 100)))
    assert (line == (255, 0, 0)).all(2).sum() == 100, "a pixel at the least"


def test_an_endless_side_is_refused_from_the_header():
    """Sixty million rows of one bit are few pixels, but rows cost memory each."""
    data = png(1, 60_000_000, 1, 0, bytes(1000))
    assert "this file is 1 x 60,000,000 pixels: no side may be longer than 20,000" in refused(data)


@pytest.mark.parametrize(("depth", "colour", "width"), [(8, 2, 3), (1, 0, 1 / 8), (16, 6, 8)])
def test_a_png_with_rows_missing_is_called_damaged_though_it_ends_properly(depth, colour, width):
    """The same with all rows, black ones too, is a picture."""
    row = b"\0" + bytes(math.ceil(41 * width))
    assert open_image(png(41, 30, depth, colour, row * 30)).size == (41, 30)
    assert "is damaged or cut off" in refused(png(41, 30, depth, colour, row * 29))


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (8, 8), (13, 37)])
def test_rows_of_an_interlaced_png_are_counted(size, monkeypatch):
    wanted = []
    monkeypatch.setattr(images, "_unpacked", lambda file, count: wanted.append(count) or count)
    data = png(*size, 8, 2, b"")
    data = data[:28] + b"\1" + struct.pack(">I", zlib.crc32(data[12:28] + b"\1")) + data[33:]
    picture = Image.new("RGB", size)
    picture.format, picture.info["interlace"] = "PNG", 1
    images._check_rows(picture, io.BytesIO(data))
    rows = [range(top, size[1], down) for _, top, _, down in images.ADAM7]
    columns = [range(left, size[0], across) for left, _, across, _ in images.ADAM7]
    expected = sum(len(r) * (1 + 3 * len(c)) for r, c in zip(rows, columns, strict=True) if c)
    assert wanted == [expected]
    pixels = sum(len(r) * len(c) for r, c in zip(rows, columns, strict=True))
    assert pixels == size[0] * size[1]


def test_large_files_are_decoded_one_at_a_time(monkeypatch):
    """Each may take a gigabyte for a moment."""
    seen = []
    real = images._to_rgb
    monkeypatch.setattr(images, "LARGE", 100)
    monkeypatch.setattr(
        images, "_to_rgb", lambda image: seen.append(images._one_large.locked()) or real(image)
    )
    for side in (10, 11):
        open_image(encoded(Image.new("RGB", (side, side))))
    assert seen == [False, True]


def test_of_a_large_jpeg_no_more_is_decoded_than_is_wanted(monkeypatch):
    data = encoded(Image.linear_gradient("L").resize((800, 400)), "JPEG")
    assert open_image(data, side=100).size == (800, 400), "small enough as it is"
    monkeypatch.setattr(images, "LARGE", 100)
    assert open_image(data, side=100).size == (200, 100)
    assert open_image(data, side=120).size == (400, 200)


def test_the_shorter_side_is_as_long_as_asked_and_never_longer_than_it_was():
    data = encoded(Image.linear_gradient("L").resize((1600, 400)), "JPEG")
    for source in (data, Image.new("RGB", (1600, 400))):
        sizes = {n: open_image(source, shortest=n).size for n in (150, 200, 400, 500)}
        assert sizes == {150: (600, 150), 200: (800, 200), 400: (1600, 400), 500: (1600, 400)}


def test_the_clear_grey_of_a_png_of_16_bits_is_white_paper(tmp_path):
    pixels = np.zeros((8, 8), np.uint16)
    pixels[2:6, 2:6] = 40_000
    Image.fromarray(pixels).save(tmp_path / "a.png", transparency=0)
    image = open_image(tmp_path / "a.png")
    assert image.getpixel((0, 0)) == (255,) * 3 and image.getpixel((3, 3)) == (156,) * 3


def grey_profile(gamma: float) -> bytes:
    """The least that an ICC profile of greys holds: a white point and a curve."""
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    tags = struct.pack(">I4sII4sII", 2, b"wtpt", 156, len(white), b"kTRC", 176, len(curve))
    head = struct.pack(">I4sI4s4s4s", 192, b"", 0x02100000, b"mntr", b"GRAY", b"XYZ ")
    head += struct.pack(">6H4s", 2024, 1, 1, 0, 0, 0, b"acsp") + bytes(28)
    head += struct.pack(">3i", 63190, 65536, 54061) + bytes(48)
    return head + tags + white + curve


def test_inks_are_as_their_profile_means_them():
    """A printer's profile by which inks are one red, L*a*b* (53, 80, 67), and black is black."""
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0])
    table += struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    inks = bytes([135, 208, 195, 0, 128, 128]) * 2**3
    table += bytes(range(256)) * 4 + inks + bytes(range(256)) * 3
    tags = struct.pack(">I4sII", 1, b"A2B0", 144, len(table))
    size, white = 144 + len(table), struct.pack(">3i", 63190, 65536, 54061)
    head = struct.pack(">I4sI4s4s4s", size, b"", 0x02100000, b"prtr", b"CMYK", b"Lab ")
    head += struct.pack(">6H4s", 2024, 1, 1, 0, 0, 0, b"acsp") + bytes(28) + white + bytes(48)
    for mode, ink in (("CMYK", (255, 0, 0, 0)), ("RGB", (0, 255, 255))):
        data = encoded(Image.new(mode, (4, 4), ink), "JPEG", icc_profile=head + tags + table)
        red, green, blue = open_image(data).getpixel((1, 1))
        assert (red > 240 and green < 15 and blue < 15) == (mode == "CMYK")


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_greys_are_as_their_profile_means_them(mode):
    """Scans and print pictures in "Dot Gain 20%" and the like were a shade off."""
    image = Image.new(mode, (4, 4), 128 if mode == "L" else (128, 255))
    shown = open_image(encoded(image, icc_profile=grey_profile(1.0))).getpixel((1, 1))
    assert all(abs(value - 188) <= 1 for value in shown), "half of the light"
    shown = open_image(encoded(image, icc_profile=grey_profile(2.2))).getpixel((1, 1))
    assert all(abs(value - 128) <= 2 for value in shown)
    colour = Image.new("RGB", (4, 4), (200, 30, 40))
    assert open_image(encoded(colour, icc_profile=grey_profile(1.0))).getpixel((1, 1))[1] == 30
