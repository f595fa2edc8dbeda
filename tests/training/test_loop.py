"""The loop as its users meet it: resume bit for bit, kill -9, data-parallel, NaN, flags."""

import csv
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import checkpoints
from checkpoints.export import export
from tests.fakes import TINY
from training import checkpoint, distributed, loop
from training.command import launch
from training.log import CsvLog
from training.loop import (
    LoopConfig,
    NotFinite,
    learning_rate,
    random_state,
    restore_random,
    run,
)
from vqgan.model import VQGAN
from vqgan.task import VQGANTask
from vqgan.train import main

SMALL = (
    "--ch 8 --ch-mult 1 2 --num-res-blocks 1 --num-groups 4 --z-channels 8 --codebook-size 32 "
    "--embed-dim 4 --resolution 32 --crop 16 --batch 4 --perceptual-weight 0 --gan-weight 0.8 "
    "--disc-ch 8 --disc-layers 1 --disc-norm group --disc-start 2 --gan-start 4 "
    "--autoencoder-steps 3 --no-bf16 --restart-every 4 --sample-every 0 --log-every 1 --warmup 2 "
    "--held-out 2"
).split()


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(24):
        pixels = rng.integers(0, 255, (4, 4, 3), np.uint8)
        Image.fromarray(pixels).resize((40, 36)).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def one_thread():
    """As in the processes that these runs are compared with: sums then have one order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def flags(data: Path, out: Path, *args: str) -> list[str]:
    return ["--data", str(data), "--out", str(out), *args]


def train(data: Path, out: Path, *args: str) -> None:
    """`python -m vqgan.train`, in this process: a new one takes seconds to import torch."""
    main(flags(data, out, *args))


def rows(out: Path) -> list[dict[str, str]]:
    with open(out / "log.csv", newline="") as file:
        return [{k: v for k, v in r.items() if k != "hours"} for r in csv.DictReader(file)]


def assert_same(a, b, where="state") -> None:
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, (list, tuple)):
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{where}[{i}]")
    else:
        assert a == b, where


# The real command, whose fourteenth step never comes back.
KILLED = """
import os, signal
from vqgan import train
step_of = train.VQGANTask.train_step
def train_step(self, step):
    return step_of(self, step) if step < 13 else os.kill(os.getpid(), signal.SIGKILL)
train.VQGANTask.train_step = train_step
train.main()
"""


def test_twenty_steps_equal_ten_then_kill_then_ten(data, tmp_path, one_thread):
    """Weights, optimisers, EMA, code usage and log agree to the last bit after a kill -9."""
    train(data, tmp_path / "a", *SMALL, "--steps", "20", "--checkpoint-every", "10")
    line = flags(data, tmp_path / "b", *SMALL, "--steps", "20", "--checkpoint-every", "10")
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    killed = subprocess.run([sys.executable, "-c", KILLED, *line], env=env, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert checkpoint.load(tmp_path / "b" / "last.pt")["step"] == 10
    assert len(rows(tmp_path / "b")) == 13, "what was logged after the checkpoint comes again"
    train(data, tmp_path / "b", "--resume")
    a, b = (checkpoint.load(tmp_path / n / "last.pt") for n in "ab")
    assert a["step"] == b["step"] == 20
    assert_same(a["task"], b["task"])
    assert torch.equal(a["rng"], b["rng"])
    assert rows(tmp_path / "a") == rows(tmp_path / "b")
    assert [r["step"] for r in rows(tmp_path / "b")] == [str(i) for i in range(20)]
    assert len(b["config"]["earlier_commands"]) == 1  # the command that was killed


# Runs the real command on every rank and keeps each rank's own state to compare.
WORKER = """
import sys, torch
from training import command, distributed
from vqgan import train
run = command.run
def run_and_keep(task, cfg, out, config, resume):
    step = run(task, cfg, out, config, resume)
    torch.save(task.state_dict(), out / f"rank{distributed.rank()}.pt")
    return step
command.run = run_and_keep
train.main(sys.argv[1:])
"""


def test_two_processes_agree_and_match_one(data, tmp_path, one_thread):
    """Parameters equal on both gloo ranks; close to one process at the same global batch."""
    train(data, tmp_path / "one", *SMALL, "--steps", "8")
    (tmp_path / "worker.py").write_text(WORKER)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    torchrun += ["--master-port", str(29500 + os.getpid() % 1000), str(tmp_path / "worker.py")]
    two = subprocess.run(
        [*torchrun, "--data", str(data), "--out", str(tmp_path / "two"), *SMALL, "--steps", "8"],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()},
    )
    assert two.returncode == 0, two.stderr
    ranks = [checkpoint.load(tmp_path / "two" / f"rank{i}.pt") for i in range(2)]
    assert_same(*ranks)
    reference = checkpoint.load(tmp_path / "one" / "last.pt")["task"]
    for key, value in reference["model"].items():
        assert torch.allclose(value, ranks[0]["model"][key], rtol=0.02, atol=0.02), key
    for name in ("l1", "lambda", "disc"):
        a, b = (float(rows(tmp_path / n)[-1][name]) for n in ("one", "two"))
        assert a == pytest.approx(b, rel=0.1), name


def test_init_starts_from_a_run_with_a_fresh_discriminator(data, tmp_path):
    train(data, tmp_path / "a", *SMALL, "--steps", "6")
    train(
        data, tmp_path / "b", *SMALL, "--init", str(tmp_path / "a"), "--steps", "1",
        "--autoencoder-steps", "0", "--lr", "1e-12", "--restart-every", "0",
    )  # fmt: skip
    a, b = (checkpoint.load(tmp_path / n / "last.pt")["task"] for n in "ab")
    for key, value in a["ema"]["shadow"].items():
        assert torch.allclose(value, b["model"][key], atol=1e-6), key
    assert not torch.equal(a["disc"]["main.0.weight"], b["disc"]["main.0.weight"])


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["--crop", "17"], "crop is 17: it must be a multiple of the downsampling factor 2"),
        (["--num-groups", "3"], "num_groups is 3: it must divide"),
        (["--gan-loss", "wgan"], "gan_loss is 'wgan': choose hinge or log"),
        (["--lr", "nan"], "lr is nan: it must be a positive number"),
        (["--minutes", "nan"], "minutes is nan: it must be a number >= 0"),
        (["--seed", "-1"], "seed is -1: it must be at least 0 and smaller than 2**63"),
        (["--seed", str(2**64)], f"seed is {2**64}: it must be at least 0"),
        (["--resume"], "no checkpoint at"),
        (["--quantizer", "vq"], "quantizer is 'vq': choose euclidean, cosine, gumbel"),
        (["--quantizer", "gumbel"], "cannot be trained here: choose euclidean or cosine"),
        (["--in-channels", "1"], "in_channels is 1: it must be 3"),
        (["--crop", "64"], "crop is 64: it must not be larger than whole pictures"),
        (["--perceptual-weight", "1"], "crop is 16: the perceptual loss needs at least 32"),
        (["--codebook-weight", "-1"], "codebook_weight is -1.0: it must be a number >= 0"),
        (["--l1-weight", "inf"], "l1_weight is inf: it must be a number >= 0"),
        (["--restart-every", "-5"], "restart_every is -5: it must be a number >= 0"),
        (["--beta2", "1"], "beta2 is 1.0: it must lie in [0, 1)"),
        (["--freeze-encoder", "--autoencoder-steps", "0"], "needs a trained encoder: add --init"),
        (["--new-codebook"], "replaces the one of the model that --init names: add --init"),
        (["--freeze-encoder"], "keeps the codebook and autoencoder_steps replaces it"),
        (
            ["--freeze-encoder", "--autoencoder-steps", "0", "--new-codebook"],
            "keeps the codebook and new_codebook replaces it",
        ),
    ],
)
def test_bad_input_is_one_clear_line(data, tmp_path, capsys, args, sentence):
    args = ["--steps", "1", *args]  # short, if it is not refused
    args += ["--init", "emoji-128"] if "replaces it" in sentence else []
    with pytest.raises(SystemExit) as stop:
        main(["--data", str(data), "--out", str(tmp_path / "x"), *SMALL, *args])
    stderr = capsys.readouterr().err
    assert stop.value.code == 2
    assert stderr.count("\n") == 1 and sentence in stderr


@pytest.fixture(scope="module")
def first_run(tmp_path_factory):
    """One step on eight pictures: (data, run)."""
    root = tmp_path_factory.mktemp("first")
    (root / "data").mkdir()
    for i in range(8):
        Image.effect_noise((40, 36), 60 + i).convert("RGB").save(root / "data" / f"{i}.png")
    main(["--data", str(root / "data"), "--out", str(root / "run"), *SMALL, "--steps", "1"])
    return root / "data", root / "run"


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["--init", "RUN", "--ch", "16"], "encoder.conv_in.weight is (8, 3, 3, 3) there"),
        (["--init", "RUN", "--ch", "16", "--new-codebook"], "encoder.conv_in.weight is (8, 3, 3"),
        (["--init", "RUN", "--codebook-size", "9"], "quantize.embedding.weight is (32, 4) there"),
        (["--init", "RUN", "--embed-dim", "9"], "change the model, or add --new-codebook"),
        (["--init", "RUN", "--num-groups", "2"], "num_groups is 4 there and 2 here: leave out"),
        (["--init", "RUN", "--quantizer", "euclidean"], "quantizer is cosine there and"),
        (["--init", "RUN", "--unit-range", "--new-codebook"], "unit_range is False there and True"),
        (["--init", "RUN", "--resume"], "the run's own weights: leave out --init"),
        (["--init", "RUN", "--preset", "paper"], "a shape of their own: leave out --preset"),
        (["--resume", "--new-codebook"], "replaces the one of the model that --init names"),
        (["--resume", "--preset", "small"], "a shape of their own: leave out --preset"),
        (["--resume", "--gan-weight", "0", "--freeze-encoder"], "autoencoder_steps replaces it"),
        (["--resume", "--disc-ch", "16", "--steps", "2"], "does not fit these flags"),
    ],
)
def test_a_run_that_does_not_fit_is_one_clear_line(first_run, tmp_path, capsys, args, sentence):
    data, run = first_run
    out = run if "--resume" in args else tmp_path / "x"
    args = [str(run) if word == "RUN" else word for word in args]
    # Short, if it is not refused.
    args += ["--minutes", "1e-9", "--sample-every", "0", "--no-bf16"]
    args += [] if "--resume" in args else ["--crop", "16", "--perceptual-weight", "0"]
    with pytest.raises(SystemExit) as stop:
        main(["--data", str(data), "--out", str(out), *args])
    error = capsys.readouterr().err.strip().splitlines()
    assert stop.value.code == 2
    assert error[-1].startswith("error: ") and sentence in error[-1]


def test_a_new_codebook_may_have_another_size(first_run, tmp_path):
    data, run = first_run
    line = ["--data", str(data), "--out", str(tmp_path / "x"), "--init", str(run), "--new-codebook"]
    main([*line, *"--codebook-size 16 --embed-dim 6 --steps 1 --crop 16 --batch 4".split(),
          *"--perceptual-weight 0 --sample-every 0 --no-bf16".split()])  # fmt: skip
    a, b = (checkpoint.load(p / "last.pt")["task"]["model"] for p in (run, tmp_path / "x"))
    assert b["quantize.embedding.weight"].shape == (16, 6)
    assert torch.allclose(a["encoder.conv_in.weight"], b["encoder.conv_in.weight"], atol=0.01)


def test_data_without_held_out_pictures_is_refused_before_training(first_run, tmp_path, capsys):
    rows = [{"path": f"{i}.png", "kind": "icon", "split": "train"} for i in range(8)]
    data = tmp_path / "data"
    shutil.copytree(first_run[0], data)
    (data / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    line = ["--data", str(data), "--out", str(tmp_path / "x"), *SMALL, "--steps", "1"]
    with pytest.raises(SystemExit) as stop:
        main([*line, "--sample-every", "1"])
    assert stop.value.code == 2 and "no held-out picture" in capsys.readouterr().err
    main(line)


def test_a_run_does_not_go_on_with_other_data(first_run, tmp_path, capsys):
    """By the manifest's sha256; of two plain folders one may be the other one moved."""
    data, run = tmp_path / "data", tmp_path / "run"
    shutil.copytree(first_run[0], data)
    shutil.copytree(first_run[1], run)
    rows = [{"path": f"{i}.png", "kind": "icon", "split": "train"} for i in range(8)]
    (data / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    line = ["--data", str(data), "--out", str(run), "--resume", "--steps"]

    def refused() -> str:
        with pytest.raises(SystemExit) as stop:
            main([*line, "3"])
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert stop.value.code == 2 and "run was trained on other data" in error
        assert "resume with the same data, or start a new run" in error
        return error

    assert "on data, a plain folder, and not on data, whose manifest.jsonl has" in refused()
    (data / "manifest.jsonl").rename(tmp_path / "kept")
    shutil.copytree(data, tmp_path / "moved")
    main([*line, "2", "--data", str(tmp_path / "moved")])
    begun = checkpoint.load(run / "last.pt")
    begun["config"]["data"]["sha256"] = hashlib.sha256(b"another").hexdigest()
    checkpoint.save(run / "last.pt", begun)
    assert "and not on data, a plain folder" in refused()
    (tmp_path / "kept").rename(data / "manifest.jsonl")
    refused()
    assert checkpoint.load(run / "last.pt")["step"] == 2


def test_a_finished_run_says_so_and_stays_as_it_is(first_run, capsys):
    data, run = first_run
    before = (run / "config.json").read_bytes()
    with pytest.raises(SystemExit) as stop:
        main(["--data", str(data), "--out", str(run), "--resume", "--lr", "0.1"])
    assert stop.value.code == 2 and (run / "config.json").read_bytes() == before
    assert "the run is at step 1 already: give a larger --steps" in capsys.readouterr().err


def test_a_run_needs_a_folder_before_anything_is_built(first_run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("vqgan.train.VQGANTask", None)
    (tmp_path / "file").write_text("")
    for out, sentence in (
        (tmp_path / "file", "file cannot be a folder: there is a file of that name"),
        (tmp_path / "file" / "run", "run cannot be a folder"),
        (Path("/proc/none/run"), "nothing can be written into /proc/none/run"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(["--data", str(first_run[0]), "--out", str(out), *SMALL])
        assert stop.value.code == 2 and sentence in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--data", str(tmp_path / "none"), "--out", str(tmp_path / "a" / "b"), *SMALL])
    assert not (tmp_path / "a").exists(), "what is refused leaves nothing behind"


def test_the_command_is_kept_as_a_shell_would_read_it(first_run, tmp_path):
    data, out = first_run[0], tmp_path / "my run"
    main(["--data", str(data), "--out", str(out), *SMALL, "--steps", "1"])
    assert f"--out '{out}' --ch 8" in checkpoint.load(out / "last.pt")["config"]["command"]


def test_damaged_pictures_do_not_end_a_run(first_run, tmp_path, caplog):
    data = tmp_path / "data"
    shutil.copytree(first_run[0], data)
    splits = ["train"] * 5 + ["val"] * 3
    rows_ = [{"path": f"{i}.png", "kind": "icon", "split": s} for i, s in enumerate(splits)]
    (data / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows_)))
    for name in ("2.png", "6.png"):  # one of each split
        (data / name).write_bytes((data / name).read_bytes()[:600])
    line = ["--data", str(data), "--out", str(tmp_path / "x"), *SMALL, "--held-out", "99"]
    main([*line, "--steps", "4", "--sample-every", "4"])
    assert float(rows(tmp_path / "x")[-1]["val_psnr"]) > 0
    assert any("left out 1 of 5 so far: 2.png is damaged" in m for m in caplog.messages)
    assert any("left out 1 of 3 pictures" in m and "6.png" in m for m in caplog.messages)


class Rolling:
    """A task that only draws, as dropout does."""

    device = "cpu"

    def __init__(self):
        self.drawn = []

    def train_step(self, step: int) -> dict[str, float]:
        self.drawn.append(float(torch.rand(())))
        return {"loss": 1.0}

    def state_dict(self) -> dict:
        return {}

    def load_state_dict(self, state: dict) -> None:
        pass


def test_each_process_has_its_own_chance(tmp_path, monkeypatch):
    drawn: list[float] = []
    for rank in (0, 1, 2):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        for resume in (False, True):
            torch.manual_seed(0)
            task = Rolling()
            config = LoopConfig(steps=5 if resume else 3, sample_every=0)
            run(task, config, tmp_path, {}, resume)
            if not rank and not resume:
                checkpoint.save(tmp_path / "kept.pt", checkpoint.load(tmp_path / "last.pt"))
            shutil.copy(tmp_path / "kept.pt", tmp_path / "last.pt")
            drawn += task.drawn
    assert len(set(drawn)) == len(drawn) == 15, "no process repeats another's, or its own"


def test_each_process_goes_on_with_its_own_chance(tmp_path, monkeypatch):
    for rank in (0, 1):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        torch.manual_seed(0)
        whole, halves = Rolling(), Rolling()
        run(whole, LoopConfig(steps=5, sample_every=0), tmp_path / "whole", {}, False)
        torch.manual_seed(0)
        monkeypatch.setattr(distributed, "rank", lambda: 0)  # which writes
        run(Rolling(), LoopConfig(steps=3, sample_every=0), tmp_path / "halves", {}, False)
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        run(halves, LoopConfig(steps=5, sample_every=0), tmp_path / "halves", {}, True)
        assert halves.drawn == whole.drawn[3:]


class Breaking:
    """A task whose second step gives NaN."""

    device = "cpu"

    def train_step(self, step: int) -> dict[str, float]:
        return {"loss": float("nan") if step else 1.0}

    def evaluate(self, step: int, out: Path) -> dict[str, float]:
        return {}

    def state_dict(self) -> dict:
        return {}

    def load_state_dict(self, state: dict) -> None:
        pass


class Steady(Breaking):
    """A task that goes well."""

    def train_step(self, step: int) -> dict[str, float]:
        return {"loss": 1.0}


def test_a_run_ends_when_its_minutes_are_over_with_all_that_it_has(tmp_path, monkeypatch):
    """On a clock on which a step takes 20 seconds; a run that goes on counts its hours on."""
    clock = [0.0]

    class Slow(Steady):
        def train_step(self, step: int) -> dict[str, float]:
            clock[0] += 20
            return super().train_step(step)

        def evaluate(self, step: int, out: Path) -> dict[str, float]:
            return {"val": float(step)}

    monkeypatch.setattr(loop.time, "monotonic", lambda: clock[0])
    for resume, steps, spent in ((False, 4, 80), (True, 8, 160)):
        assert run(Slow(), LoopConfig(minutes=1), tmp_path, {}, resume) == steps
        saved = checkpoint.load(tmp_path / "last.pt")
        assert saved["step"] == steps and saved["seconds"] == spent
        with open(tmp_path / "log.csv", newline="") as file:
            last = list(csv.DictReader(file))[-1]
        assert (last["step"], last["loss"], last["val"]) == (str(steps - 1), "1", str(steps))
        assert float(last["hours"]) == pytest.approx(spent / 3600, rel=1e-4)


def test_an_evaluation_that_fails_loses_no_steps(tmp_path):
    class Blind(Steady):
        def evaluate(self, step: int, out: Path) -> dict[str, float]:
            raise FileNotFoundError("a held-out picture is gone")

    cfg = LoopConfig(steps=7, checkpoint_every=5, sample_every=100)
    with pytest.raises(OSError, match=r"step 7: a held-out picture is gone; .*last\.pt"):
        run(Blind(), cfg, tmp_path, {}, resume=False)
    assert checkpoint.load(tmp_path / "last.pt")["step"] == 7


def test_pictures_that_are_gone_lose_no_steps(first_run, tmp_path, capsys):
    """A held-out one by itself is left out; where nothing is left, it is one line."""
    data, out = tmp_path / "data", tmp_path / "x"
    shutil.copytree(first_run[0], data)
    splits = ["train"] * 5 + ["val"] * 3
    rows_ = [{"path": f"{i}.png", "kind": "icon", "split": s} for i, s in enumerate(splits)]
    (data / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows_)))
    evaluate = VQGANTask.evaluate
    line = ["--data", str(data), "--out", str(out), "--sample-every", "4"]

    def tidied(gone: list[str], *more: str) -> None:
        def after_all(task, step: int, folder: Path) -> dict[str, float]:
            for name in gone:
                (data / name).unlink()
            return evaluate(task, step, folder)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(VQGANTask, "evaluate", after_all)
            main([*line, "--checkpoint-every", "99", *more])

    tidied(["5.png"], *SMALL[:-4], "--held-out", "99", "--steps", "4", "--sample-every", "4")
    assert float(rows(out)[-1]["val_psnr"]) > 0
    with pytest.raises(SystemExit) as stop:
        tidied(["6.png", "7.png"], "--resume", "--steps", "9")
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert stop.value.code == 1 and error.startswith("error: step 8: none of the pictures can be")
    assert checkpoint.load(out / "last.pt")["step"] == 8


def test_a_run_leaves_bundles_and_the_pictures_folder_alone(first_run, tmp_path, capsys):
    shutil.copytree(first_run[0], tmp_path / "data")
    checkpoints.save(tmp_path / "bundle", name="b", vqgan=VQGAN(TINY), card={})
    card = (tmp_path / "bundle" / "config.json").read_bytes()
    for out, sentence in (("bundle", "holds a bundle, whose card"), ("data", "are one folder")):
        line = ["--data", str(tmp_path / "data"), "--out", str(tmp_path / out), *SMALL]
        for args in ([], ["--resume"]):
            with pytest.raises(SystemExit) as stop:
                main([*line, "--steps", "1", *args])
            assert stop.value.code == 2 and sentence in capsys.readouterr().err
    assert (tmp_path / "bundle" / "config.json").read_bytes() == card
    assert sorted(p.name for p in (tmp_path / "data").iterdir()) == [f"{i}.png" for i in range(8)]


def test_a_folder_whose_name_is_no_utf8_can_be_exported(first_run, tmp_path):
    data = tmp_path / os.fsdecode(b"b\xe9d")
    try:
        shutil.copytree(first_run[0], data)
    except (OSError, UnicodeError):
        pytest.skip("this file system takes no such names")
    main(["--data", str(data), "--out", str(tmp_path / "run"), *SMALL, "--steps", "4"])
    bundle = checkpoints.load(export(tmp_path / "run", tmp_path / "bundle"))
    assert "--data 'b\ufffdd' --out" in bundle.card["training"]["command"]


@pytest.mark.parametrize("every", [1, 5])
def test_nan_names_a_checkpoint_only_where_there_is_one(tmp_path, every):
    cfg = LoopConfig(steps=9, checkpoint_every=every, sample_every=0)
    with pytest.raises(NotFinite) as stop:
        run(Breaking(), cfg, tmp_path, {}, resume=False)
    there = (tmp_path / "last.pt").exists()
    assert there == (every == 1)
    assert ("the last good checkpoint is" in str(stop.value)) == there
    assert ("none was saved yet" in str(stop.value)) != there


def test_resuming_in_emulated_bfloat16_is_told_what_would_help(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("training.command.run", lambda *args: None)
    monkeypatch.setattr("training.precision.native_bf16", lambda device: False)
    for stored, told in ((True, 1), (False, 0), (None, 0)):
        caplog.clear()
        loop = LoopConfig(**json.loads(json.dumps({"bf16": stored})))
        launch(Breaking(), loop, tmp_path, {}, module="m", argv=[], resume=False)
        assert ["--no-bf16" in m and "\n" not in m for m in caplog.messages] == [True] * told
    monkeypatch.setattr("training.precision.native_bf16", lambda device: True)
    launch(Breaking(), LoopConfig(bf16=True), tmp_path, {}, module="m", argv=[], resume=False)
    assert not caplog.messages


@pytest.mark.parametrize(
    ("folder", "sentence"), [("none", "is not a folder"), ("empty", "holds no pictures")]
)
def test_bad_folders_are_one_clear_line(tmp_path, capsys, folder, sentence):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit) as stop:
        main(["--data", str(tmp_path / folder), "--out", str(tmp_path / "x")])
    assert stop.value.code == 2 and sentence in capsys.readouterr().err


def test_a_gpus_random_numbers_go_on_too(monkeypatch):
    """Dropout draws them there; a mock of the card's generator, since tests have none."""
    card = {"cuda:1": torch.tensor([7], dtype=torch.uint8)}
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: card[device].clone())
    monkeypatch.setattr(
        torch.cuda, "set_rng_state", lambda state, device: card.update({device: state})
    )
    torch.manual_seed(3)
    kept, drawn = random_state("cuda:1"), torch.rand(3)
    card["cuda:1"] = torch.tensor([8], dtype=torch.uint8)
    restore_random(kept, "cpu")  # resumed without a card
    assert torch.equal(torch.rand(3), drawn) and card["cuda:1"].item() == 8
    restore_random(kept, "cuda:1")
    assert torch.equal(torch.rand(3), drawn) and card["cuda:1"].item() == 7
    assert random_state("cpu").keys() == {"rng"}
    restore_random(random_state("cpu"), "cuda:1")  # begun without one
    assert card["cuda:1"].item() == 7


def test_learning_rate_warms_up_then_falls_by_a_cosine():
    cfg = LoopConfig(steps=110, warmup=10, lr=1.0, min_lr=0.1)
    assert learning_rate(0, cfg) == pytest.approx(0.1)
    assert learning_rate(9, cfg) == pytest.approx(1.0)
    assert learning_rate(60, cfg) == pytest.approx(0.55)
    assert learning_rate(110, cfg) == pytest.approx(0.1)


def test_checkpoint_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "last.pt"
    checkpoint.save(path, {"step": 1})
    checkpoint.save(path, {"step": 2})

    def torn(state, file):
        file.write(b"half")
        raise RuntimeError("PytorchStreamWriter failed writing file: file write failed")

    monkeypatch.setattr(torch, "save", torn)
    with pytest.raises(OSError, match=r"last\.pt could not be written: Pytorch.* failed writing"):
        checkpoint.save(path, {"step": 3})
    assert checkpoint.load(path)["step"] == 2
    assert checkpoint.load(tmp_path / "last.pt.prev")["step"] == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last.pt", "last.pt.prev"]
    path.write_bytes(b"torn")
    with pytest.raises(ValueError, match=r"not a readable checkpoint.*last\.pt\.prev is the one b"):
        checkpoint.load(path)


def test_the_one_before_is_kept_without_hard_links_too(tmp_path, monkeypatch):
    def none(*args):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", none)
    for step in (1, 2):
        checkpoint.save(tmp_path / "last.pt", {"step": step})
    assert checkpoint.load(tmp_path / "last.pt.prev")["step"] == 1
    monkeypatch.setattr(shutil, "copyfile", none)
    checkpoint.save(tmp_path / "last.pt", {"step": 3})
    assert checkpoint.load(tmp_path / "last.pt")["step"] == 3


def test_a_full_disk_is_one_line_that_names_what_there_is(tmp_path, monkeypatch, capsys):
    def full(state, file):
        if state["step"] == 2:
            raise OSError(28, "No space left on device")
        file.write(b"whole")

    monkeypatch.setattr(torch, "save", full)
    loop = LoopConfig(steps=9, checkpoint_every=1, sample_every=0)
    options = {"module": "m", "argv": [], "resume": False}
    with pytest.raises(SystemExit) as stop:
        launch(Steady(), loop, tmp_path, {}, **options)
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert stop.value.code == 1
    assert error == (
        f"error: step 2: {tmp_path / 'last.pt'} could not be written: No space left on device; the "
        f"last good checkpoint is {tmp_path / 'last.pt'}"
    )


def test_log_grows_columns_and_drops_rows_past_the_checkpoint(tmp_path):
    log = CsvLog(tmp_path / "log.csv")
    log.write({"step": 0, "l1": 0.5})
    log.write({"step": 1, "l1": 0.4, "val": 20.0})
    log.write({"step": 2, "l1": 0.3})
    log = CsvLog(tmp_path / "log.csv", resume_step=2)
    log.write({"step": 2, "l1": 0.25})
    with open(tmp_path / "log.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [r["l1"] for r in table] == ["0.5", "0.4", "0.25"]
    assert [r["val"] for r in table] == ["", "20", ""]
