"""`python -m clip_guidance.generate`: a picture, or one line and exit code 2."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import checkpoints
from clip_guidance import record
from clip_guidance.generate import main
from vqgan.model import VQGAN

FAST = ["--steps", "2", "--cutouts", "2", "--candidates", "2"]


@pytest.mark.parametrize("mode", ["both", "prior", "guided"])
def test_a_text_becomes_a_picture_that_knows_how_it_was_made(tmp_path, bundle, mode):
    out = tmp_path / "new" / "x.png"
    args = ["a red apple", "--bundle", str(bundle), "--mode", mode, "--seed", "3", *FAST]
    main([*args, "--out", str(out)])
    request, made = record.read(out)
    assert (request.prompt, request.mode, request.guidance.seed) == ("a red apple", mode, 3)
    assert made["bundle"] == "tiny" and -1 <= made["score"] <= 1
    pixels = np.asarray(Image.open(out))
    assert pixels.shape == (32, 32, 3) and pixels.std() > 1
    main([*args, "--out", str(tmp_path / "again.png")])
    assert np.array_equal(pixels, np.asarray(Image.open(tmp_path / "again.png")))


def test_a_gumbel_model_draws_where_nobody_chose_a_method(tmp_path, bundle, tiny_config, capsys):
    gumbel, card = VQGAN(replace(tiny_config, quantizer="gumbel")).eval(), checkpoints.load(bundle)
    card = {k: v for k, v in card.card.items() if k != "prior"}
    checkpoints.save(bundle, name="gumbel", vqgan=gumbel, card=card)
    args = ["red", "--bundle", str(bundle), "--mode", "guided", "--out", str(tmp_path / "x.png")]
    main([*args, *FAST])
    assert record.read(tmp_path / "x.png")[0].guidance.method == "logits"
    with pytest.raises(SystemExit):
        main([*args, *FAST, "--method", "latents"])
    assert "choose method logits" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["", "--out", "x.png"], "the prompt is empty"),
        (["a:-1", "--out", "x.png"], "0 or negative"),
        (["a", "--out", "x.jpg"], "must end in .png"),
        (["a", "--out", "x.png", "--steps", "0"], "steps is 0"),
        (["a", "--out", "x.png", "--mode", "magic"], "choose both, prior, guided"),
        (["a", "--out", "x.png", "--start", "none.png"], "there is no file none.png"),
        (["a", "--out", "x.png", "--steps", "many"], "invalid int"),
        (["a"], "--out"),
        (["a", "--out", "x.png", "--clip", "NoSuchModel"], "no CLIP 'NoSuchModel'"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    tmp_path, monkeypatch, bundle, capsys, args, sentence
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main([*args, "--bundle", str(bundle)])
    error = capsys.readouterr().err.strip().splitlines()
    assert stopped.value.code == 2 and error[-1].startswith("error: ") and sentence in error[-1]
    assert not list(tmp_path.glob("*.png"))


def test_a_bundle_without_clip_says_what_would_help(tmp_path, vqgan, capsys):
    path = checkpoints.save(tmp_path / "bare", name="bare", vqgan=vqgan, card={})
    with pytest.raises(SystemExit):
        main(["a", "--out", str(tmp_path / "x.png"), "--bundle", str(path)])
    assert "bundle bare has no CLIP" in capsys.readouterr().err
