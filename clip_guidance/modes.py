"""Text to image in three ways.

guided  VQGAN-CLIP's: noise or a picture, moved towards the prompt step by step
prior   several grids from the prior, conditioned on the prompt, the best one by CLIP
both    the best of the prior's, then guided steps from there
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from clip_guidance.guide import Belief, GuidanceConfig, State, Step, from_picture, guide
from clip_guidance.model import Clip
from clip_guidance.prompts import Prompt, Targets, parse, targets
from clip_guidance.rerank import Ranking, rank
from prior.classes import choose
from prior.model import GPT
from prior.sample import Progress, sample
from training.flags import option
from vqgan.images import fit, to_tensor
from vqgan.model import VQGAN

MODES = ("both", "prior", "guided")
MAX_CANDIDATES = 64
PATCH = 4  # cells: about the size of the patches that a start picture is repainted in


@dataclass(frozen=True)
class DrawConfig:
    """How the prior draws its candidates."""

    candidates: int = option(12, "grids drawn from the prior, of which CLIP picks the best")
    cfg_scale: float = option(4.0, "pull of the prompt on the prior; 1: as it learned")
    temperature: float = option(1.0, "of the prior; lower is safer, higher is wilder")
    top_p: float = option(0.95, "only the likeliest codes that together reach this probability")
    strength: float = option(0.5, "with a start picture: the share that is drawn anew")

    def __post_init__(self) -> None:
        n = self.candidates
        if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= MAX_CANDIDATES:
            raise ValueError(f"candidates is {n}: it must be a whole number, 1 to {MAX_CANDIDATES}")
        if not 0 <= self.strength <= 1:
            raise ValueError(f"strength is {self.strength}: it must lie in 0 to 1")
        for name in ("cfg_scale", "temperature", "top_p"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name} is {getattr(self, name)}: it must be a number")


@dataclass(frozen=True)
class Request:
    """What a visitor asks for."""

    prompt: str
    mode: str = "both"
    drawing: DrawConfig = field(default_factory=DrawConfig)
    guidance: GuidanceConfig = field(default_factory=GuidanceConfig)
    picture: Image.Image | None = None  # to start from
    image_prompt: Image.Image | None = None  # to go towards, beside the text or without one

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"mode is {self.mode!r}: choose {', '.join(MODES)}")
        # Filled in once, so that whoever counts steps and what a file keeps need not know of it.
        begun = self.guidance.begun(self.mode == "guided" and self.picture is None)
        object.__setattr__(self, "guidance", begun)


@dataclass(frozen=True)
class Models:
    """What text to image works with. `own` is the CLIP whose space the prior's condition has."""

    vqgan: VQGAN
    clip: Clip
    prior: GPT | None = None
    own: Clip | None = None

    def check(self, mode: str) -> None:
        """ValueError if these models cannot do it."""
        if mode != "guided" and self.prior is None:
            raise ValueError(f"this bundle has no prior, which mode {mode} needs: choose guided")

    @property
    def side(self) -> int:
        return self.vqgan.config.resolution

    @property
    def device(self) -> torch.device:
        return next(self.vqgan.parameters()).device


def prompts(request: Request, side: int) -> tuple[Prompt, ...]:
    """The request's texts, and its picture as one more prompt of weight 1."""
    if request.image_prompt is None:
        return parse(request.prompt)
    texts = parse(request.prompt, alone=False) if request.prompt.strip() else ()
    return (*texts, Prompt("picture", 1.0, on_white(request.image_prompt, side)))


def _placed(models: Models, request: Request) -> tuple[Prompt, ...]:
    """The prompts, pictures on the models' device."""
    found = prompts(request, models.side)
    return tuple(
        p if p.image is None else replace(p, image=p.image.to(models.device)) for p in found
    )


def run(models: Models, request: Request) -> Iterator[Progress | Ranking | Step]:
    """What happens, in order: codes written, candidates ranked, steps taken.

    ValueError at once, not at the first step.
    """
    models.check(request.mode)
    found = _placed(models, request)
    wanted = targets(models.clip, found)
    picture = None
    if request.picture is not None:
        picture = on_white(request.picture, models.side).to(models.device)
    if request.mode == "guided":
        strength, seed = request.drawing.strength, request.guidance.seed
        start = None if picture is None else from_picture(models.vqgan, picture, strength, seed)
        return guide(models.vqgan, models.clip, wanted, request.guidance, start=start)
    own = models.own or models.clip
    told = wanted if own is models.clip else targets(own, found)
    return _drawn(models, request, wanted, _draw(models, request, told, picture))


def go_on(models: Models, request: Request, start: Tensor | State) -> Iterator[Step]:
    """Guided steps from codes (1, h, w) or a state, kept likely by the prior that wrote them.

    Mode guided has no prior: CLIP alone, as in the paper. Of the request only the prompts and
    `guidance` count; see `guide` for what may differ from the steps before.
    """
    found = _placed(models, request)
    wanted = targets(models.clip, found)
    belief = None
    if request.mode != "guided":
        condition = None
        if models.prior.config.condition == "embedding":
            condition = _condition(models.prior, targets(models.own or models.clip, found), 1)
        belief = Belief(models.prior, condition)
    return guide(models.vqgan, models.clip, wanted, request.guidance, start=start, belief=belief)


def _drawn(
    models: Models, request: Request, wanted: Targets, steps: Iterator[Progress]
) -> Iterator[Progress | Ranking | Step]:
    for progress in steps:
        yield progress
    ranking = rank(models.vqgan, models.clip, progress.grid, wanted)
    yield ranking
    if request.mode == "both":
        yield from go_on(models, request, ranking.grids[ranking.best][None])


def _draw(
    models: Models, request: Request, told: Targets, picture: Tensor | None
) -> Iterator[Progress]:
    """Candidates from the prior, conditioned on the prompts where it can be."""
    prior, drawing, seed = models.prior, request.drawing, request.guidance.seed
    condition, scale = None, 1.0
    if prior.config.condition == "embedding":
        condition, scale = _condition(prior, told, drawing.candidates), drawing.cfg_scale
    elif prior.config.classes:  # words tell it nothing: CLIP looks among pictures of all classes
        condition = choose(prior, drawing.candidates, first_seed(seed))
    known = None
    if picture is not None:
        indices = models.vqgan.encode(picture).indices
        known = repainted(indices, drawing.candidates, drawing.strength, seed)
    return sample(
        prior,
        drawing.candidates,
        seed=first_seed(seed),
        temperature=drawing.temperature,
        top_p=drawing.top_p,
        cfg_scale=scale,
        known=known,
        condition=condition,
    )


def first_seed(seed: int) -> int:
    """The prior's seed for a run's first candidate; the others follow it one by one.

    No two seeds share a candidate: else the next seed would nearly always pick the same picture.
    """
    return seed * MAX_CANDIDATES % 2**62


def _condition(prior: GPT, told: Targets, n: int) -> Tensor:
    """What a conditional prior is told, (n, E). ValueError if it knows another CLIP's space."""
    if prior.config.embedding_size != told.embeddings.shape[1]:
        raise ValueError(
            "the prior was not trained with this CLIP: choose mode guided, or the CLIP that "
            "is shipped, or train a prior with conditions of this CLIP (clip_guidance.conditions, "
            "prior.train)"
        )
    return told.condition(n)


def repainted(indices: Tensor, n: int, strength: float, seed: int) -> Tensor:
    """A picture's codes (1, h, w) -> (n, h, w) with a share `strength` free (-1), in patches."""
    h, w = indices.shape[1:]
    free = round(strength * h * w)
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, 1, -(-h // PATCH) + 1, -(-w // PATCH) + 1, generator=generator)
    smooth = F.interpolate(coarse, (h, w), mode="bilinear", align_corners=True)
    chosen = smooth.view(n, -1).argsort(dim=1, stable=True)[:, :free]
    known = indices.cpu().expand(n, h, w).reshape(n, -1).clone()
    return known.scatter_(1, chosen, -1).view(n, h, w)


def on_white(image: Image.Image, side: int) -> Tensor:
    """A picture scaled to fit a white square, as the training pictures are: (1, 3, side, side)."""
    small = fit(image.convert("RGB"), side)
    page = Image.new("RGB", (side, side), "white")
    page.paste(small, ((side - small.width) // 2, (side - small.height) // 2))
    return to_tensor(page)
