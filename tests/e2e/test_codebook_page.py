"""The Codebook tab in a browser. What is asserted is content: codes, their pixels and patches."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import checkpoints
from ui.codebook import NEAREST, Codes
from ui.examples import EXAMPLES
from ui.timelapse import lapse as time_lapse
from vqgan.codebook import nearest_codes
from vqgan.images import open_image
from vqgan.model import VQGAN
from vqgan.rebuild import rebuild


class Book:
    """The Codebook tab of a visitor's page."""

    def __init__(self, visited, codes: Codes, tab: bool = True):
        self.visited, self.page, self.codes = visited, visited.page, codes
        if tab:
            self.page.get_by_role("tab", name="Codebook").click()
        self.page.wait_for_selector("#codebook-map [data-version]")
        self.canvas = self.page.locator("#codebook-map .cm-stage > canvas")

    def grid(self, order: str) -> np.ndarray:
        return np.array(self.codes.map["orders"][order])

    def spot(self, code: int, order: str) -> tuple[float, float]:
        """Where a code's cell is on the screen when the whole map is in view."""
        grid = self.grid(order)
        ((row, column),) = np.argwhere(grid == code)
        self.canvas.scroll_into_view_if_needed()
        box = self.canvas.bounding_box()
        side = box["width"] / grid.shape[1]
        return box["x"] + (column + 0.5) * side, box["y"] + (row + 0.5) * side

    def colour(self, code: int, order: str) -> np.ndarray:
        """The canvas' RGBA just right and below of the middle of a code's cell: (4,)."""
        x, y = self.spot(code, order)
        return np.array(
            self.canvas.evaluate(
                """(canvas, [x, y]) => {
                    const box = canvas.getBoundingClientRect(), k = canvas.width / box.width;
                    const at = [(x - box.x) * k + 1, (y - box.y) * k + 1].map(Math.floor);
                    return [...canvas.getContext('2d').getImageData(...at, 1, 1).data];
                }""",
                [x, y],
            )
        )

    def click(self, code: int, order: str) -> None:
        spot = self.spot(code, order)
        with self.visited.timed("click on a code, until its page is there"):
            self.page.mouse.click(*spot)
            self.page.wait_for_selector(f"#codebook-page .cb-page[data-code='{code}']")
        self.shows(code)

    def shows(self, code: int) -> None:
        self.page.wait_for_selector(f"#codebook-page .cb-page[data-code='{code}']")
        assert self.page.inner_text("#codebook-page h3") == f"Code {code}"

    def marked(self) -> int:
        return int(self.page.get_attribute("#codebook-map [data-code]", "data-code"))

    def chips(self, selector: str) -> list[int]:
        return self.page.eval_on_selector_all(
            f"#codebook-page {selector} button", "all => all.map(b => Number(b.dataset.code))"
        )


@pytest.fixture(scope="module")
def codes(studio) -> Codes:
    assert studio.statistics is not None
    return Codes(studio)


@pytest.fixture
def book(shared, codes) -> Book:
    """The map as it opens, on one page for all that only look at it; no test's own code is open."""
    book, other = Book(shared, codes), used(codes, 7)[1]
    shared.page.fill("#codebook-map input", str(other))
    shared.page.press("#codebook-map input", "Enter")
    book.shows(other)
    for button in ("order=similarity", "show=all", "look=decoded"):
        shared.page.click(f"#codebook-map [data-{button}]")
    while float(book.canvas.get_attribute("data-zoom")) > 1:
        shared.page.click("#codebook-map [data-zoom='0.5']")
    shared.page.mouse.move(0, 0)
    return book


@pytest.fixture(scope="module")
def example(studio) -> np.ndarray:
    """The codes of the picture that is there before the first click."""
    return rebuild(studio.vqgan, studio.metric, open_image(EXAMPLES[0].path), 128).indices.numpy()


def used(codes: Codes, count: int) -> list[int]:
    """Codes that the statistics know, from most used to rare."""
    order = np.argsort(-codes.usage.counts, kind="stable")[: int((codes.usage.counts > 0).sum())]
    return order[np.linspace(0, len(order) - 1, count).astype(int)].tolist()


def test_of_two_quick_clicks_the_second_is_shown(book, codes):
    first, second = used(codes, 2)
    spots = [book.spot(code, "similarity") for code in (first, second, first, second)]
    for spot in spots:
        book.page.mouse.click(*spot)
    # Of its first click, it may be: the answer to the third then comes in between.
    book.page.wait_for_selector(f"#codebook-page .cb-page[data-code='{second}']")
    book.page.wait_for_timeout(500)  # no late answer takes its place
    book.shows(second)
    assert book.marked() == second


def test_an_answer_that_comes_late_does_not_stay(book, codes):
    """The first click's, after the second's: then the second is asked for once more."""
    first, second = used(codes, 2)
    one, other = (book.spot(code, "similarity") for code in (first, second))
    click = book.page.mouse.click
    page = f"#codebook-page .cb-page[data-code='{second}']"
    book.visited.overtaken(lambda: click(*one), lambda: click(*other), page)
    book.page.wait_for_timeout(1000)
    book.shows(second)


def test_the_clicked_cell_is_the_code_shown(book, codes):
    statistics = codes.statistics
    for code in used(codes, 4):
        book.click(code, "similarity")
        assert book.marked() == code
        page = book.page
        text = page.inner_text("#codebook-page .cb-card")
        assert f"{codes.usage.counts[code]:,} of {codes.usage.total:,}" in text
        assert f"rank {codes.usage.ranks[code]:,} of" in text
        near, _ = nearest_codes(codes.studio.vqgan, code, NEAREST)
        assert book.chips("[data-part=near]") == near.tolist()
        rows = page.eval_on_selector_all(
            "#codebook-page .cb-patches > span",
            "all => all.map(s => [Number(s.dataset.row), Number(s.dataset.column)])",
        )
        found = statistics.patch_picture[code] >= 0
        assert rows == statistics.patch_cell[code][found].tolist()
        right = statistics.beside[code, 0]
        assert book.chips("[data-side=right]") == right[right >= 0].tolist()
        cell = page.get_attribute("#codebook-page [data-look=decoded] img", "src")
        shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(cell.split(",")[1]))))
        assert np.array_equal(shown, statistics.cells[code])


def test_the_patches_of_a_code_are_drawn_from_its_own_strip(book, codes):
    code = used(codes, 3)[1]
    book.click(code, "similarity")
    own = base64.b64encode(codes.statistics.strips[code]).decode()
    patch = book.page.locator("#codebook-page .cb-patches > span").first
    background = patch.evaluate("e => getComputedStyle(e).backgroundImage")
    assert own in background
    # The orange outline lies round the middle cell of the patch.
    outer, inner = patch.bounding_box(), patch.locator(".cell").bounding_box()
    assert inner["width"] == pytest.approx(outer["width"] / 7, abs=1)
    assert inner["x"] + inner["width"] / 2 == pytest.approx(outer["x"] + outer["width"] / 2, abs=1)


def test_orders_put_each_decoded_cell_where_they_say(book, codes):
    f = codes.studio.f
    for order in ("similarity", "hue", "usage", "number"):
        book.page.click(f"#codebook-map [data-order={order}]")
        assert book.page.get_attribute(f"[data-order={order}]", "aria-pressed") == "true"
        for code in (3, 77, 200):
            expected = codes.statistics.cells[code, f // 2, f // 2]
            assert np.abs(book.colour(code, order)[:3] - expected).max() <= 2, (order, code)
    book.page.click("#codebook-map [data-look=real]")
    for code in used(codes, 3):
        expected = codes.statistics.means[code, f // 2, f // 2]
        assert np.abs(book.colour(code, "number")[:3] - expected).max() <= 2
    book.page.click("#codebook-map [data-order=usage]")
    most = int(codes.usage.counts.argmax())
    box = book.canvas.bounding_box()
    book.page.mouse.click(box["x"] + 4, box["y"] + 4)
    book.shows(most)


def test_neighbours_lead_on(book, codes):
    code = used(codes, 3)[1]
    book.click(code, "similarity")
    following = book.chips("[data-part=near]")[0]
    book.page.click(f"#codebook-page [data-part=near] button[data-code='{following}']")
    book.shows(following)
    assert book.marked() == following
    assert book.page.input_value("#codebook-map input") == str(following)
    beside = book.chips("[data-side=below]")
    if beside:
        book.page.click("#codebook-page [data-side=below] button >> nth=0")
        book.shows(beside[0])


def test_numbers_and_arrow_keys_open_codes(book, codes):
    last = codes.studio.codebook_size - 1
    book.page.fill("#codebook-map input", str(last + 1000))
    book.page.press("#codebook-map input", "Enter")
    book.shows(last)
    book.page.click("#codebook-map [data-order=number]")
    book.canvas.press("ArrowLeft")
    book.shows(last - 1)


def test_a_zoomed_map_still_opens_what_is_under_the_pointer(book, codes):
    code = used(codes, 5)[2]
    book.click(code, "similarity")
    for _ in range(2):
        book.page.click("#codebook-map [data-zoom='2']")
    assert float(book.canvas.get_attribute("data-zoom")) == 4
    box = book.canvas.bounding_box()
    seen = set()
    for x, y in ((0.5, 0.5), (0.1, 0.1), (0.9, 0.2), (0.3, 0.8)):
        at = box["x"] + x * box["width"], box["y"] + y * box["height"]
        book.page.mouse.move(*at)
        tip = book.page.inner_text("#codebook-map .cm-tip")
        named = int(re.match(r"code (\d+)", tip)[1])
        book.page.mouse.click(*at)
        book.shows(named)
        seen.add(named)
    grid = book.grid("similarity")
    places = np.array([np.argwhere(grid == n)[0] for n in [code, *seen]])
    assert len(seen) == 4
    assert (np.abs(places - places[0]) <= grid.shape[0] / 4).all()  # a quarter of the map is seen
    # Dragging moves the map and opens nothing. Away from the nearest edges, where it would stop.
    down, right = (90 if 2 * n >= grid.shape[0] else -90 for n in places[0])
    x, y = box["x"] + 0.46 * box["width"], box["y"] + 0.46 * box["height"]  # within a cell
    book.page.mouse.move(x, y)
    before = book.page.inner_text("#codebook-map .cm-tip")
    book.page.mouse.down()
    book.page.mouse.move(x + right, y + down, steps=4)
    book.page.mouse.up()
    book.page.mouse.move(x + right + 1, y + down + 1)
    book.page.mouse.move(x + right, y + down)
    assert book.page.inner_text("#codebook-map .cm-tip") == before
    assert book.marked() == named


def test_the_browsers_own_keys_stay_the_browsers(book):
    keys = ("Control+-", "Control+=", "Alt+ArrowUp", "Control+ArrowDown", "+", "ArrowUp")
    left = book.visited.browsers("#codebook-map .cm-stage > canvas", *keys)
    assert left == [True, True, True, True, False, False]


# Two fingers on the map: [kind, finger, x, y] each, in shares of its width from its middle.
FINGERS = """(canvas, events) => {
    canvas.setPointerCapture = () => {}; // no browser knows these
    const { x, y, width, height } = canvas.getBoundingClientRect();
    for (const [kind, pointerId, right, down] of events) canvas.dispatchEvent(
        new PointerEvent('pointer' + kind, { pointerId, pointerType: 'touch', bubbles: true,
            clientX: x + width * (0.5 + right), clientY: y + height / 2 + width * down }));
    delete canvas.setPointerCapture;
}"""


def test_of_two_fingers_the_one_that_stays_moves_the_map_from_where_it_is(book):
    def seen() -> str:
        return book.canvas.evaluate("canvas => canvas.toDataURL()")

    spread = [["down", 1, -0.05, 0], ["down", 2, 0.05, 0], ["move", 2, 0.35, 0]]
    book.canvas.evaluate(FINGERS, spread)
    assert float(book.canvas.get_attribute("data-zoom")) == pytest.approx(4, abs=0.01)
    before = seen()
    book.canvas.evaluate(
        FINGERS, [["up", 2, 0.35, 0], ["move", 1, -0.049, 0], ["move", 1, -0.05, 0]]
    )
    assert seen() == before
    book.canvas.evaluate(FINGERS, [["move", 1, 0.15, 0]])
    assert seen() != before
    book.canvas.evaluate(FINGERS, [["move", 1, -0.05, 0], ["up", 1, -0.05, 0]])
    assert seen() == before
    # Where the browser takes one finger away, the other goes on as well.
    book.canvas.evaluate(FINGERS, [*spread[:2], ["cancel", 2, 0.05, 0], ["move", 1, 0.15, 0]])
    assert seen() != before
    book.canvas.evaluate(FINGERS, [["up", 1, 0.15, 0]])


def test_codes_of_the_picture_light_up(book, codes, example):
    absent = next(c for c in range(codes.studio.codebook_size) if c not in example)
    for show, opaque in (("picture", False), ("all", True)):
        book.page.click(f"#codebook-map [data-show={show}]")
        book.page.mouse.move(0, 0)
        assert book.colour(int(example[3, 4]), "similarity")[3] == 255
        assert (book.colour(absent, "similarity")[3] == 255) == opaque
    dead, alive = codes.usage.dead, used(codes, 3)
    if len(dead):
        book.page.click("#codebook-map [data-show=dead]")
        assert book.colour(int(dead[0]), "similarity")[3] == 255
        assert book.colour(alive[1], "similarity")[3] < 64


@pytest.mark.parametrize("width", [390, 1440])
def test_the_keyboard_goes_along_into_the_codebook(visit, codes, example, width):
    visited, grid = visit(width), codes.statistics.similarity
    row, column = next(  # a code of the picture with another one to its right in the map
        (r, c)
        for r, c in np.ndindex(*example.shape)
        if (grid[:, 1:][grid[:, :-1] == example[r, c]] >= 0).any()
    )
    code = int(example[row, column])
    visited.click(row, column)
    visited.page.wait_for_selector(f"#code-card .card[data-code='{code}']")
    visited.page.locator("#open-codebook").focus()
    visited.page.keyboard.press("Enter")
    visited.page.wait_for_selector(f"#codebook-page .cb-page[data-code='{code}'] >> visible=true")
    visited.page.wait_for_function(
        "document.activeElement === document.querySelector('#codebook-map .cm-stage > canvas')"
    )
    box = visited.page.locator("#codebook-map .cm-stage > canvas").bounding_box()
    assert box["y"] > -1 and box["y"] + min(box["height"], 200) <= 900  # and it is in sight
    visited.page.wait_for_selector("#codebook-map [data-version]")  # the map knows its codes
    visited.page.keyboard.press("ArrowRight")
    other = int(grid[:, 1:][grid[:, :-1] == code][0])
    visited.page.wait_for_selector(f"#codebook-page .cb-page[data-code='{other}']")


def test_a_code_picked_in_the_picture_opens_here(visit, codes, example):
    visited = visit()
    row, column = 5, 9
    code = int(example[row, column])
    visited.click(row, column)
    visited.page.wait_for_selector(f"#code-card .card[data-code='{code}']")  # as a visitor does
    visited.page.click("#open-codebook")
    book = Book(visited, codes, tab=False)
    book.shows(code)
    assert book.marked() == code
    count = int((example == code).sum())
    here = book.page.inner_text("#codebook-page [data-part=here] h4")
    assert here == f"In your picture: {count} of 256 cells"
    # And by the tab itself, after another pick.
    visited.page.get_by_role("tab", name="Reconstruct").click()
    other = int(next(c for c in example.ravel() if c != code))
    place = np.argwhere(example == other)[0]
    visited.click(*place.tolist())
    visited.page.wait_for_selector(f"#code-card .card[data-code='{other}']")
    visited.page.get_by_role("tab", name="Codebook").click()
    book.shows(other)


def test_a_lost_picture_is_not_taken_for_another(visit, codes, example):
    """The page says which picture it shows with a cell's card, the Codebook's page and its map."""
    visited = visit()
    page, lost = visited.page, "This picture is no longer kept here"
    mine = page.get_attribute("#code-grid [data-picture]", "data-picture")

    def lose(route) -> None:
        route.continue_(post_data=route.request.post_data.replace(mine, "0" * len(mine)))

    page.route("**/gradio_api/run/**", lose)
    code = int(example[5, 9])
    visited.click(5, 9)
    assert lost in page.inner_text(f"#code-card .card[data-code='{code}']")
    page.click("#open-codebook")
    book, place = Book(visited, codes, tab=False), "#codebook-page [data-part=here]"
    book.shows(code)
    assert lost in page.inner_text(place)
    assert page.locator("#codebook-map [data-show=picture]").is_hidden()
    other = used(codes, 1)[0]
    page.mouse.click(*book.spot(other, "similarity"))
    book.shows(other)
    assert lost in page.inner_text(place)
    page.unroute("**/gradio_api/run/**")
    for tab in ("Reconstruct", "Codebook"):  # what is there again counts as ever
        page.get_by_role("tab", name=tab).click()
    page.wait_for_selector("#codebook-map [data-show=picture] >> visible=true")
    assert lost not in page.inner_text(place)


def test_the_map_marks_the_code_that_is_open_even_if_it_was_told_of_it_last(visit, codes, example):
    visited = visit()
    row, column = 5, 9
    code = int(example[row, column])
    visited.click(row, column)
    visited.page.wait_for_selector(f"#code-card .card[data-code='{code}']")
    visited.page.click("#open-codebook")
    book = Book(visited, codes, tab=False)
    book.shows(code)
    other = next(c for c in used(codes, 9) if c != code)
    book.click(other, "similarity")  # marked by the map itself
    assert book.marked() == other
    visited.page.get_by_role("tab", name="Reconstruct").click()
    visited.page.click("#open-codebook")
    book.shows(code)
    book.page.wait_for_selector(f"#codebook-map [data-code='{code}']")


@pytest.fixture
def failing():
    """Lets the first few requests that a page's own scripts make fail, by function."""

    def fail(page, name: str, times: int = 1) -> list[str]:
        failed: list[str] = []

        def answer(route) -> None:
            if f'"fn_name":"{name}"' in (route.request.post_data or "") and len(failed) < times:
                failed.append(name)
                return route.fulfill(status=502)
            return route.continue_()

        page.route("**/component_server/", answer)
        return failed

    return fail


def test_a_map_whose_request_failed_comes_with_the_next_one(visit, codes, failing):
    visited = visit()
    failed = failing(visited.page, "sheet", 2)
    book = Book(visited, codes)
    book.click(used(codes, 3)[1], "similarity")
    assert failed == ["sheet"] * 2


def test_a_sheet_of_codes_whose_request_failed_comes_with_the_next_one(visit, failing):
    visited = visit()
    failed = failing(visited.page, "palette")
    visited.tool("paint")
    visited.page.wait_for_selector("#code-grid .cg-palette canvas", state="visible")
    assert failed == ["palette"]


def test_a_moment_whose_request_failed_comes_with_the_next_one(visit, codes, failing):
    book = Book(visit(), codes)
    failed = failing(book.page, "frame")
    book.page.locator("#timelapse").scroll_into_view_if_needed()
    found = time_lapse(codes.studio.bundle.path).frames
    book.page.wait_for_selector(f"#timelapse [data-shown='{len(found) - 1}']")
    own = base64.b64encode(found[-1].path.read_bytes()).decode()
    assert book.page.get_attribute("#timelapse img", "src") == "data:image/webp;base64," + own
    assert failed == ["frame"]


def test_on_a_telephone(visit, codes):
    visited = visit(width=390, height=844)
    book = Book(visited, codes)
    code = used(codes, 3)[1]
    book.click(code, "similarity")
    width = visited.page.evaluate("document.documentElement.scrollWidth")
    assert width == 390
    page, canvas = visited.page.locator("#codebook-page").bounding_box(), book.canvas.bounding_box()
    assert page["y"] - (canvas["y"] + canvas["height"]) < 120  # the answer is right below the map


def test_a_large_codebook_without_statistics_says_how_long_it_will_be_decoded(
    browser, serve, tiny, tmp_path
):
    large = VQGAN(replace(tiny, codebook_size=8_192)).eval()
    checkpoints.save(tmp_path, name="large", vqgan=large, card={})
    with serve(tmp_path) as address:
        page = browser.new_context(locale="zh-CN").new_page()
        page.goto(address)
        page.get_by_role("tab", name="码本").click()
        left = page.locator("#codebook-map .cm-left")
        left.get_by_text("还需").wait_for()
        assert "to go" not in left.inner_text()
        page.locator("#codebook-map [data-order=usage]").wait_for(state="hidden")
        assert not page.locator("#codebook-map [data-look=real]").is_visible()
        assert 0 < page.eval_on_selector("#codebook-map progress", "p => p.position") < 1


def test_the_time_lapse_shows_the_moment_of_the_slider(visit, codes):
    book = Book(visit(), codes)
    whole = time_lapse(codes.studio.bundle.path)
    found = whole.frames
    lapse = book.page.locator("#timelapse")
    assert len(found) > 10 and lapse.count() == 1  # the shipped bundle has one
    note = lapse.locator(".note").inner_text()
    assert f"from minute {found[0].minutes:.0f} to minute {found[-1].minutes:.0f}" in note
    assert whole.another_run == ("second run" in note)
    lapse.scroll_into_view_if_needed()
    shown = lambda n: book.page.wait_for_selector(f"#timelapse [data-shown='{n}']")  # noqa: E731
    shown(len(found) - 1)
    slider, picture = lapse.locator("input"), lapse.locator("img")
    for number in (0, len(found) // 2, len(found) - 1):
        slider.fill(str(number))
        shown(number)
        own = base64.b64encode(found[number].path.read_bytes()).decode()
        assert picture.get_attribute("src") == "data:image/webp;base64," + own
        told = lapse.locator("output").inner_text()
        assert f"step {found[number].step:,}" in told
        assert all(name.lower() in told.lower() for name in found[number].losses)
    said = {"en": f"step {found[-1].step:,}", "zh": f"第 {found[-1].step:,} 步"}
    for language in ("zh", "en"):
        book.page.click("[data-switch=language]")
        book.page.wait_for_selector(f"html[lang={language}]")
        assert said[language] in lapse.locator("output").inner_text()
    lapse.evaluate(
        """part => {
            const own = window.setInterval; // four times as quick: it takes 15 seconds
            window.setInterval = (call, wait) => own(call, wait / 4);
            const root = part.querySelector('[data-shown]'), seen = (window.played = []);
            new MutationObserver(() => seen.push(Number(root.dataset.shown)))
                .observe(root, { attributes: true, attributeFilter: ['data-shown'] });
        }"""
    )
    lapse.locator("button").click()  # plays from the start, and stops at the end
    lapse.locator("button[aria-pressed=false]").wait_for()
    shown(len(found) - 1)
    played = book.page.evaluate("window.played")
    assert played == sorted(played) and played[0] == 0 and played[-1] == len(found) - 1
    assert len(played) > len(found) / 3, "one that comes late is left out"
