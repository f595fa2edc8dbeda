"""The Text-to-image tab in a browser: previews that differ, Stop, Continue, and the same again.

With tiny random models, so that it takes seconds: what is drawn means nothing, but it is drawn by
the real loop, from a real prior and a real open_clip model.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import expect

import checkpoints
from checkpoints.bundle import save_clip
from clip_guidance import model, record
from clip_guidance.examples import FOLDER, weights_id
from clip_guidance.modes import Request
from prior.model import GPT, PriorConfig
from tests.fakes import CLIP
from vqgan.model import VQGAN

LEAF = Image.linear_gradient("L").resize((128, 128)).convert("RGB")
# Keeps every picture that the stage shows, since some are there for a moment only.
WATCH = """() => {
  window.seen = [];
  const stage = document.querySelector('#draw-stage');
  new MutationObserver(() => {
    const image = stage.querySelector('img'), dr = stage.querySelector('.dr');
    if (image && dr) window.seen.push([dr.dataset.phase, Number(dr.dataset.step), image.src]);
  }).observe(stage, { childList: true, subtree: true });
}"""


@pytest.fixture(scope="module")
def address(tmp_path_factory, serve, tiny) -> Iterator[str]:
    """The app with a bundle that can draw."""
    torch.manual_seed(0)
    shape = PriorConfig(
        codebook_size=tiny.codebook_size, layers=1, heads=2, dim=32, condition="embedding",
        embedding_size=12,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("bundle")
    vqgan = VQGAN(tiny).eval()
    checkpoints.save(path, name="tiny", vqgan=vqgan, card={}, prior=GPT(shape).eval())
    save_clip(path, CLIP, model.create(CLIP, "tiny"), {})
    made = record.settings(
        Request("a green leaf"), score=0.25, weights=weights_id(checkpoints.load(path).card)
    )
    (path / FOLDER).mkdir()
    record.write(path / FOLDER / "0.png", LEAF, made, torch.zeros(1, 16, 16, dtype=torch.int64))
    with serve(path) as found:
        yield found


class Drawing:
    """The tab, in the words of the tests."""

    def __init__(self, visit):
        self.visit, self.page = visit, visit.page
        self.page.get_by_role("tab", name="Text to image").click()
        self.page.wait_for_selector("#draw-history button")
        self.page.evaluate(WATCH)

    def wait(self, phase: str, step: int = 0) -> None:
        self.page.wait_for_function(
            "([phase, step]) => { const dr = document.querySelector('#draw-stage .dr');"
            " return dr.dataset.phase === phase && Number(dr.dataset.step) >= step; }",
            arg=[phase, step],
        )

    def stop(self, step: int) -> None:
        """Press Stop at this step or soon after: at once, since on one core a run outpaces a click
        that first waits for the page to be still."""
        self.page.wait_for_function(
            "step => { const dr = document.querySelector('#draw-stage .dr');"
            " const stop = document.querySelector('#draw-stop');"
            " if (dr.dataset.phase !== 'steps' || Number(dr.dataset.step) < step || stop.disabled)"
            " return false; stop.click(); return true; }",
            arg=step,
        )
        self.wait("stopped", step)

    def set(self, name: str, value: int) -> None:
        number = self.page.locator(f"#draw-{name} input[type=number]")
        number.fill(str(value))
        number.press("Tab")

    def steps(self, count: int) -> None:
        self.set("steps", count)

    @property
    def step(self) -> int:
        return int(self.page.get_attribute("#draw-stage .dr", "data-step"))

    def picture(self) -> np.ndarray:
        source = self.page.get_attribute("#draw-stage img", "src")
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))))

    def save(self, path) -> None:
        self.page.wait_for_selector("#draw-png:not([disabled])")
        with self.page.expect_download() as download:
            self.page.click("#draw-png")
        download.value.save_as(path)


def test_the_tab_opens_with_a_drawn_example_to_go_on_from(visit):
    tab = Drawing(visit())
    tab.page.wait_for_selector("#draw-stage img")
    assert np.array_equal(tab.picture(), np.asarray(LEAF))
    assert tab.page.get_attribute("#draw-stage img", "alt") == "a green leaf"
    status = tab.page.inner_text("#draw-stage .dr-status")
    assert "An example: \u201ca green leaf\u201d" in status and "0.250" in status
    assert tab.page.locator("#draw-history button").count() == 1
    assert tab.page.is_visible("#draw-seed") and tab.page.is_visible("#draw-cutouts")
    steps = tab.page.locator("#draw-steps input[type=number]")
    for mode, usual in (("Guided only", "40"), ("Prior only", "20")):  # where nobody set another
        tab.page.click(f"#draw-mode label:has-text('{mode}')")
        expect(steps).to_have_value(usual)
    tab.page.click("#draw-mode label:has-text('Both')")
    tab.steps(3)
    tab.page.fill("#draw-prompt textarea", "a red leaf")
    tab.page.click("#draw-more")
    tab.wait("done", 3)
    assert not np.array_equal(tab.picture(), np.asarray(LEAF))
    assert tab.page.locator("#draw-history button").count() == 2
    # Of two quick clicks in the history both count, the last one for good.
    tab.page.evaluate(
        "window.seen.length = 0; const all = document.querySelectorAll('#draw-history button');"
        " all[1].click(); setTimeout(() => all[0].click(), 50)"
    )
    tab.page.wait_for_function(
        "seen.some(([phase]) => phase === 'example') && seen.at(-1)[0] === 'done'"
    )


@pytest.mark.parametrize(("width", "height"), [(390, 844), (1366, 560)])
def test_a_drawn_picture_opened_in_reconstruct_is_in_sight(visit, width, height):
    tab = Drawing(visit(width=width, height=height))
    tab.page.wait_for_selector("#draw-open:not([disabled])")
    widths = "['#draw-open', '.dr-picture'].map((q) => document.querySelector(q).offsetWidth)"
    assert len(set(tab.page.evaluate(widths))) == 1, "the button is as wide as the picture"
    tab.page.locator("#draw-open").scroll_into_view_if_needed()
    assert tab.page.evaluate("scrollY") > 100
    tab.visit.after(lambda: tab.page.click("#draw-open"), "open a drawn picture in Reconstruct")
    tab.page.wait_for_timeout(500)
    place = "document.querySelector('#slider').getBoundingClientRect()"
    top, bottom = tab.page.evaluate(f"[{place}.top, {place}.bottom]")
    assert 0 <= top < bottom <= height


def test_an_example_is_drawn_live_and_the_same_seed_draws_it_again(visit, tmp_path):
    tab = Drawing(visit())
    tab.steps(8)
    tab.page.click("#draw-examples button[data-prompt='红苹果']")
    tab.wait("done")
    seen = tab.page.evaluate("window.seen")
    assert {phase for phase, _, _ in seen} >= {"steps", "done"}
    assert "Done" in tab.page.text_content("p.hidden-name[role=status]")
    assert len({source for _, _, source in seen}) >= 4, "previews differ"
    assert tab.page.input_value("#draw-prompt textarea") == "红苹果"
    assert tab.page.get_attribute("#draw-stage [data-chart=score]", "data-points") == "8"
    tab.page.wait_for_selector("#draw-found button")
    assert tab.page.locator("#draw-found button").count() == 12  # candidates
    first = tab.picture()
    tab.save(tmp_path / "apple.png")
    request, _ = record.read(tmp_path / "apple.png")
    assert (request.prompt, request.mode, request.guidance.steps) == ("红苹果", "both", 8)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "apple.png")), first)
    codes = json.loads(Image.open(tmp_path / "apple.png").text["codes"])[0]
    tab.visit.after(lambda: tab.page.click("#draw-open"), "open a drawn picture in Reconstruct")
    assert np.abs(tab.visit.images()[1].astype(int) - first).max() <= 2
    assert tab.visit.code_at(3, 4) == codes[3][4]

    again = Drawing(visit())  # another visitor drops the PNG in
    again.page.locator("#draw-load > button").click()
    again.page.locator("#draw-restore input[type=file]").set_input_files(tmp_path / "apple.png")
    again.page.wait_for_function("document.querySelector('#draw-prompt textarea').value")
    assert again.page.input_value("#draw-prompt textarea") == "红苹果"
    assert again.page.input_value("#draw-steps input[type=number]") == "8"
    again.page.press("#draw-prompt textarea", "Enter")
    again.wait("done")
    assert np.abs(again.picture().astype(int) - first).max() <= 2


def test_stop_keeps_the_picture_and_continue_goes_on_from_it(visit):
    tab = Drawing(visit())
    tab.steps(300)
    tab.set("cutouts", 64)  # slow steps: Stop must find a run to stop, on one core too
    tab.page.click("#draw-mode label:has-text('Guided only')")
    tab.page.fill("#draw-prompt textarea", "a cat | text:-1")
    expect(tab.page.locator("#draw-steps input[type=number]")).to_have_value("300")
    tab.page.click("#draw-go")
    tab.stop(3)
    stopped, picture = tab.step, tab.picture()
    assert 3 <= stopped < 300
    assert f"Stopped after {stopped} of 300" in tab.page.inner_text("#draw-stage .dr-status")
    tab.page.click("#draw-more")
    tab.stop(stopped + 3)
    first = next(s for s in tab.page.evaluate("window.seen") if s[0] == "steps" and s[1] > stopped)
    assert first[1] > stopped, "it goes on, and does not start again"
    assert not np.array_equal(tab.picture(), picture)
    tab.page.wait_for_function("document.querySelectorAll('#draw-history button').length === 3")
    tab.page.click("#draw-history button >> nth=1")  # the older one, shown again
    tab.page.wait_for_function(
        "step => document.querySelector('#draw-stage .dr').dataset.step === String(step)",
        arg=stopped,
    )
    assert np.array_equal(tab.picture(), picture)


def test_continue_goes_by_what_is_set_and_names_what_cannot_change(visit, tmp_path):
    tab = Drawing(visit())
    tab.steps(4)
    tab.page.fill("#draw-prompt textarea", "a cat")
    tab.page.click("#draw-mode label:has-text('Guided only')")
    tab.page.click("#draw-go")
    tab.wait("done", 4)
    tab.set("cutouts", 3)
    tab.set("seed", 7)
    tab.steps(6)
    tab.page.click("#draw-more")
    said = tab.visit.toast()
    assert "goes on with what it began with, whatever is set now: “Seed”" in said
    tab.wait("done", 6)
    tab.page.wait_for_function("document.querySelectorAll('#draw-history button').length === 3")
    tab.save(tmp_path / "cat.png")
    request, made = record.read(tmp_path / "cat.png")
    guidance = request.guidance
    assert (guidance.steps, guidance.cutouts, guidance.seed) == (6, 3, 0)
    assert made["earlier"] == [{"until": 4, "steps": 4, "cutouts": 16}]
    tab.page.locator("#draw-load > button").click()
    tab.page.locator("#draw-restore input[type=file]").set_input_files(tmp_path / "cat.png")
    assert "makes another picture" in tab.visit.toast()


def test_draw_can_be_pressed_as_soon_as_a_picture_is_there(visit):
    """Its figures and files are then still on their way; Gradio would drop the new run."""
    tab = Drawing(visit())
    tab.steps(20)  # a GIF of 20 frames takes a moment
    tab.page.click("#draw-mode label:has-text('Guided only')")
    tab.page.fill("#draw-prompt textarea", "a red leaf")
    tab.page.evaluate(
        """() => new Promise((done) => {
            const button = document.querySelector('#draw-go');
            button.click();
            let ran = false;
            const look = () => {
                if (button.disabled) ran = true;
                if (!ran || button.disabled) return requestAnimationFrame(look);
                button.click();
                done();
            };
            look();
        })"""
    )
    tab.page.wait_for_function("document.querySelectorAll('#draw-history button').length === 3")
    tab.page.wait_for_selector("#draw-go:not([disabled])")


def test_a_run_that_fails_leaves_the_picture_that_was_there(visit):
    tab = Drawing(visit())
    tab.page.wait_for_selector("#draw-stage img")
    tab.page.fill("#draw-prompt textarea", "leaf | leaf:-1")  # found out only by CLIP
    tab.page.click("#draw-go")
    assert "cancel each other" in tab.visit.toast()
    tab.page.wait_for_selector("#draw-go:not([disabled])")
    tab.wait("example")
    assert np.array_equal(tab.picture(), np.asarray(LEAF))


def test_another_visitor_is_answered_while_a_picture_is_being_drawn(visit):
    tab, other = Drawing(visit()), visit()
    before = other.page.locator("#slider img").nth(1).get_attribute("src")
    tab.steps(300)
    tab.set("cutouts", 64)
    tab.page.click("#draw-mode label:has-text('Guided only')")
    tab.page.fill("#draw-prompt textarea", "a cat")
    tab.page.click("#draw-go")
    tab.wait("steps", 2)
    began = tab.step
    other.after(lambda: other.page.click("#examples button >> nth=3"), "an example beside a run")
    other.after(lambda: other.page.click("#code-grid [data-act=shuffle]"), "shuffle beside a run")
    assert other.page.locator("#slider img").nth(1).get_attribute("src") != before
    assert tab.page.get_attribute("#draw-stage .dr", "data-phase") == "steps"
    assert tab.step < 300
    tab.wait("steps", tab.step + 1)  # and the run goes on
    assert tab.step > began
    tab.stop(3)


class LongRun:
    """A run of a visitor that lasts until it is stopped."""

    def __init__(self, tab: Drawing):
        tab.steps(300)
        tab.set("cutouts", 64)
        tab.page.click("#draw-mode label:has-text('Guided only')")
        tab.page.fill("#draw-prompt textarea", "a cat")
        tab.page.click("#draw-go")
        tab.wait("steps", 1)


def test_the_newest_wish_wins_and_stop_stops_it(visit):
    tab = Drawing(visit())
    LongRun(tab)
    tab.page.click("#draw-examples button >> nth=1")
    tab.page.wait_for_function("document.querySelectorAll('#draw-history button').length === 2")
    tab.wait("steps", 1)  # the new run, and the buttons are its own
    assert tab.page.is_enabled("#draw-stop") and not tab.page.is_enabled("#draw-go")
    tab.page.click("#draw-history button >> nth=1")  # the example, meanwhile
    tab.page.wait_for_timeout(1000)
    assert tab.page.is_enabled("#draw-stop") and not tab.page.is_enabled("#draw-go")
    prompts = tab.page.eval_on_selector_all("#draw-history button", "all => all.map(b => b.title)")
    assert prompts == ["a cat", "a green leaf"]
    tab.stop(2)
    tab.page.wait_for_selector("#draw-go:not([disabled])")
    tab.page.wait_for_function("document.querySelectorAll('#draw-history button').length === 3")
    assert not tab.page.is_enabled("#draw-stop")


def test_who_waits_for_another_visitors_run_is_told_and_can_stop(visit):
    other = Drawing(visit())
    LongRun(other)
    tab = Drawing(visit())
    tab.page.wait_for_selector("#draw-stage img")
    tab.page.fill("#draw-prompt textarea", "a red leaf")
    tab.page.click("#draw-go")
    tab.visit.says("#draw-stage", "Waiting for its turn")
    tab.page.click("#draw-examples button >> nth=1")  # one more wish: that counts
    tab.page.wait_for_timeout(1000)
    assert tab.page.is_enabled("#draw-stop") and not tab.page.is_enabled("#draw-go")
    tab.page.click("#draw-stop")
    tab.visit.says("#draw-stage", "Stopped before anything was drawn")
    assert np.array_equal(tab.picture(), np.asarray(LEAF))
    tab.page.wait_for_selector("#draw-go:not([disabled])")
    assert not tab.page.is_enabled("#draw-stop")

    page, status = tab.page, "#sample-gallery .sg-status"
    page.get_by_role("tab", name="Sample").click()
    page.fill("#sample-count input[type=number]", "2")
    page.press("#sample-count input[type=number]", "Enter")
    for wait in range(2):
        page.click("#sample-write")
        tab.visit.says(status, "Waiting for its turn")
        assert page.is_enabled("#sample-stop") and not page.is_enabled("#sample-write")
        if not wait:
            page.click("#sample-stop")
            tab.visit.says(status, "Stopped before the first code")
            page.wait_for_selector("#sample-write:not([disabled])")
            assert not page.is_enabled("#sample-stop")
    other.stop(1)
    tab.visit.says(status, "codes a second")
    page.wait_for_selector("#sample-write:not([disabled])")
    page.get_by_role("tab", name="Text to image").click()
    assert page.locator("#draw-history button").count() == 1, "what was stopped in line stayed so"


def test_on_a_phone_the_picture_comes_into_sight_beside_stop(visit):
    tab = Drawing(visit(width=390, height=700, has_touch=True))
    tab.steps(300)
    tab.set("cutouts", 64)
    tab.page.evaluate("scrollTo(0, 0)")
    tab.page.click("#draw-examples button >> nth=0")
    tab.page.wait_for_function(
        "document.querySelector('#draw-stage .dr-picture').getBoundingClientRect().top"
        " < innerHeight / 2"
    )
    assert tab.page.evaluate(
        "document.querySelector('#draw-stop').getBoundingClientRect().top >= 0"
    )
    tab.page.click("#draw-stop")
    tab.page.wait_for_selector("#draw-go:not([disabled])")


def test_a_bad_prompt_is_a_sentence_in_the_visitors_language(visit):
    tab = Drawing(visit())
    tab.page.fill("#draw-prompt textarea", "text:-1")
    tab.page.click("#draw-go")
    assert "0 or negative" in tab.visit.toast()
    tab.page.wait_for_selector("#draw-go:not([disabled])")
    chinese = visit(width=390, height=844, locale="zh-CN")
    chinese.page.get_by_role("tab", name="文生图").click()
    chinese.page.click("#draw-go")
    assert "提示词为空" in chinese.toast()
    assert chinese.page.evaluate("document.documentElement.scrollWidth") == 390
