"""What the Codebook tab shows, without a browser."""

from __future__ import annotations

import base64
import io
import json
import re
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import checkpoints
from ui import busy, codebook, codebook_panel, page, timelapse
from ui import session as sessions
from ui.codebook import Codes
from ui.common import friendly
from ui.examples import EXAMPLES
from ui.studio import Studio
from vqgan import dataset
from vqgan.codebook import CONTEXT, FILE, SIDES, Usage, decode_cells, nearest_codes
from vqgan.codebook.build import build
from vqgan.grids import IndexFile

ORANGE = (255, 159, 28)


def unpack(data_url: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data_url.split(",")[1]))))


def english(html: str) -> str:
    """The text that an English reader sees."""
    html = re.sub(r'<span lang="zh">.*?</span>', "", html)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html)).strip()


def part(html: str, name: str) -> str:
    return re.search(rf'<section data-part="{name}">.*?</section>', html, re.S)[0]


def chips(html: str) -> list[int]:
    return [int(code) for code in re.findall(r'<button[^>]*data-code="(\d+)"', html)]


@pytest.fixture(scope="module")
def known(studio, tmp_path_factory, fixtures) -> Studio:
    """The tiny studio again, with code statistics beside its model."""
    path = tmp_path_factory.mktemp("known")
    checkpoints.save(path, name="known", vqgan=studio.vqgan, card={})
    bundle = checkpoints.load(path)
    pictures = dataset.scan(fixtures)[:6]
    build(
        bundle.vqgan,
        lambda i: dataset.whole(pictures[i], 128),
        [f"<picture> {i}" for i in range(len(pictures))],
        tokenizer_id=bundle.tokenizer_id,
        data="six",
    ).save(path / FILE)
    return Studio(bundle, studio.metric, "cpu")


@pytest.fixture(scope="module")
def session(known):
    return sessions.open_picture(known, EXAMPLES[0].path, "128")


@pytest.fixture(scope="module")
def codes(known) -> Codes:
    return Codes(known)


# --- the map ---------------------------------------------------------------------------------


def test_the_map_holds_every_decoded_cell_in_every_order(codes, known):
    shown = codes.map
    cells = decode_cells(known.vqgan)
    picture, real = unpack(shown["images"]["decoded"]), unpack(shown["images"]["real"])
    most = int(known.statistics.counts.argmax())
    row, column = divmod(most, shown["columns"])
    mean = real[row * 8 : row * 8 + 8, column * 8 : column * 8 + 8]
    assert np.array_equal(mean, known.statistics.means[most])
    for code in (0, 9, 63):
        row, column = divmod(code, shown["columns"])
        cell = picture[row * 8 : row * 8 + 8, column * 8 : column * 8 + 8]
        assert np.abs(cell.astype(int) - cells[code]).max() <= 1
    assert shown["orders"].keys() == {"similarity", "hue", "usage", "number"}
    for grid in shown["orders"].values():
        assert sorted(sum(grid, [])) == list(range(64))  # noqa: RUF017
    counts = known.statistics.counts
    in_order = counts[np.array(shown["orders"]["usage"]).ravel()]
    assert (np.diff(in_order) <= 0).all() and in_order[0] == counts.max() > 0
    assert shown["orders"]["similarity"] == known.statistics.similarity.tolist()
    assert shown["counts"] == counts.tolist() and shown["total"] == counts.sum()


def test_the_browser_is_told_how_far_decoding_has_come(studio, monkeypatch):
    fresh = Studio(studio.bundle, studio.metric, "cpu")
    sheet = codebook._sheet(Codes(fresh))
    started = []
    monkeypatch.setattr(type(fresh.store), "fill", lambda self: started.append(self))
    fresh.store.of([3, 4])
    assert sheet(None) == {"pending": [2, 64], "left": "", "counted": False} and started == [
        fresh.store
    ]
    monkeypatch.setattr(type(fresh.store), "seconds_left", 2300.0)
    assert "Some 40 minutes to go." in sheet(None)["left"]
    fresh.store.of(range(64))
    assert sheet(None)["codes"] == 64


@pytest.mark.parametrize(
    ("seconds", "english", "chinese"),
    [
        (0, "Less than a minute to go.", "还需不到一分钟。"),
        (59, "Less than a minute to go.", "还需不到一分钟。"),
        (61, "Some 2 minutes to go.", "还需大约 2 分钟"),
        (400, "Some 7 minutes to go.", "还需大约 7 分钟"),
        (2300, "Some 40 minutes to go.", "还需大约 40 分钟"),
        (5700, "Some 95 minutes to go.", "还需大约 95 分钟"),
        (7000, "Some 2 hours to go.", "还需大约 2 小时"),
    ],
)
def test_how_long_it_will_take_is_said_in_round_numbers(seconds, english, chinese):
    said = codebook.left(SimpleNamespace(seconds_left=seconds))
    assert f'<span lang="en">{english}' in said and f'<span lang="zh">{chinese}' in said


@pytest.mark.parametrize("generator", [False, True])
def test_decoding_in_the_background_waits_while_a_visitor_does(studio, monkeypatch, generator):
    store = Studio(studio.bundle, studio.metric, "cpu").store
    seen = []

    def handler():
        store.fill()
        time.sleep(0.3)
        seen.append(store.done)

    def steps():
        yield handler()

    list(friendly(steps)()) if generator else friendly(handler)()
    assert seen == [0]
    store._thread.join(30)
    assert store.whole
    monkeypatch.setattr(busy, "PATIENCE", 0.05)
    with busy.working():  # a long run only slows it down
        slow = Studio(studio.bundle, studio.metric, "cpu").store
        slow.all()
    assert slow.whole


def test_cells_of_another_decoder_are_drawn_anew(known):
    changed = Studio(checkpoints.load(known.bundle.path), known.metric, "cpu")
    with torch.no_grad():
        changed.vqgan.decoder.conv_out.bias.add_(0.5)
    assert changed.statistics is not None  # the tokenizer is the same
    assert np.abs(changed.cells().astype(int) - known.cells()).mean() > 20


# --- one code --------------------------------------------------------------------------------


def test_a_page_says_what_the_statistics_say(codes, known, session):
    statistics, usage = known.statistics, Usage.of(known.statistics.counts)
    for code in np.argsort(-statistics.counts)[:3].tolist():
        html = codes.page(code, session)
        assert f'class="cb-page" data-code="{code}"' in html
        card = english(html.split("<section")[0])
        share = codebook_panel.percent(statistics.counts[code] / statistics.counts.sum())
        assert f" Code {code} " in card
        assert f"In {statistics.counts[code]:,} of {statistics.counts.sum():,} " in card
        assert f"({share})" in card and f"rank {usage.ranks[code]} of 64" in card
        assert "Norm of its vector: 1 ," in card and "in 4 dimensions" in card
        looks = dict(re.findall(r'data-look="(\w+)"><img alt="" src="([^"]+)"', html))
        assert np.array_equal(unpack(looks["decoded"]), known.cells()[code])
        assert np.array_equal(unpack(looks["real"]), statistics.means[code])


def test_distances_of_short_vectors_are_no_zeros():
    """As in published codebooks, whose unused codes stay where they began, near 0."""
    told = [codebook_panel.distance(d) for d in (12.345, 0.423, 0.00058123, 0.0)]
    assert told == ["12.35", "0.42", "0.00058", "0"]


def test_nearest_codes_are_those_of_the_quantiser(codes, known, session):
    expected, distances = nearest_codes(known.vqgan, 7, codebook.NEAREST)
    near = part(codes.page(7, session), "near")
    assert chips(near) == expected.tolist() and len(expected) == 12
    assert f"{distances[0]:.2f}" in near and "unit sphere" in english(near)
    first = unpack(re.search(r'src="([^"]+)"', near)[1])
    assert np.array_equal(first, known.cells()[expected[0]])


def test_patches_are_outlined_where_the_cell_and_its_field_are(codes, known, session):
    code = int(known.statistics.counts.argmax())
    patches = part(codes.page(code, session), "patches")
    count = int((known.statistics.patch_picture[code] >= 0).sum())
    assert len(re.findall(r"data-row", patches)) == count > 1
    strip = re.search(r"url\(data:image/webp;base64,([^)]+)\)", patches)[1]
    assert base64.b64decode(strip) == known.statistics.strips[code]
    row, column = known.statistics.patch_cell[code, 0]
    name = known.statistics.names[known.statistics.patch_picture[code, 0]]
    assert name.startswith("<picture>")
    title = name.replace("<", "&lt;").replace(">", "&gt;")
    assert f'title="{title}, {row + 1}:{column + 1}" data-row="{row}"' in patches
    # The cell is the middle one of CONTEXT.
    assert f'class="cell" style="inset:{50 * (1 - 1 / CONTEXT):.2f}%"' in patches
    assert f"{codes.field.side}×{codes.field.side} pixels around a cell" in english(patches)


@pytest.mark.parametrize("field, outlined", [(20, True), (8 * CONTEXT + 1, False)])
def test_the_field_is_drawn_only_where_it_fits(codes, known, field, outlined):
    code = int(known.statistics.counts.argmax())
    html = codebook_panel.patches(code, replace(known.statistics, field=field), codes.field)
    assert ('class="field"' in html) == outlined
    assert f"{field}×{field}" in html
    if outlined:
        assert f'class="field" style="inset:{50 * (1 - field / (8 * CONTEXT)):.2f}%"' in html
    assert ("more than is shown" in html) != outlined


def test_positions_in_the_strip(codes, known):
    code = int(known.statistics.counts.argmax())
    html = codebook_panel.patches(code, known.statistics, codes.field)
    positions = re.findall(r"background-position:([\d.]+)% ([\d.]+)%", html)
    assert positions[0] == ("0.000", "0.000") and float(positions[1][0]) == 14.286
    if len(positions) > 8:
        assert positions[8] == ("0.000", "100.000")


def test_what_lies_beside_a_code(codes, known, session):
    statistics = known.statistics
    code = int(statistics.counts.argmax())
    html = part(codes.page(code, session), "beside")
    blocks = re.findall(r'<div data-side="(\w+)">(.*?)(?=<div data-side|</section>)', html, re.S)
    assert [side for side, _ in blocks] == ["left", "right", "above", "below"]
    for side, block in blocks:
        i = list(SIDES).index(side)
        listed = statistics.beside[code, i]
        assert chips(block) == listed[listed >= 0].tolist() != []
        share = statistics.beside_counts[code, i, 0] / statistics.counts[code]
        assert codebook_panel.percent(share) in block


def test_a_dead_code_is_called_dead(codes, known, session):
    dead = np.flatnonzero(known.statistics.counts == 0)
    html = codes.page(int(dead[0]), session)
    assert "Never used in 6 training pictures" in english(html)
    assert (
        "data-row" not in html
        and 'data-look="real"' not in html
        and "rank" not in english(html.split("<section")[0])
    )


def test_where_it_stands_in_the_picture(codes, session):
    code = int(session.indices[7, 7])
    count = int((session.indices == code).sum())
    here = part(codes.page(code, session), "here")
    assert f"In your picture: {count} of 256 cells" in english(here)
    shown = unpack(re.search(r'src="([^"]+)"', here)[1]).astype(int)
    pixels = np.asarray(session.original).astype(int)
    assert shown.shape == pixels.shape
    for row, column in np.argwhere(session.indices == code):
        inside = np.s_[row * 8 + 1 : row * 8 + 7, column * 8 + 1 : column * 8 + 7]
        assert np.abs(shown[inside] - pixels[inside]).max() == 0
    row, column = np.argwhere(session.indices != code)[-1]
    outside = np.s_[row * 8 : row * 8 + 8, column * 8 : column * 8 + 8]
    assert np.abs(shown[outside] - (0.3 * pixels[outside] + 0.7 * 128)).max() <= 1
    assert (shown == ORANGE).all(2).sum() >= 4
    absent = next(c for c in range(64) if c not in session.indices)
    assert "does not use this code" in english(part(codes.page(absent, session), "here"))


def test_where_it_stands_when_there_are_only_codes_or_a_large_picture(known):
    grid = np.zeros((3, 60), np.int64)
    grid[1, 59] = 5
    bare = sessions.open_codes(known, IndexFile(grid, (477, 20)), "some.npz")
    html = codebook_panel.here(5, bare, 8)
    shown = unpack(re.search(r'src="([^"]+)"', html)[1])
    assert shown.shape[1] == codebook_panel.PICTURE_SIDE
    ys, xs = np.nonzero((shown == ORANGE).all(2))
    scale = 384 / 477
    assert xs.min() == pytest.approx(59 * 8 * scale, abs=1) and xs.max() == 383
    assert (ys.min(), ys.max()) == pytest.approx((8 * scale, 16 * scale), abs=1)


@pytest.mark.parametrize("data", [{"code": 64}, {"code": -1}, {"code": "3"}, {}, None, [3]])
def test_nonsense_from_a_browser_is_a_sentence(codes, data):
    with pytest.raises(ValueError, match="code"):
        codes.code(data)
    assert codes.code({"code": 63}) == 63


# --- the whole codebook ----------------------------------------------------------------------


def test_figures_and_histogram_by_hand(known):
    counts = np.zeros(8, np.int64)
    counts[[0, 1, 2, 3]] = [64, 32, 16, 16]  # of 128: an even share is 16
    usage = Usage.of(counts)
    middle = codebook_panel.SPREAD
    expected = [0] * (2 * middle + 1)
    expected[middle], expected[middle + 1], expected[middle + 2] = 2, 1, 1
    assert codebook_panel.bins(usage) == expected
    html = codebook_panel.figures(usage, known.statistics)
    # 1.75 bits: 1/2, 1/4, 1/8, 1/8
    assert "Codes used 4 of 8 Dead codes 4 never used Perplexity 3 " in english(html)
    assert "Entropy 1.75 bits a cell, of 3" in english(html)
    assert "Counted in 6 pictures (six)" in english(html)
    bars = re.findall(r'data-count="(\d+)"', html)
    assert bars == ["4", *map(str, expected)]


def test_rare_and_frequent_codes_fall_into_the_outer_bins():
    counts = np.ones(1024, np.int64)
    counts[0] = 10**7
    bins = codebook_panel.bins(Usage.of(counts))
    assert (bins[0], bins[-1], sum(bins)) == (1023, 1, 1024)


def test_percent():
    shares = {1: "100 %", 0.999: "100 %", 0.123: "12 %", 4.2e-4: "0.042 %", 9e-6: "< 0.001 %"}
    assert {x: codebook_panel.percent(x) for x in shares} == shares
    assert codebook_panel.percent(0) == "0 %"


# --- without statistics ----------------------------------------------------------------------


def test_without_statistics_there_are_cells_and_the_command(studio):
    bare = Codes(studio)
    session = sessions.open_picture(studio, EXAMPLES[0].path, "128")
    html = bare.page(5, session)
    assert 'data-part="near"' in html and 'data-part="here"' in html
    assert 'data-part="patches"' not in html and 'data-part="beside"' not in html
    assert "rank" not in english(html)
    assert bare.map["images"].keys() == {"decoded"} and "usage" not in bare.map["orders"]
    assert bare.map["counts"] is None
    text = english(codebook._whole(bare))
    assert "without code statistics" in text
    assert f"python -m vqgan.codebook --bundle {studio.bundle.path} --data DIR" in text


def test_statistics_of_another_tokenizer_are_left_aside_with_a_sentence(known, studio, tmp_path):
    checkpoints.save(tmp_path, name="other", vqgan=studio.vqgan, card={})
    replace(known.statistics, tokenizer_id="0" * 64).save(tmp_path / FILE)
    other = Studio(checkpoints.load(tmp_path), studio.metric, "cpu")
    assert other.statistics is None
    text = english(codebook._whole(Codes(other)))
    assert "left aside: these code statistics were built with another encoder" in text
    (tmp_path / FILE).write_bytes(b"PK no archive")
    broken = Studio(checkpoints.load(tmp_path), studio.metric, "cpu")
    assert "is not a file of code statistics" in english(codebook._whole(Codes(broken)))


# --- the page --------------------------------------------------------------------------------


def test_the_tab_says_what_a_decoded_cell_is(known):
    config = page.build(known).get_config_file()
    texts = " ".join(str(c["props"].get("value", "")) for c in config["components"])
    assert "the middle of a 5×5 grid of nothing but that code, decoded" in english(texts)
    ids = {c["props"].get("elem_id") for c in config["components"]}
    assert {"codebook-map", "codebook-page", "codebook-figures", "open-codebook"} <= ids
    assert "timelapse" not in ids  # this bundle keeps none


def test_time_lapse_frames_are_in_order_and_exist(tmp_path, caplog):
    assert timelapse.lapse(tmp_path) is None and timelapse.build(tmp_path) is None
    folder = tmp_path / "timelapse"
    folder.mkdir()
    Image.new("RGB", (4, 4), "red").save(folder / "000.webp")
    Image.new("RGB", (4, 4), "blue").save(folder / "001.webp")
    (tmp_path / "secret.webp").write_bytes(b"outside")
    more = {"codes": True, "losses": ["gan", "pixels", "magic"]}
    rows = [
        {"file": "001.webp", "minutes": 90.5, "step": 900, "psnr": 21.5, **more},
        {"file": "000.webp", "minutes": 2, "step": 20, **more},
        {"file": "002.webp", "minutes": 3, "step": 30, **more},
        {"file": "../secret.webp", "minutes": 4, "step": 40, **more},
    ]

    def shown(moments, another=False, **options):
        index = {"another_run": another, "moments": moments}
        (folder / "index.json").write_text(json.dumps(index))
        return timelapse.build(tmp_path, **options).html_template

    told = shown(rows, hours=2.5)
    found = timelapse.lapse(tmp_path).frames
    assert [(f.path.name, f.step) for f in found] == [("000.webp", 20), ("001.webp", 900)]
    assert timelapse.build(tmp_path).value[1] == {
        "minutes": 90.5, "step": 900, "psnr": 21.5, "losses": ["pixels", "gan"],
    }  # fmt: skip
    url = timelapse._frame(found)(1)
    assert timelapse._frame(found)(None) == timelapse._frame(found)({"a": []})  # the first
    assert unpack(url)[0, 0, 2] > 200
    assert "beside them every code" in told and "second run" not in told
    assert "from minute 2 to minute 90, of 150 in all" in " ".join(told.split())
    assert "第 2 分钟到第 90 分钟（共 150 分钟）" in told
    assert "beside them" not in shown([row | {"codes": False} for row in rows])
    told = shown(rows, another=True, hours=2.5)  # whose hours say nothing of this run
    assert "a second run of the same recipe" in told and "另行训练" in told and "150" not in told
    assert "second run" not in shown([row | {"codes": False} for row in rows])
    for broken in ("no json", '{"another_run": false, "moments": [{"file": "000.webp"}]}', "[1]"):
        (folder / "index.json").write_text(broken)
        assert timelapse.lapse(tmp_path) is None and "left out" in caplog.text
        caplog.clear()
