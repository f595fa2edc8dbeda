"""The speed table: both ways do the same work, and the command writes what it prints."""

import json

import pytest
import torch

import bench
from bench import Row, __main__, lookup, train_step


def test_ratio_is_theirs_over_ours():
    assert Row("a", "b", ours=0.5, theirs=2.0).faster == 4
    calls = []
    ours, theirs = bench.compare(lambda: calls.append("o"), lambda: calls.append("t"), repeats=2)
    assert calls == ["o", "t"] * 3 and ours > 0 and theirs > 0


def test_lookup_compares_equal_answers(monkeypatch):
    seen = []

    def both(ours, theirs, repeats):
        seen.append(torch.equal(ours(), theirs()))
        return 1.0, 2.0

    monkeypatch.setattr(lookup, "compare", both)
    assert lookup.run(200, 30, 8)[0].faster == 2 and seen == [True]


def test_train_step_runs_both_ways():
    (row,) = train_step.run(batch=1, crop=32, net="alex", repeats=1)
    assert row.ours > 0 and row.theirs > 0


def test_command_writes_what_it_prints(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(lookup, "run", lambda: [Row("find", "slow way", 1.0, 3.0)])
    __main__.main(["--only", "lookup", "--json", str(tmp_path / "f.json")])
    assert "find | beside slow way" in capsys.readouterr().out
    (row,) = json.loads((tmp_path / "f.json").read_text())
    assert row["faster"] == 3 and row["unit"] == "s"
    with pytest.raises(SystemExit) as stop:
        __main__.main(["--only", "lookup", "--json", str(tmp_path / "none" / "f.json")])
    assert stop.value.code == 2 and "there is no folder" in capsys.readouterr().err
