"""The speed table: both ways do the same work, and the command writes what it prints."""

import json
import sys

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
    pytest.importorskip("vector_quantize_pytorch")
    rows = lookup.run(200, 30, 8)
    assert rows[0].faster == 2 and rows[1].beside == "vector-quantize-pytorch"
    assert seen == [True, True]


def test_a_missing_package_is_a_sentence(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "vector_quantize_pytorch", None)
    assert len(lookup.run(20, 5, 4, repeats=1)) == 1
    assert "pip install vector-quantize-pytorch" in caplog.text


def test_train_step_runs_both_ways():
    rows = train_step.run(batch=1, crop=32, net="alex", repeats=1)
    assert len(rows) == 2 and all(row.ours > 0 and row.theirs > 0 for row in rows)


def test_both_whole_steps_train_both_networks(monkeypatch):
    """From the same weights on the same crops: the same direction, up to float32 and Adam."""
    moved = []

    def both(ours, theirs, repeats):
        written = theirs.__self__
        task = ours.__closure__[0].cell_contents
        before = [p.detach().clone() for p in (task.model.last_layer, *task.disc.parameters())]
        for step, part in ((ours, task), (theirs, written)):
            step()
            after = (part.model.last_layer, *part.disc.parameters())
            moved.append([(a - b).detach() for a, b in zip(after, before, strict=True)])
        return 1.0, 2.0

    monkeypatch.setattr(train_step, "compare", both)
    assert train_step.whole_step(2, 32, "alex", 1).faster == 2
    same = [torch.sign(a) == torch.sign(b) for a, b in zip(*moved, strict=True)]
    assert all(m.abs().max() > 0 for part in moved for m in part[:2])
    # The discriminator sees bfloat16 pictures, normalised over few cells: chance would be 0.5.
    assert same[0].float().mean() > 0.8 and same[1].float().mean() > 0.65


def test_command_writes_what_it_prints(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(lookup, "run", lambda: [Row("find", "slow way", 1.0, 3.0)])
    __main__.main(["--only", "lookup", "--json", str(tmp_path / "f.json")])
    assert "find | beside slow way" in capsys.readouterr().out
    (row,) = json.loads((tmp_path / "f.json").read_text())
    assert row["faster"] == 3 and row["unit"] == "s"
    with pytest.raises(SystemExit) as stop:
        __main__.main(["--only", "lookup", "--json", str(tmp_path / "none" / "f.json")])
    assert stop.value.code == 2 and "there is no folder" in capsys.readouterr().err
