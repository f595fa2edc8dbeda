"""The live experiment of "How it works": the same codes, drawn by decoders with one loss off.

Shown for bundles that ship such decoders (`python -m checkpoints.decoders`).
"""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from ui import kept
from ui.common import AFTER, ANSWER, data_url, heavy
from ui.session import Session
from ui.studio import Studio
from ui.text import add, both, together
from vqgan.grids import decode_grid

STATIC = Path(__file__).parent / "static"
FULL = "full"  # the bundle's own decoder, among the others

add(
    {
        "off.title": ("Try it: losses on and off", "试一试：开关各项损失"),
        "off.lead": (
            "The same codes of your picture, drawn by other decoders. Encoder and codebook were "
            "frozen while these were trained, so nothing but the decoder differs.",
            "你的图片的同一组码，由不同的解码器画出。训练它们时编码器和码本保持不变，"
            "因此只有解码器不同。",
        ),
        "off.full": ("As shipped", "附带的解码器"),
        "off.all": ("Perceptual loss and GAN on", "感知损失与 GAN 都开启"),
        "off.perceptual": ("Perceptual loss off", "去掉感知损失"),
        "off.gan": ("GAN off (λ = 0)", "去掉 GAN（λ = 0）"),
        "off.perceptual-gan": ("Pixels only", "仅像素损失"),
        "off.full.how": (
            "The app's own decoder, {steps} steps in all ({minutes} minutes).",
            "应用自己的解码器，共训练 {steps} 步（{minutes} 分钟）。",
        ),
        "off.how": (
            "Trained for this comparison only, all from the same start: {steps} steps ({minutes} "
            "minutes) with {flags}.",
            "仅为此对比而训练，起点相同：{steps} 步（{minutes} 分钟），参数 {flags}。",
        ),
        "off.original": ("Your picture", "你的图片"),
        "off.near": (
            "PSNR {psnr} dB, perceptual distance {distance}.",
            "峰值信噪比 {psnr} dB，感知距离 {distance}。",
        ),
    }
)


def panel(studio: Studio, session: Session) -> str:
    """Your picture, and what each decoder makes of its codes; one of them in view."""
    buttons, figures = [], []
    for name in (FULL, *studio.bundle.decoders):
        (title, how), key = _label(studio, name), escape(name)
        if name == FULL:
            picture = session.result
        else:
            model = studio.bundle.decoders[name]
            picture = decode_grid(model, session.indices, session.size)
        pressed = "true" if name == FULL else "false"
        buttons.append(
            f'<button type="button" data-decoder="{key}" aria-pressed="{pressed}">{title}</button>'
        )
        near = _near(studio, session, picture)
        hidden = "" if name == FULL else " hidden"
        note = together(*filter(None, (near, how)))
        figures.append(_figure(f'data-decoded="{key}"{hidden}', title, picture, note))
    first = ""
    if session.original is not None:
        first = _figure("data-original", both("off.original"), session.original, "")
    return (
        f'<section class="off"><h4>{both("off.title")}</h4><p class="note">{both("off.lead")}</p>'
        f'<div class="cg-group">{"".join(buttons)}</div>'
        f'<div class="pair">{first}{"".join(figures)}</div></section>'
    )


def _label(studio: Studio, name: str) -> tuple[str, str]:
    """(what a decoder is called, how it was trained)."""
    if name == FULL:
        entry = studio.bundle.card.get("training", {})
        known = "steps" in entry and "hours" in entry
        how = both("off.full.how", **_length(entry)) if known else ""
        return both("off.full"), how
    entry = studio.bundle.card["decoders"][name]
    train = entry["train"]
    flags = (
        f"--perceptual-weight {train['perceptual_weight']:g} --gan-weight {train['gan_weight']:g}"
    )
    title = both(f"off.{'-'.join(entry['off']) or 'all'}")
    return title, both("off.how", flags=flags, **_length(entry))


def _length(entry: dict) -> dict[str, str]:
    return {"steps": f"{entry['steps']:,}", "minutes": f"{60 * entry['hours']:.0f}"}


def _near(studio: Studio, session: Session, picture: Image.Image) -> str:
    if session.original is None:
        return ""
    near = studio.closeness(session.original, picture)
    return both("off.near", psnr=f"{near.psnr:.1f}", distance=f"{near.distance:.3f}")


def _figure(marks: str, title: str, picture: Image.Image, note: str) -> str:
    return (
        f'<figure class="picture" {marks}><figcaption>{title}</figcaption>'
        f'<img alt="" src="{data_url(picture)}"><p class="note">{note}</p></figure>'
    )


def build(
    studio: Studio, session: gr.State, picture: gr.Textbox, fold: gr.Accordion
) -> Callable[[gr.events.Dependency], None]:
    """The experiment inside `fold`, drawn when that is opened; nothing where no decoder is shipped.

    `picture`: which one the page shows (`kept.shown`).
    -> a function that keeps it up to date: call it with each event that makes other codes.
    """
    if not studio.bundle.decoders:
        return lambda event: None
    opened = gr.State(False)
    view = gr.HTML(
        apply_default_css=False,
        js_on_load=(STATIC / "one_loss_off.js").read_text("utf-8"),
        elem_id="one-loss-off",
    )
    common: dict[str, Any] = {"show_progress": "minimal", "api_visibility": "private"}

    def show(session: Session, picture: str) -> tuple[bool, str]:
        kept.check_shown(session, picture)
        return True, panel(studio, session)

    def renew(session: Session, opened: bool) -> Any:
        return panel(studio, session) if opened else gr.skip()

    now = kept.told([session, picture])
    fold.expand(heavy(show), outputs=[opened, view], **now, **common, **ANSWER)

    def follow(event: gr.events.Dependency) -> None:
        event.success(
            heavy(renew), [session, opened], view, trigger_mode="always_last", **common, **AFTER
        )

    return follow
