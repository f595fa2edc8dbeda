"""The loop: it gets where it should, stays where codes live, stops and goes on, repeats itself."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from clip_guidance.guide import (
    METHODS,
    NOISE,
    NOISE_STEPS,
    OPTIMIZERS,
    PICTURE,
    PICTURE_STEPS,
    Belief,
    GuidanceConfig,
    decode,
    from_picture,
    guide,
    nearness,
    noise,
    spherical_distance,
    total_variation,
)
from clip_guidance.prompts import Prompt, parse, targets
from clip_guidance.rerank import rank
from prior.likelihood import bits_per_cell, log_probs
from tests.fakes import ColourClip
from vqgan.model import VQGAN

FEW = GuidanceConfig(steps=6, cutouts=3)


@pytest.fixture
def clip() -> ColourClip:
    return ColourClip()


def run(vqgan, clip, config=FEW, prompt="red", start=None):
    return list(guide(vqgan, clip, prompt, config, start=start))


def rate(state):
    """Learning rate of the last step."""
    return state.moments["param_groups"][0]["lr"]


def test_spherical_distance_by_hand():
    a, b = torch.tensor([1.0, 0, 0]), torch.tensor([0.0, 1, 0])
    assert spherical_distance(a, a) == 0
    assert spherical_distance(a, b).item() == pytest.approx((math.pi / 2) ** 2 / 2, rel=1e-5)
    angle = torch.tensor(0.3)
    c = torch.stack([angle.cos(), angle.sin(), torch.tensor(0.0)])
    assert spherical_distance(a, c).item() == pytest.approx(0.3**2 / 2, rel=1e-4)


def test_the_gradient_is_finite_where_it_has_arrived_and_opposite():
    for sign in (1, -1):
        a = torch.tensor([1.0, 0.0], requires_grad=True)
        spherical_distance(a, sign * torch.tensor([1.0, 0.0])).backward()
        assert a.grad.isfinite().all()


def test_total_variation_by_hand():
    image = torch.zeros(1, 3, 2, 2)
    image[..., 1] = 2.0
    assert total_variation(image) == 2.0


@pytest.mark.parametrize("method", METHODS)
def test_the_picture_comes_nearer_to_the_prompt(vqgan, clip, method):
    lr = 0.1 if method == "latents" else 1.0
    steps = run(vqgan, clip, GuidanceConfig(steps=25, cutouts=4, lr=lr, method=method))
    assert [s.step for s in steps] == list(range(1, 26))
    assert steps[-1].score > steps[0].score + 0.05
    assert steps[-1].losses["distance"] < steps[0].losses["distance"]
    assert not torch.equal(steps[-1].image, steps[0].image)
    last = steps[-1]
    assert torch.allclose(vqgan.decode_indices(last.indices).clamp(-1, 1), last.image, atol=0.05)


def test_clip_sees_what_a_screen_can_show_and_nothing_gets_stuck_beyond_it(vqgan, clip):
    vqgan.decoder.conv_out.bias.data += 5  # brighter than white everywhere
    look, views = clip.encode_image, []
    clip.encode_image = lambda images: views.append(images.detach()) or look(images)
    first, second = run(vqgan, clip, replace(FEW, steps=2), "blue")
    whole = views[-1][0]  # the first view is of the whole picture, unaltered
    assert torch.allclose(whole, torch.ones_like(whole), atol=1e-5)
    assert not torch.equal(first.state.variable, first.state.origin)
    assert not torch.equal(first.state.variable, second.state.variable)


def test_nearness_by_hand(tiny_config):
    """Codes of different lengths: 10 times how much nearer one is than the other, squared."""
    model = VQGAN(replace(tiny_config, quantizer="euclidean", codebook_size=2, embed_dim=2))
    model.quantize.embedding.weight.data = torch.tensor([[1.0, 0.0], [0.0, 3.0]])
    with torch.no_grad():
        here, there = nearness(model, torch.tensor([1.0, 1.0]).view(1, 2, 1, 1)).flatten().tolist()
    assert here - there == pytest.approx(10 * (5 - 1))


def test_the_pull_back_to_the_start_fades(vqgan, clip):
    first, second = run(vqgan, clip, replace(FEW, steps=2, lr=0.5, z_l2=8.0))
    assert first.losses["z_l2"] == 0
    codes = vqgan.quantize.encode(first.state.variable).quantized
    apart = (codes - first.state.origin).square().mean()
    assert second.losses["z_l2"] == pytest.approx(8 / 2 * float(apart), rel=1e-3) and apart > 0


def test_a_negative_weight_leads_away(vqgan, clip):
    config = GuidanceConfig(steps=15, cutouts=4)
    away = run(vqgan, clip, config, "white | red:-1")
    towards = run(vqgan, clip, config, "white | red:0.9")
    red = clip.encode_text(["red"])[0]
    ends = [float(clip.encode_image(steps[-1].image)[0] @ red) for steps in (away, towards)]
    assert ends[0] < ends[1]


def test_same_seed_same_picture_and_another_seed_another(vqgan, clip):
    first, again = run(vqgan, clip), run(vqgan, clip)
    assert torch.equal(first[-1].image, again[-1].image)
    assert [s.losses for s in first] == [s.losses for s in again]
    assert not torch.equal(first[-1].image, run(vqgan, clip, replace(FEW, seed=1))[-1].image)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("method", METHODS)
def test_going_on_equals_not_having_stopped(vqgan, clip, method, optimizer):
    config = replace(FEW, method=method, optimizer=optimizer, ema=0.5, z_l2=0.1, tv=0.1)
    whole = run(vqgan, clip, config)
    steps = guide(vqgan, clip, "red", config, start=None)
    for _ in range(3):
        stopped = next(steps).state
    next(steps)  # what the run does later does not reach into the state
    rest = run(vqgan, clip, config, start=stopped)
    assert [s.step for s in rest] == [4, 5, 6]
    assert torch.equal(rest[-1].image, whole[-1].image)
    assert [s.losses for s in rest] == [s.losses for s in whole[3:]]


def test_noise_takes_more_steps_than_a_picture_where_nobody_sets_a_number(vqgan, clip):
    usual = GuidanceConfig(cutouts=1)
    drawn = run(vqgan, clip, usual, start=noise(vqgan, 0))
    assert len(drawn) == PICTURE_STEPS and not run(vqgan, clip, usual, start=drawn[-1].state)
    done = run(vqgan, clip, usual)
    assert len(done) == NOISE_STEPS and len(run(vqgan, clip, usual, start=done[-3].state)) == 2


def test_a_finished_run_goes_on_with_more_steps(vqgan, clip):
    done = run(vqgan, clip)[-1].state
    assert run(vqgan, clip, start=done) == []
    assert [s.step for s in run(vqgan, clip, replace(FEW, steps=8), start=done)] == [7, 8]


@pytest.mark.parametrize("after", OPTIMIZERS)
def test_a_run_goes_on_with_another_optimiser(vqgan, clip, after):
    """As if it began there: its first step is that of a fresh one, with no moments of the old."""
    for before in OPTIMIZERS.keys() - {after}:
        done = run(vqgan, clip, replace(FEW, steps=3, optimizer=before))[-1].state
        config = replace(FEW, steps=4, optimizer=after)
        step = run(vqgan, clip, config, start=done)[0]
        fresh = run(vqgan, clip, config, start=replace(done, moments=None, optimizer=after))[0]
        assert step.state.optimizer == after
        assert torch.equal(step.state.variable, fresh.state.variable)


def test_a_run_goes_on_with_other_settings(vqgan, clip):
    done = run(vqgan, clip, replace(FEW, steps=3, lr=0.5))[-1].state

    def end(**values):
        clip.seen.clear()
        return run(vqgan, clip, replace(FEW, lr=0.5, **values), start=done)[-1]

    plain = end()
    assert end().losses == plain.losses, "a state is not used up"
    for name, value in {"tv": 3.0, "z_l2": 50.0}.items():
        assert end(**{name: value}).losses[name] > 0 == plain.losses[name]
    end(cutouts=7)
    assert (7, 3, clip.size, clip.size) in clip.seen and (
        3,
        3,
        clip.size,
        clip.size,
    ) not in clip.seen
    chosen, config = FEW.rate(5, 0.02), replace(FEW, lr=0.02)
    assert rate(run(vqgan, clip, config, start=done)[-1].state) == chosen
    assert rate(run(vqgan, clip, FEW, start=done)[-1].state) == FEW.rate(5, NOISE)
    picture = run(vqgan, clip, replace(FEW, steps=3, lr=0.5), start=noise(vqgan, 0))[-1].state
    assert rate(run(vqgan, clip, FEW, start=picture)[-1].state) == FEW.rate(5, PICTURE)


def test_an_average_that_is_turned_on_or_changed_on_the_way_is_one(tiny_config, clip):
    """Weights that add up to 1, on a codebook that is no sphere: there a wrong sum would show."""
    torch.manual_seed(0)
    euclidean = VQGAN(replace(tiny_config, quantizer="euclidean")).eval().requires_grad_(False)
    for before in (0.0, 0.9):
        first = run(euclidean, clip, replace(FEW, steps=2, ema=before))
        rest = run(euclidean, clip, replace(FEW, steps=4, ema=0.5), start=first[-1].state)
        a, b, c, d = (step.state.variable for step in (*first, *rest))
        old = b if not before else (0.9 * a + b) / 1.9
        weight = 1.0 if not before else 0.19
        wanted = (0.25 * weight * old + 0.25 * c + 0.5 * d) / (0.25 * weight + 0.75)
        state = rest[-1].state
        assert torch.allclose(state.average / state.weight, wanted, atol=1e-5)
        shown = euclidean.quantize.encode(wanted).quantized
        assert torch.allclose(decode(euclidean, shown).clamp(-1, 1), rest[-1].image, atol=0.05)


def test_latents_stay_on_the_sphere_or_in_the_box(tiny_config, vqgan, clip):
    config = replace(FEW, lr=2.0)
    for step in run(vqgan, clip, config):
        lengths = step.state.variable.norm(dim=1)
        assert torch.allclose(lengths, torch.ones_like(lengths), atol=1e-5)
    torch.manual_seed(0)
    euclidean = VQGAN(replace(tiny_config, quantizer="euclidean")).eval().requires_grad_(False)
    codes = euclidean.quantize.codebook()
    low, high = codes.amin(0).view(1, -1, 1, 1), codes.amax(0).view(1, -1, 1, 1)
    for step in run(euclidean, clip, config):
        assert (step.state.variable >= low).all() and (step.state.variable <= high).all()


def test_codes_that_are_no_nearest_neighbours_need_logits(tiny_config, clip):
    torch.manual_seed(0)
    gumbel = VQGAN(replace(tiny_config, quantizer="gumbel")).eval().requires_grad_(False)
    with pytest.raises(ValueError, match="choose method logits"):
        run(gumbel, clip)
    assert len(run(gumbel, clip, replace(FEW, method="logits"))) == 6


def test_the_first_picture_is_the_start(vqgan, clip):
    start = noise(vqgan, seed=3)
    for method in METHODS:
        first = run(vqgan, clip, replace(FEW, steps=1, method=method), start=start)[0]
        assert torch.equal(first.indices, start)


def test_a_picture_to_start_from_keeps_less_with_more_strength(vqgan):
    image = F.interpolate(torch.rand(1, 3, 4, 4) * 2 - 1, 32)
    codes = vqgan.encode(image).indices
    same = [
        float((from_picture(vqgan, image, s, seed=0) == codes).float().mean()) for s in (0, 0.3, 1)
    ]
    assert same[0] == 1 and same[0] > same[1] > same[2]
    with pytest.raises(ValueError, match="strength"):
        from_picture(vqgan, image, 1.5, seed=0)


def test_only_what_is_optimised_gets_a_gradient_and_the_models_stay(vqgan, clip):
    before = {k: v.clone() for k, v in vqgan.state_dict().items()}
    run(vqgan, clip)
    assert all(torch.equal(v, before[k]) for k, v in vqgan.state_dict().items())
    assert all(p.grad is None and not p.requires_grad for p in vqgan.parameters())


def test_the_extra_losses_pull(vqgan, clip):
    def end(**values):
        return run(vqgan, clip, GuidanceConfig(steps=12, cutouts=3, **values))[-1]

    free = end()
    held = end(z_l2=1000.0)
    origin = free.state.origin
    moved = [(s.state.variable - origin).square().mean() for s in (free, held)]
    assert moved[1] < moved[0]
    assert total_variation(end(tv=10.0).image) < total_variation(free.image)
    assert not torch.equal(end(ema=0.9).image, free.image)


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_score_codes_and_picture_of_a_step_belong_together(vqgan, clip, ema):
    wanted = targets(clip, parse("red"))
    for step in run(vqgan, clip, GuidanceConfig(steps=4, cutouts=3, ema=ema, lr=0.5)):
        own = rank(vqgan, clip, step.indices, wanted)
        assert torch.allclose(own.images, step.image, atol=0.05)
        assert step.score == pytest.approx(float(own.scores[0]), abs=0.01)


def test_the_learning_rate_falls_to_a_tenth():
    config = GuidanceConfig(steps=10)
    rates = [config.rate(i, 0.5) for i in range(15)]
    assert rates[0] == 0.5 and rates[5] == pytest.approx(0.275) and rates[10:] == [0.05] * 5
    assert rates == sorted(rates, reverse=True)


def test_a_picture_is_treated_more_gently_than_noise(vqgan, clip):
    from_noise = run(vqgan, clip, replace(FEW, steps=1))[0].state
    gentle = run(vqgan, clip, replace(FEW, steps=1), start=noise(vqgan, 0))[0].state
    assert rate(from_noise) > 2 * rate(gentle)
    assert replace(FEW, method="logits").highest(True) == 5 * FEW.highest(True)
    chosen = replace(FEW, steps=1, lr=0.7)
    assert rate(run(vqgan, clip, chosen, start=noise(vqgan, 0))[0].state) == 0.7


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"steps": True}, "steps is True"),
        ({"steps": -3}, "steps is -3"),
        ({"steps": 1.5}, "whole number"),
        ({"optimizer": "adamw2"}, "choose adam"),
        ({"method": "magic"}, "choose latents, logits"),
        ({"lr": -0.1}, "lr is"),
        ({"lr": float("nan")}, "lr is"),
        ({"ema": 1.0}, "ema is"),
        ({"tv": -1.0}, "tv is"),
        ({"z_l2": float("inf")}, "z_l2 is inf"),
        ({"surprise": float("nan")}, "surprise is nan"),
        ({"z_l2": 1e39}, "z_l2 is 1e.39: it must lie in 0 to 1,000,000"),  # was a picture of NaN
        ({"cutouts": 0}, "cutouts are 0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_settings_that_cannot_be_are_refused(values, sentence):
    with pytest.raises(ValueError, match=sentence):
        GuidanceConfig(**values)


def test_what_cannot_start_is_refused_at_once(vqgan, clip):
    state = run(vqgan, clip)[0].state
    with pytest.raises(ValueError, match="logits cannot go on"):
        guide(vqgan, clip, "red", replace(FEW, method="logits"), start=state)
    with pytest.raises(ValueError, match="expected codes"):
        guide(vqgan, clip, "red", FEW, start=torch.zeros(1, 4, 2, 2))
    with pytest.raises(ValueError, match="empty"):
        guide(vqgan, clip, "", FEW, start=None)
    with pytest.raises(ValueError, match="negative"):
        guide(vqgan, clip, [Prompt("red", -1)], FEW, start=None)


def test_surprise_by_hand(vqgan, prior):
    """Certain codes cost what the prior says; an even mixture costs the mean over all codes."""
    codes = noise(vqgan, 3)
    belief = Belief(prior, torch.ones(1, prior.config.embedding_size))
    likely = log_probs(prior, codes, belief.condition)
    certain = 1000.0 * F.one_hot(codes, 32).permute(0, 3, 1, 2)
    wanted = bits_per_cell(prior, codes, belief.condition).mean()
    assert belief.surprise(certain, codes) == pytest.approx(float(wanted), rel=1e-3)
    even = -likely.mean() / math.log(2)
    assert belief.surprise(torch.zeros_like(certain), codes) == pytest.approx(float(even), rel=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_a_prior_keeps_codes_likely_and_without_it_nothing_changes(vqgan, clip, prior, method):
    for p in prior.parameters():
        if p.ndim == 2:
            p.data *= 8  # so that it prefers some codes to others
    lr = 0.1 if method == "latents" else 1.0
    config = GuidanceConfig(steps=8, cutouts=3, lr=lr, method=method, surprise=0.0)
    start, belief = noise(vqgan, 3), Belief(prior)

    def end(weight, belief):
        settings = replace(config, surprise=weight)
        return list(guide(vqgan, clip, "red", settings, start=start, belief=belief))[-1]

    free, off, pulled = end(1.0, None), end(0.0, belief), end(1.0, belief)
    assert torch.equal(free.indices, off.indices) and "surprise" not in free.losses
    assert pulled.losses["surprise"] > 0
    bits = [float(bits_per_cell(prior, step.indices).mean()) for step in (free, pulled)]
    assert bits[1] < bits[0] - 0.1
