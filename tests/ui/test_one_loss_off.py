"""The experiment with decoders trained with one loss off: same codes, other pictures, labels."""

from __future__ import annotations

import base64
import copy
import io
import re
from dataclasses import replace

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from ui import one_loss_off
from ui import session as sessions
from ui.examples import EXAMPLES
from ui.studio import Studio
from vqgan.grids import decode_grid
from vqgan.rebuild import measure


@pytest.fixture(scope="module")
def compared(studio) -> Studio:
    """The tiny studio with two more decoders."""
    card = {"training": {"steps": 12345, "hours": 1.5}, "decoders": {}}
    models = {}
    for name, off, scale in (
        ("no-perceptual", ["perceptual"], 0.5),
        ("no-gan", ["gan"], 0.2),
        ("all", [], 0.3),
    ):
        models[name] = copy.deepcopy(studio.vqgan)
        models[name].decoder.conv_out.weight.data.mul_(scale)
        weights = {f"{x}_weight": 0.0 if x in off else 0.4 for x in ("perceptual", "gan")}
        card["decoders"][name] = {"off": off, "steps": 1200, "hours": 0.34, "train": weights}
    bundle = replace(studio.bundle, card=studio.bundle.card | card)
    bundle.__dict__["decoders"] = models
    return Studio(bundle, studio.metric, "cpu")


def figure(html: str, name: str) -> str:
    return re.search(rf'<figure class="picture" data-{name}.*?</figure>', html)[0]


def pixels(html: str) -> np.ndarray:
    url = re.search(r"base64,([^\"]+)", html)[1]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url))))


def test_each_decoder_draws_the_codes_now_on_the_board(compared):
    opened = sessions.open_picture(compared, EXAMPLES[0].path, "128")
    painted = sessions.redraw(compared, opened, np.roll(opened.indices, 3))
    html = one_loss_off.panel(compared, painted)
    assert np.array_equal(pixels(figure(html, "original")), np.asarray(opened.original))
    full = pixels(figure(html, 'decoded="full"'))
    assert np.array_equal(full, np.asarray(painted.result))
    for name, model in compared.bundle.decoders.items():
        expected = decode_grid(model, painted.indices, painted.size)
        part = figure(html, f'decoded="{name}"')
        assert np.array_equal(pixels(part), np.asarray(expected))
        assert not np.array_equal(np.asarray(expected), full)
        near = measure(compared.metric, opened.original, expected)
        assert f"PSNR {near.psnr:.1f} dB, perceptual distance {near.distance:.3f}" in part


def test_each_decoder_says_what_was_off_and_for_how_long(compared):
    opened = sessions.open_picture(compared, EXAMPLES[0].path, "128")
    html = one_loss_off.panel(compared, opened)
    assert re.findall(r'data-decoder="([^"]+)"', html) == ["full", "no-perceptual", "no-gan", "all"]
    part = figure(html, 'decoded="no-gan"')
    assert "GAN off (λ = 0)" in part and "1,200 steps (20 minutes)" in part
    assert "with --perceptual-weight 0.4 --gan-weight 0.<" in part and "hidden" in part
    assert "--perceptual-weight 0 --gan-weight 0.4" in figure(html, 'decoded="no-perceptual"')
    assert "Perceptual loss and GAN on" in figure(html, 'decoded="all"')
    part = figure(html, 'decoded="full"')
    assert "12,345 steps in all (90 minutes)" in part and "hidden" not in part


def test_nothing_is_shown_where_no_decoder_is_shipped(studio, compared):
    def shown(studio: Studio) -> list[str | None]:
        with gr.Blocks() as page, gr.Accordion() as fold:
            one_loss_off.build(studio, gr.State(None), gr.Textbox(), fold)
        return [block.elem_id for block in page.blocks.values()]

    assert studio.bundle.decoders == {} and "one-loss-off" not in shown(studio)
    assert "one-loss-off" in shown(compared)
