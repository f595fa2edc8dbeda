"""The Sample tab in a browser. What is asserted is content: codes, pixels, previews, times."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from prior.sample import finish, sample
from prior.sheet import FILE, Record, decode
from prior.sketch import PULL, shifts_of
from ui.complete import from_file, from_session
from ui.examples import EXAMPLES
from ui.sample import PRESETS, START
from ui.session import open_picture
from ui.sketching import lines_of

ROOT = "document.querySelector('#sample-gallery [data-version]')"
# Collects every state of the gallery: what it shows, and the pixels of its first tile.
WATCH = """() => {
    const root = document.querySelector('#sample-gallery [data-version]');
    const seen = (window.seen = []);
    new MutationObserver(() => {
        const c = document.querySelector('#sample-gallery canvas');
        seen.push({ state: root.dataset.state, shown: Number(root.dataset.shown),
            status: document.querySelector('#sample-gallery .sg-status').innerText,
            pixels: c.toDataURL() });
    }).observe(root, { attributes: true, attributeFilter: ['data-version'] });
}"""
# Presses Stop and says how many milliseconds later the page shows that it has stopped.
STOP = """() => new Promise((done) => {
    const root = document.querySelector('#sample-gallery [data-version]');
    const start = performance.now();
    new MutationObserver(() => root.dataset.state !== 'live' && done(performance.now() - start))
        .observe(root, { attributes: true, attributeFilter: ['data-version'] });
    document.querySelector('#sample-stop').click();
})"""

PLACE = """() => {
    const { top, bottom } = document.querySelector('#slider').getBoundingClientRect();
    return [top, bottom];
}"""


def pixels(url: str) -> np.ndarray:
    """A canvas' data URL -> (H, W, 4) uint8."""
    picture = Image.open(io.BytesIO(base64.b64decode(url.split(",")[1])))
    return np.asarray(picture.convert("RGBA"))


class Desk:
    """The Sample tab of a visitor's page."""

    def __init__(self, visited):
        self.visited, self.page = visited, visited.page
        self.page.get_by_role("tab", name="Sample").click()
        self.page.wait_for_selector("#sample-about .sp")

    @property
    def batch(self) -> str:
        return self.page.evaluate(f"{ROOT}.dataset.batch")

    def set(self, name: str, value: object) -> None:
        field = self.page.locator(f"#sample-{name} input[type=number]")
        for _ in range(3):  # an accordion that has just opened may draw its fields once more
            field.fill(str(value))
            field.press("Enter")
            self.page.wait_for_timeout(100)
            if field.input_value() == str(value):
                return
        raise AssertionError(f"{name} does not keep {value}")

    def after(self, act, name: str) -> None:
        """Do something, and wait until another batch is there and told about."""
        old = self.batch
        with self.visited.timed(name):
            act()
            self.page.wait_for_function(
                f"old => {ROOT}.dataset.batch && {ROOT}.dataset.batch !== old", arg=old
            )
        self.page.wait_for_function(
            f"document.querySelector('#sample-about .sp').dataset.batch === {ROOT}.dataset.batch"
        )

    def write(self, count: int, seed: int) -> None:
        self.set("count", count)
        self.open_fine_settings()
        self.set("seed", seed)
        self.after(lambda: self.page.click("#sample-write"), f"write {count} pictures")

    def open_fine_settings(self) -> None:
        """Gradio mounts the fields in there late, and what is typed before that is lost."""
        field = self.page.locator("#sample-seed input[type=number]")
        if field.is_visible():
            return
        self.page.click("#sample-fine button")
        field.wait_for()
        self.page.wait_for_timeout(1000)

    def pick(self, index: int) -> None:
        with self.visited.timed("click on a written picture"):
            self.page.click(f"#sample-gallery [data-index='{index}']")
            self.page.wait_for_selector(f"#sample-about .sp[data-picture='{index}']")

    def codes(self) -> np.ndarray:
        """The code numbers on the picture that is told about."""
        texts = self.page.locator("#sample-about svg.codes text").all_text_contents()
        assert len(texts) == 256
        return np.array(texts, int).reshape(16, 16)

    def tile(self, index: int) -> np.ndarray:
        """A tile's pixels: (H, W, 4)."""
        canvas = self.page.locator(f"#sample-gallery [data-index='{index}'] canvas")
        return pixels(canvas.evaluate("canvas => canvas.toDataURL()"))


@pytest.fixture
def desk(visit) -> Desk:
    return Desk(visit())


def expected(studio, count: int, seed: int) -> np.ndarray:
    """What the prior writes with the settings that the tab starts with."""
    temperature, top_k, top_p = PRESETS[START]
    how = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    return finish(sample(studio.bundle.prior, count, seed=seed, **how)).grid.numpy()


def close(shown: np.ndarray, wanted: np.ndarray) -> bool:
    """Equal up to one grey level: threads may add up in another order."""
    return np.abs(shown.astype(int) - wanted.astype(int)).max() <= 1


def test_samples_are_there_before_the_first_click(desk, studio):
    shipped = Record.read(studio.bundle.path / FILE)
    assert desk.page.locator("#sample-gallery canvas").count() == len(shipped.codes)
    likeliest = int(np.argmin(shipped.bits))
    assert np.array_equal(desk.codes(), shipped.codes[likeliest])
    pressed = desk.page.get_attribute(
        "#sample-gallery [aria-pressed=true][data-index]", "data-index"
    )
    assert int(pressed) == likeliest
    pictures = decode(studio.vqgan, torch.from_numpy(shipped.codes))
    assert all(close(desk.tile(i)[..., :3], p) for i, p in enumerate(pictures))
    text = desk.page.inner_text("#sample-gallery .sg-status")
    assert "Seeds 40 to 42, written beforehand and not picked" in text
    # Its neighbours are among the indexed pictures, the nearest one first.
    distances = desk.page.locator("#sample-about .sp-found i").all_inner_texts()
    assert len(distances) == 3 and distances == sorted(distances, key=float)


def test_the_pictures_come_however_late_they_are_decoded(visit, studio):
    """By then Gradio has put an equal copy in the place of the value that they came with."""
    visited = visit()
    visited.page.evaluate(
        """() => {
            const own = Object.getOwnPropertyDescriptor(HTMLImageElement.prototype, 'src');
            const set = function (url) { setTimeout(() => own.set.call(this, url), 1500); };
            Object.defineProperty(HTMLImageElement.prototype, 'src', { ...own, set });
        }"""
    )
    desk = Desk(visited)
    desk.page.wait_for_function(f"{ROOT}.dataset.state === 'done'", timeout=20_000)
    first = decode(studio.vqgan, torch.from_numpy(Record.read(studio.bundle.path / FILE).codes))[0]
    assert close(desk.tile(0)[..., :3], first)


def test_pictures_are_written_row_by_row(desk, studio):
    desk.page.evaluate(WATCH)
    desk.write(4, 7)
    seen = desk.page.evaluate("window.seen")
    live = [s for s in seen if s["state"] == "live" and s["shown"]]
    previews = {s["pixels"]: s for s in live}
    assert len(previews) >= 3
    assert [s["shown"] for s in live] == sorted(s["shown"] for s in live)
    for state in previews.values():
        tile = pixels(state["pixels"])
        assert tile.shape == (128, 128, 4)
        edge = state["shown"] // 16 * 8
        assert (tile[:edge, :, 3] == 255).all()  # written: opaque
        assert (tile[edge + 1 :, :, 3] < 255).mean() > 0.5  # not yet: blank under a hatching
    assert any(re.search(r"row \d+ of 16 · [\d,]+ codes a second", s["status"]) for s in live)
    grids = expected(studio, 4, 7)
    assert np.array_equal(desk.codes(), grids[0])
    pictures = decode(studio.vqgan, torch.from_numpy(grids))
    off = [np.abs(desk.tile(i)[..., :3].astype(int) - p).max() for i, p in enumerate(pictures)]
    assert max(off) <= 1, off


def test_a_clicked_picture_shows_its_own_codes_and_opens_in_reconstruct(desk, studio, tmp_path):
    desk.write(3, 20)
    grids = expected(studio, 3, 20)
    desk.pick(2)
    assert np.array_equal(desk.codes(), grids[2])
    assert desk.page.inner_text("#sample-about [data-tile=seed] b") == "22"
    picture = desk.tile(2)[..., :3]
    with desk.page.expect_download() as download:
        desk.page.click("#sample-png")
    download.value.save_as(tmp_path / "one.png")
    assert download.value.suggested_filename == "sample-seed-22.png"
    assert np.array_equal(Record.read(tmp_path / "one.png").codes[0], grids[2])
    # Likeliest first: the same pictures in another order.
    desk.page.click("#sample-gallery [data-order=likely]")
    tiles = desk.page.locator("#sample-gallery [data-index]")
    bits = [float(text) for text in tiles.all_inner_texts()]
    assert bits == sorted(bits)
    visited, old = desk.visited, desk.visited.sources()
    visited.after(lambda: desk.page.click("#sample-open"), "open in Reconstruct")
    assert visited.sources() != old
    assert close(visited.images()[1], picture)
    assert visited.code_at(3, 4) == grids[2, 3, 4]


@pytest.mark.parametrize(("width", "height"), [(390, 844), (1366, 768)])
def test_a_picture_opened_in_reconstruct_is_in_sight(visit, width, height):
    desk = Desk(visit(width, height))
    desk.page.wait_for_selector("#sample-open:not([disabled])")
    desk.page.locator("#sample-open").scroll_into_view_if_needed()
    assert desk.page.evaluate("scrollY") > 200
    desk.visited.after(lambda: desk.page.click("#sample-open"), "open in Reconstruct")
    desk.page.wait_for_timeout(500)  # and there it stays
    top, bottom = desk.page.evaluate(PLACE)
    assert 0 <= top < bottom <= height


def test_of_two_quick_clicks_the_second_is_shown(desk):
    for index in (0, 1, 0, 2):
        desk.page.click(f"#sample-gallery [data-index='{index}']")
    desk.page.wait_for_selector("#sample-about .sp[data-picture='2']")
    desk.page.wait_for_timeout(500)
    assert desk.page.get_attribute("#sample-about .sp", "data-picture") == "2"


def test_a_tile_is_named_by_its_number_and_what_stands_under_it(desk):
    tiles = desk.page.locator("#sample-gallery [data-index]")
    assert tiles.count() > 1
    for tile in tiles.all():
        number, text = int(tile.get_attribute("data-index")) + 1, tile.inner_text().strip()
        assert float(text) > 0  # bits
        assert tile.aria_snapshot().startswith(f'- button "{number} {text}"')


@pytest.mark.quiet
def test_stop_keeps_what_is_there(desk):
    desk.set("count", 48)
    desk.page.click("#sample-write")
    desk.page.wait_for_function(f"{ROOT}.dataset.state == 'live' && {ROOT}.dataset.shown >= 16")
    old = desk.page.evaluate(f"Number({ROOT}.dataset.shown)")
    milliseconds = desk.page.evaluate(STOP)
    print(f"Stop, from the click: {milliseconds:.0f} ms")
    desk.visited.measured("Stop, from the click until it shows", milliseconds / 1000)
    assert milliseconds <= 500
    desk.page.wait_for_selector("#sample-about .sp .tiles >> text=of 48 here")
    shown = desk.page.evaluate(f"Number({ROOT}.dataset.shown)")
    assert old <= shown < 256
    tile = desk.tile(0)
    assert (tile[: shown // 16 * 8, :, 3] == 255).all() and (tile[-8:, :, 3] < 255).any()
    assert "Stopped at row" in desk.page.inner_text("#sample-gallery .sg-status")
    assert desk.page.is_enabled("#sample-write") and not desk.page.is_enabled("#sample-stop")
    assert desk.page.locator("#sample-about svg.codes text").count() == shown


@pytest.mark.quiet
def test_the_newest_wish_wins_and_stop_stops_it(desk):
    sketch = Sketcher(desk)
    desk.page.get_by_role("tab", name="From nothing", exact=True).click()
    desk.set("count", 64)
    live = f"{ROOT}.dataset.state == 'live' && {ROOT}.dataset.shown >= 16"
    desk.page.click("#sample-write")
    desk.page.wait_for_function(live)
    desk.page.get_by_role("tab", name="Sketch", exact=True).click()
    desk.page.evaluate(WATCH)
    sketch.act("go")
    desk.page.wait_for_function(  # the samples that were there, for a moment, then the new run
        "window.seen.some((s) => s.state === 'done' && s.status.includes('Waiting'))"
    )
    desk.page.wait_for_function(live)
    assert desk.page.is_enabled("#sample-stop") and not desk.page.is_enabled("#sample-write")
    assert desk.page.evaluate(STOP) <= 1000
    desk.page.wait_for_selector("#sample-about .sp .tiles >> text=of 64 here")
    assert "Stopped at row" in desk.page.inner_text("#sample-gallery .sg-status")
    assert desk.page.is_enabled("#sample-write") and not desk.page.is_enabled("#sample-stop")


def test_rewriting_from_a_row_keeps_the_rows_above(desk):
    before = desk.codes()
    picture = desk.page.locator("#sample-about svg.codes")
    picture.click(position={"x": 50, "y": picture.bounding_box()["height"] * 11.5 / 16})
    assert desk.page.inner_text("#sample-about .sp-rewrite") == "Rewrite from row 12"
    desk.after(lambda: desk.page.click("#sample-about .sp-rewrite"), "rewrite 5 rows, 7 times")
    assert "original" in desk.page.inner_text("#sample-gallery [data-index='0']")
    desk.pick(1)
    first = desk.codes()
    desk.pick(2)
    second = desk.codes()
    for after in (first, second):
        assert np.array_equal(after[:11], before[:11]) and (after[11:] != before[11:]).any()
    assert (first != second).any()
    desk.pick(0)
    assert np.array_equal(desk.codes(), before)


def test_a_picture_is_completed_around_what_is_kept(desk, studio):
    desk.set("count", 3)
    desk.page.get_by_role("tab", name="Picture", exact=True).click()
    desk.page.wait_for_selector("#sample-mask [data-free]", state="attached")
    session = open_picture(studio, EXAMPLES[0].path, "128")
    source = from_session(studio, session)
    canvas = desk.page.locator("#sample-mask canvas")
    box = canvas.bounding_box()
    desk.page.mouse.click(box["x"] + 9, box["y"] + box["height"] * 12.5 / 16)  # rows from 12 on
    desk.page.click("#sample-mask [data-tool=erase]")
    desk.page.mouse.click(box["x"] + box["width"] * 5 / 16, box["y"] + box["height"] * 3 / 16)
    assert desk.page.get_attribute("#sample-mask [data-free]", "data-free") == str(64 + 4)
    desk.after(lambda: desk.page.click("#sample-mask [data-act=complete]"), "3 completions")
    kept = np.ones((16, 16), bool)
    kept[12:] = kept[2:4, 4:6] = False
    tiles = desk.page.locator("#sample-gallery [data-index]")
    bits = [float(text.split()[0]) for text in tiles.all_inner_texts()]
    assert len(bits) == 4 and bits == sorted(bits)  # likeliest first, the original among them
    for index in (1, 2):
        desk.pick(index)
        codes = desk.codes()
        assert np.array_equal(codes[kept], source.grid[kept])
        assert (codes[~kept] != source.grid[~kept]).any()
    desk.pick(0)
    assert np.array_equal(desk.codes(), source.grid)


class Sketcher:
    """The canvas that lines are drawn on."""

    def __init__(self, desk: Desk):
        self.desk, self.page = desk, desk.page
        self.page.get_by_role("tab", name="Sketch", exact=True).click()
        self.canvas = self.page.locator("#sample-sketch canvas")
        self.canvas.wait_for()

    def lines(self) -> np.ndarray:
        """(128, 128) bool: where at least a third of a pixel's 3 x 3 is drawn on."""
        alpha = pixels(self.canvas.evaluate("canvas => canvas.toDataURL()"))[..., 3].astype(int)
        side = alpha.shape[0] // 128
        return alpha.reshape(128, side, 128, side).sum((1, 3)) > 255 * 3

    def stroke(self, *points: tuple[float, float]) -> None:
        """From point to point, given as shares of the canvas' width and height."""
        box = self.canvas.bounding_box()
        at = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
        self.page.mouse.move(*at[0])
        self.page.mouse.down()
        for point in at[1:]:
            self.page.mouse.move(*point, steps=8)
        self.page.mouse.up()

    def act(self, name: str) -> None:
        self.page.click(f"#sample-sketch [data-act={name}]")


def test_small_sketches_and_the_hint_follow_the_language(desk):
    Sketcher(desk)
    house = desk.page.locator("#sample-sketch [data-example=house]")
    words = desk.page.locator("#sample-sketch .sk-words input")
    for language, name, hint in (("en", "house", "a red apple"), ("zh", "房子", "红苹果")) * 2:
        if desk.page.evaluate("document.documentElement.lang") != language:
            desk.page.click("[data-switch=language]")
            desk.page.wait_for_selector(f"html[lang={language}]")
        assert house.get_attribute("title") == house.get_attribute("aria-label") == name
        assert words.get_attribute("placeholder") == hint


def test_lines_are_drawn_undone_and_filled_in(desk, studio):
    sketch = Sketcher(desk)
    first = sketch.lines()
    assert first.sum() > 300  # a small sketch to begin with
    desk.page.click("#sample-sketch [data-example=house]")
    house = sketch.lines()
    assert (house != first).sum() > 300
    sketch.act("clear")
    assert not sketch.lines().any()
    sketch.stroke((0.25, 0.5), (0.75, 0.5), (0.75, 0.8))
    drawn = sketch.lines()
    assert drawn[63:65, 33:95].all() and drawn[66:100, 95:97].all()  # a pen three pixels wide
    assert not drawn[:60].any() and drawn.sum() < 500
    sketch.stroke((0.1, 0.1), (0.3, 0.2))
    assert (sketch.lines() & ~drawn).any()
    sketch.act("undo")
    assert np.array_equal(sketch.lines(), drawn)
    sketch.stroke((0.1, 0.1), (0.3, 0.2))
    desk.page.keyboard.press("Control+z")
    assert np.array_equal(sketch.lines(), drawn)
    desk.page.click("#sample-sketch [data-tool=rubber]")
    sketch.stroke((0.5, 0.4), (0.5, 0.6))
    shown = sketch.lines()
    assert not shown[63:65, 60:68].any() and shown[66:100, 95:97].all()

    desk.set("count", 2)
    desk.after(lambda: sketch.act("go"), "2 pictures along a sketch")
    temperature, top_k, top_p = PRESETS[START]
    how = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    shifts = shifts_of(studio.bundle.sketch, shown)
    how |= {"shifts": shifts, "cfg_scale": PULL}
    wanted = finish(sample(studio.bundle.prior, 2, seed=0, **how)).grid.numpy()
    for index in (0, 1):
        desk.pick(index)
        assert np.array_equal(desk.codes(), wanted[index])
    assert (expected(studio, 2, 0) != wanted).mean() > 0.1  # without lines it writes others
    sketch.act("clear")
    sketch.act("go")
    assert "Nothing is drawn yet" in desk.visited.toast()


def test_the_lines_of_the_picture_in_reconstruct(desk, studio):
    sketch = Sketcher(desk)
    before = sketch.lines()
    version = desk.page.get_attribute("#sample-sketch [data-version]", "data-version")
    desk.page.click("#sketch-session")
    session = open_picture(studio, EXAMPLES[0].path, "128")
    wanted = lines_of(studio, session.result)
    desk.page.wait_for_function(
        "old => document.querySelector('#sample-sketch [data-version]').dataset.version !== old",
        arg=version,
    )
    shown = sketch.lines()
    assert (shown != wanted).mean() < 0.01 and (shown != before).any()
    sketch.act("undo")
    assert np.array_equal(sketch.lines(), before)  # nothing that was drawn is lost
    undone = int(desk.page.get_attribute("#sample-sketch [data-version]", "data-version"))
    desk.page.click("#sketch-session")  # again
    desk.page.wait_for_function(
        "old => document.querySelector('#sample-sketch [data-version]').dataset.version > old",
        arg=undone,
    )
    assert np.array_equal(sketch.lines(), shown)


def test_a_second_finger_draws_nothing(desk):
    sketch = Sketcher(desk)
    sketch.act("clear")
    box = sketch.canvas.bounding_box()
    remote = desk.page.context.new_cdp_session(desk.page)

    def touch(kind: str, *fingers: tuple[int, float, float]) -> None:
        points = [
            {"id": n, "x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"]}
            for n, x, y in fingers
        ]
        remote.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", (0, 0.2, 0.2))
    touch("touchStart", (0, 0.2, 0.2), (1, 0.8, 0.8))
    for i in range(1, 7):
        touch("touchMove", (0, 0.2, 0.2 + 0.05 * i), (1, 0.8, 0.8 - 0.05 * i))
    touch("touchEnd")
    drawn = sketch.lines()
    assert drawn[28:62, 25].all() and not drawn[:, 30:].any()
    sketch.act("undo")
    assert not sketch.lines().any()  # one stroke, one step back


def test_enter_that_ends_a_chinese_syllable_begins_nothing(desk):
    sketch = Sketcher(desk)
    press = """(field, isComposing) =>
        field.dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter', isComposing }))"""
    field = sketch.page.locator(".sk-words input")
    field.evaluate(press, True)
    desk.page.wait_for_timeout(500)
    assert desk.page.is_disabled("#sample-stop")
    desk.set("count", 1)
    desk.after(lambda: field.evaluate(press, False), "1 picture along a sketch")


def test_bad_settings_are_answered_with_a_sentence(desk):
    desk.open_fine_settings()
    seed = desk.page.locator("#sample-seed input")
    seed.fill("-5")
    seed.press("Enter")
    desk.page.click("#sample-write")
    assert "Seed must be a whole number" in desk.visited.toast()
    desk.page.wait_for_function("!document.querySelector('#sample-write').disabled")
    desk.write(1, 3)  # and all goes on


def test_a_phone_and_a_chinese_browser(visit):
    page = visit(390, 844, has_touch=True, locale="zh-CN").page
    page.get_by_role("tab", name="采样").click()
    page.wait_for_selector("#sample-about .sp")
    page.fill("#sample-count input[type=number]", "6")
    page.press("#sample-count input[type=number]", "Enter")
    page.click("#sample-write")  # the pictures lie below it, and come into sight
    page.wait_for_function(f"{ROOT}.dataset.state === 'live'")
    page.wait_for_function(f"{ROOT}.getBoundingClientRect().top < innerHeight / 2")
    assert page.evaluate("document.querySelector('#sample-stop').getBoundingClientRect().top >= 0")
    page.wait_for_function(f"{ROOT}.dataset.state === 'done'")
    text = page.inner_text("body")
    assert "最接近的训练图片" in text and "每码比特" in text
    for english in ("Write", "Likelihood", "Stop", "row by row", "Nearest"):
        assert english not in text
    page.get_by_role("tab", name="草图", exact=True).click()
    page.wait_for_selector("#sample-sketch canvas")
    batch = page.evaluate(f"{ROOT}.dataset.batch")
    page.click("#sample-sketch [data-act=go]")
    page.wait_for_function(f"{ROOT}.dataset.state === 'live'")
    page.wait_for_function(f"{ROOT}.getBoundingClientRect().top < innerHeight / 2")
    page.wait_for_function(
        f"old => {ROOT}.dataset.state === 'done' && {ROOT}.dataset.batch !== old", arg=batch
    )
    page.get_by_role("tab", name="图片", exact=True).click()
    page.wait_for_selector("#sample-mask [data-free]", state="attached")
    page.click("#steps button")
    page.wait_for_selector("#steps-board [data-version]", state="attached")
    page.click("#how-sample button")
    page.wait_for_selector("#masked svg.codes")
    assert page.evaluate("document.documentElement.scrollWidth") == 390


class Stepper:
    """The fold-out with one code at a time."""

    def __init__(self, desk: Desk):
        self.desk, self.page = desk, desk.page
        self.after(lambda: self.page.click("#steps button"), "open step mode")

    @property
    def version(self) -> str:
        root = self.page.locator("#steps-board [data-version]")
        return root.get_attribute("data-version") if root.count() else "0"

    def after(self, act, name: str) -> list[int]:
        """Do something -> the codes so far, once the page shows them."""
        old = self.version
        with self.desk.visited.timed(name):
            act()
            self.page.wait_for_function(
                "old => (document.querySelector('#steps-board [data-version]')?.dataset.version"
                " || '0') !== old",
                arg=old,
            )
        codes = self.page.get_attribute("#steps-board [data-codes]", "data-codes")
        return [int(code) for code in codes.split()]

    def cell(self, row: int, column: int) -> None:
        canvas = self.page.locator("#steps-board canvas")
        side = canvas.bounding_box()["width"] / 16
        canvas.click(position={"x": (column + 0.5) * side, "y": (row + 0.5) * side})


def test_one_code_at_a_time(desk, studio):
    stepper = Stepper(desk)
    page = desk.page
    codes = stepper.after(lambda: page.click("[data-draw=row]"), "draw a row")
    assert codes == expected(studio, 1, 0).ravel()[:16].tolist()
    assert "Code 17 of 256: row 2, column 1" in page.inner_text(".st-where")
    third = page.locator("#steps-board [data-code]").nth(2)
    code, text = int(third.get_attribute("data-code")), third.inner_text()
    assert str(code) in text and text.count("%") >= 1
    forced = stepper.after(third.click, "force a code")
    assert forced == [*codes, code]
    more = stepper.after(lambda: page.click("[data-draw=row]"), "draw a row")
    assert len(more) == 32 and more[:17] == forced
    # Back to the sixth cell, and another way from there: only later cells differ.
    back = stepper.after(lambda: stepper.cell(0, 5), "go back to a cell")
    assert back == more[:5]
    chips = page.locator("#steps-board [data-code]")
    other = next(c for c in (0, 1) if chips.nth(c).get_attribute("data-code") != str(more[5]))
    branch = stepper.after(chips.nth(other).click, "force a code")
    branch = stepper.after(lambda: page.click("[data-draw=row]"), "draw a row")
    assert branch[:5] == more[:5] and branch[5] != more[5] and len(branch) == 16


def test_step_mode_follows_the_settings_and_the_first_code(desk):
    stepper = Stepper(desk)
    page = desk.page
    page.click("#sample-fine button")
    stepper.after(lambda: desk.set("top_k", 3), "another top-k")
    assert page.locator("#steps-board [data-code]:not(.out)").count() == 3
    codes = stepper.after(lambda: page.click("#steps-first label >> text=Random"), "first code")
    assert len(codes) == 1
    stepper.after(lambda: page.click("#steps-first label >> text=Picked"), "first code")
    field = page.locator("#steps-code input")
    field.fill("12")
    codes = stepper.after(lambda: field.press("Enter"), "first code")
    assert codes == [12]
    # Of two quick choices the last one counts.
    page.evaluate(
        "const [start, random] = document.querySelectorAll('#steps-first input');"
        " random.click(); setTimeout(() => start.click(), 200)"
    )
    page.wait_for_function(
        "document.querySelector('#steps-board [data-codes]').dataset.codes === ''"
    )


def test_the_masked_sequence_of_the_visitors_picture(desk, studio):
    page = desk.page
    with desk.visited.timed("masked sequence"):
        page.click("#how-sample button")
        page.wait_for_selector("#masked [data-figure=said]")
    assert page.locator("#how-sample .katex").count() > 10

    def codes(figure: str) -> list[int]:
        texts = page.locator(f"#masked [data-figure={figure}] text").all_text_contents()
        return [int(text) for text in texts]

    source = from_session(studio, open_picture(studio, EXAMPLES[0].path, "128"))
    assert codes("asked") == source.grid.ravel().tolist()
    swapped = page.locator("#masked rect.swapped").count()
    differing = sum(a != b for a, b in zip(codes("read"), codes("asked"), strict=True))
    assert 0 < swapped == differing
    assert f"{swapped} of 256 codes are replaced" in page.inner_text("#masked")
    cell = page.locator("#masked [data-figure=said] rect").nth(40)
    cell.click()  # for a finger, which points at nothing
    assert page.inner_text(".masked-cell") == cell.locator("title").text_content()
    field = page.locator("#mask-pkeep input[type=number]")
    field.fill("1")
    field.press("Enter")
    page.wait_for_function("!document.querySelector('#masked rect.swapped')")
    assert codes("read") == codes("asked")
    field.fill("")  # not yet a number again: a sentence, and the file is not to blame
    desk.visited.choose("#mask-own", EXAMPLES[1].path)
    assert "pkeep must be a number from 0 to 1" in desk.visited.toast()
    field.fill("1")
    field.press("Enter")
    desk.visited.choose("#mask-own", EXAMPLES[1].path)
    own = from_file(studio, EXAMPLES[1].path).grid.ravel().tolist()
    page.wait_for_function(
        """wanted => [...document.querySelectorAll('#masked [data-figure=asked] text')]
            .map((text) => Number(text.textContent)).join() === wanted.join()""",
        arg=own,
    )
    assert codes("asked") == own
