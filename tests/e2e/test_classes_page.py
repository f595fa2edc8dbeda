"""A prior that is told a class, in a browser: one by the seed for each picture, or one for all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import checkpoints
from prior.classes import choose
from prior.sheet import FILE as SAMPLES
from tests.e2e.test_ideas_page import captions, press_write, written


@pytest.fixture(scope="module")
def labelled(told_bundle) -> checkpoints.Bundle:
    """The same models with a prior of 30 classes, and no samples to begin with."""
    bundle = told_bundle("labelled", condition="class", classes=30)
    (bundle.path / SAMPLES).unlink()
    return bundle


@pytest.fixture(scope="module")
def address(labelled, serve_here) -> Iterator[str]:
    with serve_here(labelled.path) as found:
        yield found


def test_the_seed_picks_classes_until_one_is_named(labelled, visit):
    page = visit().page
    page.get_by_role("tab", name="Sample").click()
    field = page.locator("#sample-class textarea, #sample-class input")
    assert field.input_value() == "" and field.get_attribute("placeholder") == "0 – 29"
    for asked, label in (("", None), ("7", 7)):
        field.fill(asked)
        press_write(page, 3)
        told = choose(labelled.prior, 3, 0, label)
        assert captions(page) == [f"class {n}" for n in told.tolist()]
        assert written(page, labelled, 3, told, pull=1)
    field.fill("30")
    page.click("#sample-write")
    page.wait_for_selector("text=Class must be a whole number from 0 to 29, or empty.")
    assert captions(page) == ["class 7"] * 3  # nobody's work is lost
