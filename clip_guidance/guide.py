"""Guided optimisation: a grid of codes is moved until CLIP finds that it shows the prompt.

VQGAN+CLIP (Crowson et al., arXiv:2204.08583): decode, look at cutouts with CLIP, send the gradient
back through the decoder and past the quantiser, take a step, keep the result where codes live.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from clip_guidance.cutouts import Cutouts
from clip_guidance.model import Clip
from clip_guidance.prompts import Prompt, Targets, parse, targets
from prior.likelihood import log_probs
from prior.model import BITS, GPT
from training.flags import option
from training.precision import autocast
from vqgan.model import VQGAN
from vqgan.quantize import straight_through

OPTIMIZERS = {
    "adam": lambda p, lr: torch.optim.Adam(p, lr, betas=(0.9, 0.99)),
    "adagrad": torch.optim.Adagrad,
    "rmsprop": torch.optim.RMSprop,
    "sgd": lambda p, lr: torch.optim.SGD(p, lr, momentum=0.9),
}
MAX_STEPS = 10_000
HEAVIEST = 1_000_000  # weight of a further loss; far above it float32 ends, and the picture with it
# Learning rates. A picture that shows something already is kept clean by small steps: at 0.1 the
# score rises further, but the background fills with strokes that only CLIP likes.
PICTURE, NOISE = 0.03, 0.15
# Steps. From a picture, more than these only please CLIP: what one sees gets worse.
PICTURE_STEPS, NOISE_STEPS = 20, 40
LOGITS = 5.0  # logits take steps so many times as large: they move on another scale
SURPRISE = 0.4
SHARPNESS = 10.0  # a code leads the others by this much x squared distance
FLOOR = 0.1  # of the learning rate is left at the end of the schedule


@dataclass(frozen=True)
class GuidanceConfig:
    """How the codes are moved."""

    steps: int | None = option(
        None,
        "steps of the optimiser, counted from the very start. "
        f"None: {PICTURE_STEPS} or, from noise, {NOISE_STEPS}",
    )
    lr: float = option(
        0.0, f"learning rate; it falls to a tenth. 0: {PICTURE} or, from noise, {NOISE}"
    )
    optimizer: str = option("adam", f"one of {', '.join(OPTIMIZERS)}")
    method: str = option("latents", "what is optimised: latents (straight-through) or logits")
    ema: float = option(0.0, "show an average over steps with this decay; 0: the last step")
    z_l2: float = option(0.0, "weight of the pull back to the start")
    tv: float = option(0.0, "weight of total variation, which smooths")
    surprise: float = option(
        SURPRISE, "weight of the picture's bits per code under the prior (not in mode guided)"
    )
    cutouts: int = option(16, "views of the picture that CLIP sees at each step")
    seed: int = option(0, "for the start from noise and the cutouts")

    def __post_init__(self) -> None:
        for name, low, top in (("steps", 1, MAX_STEPS), ("seed", 0, 2**63 - 1)):
            value = getattr(self, name)
            if name == "steps" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= top:
                raise ValueError(f"{name} is {value}: it must be a whole number, {low} to {top}")
        for name, known in (("optimizer", OPTIMIZERS), ("method", METHODS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}: choose {', '.join(known)}")
        if not 0 <= self.lr <= 100:
            raise ValueError(f"lr is {self.lr}: it must lie in 0 (chosen by the start) to 100")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema is {self.ema}: it must lie in [0, 1)")
        for name in ("z_l2", "tv", "surprise"):
            if not 0 <= getattr(self, name) <= HEAVIEST:
                value = getattr(self, name)
                raise ValueError(f"{name} is {value}: it must lie in 0 to {HEAVIEST:,}")
        Cutouts(self.cutouts)

    def begun(self, noise: bool) -> GuidanceConfig:
        """With its number of steps, which may hang on the start: noise or a picture."""
        return replace(self, steps=self.steps or (NOISE_STEPS if noise else PICTURE_STEPS))

    def highest(self, noise: bool) -> float:
        """The learning rate of the first step, from noise or from a picture."""
        if self.lr:
            return self.lr
        return (NOISE if noise else PICTURE) * (LOGITS if self.method == "logits" else 1)

    def rate(self, step: int, highest: float) -> float:
        """Learning rate of a step: half a cosine from `highest` to a tenth, which then stays."""
        share = min(step / self.steps, 1)
        return highest * (FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * share)))


@dataclass(frozen=True)
class State:
    """All that a run needs to go on as if it had never stopped. Its tensors are never changed."""

    step: int  # steps taken
    method: str
    noise: bool  # began from noise, not from a picture
    variable: Tensor  # (1, D, h, w) latents or (1, K, h, w) logits
    origin: Tensor  # (1, D, h, w): codebook vectors of the start
    average: Tensor  # of the variable, not yet divided by `weight`
    weight: float  # of all steps in the average together: 1 - ema^step if ema never changed
    optimizer: str  # whose state follows
    moments: dict | None
    generator: Tensor  # its state


@dataclass(frozen=True)
class Step:
    """One step: the picture, its codes and score belong together; the state is after the move."""

    step: int  # 1 after the first
    image: Tensor  # (1, 3, H, W) float32 in [-1, 1]; with an average over steps, the average's
    indices: Tensor  # (1, h, w) int64: the codes of this picture
    losses: dict[str, float]  # distance, z_l2, tv, total; with a prior: surprise, bits per code
    score: float  # weighted cosine of the whole picture with the prompts
    state: State


class Quantized(NamedTuple):
    vectors: Tensor  # (1, D, h, w), with gradient to the variable
    indices: Tensor  # (1, h, w)


class Method(Protocol):
    """What the optimiser moves in place of the codes: they are whole numbers and have no gradient.

    `start` makes the variable from codebook vectors, `quantize` reads codes off it, `keep` takes it
    back to where it belongs after a step, `logits` scores every code in every cell.
    """

    def start(self, vqgan: VQGAN, vectors: Tensor) -> Tensor: ...

    def quantize(self, vqgan: VQGAN, variable: Tensor) -> Quantized: ...

    def keep(self, vqgan: VQGAN, variable: Tensor) -> Tensor: ...

    def logits(self, vqgan: VQGAN, variable: Tensor) -> Tensor: ...


class Latents:
    """VQGAN-CLIP's way: z, the vectors before the codebook; the gradient at z_q is copied to z."""

    def start(self, vqgan: VQGAN, vectors: Tensor) -> Tensor:
        if "latents" not in methods(vqgan):
            raise ValueError("this model's codes are not nearest neighbours: choose method logits")
        return vectors.clone()

    def quantize(self, vqgan: VQGAN, variable: Tensor) -> Quantized:
        encoding = vqgan.quantize.encode(variable)
        vectors = straight_through(encoding.latents, encoding.quantized.detach())
        return Quantized(vectors, encoding.indices)

    def keep(self, vqgan: VQGAN, variable: Tensor) -> Tensor:
        return vqgan.quantize.project(variable)

    def logits(self, vqgan: VQGAN, variable: Tensor) -> Tensor:
        return nearness(vqgan, variable)


class Logits:
    """A score for every code in every cell.

    The picture is decoded from the best code of each cell; the gradient goes to the mixture of all
    codes, weighted by the softmax of their scores.
    """

    def start(self, vqgan: VQGAN, vectors: Tensor) -> Tensor:
        return nearness(vqgan, vectors)

    def quantize(self, vqgan: VQGAN, variable: Tensor) -> Quantized:
        indices = variable.argmax(1)
        book = vqgan.quantize.codebook()
        mixture = torch.einsum("kd,bkhw->bdhw", book, torch.softmax(variable, 1))
        return Quantized(straight_through(mixture, vqgan.quantize.lookup(indices)), indices)

    def keep(self, vqgan: VQGAN, variable: Tensor) -> Tensor:
        return variable - variable.mean(1, keepdim=True)  # softmax does not see the mean

    def logits(self, vqgan: VQGAN, variable: Tensor) -> Tensor:
        return variable


METHODS: dict[str, type[Method]] = {"latents": Latents, "logits": Logits}


def methods(vqgan: VQGAN) -> tuple[str, ...]:
    """Those of METHODS that can move this model's codes, first the one to begin with."""
    near = hasattr(vqgan.quantize, "embedding")
    return tuple(name for name in METHODS if near or name != "latents")


def nearness(vqgan: VQGAN, vectors: Tensor) -> Tensor:
    """Vectors (B, D, h, w) -> a logit for every code, (B, K, h, w): the nearer, the higher."""
    book = vqgan.quantize.codebook()
    squares = book.square().sum(1).view(1, -1, 1, 1)
    return SHARPNESS * (2 * torch.einsum("kd,bdhw->bkhw", book, vectors) - squares)


@dataclass(frozen=True)
class Belief:
    """A prior and what it was told. It pulls codes towards those that it would have written.

    CLIP alone is pleased by strokes that no picture has; under the prior these are unlikely.
    """

    prior: GPT
    condition: Tensor | None = None  # (1, E) or None

    def surprise(self, logits: Tensor, indices: Tensor) -> Tensor:
        """Bits per code, (): cross-entropy of softmax(logits) (1, K, h, w) with the prior.

        The prior reads the codes as they are, `indices` (1, h, w), and gets no gradient.
        """
        likely = log_probs(self.prior, indices, self.condition)
        return -(torch.softmax(logits, 1) * likely).sum(1).mean() * BITS


def spherical_distance(a: Tensor, b: Tensor) -> Tensor:
    """Half the squared angle between unit vectors: 2 arcsin^2(|a - b| / 2); (..., E) -> (...).

    VQGAN+CLIP's loss (arXiv:2204.08583, section 2.2).
    """
    chord = (a - b).norm(dim=-1)
    return (chord / 2).clamp(max=1 - 1e-6).arcsin().square() * 2


def total_variation(image: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring pixels: (1, 3, H, W) -> ()."""
    return image.diff(dim=2).abs().mean() + image.diff(dim=3).abs().mean()


def noise(vqgan: VQGAN, seed: int) -> Tensor:
    """A grid of random codes, (1, h, w) int64, of the size the model was trained on."""
    side = vqgan.config.resolution // vqgan.config.downsampling
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(vqgan.config.codebook_size, (1, side, side), generator=generator)


@torch.no_grad()
def from_picture(vqgan: VQGAN, image: Tensor, strength: float, seed: int) -> Tensor:
    """A picture's codes (1, h, w), with a share `strength` of noise mixed into its latents.

    image (1, 3, H, W) in [-1, 1], sides multiples of f. Strength 0: the picture, 1: noise alone.
    """
    if not 0 <= strength <= 1:
        raise ValueError(f"strength is {strength}: it must lie in 0 to 1")
    latents = vqgan.encode(image).latents
    drawn = torch.randn(latents.shape, generator=torch.Generator().manual_seed(seed)).to(latents)
    drawn = drawn * latents.std() / drawn.std()
    mixed = (1 - strength) ** 0.5 * latents + strength**0.5 * drawn
    return vqgan.quantize.encode(mixed).indices


def guide(
    vqgan: VQGAN,
    clip: Clip,
    prompts: str | Sequence[Prompt] | Targets,
    config: GuidanceConfig,
    *,
    start: Tensor | State | None = None,
    belief: Belief | None = None,
) -> Iterator[Step]:
    """Move a grid towards the prompts; yields after every step up to `config.steps`.

    start   codes (1, h, w) int64, a `State` to go on from, or None: noise from the seed
    belief  a prior that keeps the codes likely; None: CLIP alone, as in the paper

    A run that goes on may do so with other prompts, models and settings than before, all but the
    seed and the method. Another optimiser starts without the moments of the old one.

    Gradients go to the optimised variable only; the models are not touched. ValueError at once,
    not at the first step.
    """
    if isinstance(prompts, str):
        prompts = parse(prompts)
    wanted = prompts if isinstance(prompts, Targets) else targets(clip, prompts)
    if isinstance(start, State):
        if start.method != config.method:
            raise ValueError(
                f"the run to go on from optimised {start.method}: {config.method} cannot go on it"
            )
        return _run(vqgan, clip, wanted, config.begun(start.noise), start, belief)
    device = next(vqgan.parameters()).device
    codes = noise(vqgan, config.seed) if start is None else start
    if codes.ndim != 3 or codes.shape[0] != 1 or codes.is_floating_point():
        raise ValueError(f"the start has shape {tuple(codes.shape)}: expected codes (1, h, w)")
    first = _first(vqgan, config, codes.to(device), start is None)
    return _run(vqgan, clip, wanted, config.begun(start is None), first, belief)


@torch.no_grad()
def _first(vqgan: VQGAN, config: GuidanceConfig, codes: Tensor, from_noise: bool) -> State:
    """The state before the first step."""
    vectors = vqgan.quantize.lookup(codes)
    variable = METHODS[config.method]().start(vqgan, vectors)
    generator = torch.Generator().manual_seed(config.seed)
    return State(
        step=0,
        method=config.method,
        noise=from_noise,
        variable=variable,
        origin=vectors,
        average=torch.zeros_like(variable),
        weight=0.0,
        optimizer=config.optimizer,
        moments=None,
        generator=generator.get_state(),
    )


def _run(
    vqgan: VQGAN,
    clip: Clip,
    wanted: Targets,
    config: GuidanceConfig,
    state: State,
    belief: Belief | None,
) -> Iterator[Step]:
    method, cut = METHODS[config.method](), Cutouts(config.cutouts)
    generator = torch.Generator()
    generator.set_state(state.generator)
    variable = state.variable.detach().clone().requires_grad_()
    highest = config.highest(state.noise)
    optimizer = OPTIMIZERS[config.optimizer]([variable], highest)
    if state.moments is not None and state.optimizer == config.optimizer:
        optimizer.load_state_dict(copy.deepcopy(state.moments))
    average, weight = state.average, state.weight
    for number in range(state.step, config.steps):
        for group in optimizer.param_groups:
            group["lr"] = config.rate(number, highest)
        with torch.enable_grad():
            vectors, indices = method.quantize(vqgan, variable)
            image = decode(vqgan, vectors)
            # CLIP sees what a screen can show; the gradient passes on, so that nothing gets stuck.
            image = straight_through(image, image.clamp(-1, 1))
            seen = look(clip, cut(image, clip.size, generator))
            losses = {
                "distance": distance(seen, wanted),
                # As VQGAN+CLIP has it: the pull fades, so that it only keeps the first steps calm.
                "z_l2": config.z_l2 / (number + 1) * (vectors - state.origin).square().mean(),
                "tv": config.tv * total_variation(image),
            }
            if belief is not None and config.surprise:
                bits = belief.surprise(method.logits(vqgan, variable), indices)
                losses["surprise"] = config.surprise * bits
            losses["total"] = total = sum(losses.values())
            (variable.grad,) = torch.autograd.grad(total, variable)
        optimizer.step()
        with torch.no_grad():
            variable.copy_(method.keep(vqgan, variable))
            shown, whole = image.detach(), seen[:1].detach()
            average = config.ema * average + (1 - config.ema) * variable
            weight = config.ema * weight + (1 - config.ema)
            if config.ema:
                vectors, indices = method.quantize(vqgan, method.keep(vqgan, average / weight))
                shown = decode(vqgan, vectors)
                whole = look(clip, shown.clamp(-1, 1))
        after = replace(
            state,
            step=number + 1,
            variable=variable.detach().clone(),
            average=average,
            weight=weight,
            optimizer=config.optimizer,
            moments=copy.deepcopy(optimizer.state_dict()),
            generator=generator.get_state(),
        )
        figures = {name: float(loss.detach()) for name, loss in losses.items()}
        score = float(wanted.similarity(whole)[0])
        yield Step(number + 1, shown.clamp(-1, 1), indices, figures, score, after)


def distance(seen: Tensor, wanted: Targets) -> Tensor:
    """Weighted spherical distance of views (N, E) from the prompts, the mean over views: ()."""
    away = spherical_distance(seen[:, None], wanted.embeddings[None])  # (N, P)
    return (away @ wanted.weights).mean()


def decode(vqgan: VQGAN, vectors: Tensor) -> Tensor:
    """Codebook vectors (B, D, h, w) -> pictures (B, 3, H, W) float32."""
    with autocast(vectors.device):
        return vqgan.decode(vectors.contiguous(memory_format=torch.channels_last)).float()


def look(clip: Clip, images: Tensor) -> Tensor:
    """Pictures (B, 3, S, S) -> CLIP's embeddings (B, E) float32, with gradient to the pixels."""
    with autocast(images.device):
        return clip.encode_image(images.contiguous(memory_format=torch.channels_last))
