"""Every sentence of the pages, in English and Chinese.

Two ways to show one: `t(key)` for what Gradio translates itself (labels, buttons, Markdown), and
`both(key)` for our own HTML, which carries both languages and lets the stylesheet hide one.
Tabs add their sentences with `add`; long explanations lie in `how_it_works/NAME.LANG.md`.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

import gradio as gr
from gradio.i18n import I18nData

LANGUAGES = ("en", "zh")
EXPLANATIONS = Path(__file__).parent / "how_it_works"

_TEXT: dict[str, tuple[str, str]] = {}


def add(entries: dict[str, tuple[str, str]]) -> None:
    """Add sentences {key: (English, Chinese)}; called while a tab's module is imported."""
    for key, pair in entries.items():
        if key in _TEXT and _TEXT[key] != pair:
            raise ValueError(f"the text {key!r} exists already: choose another key")
        if len(pair) != len(LANGUAGES) or not all(pair):
            raise ValueError(f"the text {key!r} needs English and Chinese")
        _TEXT[key] = pair


def t(key: str) -> I18nData:
    """A marker that Gradio replaces by the sentence in the visitor's language."""
    if key not in _TEXT:
        raise KeyError(f"no text {key!r} in ui/")
    return I18nData(key)


def words(key: str) -> tuple[str, str]:
    """The sentence in English and Chinese, as plain text."""
    return _TEXT[key]


def percent(share: float) -> str:
    """0.4312 -> 43.1 %."""
    return f"{100 * share:.1f} %"


def both(key: str, **values: object) -> str:
    """HTML with the sentence in both languages; `values` fill its {places} and are escaped.

    A value that differs by language is a pair (English, Chinese).
    """
    parts = []
    for i, (language, sentence) in enumerate(zip(LANGUAGES, _TEXT[key], strict=True)):
        own = {n: value[i] if isinstance(value, tuple) else value for n, value in values.items()}
        safe = {name: escape(str(value)) for name, value in own.items()}
        parts.append(f'<span lang="{language}">{sentence.format(**safe)}</span>')
    return "".join(parts)


def together(*sentences: str) -> str:
    """Several of `both`, one after the other: a space between English ones, none in Chinese."""
    return '<span lang="en"> </span>'.join(sentences)


def explanation(name: str) -> I18nData:
    """The fold-out `how_it_works/NAME.en.md` and `.zh.md`, as Markdown with LaTeX."""
    key = f"how.{name}"
    add({key: tuple((EXPLANATIONS / f"{name}.{lang}.md").read_text("utf-8") for lang in LANGUAGES)})
    return t(key)


def translations() -> gr.I18n:
    """All of it, for `launch(i18n=...)`."""
    return gr.I18n(
        **{lang: {k: pair[i] for k, pair in _TEXT.items()} for i, lang in enumerate(LANGUAGES)}
    )


add(
    {
        "language": ("en", "zh"),
        "app.title": ("VQGAN Studio", "VQGAN 工作室"),
        "app.lead": (
            "A picture becomes a grid of codes, each one of {codes}. Drop one in, see what "
            "survives, and rewrite it code by code.",
            "图片变成一格一格的码，码共有 {codes} 种。"
            "放一张进来，看看什么留了下来，再逐个码地改写它。",
        ),
        "app.model": (
            "Model <b>{name}</b>: 1 code = {f}×{f} pixels",
            "模型 <b>{name}</b>：1 个码 = {f}×{f} 像素",
        ),
        "app.how": ("How it works", "工作原理"),
        "error.line": (
            "The app cannot be reached at the moment, so this was not done. What is on the page "
            "stays: try again once the line is back.",
            "暂时连接不到应用，这一步没有执行。页面上的内容不会丢失：恢复连接后请再试一次。",
        ),
        "error.memory": (
            "There is not enough memory for a picture of this size: choose a smaller working size.",
            "内存不足以处理这么大的图片：请选择较小的工作尺寸。",
        ),
    }
)
