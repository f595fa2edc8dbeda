"""Colours: small text must be readable (WCAG AA, 4.5 : 1), in both themes."""

from __future__ import annotations

import re

import pytest

from ui.theme import ACCENT, PAPER, css, theme


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb, as WCAG has it."""
    values = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values)
    return sum(weight * v for weight, v in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(a: str, b: str) -> float:
    dark, light = sorted(map(luminance, (a, b)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize(
    ("text", "background"),
    [
        (PAPER.c500, PAPER.c100),  # notes on a button
        (PAPER.c400, PAPER.c800),
        (ACCENT.c600, PAPER.c50),  # the tab in front
        (ACCENT.c500, PAPER.c950),
        ("#ffffff", ACCENT.c600),  # chosen tools, the button to press
    ],
)
def test_small_text_can_be_read(text, background):
    assert contrast(text, background) >= 4.5


@pytest.mark.parametrize("suffix", ["", "_dark"])
@pytest.mark.parametrize("grey", ["body_text_color_subdued", "input_placeholder_color"])
@pytest.mark.parametrize(
    "below", ["body_background_fill", "block_background_fill", "input_background_fill"]
)
def test_grey_text_has_contrast(suffix, grey, below):
    look = theme()

    def shade(name: str) -> str:
        value = getattr(look, name + suffix)
        value = getattr(look, value[1:]) if value.startswith("*") else value
        return {"white": "#ffffff"}.get(value, value)

    assert contrast(shade(grey), shade(below)) >= 4.5


def test_no_rule_hides_for_ever_what_was_empty_once():
    """WebKit goes on to believe :has(:empty) when something has come: whole panels stayed away."""
    assert not re.search(r":has\([^{]*:empty", css())
