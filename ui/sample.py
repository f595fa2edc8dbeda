"""The Sample tab: the prior writes grids of codes, and one can watch it, row by row."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from ui import complete, gallery, masking, sketching, steps, writing
from ui.common import LATEX, TabHandles
from ui.sample_board import Board
from ui.sample_runs import Completing, Sampler, Settings, connect, connect_board
from ui.sketching import Sketching
from ui.studio import Studio
from ui.text import add, both, explanation, t, together

STATIC = Path(__file__).parent / "static"
COUNT = 16
# temperature, top-k, top-p
PRESETS = {"safe": (0.9, 100, 0.9), "balanced": (1.0, 0, 0.95), "wild": (1.1, 0, 1.0)}
START = "balanced"

add(
    {
        "sample.tab": ("Sample", "采样"),
        "sample.lead": (
            "A GPT-2 that learned from pictures as grids of codes writes new ones: one code after "
            "the other, row by row, each drawn given all those before it.",
            "一个从码网格学习图片的 GPT-2 写出新的图片：一个码接一个码，逐行书写，"
            "每个码都根据前面所有的码抽取。",
        ),
        "sample.lead.counted": (
            "A GPT-2 that learned from {count} pictures as grids of codes writes new ones: one "
            "code after the other, row by row, each drawn given all those before it.",
            "一个从 {count} 张图片的码网格学习的 GPT-2 写出新的图片：一个码接一个码，逐行书写，"
            "每个码都根据前面所有的码抽取。",
        ),
        "sample.lead.sketch": (
            "Give it a sketch, and it fills in your lines.",
            "给它一张草图，它会把线条填成图片。",
        ),
        "sample.none": (
            "This model bundle ({name}) holds no prior, so there is nothing here that could write "
            "new pictures. With a folder DIR of pictures, these commands give it one:",
            "该模型包（{name}）不含先验模型，因此这里无法写出新图片。"
            "准备一个图片文件夹 DIR，用这些命令就能给它训练一个：",
        ),
        "sample.preset": ("How daring", "大胆程度"),
        "sample.safe": ("Safe", "稳妥"),
        "sample.balanced": ("Balanced", "均衡"),
        "sample.wild": ("Wild", "狂野"),
        "sample.count": ("How many", "数量"),
        "sample.write": ("Write", "书写"),
        "sample.stop": ("Stop", "停止"),
        "sample.nothing": ("From nothing", "从零开始"),
        "sample.picture": ("Picture", "图片"),
        "sample.fine": ("Fine settings", "细节设置"),
        "sample.temperature": ("Temperature", "温度"),
        "sample.temperature.info": (
            "Logits are divided by it: lower is surer.",
            "logits 除以它：越低越保守。",
        ),
        "sample.top_k": ("Top-k", "Top-k"),
        "sample.top_k.info": (
            "Only the k likeliest codes; 0: all.",
            "只取最可能的 k 个码；0：全部。",
        ),
        "sample.top_p": ("Top-p", "Top-p"),
        "sample.top_p.info": (
            "Only the likeliest codes that together reach this share.",
            "只取合计达到该概率的最可能的码。",
        ),
        "sample.seed": ("Seed", "种子"),
        "sample.seed.info": (
            "The first picture's; each further one uses the next number.",
            "第一张图的种子；其后每张用下一个数。",
        ),
        "sample.size": ("Rows × columns of codes", "码的行数 × 列数"),
        "sample.size.info": (
            "Only for “From nothing”. Beyond the size it was trained on, the prior looks through a "
            "sliding window.",
            "只用于“从零开始”。超出训练尺寸时，先验模型通过滑动窗口书写。",
        ),
        "sample.open": ("Open in Reconstruct", "在“重建”页打开"),
        "sample.download": ("Picture with codes and settings (PNG)", "含码和设置的图片（PNG）"),
    }
)


def _without_prior(studio: Studio) -> str:
    word = studio.bundle.word
    commands = (
        f"python -m prior.tokens --bundle {word} --data DIR --out tokens.npy\n"
        f"python -m prior.train --bundle {word} --tokens tokens.npy --out prior-run\n"
        f"python -m prior.export prior-run {word}"
    )
    sentence = both("sample.none", name=studio.bundle.name)
    return (
        f'<div class="cb-none" id="no-prior"><p>{sentence}</p>'
        f"<pre><code>{escape(commands)}</code></pre></div>"
    )


def build(studio: Studio, reading: TabHandles, tabs: gr.Tabs) -> TabHandles:
    """The tab; `reading` is the Reconstruct tab, where a written picture can be opened."""
    with gr.Tab(t("sample.tab"), id="sample") as tab:
        if studio.bundle.prior is None:
            gr.HTML(_without_prior(studio), apply_default_css=False)
            return TabHandles(tab)
        sampler = Sampler.of(studio)
        gr.HTML(f'<p class="cb-lead">{_lead(studio)}</p>', apply_default_css=False)
        batch, picked = gr.State(None), gr.State(0)
        with gr.Row(elem_classes="desk sample-desk"):
            with gr.Column(min_width=260, elem_classes="tray"):
                go, thinking, completing, sketch = _sources(sampler)
                halt = gr.Button(
                    t("sample.stop"), interactive=False, size="sm", elem_id="sample-stop"
                )
                settings = _settings(studio)
            with gr.Column(min_width=300, elem_classes="board"):
                size = writing.sizes(studio.bundle.prior)[settings.size.value]
                pictures = gallery.build("sample-gallery", gallery.empty(COUNT, size))
        about = gr.HTML(
            "",
            apply_default_css=False,
            js_on_load=(STATIC / "sample_panel.js").read_text("utf-8"),
            elem_id="sample-about",
        )
        with gr.Row(elem_classes="sample-actions"):
            send = gr.Button(t("sample.open"), size="sm", interactive=False, elem_id="sample-open")
            save = gr.DownloadButton(
                t("sample.download"), size="sm", interactive=False, elem_id="sample-png"
            )
        steps.build(studio, settings, reading.selected_code)
        with gr.Accordion(t("app.how"), open=False, elem_id="how-sample") as how:
            gr.Markdown(explanation("sample"), latex_delimiters=LATEX)
            masking.build(studio, how, reading.session, reading.shown)
        board = Board(batch, picked, pictures, about, save, send, go, halt)
        connect(sampler, board, settings, thinking, completing, sketch, reading)
        connect_board(sampler, board, tab, reading, tabs)
    return TabHandles(tab)


def _lead(studio: Studio) -> str:
    """What the tab is, in a sentence, with the number of pictures if the card tells it."""
    count = studio.bundle.card.get("prior", {}).get("training", {}).get("pictures")
    lead = both("sample.lead")
    if isinstance(count, int):
        lead = both("sample.lead.counted", count=f"{count:,}")
    return lead if studio.bundle.sketch is None else together(lead, both("sample.lead.sketch"))


def _sources(sampler: Sampler) -> tuple[gr.Button, gr.Checkbox, Completing, Sketching | None]:
    """The thing to do first: write from nothing, along a sketch, or complete a picture."""
    studio, sketch = sampler.studio, None
    known = sampler.ideas.ideas is not None
    with gr.Tabs(elem_classes="sample-modes"):
        with gr.Tab(t("sample.nothing"), id="nothing"):
            go = gr.Button(t("sample.write"), variant="primary", elem_id="sample-write")
            thinking = gr.Checkbox(
                known,
                label=t("ideas.first"),
                info=t("ideas.info"),
                visible=known,
                elem_id="sample-ideas",
            )
        if studio.bundle.sketch is not None:
            with gr.Tab(t("sketch.tab"), id="sketch"):
                sketch = sketching.build(studio)
        with gr.Tab(t("sample.picture"), id="picture") as tab:
            source = gr.State(None)
            mask = complete.build()
            with gr.Row():
                own = gr.UploadButton(
                    t("complete.own"), file_types=["image"], size="sm", elem_id="complete-own"
                )
                session = gr.Button(t("complete.session"), size="sm", elem_id="complete-session")
    return go, thinking, Completing(tab, source, mask, own, session), sketch


def _settings(studio: Studio) -> Settings:
    """How many, and how they are drawn."""
    temperature, top_k, top_p = PRESETS[START]
    preset = gr.Radio(
        [(t(f"sample.{name}"), name) for name in PRESETS],
        value=START,
        label=t("sample.preset"),
        elem_id="sample-preset",
    )
    label, known = None, studio.bundle.prior.config.classes
    if known:
        label = gr.Textbox(  # an empty gr.Number would say 0
            max_lines=1,
            placeholder=f"0 – {known - 1}",
            label=t("class.label"),
            info=t("class.info"),
            elem_id="sample-class",
        )
    count = gr.Slider(
        1, writing.MOST, COUNT, step=1, label=t("sample.count"), elem_id="sample-count"
    )
    with gr.Accordion(t("sample.fine"), open=False, elem_id="sample-fine"):
        fine = [
            gr.Slider(*low_high, value, step=step, elem_id=f"sample-{name}", **_named(name))
            for name, low_high, value, step in (
                ("temperature", (0, 2), temperature, 0.05),
                ("top_k", (0, studio.codebook_size), top_k, 1),
                ("top_p", (0.05, 1), top_p, 0.01),
            )
        ]
        seed = gr.Number(0, precision=0, elem_id="sample-seed", **_named("seed"))
        offered = list(writing.sizes(studio.bundle.prior))
        size = gr.Radio(offered, value=offered[0], elem_id="sample-size", **_named("size"))
    common = {"show_progress": "hidden", "api_visibility": "private", "queue": False}
    preset.input(lambda name: _preset(studio, name), preset, fine, **common)
    for slider in fine:
        slider.input(lambda: None, None, preset, **common)
    return Settings(count, *fine, seed, size, label)


def _preset(studio: Studio, name: str) -> tuple[float, int, float]:
    """Temperature, top-k and top-p of a preset: no more codes than there are."""
    temperature, top_k, top_p = PRESETS[name]
    return temperature, min(top_k, studio.codebook_size), top_p


def _named(name: str) -> dict[str, Any]:
    return {"label": t(f"sample.{name}"), "info": t(f"sample.{name}.info")}
