"""A visitor's picture and codes: opening, editing, undoing."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from ui import session as sessions
from ui import studio as studios
from vqgan.grids import IndexFile, decode_grid
from vqgan.images import open_image
from vqgan.metrics import code_bytes
from vqgan.rebuild import rebuild


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "a picture.png"
    pixels = np.random.default_rng(0).integers(0, 256, (60, 100, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def opened(studio, picture):
    return sessions.open_picture(studio, picture, "128")


def test_a_picture_keeps_its_aspect_and_is_measured(studio, picture, opened):
    assert opened.size == (128, 77) and opened.indices.shape == (10, 16)
    assert opened.original.size == opened.result.size
    assert opened.file_bytes == picture.stat().st_size
    assert opened.bytes == code_bytes(160, 64) == 120
    assert opened.bits_per_pixel == pytest.approx(160 * 6 / (128 * 77))
    assert opened.indices is opened.encoded and not opened.capped
    near = sessions.closeness(studio, opened)
    whole = rebuild(studio.vqgan, studio.metric, open_image(picture), 128)
    assert (near.psnr, near.ssim, near.distance) == pytest.approx(
        (whole.psnr, whole.ssim, whole.distance), rel=1e-5
    )


def test_native_keeps_the_size(studio, picture):
    assert sessions.open_picture(studio, picture, "native").size == (100, 60)


def test_of_a_large_jpeg_as_much_is_decoded_as_is_worked_on(studio, tmp_path, monkeypatch):
    monkeypatch.setattr("vqgan.images.LARGE", 100)
    monkeypatch.setattr(sessions, "NATIVE_LIMIT", 96)
    monkeypatch.setattr("vqgan.rebuild.NATIVE_LIMIT", 96)
    Image.linear_gradient("L").resize((400, 200)).save(tmp_path / "a.jpg")
    found = sessions.open_picture(studio, tmp_path / "a.jpg", "native")
    assert found.size == (96, 48) and found.capped


def test_an_unknown_size_is_a_sentence(studio, picture):
    with pytest.raises(ValueError, match="choose '128', '256', '384', 'native'"):
        sessions.open_picture(studio, picture, "129")


def test_redraw_decodes_and_undo_restores_the_bytes(studio, opened):
    changed = opened.indices.copy()
    changed[0, 0] = (changed[0, 0] + 1) % 64
    edited = sessions.redraw(studio, opened, changed)
    assert edited.encoded is opened.encoded and edited.indices[0, 0] == changed[0, 0]
    assert opened.indices[0, 0] != changed[0, 0]  # the old value is untouched
    expected = decode_grid(studio.vqgan, changed, opened.size)
    assert edited.result.tobytes() == expected.tobytes()
    assert sessions.closeness(studio, edited).psnr != sessions.closeness(studio, opened).psnr
    back = sessions.undo(studio, edited)
    assert back.result.tobytes() == opened.result.tobytes() and not back.history
    assert sessions.undo(studio, back) is back


def test_what_was_painted_waits_at_its_size(studio, opened):
    edited = sessions.redraw(studio, opened, np.zeros_like(opened.indices))
    larger = sessions.resized(studio, edited, "256")
    assert larger.size == (256, 154) and not larger.history and larger.name == opened.name
    again = sessions.redraw(studio, larger, np.ones_like(larger.indices))
    back = sessions.resized(studio, again, "128")
    assert back.indices.max() == 0 and back.history and back.result is edited.result
    assert sessions.resized(studio, back, "256").indices.min() == 1
    fresh = sessions.resized(studio, sessions.undo(studio, back), "384")
    assert [s.side for s in fresh.others] == ["256"], "only where something was painted"


def test_an_edit_that_changes_nothing_is_no_step(studio, opened):
    assert sessions.redraw(studio, opened, opened.indices.copy()) is opened


def test_undo_forgets_what_lies_far_back(studio, opened, monkeypatch):
    monkeypatch.setattr(sessions, "UNDO_STEPS", 2)
    session = opened
    for code in (1, 2, 3):
        session = sessions.redraw(studio, session, np.full_like(opened.indices, code))
    assert [int(grid[0, 0]) for grid in session.history] == [1, 2]


def test_codes_without_a_picture(studio):
    grid = np.arange(12).reshape(3, 4)
    session = sessions.open_codes(studio, IndexFile(grid, (30, 20)), "some.npz")
    assert session.size == (30, 20) and session.original is None
    assert session.name == "some"
    edited = sessions.redraw(studio, session, grid[::-1].copy())
    assert edited.size == (30, 20) and sessions.closeness(studio, edited) is None


def test_download_names_are_safe():
    assert sessions.file_stem("/x/my photo (1).jpeg") == "my photo (1)"
    assert sessions.file_stem("猫.png") == "猫"
    assert sessions.file_stem('a<b>"c|.png') == "a_b__c_"
    assert sessions.file_stem(" .a. .png") == "a"
    assert sessions.file_stem("") == "picture" and len(sessions.file_stem("x" * 300)) == 60


def test_equal_pictures_are_infinitely_close(studio, opened):
    near = sessions.closeness(studio, replace(opened, result=opened.original))
    assert math.isinf(near.psnr) and near.ssim == pytest.approx(1) and near.distance < 1e-6


def test_undo_and_start_over_decode_nothing_again(studio, opened, monkeypatch):
    grids = [np.full_like(opened.indices, code) for code in (5, 6)]
    one, two = (sessions.redraw(studio, opened, grid).result.tobytes() for grid in grids)
    assert one != two
    decoded = []
    monkeypatch.setattr(studios, "decode_grid", lambda *of: decoded.append(of) or decode_grid(*of))
    session = sessions.redraw(studio, sessions.redraw(studio, opened, grids[0]), grids[1])
    back = sessions.undo(studio, session)
    assert back.result.tobytes() == one and not decoded
    # The same codes cropped to another size are another picture.
    assert studio.decode(grids[0], (100, 70)).size == (100, 70) and len(decoded) == 1


def test_the_oldest_of_the_kept_pictures_goes(studio, opened, monkeypatch):
    monkeypatch.setattr(studios, "KEPT", 3)
    with studio._lock:
        studio._kept.clear()
    decoded = []
    monkeypatch.setattr(studios, "decode_grid", lambda *of: decoded.append(of) or decode_grid(*of))
    for code in (1, 2, 3, 1, 4, 1, 2):  # 4 drives out 2, the one not asked for longest
        studio.decode(np.full_like(opened.indices, code), opened.size)
    assert [int(grid[0, 0]) for _, grid, _ in decoded] == [1, 2, 3, 4, 2]
    assert len(studio._kept) == 3
