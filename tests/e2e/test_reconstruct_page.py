"""The Reconstruct tab in a browser. What is asserted is content: pixels, codes, sentences."""

from __future__ import annotations

import base64
import io
import itertools
import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from prior.likelihood import bits_per_cell
from ui.examples import EXAMPLES
from vqgan.grids import IndexFile, decode_grid, paint, shuffle
from vqgan.images import open_image, to_image, to_tensor
from vqgan.metrics import code_bytes
from vqgan.rebuild import measure as closeness
from vqgan.rebuild import rebuild


def drawing(size: tuple[int, int]) -> Image.Image:
    """A picture that is in no training set."""
    image = Image.new("RGB", size, (250, 240, 200))
    draw = ImageDraw.Draw(image)
    w, h = size
    draw.ellipse((w * 0.1, h * 0.15, w * 0.6, h * 0.9), fill=(30, 110, 200))
    draw.rectangle((w * 0.55, h * 0.4, w * 0.9, h * 0.7), fill=(220, 60, 40))
    return image


def close(shown: np.ndarray, expected) -> bool:
    """Equal up to one grey level: threads may add up in another order."""
    expected = np.asarray(expected)
    return shown.shape == expected.shape and np.abs(shown - expected.astype(int)).max() <= 1


def unpack(data_url: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data_url.split(",")[1]))))


@pytest.fixture(scope="module")
def example(studio):
    """What the worked example should be."""
    return rebuild(studio.vqgan, studio.metric, open_image(EXAMPLES[0].path), 128)


def test_the_worked_example_is_there_before_the_first_click(visit, example):
    page = visit()
    before, after = page.images()
    assert close(before, example.original) and close(after, example.image)
    grid = example.indices.numpy()
    for row, column in ((0, 0), (7, 9), (15, 15)):
        assert page.code_at(row, column) == grid[row, column]
    tile = page.page.locator("[data-tile=psnr] b").inner_text()
    assert tile.split()[0].removesuffix("dB") == f"{example.psnr:.1f}"
    codes = page.page.locator("[data-tile=codes] b").inner_text()
    assert int(codes) == example.distinct_codes


def test_an_uploaded_picture_comes_back_as_its_decode(visit, studio, tmp_path):
    page, path = visit(), tmp_path / "own drawing.png"
    drawing((120, 75)).save(path)
    upload = page.page.locator("#upload input[type=file]").first
    page.after(lambda: upload.set_input_files(path), "upload at 128 px")
    expected = rebuild(studio.vqgan, studio.metric, open_image(path), 128)
    assert expected.image.size == (128, 80)  # aspect kept
    page.page.wait_for_function("document.querySelectorAll('#slider img')[1].naturalHeight == 80")
    before, after = page.images()
    assert close(before, expected.original) and close(after, expected.image)
    ratio = path.stat().st_size / code_bytes(160, studio.codebook_size)
    page.says("[data-tile=ratio] b", f"{ratio:.3g}")
    page.says("[data-tile=psnr] b", f"{expected.psnr:.1f}")
    page.page.click("text=Take it with you")
    with page.page.expect_download() as download:
        page.page.click("#png")
    assert download.value.suggested_filename == "own drawing-vqgan.png"
    download.value.save_as(tmp_path / "back.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "back.png")), after)


def test_a_clicked_cell_is_the_code_shown(visit):
    page = visit()
    for row, column in ((3, 4), (8, 8), (12, 2)):
        code = page.code_at(row, column)
        with page.timed("click on a cell"):
            page.click(row, column)
            page.page.wait_for_selector(f"#code-card .card[data-code='{code}']")
        assert re.search(rf"\b{code}\b", page.page.inner_text("#code-card .card-title"))
    near = page.page.locator("#code-card button").first
    code = near.get_attribute("data-code")
    near.click()
    page.page.wait_for_selector(f"#code-card .card[data-code='{code}']")


def test_who_comes_again_downloads_the_page_only(visit):
    """The rest is in the browser, and all that the page announces is what it needs."""
    first = visit()
    again = first.page.context.new_page()
    again.goto(first.address)
    again.wait_for_selector("#code-grid [data-version]")
    parts = again.evaluate(
        """() => Object.fromEntries(performance.getEntriesByType('resource')
            .filter((entry) => entry.name.includes('/assets/'))
            .map((entry) => [new URL(entry.name).pathname, entry.transferSize]))"""
    )
    assert len(parts) > 40 and not any(parts.values())
    packed = {"accept-encoding": "gzip"}
    ask = lambda: first.page.request.get(first.address, headers=packed)  # noqa: E731
    while "modulepreload" not in (sent := ask()).text():  # once it is known, after 20 s
        first.page.wait_for_timeout(1000)
    assert sent.headers["content-encoding"] == "gzip"
    assert int(sent.headers["content-length"]) < len(sent.body()) / 2
    named = re.findall(r'<link rel="modulepreload" href="\.([^"]+)">', sent.text())
    assert len(named) > 20 and set(named) <= set(parts)


def test_of_two_quick_clicks_the_second_is_shown(visit):
    page = visit()
    cells = (3, 4), (8, 8), (12, 2)
    codes = [page.code_at(*cell) for cell in cells]
    assert codes[1] != codes[2]
    for cell in cells:
        page.click(*cell)
    page.page.wait_for_selector(f"#code-card .card[data-code='{codes[2]}']")
    page.page.wait_for_timeout(500)
    assert page.page.get_attribute("#code-card .card", "data-code") == str(codes[2])


def test_an_answer_that_comes_late_does_not_stay(visit):
    """The first click's, after the second's: then the card is asked for once more."""
    page = visit()
    first, second = (page.code_at(*cell) for cell in ((3, 4), (12, 2)))
    assert first != second
    card = "#code-card .card[data-code='{}']".format

    page.overtaken(lambda: page.click(3, 4), lambda: page.click(12, 2), card(second))
    page.page.wait_for_timeout(1000)
    page.page.wait_for_selector(card(second), timeout=5000)
    page.page.click("#open-codebook")  # what the server takes for the last one, too
    page.page.wait_for_selector(f"#codebook-page .cb-page[data-code='{second}'] >> visible=true")


def test_answers_are_shown_in_the_order_of_their_clicks(visit):
    """Also where the queue's reply to the first comes after the answer to the second."""
    page, held = visit(), []

    def hold(route) -> None:
        if held:
            return route.continue_()
        held.append(route)
        held.append(route.fetch())

    def picture() -> str:
        return page.page.get_attribute("#code-grid [data-picture]", "data-picture")

    def upload() -> None:
        page.page.set_input_files("#upload input[type=file]", EXAMPLES[2].path)

    page.after(upload)
    wanted = picture()
    page.after(lambda: page.page.click("#examples [data-index='0']"))
    page.page.route("**/queue/join*", hold)
    page.page.click("#examples [data-index='1']")
    while len(held) < 2:  # so that the server has it first, too
        page.page.wait_for_timeout(50)
    upload()
    page.page.wait_for_timeout(2500)  # the second's answer is there by then, and could show
    held[0].fulfill(response=held[1])
    page.page.wait_for_timeout(1500)
    assert picture() == wanted


def test_a_click_that_does_not_arrive_is_refused_and_the_picture_stays(visit):
    page = visit()
    page.after(lambda: page.page.click("#examples [data-index='1']"))
    picture = page.page.get_attribute("#code-grid [data-picture]", "data-picture")
    code = page.code_at(8, 8)
    page.page.context.set_offline(True)
    page.page.click("#code-grid [data-act=shuffle]")
    assert "cannot be reached" in page.toast()
    page.click(3, 4)
    page.says(".line-lost", "cannot be reached")
    page.page.context.set_offline(False)
    page.page.wait_for_timeout(4000)  # in which Gradio would have loaded the page anew
    assert page.page.get_attribute("#code-grid [data-picture]", "data-picture") == picture
    assert page.code_at(8, 8) == code
    page.after(lambda: page.page.click("#code-grid [data-act=shuffle]"))
    card = f"#code-card .card[data-code='{page.code_at(12, 2)}']"
    page.overtaken(lambda: page.click(3, 4), lambda: page.click(12, 2), card)
    page.page.wait_for_timeout(1000)
    page.page.wait_for_selector(card, timeout=5000)  # the lost click is not waited for


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
def test_the_switches_stand_beside_the_title(visit, locale):
    page = visit(1280, 720, locale=locale).page
    title, side = (page.locator(f".masthead > :nth-child({i})").bounding_box() for i in (1, 2))
    assert side["y"] + side["height"] <= title["y"] + title["height"]
    assert side["x"] >= title["x"] + title["width"]


def test_a_painted_code_changes_its_pixels_and_little_else(visit, studio, example):
    page = visit()
    code = page.code_at(8, 8)
    page.click(8, 8)  # the brush takes the code of a picked cell
    page.tool("paint")
    _, before = page.images()
    page.page.mouse.move(*page.spot(0, 0))
    page.page.mouse.down()
    page.page.mouse.move(*page.spot(0, 1))
    page.after(page.page.mouse.up, "paint stroke")
    assert page.code_at(0, 0) == page.code_at(0, 1) == code
    _, after = page.images()
    grid = paint(example.indices.numpy(), [(0, 0), (0, 1)], code)
    assert close(after, decode_grid(studio.vqgan, grid))
    change = np.abs(after.astype(int) - before).mean(2)
    f = studio.f
    assert change[:f, : 2 * f].mean() > 10 * change[8 * f :].mean()


def test_a_stroke_held_while_the_last_one_is_answered_counts_too(visit, example):
    page = visit()
    code = page.code_at(8, 8)
    page.click(8, 8)
    page.tool("paint")

    def both() -> None:
        page.click(0, 0)
        page.page.mouse.move(*page.spot(0, 4))
        page.page.mouse.down()

    page.after(both)  # the first one's answer is there, the second's pen still down
    page.page.mouse.move(*page.spot(0, 5))
    page.after(page.page.mouse.up)
    assert [page.code_at(0, column) for column in (0, 4, 5)] == [code] * 3
    assert page.code_at(0, 2) == example.indices[0, 2]


def test_painting_a_cell_with_its_own_code_leaves_no_preview_behind(visit):
    page = visit()
    page.click(8, 8)
    page.tool("paint")
    page.after(lambda: page.click(0, 0))

    def still() -> str:
        """The canvas with neither pointer nor keyboard on it."""
        page.tool("paint")
        page.page.wait_for_selector("#code-grid .cg-tip", state="hidden")
        return page.page.evaluate("document.querySelector('#code-grid .cg-picture').toDataURL()")

    version, before = page.version, still()
    page.click(0, 0)
    page.page.wait_for_function(
        "old => document.querySelector('#code-grid [data-version]').dataset.version > old",
        arg=version,
    )
    assert still() == before


def test_a_stroke_is_not_taken_for_another_pictures_and_no_preview_stays(visit):
    """What the app has is not what the page shows: a newer one (tests/ui/test_kept.py: none)."""
    page = visit()
    page.after(lambda: page.page.locator("#examples button").nth(1).click())
    code = page.code_at(5, 6)
    page.click(5, 6)  # the brush
    page.tool("paint")
    sources, grid = page.sources(), page.page.locator("#code-grid [data-picture]")
    mine = grid.get_attribute("data-picture")

    def lose(route) -> None:
        route.continue_(post_data=route.request.post_data.replace(mine, "0" * len(mine)))

    def still() -> str:
        """The canvas with neither pointer nor keyboard on it."""
        page.tool("paint")
        page.page.wait_for_selector("#code-grid .cg-tip", state="hidden")
        return page.page.evaluate("document.querySelector('#code-grid .cg-picture').toDataURL()")

    before = still()
    row = next(r for r in range(16) if page.code_at(r, 0) != code)
    page.page.route("**/queue/join*", lose)
    page.click(row, 0)
    assert "Another picture was being opened" in page.toast()
    assert still() == before
    assert page.sources() == sources
    # What is there again goes on as ever.
    page.page.unroute("**/queue/join*")
    page.after(lambda: page.click(row, 0))
    assert page.code_at(row, 0) == code


def test_swap_and_undo_restore_the_bytes(visit):
    page = visit()
    _, before = page.images()
    old = page.code_at(0, 0)
    page.click(8, 8)
    new = page.code_at(8, 8)
    assert old != new
    page.tool("swap")
    page.after(lambda: page.click(0, 0), "swap all")
    assert page.code_at(0, 0) == new
    assert not np.array_equal(page.images()[1], before)
    page.after(lambda: page.page.click("#code-grid [data-act=undo]"), "undo")
    assert page.code_at(0, 0) == old
    assert np.array_equal(page.images()[1], before)


def test_erase_paints_white_and_shuffle_keeps_the_codes(visit, studio, example):
    page = visit()
    page.tool("erase")
    page.after(lambda: page.click(8, 8), "erase")
    assert page.code_at(8, 8) == studio.blank_code
    page.after(lambda: page.page.click("#code-grid [data-act=restore]"))
    assert page.code_at(8, 8) == example.indices[8, 8]
    page.says("[data-tile=codes] b", f"{example.distinct_codes}")
    page.after(lambda: page.page.click("#code-grid [data-act=shuffle]"), "shuffle")
    grid = shuffle(example.indices.numpy(), seed=2)
    near = closeness(studio.metric, example.original, decode_grid(studio.vqgan, grid))
    page.says("[data-tile=psnr] b", f"{near.psnr:.1f}")
    page.says("[data-tile=codes] b", f"{example.distinct_codes}")
    moved = [page.code_at(r, c) != example.indices[r, c] for r in range(0, 16, 3) for c in (2, 9)]
    assert any(moved)


def test_a_larger_working_size_gives_more_codes(visit):
    page = visit()
    page.after(lambda: page.page.click("#side label:has-text('256')"))
    page.page.wait_for_function("document.querySelectorAll('#slider img')[1].naturalWidth == 256")
    page.says("[data-tile=codes]", "1024")  # 32 x 32 cells


def test_the_last_of_several_quick_choices_counts(visit, studio):
    page = visit()
    for side in ("384", "128", "256"):
        page.page.click(f"#side label:has-text('{side}')")
    page.page.wait_for_function("document.querySelectorAll('#slider img')[1].naturalWidth == 256")
    page.page.click("#side label:has-text('128')")
    for number in (1, 3, 5):
        page.page.locator("#examples button").nth(number).click()
    expected = rebuild(studio.vqgan, studio.metric, open_image(EXAMPLES[5].path), 128)
    page.says("[data-tile=distance] b", f"{expected.distance:.3f}")
    assert close(page.images()[1], expected.image)


def test_codes_go_out_and_come_back(visit, tmp_path):
    page = visit()
    page.tool("erase")
    page.after(lambda: page.click(5, 5))
    painted = page.images()[1]
    page.page.click("text=Take it with you")
    with page.page.expect_download() as download:
        page.page.click("#npz")
    path = tmp_path / download.value.suggested_filename
    download.value.save_as(path)
    assert path.name == f"{EXAMPLES[0].path.stem}-codes.npz"
    page.page.reload()
    page.page.wait_for_selector("#code-grid [data-version]")
    page.page.click("text=Take it with you")
    page.after(lambda: page.choose("#open-codes", path))
    assert np.array_equal(page.images()[1], painted)
    page.says("#figures", "without their picture")


def test_bad_files_are_answered_with_a_sentence(visit, studio, tmp_path):
    page = visit()
    fake = tmp_path / "text.png"
    fake.write_text("no picture at all")
    page.page.locator("#upload input[type=file]").first.set_input_files(fake)
    assert "is not a picture of a known format" in page.toast()
    floats = tmp_path / "floats.npz"
    np.savez(floats, indices=np.zeros((4, 4)))
    page.page.click("text=Take it with you")
    page.choose("#open-codes", floats)
    assert "codes are whole numbers" in page.toast()
    large = IndexFile(np.full((4, 4), studio.codebook_size), (32, 32)).save(tmp_path / "large.npz")
    page.choose("#open-codes", large)
    assert f"has codes 0 to {studio.codebook_size - 1}" in page.toast()


def test_between_two_pictures(visit, studio, example):
    page = visit()
    page.page.click("#between button")
    page.page.wait_for_selector("#between-view [data-figure=codes] img")
    share = page.page.locator("#share input[type=number]")

    def shown(name: str) -> str:
        return page.page.get_attribute(f"#between-view [data-figure={name}] img", "src")

    @contextmanager
    def another() -> Iterator[None]:
        before = shown("codes")
        yield
        page.page.wait_for_function(
            "old => document.querySelector('#between-view [data-figure=codes] img').src != old",
            arg=before,
        )

    def go_to(place: str) -> None:
        share.fill(place)
        share.press("Enter")

    with page.timed("blend, one step"), another():
        go_to("0")
    assert close(unpack(shown("codes")), example.image)  # nothing of the second picture yet
    with torch.inference_mode():
        latents = studio.vqgan.encode(to_tensor(example.original)).latents
        continuous = to_image(studio.vqgan.decode(latents))
    assert close(unpack(shown("z")), continuous)
    assert not close(unpack(shown("z")), example.image)
    for second in (1, 3):
        with another():
            if second == 1:
                go_to("1")
            else:
                page.choose("#between .between-sources > button", EXAMPLES[second].path)
        other = rebuild(studio.vqgan, studio.metric, open_image(EXAMPLES[second].path), 128)
        assert close(unpack(shown("codes")), other.image)


def test_the_explanation_is_set_in_formulas(visit):
    page = visit()
    page.page.click("#how-reconstruct button")
    page.page.wait_for_selector("#how-reconstruct .katex-display")
    assert page.page.locator("#how-reconstruct .katex").count() > 20
    assert "losses.adaptive_weight" in page.page.inner_text("#how-reconstruct")
    assert "$" not in page.page.inner_text("#how-reconstruct")


def test_a_decoder_with_one_loss_off_draws_the_same_codes(visit, studio, example):
    page = visit()
    (name, model), *_ = studio.bundle.decoders.items()
    page.page.click("#how-reconstruct button")
    page.page.click(f"#one-loss-off [data-decoder={name}]")
    shown = page.page.locator("#one-loss-off [data-decoded]:visible")
    assert shown.get_attribute("data-decoded") == name
    assert (
        "GAN off (λ = 0)" in shown.inner_text() and "900 steps (15 minutes)" in shown.inner_text()
    )

    def picture() -> np.ndarray:
        return unpack(shown.locator("img").get_attribute("src"))

    assert close(picture(), decode_grid(model, example.indices.numpy()))
    assert not close(picture(), example.image)
    # It stays in view when the codes change, and draws the new ones.
    before = shown.locator("img").get_attribute("src")
    page.after(lambda: page.page.click("#code-grid [data-act=shuffle]"))
    page.page.wait_for_function(
        "([name, old]) => document.querySelector(`[data-decoded=${name}] img`).src != old",
        arg=[name, before],
    )
    assert shown.get_attribute("data-decoded") == name
    assert close(picture(), decode_grid(model, shuffle(example.indices.numpy(), seed=0)))


def test_a_chinese_browser_gets_a_chinese_page(visit):
    page = visit(locale="zh-CN")
    text = page.page.inner_text("body")
    assert "重建" in text and "逐像素比较" in text and "把图片拖到这里" in text
    for english in ("Reconstruct", "Distinct", "Drop a picture", "Undo", "How it works"):
        assert english not in text
    page.page.click("[data-switch=language]")
    page.page.wait_for_selector("text=Drop a picture here")
    text = page.page.inner_text("body")
    assert "pixel by pixel" in text and "重建" not in text
    labels = page.page.get_by_role("tab").all_inner_texts()
    assert labels == ["Reconstruct", "Codebook", "Sample", "Text to image"]
    page.page.click("[data-switch=theme]")
    page.page.reload()  # both were chosen, and stay
    page.page.wait_for_selector("text=Drop a picture here")
    page.page.wait_for_selector("body.dark")
    scheme = "getComputedStyle(document.documentElement).colorScheme"
    assert page.page.evaluate(scheme) == "dark"  # no white arrows in number fields, in Firefox


def test_figures_on_the_grid_have_a_size_in_pixels(visit):
    """WebKit rounds their widths to whole units: of one unit a cell they ran together."""
    page = visit()
    page.page.evaluate(
        """() => {
            const { prototype } = CanvasRenderingContext2D, { fillText } = prototype;
            window.sizes = [];
            prototype.fillText = function (...text) {
                window.sizes.push(parseFloat(this.font.match(/[\\d.]+(?=px)/)));
                return fillText.apply(this, text);
            };
        }"""
    )
    page.code_at(8, 8)  # draws again
    sizes = page.page.evaluate("sizes")
    assert len(sizes) % 256 == 0 and sizes and min(sizes) > 7


def swipe(visited, x: float, start: float, end: float) -> None:
    """A finger that goes up or down."""
    visited.fingers(*[[(x, start + (end - start) * step / 12)] for step in range(13)], [])


def test_a_finger_scrolls_the_page_from_the_pictures_and_picks_nothing(visit):
    visited = visit(390, 844, has_touch=True, is_mobile=True)
    page = visited.page
    title, code = page.inner_text("#code-card .card-title"), "#code-card .card-title"
    for picture in ("#slider", "#code-grid .cg-picture"):
        page.locator(picture).scroll_into_view_if_needed()
        box, before = page.locator(picture).bounding_box(), page.evaluate("scrollY")
        swipe(visited, box["x"] + 110, box["y"] + 250, box["y"] + 100)
        page.wait_for_function("old => Math.abs(scrollY - old) > 60", arg=before)
        assert page.inner_text(code) == title
    box = page.locator(picture).bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.4)
    page.wait_for_function(
        "old => document.querySelector('#code-card .card-title').innerText != old", arg=title
    )


def test_a_second_finger_is_none_of_a_stroke(visit):
    visited = visit(390, 844, has_touch=True, is_mobile=True)
    page = visited.page
    visited.tool("paint")
    page.fill("#code-grid input[type=number]", "7")
    page.press("#code-grid input[type=number]", "Enter")
    page.locator("#code-grid .cg-picture").scroll_into_view_if_needed()
    with page.expect_request(lambda r: '"cells"' in (r.post_data or "")) as sent:
        visited.fingers(
            [visited.spot(2, 2)],
            [visited.spot(2, 4)],
            [visited.spot(2, 4), visited.spot(12, 9)],
            [visited.spot(2, 4), visited.spot(9, 9)],
            [visited.spot(2, 5), visited.spot(9, 9)],
            [visited.spot(2, 5)],
            [],
        )
    cells = sent.value.post_data_json["event_data"]["cells"]
    assert sorted(map(tuple, cells)) == [(2, c) for c in range(2, 6)]


# Drops a file (base64) on an element -> whether the page took it away from the browser, twice.
DROP = """([place, data]) => {
    const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
    const transfer = new DataTransfer();
    transfer.items.add(new File([bytes], 'dropped.png', { type: 'image/png' }));
    return ['dragover', 'drop'].map((kind) => {
        const how = { bubbles: true, cancelable: true, dataTransfer: transfer };
        return !document.querySelector(place).dispatchEvent(new DragEvent(kind, how));
    });
}"""


def test_a_picture_dropped_beside_the_box_opens_in_it(visit, studio, tmp_path):
    visited = visit()
    for place, size in (("#code-grid .cg-picture", (120, 75)), ("#slider", (75, 120))):
        drawing(size).save(tmp_path / "own.png")
        given = [place, base64.b64encode((tmp_path / "own.png").read_bytes()).decode()]
        visited.after(lambda given=given: visited.page.evaluate(DROP, given), "a drop")
        expected = rebuild(studio.vqgan, studio.metric, open_image(tmp_path / "own.png"), 128)
        assert close(visited.images()[0], expected.original)
    visited.page.get_by_role("tab", name="Codebook").click()
    visited.page.wait_for_selector("#upload", state="hidden")
    old = visited.version
    assert visited.page.evaluate(DROP, ["body", given[1]]) == [True, True], "nothing is lost"
    visited.page.wait_for_timeout(500)
    assert visited.version == old


@pytest.mark.parametrize("width", [390, 360])
def test_a_phone_shows_all_tabs_beside_each_other(visit, width):
    page = visit(width, 800, has_touch=True).page
    for name in ("Reconstruct", "Codebook", "Sample", "Text to image"):
        tab = page.get_by_role("tab", name=name, exact=True)
        tab.wait_for(timeout=5_000)
        box = tab.bounding_box()
        assert 0 <= box["x"] and box["x"] + box["width"] <= width
    assert not page.locator(".overflow-menu >> visible=true").count()


@pytest.mark.parametrize("width", [390, 360])
def test_a_phone_shows_what_came_back_on_its_first_screen(visit, width):
    """Examples, slider, codes, and only then sizes and files."""
    page = visit(width, 844, has_touch=True, is_mobile=True).page
    shown = ("#upload", "#examples", "#slider", "#code-grid", "#side", "#files")
    shown = [page.locator(name).first.bounding_box() for name in shown]
    assert shown == sorted(shown, key=lambda box: box["y"])
    assert all(a["y"] + a["height"] <= b["y"] for a, b in itertools.pairwise(shown))
    assert shown[2]["y"] < 844 - 250
    assert all(0 <= box["x"] and box["x"] + box["width"] <= width for box in shown)


def test_no_field_is_so_small_that_a_phone_zooms_in(visit):
    """iPhones do where letters are smaller than 16 pixels, and do not zoom out again."""
    page = visit(390, 844, has_touch=True, is_mobile=True).page
    sizes = """() => [...document.querySelectorAll('input, textarea')]
        .filter((e) => e.offsetParent && ['text', 'number', 'textarea'].includes(e.type))
        .map((e) => [parseFloat(getComputedStyle(e).fontSize), e.scrollWidth <= e.clientWidth])"""
    # Whether there are fields, and as many as for half a second.
    settled = """() => {
        const fields = [...document.querySelectorAll('input, textarea')];
        const count = fields.filter((e) => e.offsetParent).length;
        const was = (window.fields ??= {});
        if (was.count !== count) Object.assign(was, { count, since: performance.now() });
        return count > 0 && performance.now() - was.since > 500;
    }"""
    seen = {}
    page.click("#code-grid [data-tool=paint]")
    for name in ("Reconstruct", "Codebook", "Sample", "Text to image"):
        page.get_by_role("tab", name=name, exact=True).click()
        page.wait_for_function(settled)
        if name == "Sample":
            page.get_by_role("tab", name="Sketch", exact=True).click()
            page.click("#sample-fine button")
            page.locator("#sample-seed input").wait_for()
            page.wait_for_function(settled)
        seen[name] = page.evaluate(sizes)
        assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert all(seen.values()) and len(seen["Sample"]) >= 5
    for fields in seen.values():
        assert all(size >= 16 and whole for size, whole in fields), seen


def test_the_grid_leaves_the_browser_its_keys_and_a_held_key_paints_once(visit):
    visited = visit()
    visited.tool("paint")
    strokes = []
    visited.page.on("request", lambda r: '"cells"' in (r.post_data or "") and strokes.append(r))
    canvas = "#code-grid .cg-picture"
    keys = ("Alt+ArrowUp", "Control+ArrowDown", "Control+Enter", "ArrowDown")
    assert visited.browsers(canvas, *keys) == [True, True, True, False]
    visited.page.fill("#code-grid input[type=number]", str((visited.code_at(1, 0) + 1) % 256))
    visited.page.press("#code-grid input[type=number]", "Tab")
    visited.page.focus(canvas)

    def held() -> None:
        for _ in range(5):
            visited.page.keyboard.down("Enter")
        visited.page.keyboard.up("Enter")

    visited.after(held)
    visited.page.wait_for_timeout(300)
    assert len(strokes) == 1


def test_the_keyboard_is_seen_and_canvases_have_names(visit):
    page = visit(color_scheme="dark").page
    canvas = page.get_by_role("application", name="as a grid of codes. Arrow keys move")
    page.locator("#code-grid [data-tool=erase]").focus()
    seen = "() => { const s = getComputedStyle(document.activeElement);"
    seen += " return [s.outlineStyle, s.outlineWidth, s.outlineColor]; }"
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert canvas.evaluate("canvas => canvas === document.activeElement")
    orange = ["solid", "2px", "rgb(216, 95, 56)"]
    assert page.evaluate(seen) == orange
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert "row 1, column 2" in page.inner_text("#code-grid .cg-tip")
    page.click("#code-grid [data-tool=paint]")
    page.get_by_role("application", name="All codes. Arrow keys choose").focus()
    brush, codes = page.locator("#code-grid .cg-brush input"), set()
    for key in ("ArrowDown", "ArrowRight", "ArrowUp"):
        page.keyboard.press(key)
        codes.add(brush.input_value())
    assert len(codes) >= 2 and page.evaluate(seen) == orange
    page.locator("#upload button").last.focus()
    for _ in range(12):  # past the examples
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.type === 'radio'"):
            break
    assert page.evaluate("document.activeElement.type") == "radio"
    assert page.evaluate(seen) == orange


def test_keys_move_the_slider_and_read_the_surprise_map(visit, tmp_path):
    visited = visit()
    page = visited.page
    handle = page.get_by_role("slider", name="Before | after: your picture")
    # In percent: what a screen reader hears, and where the right picture begins.
    both_say = """percent => {
      const image = document.querySelectorAll('#slider img')[1];
      const box = image.getBoundingClientRect();
      const width = Math.min(box.width, (box.height * image.naturalWidth) / image.naturalHeight);
      const cut = (parseFloat(image.style.clipPath.split(' ')[3]) / 100) * box.width;
      const told = Number(document.querySelector('#slider [role=slider]').ariaValueNow);
      const shown = (100 * (cut - (box.width - width) / 2)) / width;
      return Math.abs(told - percent) <= 1 && Math.abs(shown - percent) <= 1; }"""

    def press(key: str, percent: int) -> None:
        page.keyboard.press(key)
        page.wait_for_function(both_say, arg=percent)

    page.locator("#slider button[aria-label=Fullscreen]").focus()
    page.keyboard.press("Tab")
    assert handle.evaluate("handle => handle === document.activeElement")
    for key, percent in (("ArrowLeft", 45), ("ArrowLeft", 40), ("End", 100), ("PageDown", 75)):
        press(key, percent)
    drawing((60, 160)).save(tmp_path / "tall.png")  # does not fill its frame
    upload = page.locator("#upload input[type=file]").first
    visited.after(lambda: upload.set_input_files(tmp_path / "tall.png"))
    page.wait_for_function("document.querySelectorAll('#slider img')[1].naturalWidth == 48")
    handle.focus()
    for key, percent in (("Home", 0), ("ArrowRight", 5), ("ArrowRight", 10)):
        press(key, percent)
    page.locator("#examples button").first.click()
    bits = page.get_by_role("application", name="Bits that each code costs.")
    bits.focus()
    for key in ("ArrowDown", "ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
    told = page.inner_text("#surprise .cg-tip")
    assert told.endswith("row 2, column 3")
    page.keyboard.press("Enter")
    page.wait_for_selector(f"#code-card .card[data-code='{told.split()[4]}']")


def test_a_file_that_cannot_be_read_does_not_stay_in_the_box(visit, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    page = visit(locale="zh-CN")
    before = page.sources()
    page.page.locator("#upload input[type=file]").first.set_input_files(tmp_path / "text.png")
    assert "text.png 不是已知格式的图片" in page.toast()
    page.page.wait_for_function("!document.querySelector('#upload img')")
    assert page.sources() == before and not page.page.locator("#slider .error").is_visible()


def test_a_phone_scrolls_in_one_direction_only(visit, studio):
    page = visit(390, 844, has_touch=True)
    width = "document.documentElement.scrollWidth"
    assert page.page.evaluate(width) == 390
    page.tool("paint")
    sheet = math.ceil(math.sqrt(studio.codebook_size)) * studio.f
    page.page.wait_for_function(
        "width => document.querySelector('.cg-palette canvas').width == width", arg=sheet
    )
    assert page.page.evaluate(width) == 390
    for fold in ("#between button", "#how-reconstruct button"):
        page.page.locator(fold).first.click()
    page.page.wait_for_selector("#how-reconstruct .katex-display")
    assert page.page.evaluate(width) == 390


def test_the_surprise_map_tells_bits_and_follows_the_brush(visit, studio, example):
    page = visit()
    map_ = page.page.locator("#surprise img")
    if studio.bundle.prior is None:
        assert map_.count() == 0
        return
    bits = bits_per_cell(studio.bundle.prior, example.indices[None], stride=4)[0]
    map_.scroll_into_view_if_needed()
    box = map_.bounding_box()
    assert abs(box["width"] - box["height"]) < 1  # 16 x 16 cells
    spot = [box[k] + (n + 0.5) * box[s] / 16 for k, s, n in (("x", "width", 9), ("y", "height", 7))]
    page.page.mouse.move(*spot)
    code = int(example.indices[7, 9])
    told = page.page.inner_text("#surprise .cg-tip")
    assert abs(float(told.split()[0]) - float(bits[7, 9])) < 0.11
    assert told.endswith(f"bits · code {code} · row 8, column 10")
    page.page.mouse.click(*spot)
    page.page.wait_for_selector(f"#code-card .card[data-code='{code}']")
    ring = page.page.locator("#surprise .su-ring").bounding_box()
    assert abs(ring["x"] + ring["width"] / 2 - spot[0]) < 2
    assert abs(ring["y"] + ring["height"] / 2 - spot[1]) < 2
    page.tool("paint")  # the brush took the code
    other = map_.get_attribute("src")
    page.after(lambda: page.click(0, 0))
    page.page.wait_for_function(
        "old => document.querySelector('#surprise img').src != old", arg=other
    )
    cells = json.loads(map_.get_attribute("data-cells"))
    assert cells["codes"][0][0] == code and cells["codes"][7][9] == code
    grid = paint(example.indices.numpy(), [(0, 0)], code)
    bits = bits_per_cell(studio.bundle.prior, torch.from_numpy(grid)[None], stride=4)[0]
    assert np.allclose(cells["bits"], bits, atol=0.11)
