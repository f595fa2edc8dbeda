"""The surprise map: its pixels and figures are those of the prior, on the picture now shown."""

from __future__ import annotations

import base64
import io
import json
import math
import re
import threading
from dataclasses import replace
from html import unescape

import gradio as gr
import numpy as np
import pytest
import torch
from PIL import Image

import checkpoints
from prior import likelihood
from prior.likelihood import bits_per_cell
from prior.model import GPT, PriorConfig
from ui import compute, reconstruct, surprise
from ui import session as sessions
from ui.examples import EXAMPLES
from ui.panels import COLOURS, colours
from ui.studio import Studio


@pytest.fixture(scope="module")
def reader(studio, tmp_path_factory) -> Studio:
    """The tiny studio with a prior of 16 x 16 codes that has opinions."""
    torch.manual_seed(0)
    prior = GPT(PriorConfig(codebook_size=64, layers=1, heads=2, dim=16)).eval()
    prior.requires_grad_(False).wte.weight.mul_(40)
    path = tmp_path_factory.mktemp("read")
    checkpoints.save(path, name="tiny", vqgan=studio.vqgan, card={}, prior=prior)
    return Studio(checkpoints.load(path), studio.metric, "cpu")


@pytest.fixture(scope="module")
def opened(reader):
    return sessions.open_picture(reader, EXAMPLES[0].path, "128")


def shown(html: str) -> dict:
    return json.loads(unescape(re.search(r'data-cells="([^"]+)"', html)[1]))


def test_each_cell_has_its_bits_and_its_colour(reader, opened):
    html = surprise.panel(reader, opened)
    grid = torch.from_numpy(opened.indices)[None]
    bits = bits_per_cell(reader.bundle.prior, grid)[0].numpy()
    assert bits.std() > 0.5  # a map with something to see
    cells = shown(html)
    assert cells["codes"] == opened.indices.tolist()
    assert np.allclose(cells["bits"], bits, atol=0.06)
    url = re.search(r'src="data:image/png;base64,([^"]+)"', html)[1]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(url))))
    assert np.array_equal(pixels, colours(bits / (1.5 * math.log2(64))))
    for figure in (
        f"{bits.sum():,.0f} bits in all",
        f"{bits.mean():.1f} a code",
        "each would cost 6",
    ):
        assert figure in html


def test_a_painted_code_is_a_surprise_of_its_own(reader, opened):
    bits = np.array(shown(surprise.panel(reader, opened))["bits"])
    code = int((opened.indices[4, 4] + 1) % 64)
    painted = opened.indices.copy()
    painted[4, 4] = code
    after = shown(surprise.panel(reader, replace(opened, indices=painted)))
    assert after["codes"][4][4] == code
    changed = np.array(after["bits"]) != bits
    assert changed[4, 4] and not changed.ravel()[: 4 * 16 + 4].any()  # those before it do not know


def test_the_scale_ends_are_the_darkest_and_the_brightest():
    pixels = colours(np.array([[-1.0, 0.0, 1.0, 7.0]]))
    assert np.array_equal(pixels[0], COLOURS[[0, 0, -1, -1]])


@pytest.mark.parametrize(("shape", "width"), [((32, 16), 210), ((16, 32), 420), ((16, 16), 420)])
def test_the_longer_side_is_as_long_as_ever(shape, width):
    html = surprise._map(np.zeros(shape), np.zeros(shape, int), 6.0)
    assert f'style="width:{width}px"' in html
    assert "<span>9</span>" in html and '<b style="left:66.7%">' in html, "1.5 times 6 is the end"


def test_grids_of_another_size_are_said(reader, opened):
    small = surprise.panel(reader, replace(opened, indices=opened.indices[:10]))
    assert "this picture has 10 × 16" in small and "data-cells" not in small
    large = sessions.open_picture(reader, EXAMPLES[0].path, "256")
    offer = surprise.panel(reader, large)
    assert "32 × 32 codes" in offer and "data-measure" in offer and "data-cells" not in offer
    asked = shown(surprise.panel(reader, large, asked=True))
    grid = torch.from_numpy(large.indices)[None]
    bits = bits_per_cell(reader.bundle.prior, grid, stride=surprise.STRIDE)[0].numpy()
    assert np.allclose(asked["bits"], bits, atol=0.06)
    huge = replace(opened, indices=np.zeros((200, 100), np.int64))
    assert "16384 are the most" in surprise.panel(reader, huge)


def test_there_is_no_map_without_a_prior(studio, reader, opened):
    def shown(studio: Studio) -> list[str | None]:
        with gr.Blocks() as page:
            surprise.build(studio, gr.State(opened), gr.Textbox())
        return [block.elem_id for block in page.blocks.values()]

    assert "surprise" in shown(reader) and "surprise" not in shown(studio)


def test_what_was_prepared_asks_the_prior_nothing(reader, monkeypatch):
    reconstruct.prepare(reader, EXAMPLES[2].path)
    monkeypatch.setattr(surprise, "bits_per_cell", lambda *of, **how: pytest.fail("read again"))
    session = sessions.open_picture(reader, EXAMPLES[2].path, "128")
    assert "data-cells" in surprise.panel(reader, session)


def test_a_large_picture_is_read_in_portions_between_which_others_compute(reader, monkeypatch):
    session = sessions.open_picture(reader, EXAMPLES[0].path, "256")  # 32 x 32 codes
    reader._kept.clear()
    threads = []
    read = likelihood._log_probs

    def counted(*of):
        threads.append(threading.current_thread())
        return read(*of)

    monkeypatch.setattr(likelihood, "_log_probs", counted)
    surprise.panel(reader, session, asked=True)
    assert len(threads) > 1 and set(threads) == {compute.run(threading.current_thread)}
    assert threading.current_thread() not in threads
