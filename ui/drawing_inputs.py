"""What a visitor can set on the Text-to-image tab, and the request that it makes."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr
from PIL import Image

from clip_guidance.examples import PROMPTS as EXAMPLES
from clip_guidance.guide import (
    NOISE_STEPS,
    OPTIMIZERS,
    PICTURE_STEPS,
    GuidanceConfig,
    methods,
)
from clip_guidance.modes import MODES, DrawConfig, Request
from ui import drawing
from ui.clips import OWN, PUBLISHED, Clips
from ui.common import Sentence, path_of
from ui.studio import Studio
from ui.text import add, both, t, words
from ui.writing import SEEDS
from vqgan.images import fit, open_image

# A click on a button of our own HTML -> an event `pick` with that button's data.
PICK = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (button) trigger('pick', { ...button.dataset });
});
"""

# Noise takes more steps than a picture: the number follows the mode unless it is one's own.
STEPS = f"""(mode, steps) => [{NOISE_STEPS}, {PICTURE_STEPS}].includes(steps)
  ? (mode === 'guided' ? {NOISE_STEPS} : {PICTURE_STEPS}) : steps"""

# The longest side of pictures to start from and to go towards: models look at far less, and each
# stays with what was drawn for as long as the visitor's page is open.
LONGEST = 1024
Opener = Callable[[str | os.PathLike], Image.Image]  # of an uploaded file

# Whole numbers, by their field: as the page calls them, and the least and most that is drawn with.
# The library takes more, but a run holds up everybody's. More steps than the slider has belong to
# pictures that were continued and whose file was dropped in again.
WHOLE = {
    "steps": (("Guided steps", "引导步数"), 1, 1000),
    "cutouts": (("Cutouts", "裁剪数"), 1, 64),
    "seed": (("Seed", "种子"), 0, SEEDS),
    "candidates": (("Candidates", "候选数"), 1, 16),
}
# The least and most of the others, where the library draws a line or nothing sensible lies beyond.
RANGES = {
    "strength": (0, 1),
    "cfg_scale": (0, 100),
    "temperature": (0, 100),
    "top_p": (0.001, 1),
    "lr": (0, 100),
    "ema": (0, 0.999),
    "z_l2": (0, 1000),
    "tv": (0, 1000),
    "surprise": (0, 1000),
}

add(
    {
        "draw.prompt": ("What should it show?", "画什么？"),
        "draw.prompt.info": (
            "Parts between | count together; a number after a colon is a weight, negative: away.",
            "用 | 分隔多个部分；冒号后的数字是权重，负数表示远离。",
        ),
        "draw.prompt.hint": ("a red apple", "红苹果"),
        "draw.examples": ("or try one of these", "或试试这些"),
        "draw.mode": ("How", "方式"),
        "draw.mode.both": ("Both", "两者结合"),
        "draw.mode.prior": ("Prior only", "仅先验"),
        "draw.mode.guided": ("Guided only", "仅引导"),
        "draw.go": ("Draw", "开始画"),
        "draw.stop": ("Stop", "停止"),
        "draw.more": ("Continue", "继续"),
        "draw.start.title": ("Start from a picture", "从图片开始"),
        "draw.picture": ("Start picture", "起始图片"),
        "draw.strength": ("Strength", "强度"),
        "draw.strength.info": (
            "The share that is drawn anew: 0 keeps the picture, 1 forgets it.",
            "重画的比例：0 保留原图，1 完全重画。",
        ),
        "draw.fine": ("Fine settings", "细节设置"),
        "draw.steps.label": WHOLE["steps"][0],
        "draw.cutouts": WHOLE["cutouts"][0],
        "draw.cutouts.info": (
            "Views of the picture that CLIP sees at each step.",
            "每一步 CLIP 看到的裁剪图数量。",
        ),
        "draw.seed": WHOLE["seed"][0],
        "draw.seed.info": ("Same seed, same picture.", "相同种子，相同图片。"),
        "draw.count": WHOLE["candidates"][0],
        "draw.cfg_scale": ("Pull of the prompt", "提示词的牵引"),
        "draw.cfg_scale.info": (
            "Classifier-free guidance of the prior; 1: none.",
            "先验模型的无分类器引导；1：不使用。",
        ),
        "draw.temperature": ("Temperature", "温度"),
        "draw.top_p": ("Top-p", "Top-p"),
        "draw.lr": ("Learning rate", "学习率"),
        "draw.lr.info": (
            "0: chosen by the start; small from a picture, larger from noise.",
            "0：由起点决定；从图片开始时较小，从噪声开始时较大。",
        ),
        "draw.optimizer": ("Optimiser", "优化器"),
        "draw.method": ("What is optimised", "优化对象"),
        "draw.method.latents": ("Latents, straight-through", "潜向量（直通）"),
        "draw.method.logits": ("Logits over codes", "码的 logits"),
        "draw.ema": ("Average over steps (EMA)", "步间平均（EMA）"),
        "draw.z_l2": ("Pull back to the start", "拉回起点"),
        "draw.tv": ("Smoothness (total variation)", "平滑（全变差）"),
        "draw.surprise": ("Pull of the prior", "先验的牵引"),
        "draw.surprise.info": (
            "Keeps the codes likely while CLIP moves them; 0: CLIP alone. Not in Guided only.",
            "CLIP 调整时让码保持高概率；0：只听 CLIP。“仅引导”不使用。",
        ),
        "draw.clip": ("CLIP", "CLIP"),
        "draw.clip.info": (
            "The shipped one works offline. A published one is downloaded at first use; open_clip "
            "knows its name.",
            "自带的可离线使用。公开发布的在首次使用时下载；名称与 open_clip 一致。",
        ),
        "draw.clip.own": ("shipped", "自带"),
        "draw.image_prompt": ("A picture to go towards", "作为目标的图片"),
        **{
            f"draw.bad.{name}": (
                f"“{english}” must be a whole number from {low} to {most}.",
                f"“{chinese}”必须是 {low} 到 {most} 之间的整数。",
            )
            for name, ((english, chinese), low, most) in WHOLE.items()
        },
        "draw.bad.range": (
            "{name} must be a number from {low} to {most}.",
            "{name}必须是 {low} 到 {most} 之间的数字。",
        ),
        **{f"draw.optimizer.{name}": (name, name) for name in OPTIMIZERS},
        **{f"draw.clip.name.{name}": (name, name) for name in PUBLISHED},
    }
)


CHOICES = ("optimizer", "method")
# A setting's name -> the key of what the page calls it, where the two differ.
LABELS = {"steps": "steps.label", "candidates": "count"}


@dataclass(frozen=True)
class Inputs:
    """Everything a visitor can set, named as the fields of the configs they go into."""

    prompt: gr.Textbox
    mode: gr.Radio
    steps: gr.Slider
    cutouts: gr.Slider
    seed: gr.Number
    picture: gr.Image
    strength: gr.Slider
    candidates: gr.Slider
    cfg_scale: gr.Slider
    temperature: gr.Slider
    top_p: gr.Slider
    lr: gr.Slider
    optimizer: gr.Radio
    method: gr.Radio
    ema: gr.Slider
    z_l2: gr.Slider
    tv: gr.Slider
    surprise: gr.Slider
    clip: gr.Dropdown
    image_prompt: gr.Image

    @property
    def all(self) -> list[gr.components.Component]:
        return [getattr(self, f.name) for f in dataclasses.fields(self)]


def opened(path: str | os.PathLike) -> Image.Image:
    """An uploaded picture, as large as it is of use."""
    image = open_image(path, side=LONGEST)
    return fit(image, LONGEST) if max(image.size) > LONGEST else image


def unopened(path: str | os.PathLike) -> Image.Image:
    """A stand-in for it, where only the rest of a wish is looked at: decoding takes memory."""
    return Image.new("RGB", (1, 1))


def asked(values: dict[str, Any], opener: Opener = opened) -> tuple[Request, str]:
    """What came from the browser, checked -> the request and the CLIP's name."""
    request, clip = shown(values, opener)
    return drawing.checked(request), clip


def shown(values: dict[str, Any], opener: Opener = opened) -> tuple[Request, str]:
    """The same with any prompt: what the page shows, by which a picture can go on."""
    drawing_values = {f.name: values[f.name] for f in dataclasses.fields(DrawConfig)}
    guidance = {f.name: values[f.name] for f in dataclasses.fields(GuidanceConfig)}
    for group in (drawing_values, guidance):
        for name, value in group.items():
            group[name] = _read(name, value)
    request = Request(
        str(values["prompt"] or ""),
        values["mode"],
        DrawConfig(**drawing_values),
        GuidanceConfig(**guidance),
        picture=_picture(values["picture"], opener),
        image_prompt=_picture(values["image_prompt"], opener),
    )
    return request, str(values["clip"] or OWN)


def _read(name: str, value: object) -> int | float | str:
    """A setting from a browser; what cannot be one, or is out of range, is a sentence."""
    if name in CHOICES:
        return str(value)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if name in WHOLE:
        return _whole(name, value, number)
    low, most = RANGES[name]
    if not number or not low <= value <= most:  # NaN is nowhere in between
        raise Sentence("draw.bad.range", name=named([name]), low=low, most=most)
    return value


def _whole(name: str, value: Any, number: bool) -> int:
    """7.0 is 7; a gap or NaN is a sentence."""
    _, low, most = WHOLE[name]
    if not number or not low <= value <= most or value != int(value):
        raise Sentence(f"draw.bad.{name}")
    return int(value)


def named(names: list[str]) -> tuple[str, str]:
    """Settings as the page calls them, in English and Chinese."""
    pairs = [words(f"draw.{LABELS.get(name, name)}") for name in names]
    return ", ".join(f"“{en}”" for en, _ in pairs), "、".join(f"“{zh}”" for _, zh in pairs)


def _picture(file: object, opener: Opener) -> Image.Image | None:
    return None if file is None else opener(path_of(file))


def ask() -> tuple[gr.Textbox, gr.HTML, list[gr.Button]]:
    """The thing to do first: words, and a button."""
    prompt = gr.Textbox(
        label=t("draw.prompt"), info=t("draw.prompt.info"), placeholder=t("draw.prompt.hint"),
        lines=1, max_lines=4, elem_id="draw-prompt",  # one line: Enter draws
    )  # fmt: skip
    with gr.Row(elem_classes="draw-go"):
        go = gr.Button(t("draw.go"), variant="primary", min_width=50, elem_id="draw-go")
        halt = gr.Button(t("draw.stop"), interactive=False, min_width=50, elem_id="draw-stop")
        more = gr.Button(t("draw.more"), interactive=False, min_width=50, elem_id="draw-more")
    chips = "".join(
        f'<button type="button" class="chip" data-prompt="{text}">{text}</button>'
        for text in EXAMPLES
    )
    examples = gr.HTML(
        f'<p class="note">{both("draw.examples")}</p><div class="dr-chips">{chips}</div>',
        apply_default_css=False,
        js_on_load=PICK,
        elem_id="draw-examples",
    )
    return prompt, examples, [go, halt, more]


def settings(
    studio: Studio, clips: Clips, modes: tuple[str, ...] = MODES
) -> dict[str, gr.components.Component]:
    """All other inputs by name; the rarer ones folded away."""
    values = {
        f.name: f.default for c in (GuidanceConfig, DrawConfig) for f in dataclasses.fields(c)
    }
    values["steps"] = GuidanceConfig().begun(modes[0] == "guided").steps
    values["method"], *_ = able = methods(studio.vqgan)
    made: dict[str, gr.components.Component] = {}

    def slider(name: str, low: float, high: float, step: float, info: bool = False):
        key = f"draw.{LABELS.get(name, name)}"
        made[name] = gr.Slider(
            low, high, values[name], step=step, label=t(key),
            info=t(f"{key}.info") if info else None, elem_id=f"draw-{name}",
        )  # fmt: skip

    made["mode"] = gr.Radio(
        [(t(f"draw.mode.{name}"), name) for name in modes],
        value=modes[0],
        label=t("draw.mode"),
        elem_id="draw-mode",
    )
    slider("steps", 1, 300, 1)
    if len(modes) > 1:
        mode, steps = made["mode"], made["steps"]
        mode.input(None, [mode, steps], steps, js=STEPS, api_visibility="private")
    slider("cutouts", *WHOLE["cutouts"][1:], 1, info=True)
    made["seed"] = gr.Number(
        0, precision=0, label=t("draw.seed"), info=t("draw.seed.info"), elem_id="draw-seed"
    )
    with gr.Accordion(t("draw.start.title"), open=False, elem_id="draw-start"):
        made["picture"] = _image("picture")
        slider("strength", 0, 1, 0.05, info=True)
    with gr.Accordion(t("draw.fine"), open=False, elem_id="draw-fine"):
        if studio.bundle.prior is not None:
            slider("candidates", *WHOLE["candidates"][1:], 1)
            slider("cfg_scale", 0, 10, 0.1, info=True)
            slider("temperature", 0.1, 2, 0.05)
            slider("top_p", 0.05, 1, 0.05)
        else:  # without a prior there is nothing to set, but the request has these fields
            for name in ("candidates", "cfg_scale", "temperature", "top_p"):
                made[name] = gr.State(values[name])
        slider("lr", 0, 2, 0.01, info=True)
        for name, known in (("method", able), ("optimizer", OPTIMIZERS)):
            choices = [(t(f"draw.{name}.{value}"), value) for value in known]
            made[name] = gr.Radio(
                choices, value=values[name], label=t(f"draw.{name}"), elem_id=f"draw-{name}"
            )
        slider("ema", 0, 0.99, 0.01)
        slider("z_l2", 0, 100, 0.5)
        slider("tv", 0, 5, 0.05)
        if studio.bundle.prior is not None:
            slider("surprise", 0, 2, 0.01, info=True)
        else:
            made["surprise"] = gr.State(values["surprise"])
        own = [(t("draw.clip.own"), OWN)] if clips.shipped else []
        made["clip"] = gr.Dropdown(
            [*own, *((t(f"draw.clip.name.{name}"), name) for name in PUBLISHED)],
            value=OWN if own else PUBLISHED[0],
            allow_custom_value=True,
            label=t("draw.clip"),
            info=t("draw.clip.info"),
            elem_id="draw-clip",
        )
        made["image_prompt"] = _image("image_prompt")
    return made


def _image(name: str) -> gr.Image:
    return gr.Image(
        sources=["upload", "clipboard"],
        type="filepath",
        label=t(f"draw.{name}"),
        placeholder=t("rec.drop"),
        height=150,
        buttons=[],
        elem_id=f"draw-{name}",
    )
