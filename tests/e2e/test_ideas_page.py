"""Ideas in the Sample tab in a browser: under each picture what it is meant to show."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

import checkpoints
from prior.draw import main as draw
from prior.ideas import PULL, Idea, Ideas, clip_id
from prior.sample import finish, sample
from prior.sheet import FILE as SAMPLES
from prior.sheet import Record
from ui.sample import PRESETS, START

KNOWN = [Idea("red apple", "红苹果"), Idea("boat", "船"), Idea("cat", "猫"), Idea("dog", "狗")]
TILES = "#sample-gallery [data-index]"
# The captions that the page shows, each time that the gallery changes.
WATCH = """() => {
    const root = document.querySelector('#sample-gallery [data-version]');
    window.seen = [];
    new MutationObserver(() => window.seen.push([root.dataset.state,
        [...document.querySelectorAll('#sample-gallery b')].map((b) => b.innerText)]))
        .observe(root, { attributes: true, attributeFilter: ['data-version'] });
}"""


@pytest.fixture(scope="module")
def thinking(told_bundle) -> checkpoints.Bundle:
    """The same models with a prior that is told things, and things to tell it."""
    bundle = told_bundle("thinking", condition="embedding", embedding_size=4)
    path = bundle.path
    Ideas(tuple(KNOWN), np.eye(4), clip_id(bundle.card)).save(path)
    draw(["--bundle", str(path), "--out", str(path / SAMPLES), "-n", "4", "--ideas"])
    return bundle


@pytest.fixture(scope="module")
def address(thinking, serve_here) -> Iterator[str]:
    with serve_here(thinking.path) as found:
        yield found


@pytest.fixture
def page(visit):
    page = visit().page
    page.get_by_role("tab", name="Sample").click()
    page.wait_for_selector("#sample-about .sp")
    return page


def titles(first: int, count: int, bundle: checkpoints.Bundle) -> list[Idea]:
    return [KNOWN[i] for i in Ideas.load(bundle.path).think(count, first)]


def captions(page) -> list[str]:
    return [text for text in page.locator(f"{TILES} b").all_inner_texts() if text]


def written(page, bundle, count: int, condition: torch.Tensor | None, pull=PULL) -> bool:
    """Whether the codes told about are those that the prior writes, told this."""
    texts = page.locator("#sample-about svg.codes text").all_text_contents()
    how = dict(zip(("temperature", "top_k", "top_p"), PRESETS[START], strict=True))
    if condition is not None:
        how |= {"condition": condition, "cfg_scale": pull}
    wanted = finish(sample(bundle.prior, count, seed=0, **how)).grid[0]
    return list(map(int, texts)) == wanted.flatten().tolist()


def press_write(page, count: int) -> None:
    field = page.locator("#sample-count input[type=number]")
    field.fill(str(count))
    field.press("Enter")
    batch = page.get_attribute("#sample-gallery [data-version]", "data-batch")
    page.click("#sample-write")
    page.wait_for_function(
        """old => {
            const now = document.querySelector('#sample-gallery [data-version]').dataset.batch;
            const told = document.querySelector('#sample-about .sp')?.dataset.batch;
            return now && now !== old && told === now;
        }""",
        arg=batch,
    )


def test_pictures_stand_above_what_they_show(page, thinking, tmp_path):
    assert captions(page) == [idea.text for idea in titles(0, 4, thinking)]  # the shipped ones
    page.evaluate(WATCH)
    press_write(page, 6)
    ideas = titles(0, 6, thinking)
    assert len(set(ideas)) > 2 and captions(page) == [idea.text for idea in ideas]
    live = [shown for state, shown in page.evaluate("window.seen") if state == "live"]
    assert live and all(shown == captions(page) for shown in live)  # known before the picture is
    told = torch.from_numpy(np.eye(4, dtype=np.float32)[[KNOWN.index(i) for i in ideas]])
    assert written(page, thinking, 6, told) and not written(page, thinking, 6, None)
    assert ideas[0].text in page.inner_text("#sample-about h3")
    assert "given the idea" in page.inner_text("#sample-about [data-tile=bits]")
    with page.expect_download() as download:
        page.click("#sample-png")
    download.value.save_as(tmp_path / "one.png")
    kept = Record.read(tmp_path / "one.png").settings
    assert kept["ideas"] == [ideas[0].text] and kept["cfg_scale"] == PULL


def test_without_an_idea_there_is_nothing_but_codes(page, thinking):
    page.click("#sample-ideas input")
    press_write(page, 2)
    assert captions(page) == [] and written(page, thinking, 2, None)


def test_a_chinese_page_says_it_in_chinese(visit, thinking):
    page = visit(locale="zh-CN").page
    page.get_by_role("tab", name="采样").click()
    page.wait_for_selector("#sample-about .sp")
    assert captions(page) == [idea.zh for idea in titles(0, 4, thinking)]
