"""How the app looks: a quiet paper-and-ink theme, light and dark, from fonts every system has."""

from __future__ import annotations

import json
from pathlib import Path

import gradio as gr

from ui.text import both, words

# Labels of tabs, which page.js translates where Gradio does not.
TABS = (
    *("rec.tab", "codes.tab", "sample.tab", "draw.tab"),
    *("sample.nothing", "sketch.tab", "sample.picture"),
)

STATIC = Path(__file__).parent / "static"

# System fonts only: the app must look the same without a network.
SANS = (
    "system-ui",
    "-apple-system",
    "Segoe UI",
    "Roboto",
    "Helvetica Neue",
    "PingFang SC",
    "Hiragino Sans GB",
    "Microsoft YaHei",
    "Noto Sans CJK SC",
    "sans-serif",
)
MONO = ("ui-monospace", "SF Mono", "Menlo", "Consolas", "Liberation Mono", "monospace")

PAPER = gr.themes.Color(
    name="paper",
    c50="#fbfaf8",
    c100="#f4f2ee",
    c200="#e7e4dd",
    c300="#d3cfc5",
    c400="#a6a196",
    c500="#716d63",
    c600="#5b574f",
    c700="#413e38",
    c800="#2a2825",
    c900="#1d1c1a",
    c950="#141312",
)
ACCENT = gr.themes.Color(
    name="vermilion",
    c50="#fdf3ef",
    c100="#fbe3da",
    c200="#f6c5b3",
    c300="#efa085",
    c400="#e67c59",
    c500="#d85f38",
    c600="#bf4a26",
    c700="#9c3b1f",
    c800="#7d321d",
    c900="#672c1c",
    c950="#37140b",
)


def theme() -> gr.themes.Base:
    """The theme for `launch(theme=...)`."""
    return gr.themes.Base(
        primary_hue=ACCENT,
        secondary_hue=PAPER,
        neutral_hue=PAPER,
        radius_size=gr.themes.sizes.radius_md,
        font=SANS,
        font_mono=MONO,
    ).set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        body_text_color="*neutral_900",
        body_text_color_dark="*neutral_100",
        body_text_color_subdued="*neutral_500",
        body_text_color_subdued_dark="*neutral_400",
        background_fill_primary="white",
        background_fill_primary_dark="*neutral_900",
        block_background_fill="white",
        block_background_fill_dark="*neutral_900",
        block_border_color="*neutral_200",
        block_border_color_dark="*neutral_800",
        block_label_background_fill="white",
        block_label_background_fill_dark="*neutral_900",
        block_label_text_color="*neutral_600",
        block_label_text_color_dark="*neutral_300",
        block_shadow="none",
        block_title_text_weight="500",
        block_title_text_color="*neutral_700",
        block_title_text_color_dark="*neutral_200",
        border_color_primary="*neutral_200",
        border_color_primary_dark="*neutral_800",
        button_secondary_background_fill="*neutral_100",
        button_secondary_background_fill_dark="*neutral_800",
        button_secondary_background_fill_hover="*neutral_200",
        button_secondary_background_fill_hover_dark="*neutral_700",
        input_background_fill="*neutral_50",
        input_background_fill_dark="*neutral_950",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        slider_color="*primary_500",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_hover_dark="*primary_700",
    )


def css() -> str:
    sheets = ("studio.css", "codebook.css", "sample.css", "text_to_image.css")
    return "\n".join((STATIC / name).read_text("utf-8") for name in sheets)


def head() -> str:
    """Script tags: the page's language and light/dark switches; what slider and queue lack."""
    pairs = [words(key) for key in TABS]
    labels = json.dumps({label: pair for pair in pairs for label in pair}, ensure_ascii=False)
    script = (STATIC / "page.js").read_text("utf-8").replace("/* labels */ {}", labels)
    slider = (STATIC / "slider.js").read_text("utf-8")
    lost = json.dumps(f'<div class="lost">{both("error.line")}</div>', ensure_ascii=False)
    replies = (STATIC / "replies.js").read_text("utf-8").replace("/* lost */ ''", lost)
    return "".join(f"<script>{code}</script>" for code in (script, slider, replies))
