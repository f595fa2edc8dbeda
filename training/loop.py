"""The training loop that the VQGAN, the prior and CLIP share.

A task supplies one optimiser step; the loop supplies steps, logs, checkpoints, exact resume and
the refusal to go on from NaN.
"""

from __future__ import annotations

import json
import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm

from training import checkpoint, distributed
from training.chance import mixed
from training.files import NoData, write
from training.flags import option
from training.log import CsvLog
from training.muon import MuonAdamW
from training.stopping import Stopped, listening

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoopConfig:
    """How long to train and how often to write things down."""

    steps: int = option(20_000, "optimiser steps in all; the learning rate's cosine ends there")
    minutes: float = option(0.0, "stop (with a checkpoint) after this many minutes; 0: no limit")
    seed: int = option(0, "seed of weights, batches and everything random")
    log_every: int = option(20, "steps between rows of log.csv")
    checkpoint_every: int = option(250, "steps between checkpoints (RUN/last.pt)")
    sample_every: int = option(500, "steps between evaluations and sample pictures; 0: never")
    compile: bool = option(False, "torch.compile the networks (about 100 s to warm up)")
    bf16: bool | None = option(
        None, "bfloat16 autocast; None: where the processor multiplies it natively"
    )
    lr: float = option(4e-4, "peak learning rate")
    min_lr: float = option(0.05, "share of the peak that the cosine ends at")
    warmup: int = option(200, "steps of linear learning-rate warm-up")
    clip: float = option(1.0, "largest gradient norm; 0: no clipping")
    ema: float = option(0.999, "decay of the averaged weights that are evaluated and shipped")

    def __post_init__(self) -> None:
        for name in ("steps", "log_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be at least 1")
        if not 0 <= self.minutes < math.inf:
            raise ValueError(f"minutes is {self.minutes}: it must be a number >= 0")
        for name in ("sample_every", "warmup", "clip"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}: it must not be negative")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed is {self.seed}: it must be at least 0 and smaller than 2**63")
        if not (self.lr > 0 and math.isfinite(self.lr)):
            raise ValueError(f"lr is {self.lr}: it must be a positive number")
        if not 0 <= self.min_lr <= 1:
            raise ValueError(f"min_lr is {self.min_lr}: it must lie in [0, 1]")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema is {self.ema}: it must lie in [0, 1)")


class Task(Protocol):
    """What the loop trains."""

    device: str

    def train_step(self, step: int) -> dict[str, float]: ...

    def evaluate(self, step: int, out: Path) -> dict[str, float]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class DoesNotFit(ValueError):
    """A checkpoint was made with other tensors or data than the flags given with --resume name."""


class NotFinite(ArithmeticError):
    """A loss or gradient became NaN or infinite; the message names it."""


class NotWritten(OSError):
    """A file of the run could not be written; the message names the last good checkpoint."""


def learning_rate(step: int, cfg: LoopConfig) -> float:
    """Linear warm-up, then a cosine from `lr` down to `min_lr * lr` at the last step."""
    if step < cfg.warmup:
        return cfg.lr * (step + 1) / cfg.warmup
    share = min(1.0, (step - cfg.warmup) / max(1, cfg.steps - cfg.warmup))
    return cfg.lr * (cfg.min_lr + (1 - cfg.min_lr) * 0.5 * (1 + math.cos(math.pi * share)))


def figures(losses: dict[str, Tensor]) -> dict[str, float]:
    """Scalars () as numbers, fetched together: each transfer makes a GPU wait for the next."""
    if not losses:
        return {}
    values = torch.stack([value.detach().float() for value in losses.values()])
    return dict(zip(losses, values.tolist(), strict=True))


def check_losses(losses: dict[str, float]) -> None:
    """NotFinite, naming the first loss that is NaN or infinite, if any is."""
    for name, value in losses.items():
        if not math.isfinite(value):
            raise NotFinite(f"{name} is {value}")


def optimise(
    optimizer: torch.optim.Optimizer | MuonAdamW, module: nn.Module, lr: float, clip: float
) -> float:
    """Average, check, clip, step, clear. Returns the gradient norm before clipping.

    NotFinite names the first parameter whose gradient is not finite; no weight has changed then.
    """
    distributed.average_gradients(module)
    named = [(n, p) for n, p in module.named_parameters() if p.grad is not None]
    norm = torch.nn.utils.get_total_norm([p.grad for _, p in named])
    size = float(norm)
    if not math.isfinite(size):
        bad = next((n for n, p in named if not torch.isfinite(p.grad).all()), "their norm")
        raise NotFinite(f"the gradient of {bad} is not finite")
    if clip:
        torch.nn.utils.clip_grads_with_norm_([p for _, p in named], clip, norm)
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_scale", 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return size


def restore_optimizer(optimizer: torch.optim.Optimizer | MuonAdamW, state: dict[str, Any]) -> None:
    """Go on with the moments of a checkpoint, and with the settings that `optimizer` was built by.

    torch's own loading brings the stored settings back (betas, decay, `lr_scale`), so that flags
    given with --resume would be recorded and have no effect.
    """
    own = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, settings in zip(optimizer.param_groups, own, strict=True):
        group.update(settings)


def random_state(device: str) -> dict[str, torch.Tensor]:
    """Where torch's random numbers are, on the CPU and on a GPU that trains (dropout is there)."""
    state = {"rng": torch.get_rng_state()}
    if torch.device(device).type == "cuda":
        state["rng_cuda"] = torch.cuda.get_rng_state(device)
    return state


def restore_random(state: dict[str, Any], device: str) -> None:
    """Go on with the random numbers of a checkpoint, which may come from another kind of device."""
    torch.set_rng_state(state["rng"])
    if torch.device(device).type == "cuda" and "rng_cuda" in state:
        torch.cuda.set_rng_state(state["rng_cuda"], device)


def evaluated(task: Task, step: int, out: Path) -> dict[str, float]:
    """`task.evaluate`, which leaves training's random numbers where they are.

    It builds models and so draws some; what dropout draws next must not depend on `sample_every`.
    """
    kept = random_state(task.device)
    try:
        return task.evaluate(step, out)
    finally:
        restore_random(kept, task.device)


def run(task: Task, cfg: LoopConfig, out: Path, config: dict[str, Any], resume: bool) -> int:
    """Train `task` up to step `cfg.steps`; returns the step reached.

    `out` receives config.json, last.pt, log.csv and samples/. `config` is what a later `--resume`
    or export needs to build the task again; it is stored in the checkpoint too. `Stopped` where a
    signal has asked for an end, once the step that ran is saved.
    """
    first = distributed.rank() == 0
    step, seconds = _resumed(task, cfg, out) if resume else (0, 0.0)

    def save() -> None:
        if first:
            elapsed = seconds + time.monotonic() - began
            state = {"step": step, "seconds": elapsed, "config": config, "task": task.state_dict()}
            checkpoint.save(out / "last.pt", state | random_state(task.device))

    began = time.monotonic()
    bar = tqdm(total=cfg.steps, initial=step, disable=not first, unit="step", smoothing=0.05)
    try:
        table = _opened(out, config, step if resume else None) if first else None
        with listening(tell=first) as wish:
            while step < cfg.steps:
                if not first:  # or dropout would leave out the same units in all processes; by the
                    # step, since the checkpoint knows the random state of the first one only
                    torch.manual_seed(mixed(cfg.seed, distributed.rank(), step))
                losses = task.train_step(step)
                check_losses(losses)
                step += 1
                bar.update()
                over = bool(cfg.minutes) and time.monotonic() - began > cfg.minutes * 60
                end = distributed.agreed(over or wish.number > 0)
                told = end and wish.number > 0
                last = step == cfg.steps or (end and not told)
                row: dict[str, float | int] = {}
                if step % cfg.log_every == 0 or last:
                    row = dict(losses)
                    bar.set_postfix({k: f"{v:.3g}" for k, v in list(losses.items())[:4]})
                if cfg.sample_every and (step % cfg.sample_every == 0 or last) and first:
                    try:
                        row.update(evaluated(task, step, out / "samples"))
                    except Exception:  # a picture that is gone, say: no reason to lose steps
                        save()
                        raise
                if row and table:
                    hours = (seconds + time.monotonic() - began) / 3600
                    table.write({"step": step - 1, "hours": hours, **row})
                if step % cfg.checkpoint_every == 0 or last or told:
                    save()
                if last:
                    break
                if told:
                    raise Stopped(step, wish.number)
    except NoData as error:  # unmounted, or tidied away
        save()
        raise NoData(f"step {step}: {error}; {_kept(out)}") from error
    except NotFinite as error:
        raise NotFinite(f"step {step}: {error}; {_kept(out)}") from error
    except OSError as error:
        raise NotWritten(f"step {step}: {error}; {_kept(out)}") from error
    finally:
        bar.close()
    return step


def _resumed(task: Task, cfg: LoopConfig, out: Path) -> tuple[int, float]:
    """Put `task` where OUT stopped -> its steps and seconds. DoesNotFit if it is another task."""
    state = checkpoint.load(out / "last.pt")
    try:
        task.load_state_dict(state["task"])
    except (KeyError, RuntimeError, ValueError) as error:
        why = " ".join(str(error).splitlines()[:2])
        raise DoesNotFit(
            f"--resume keeps what is trained as it is, and {out / 'last.pt'} does not fit "
            f"these flags: leave them out, or start a new run ({why})"
        ) from error
    restore_random(state, task.device)
    if state["step"] >= cfg.steps:
        raise DoesNotFit(f"the run is at step {state['step']} already: give a larger --steps")
    return state["step"], state["seconds"]


def _opened(out: Path, config: dict[str, Any], step: int | None) -> CsvLog:
    """OUT with its config.json, and its log, which goes on from `step` if there is one."""
    out.mkdir(parents=True, exist_ok=True)
    write(out / "config.json", (json.dumps(config, indent=1) + "\n").encode())
    return CsvLog(out / "log.csv", resume_step=step)


def _kept(out: Path) -> str:
    """What a run that ends in an error leaves to go on from."""
    saved = (out / "last.pt").exists()
    return f"the last good checkpoint is {out / 'last.pt'}" if saved else "none was saved yet"
