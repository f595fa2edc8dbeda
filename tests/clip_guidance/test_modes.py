"""Guided, Prior and Both, and the PNG that remembers how it was made."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from clip_guidance import record
from clip_guidance.guide import (
    NOISE_STEPS,
    PICTURE_STEPS,
    Belief,
    GuidanceConfig,
    Step,
    from_picture,
    nearness,
    noise,
)
from clip_guidance.modes import (
    MAX_CANDIDATES,
    DrawConfig,
    Models,
    Request,
    first_seed,
    go_on,
    on_white,
    prompts,
    repainted,
    run,
)
from clip_guidance.prompts import parse, targets
from clip_guidance.rerank import Ranking, rank
from prior.classes import choose
from prior.model import GPT, PriorConfig
from prior.sample import Progress, finish, sample
from prior.sheet import Record
from tests.fakes import ColourClip
from vqgan.images import to_image

FEW = GuidanceConfig(steps=3, cutouts=2, seed=5)
THREE = DrawConfig(candidates=3)


@pytest.fixture
def clip() -> ColourClip:
    return ColourClip()


@pytest.fixture
def models(vqgan, prior, clip) -> Models:
    return Models(vqgan, clip, prior, clip)


def parts(models: Models, request: Request) -> tuple[list, list, list]:
    found = list(run(models, request))
    return tuple([x for x in found if isinstance(x, kind)] for kind in (Progress, Ranking, Step))


def test_the_best_candidate_is_the_one_clip_likes(vqgan, clip):
    grids = torch.randint(32, (20, 16, 16), generator=torch.Generator().manual_seed(0))
    wanted = targets(clip, parse("red"))
    ranking = rank(vqgan, clip, grids, wanted)
    scores = [
        float(wanted.similarity(clip.encode_image(vqgan.decode_indices(g[None]).clamp(-1, 1))))
        for g in grids
    ]
    assert np.allclose(ranking.scores, scores, atol=0.02)
    assert ranking.order[0] == ranking.best == int(ranking.scores.argmax())
    assert ranking.scores[ranking.order].tolist() == sorted(ranking.scores.tolist(), reverse=True)
    assert torch.equal(ranking.grids, grids) and ranking.images.abs().max() <= 1
    with pytest.raises(ValueError, match="expected"):
        rank(vqgan, clip, grids[:0], wanted)
    even = Ranking(grids[:9], ranking.images[:9], torch.zeros(9))
    assert even.order == [*range(9)] and even.best == 0, "the first of equals"


def test_prior_writes_ranks_and_stops_there(models):
    written, ranked, steps = parts(models, Request("red", "prior", THREE, FEW))
    assert written[-1].done == written[-1].total and not steps
    assert torch.equal(ranked[0].grids, written[-1].grid) and len(ranked[0].scores) == 3


def test_no_two_seeds_share_a_candidate(models):
    """Else the next seed would nearly always give the same picture."""

    def written(seed: int) -> set[tuple[int, ...]]:
        found = parts(models, Request("red", "prior", THREE, GuidanceConfig(seed=seed)))[1][0].grids
        return set(map(tuple, found.flatten(1).tolist()))

    assert written(4) == written(4) and len(written(4)) == 3
    assert not written(4) & (written(5) | written(6) | written(3))
    assert first_seed(7) + MAX_CANDIDATES <= first_seed(8)
    written(2**53)  # as large as a browser sends


def test_both_goes_on_from_the_best(models):
    _, ranked, steps = parts(models, Request("red", "both", THREE, FEW))
    assert len(steps) == 3
    assert torch.equal(steps[0].indices[0], ranked[0].grids[ranked[0].best])
    assert steps[0].score == pytest.approx(float(ranked[0].scores.max()), abs=0.02)


def test_a_request_has_as_many_steps_as_its_start_calls_for():
    picture = Image.new("RGB", (8, 8))
    assert Request("red", "both").guidance.steps == PICTURE_STEPS
    assert Request("red", "guided").guidance.steps == NOISE_STEPS
    assert Request("red", "guided", picture=picture).guidance.steps == PICTURE_STEPS
    assert Request("red", "guided", guidance=FEW).guidance.steps == 3


def test_the_prior_has_a_say_in_the_steps_of_both_but_not_of_guided(models):
    _, _, both = parts(models, Request("red", "both", THREE, FEW))
    assert both[-1].losses["surprise"] > 0
    _, _, alone = parts(models, Request("red", "guided", THREE, FEW))
    assert "surprise" not in alone[-1].losses
    rest = list(go_on(models, Request("red", "both", THREE, FEW), both[0].state))
    assert [step.step for step in rest] == [2, 3]
    assert rest[-1].losses == both[-1].losses and torch.equal(rest[-1].image, both[-1].image)


def test_what_the_prior_was_told_it_believes_in_the_steps_too(models, vqgan, clip):
    with torch.no_grad():
        for weight in models.prior.parameters():  # a fresh prior hardly listens
            weight.mul_(15 if weight.ndim == 2 else 1)
    codes = noise(vqgan, 3)
    step = next(go_on(models, Request("red", "both", THREE, FEW), codes))
    logits = nearness(vqgan, vqgan.quantize.lookup(codes))
    told, untold = (
        FEW.surprise * float(Belief(models.prior, condition).surprise(logits, codes))
        for condition in (targets(clip, parse("red")).condition(1), None)
    )
    assert step.losses["surprise"] == pytest.approx(told, rel=1e-4)
    assert told != pytest.approx(untold, rel=1e-3)


def test_guided_needs_no_prior(vqgan, clip):
    written, ranked, steps = parts(Models(vqgan, clip), Request("red", "guided", THREE, FEW))
    assert not written and not ranked and len(steps) == 3
    for mode in ("both", "prior"):
        with pytest.raises(ValueError, match="no prior"):
            run(Models(vqgan, clip), Request("red", mode))


def test_the_prompt_reaches_the_prior(models):
    """Other words, other codes; cfg 0 leaves the prompt out again."""

    def drawn(prompt: str, **values) -> torch.Tensor:
        drawing = DrawConfig(candidates=2, top_p=1.0, **values)
        return parts(models, Request(prompt, "prior", drawing, FEW))[1][0].grids

    with torch.no_grad():
        for name, weight in models.prior.named_parameters():  # a fresh prior hardly listens
            if weight.ndim == 2 and "blocks" in name:
                weight.mul_(15)
    assert torch.equal(drawn("red"), drawn("red"))
    assert not torch.equal(drawn("red"), drawn("blue"))
    assert torch.equal(drawn("red", cfg_scale=0.0), drawn("blue", cfg_scale=0.0))


def test_an_unconditional_prior_is_reranked_and_a_foreign_one_refused(models, vqgan, clip):
    config = models.prior.config
    shape = {"codebook_size": 32, "height": 16, "width": 16, "layers": 1, "heads": 2, "dim": 16}
    plain = GPT(PriorConfig(**shape)).eval().requires_grad_(False)
    _, ranked, _ = parts(Models(vqgan, clip, plain), Request("red", "prior", THREE, FEW))
    assert len(ranked[0].scores) == 3
    other = GPT(PriorConfig(**shape, condition="embedding", embedding_size=7)).eval()
    assert config.embedding_size != 7
    with pytest.raises(ValueError, match="not trained with this CLIP"):
        run(Models(vqgan, clip, other), Request("red", "prior"))


def test_a_prior_of_classes_draws_candidates_of_several(models, vqgan, clip):
    """No word names one of its classes, so the seeds pick them, and CLIP looks among all."""
    torch.manual_seed(0)
    shape = {"codebook_size": 32, "height": 16, "width": 16, "layers": 1, "heads": 1, "dim": 16}
    labelled = GPT(PriorConfig(**shape, condition="class", classes=7)).eval()
    for p in labelled.requires_grad_(False).parameters():
        p.mul_(12)
    drawn = {"temperature": 0.6, "top_p": 0.9}
    asked = Request("red", "prior", DrawConfig(candidates=3, **drawn), FEW)
    written, _, _ = parts(Models(vqgan, clip, labelled, clip), asked)
    told = choose(labelled, 3, first_seed(5))
    expected = finish(sample(labelled, 3, seed=first_seed(5), condition=told, **drawn)).grid
    assert len(set(told.tolist())) > 1 and torch.equal(written[-1].grid, expected)
    assert list(run(Models(vqgan, clip, labelled, clip), replace(asked, mode="both")))


def test_going_on_with_a_clip_that_the_prior_does_not_know_is_refused(models, vqgan):
    class Wider(ColourClip):
        embedding_size = 24

    codes = torch.zeros(1, 16, 16, dtype=torch.int64)
    alone = Models(vqgan, Wider(), models.prior)
    with pytest.raises(ValueError, match="not trained with this CLIP"):
        go_on(alone, Request("red", "both", THREE, FEW), codes)
    assert len(list(go_on(alone, Request("red", "guided", THREE, FEW), codes))) == 3


def test_another_clip_ranks_and_the_own_one_conditions(models, vqgan):
    class Wider(ColourClip):
        embedding_size = 24

    picked = Wider()
    both = Models(vqgan, picked, models.prior, models.own)
    _, ranked, steps = parts(both, Request("red", "both", THREE, FEW))
    own = parts(models, Request("red", "both", THREE, FEW))[1]
    assert torch.equal(ranked[0].grids, own[0].grids) and len(steps) == 3
    assert picked.seen and not torch.equal(ranked[0].scores, own[0].scores)


def test_a_start_picture_is_kept_but_for_the_share_that_is_drawn_anew(models, vqgan):
    picture = Image.new("RGB", (40, 20), "green")
    codes = vqgan.encode(on_white(picture, 32)).indices
    for strength in (0.0, 0.25, 1.0):
        drawing = DrawConfig(candidates=4, strength=strength)
        request = Request("red", "prior", drawing, FEW, picture=picture)
        grids = parts(models, request)[1][0].grids
        kept = (grids == codes).float().mean()
        assert kept == 1 if strength == 0 else kept >= 1 - strength
    known = repainted(codes, 3, 0.25, seed=0)
    assert ((known == -1).sum((1, 2)) == 64).all() and not torch.equal(known[0], known[1])
    assert (known[known >= 0] == codes.expand(3, -1, -1)[known >= 0]).all()
    for strength in (0.0, 0.6):
        asked = Request("red", "guided", DrawConfig(strength=strength), FEW, picture=picture)
        start = from_picture(vqgan, on_white(picture, 32), strength, FEW.seed)
        assert torch.equal(parts(models, asked)[2][0].indices, start)
        assert torch.equal(start, codes) == (strength == 0)


def test_a_picture_fills_a_white_square_unstretched():
    page = np.asarray(to_image(on_white(Image.new("RGB", (40, 20), "red"), 32)))
    red = (page == (255, 0, 0)).all(2)
    assert red.sum() == 32 * 16 and red[8:24].all() and (page[:8] == 255).all()


def test_a_picture_as_prompt_needs_no_text(models, vqgan):
    blue = Image.new("RGB", (8, 8), (0, 0, 255))
    _, _, steps = parts(models, Request(" ", "guided", THREE, FEW, image_prompt=blue))
    assert len(steps) == 3
    with pytest.raises(ValueError, match="empty"):
        run(models, Request(" ", "guided"))


def test_beside_a_picture_a_text_may_say_only_what_to_go_away_from(models, vqgan):
    blue = Image.new("RGB", (8, 8), (0, 0, 255))
    request = Request("green:-0.5 | grey:0", "guided", THREE, FEW, image_prompt=blue)
    found = prompts(request, 8)
    assert [(p.text, p.weight) for p in found] == [("green", -0.5), ("picture", 1.0)]
    assert len(parts(models, request)[2]) == 3
    with pytest.raises(ValueError, match="0 or negative"):
        run(models, Request("green:-0.5", "guided"))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"candidates": 0}, "candidates is 0"),
        ({"candidates": 65}, "candidates is 65"),
        ({"strength": 1.5}, "strength"),
        ({"cfg_scale": float("nan")}, "cfg_scale"),
    ],
)
def test_settings_that_cannot_be_are_refused(values, sentence):
    with pytest.raises(ValueError, match=sentence):
        DrawConfig(**values)


def test_unknown_modes_are_refused():
    with pytest.raises(ValueError, match="choose both, prior, guided"):
        Request("red", "magic")


def test_the_png_gives_back_the_request(tmp_path):
    request = Request("红苹果 | text:-1", "guided", THREE, FEW)
    codes = torch.arange(4).view(1, 2, 2)
    made = record.settings(request, bundle="tiny", score=0.5)
    record.write(tmp_path / "a.png", Image.new("RGB", (4, 4)), made, codes)
    again, found = record.read(tmp_path / "a.png")
    assert again == request and found == made
    with Image.open(tmp_path / "a.png") as image:
        assert image.info["codes"] == "[[[0, 1], [2, 3]]]"


def said(settings: dict) -> PngInfo:
    info = PngInfo()
    info.add_text("settings", json.dumps(settings))
    return info


def good() -> dict:
    return record.settings(Request("red"), bundle="tiny")


def test_a_png_says_whether_pictures_were_given():
    picture = Image.new("RGB", (4, 4))
    made = record.settings(Request("red", picture=picture))
    assert made["picture"] is True and made["image_prompt"] is False
    made = record.settings(Request("", image_prompt=picture))
    assert made["picture"] is False and made["image_prompt"] is True


@pytest.mark.parametrize(
    ("clip", "kept"),
    [
        ("ViT-B-32", True),
        ("ViT-B-32/laion2b_s34b_b79k", True),
        ("own", True),
        ("../../etc/passwd", False),
        ("x" * 101, False),
        ("<b>", False),
        ("", False),
        ({}, False),
    ],
)
def test_what_is_no_name_of_a_clip_is_left_out(tmp_path, clip, kept):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png", pnginfo=said(good() | {"clip": clip}))
    _, made = record.read(tmp_path / "a.png")
    assert made.get("clip") == (clip if kept else None)


def test_a_png_of_the_sample_tab_is_called_one(tmp_path):
    kept = Record({"bundle": "tiny", "prior": None, "n": 1}, np.zeros((1, 2, 2), int))
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png", pnginfo=kept.info())
    with pytest.raises(ValueError, match="comes from the Sample tab: take a PNG"):
        record.read(tmp_path / "a.png")


def test_files_that_say_nothing_are_answered_with_a_sentence(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "plain.png")
    (tmp_path / "text.png").write_text("no picture")
    wrong = record.settings(Request("red"), kind="other")
    record.write(tmp_path / "wrong.png", Image.new("RGB", (4, 4)), wrong, torch.zeros(1, 1, 1))
    bad = record.settings(Request("red")) | {"steps": -1}
    record.write(tmp_path / "bad.png", Image.new("RGB", (4, 4)), bad, torch.zeros(1, 1, 1))
    Image.new("1", (3000, 3000)).save(tmp_path / "large.png", pnginfo=said(good()))
    endless = good() | {"prompt": "x" * 1001}
    Image.new("1", (4, 4)).save(tmp_path / "endless.png", pnginfo=said(endless))
    too_much = good() | {"cfg_scale": 2**63}
    Image.new("1", (4, 4)).save(tmp_path / "too_much.png", pnginfo=said(too_much))
    for name in ("plain", "text", "wrong", "bad", "none", "large", "endless", "too_much"):
        with pytest.raises(ValueError, match="does not say how it was made"):
            record.read(tmp_path / f"{name}.png")
