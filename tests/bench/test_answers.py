"""The table of answer times, without a browser; `python -m bench.answers` needs one."""

import os
import subprocess
import sys
from collections import defaultdict
from types import SimpleNamespace

import pytest
from PIL import Image

from bench import answers


def visitor(**times):
    stub = SimpleNamespace(start=4.2, start_cpu=3.1, times=defaultdict(list))
    stub.times.update({("click", kind): values for kind, values in times.items()})
    return stub


def test_a_row_has_the_medians_of_both_checkouts():
    ours, theirs = visitor(answer=[90, 300, 100], figures=[150]), visitor(answer=[200])
    start, row = answers.report([ours, theirs])
    assert row == {"action": "click", "answer": 100, "figures": 150, "beside_answer": 200}
    assert start["answer"] == 4200 and start["cpu"] == start["beside_cpu"] == 3100
    header, *lines = answers.table([start, row]).splitlines()
    assert header.split() == "milliseconds answer figures cpu beside answer beside cpu".split()
    assert lines[1].split() == ["click", "100", "150", "200"]


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="reads /proc")
def test_the_time_of_children_counts():
    before = answers.cpu_seconds(os.getpid())
    busy = "import time\nwhile time.process_time() < 0.3: pass\nprint(1, flush=True)\ninput()"
    child = subprocess.Popen(
        [sys.executable, "-c", busy], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    child.stdout.readline()
    assert answers.cpu_seconds(os.getpid()) - before >= 0.25
    assert 0.25 <= answers.cpu_seconds(child.pid) < 5
    child.communicate(b"\n")


def test_each_upload_is_another_picture(tmp_path):
    files = answers.drawings(tmp_path)
    one, two = (Image.open(next(files)).tobytes() for _ in range(2))
    assert one != two


def test_bad_flags_are_a_sentence(tmp_path, capsys):
    for flags, sentence in (
        (["--repeats", "0"], "it must be at least 1"),
        (["--beside", str(tmp_path)], "there is no app.py in it"),
    ):
        with pytest.raises(SystemExit) as stop:
            answers.main(flags)
        assert stop.value.code == 2 and sentence in capsys.readouterr().err


def test_an_action_waits_until_what_follows_the_last_one_is_computed(monkeypatch):
    """Else the next click is timed against the figures of the last one."""
    spent = iter([0.0, 0.4, 0.7, 0.71, 5.0])  # a core, most of one, a poll; the last is not asked
    slept = []
    monkeypatch.setattr(answers, "cpu_seconds", lambda pid: next(spent))
    monkeypatch.setattr(answers.time, "sleep", slept.append)
    visitor = answers.Visitor.__new__(answers.Visitor)
    visitor.app = SimpleNamespace(pid=1)
    visitor.settle()
    assert slept == [answers.SETTLE] * 3 and next(spent) == 5.0
