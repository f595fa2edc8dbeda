"""Ctrl-C and SIGTERM: the step that runs is finished and saved, and a run goes on from there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from training import checkpoint, distributed
from training.command import launch
from training.loop import LoopConfig

ROOT = Path(__file__).parents[2]


class Task:
    """Steps that wait for the other processes; in one of them a signal may come."""

    device = "cpu"

    def __init__(self, at: tuple[int, int] = (0, -1), pause: float = 0):
        self.at, self.pause, self.done = at, pause, []

    def train_step(self, step: int) -> dict[str, float]:
        if step == self.at[1]:
            os.kill(os.getpid(), self.at[0])
        time.sleep(self.pause)
        self.done.append(step)
        return {"sum": float(distributed.sum_(torch.ones(1)))}

    def evaluate(self, step: int, out: Path) -> dict[str, float]:
        return {}

    def state_dict(self) -> dict:
        return {"done": self.done}

    def load_state_dict(self, state: dict) -> None:
        self.done = state["done"]


LOOP = LoopConfig(steps=9, sample_every=0, log_every=1)
HOW = {"module": "m", "argv": []}


@pytest.fixture(autouse=True)
def as_in_a_terminal():
    """A test run in the background may have been started with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_after_its_step_and_resume_goes_on(tmp_path, capsys, number):
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(SystemExit) as stop:
        launch(Task((number, 3)), LOOP, tmp_path, {}, resume=False, **HOW)
    assert stop.value.code == 128 + number
    said = capsys.readouterr()
    assert said.out == "stopped at step 4: --resume goes on\n" and "Traceback" not in said.err
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before
    assert checkpoint.load(tmp_path / "last.pt")["task"]["done"] == [0, 1, 2, 3]
    launch(Task(), LOOP, tmp_path, {}, resume=True, **HOW)
    assert checkpoint.load(tmp_path / "last.pt")["task"]["done"] == list(range(9))
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 10


def test_a_signal_in_the_last_step_changes_nothing(tmp_path, capsys):
    launch(Task((signal.SIGINT, 8)), LOOP, tmp_path, {}, resume=False, **HOW)
    assert checkpoint.load(tmp_path / "last.pt")["step"] == 9 and not capsys.readouterr().out


def test_a_second_signal_would_end_the_process_at_once(tmp_path):
    class Twice(Task):
        def train_step(self, step):
            found = super().train_step(step)
            self.then = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
            return found

    task = Twice((signal.SIGINT, 0))
    with pytest.raises(SystemExit):
        launch(task, LOOP, tmp_path, {}, resume=False, **HOW)
    assert task.then == [signal.SIG_DFL] * 2


def test_an_ignored_signal_stays_ignored(tmp_path):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    launch(Task((signal.SIGINT, 3)), LOOP, tmp_path, {}, resume=False, **HOW)
    assert checkpoint.load(tmp_path / "last.pt")["step"] == 9


def test_processes_of_torchrun_stop_together(tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    torchrun += ["--master-port", str(29500 + (os.getpid() + 250) % 1000)]
    process = subprocess.Popen(
        [*torchrun, __file__, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()},
    )
    deadline = time.monotonic() + 90
    while not (tmp_path / "log.csv").exists() or "\n19," not in (tmp_path / "log.csv").read_text():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    state = checkpoint.load(tmp_path / "last.pt")
    assert 20 < state["step"] == len(state["task"]["done"]) < 2000
    assert f"stopped at step {state['step']}: --resume goes on" in said


if __name__ == "__main__":  # one of those processes
    distributed.start("cpu")
    forever = LoopConfig(steps=2000, sample_every=0)
    launch(Task(pause=0.05), forever, Path(sys.argv[1]), {}, resume=False, **HOW)


def test_ctrl_c_before_the_first_step_is_one_line():
    """While a command reads its data, or wherever else nothing listens: no traceback."""
    work = (
        "import signal, time; from training.flags import Parser; Parser().parse_args([]); "
        "signal.signal(signal.SIGINT, signal.default_int_handler); print('on', flush=True); "
        "time.sleep(60)"
    )
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", work], cwd=ROOT, **pipes) as process:
        assert process.stdout.readline() == "on\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30)[1] == "\nstopped\n"
    assert process.returncode in (-signal.SIGINT, 130)
