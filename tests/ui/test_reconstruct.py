"""What the Reconstruct tab does, without a browser."""

from __future__ import annotations

import base64
import io
import re
import struct
import zlib
from dataclasses import replace

import gradio as gr
import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from PIL import Image

from ui import between, code_grid, page, panels, reconstruct, reconstruct_board
from ui import session as sessions
from ui.common import Sentence
from ui.downloads import KEPT
from ui.examples import EXAMPLES
from vqgan.grids import IndexFile


def unpack(data_url: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data_url.split(",")[1]))))


def source(html: str) -> str:
    return re.search(r'src="(data:[^"]+)"', html)[1]


@pytest.fixture(scope="module")
def opened(studio):
    return sessions.open_picture(studio, EXAMPLES[0].path, "128")


@pytest.fixture(scope="module")
def edits(studio):
    return reconstruct_board.edits(studio)


def test_a_stroke_paints_its_cells_only(edits, opened):
    code = int(opened.indices[0, 0] + 1) % 64
    after = edits["stroke"](opened, {"tool": "paint", "code": code, "cells": [[0, 0], [3, 5]]})
    expected = opened.indices.copy()
    expected[0, 0] = expected[3, 5] = code
    assert np.array_equal(after.indices, expected)


def test_erasing_paints_the_code_of_white(studio, edits, opened, tmp_path):
    after = edits["stroke"](opened, {"tool": "erase", "cells": [[8, 8]]})
    assert after.indices[8, 8] == studio.blank_code
    Image.new("RGB", (64, 64), "white").save(tmp_path / "white.png")
    white = sessions.open_picture(studio, tmp_path / "white.png", "native").indices
    assert np.bincount(white.ravel()).argmax() == studio.blank_code


@pytest.mark.parametrize(
    "data",
    [
        {"tool": "paint", "code": 64, "cells": [[0, 0]]},
        {"tool": "paint", "code": -1, "cells": [[0, 0]]},
        {"tool": "paint", "code": 1.5, "cells": [[0, 0]]},
        {"tool": "paint", "code": "7", "cells": [[0, 0]]},
        {"tool": "paint", "code": None, "cells": [[0, 0]]},
        {"tool": "paint", "code": 1, "cells": [[16, 0]]},
        {"tool": "paint", "code": 1, "cells": [[-1, 0]]},
        {"tool": "paint", "code": 1, "cells": [[0]]},
        {"tool": "paint", "code": 1, "cells": [[0.5, 0]]},
        {"tool": "paint", "code": 1, "cells": [[None, float("inf")]]},
        {"tool": "paint", "code": 1, "cells": "all"},
        {"tool": "paint", "code": 1, "cells": [[0, 0]] * 2000},
        {},
    ],
)
def test_nonsense_from_a_browser_is_a_sentence(edits, opened, data):
    with pytest.raises(ValueError, match=r"code|cell|stroke"):
        edits["stroke"](opened, data)


def test_swap_shuffle_restore(edits, opened):
    old, new = int(opened.indices[0, 0]), 5
    swapped = edits["swap"](opened, {"old": old, "new": new})
    assert not (swapped.indices == old).any()
    assert (swapped.indices == new).sum() == np.isin(opened.indices, (old, new)).sum()
    shuffled = edits["shuffle"](swapped, {})
    assert not np.array_equal(shuffled.indices, swapped.indices)
    assert np.array_equal(np.sort(shuffled.indices.ravel()), np.sort(swapped.indices.ravel()))
    restored = edits["restore"](shuffled, {})
    assert np.array_equal(restored.indices, opened.indices) and len(restored.history) == 3
    assert np.array_equal(edits["undo"](restored, {}).indices, shuffled.indices)


def test_the_canvas_gets_the_grid_and_the_pixels(studio, edits, opened):
    after = edits["stroke"](opened, {"tool": "paint", "code": 9, "cells": [[2, 3], [0, 1]]})
    value = code_grid.value(studio, after, picked=4)
    assert value["grid"] == after.indices.tolist() and value["undo"] == 1
    assert value["changed"] == [[0, 1], [2, 3]] and value["picked"] == 4
    assert (value["width"], value["height"], value["f"], value["codes"]) == (128, 128, 8, 64)
    assert np.array_equal(unpack(value["image"]), np.asarray(after.result))


def test_the_sheet_of_codes_holds_every_code_once_in_its_place(studio):
    sheet = code_grid.palette(studio)([])
    grid, picture = np.array(sheet["grid"]), unpack(sheet["image"])
    assert sorted(grid[grid >= 0]) == list(range(64))
    row, column = np.argwhere(grid == 17)[0]
    place = picture[row * 8 : row * 8 + 8, column * 8 : column * 8 + 8]
    assert np.array_equal(place, studio.cells()[17])


def test_the_figures_are_those_of_the_session(studio, opened):
    near = sessions.closeness(studio, opened)
    html, _ = reconstruct._figures(studio, opened)
    for figure in (
        f"<b>{near.psnr:.1f}<i>dB",
        f"<b>{near.ssim:.3f}<",
        f"<b>{near.distance:.3f}<",
        f"<b>{opened.distinct}<",
        f"<b>{256 * 6 / 128**2:.3f}<",
        f"<b>{opened.file_bytes / 192:.3g}<i>",
    ):
        assert figure in html, figure


def test_a_picture_that_was_capped_and_codes_without_one_are_said(studio, opened):
    near = sessions.closeness(studio, opened)
    html = panels.tiles(opened, near)
    assert 'data-tile="psnr"' in html and "scaled down" not in html
    assert "scaled down" in panels.tiles(replace(opened, capped=True), near)
    bare = sessions.open_codes(studio, IndexFile(opened.indices, (128, 128)), "x")
    assert "as they came" in panels.caption(bare) and "your picture" in panels.caption(opened)
    html, error = reconstruct._figures(studio, bare)
    assert 'data-tile="psnr"' not in html and "without their picture" in html and not error


def test_the_error_map_is_dark_where_equal_and_bright_where_wrong(opened):
    same = replace(opened, result=opened.original)
    assert (unpack(source(panels.error_map(same))) == panels.COLOURS[0]).all()
    pixels = np.asarray(opened.original).copy()
    pixels[5, 7] ^= 0x80  # off by half the range
    wrong = unpack(source(panels.error_map(replace(opened, result=Image.fromarray(pixels)))))
    assert (wrong[5, 7] == panels.COLOURS[-1]).all()
    assert (wrong[5, 8] == panels.COLOURS[0]).all()


def test_the_card_counts_a_code_and_names_its_neighbours(studio, opened):
    code = int(opened.indices[0, 0])
    html = panels.code_card(studio, opened, code)
    assert f'class="card" data-code="{code}"' in html
    assert f"in {(opened.indices == code).sum()} of 256 cells" in html
    assert html.count('class="chip"') == panels.NEAREST


def test_byte_counts_are_short():
    assert [panels.byte_count(n) for n in (320, 999, 1000, 10049, 3_140_000)] == [
        "320 B",
        "999 B",
        "1 KB",
        "10 KB",
        "3.14 MB",
    ]
    assert panels.byte_count(999_499) == "999 KB" and panels.byte_count(999_500) == "1 MB"


@pytest.mark.parametrize(
    ("size", "label", "value"),
    [(240, "Smaller", "1.25"), (225_000, "Smaller", "1,172"), (96, "Larger", "2")],
)
def test_how_many_times_smaller_than_the_file_or_larger(studio, opened, size, label, value):
    html = panels.tiles(replace(opened, file_bytes=size), None)  # the codes take 192 bytes
    assert f"{label} than your file" in html and f"<b>{value}<i>×" in html


def test_the_webp_stays_and_its_figures_follow_the_edits(studio, opened, edits):
    before = reconstruct._rival(studio, opened)
    changed = edits["shuffle"](opened, {})
    after = reconstruct._rival(studio, changed)
    assert source(after) == source(before)
    mine = f"against {sessions.closeness(studio, changed).distance:.3f}"
    assert mine in after and mine not in before


def test_codes_of_one_name_are_two_pictures_for_the_way_between(studio, opened):
    """Samples are all sent under one name, and from no file."""
    first, second = (
        sessions.open_codes(studio, IndexFile(np.full((4, 4), code), (32, 32)), "sample")
        for code in (3, 9)
    )
    assert between.identity(first) != between.identity(second)
    painted = sessions.redraw(studio, first, second.indices)
    assert between.identity(painted) == between.identity(first), "as the encoder saw it"


def test_the_way_between_two_pictures_starts_and_ends_at_them(studio, opened):
    two = between.pair(studio, opened, str(EXAMPLES[1].path))
    same = int(
        (opened.indices == sessions.open_picture(studio, EXAMPLES[1].path, "128").indices).sum()
    )
    others = 256 - same
    start, middle, end = (between.panel(studio, two, share) for share in (0.0, 0.5, 1.0))
    counted = rf"{same} of 256 cells .* {others} still .* 0 have the second's already, 0 have"
    assert re.search(counted, start)
    assert re.search(rf" 0 still .* {others} have the second's already, 0 have", end)
    assert source(start) != source(middle) != source(end)
    assert two.jumps.shape == (40,) and two.jumps.sum() > 0
    assert [at.count('class="past"') for at in (start, middle, end)] == [0, 20, 40]


def test_downloads_hold_the_codes_and_old_ones_go(studio, opened):
    downloads = reconstruct.Downloads()
    paths = [downloads.write(studio, opened) for _ in range(KEPT + 1)]
    picture, codes = paths[-1]
    assert np.array_equal(np.asarray(Image.open(picture)), np.asarray(opened.result))
    file = IndexFile.read(codes, 64, 8)
    assert np.array_equal(file.indices, opened.indices)
    assert file.tokenizer_id == studio.bundle.tokenizer_id and file.size == (128, 128)
    with pytest.raises(FileNotFoundError):
        Image.open(paths[0][0])


@pytest.fixture(scope="module")
def client(studio):
    app = page.build(studio)
    _, url, _ = app.launch(prevent_thread_lock=True, **page.launch_options())
    client = Client(url, verbose=False)
    client.blocks = app
    yield client
    app.close()


def test_the_api_rebuilds_a_picture(studio, client):
    path = EXAMPLES[1].path
    slider, grid, *_ = client.predict(handle_file(path), "128", api_name="/reconstruct")
    expected = sessions.open_picture(studio, path, "128")
    for shown, wanted in zip(slider, (expected.original, expected.result), strict=True):
        assert np.abs(np.asarray(Image.open(shown)).astype(int) - np.asarray(wanted)).max() <= 1
    assert grid["grid"] == expected.indices.tolist()


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header says it is that large."""
    file = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0")), (b"IEND", b"")):
        crc = struct.pack(">I", zlib.crc32(kind + data))
        file += struct.pack(">I", len(data)) + kind + data + crc
    return file


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"no picture", "text.png is not a picture of a known format"),
        (b"", "text.png is empty"),
        (png_that_claims(20_000, 20_000), "text.png has far too many pixels"),
    ],
)
def test_broken_pictures_are_answered_with_a_sentence(client, tmp_path, content, sentence):
    (tmp_path / "text.png").write_bytes(content)
    with pytest.raises(Exception, match=sentence):
        client.predict(handle_file(tmp_path / "text.png"), "128", api_name="/reconstruct")


@pytest.mark.parametrize(
    ("file", "sentence"),
    [(7, "choose one"), ({}, "choose one"), ({"path": None}, "choose one"), ("side", "size is")],
)
def test_what_is_no_file_or_size_is_answered_with_a_sentence(
    client, file, sentence, tmp_path, monkeypatch
):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    (tmp_path / "a.png").touch()
    handlers = {fn.api_name: fn.fn for fn in client.blocks.fns.values()}
    args = [{"path": tmp_path / "a.png"}, [128]] if file == "side" else [file, "128"]
    with pytest.raises(gr.Error, match=sentence):
        handlers["reconstruct"](*args)
    with pytest.raises(gr.Error, match="choose one"):
        handlers["decode"](None)


def test_nobody_can_open_the_pictures_of_this_computer(client):
    """Gradio looks where a picture lies only if it claims to be an upload."""
    event = {"data": [{"path": str(EXAMPLES[1].path)}, "128"]}
    call = f"{client.src}gradio_api/call/reconstruct"
    answer = httpx.get(f"{call}/{httpx.post(call, json=event).json()['event_id']}", timeout=30)
    assert "no uploaded file" in answer.text and "event: complete" not in answer.text


def test_a_picture_that_is_no_longer_kept_is_a_sentence(studio, tmp_path):
    Image.new("RGB", (20, 30)).save(tmp_path / "a.png")
    session = sessions.open_picture(studio, tmp_path / "a.png", "128")
    (tmp_path / "a.png").unlink()
    with pytest.raises(Sentence, match="choose it again"):
        sessions.resized(studio, session, "256")
    with pytest.raises(Sentence, match="choose it again"):
        between.pair(studio, session, str(tmp_path / "a.png"))


def handler(client, name: str):
    found = (fn.fn for fn in client.blocks.fns.values())
    return next(f for f in found if getattr(f, "__qualname__", "") == name)


@pytest.mark.parametrize("junk", [None, 7, {}, {"index": "1"}, {"index": None}, {"code": []}])
def test_events_that_say_nonsense_are_answered_with_a_sentence(client, opened, junk):
    event = gr.EventData(None, junk)
    with pytest.raises(gr.Error, match="understood"):
        handler(client, "Opening.example")(event, "128")
    with pytest.raises(gr.Error, match="understood"):
        handler(client, "build.<locals>.take_example")(event, opened, 0.5, "")
    with pytest.raises(gr.Error, match=r"understood|no code"):
        handler(client, "connect.<locals>.pick")(event, opened)


@pytest.mark.parametrize("share", [None, "0.5", float("nan"), True, []])
def test_a_place_between_two_pictures_that_is_none_is_a_sentence(client, opened, share):
    take = handler(client, "build.<locals>.take_example")
    with pytest.raises(gr.Error, match="understood"):
        take(gr.EventData(None, {"index": 1}), opened, share, "")
    ends = [between._place(share) for share in (float("-inf"), 0.25, float("inf"), 10**400)]
    assert ends == [0, 0.25, 1, 1]


def test_a_stroke_on_a_picture_that_is_no_longer_kept_is_a_sentence(studio, client, opened):
    """Gradio forgets a page that was left for long, and then has the example in its place."""
    change = handler(client, "connect.<locals>.handler.<locals>.change")  # that of strokes
    mine = sessions.open_picture(studio, EXAMPLES[1].path, "128")
    painted = sessions.redraw(studio, mine, np.zeros_like(mine.indices))
    said = {"tool": "paint", "code": 3, "cells": [[0, 0]]}
    shown = {"picture": code_grid.value(studio, painted)["picture"]}
    assert change(gr.EventData(None, said | shown), mine)[0].indices[0, 0] == 3
    opened = replace(opened, opening=True)
    for lost in (shown, {}):
        with pytest.raises(gr.Error, match="不再保留"):
            change(gr.EventData(None, said | lost), opened)


def test_pictures_that_gradio_itself_would_refuse_or_turn(client, tmp_path):
    """The file reaches our own reader: EXIF rotation, CMYK, one pixel."""
    rotated = Image.new("RGB", (40, 20), "red")
    exif = rotated.getexif()
    exif[274] = 6
    rotated.save(tmp_path / "rotated.jpg", exif=exif)
    Image.new("CMYK", (30, 60)).save(tmp_path / "cmyk.jpg")
    Image.new("RGBA", (1, 1)).save(tmp_path / "one.png")
    for name, size in (("rotated.jpg", (20, 40)), ("cmyk.jpg", (30, 60)), ("one.png", (1, 1))):
        file = handle_file(tmp_path / name)
        slider, *_ = client.predict(file, "native", api_name="/reconstruct")
        assert Image.open(slider[0]).size == Image.open(slider[1]).size == size


def test_two_visitors_do_not_share_a_picture(studio, client):
    """Each session has its own state: what one paints, the other does not see."""
    url = client.src
    one, two = (Client(url, verbose=False) for _ in range(2))
    one.predict(handle_file(EXAMPLES[1].path), "128", api_name="/reconstruct")
    two.predict(handle_file(EXAMPLES[2].path), "128", api_name="/reconstruct")
    expected = sessions.open_picture(studio, EXAMPLES[1].path, "256").indices.tolist()
    assert one.predict("256", api_name="/resize")[1]["grid"] == expected
