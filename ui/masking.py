"""The article's masked sequence, on the visitor's own picture: read, asked for, predicted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr
import numpy as np
import torch

from prior.model import BITS, token_nats
from prior.sheet import decode
from prior.task import corrupt
from ui import complete, kept
from ui import sample_panel as panel
from ui.common import ANSWER, Sentence, heavy, path_of
from ui.complete import Source
from ui.sample_runs import LIGHT
from ui.session import Session
from ui.studio import Studio
from ui.text import add, both, percent, t

# What a cell says to a pointer that rests on it, for a finger.
TAPS = """
element.addEventListener('click', (event) => {
  const title = event.target.closest('rect')?.querySelector('title');
  if (title) element.querySelector('.masked-cell').textContent = title.textContent;
});
"""
PKEEP = 0.9  # what the shipped prior was trained with, unless its card says otherwise

add(
    {
        "mask.title": ("The masked sequence of your picture", "你的图片的掩码序列"),
        "mask.pkeep": ("pkeep: share of codes kept", "pkeep：保留的码的比例"),
        "mask.again": ("Other random codes", "换一批随机码"),
        "mask.session": ("The picture in Reconstruct", "“重建”页的图片"),
        "mask.read": ("What GPT reads", "GPT 读到的"),
        "mask.read.note": (
            "{count} of {cells} codes are replaced by random ones (orange).",
            "{cells} 个码中有 {count} 个换成了随机码（橙色）。",
        ),
        "mask.asked": ("What it is asked for", "要求它预测的"),
        "mask.asked.note": (
            "The whole picture, each code from those before it: also where it read a wrong one.",
            "整张图片，每个码都由它前面的码预测：包括它读到错误码的地方。",
        ),
        "mask.said": ("What it finds likeliest", "它认为最可能的"),
        "mask.said.note": (
            "Right in {right} of {cells} cells (green). Point at a cell or tap it: the code asked "
            "for and its probability, then the likeliest one and its own.",
            "{cells} 格中有 {right} 格正确（绿色）。把指针移到格子上，或轻点它：先是要求预测的码"
            "及其概率，再是最可能的码及其概率。",
        ),
        "mask.loss": (
            "Cross-entropy: {masked} bits a code with these replacements, {clean} without. "
            "Guessing blindly would cost {blind}.",
            "交叉熵：有这些替换时每码 {masked} 比特，没有替换时 {clean}。完全盲猜为 {blind}。",
        ),
        "mask.bad": (
            "pkeep must be a number from 0 to 1.",
            "pkeep 必须是 0 到 1 之间的数。",
        ),
    }
)


@dataclass(frozen=True)
class Masked:
    """One masked reading of a grid. All arrays (h, w)."""

    read: np.ndarray  # codes that the prior reads
    asked: np.ndarray  # codes that it is to predict
    said: np.ndarray  # its likeliest codes
    said_share: np.ndarray  # their probabilities
    share: np.ndarray  # probabilities of the codes asked for
    bits: float  # mean over the cells
    clean_bits: float  # the same with nothing replaced

    @property
    def replaced(self) -> np.ndarray:
        return self.read != self.asked


def masked(studio: Studio, grid: np.ndarray, pkeep: object, seed: int) -> Masked:
    """Replace codes as training does (`prior.task.corrupt`), and ask the prior for all of them."""
    if isinstance(pkeep, bool) or not isinstance(pkeep, (int, float)) or not 0 <= pkeep <= 1:
        raise Sentence("mask.bad")
    prior = studio.bundle.prior
    targets = torch.from_numpy(grid).flatten()[None]
    source = torch.Generator().manual_seed(seed)
    inputs = corrupt(targets, float(pkeep), studio.codebook_size, source)
    both_ = torch.cat([inputs, targets]).to(studio.device)
    with torch.inference_mode():
        logits = prior(both_).float().cpu()  # (2, N, K)
    nats = token_nats(logits, targets.expand(2, -1)).mean(1) * BITS
    probs = torch.softmax(logits[0], -1)
    best, said = probs.max(-1)
    share = probs.gather(-1, targets[0][:, None])[:, 0]
    shaped = (x.reshape(grid.shape).numpy() for x in (inputs[0], said, best, share))
    read, said, best, share = shaped
    return Masked(read, grid, said, best, share, float(nats[0]), float(nats[1]))


def view(studio: Studio, found: Masked) -> str:
    """Three pictures with their codes: read, asked for, predicted."""
    grids = (found.read, found.asked, found.said)
    pictures = decode(studio.vqgan, torch.from_numpy(np.stack(grids)))
    right = found.said == found.asked
    marks = (
        np.where(found.replaced, "swapped", ""),
        np.where(found.replaced, "asked", ""),
        np.where(right, "right", ""),
    )
    titles = [
        f"{a}: {percent(p)} · {s}: {percent(b)}"
        for a, p, s, b in zip(
            found.asked.ravel().tolist(), found.share.ravel().tolist(),
            found.said.ravel().tolist(), found.said_share.ravel().tolist(), strict=True,
        )
    ]  # fmt: skip
    counts = {"cells": right.size, "count": int(found.replaced.sum()), "right": int(right.sum())}
    figures = "".join(
        f'<figure data-figure="{name}"><figcaption>{both(f"mask.{name}")}</figcaption>'
        f"{panel.codes_svg(picture, grid, marks=mark, titles=title)}"
        f'<p class="note">{both(f"mask.{name}.note", **counts)}</p></figure>'
        for name, picture, grid, mark, title in zip(
            ("read", "asked", "said"), pictures, grids, marks, (None, None, titles), strict=True
        )
    )
    loss = both(
        "mask.loss",
        masked=f"{found.bits:.2f}",
        clean=f"{found.clean_bits:.2f}",
        blind=f"{np.log2(studio.codebook_size):.0f}",
    )
    tapped = '<p class="masked-cell" aria-live="polite"></p>'
    return f'<div class="masked">{figures}</div>{tapped}<p class="masked-loss">{loss}</p>'


def build(studio: Studio, fold: gr.Accordion, session: gr.State, picture: gr.Textbox) -> None:
    """Inside `fold`, the tab's "How it works". Nothing is computed before that is opened."""
    training = studio.bundle.card.get("prior", {}).get("training", {})
    pkeep = training.get("train", {}).get("pkeep", PKEEP) if isinstance(training, dict) else PKEEP
    source, seed = gr.State(None), gr.State(0)
    gr.HTML(f'<h3 class="masked-title">{both("mask.title")}</h3>', apply_default_css=False)
    with gr.Row(elem_classes="masked-controls"):
        share = gr.Slider(0, 1, pkeep, step=0.05, label=t("mask.pkeep"), elem_id="mask-pkeep")
        with gr.Column(min_width=200, scale=0):
            again = gr.Button(t("mask.again"), size="sm", elem_id="mask-again")
            own = gr.UploadButton(
                t("complete.own"), file_types=["image"], size="sm", elem_id="mask-own"
            )
            back = gr.Button(t("mask.session"), size="sm", elem_id="mask-session")
    shown = gr.HTML(apply_default_css=False, js_on_load=TAPS, elem_id="masked")

    def show(source: Source, share: object, seed: int) -> tuple[Source, int, str]:
        return source, seed, view(studio, masked(studio, source.grid, share, seed))

    def opened(
        source: Source | None, share: object, seed: int, session: Session, picture: str
    ) -> Any:
        if source is None or not source.own:
            return from_session(share, seed, session, picture)
        return show(source, share, seed)

    def redraw(source: Source | None, share: object, seed: int) -> Any:
        return gr.skip() if source is None else show(source, share, seed)

    def from_session(share: object, seed: int, session: Session, picture: str) -> Any:
        kept.check_shown(session, picture)
        return show(complete.from_session(studio, session), share, seed)

    def from_file(file: object, share: object, seed: int) -> Any:
        return show(complete.from_file(studio, str(path_of(file))), share, seed)

    how, outputs, knobs = {**LIGHT, **ANSWER}, [source, seed, shown], [share, seed]
    unread = {"preprocess": False, **how}  # Gradio would stumble over what is no number
    now = [*knobs, session, picture]
    first = [source, *now]
    fold.expand(heavy(opened), first, outputs, js=kept.saying(len(first)), **unread)
    share.input(heavy(redraw), [source, *knobs], outputs, trigger_mode="always_last", **unread)
    again.click(
        heavy(lambda source, share, seed: redraw(source, share, seed + 1)),
        [source, *knobs],
        outputs,
        **unread,
    )
    back.click(heavy(from_session), now, outputs, js=kept.saying(len(now)), **unread)
    own.upload(heavy(from_file), [own, *knobs], outputs, **unread)
