"""Small grey text can be read on all that it stands on."""

from __future__ import annotations

import pytest

from ui.theme import theme


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb, as WCAG has it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("suffix", ["", "_dark"])
@pytest.mark.parametrize("grey", ["body_text_color_subdued", "input_placeholder_color"])
@pytest.mark.parametrize(
    "below", ["body_background_fill", "block_background_fill", "input_background_fill"]
)
def test_grey_text_has_contrast(suffix, grey, below):
    look = theme()

    def shade(name: str) -> float:
        value = getattr(look, name + suffix)
        value = getattr(look, value[1:]) if value.startswith("*") else value
        return luminance({"white": "#ffffff"}.get(value, value))

    dark, light = sorted((shade(grey), shade(below)))
    assert (light + 0.05) / (dark + 0.05) >= 4.5
