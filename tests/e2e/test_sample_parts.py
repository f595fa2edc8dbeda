"""The scripts of the Sample tab's own parts, each alone on a blank page, without a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from prior.nearest import Found
from prior.sheet import columns_of, sheet
from ui import gallery, theme, writing
from ui import sample_panel as panel
from ui.common import data_url
from ui.drawing_inputs import STEPS
from ui.sample import STATIC
from ui.writing import Batch, Request, Step

# Mounts a part as Gradio does, on window.part: `told` keeps its events, `give` hands it a value.
MOUNT = """([html, code, value]) => {
    const element = document.body.appendChild(document.createElement('div'));
    element.innerHTML = html;
    const part = (window.part = { element, told: [], props: { value } });
    const watch = (name, call) => (part.give = (value) => { part.props.value = value; call(); });
    const trigger = (name, data) => part.told.push(data);
    Function('element', 'trigger', 'props', 'watch', code)(element, trigger, part.props, watch);
}"""
# Gives the mounted part these values at once, and waits until it has drawn.
SEND = """async (values) => {
    const { element, give } = window.part, version = () => Number(element.dataset.version) || 0;
    const before = version();
    for (const value of values) give(value);
    while (version() === before) await new Promise((done) => setTimeout(done, 5));
}"""
# Each of its canvases as [width, height, RGBA].
TILES = """() => [...window.part.element.querySelectorAll('canvas')].map((c) => [c.width, c.height,
    [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]])"""
# The sketch canvas: its side, and how much of it is drawn on.
DRAWN = """() => {
    const canvas = window.part.element.querySelector('canvas'), side = canvas.width;
    const pixels = canvas.getContext('2d').getImageData(0, 0, side, side).data;
    return [side, pixels.filter((value, i) => i % 4 === 3 && value).length];
}"""
SIDE = 16
WHITE = np.full((64, 64, 3), 255, np.uint8)


def written(done: int = SIDE**2) -> Batch:
    """Three pictures, the last one the likeliest, as far as they are written."""
    grids = np.zeros((3, SIDE, SIDE), np.int64)
    grids.reshape(3, -1)[:, done:] = -1
    nats, counted = np.array([-90.0, -80.0, -70.0]), np.full(3, done)
    pictures = np.stack([WHITE] * 3)
    return Batch(grids, pictures, nats, counted, (5, 6, 7), {}, "sampled")


class Part:
    """One part on a page of its own."""

    def __init__(self, page):
        self.page = page

    def give(self, value: dict) -> None:
        """Another value, once it is drawn."""
        version = "Number(window.part.element.dataset.version || 0)"
        old = self.page.evaluate(version)
        self.page.evaluate("value => window.part.give(value)", value)
        self.page.wait_for_function(f"old => {version} > old", arg=old)

    def told(self) -> list[dict]:
        return self.page.evaluate("window.part.told")


@pytest.fixture
def mount(browser) -> Iterator[Callable[..., Part]]:
    """Opens a blank page, as large as a phone's, with one part below so many pixels of nothing."""
    context = browser.new_context(viewport={"width": 390, "height": 844})

    def open_part(name: str, value: dict | None, html: str | None = None, above: int = 0) -> Part:
        page = context.new_page()
        page.set_content(f'<style>{theme.css()}</style><div style="height: {above}px"></div>')
        html = (STATIC / f"{name}.html").read_text("utf-8") if html is None else html
        page.evaluate(MOUNT, [html, (STATIC / f"{name}.js").read_text("utf-8"), value])
        return Part(page)

    yield open_part
    context.close()


def test_an_unfinished_picture_does_not_move_the_row_of_the_next(mount):
    part = mount("sample_panel", None, panel.page(written(5), 0, ""))
    page = part.page

    def shows(batch: Batch) -> str:
        page.evaluate("html => (window.part.element.innerHTML = html)", panel.page(batch, 0, ""))
        page.wait_for_selector(".sp[data-row]")
        return page.text_content(".sp-rewrite b")

    assert page.is_disabled(".sp-rewrite") and page.is_hidden(".sp-cut")
    assert page.text_content(".sp-rewrite b") == "", "no row is whole"
    assert [shows(written(done)) for done in (256, 40, 256)] == ["9", "3", "9"]
    box = page.locator("svg.codes").bounding_box()
    page.mouse.click(box["x"] + 9, box["y"] + box["height"] * 11.5 / SIDE)
    assert page.text_content(".sp-rewrite b") == "12"
    page.focus(".sp-stage")
    page.keyboard.press("ArrowDown")
    row = page.get_by_role("slider", name="Rewrite from row")
    assert [row.get_attribute(f"aria-value{v}") for v in ("min", "now", "max")] == ["2", "13", "16"]
    assert [shows(written(done)) for done in (40, 256)] == ["3", "13"], "which was chosen"
    page.click(".sp-rewrite")
    assert part.told()[0]["asked"]["row"] == 12


def test_only_the_visitors_own_order_lasts(mount):
    part = mount("gallery", gallery.empty(3, (SIDE, SIDE)))
    kept = np.zeros((SIDE, SIDE), bool)

    def order(batch: Batch) -> list[int]:
        part.give(gallery.finished(batch, 0))
        tiles = part.page.locator("[data-index]")
        return [int(tile.get_attribute("data-index")) for tile in tiles.all()]

    def ranked() -> Batch:
        return replace(written(), origin="completed", kept=kept, number=next(numbers))

    numbers = iter(range(1000, 2000))
    assert order(written()) == [0, 1, 2]
    assert order(ranked()) == [2, 1, 0]
    assert order(written()) == [0, 1, 2], "nobody asked for the other order"
    part.page.click("[data-order=likely]")
    assert order(written()) == [2, 1, 0]
    part.page.click("[data-order=written]")
    assert order(ranked()) == [0, 1, 2]


def report(pictures: np.ndarray, cells: tuple[int, int], **more: object) -> dict:
    """What a run sends of (n, H, W, 3) uint8 pictures that have `cells` rows and columns."""
    rows, columns = cells
    image = data_url(sheet(pictures, gap=0))
    size = {"count": len(pictures), "rows": rows, "columns": columns}
    size["across"] = columns_of(len(pictures))
    return {**size, "image": image, "live": True, "status": "row 1", "kept": None, **more}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shown", [0, 5, 18, 30, 48])
def test_exactly_what_is_not_written_is_blank(mount, shown, masked):
    rng = np.random.default_rng(shown)
    pictures = rng.integers(0, 256, (3, 6 * 8, 8 * 8, 3), np.uint8)
    kept = rng.random(48) < 0.5
    value = report(pictures, (6, 8), shown=shown, kept=kept.tolist() if masked else None)
    alone = mount("gallery", None).page
    alone.evaluate(SEND, [value])
    there = (np.arange(48) < shown) | (kept & masked)
    there = there.reshape(6, 8).repeat(8, 0).repeat(8, 1)
    tiles = alone.evaluate(TILES)
    assert len(tiles) == 3
    for (width, height, data), picture in zip(tiles, pictures, strict=True):
        tile = np.array(data, np.uint8).reshape(height, width, 4)
        assert np.array_equal(tile[there, :3], picture[there]) and (tile[there, 3] == 255).all()
        free = tile[~there, 3]  # a hatching, and nothing of the picture
        assert free.size == 0 or (free.max() < 160 and 0.4 < (free == 0).mean() < 0.95)


def test_a_report_without_a_new_picture_changes_its_sentence_only(mount):
    alone = mount("gallery", None).page
    alone.evaluate(
        """() => {
            const own = window.Image;
            window.decoded = 0;
            window.Image = function () { window.decoded++; return new own(); };
        }"""
    )
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 256, (2, 2, 32, 32, 3), np.uint8)
    value = report(first, (4, 4), shown=4)
    says = "window.part.element.querySelector('.sg-status').innerText"
    alone.evaluate(SEND, [value])
    spot = "window.part.element.querySelector('canvas').getContext('2d')"
    alone.evaluate(f"{spot}.fillRect(0, 0, 1, 1)")  # whoever draws would take it away
    marked = alone.evaluate(TILES)
    assert marked[0][2][:4] == [0, 0, 0, 255] != [*first[0, 0, 0].tolist(), 255]
    alone.evaluate(SEND, [{**value, "status": "row 2"}])
    assert alone.evaluate(says) == "row 2"
    assert alone.evaluate(TILES) == marked and alone.evaluate("decoded") == 1
    # Another picture, and another sentence while it is being decoded.
    value = report(second, (4, 4), shown=8, status="row 3")
    alone.evaluate(SEND, [value, {**value, "status": "row 4"}])
    assert alone.evaluate(says) == "row 4" and alone.evaluate("decoded") == 2
    for (width, height, data), picture in zip(alone.evaluate(TILES), second, strict=True):
        tile = np.array(data, np.uint8).reshape(height, width, 4)
        assert np.array_equal(tile[:16, :, :3], picture[:16]) and (tile[16:, :, 3] < 255).all()
    # The same picture, of which more is written.
    alone.evaluate(SEND, [{**value, "shown": 12}])
    tile = np.array(alone.evaluate(TILES)[0][2], np.uint8).reshape(32, 32, 4)
    assert np.array_equal(tile[:24, :, :3], second[0, :24])


def test_a_model_of_another_size_begins_with_a_sketch_too(mount):
    value = {"width": 64, "height": 64, "lines": None, "worded": False, "pull": 3, "most": 6}
    side, drawn = mount("sketch", value).page.evaluate(DRAWN)
    assert side == 3 * 64 and drawn > 500


def test_of_endings_only_the_stopped_original_is_hatched(mount):
    part = mount("gallery", gallery.empty(4, (SIDE, SIDE)))
    endings = writing.with_original(written(), written(40).grids[0], WHITE, -20.0)
    part.give(gallery.finished(endings, 1))
    tiles = [np.array(data, np.uint8).reshape(h, w, 4) for w, h, data in part.page.evaluate(TILES)]
    assert (tiles[0][8:12, 32:, 3] < 255).any() and (tiles[0][12:, :, 3] < 255).any()
    assert (tiles[0][:8] == 255).all() and (tiles[0][8:12, :32] == 255).all()
    assert all((tile == 255).all() for tile in tiles[1:])


def test_a_tile_is_named_as_its_picture_is_below(mount):
    part = mount("gallery", gallery.empty(2, (SIDE, SIDE)))
    given = replace(written(), seeds=(None, 5, 6))
    part.give(gallery.finished(given, 1))
    names = [tile.aria_snapshot() for tile in part.page.locator("[data-index]").all()]
    for name, says in zip(names, ('"0.51 ', '"1 0.45"', '"2 0.39"'), strict=True):
        assert name.startswith(f"- button {says}"), name
    assert "Picture 1 of 2" in panel.page(given, 1, "")


def test_a_run_in_line_is_brought_into_sight(mount):
    part = mount("gallery", gallery.empty(3, (SIDE, SIDE)), above=1500)
    place = "window.part.element.querySelector('.sg-bar').getBoundingClientRect()"
    inside = f"{place}.bottom < innerHeight && {place}.top > innerHeight / 3"  # Stop lies above
    part.page.evaluate("value => window.part.give(value)", gallery.says("gallery.nothing"))
    part.page.wait_for_timeout(300)
    assert not part.page.evaluate(inside), "nothing has begun"
    part.page.evaluate("value => window.part.give(value)", gallery.says("gallery.waiting"))
    part.page.wait_for_function(inside)


class Named:
    """Pictures with a title each."""

    note = "one.bits.idea"

    def caption(self, index: int) -> str:
        return "cat"


def test_nothing_below_moves_when_the_figures_come(mount):
    part = mount("gallery", gallery.empty(3, (SIDE, SIDE)))
    ask = Request(3, 1.0, 0, 1.0, 5, (SIDE, SIDE))
    high = []
    for value in (
        gallery.live(ask, Step(3, SIDE**2, 9.0, 0, None), None, given=Named()),
        gallery.finished(replace(written(), given=Named()), 0),
    ):
        part.give(value)
        high.append(part.page.evaluate("window.part.element.offsetHeight"))
    assert high[0] == high[1]


def test_on_a_phone_figures_and_neighbours_stand_in_even_rows(mount):
    found = [Found("cloud", "noto", 1.0, False, WHITE) for _ in range(3)]
    html = panel.page(written(), 0, panel.near(found, None, ""))
    page = mount("sample_panel", None, html).page
    for query, rows in ((".tile", 2), (".sp-found figure", 1)):
        tops = page.eval_on_selector_all(query, "all => all.map(e => e.offsetTop)")
        assert len(set(tops)) == rows and len(tops) % rows == 0
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_a_quick_drag_leaves_no_holes(mount):
    part = mount("complete", {"image": data_url(WHITE), "rows": SIDE, "columns": SIDE})
    page = part.page
    page.wait_for_selector("[data-free]", state="attached")
    page.click("[data-act=all]")
    page.click("[data-tool=erase]")
    box = page.locator("canvas").bounding_box()
    y = box["y"] + box["height"] * 8 / SIDE
    page.mouse.move(box["x"] + box["width"] * 1 / SIDE, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 15 / SIDE, y)  # in one go
    page.mouse.up()
    page.mouse.move(box["x"] + 9, box["y"] + 9)  # and no more of it
    page.click("[data-act=complete]")
    free = np.array(list(part.told()[0]["free"])).reshape(SIDE, SIDE) == "1"
    assert free[7:9].all() and free.sum() == 2 * SIDE


# A finger's events on the mounted part's canvas: [kind, row of the SIDE rows] each.
FINGER = """([side, events]) => {
    const canvas = window.part.element.querySelector('canvas');
    const box = canvas.getBoundingClientRect();
    for (const [kind, row] of events) canvas.dispatchEvent(new PointerEvent(kind, { bubbles: true,
        pointerId: 5, pointerType: 'touch', clientX: box.left + box.width / 2,
        clientY: box.top + (box.height * (row + 0.5)) / side }));
}"""


def test_a_finger_that_scrolls_leaves_what_is_erased(mount):
    part = mount("complete", {"image": data_url(WHITE), "rows": SIDE, "columns": SIDE})
    page = part.page
    page.wait_for_selector("[data-free]", state="attached")
    touch = "getComputedStyle(document.querySelector('canvas')).touchAction"
    assert page.evaluate(touch) == "manipulation"
    page.click("[data-tool=erase]")
    assert page.evaluate(touch) == "none"
    page.click("[data-act=all]")
    page.locator("canvas").click(position={"x": 100, "y": 100})
    free = "window.part.element.dataset.free"
    assert page.evaluate(free) == "4"
    page.click("[data-tool=rows]")
    assert page.evaluate(touch) == "manipulation"
    scrolled = [["pointerdown", 3], ["pointermove", 5], ["pointercancel", 5], ["pointermove", 6]]
    page.evaluate(FINGER, [SIDE, scrolled])
    assert page.evaluate(free) == "4"
    page.evaluate(FINGER, [SIDE, [["pointerdown", 12], ["pointerup", 12]]])
    assert page.evaluate(free) == str(4 * SIDE)


def test_cells_are_erased_and_kept_by_keys_too(mount):
    part = mount("complete", {"image": data_url(WHITE), "rows": SIDE, "columns": SIDE})
    page = part.page
    page.wait_for_selector("[data-free]", state="attached")
    page.focus("canvas")
    page.keyboard.press("ArrowDown")  # rows: one less
    assert page.evaluate("window.part.element.dataset.free") == str(7 * SIDE)
    page.click("[data-act=all]")
    for tool, keys in (
        ("erase", "ArrowDown ArrowRight ArrowRight Enter ArrowUp ArrowUp ArrowUp Enter"),
        ("keep", "ArrowDown Space"),
    ):
        page.click(f"[data-tool={tool}]")
        page.focus("canvas")
        for key in keys.split():
            page.keyboard.press(key)
        page.click("[data-act=complete]")
    erased, kept = (np.flatnonzero([cell == "1" for cell in told["free"]]) for told in part.told())
    assert erased.tolist() == [2, SIDE + 2] and kept.tolist() == [2]


def test_enter_that_takes_a_word_over_fills_nothing_in(mount):
    """Of an input method: by isComposing, and in Safari by the key's old number alone."""
    value = {"width": 128, "height": 128, "lines": None, "worded": True, "pull": 3, "most": 6}
    part = mount("sketch", value)
    enter = """given => document.querySelector('.sk-words input').dispatchEvent(
        new KeyboardEvent('keydown', { key: 'Enter', bubbles: true, ...given }))"""
    part.page.evaluate(enter, {"isComposing": True, "keyCode": 229})
    part.page.evaluate(enter, {"keyCode": 229})
    assert part.told() == []
    part.page.evaluate(enter, {"keyCode": 13})
    assert len(part.told()) == 1


def test_what_is_said_aloud_is_where_a_run_begins_and_ends(mount):
    part = mount("gallery", None)
    spoken = "document.querySelector('[role=status]').innerText"
    rng = np.random.default_rng(0)
    for status, live, said in (
        ("row 1", True, "row 1"),
        ("row 2", True, "row 1"),
        ("row 3", True, "row 1"),
        ("4 pictures", False, "4 pictures"),
        ("4 pictures, once more", False, "4 pictures"),
    ):
        picture = rng.integers(0, 256, (2, 32, 32, 3), np.uint8)
        part.page.evaluate(SEND, [report(picture, (4, 4), shown=4, status=status) | {"live": live}])
        assert part.page.inner_text(".sg-status") == status
        assert part.page.evaluate(spoken) == said


def test_the_usual_number_of_steps_follows_the_mode(mount):
    """Also once a file has brought settings back, which no click on a mode told of."""
    page = mount("sketch", None).page
    given = [("both", 40), ("prior", 20), ("guided", 20), ("guided", 40), ("both", 33)]
    after = [page.evaluate(f"({STEPS})({mode!r}, {steps})") for mode, steps in given]
    assert after == [20, 20, 40, 40, 33]


def test_going_back_counts_from_what_is_written_by_then(mount):
    value = {"image": data_url(WHITE), "rows": SIDE, "columns": SIDE, "codes": [1, 2, 3]}
    part = mount("steps", {**value, "given": 0, "candidates": [], "where": "", "others": ""})
    part.page.click("[data-back=one]")
    part.page.click("[data-back=all]")
    assert part.told() == [{"back": "one"}, {"back": "all"}]


def test_a_code_is_for_the_cell_that_was_shown(mount):
    chip = {"code": 9, "image": data_url(WHITE), "before": 0.5, "after": 0.5, "was": False}
    chip |= {"beforeText": "50 %", "afterText": "50 %"}
    value = {"image": data_url(WHITE), "rows": SIDE, "columns": SIDE, "codes": [1, 2], "given": 0}
    part = mount("steps", {**value, "candidates": [chip], "where": "", "others": ""})
    part.page.dblclick("[data-code='9']")
    assert part.told() == [{"code": 9, "at": 2}] * 2


def test_the_keyboard_stays_among_the_candidates(mount):
    def value(codes: list[int], offered: list[int]) -> dict:
        chip = {"image": data_url(WHITE), "before": 0.5, "after": 0.5, "was": False}
        chip |= {"beforeText": "50 %", "afterText": "50 %"}
        chips = [{**chip, "code": code} for code in offered]
        common = {"image": data_url(WHITE), "rows": 2, "columns": 2, "given": 0, "others": ""}
        return {**common, "codes": codes, "candidates": chips, "where": "Code"}

    part = mount("steps", value([1], [7, 8, 9]))
    focused = "Object.entries(document.activeElement.dataset)[0]"
    part.page.focus("[data-code='8']")
    part.give(value([1, 8], [4, 5, 6]))
    assert part.page.evaluate(focused) == ["code", "5"]
    part.give(value([1, 8, 5], [3]))
    assert part.page.evaluate(focused) == ["draw", "one"]
    part.give(value([1, 8, 5, 3], []))
    assert part.page.evaluate(focused) == ["back", "one"]
    part.page.evaluate("document.activeElement.blur()")
    part.give(value([1], [7, 8, 9]))
    assert part.page.evaluate("document.activeElement === document.body"), "it was elsewhere"


@pytest.mark.parametrize("dark", [False, True])
def test_the_hint_in_the_field_for_words_is_paler_than_words(mount, dark):
    value = {"width": 128, "height": 128, "lines": None, "worded": True, "pull": 3, "most": 6}
    page = mount("sketch", value).page
    page.evaluate("dark => document.body.classList.toggle('dark', dark)", dark)
    colours = ":root { --body-text-color: rgb(1, 1, 1); --input-placeholder-color: rgb(9, 9, 9); }"
    page.add_style_tag(content=colours)
    look = "name => getComputedStyle(document.querySelector('.sk-words input'), name).color"
    assert page.evaluate(look, None) == "rgb(1, 1, 1)"
    assert page.evaluate(look, "::placeholder") == "rgb(9, 9, 9)"


def test_a_queues_reply_waits_for_those_before_it_but_not_for_ever(browser):
    page = browser.new_page()
    page.clock.install()
    page.evaluate(
        """code => {
            window.calls = [], window.told = [];
            window.fetch = () => new Promise((answer, fail) => calls.push({ answer, fail }));
            Function(code)();
            const text = (reply) => reply.text();
            const tell = (name) => (said) => told.push([name, said]);
            window.ask = (name, path = './gradio_api/queue/join?') =>
                fetch(path).then(text).then(tell(name));
            window.reply = (i) => calls[i].answer(new Response(`id ${i}`));
        }""",
        (STATIC / "replies.js").read_text("utf-8"),
    )

    def told(act: str, step: int = 50) -> list[list[str]]:
        """What arrived after this, told in turn."""
        page.evaluate(f"() => {{ told.length = 0; {act} }}")
        for _ in range(20):  # replies are read in their own time, between these
            page.clock.run_for(step)
            page.evaluate("() => new Response('read').text()")
        return page.evaluate("told")

    refused = '{"detail":"","error":""}'
    assert told("ask('a'); ask('b'); ask('c'); reply(1); reply(2);") == []
    assert told("reply(0);") == [["a", "id 0"], ["b", "id 1"], ["c", "id 2"]]
    assert told("ask('d'); ask('e', './gradio_api/run/pick'); reply(4);") == [["e", "id 4"]]
    assert told("ask('f'); reply(5); calls[3].fail(Error());") == [["d", refused], ["f", "id 5"]]
    assert told("ask('g'); ask('h'); reply(7);") == []
    assert told("", 600) == [["h", "id 7"]]
    page.close()
