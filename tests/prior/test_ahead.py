"""Guessing ahead: the same grids in fewer passes."""

import pytest
import torch

from prior.ahead import count_right, fill, goes_on, look_ahead, reach, runs
from prior.reader import Reader, windows
from prior.sample import finish, sample

EXACT = {"dtype": torch.float32}


def test_a_pass_counts_free_cells_and_ends_with_its_window():
    plan = windows((2, 6), (2, 6))
    free = [True] * 12
    assert [reach(plan, free, 0, n) for n in (1, 2, 5, 50)] == [1, 2, 5, 12]
    free[1:4] = [False] * 3
    assert [reach(plan, free, 0, n) for n in (1, 2, 3)] == [1, 5, 6]
    assert reach(plan, free, 2, 1) == 5  # from a known cell to the first free one
    plan = windows((2, 6), (2, 3), stride=2)  # windows move within a row
    ends = [cell for cell in range(12) if not goes_on(plan, cell)]
    assert ends[-1] == 11 and len(ends) > 2
    assert reach(plan, [True] * 12, 0, 50) == ends[0] + 1


def test_runs_are_the_cells_of_one_window():
    plan = windows((3, 6), (2, 3), stride=2)
    found = runs(plan)
    assert [cell for run in found for cell in range(*run)] == list(range(18))
    for start, end in found:
        assert {plan[cell][:2] for cell in range(start, end)} == {plan[start][:2]}
        assert [plan[cell][2] - plan[start][2] for cell in range(start, end)] == [
            *range(end - start)
        ]
    assert runs(windows((3, 6), (3, 6))) == [(0, 18)]


def test_guesses_are_the_codes_above_or_the_rows_latest():
    guesses = torch.tensor([[3, 4, -1, -1, -1, 9, -1], [5, 6, -1, 7, -1, -1, -1]])
    found = fill(guesses, torch.tensor([[2, 3, 4, 5], [2, 3, 4, 5]]), width=3)
    assert found.tolist() == [[4, 3, 4, 9], [6, 7, 6, 6]]  # 5 of row 1: what is above was free
    assert guesses.tolist() == [[3, 4, 4, 3, 4, 9, -1], [5, 6, 6, 7, 6, 6, -1]]
    start = torch.full((1, 2), -1)
    assert fill(start, torch.tensor([[0, 1]]), width=7).tolist() == start.tolist() == [[0, 0]]


def test_each_row_is_filled_where_it_stands():
    guesses = torch.tensor([[1, 2, 3, 4, -1, -1], [5, 6, -1, -1, -1, -1]])
    assert fill(guesses, torch.tensor([[4, 5], [2, 3]]), width=3).tolist() == [[2, 3], [6, 5]]
    assert guesses.tolist() == [[1, 2, 3, 4, 2, 3], [5, 6, 6, 5, -1, -1]]


def test_cells_are_right_up_to_the_first_wrong_guess_of_their_row():
    drawn = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])
    guesses = drawn[:, :3].clone()
    assert count_right(guesses, drawn).tolist() == [4, 4]
    guesses[1, 1] = 0  # what follows was read after a wrong one, and does not count
    assert count_right(guesses, drawn).tolist() == [4, 2]
    guesses[0, 0] = 0
    assert count_right(guesses, drawn).tolist() == [1, 2]
    assert count_right(guesses[:, :0], drawn[:, :1]).tolist() == [1, 1]


def test_the_more_rows_the_fewer_cells_ahead():
    for dtype, most in ((torch.float32, 12), (torch.bfloat16, 16), (torch.int8, 16)):
        found = [look_ahead(rows, dtype) for rows in range(1, 200)]
        assert found[0] == most and found[-1] == 1 and found == sorted(found, reverse=True)


CASES = {
    "free": {},
    "truncated": {"temperature": 0.3, "top_k": 20, "top_p": 0.9},
    "large": {"size": (8, 12), "stride": 3},
    "known": {"known": torch.where(torch.arange(42).view(1, 6, 7) % 5 < 2, 7, -1)},
}


@pytest.mark.parametrize("ahead", [3, 60])
@pytest.mark.parametrize("rows", [1, 2, 5])
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("kind", [{}, {"condition": "first"}, {"heads": 4, "kv_heads": 1}])
def test_the_grids_are_those_written_code_by_code(tiny, kind, name, rows, ahead):
    model, settings = tiny(**kind), {"seed": 3, **EXACT, **CASES[name]}
    slow = list(sample(model, rows, ahead=1, **settings))
    quick = list(sample(model, rows, ahead=ahead, **settings))
    shown = {step.done: step for step in slow}
    for step in quick:
        if step.done in shown:
            assert torch.equal(step.grid, shown[step.done].grid)
    free = 42 if "known" not in settings else int((settings["known"] < 0).sum())
    assert len(quick) >= free  # each drawn code can be seen arriving
    last = quick[-1].log_likelihood
    torch.testing.assert_close(last, slow[-1].log_likelihood, atol=2e-3, rtol=0)


def test_guidance_with_guesses(tiny):
    model, condition = tiny(condition="class", classes=3), torch.tensor([2, 0])
    settings = {"seed": 1, "condition": condition, "cfg_scale": 2.0, **EXACT}
    slow, quick = (finish(sample(model, 2, ahead=n, **settings)) for n in (1, 9))
    assert torch.equal(slow.grid, quick.grid)


@pytest.mark.parametrize("ahead", [1, 4, 9])
@pytest.mark.parametrize("shape", [{}, {"heads": 4, "kv_heads": 2}])
def test_a_row_is_the_same_in_any_batch(tiny, shape, ahead):
    """Rows are at different places then, and wait for each other at the end."""
    prior = tiny(**shape)
    three = finish(sample(prior, 3, seed=20, ahead=ahead, **EXACT))
    for row in range(3):
        one = finish(sample(prior, 1, seed=20 + row, ahead=ahead, **EXACT))
        assert torch.equal(one.grid[0], three.grid[row])
        torch.testing.assert_close(
            one.log_likelihood[0], three.log_likelihood[row], atol=2e-3, rtol=0
        )


def test_rows_that_know_different_cells(prior):
    known = torch.full((3, 6, 7), -1)
    known[0, :3], known[1, 2, 3:], known[2, 5] = 5, 6, 7
    slow, quick = (finish(sample(prior, 3, seed=4, known=known, ahead=n, **EXACT)) for n in (1, 5))
    assert torch.equal(slow.grid, quick.grid)
    assert torch.equal(quick.grid[known >= 0], known[known >= 0])
    torch.testing.assert_close(slow.log_likelihood, quick.log_likelihood, atol=2e-3, rtol=0)


def test_rows_do_not_wait_for_each_other(prior, monkeypatch):
    """Together they take as many passes as the slowest alone."""
    passes, read = [], Reader._read
    monkeypatch.setattr(Reader, "_read", lambda *args: passes.append(0) or read(*args))

    def count(rows, seed):
        passes.clear()
        finish(sample(prior, rows, seed=seed, ahead=6, **EXACT))
        return len(passes)

    alone = [count(1, seed) for seed in range(12)]
    assert count(12, 0) <= max(alone) + 1


FOLLOWED = {
    "free": {},
    "guided": {"condition": torch.arange(8) % 3, "cfg_scale": 2.0},
    "sketched": {"shifts": 1, "cfg_scale": 1.5},  # a sketch for each row
    "known": {"known": torch.where(torch.arange(8 * 42).view(8, 6, 7) % 5 < 2, 7, -1)},
}


@pytest.mark.parametrize("name", FOLLOWED)
def test_rows_that_are_through_are_left_behind(tiny, monkeypatch, name):
    """The others are read without them, and become what they would have been."""
    model, kept, asked, keep = tiny(condition="class", classes=3), [], [], Reader.keep
    monkeypatch.setattr(
        Reader, "keep", lambda self, rows: kept.append(len(rows)) or keep(self, rows)
    )
    settings = {"seed": 5, **EXACT, **FOLLOWED[name]}
    if "shifts" in settings:
        source = torch.Generator().manual_seed(2)
        settings["shifts"] = torch.randn(8, 42, 3, 16, generator=source) / 4
    slow = finish(sample(model, 8, ahead=1, **settings))
    assert not kept
    monkeypatch.setattr("prior.sample.look_ahead", lambda rows, dtype: asked.append(rows) or 3)
    quick = finish(sample(model, 8, **settings))
    assert torch.equal(slow.grid, quick.grid)
    torch.testing.assert_close(slow.log_likelihood, quick.log_likelihood, atol=2e-3, rtol=0)
    assert kept and kept[0] <= 4 and kept == sorted(kept, reverse=True)
    times = 2 if "cfg_scale" in settings else 1
    assert asked[0] == 8 * times and asked[-1] in [times * rows for rows in (8, *kept)]
    assert sorted(set(asked), reverse=True) == list(dict.fromkeys(asked))
    assert asked[-1] < 8 * times


def test_one_row_takes_fewer_passes(prior, monkeypatch):
    passes, read = [], Reader._read
    monkeypatch.setattr(Reader, "_read", lambda *args: passes.append(0) or read(*args))
    settings = {"seed": 0, "temperature": 0.2, **EXACT}
    slow = finish(sample(prior, 1, ahead=1, **settings))
    assert len(passes) == 42
    quick = finish(sample(prior, 1, **settings))
    assert torch.equal(slow.grid, quick.grid)
    assert len(passes) - 42 < 34


def test_less_than_one_cell_is_refused(prior):
    with pytest.raises(ValueError, match="ahead is 0"):
        sample(prior, 1, seed=0, ahead=0)
