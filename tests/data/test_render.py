"""Margins, masks and sizes of rendered pictures, on tiny SVGs and PNGs."""

import numpy as np
import pytest
from PIL import Image

from data import render


def rgba(width, height, box, colour=(200, 0, 0, 255)) -> Image.Image:
    picture = Image.new("RGBA", (width, height), (0, 0, 0, 0))
    picture.paste(colour, box)
    return picture


def test_fit_centres_and_keeps_aspect_and_margin():
    rgb, mask = render.fit(rgba(300, 200, (10, 20, 210, 120)), max_scale=2)
    assert rgb.size == mask.size == (128, 128) and (rgb.mode, mask.mode) == ("RGB", "L")
    assert mask.getbbox() == (4, 34, 124, 94)  # 200 x 100 -> 120 x 60
    assert rgb.getpixel((0, 0)) == (255, 255, 255) and rgb.getpixel((64, 64)) == (200, 0, 0)


def test_fit_does_not_blow_small_pictures_up():
    _, mask = render.fit(rgba(100, 100, (0, 0, 20, 20)), max_scale=2)
    assert mask.getbbox() == (44, 44, 84, 84)


def test_transparent_edges_leave_no_dark_fringe():
    rgb, mask = render.fit(rgba(64, 64, (8, 8, 56, 56), (255, 250, 0, 255)), max_scale=2)
    edge = np.asarray(rgb)[np.asarray(mask) > 0]
    assert edge[:, :2].min() >= 245  # black under the transparent part never shows


def test_half_transparency_is_composited_on_white_and_kept_in_the_mask():
    rgb, mask = render.fit(rgba(64, 64, (0, 0, 64, 64), (0, 0, 0, 128)), max_scale=2)
    assert abs(rgb.getpixel((64, 64))[0] - 127) <= 1 and abs(mask.getpixel((64, 64)) - 128) <= 1


@pytest.mark.parametrize(
    "picture",
    [
        rgba(64, 64, (0, 0, 0, 0)),  # nothing
        rgba(64, 64, (0, 0, 64, 64), (255, 255, 255, 255)),  # white on white
        rgba(64, 64, (0, 0, 64, 64), (0, 0, 0, 4)),  # too faint to see
        rgba(128, 128, (10, 10, 14, 14)),  # a speck
    ],
)
def test_blank_pictures_are_none(picture):
    assert render.fit(picture, max_scale=1) is None


def test_svg_keeps_its_view_box_aspect():
    pytest.importorskip("resvg_py")
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" width="20" height="10" viewBox="0 0 20 10">'
        '<rect width="10" height="10" fill="#00f"/></svg>'
    )
    picture = render.render_svg(svg)
    assert picture.size == (256, 128) and picture.getpixel((10, 64)) == (0, 0, 255, 255)
    assert picture.getpixel((200, 64))[3] == 0


def test_broken_svg_is_a_value_error():
    pytest.importorskip("resvg_py")
    with pytest.raises(ValueError):
        render.render_svg('<svg width="20" height="10" viewBox="0 0 20 10"><g></svg>')


@pytest.mark.parametrize("mode", ["P", "L", "LA", "RGB", "RGBA", "1", "I;16"])
def test_clipart_of_any_mode(tmp_path, mode):
    Image.new(mode, (9, 9)).save(tmp_path / "x.png")
    assert render.load_clipart(tmp_path / "x.png").mode == "RGBA"


def test_photo_has_the_short_side_asked_for(tmp_path):
    Image.new("CMYK", (1800, 1200)).save(tmp_path / "x.jpg")
    photo = render.load_photo(tmp_path / "x.jpg")
    assert (photo.mode, photo.size) == ("RGB", (768, 512))


def test_bombs_are_refused_and_the_limit_of_pil_is_put_back(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1234)
    Image.new("L", (20, 20)).save(tmp_path / "x.png")
    monkeypatch.setattr(render, "MAX_PIXELS", 399)
    with pytest.raises(ValueError, match="20 x 20"):
        render.load_clipart(tmp_path / "x.png")
    assert Image.MAX_IMAGE_PIXELS == 1234


def test_save_is_atomic(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr("training.files.os.replace", fail)
    with pytest.raises(OSError):
        render.save(Image.new("L", (4, 4)), tmp_path / "a/x.png")
    assert not list((tmp_path / "a").iterdir())
