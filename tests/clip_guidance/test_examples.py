"""The pictures that the Text-to-image tab opens with: drawn by these weights, or not shown."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import checkpoints
from checkpoints.bundle import FOLDER as BUNDLES
from clip_guidance import examples, redraw
from clip_guidance.guide import decode, look
from clip_guidance.prompts import parse, targets
from vqgan.model import VQGAN


def fails_at(call: int):
    """Drawing that goes well until then."""
    calls = iter(range(1, call))

    def last(*args):
        if next(calls, None) is None:
            raise ValueError("no memory")
        return Image.new("RGB", (8, 8)), torch.zeros(1, 1, 1), 0.5

    return last


def test_they_are_drawn_in_order_and_belong_to_the_weights(bundle, monkeypatch, capsys, caplog):
    monkeypatch.setattr(redraw, "PROMPTS", ("red", "红苹果"))
    (bundle / examples.FOLDER).mkdir()
    Image.new("RGB", (4, 4)).save(bundle / examples.FOLDER / "9.png")  # of an earlier time
    with monkeypatch.context() as broken, pytest.raises(SystemExit):
        broken.setattr(redraw, "last", fails_at(2))
        redraw.main(["--bundle", str(bundle)])
    assert [p.name for p in (bundle / examples.FOLDER).iterdir()] == ["9.png"]  # not lost
    capsys.readouterr()
    redraw.main(["--bundle", str(bundle)])
    assert [p.name for p in sorted((bundle / examples.FOLDER).iterdir())] == ["0.png", "1.png"]
    assert capsys.readouterr().out.count("score") == 2
    card = checkpoints.load(bundle).card
    first, second = examples.read(bundle, card)
    assert (first.request.prompt, second.request.prompt) == ("red", "红苹果")
    assert (first.request.mode, first.request.guidance.seed) == ("both", 0)
    assert first.codes.shape == (1, 16, 16) and -1 <= first.score <= 1
    assert not np.array_equal(np.asarray(first.image), np.asarray(second.image))
    other = {**card, "sha256": {**card["sha256"], "prior.safetensors": "0" * 64}}
    assert examples.read(bundle, other) == [] and "other weights drew it" in caplog.text
    Image.new("RGB", (4, 4)).save(bundle / examples.FOLDER / "0.png")  # says nothing of itself
    assert [e.request.prompt for e in examples.read(bundle, card)] == ["红苹果"]


def test_a_gumbel_model_is_drawn_with_in_the_way_that_it_can(bundle, tiny_config, monkeypatch):
    """Its codes are no nearest neighbours, so the page opens with logits as what is moved."""
    monkeypatch.setattr(redraw, "PROMPTS", ("red",))
    gumbel, card = VQGAN(replace(tiny_config, quantizer="gumbel")).eval(), checkpoints.load(bundle)
    card = {k: v for k, v in card.card.items() if k != "prior"}
    checkpoints.save(bundle, name="gumbel", vqgan=gumbel, card=card)
    redraw.main(["--bundle", str(bundle)])
    (drawn,) = examples.read(bundle, checkpoints.load(bundle).card)
    assert (drawn.request.mode, drawn.request.guidance.method) == ("guided", "logits")


def test_the_shipped_ones_are_what_the_shipped_models_make_of_their_codes():
    bundle = checkpoints.load(BUNDLES / checkpoints.DEFAULT)
    kept = examples.read(bundle.path, bundle.card)
    assert tuple(e.request.prompt for e in kept) == examples.PROMPTS
    with torch.inference_mode():
        for example in kept:
            codes = bundle.vqgan.quantize.lookup(example.codes)
            image = decode(bundle.vqgan, codes).clamp(-1, 1)
            pixels = (image[0].permute(1, 2, 0).numpy() + 1) * 127.5
            assert np.abs(pixels - np.asarray(example.image)).mean() < 1.5
            wanted = targets(bundle.clip, parse(example.request.prompt))
            found = float(wanted.similarity(look(bundle.clip, image))[0])
            assert found == pytest.approx(example.score, abs=0.03)
