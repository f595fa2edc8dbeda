"""Drawing codes: distributions, seeds, known cells, guidance, windows, and what is refused."""

import math
import re
from itertools import pairwise

import pytest
import torch

from prior import checks
from prior import sample as module
from prior.model import token_nats
from prior.sample import (
    RowNoise,
    Settings,
    finish,
    logits_to_probs,
    sample,
    sample_one,
    token_log_probs,
    windows,
)

EXACT = {"dtype": torch.float32}

# --- logits -> token ------------------------------------------------------------------------------


def test_probabilities_without_truncation_are_a_softmax():
    logits = torch.randn(3, 300)
    torch.testing.assert_close(logits_to_probs(logits, 2.0), torch.softmax(logits / 2, -1))
    assert logits_to_probs(logits.bfloat16()).dtype == torch.float32


def test_top_k_keeps_the_likeliest_and_their_proportions():
    logits = torch.tensor([[0.0, 3.0, 1.0, 2.0]])
    probs = logits_to_probs(logits, top_k=2)
    expected = torch.softmax(torch.tensor([3.0, 2.0]), -1)
    torch.testing.assert_close(probs, torch.tensor([[0, expected[0], 0, expected[1]]]))


def test_top_p_keeps_the_fewest_that_reach_it():
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    for p, kept in ((0.4, 1), (0.6, 2), (0.81, 3), (0.96, 4)):
        probs = logits_to_probs(logits, top_p=p)
        assert (probs > 0).sum() == kept
        assert probs.sum() == pytest.approx(1)
    torch.testing.assert_close(probs[0, :2] / probs[0, 1], torch.tensor([5 / 3, 1.0]))


def test_top_p_counts_within_top_k():
    logits = torch.tensor([[0.4, 0.3, 0.2, 0.1]]).log()
    # Of the three likeliest the first has 0.444, the first two 0.777.
    assert (logits_to_probs(logits, top_k=3, top_p=0.75) > 0).sum() == 2
    assert (logits_to_probs(logits, top_p=0.75) > 0).sum() == 3


def test_top_p_is_right_where_many_codes_are_needed():
    """More than the 128 that are sorted at first: a flat row beside a peaked one."""
    nearly_flat = torch.linspace(0, 1e-3, 1000)
    logits = torch.stack([nearly_flat, torch.arange(1000) / 10.0])
    probs = logits_to_probs(logits, top_p=0.5)
    assert (probs[0] > 0).sum() in (499, 500, 501)
    assert (probs[1] > 0).sum() == 7  # the first n of them have 1 - e^(-n/10)
    torch.testing.assert_close(probs.sum(-1), torch.ones(2))


def test_equally_likely_codes_are_kept_together():
    """How a sort orders them depends on the rows beside: a seed would not give its picture."""
    row = torch.zeros(300)
    row[10], row[40:50] = 3.0, 2.0
    for how in ({"top_k": 4}, {"top_p": 0.1}, {"top_k": 11, "top_p": 0.3}):
        alone = logits_to_probs(row[None], **how)[0]
        assert alone.nonzero().flatten().tolist() == [10, *range(40, 50)], how
        beside = logits_to_probs(torch.stack([torch.linspace(0, 1e-3, 300), row]), **how)[1]
        assert torch.equal(alone, beside)


@pytest.mark.parametrize("temperature", [1e-7, 1e-40, 1e-300])
def test_a_temperature_next_to_zero_is_zero(temperature):
    """Divided by it, logits were infinite and the probabilities NaN."""
    logits = torch.randn(3, 9, generator=torch.Generator().manual_seed(1))
    assert torch.equal(logits_to_probs(logits, temperature, 0, 0.9), logits_to_probs(logits, 0))


def test_temperature_zero_takes_the_likeliest():
    logits = torch.randn(4, 50)
    assert torch.equal(logits_to_probs(logits, 0).argmax(-1), logits.argmax(-1))
    assert (logits_to_probs(logits, 0) > 0).sum() == 4


def test_codes_are_drawn_as_often_as_they_are_likely():
    probs = torch.tensor([0.5, 0.3, 0.2, 0.0]).expand(20000, 4)
    noise = -torch.rand(20000, 4, generator=torch.Generator().manual_seed(0)).log()
    share = torch.bincount(sample_one(probs, noise), minlength=4) / 20000
    torch.testing.assert_close(share, probs[0], atol=0.015, rtol=0)
    assert share[3] == 0


def test_noise_is_exponential_and_a_row_depends_on_its_own_seed():
    noise, three = RowNoise(7, 3, 500), torch.arange(3)
    cells = [noise.at(three, torch.full((3,), i)) for i in range(20)]
    stacked = torch.stack(cells)
    assert stacked.mean() == pytest.approx(1, abs=0.03)
    assert stacked.std() == pytest.approx(1, abs=0.03)
    assert not torch.equal(cells[0], cells[16])
    alone = RowNoise(9, 1, 500)
    skipped = alone.at(torch.tensor([0]), torch.tensor([18]))
    assert torch.equal(skipped[0], cells[18][2])  # cells may be skipped


def test_a_certain_code_is_drawn_whatever_the_chance(monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda *shape, out, **_: out.zero_())  # once in 2^24
    noise = RowNoise(0, 1, 8).at(torch.tensor([0]), torch.tensor([0]))
    assert sample_one(torch.eye(8)[5:6], noise).item() == 5


def test_noise_is_had_for_rows_at_different_cells_and_again():
    noise, all_of_it = RowNoise(7, 3, 50), RowNoise(7, 3, 50)
    wanted = all_of_it.at(torch.arange(3).repeat_interleave(70), torch.arange(70).repeat(3))
    wanted = wanted.view(3, 70, 50)
    rows = torch.tensor([2, 0, 1, 1])
    for over, cells in ((0, [3, 17, 0, 1]), (17, [17, 17, 33, 40]), (40, [69, 40, 41, 42])):
        cells = torch.tensor(cells)
        for _ in range(2):
            assert torch.equal(noise.at(rows, cells, over), wanted[rows, cells])
    assert noise.table.shape[1] < 70  # what is over was given up
    assert noise.table.is_contiguous()  # else every call copies it


# --- whole grids ----------------------------------------------------------------------------------


def test_the_same_seed_writes_the_same_grids_in_any_batch(prior):
    four = finish(sample(prior, 4, seed=10, **EXACT))
    two = finish(sample(prior, 2, seed=12, **EXACT))
    assert torch.equal(four.grid[2:], two.grid)
    torch.testing.assert_close(four.log_likelihood[2:], two.log_likelihood, atol=1e-3, rtol=0)
    assert len({tuple(g.flatten().tolist()) for g in four.grid}) == 4


def test_progress_shows_what_is_written_and_nothing_else(prior):
    steps = list(sample(prior, 2, seed=0, **EXACT))
    assert [s.done for s in steps] == list(range(1, 43)) and steps[0].total == 42
    for step in steps:
        cells = step.grid.flatten(1)
        assert step.grid.shape == (2, 6, 7) and step.grid.dtype == torch.int64
        assert (cells[:, : step.done] >= 0).all() and (cells[:, step.done :] == -1).all()
        assert torch.equal(cells[:, : step.done], steps[-1].grid.flatten(1)[:, : step.done])
        assert step.tokens_per_second > 0
    assert not steps[3].grid.is_inference() and not steps[3].grid.requires_grad


def test_the_receivers_time_does_not_count(prior, monkeypatch):
    clock = iter(range(0, 100_000, 10))
    monkeypatch.setattr(module.time, "perf_counter", lambda: float(next(clock)))
    rates = []
    for step in sample(prior, 3, seed=0, **EXACT):
        rates.append(step.tokens_per_second)
        for _ in range(50):
            next(clock)
    assert rates[-1] == pytest.approx(3 * 42 / (42 * 10))


@pytest.mark.parametrize("condition", ["start", "first"])
def test_log_likelihood_is_the_models_own(tiny, condition):
    """At temperature 1 and without truncation, whatever the settings were."""
    model = tiny(condition=condition)
    for settings in ({}, {"temperature": 0.5, "top_k": 20, "top_p": 0.9}):
        last = finish(sample(model, 3, seed=1, **settings, **EXACT))
        cells = last.grid.flatten(1)
        nats = token_nats(model(cells), cells)
        torch.testing.assert_close(last.log_likelihood, -nats.sum(1), atol=2e-3, rtol=0)


def test_every_draw_keeps_to_the_settings(prior):
    last = finish(sample(prior, 3, seed=1, top_k=3, **EXACT))
    cells = last.grid.flatten(1)
    third = prior(cells).topk(3, -1).values[..., -1]
    chosen = prior(cells).gather(-1, cells[..., None])[..., 0]
    assert (chosen >= third - 1e-4).all()
    greedy = finish(sample(prior, 2, seed=5, temperature=0, **EXACT)).grid.flatten(1)
    assert torch.equal(greedy, prior(greedy).argmax(-1))


def test_a_text_without_prefix_starts_anywhere(tiny):
    grids = finish(sample(tiny(condition="first"), 40, seed=0, top_k=2, **EXACT)).grid
    assert len(grids[:, 0, 0].unique()) > 15


@pytest.mark.parametrize("ahead", [1, 4])
def test_windows_one_cell_high_start_anywhere_too(tiny, ahead):
    """A new one begins in each row, and nothing precedes its first code."""
    model = tiny(condition="first", height=1, width=7)
    steps = sample(model, 40, seed=0, temperature=0, size=(2, 7), ahead=ahead, **EXACT)
    grids = finish(steps).grid
    assert len(grids[:, 0, 0].unique()) > 15 and len(grids[:, 1, 0].unique()) > 15


# --- known cells ----------------------------------------------------------------------------------


def masks():
    free = torch.full((6, 7), -1)
    upper, left, lower, holes, every = (free.clone() for _ in range(5))
    upper[:3], left[:, :4], lower[4:], every[:] = 0, 0, 0, 0
    holes[1, 2:6], holes[3, 0], holes[5, 6] = 0, 0, 0
    return {"upper": upper, "left": left, "lower": lower, "holes": holes, "every": every}


@pytest.mark.parametrize("name", masks())
def test_known_cells_stay_and_change_nothing_else(prior, name):
    """Cells known to be what would have been drawn: the grid and its likelihood are the same."""
    free = finish(sample(prior, 3, seed=4, **EXACT))
    known = torch.where(masks()[name] < 0, -1, free.grid)
    last = finish(sample(prior, 3, seed=4, known=known, **EXACT))
    assert torch.equal(last.grid, free.grid)
    torch.testing.assert_close(last.log_likelihood, free.log_likelihood, atol=1e-3, rtol=0)


def test_known_cells_are_kept_and_read(prior):
    code = 0  # -1 is what is free
    known = torch.where(masks()["upper"] < 0, -1, code)[None]
    a = finish(sample(prior, 3, seed=4, known=known, **EXACT))
    assert (a.grid[:, :3] == code).all() and (a.grid[:, 3:] >= 0).all()
    cells = a.grid.flatten(1)
    likelihood = token_log_probs(prior(cells), cells).sum(1)
    torch.testing.assert_close(a.log_likelihood, likelihood, atol=2e-3, rtol=0)
    b = finish(sample(prior, 3, seed=4, **EXACT))
    assert not torch.equal(a.grid[:, 3:], b.grid[:, 3:])


def test_known_cells_are_shown_from_the_start(prior):
    known = torch.where(masks()["lower"] < 0, -1, 11)[None]
    first = next(sample(prior, 2, seed=4, known=known, **EXACT))
    assert (first.grid[:, 4:] == 11).all() and (first.grid[:, 0, 1:] == -1).all()


def test_rows_may_know_different_cells(prior):
    known = torch.full((2, 6, 7), -1)
    known[0, 0, :], known[1, 2, 3] = 5, 6
    last = finish(sample(prior, 2, seed=4, known=known, **EXACT))
    assert (last.grid[0, 0] == 5).all() and last.grid[1, 2, 3] == 6
    assert not (last.grid[1, 0] == 5).all()


def test_known_runs_are_read_at_once(prior):
    known = torch.where(masks()["left"] < 0, -1, 3)[None]
    done = [s.done for s in sample(prior, 1, seed=0, known=known, **EXACT)]
    assert done[:5] == [4, 5, 6, 11, 12] or done[:5] == [4, 5, 6, 7, 11]
    assert len(done) < 42 - 3 * 5


# --- conditions and guidance ----------------------------------------------------------------------


def test_guidance_moves_logits_away_from_the_free_ones(tiny):
    model = tiny(condition="class", classes=3)
    condition = torch.tensor([0, 1, 2, 0])
    for scale in (0.0, 1.0, 3.0):
        last = finish(
            sample(model, 4, seed=2, temperature=0, cfg_scale=scale, condition=condition, **EXACT)
        )
        cells = last.grid.flatten(1)
        plain, free = model(cells, condition), model(cells)
        assert torch.equal(cells, (free + scale * (plain - free)).argmax(-1))
        nats = token_nats(plain, cells).sum(1)
        torch.testing.assert_close(last.log_likelihood, -nats, atol=2e-3, rtol=0)


def test_no_condition_is_the_free_prior(tiny):
    model = tiny(condition="embedding", embedding_size=5)
    free = finish(sample(model, 1, seed=2, **EXACT))
    guided = finish(sample(model, 1, seed=2, condition=torch.randn(1, 5), **EXACT))
    assert not torch.equal(free.grid, guided.grid)
    cells = free.grid.flatten(1)
    nats = token_nats(model(cells), cells).sum(1)
    torch.testing.assert_close(free.log_likelihood, -nats, atol=2e-3, rtol=0)


def test_conditions_may_be_of_any_whole_or_floating_type(tiny):
    """As `check_condition` takes them: NumPy's floats are float64, a file's ids may be int16."""
    embeddings, ids = torch.randn(2, 5, generator=torch.Generator().manual_seed(0)), [1, 2]
    for model, given, types in (
        (tiny(condition="embedding", embedding_size=5), embeddings.half(), ("double", "float")),
        (tiny(condition="class", classes=3), torch.tensor(ids), ("short", "int", "byte")),
    ):
        wanted = finish(sample(model, 2, seed=2, condition=given, **EXACT))
        for name in types:
            found = finish(sample(model, 2, seed=2, condition=getattr(given, name)(), **EXACT))
            assert torch.equal(found.grid, wanted.grid), name


# --- larger than trained --------------------------------------------------------------------------


def test_one_window_where_the_grid_is_as_trained():
    assert windows((6, 7), (6, 7)) == [(0, 0, i) for i in range(42)]


@pytest.mark.parametrize("size", [(24, 24), (32, 16), (16, 40), (17, 19)])
def test_windows_are_the_papers(size):
    """Cell in the middle of a window, or nearer to its edge where the grid ends (taming)."""
    plan = windows(size, (16, 16), stride=1)

    def local(i, length):
        return i if i <= 8 else 16 - (length - i) if length - i < 8 else 8

    for cell, (top, left, place) in enumerate(plan):
        i, j = divmod(cell, size[1])
        assert (i - top, j - left) == (local(i, size[0]), local(j, size[1]))
        assert place == (i - top) * 16 + j - left


@pytest.mark.parametrize("stride", [2, 4, 8, 50])
def test_a_stride_saves_windows_and_keeps_cells_inside(stride):
    plan = windows((24, 40), (16, 16), stride)
    for cell, (top, left, place) in enumerate(plan):
        i, j = divmod(cell, 40)
        assert 0 <= top <= 8 and 0 <= left <= 24
        assert 0 <= i - top < 16 and 0 <= j - left < 16
        assert place == (i - top) * 16 + j - left
    row = [left for _, left, _ in plan[:40]]
    changes = sum(a != b for a, b in pairwise(row))
    assert changes <= -(-24 // min(stride, 16)) + 1
    paper = [left for _, left, _ in windows((24, 40), (16, 16), 1)[:40]]
    assert changes < sum(a != b for a, b in pairwise(paper))


@pytest.mark.parametrize(("size", "stride"), [((9, 10), 1), ((9, 7), 4), ((6, 12), 3)])
def test_large_grids_follow_the_windows(prior, size, stride):
    """Greedy, so each cell can be computed anew from the window it belongs to."""
    last = finish(sample(prior, 2, seed=0, temperature=0, size=size, stride=stride, **EXACT))
    grid, likelihood = last.grid, torch.zeros(2)
    assert grid.shape == (2, *size) and last.total == size[0] * size[1]
    for cell, (top, left, place) in enumerate(windows(size, (6, 7), stride)):
        i, j = divmod(cell, size[1])
        text = grid[:, top : top + 6, left : left + 7].flatten(1)
        logits = prior(text)[:, place]
        assert torch.equal(grid[:, i, j], logits.argmax(-1)), (i, j)
        likelihood += token_log_probs(logits, grid[:, i, j])
    torch.testing.assert_close(last.log_likelihood, likelihood, atol=2e-3, rtol=0)


def test_known_cells_hold_in_large_grids(prior):
    free = finish(sample(prior, 2, seed=3, size=(8, 10), stride=2, **EXACT))
    known = free.grid.clone()
    known[:, 3:6, 2:8] = -1
    last = finish(sample(prior, 2, seed=3, size=(8, 10), stride=2, known=known, **EXACT))
    assert torch.equal(last.grid, free.grid)
    torch.testing.assert_close(last.log_likelihood, free.log_likelihood, atol=2e-3, rtol=0)


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"n": 0}, "n is 0"),
        ({"n": 2.5}, "n is 2.5"),
        ({"n": True}, "n is True"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**63}, "smaller than"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"temperature": -0.1}, "temperature is -0.1"),
        ({"temperature": math.inf}, "temperature is inf"),
        ({"top_k": 49}, "top_k is 49: this codebook has 48"),
        ({"top_k": -1}, "top_k is -1"),
        ({"top_k": 1.5}, "top_k is 1.5"),
        ({"top_k": math.nan}, "top_k is nan"),
        ({"top_p": 0}, "top_p is 0"),
        ({"top_p": 1.1}, "top_p is 1.1"),
        ({"top_p": math.nan}, "top_p is nan"),
        ({"cfg_scale": math.nan}, "cfg_scale is nan"),
        ({"cfg_scale": 2.0}, "guidance needs a condition"),
        ({"condition": torch.zeros(2, dtype=torch.int64)}, "unconditional"),
        ({"size": (5, 7)}, "size is 5 x 7"),
        ({"size": (6, 6)}, "size is 6 x 6"),
        ({"size": (200, 200)}, "16384 codes are the most"),
        ({"stride": 0}, "stride is 0"),
        ({"known": torch.zeros(2, 6, 7)}, "known cells are torch.float32"),
        ({"known": torch.zeros(3, 6, 7, dtype=torch.int64)}, r"shape \(2, 6, 7\)"),
        ({"known": torch.zeros(2, 7, 6, dtype=torch.int64)}, r"shape \(2, 6, 7\)"),
        ({"known": torch.full((2, 6, 7), 48)}, "to 48: codes are 0 to 47"),
        ({"known": torch.full((2, 6, 7), -2)}, "from -2"),
        ({"n": 10**9}, "ask for [0-9]+ or fewer"),
    ],
)
def test_bad_input_is_a_sentence_at_once(prior, change, named):
    with pytest.raises(ValueError, match=named):
        sample(prior, **{"n": 2, "seed": 0, **change})


def test_settings_have_defaults_that_change_nothing():
    assert Settings() == Settings(temperature=1.0, top_k=0, top_p=1.0, cfg_scale=1.0)


def test_memory_is_asked_of_the_system(prior, monkeypatch):
    monkeypatch.setattr(checks, "free_memory", lambda device: 10**6)
    with pytest.raises(ValueError, match=r"0\.0 GiB are free|ask for"):
        sample(prior, 1000, seed=0)
    sample(prior, 1, seed=0)
    monkeypatch.setattr(checks, "free_memory", lambda device: None)
    sample(prior, 1000, seed=0)


def test_what_the_memorys_refusal_asks_for_fits(tiny, monkeypatch):
    """Guided grids take two rows each, and are counted as grids."""
    monkeypatch.setattr(checks, "free_memory", lambda device: 55 * 10**6)
    for copies in (1, 2):
        with pytest.raises(ValueError, match=r"^1000 grids at once") as refused:
            checks.check_memory(tiny(heads=4), 1000, copies)
        most = int(re.search(r"ask for (\d+) or fewer", str(refused.value))[1])
        assert most > 100
        checks.check_memory(tiny(heads=4), most, copies)
        with pytest.raises(ValueError, match="ask for"):
            checks.check_memory(tiny(heads=4), most + 5, copies)


def test_shared_keys_and_values_take_less_memory(tiny, monkeypatch):
    """Of 1000 rows the tables take 32 MB with four heads of each, 16 with one, all else 33."""
    monkeypatch.setattr(checks, "free_memory", lambda device: 55 * 10**6)
    with pytest.raises(ValueError, match="ask for"):
        checks.check_memory(tiny(heads=4), 1000)
    checks.check_memory(tiny(heads=4, kv_heads=1), 1000)
