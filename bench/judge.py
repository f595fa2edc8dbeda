"""Whether a picture shows what its words say: a judge that takes no part in making pictures.

The judge looks at a picture through the shift-tolerant VGG16 (stlpips-pytorch, a dev requirement)
and a small head that was trained to point at MiniLM's embedding of the picture's caption, on the
training split only (`python -m bench.judge_train`). The head and the embeddings of all candidate
texts are shipped in checkpoints/judge/: judging needs neither MiniLM nor the data set, and nothing
in prior/, clip_guidance/ or ui/ knows of it.

Protocol, fixed before any picture was judged. A picture is ranked against POOL = 80 candidate
texts: its own, and 79 others drawn by a hash of its own text, 39 of them names of held-out concepts
and 40 other prompts of bench/prompts.json, none of whose MiniLM cosine with the own text reaches
SYNONYM = 0.6 (a picture of a puppy may well be called a dog). It counts as top-k when fewer than k
candidates score higher than its own text. Real pictures (held-out icons, under "a" + their name)
and made ones (under the English wording of their prompt) go through the same function. Shares are
means over texts, or concepts, not over pictures: a fifth of the held-out icons are couples.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load as parse_safetensors
from torch import Tensor, nn

from checkpoints.bundle import FOLDER, pack
from training.files import write
from training.precision import autocast
from vqgan.perceptual import PerceptualLoss, training_loss

SIDE = 96  # pixels that VGG sees: a decoder's blur weighs less, and it costs half of 128
CELLS = (2, 2, 2, 4, 4)  # each VGG stage is averaged to so many cells a side
CHANNELS = (64, 128, 256, 512, 512)
SIZES = tuple(c * n * n for c, n in zip(CHANNELS, CELLS, strict=True))
FEATURES = sum(SIZES)
EMBEDDING = 384  # of MiniLM
POOL, NAMES, SYNONYM = 80, 39, 0.6
FILES = FOLDER / "judge"
WEIGHTS, CARD = "judge.safetensors", "judge.json"


def trunk() -> PerceptualLoss:
    """The frozen VGG16. FileNotFoundError with the pip command where it is not installed."""
    return training_loss("vgg").to(memory_format=torch.channels_last)


@torch.inference_mode()
def describe(vgg: PerceptualLoss, images: Tensor) -> Tensor:
    """(B, 3, S, S) in [-1, 1] -> (B, 18176) float16: five stages, averaged over cells."""
    if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] != images.shape[3]:
        raise ValueError(f"pictures are {tuple(images.shape)}: the judge takes (B, 3, S, S)")
    if images.shape[2] != SIDE:
        images = F.interpolate(images, (SIDE, SIDE), mode="bilinear", antialias=True)
    x = images.contiguous(memory_format=torch.channels_last)
    with autocast(x.device):
        maps = vgg.features(x)
    pooled = [F.adaptive_avg_pool2d(m, n) for m, n in zip(maps, CELLS, strict=True)]
    return torch.cat([p.flatten(1) for p in pooled], 1).half()


class Head(nn.Module):
    """Features (B, 18176) -> embeddings (B, 384) of unit length in MiniLM's space."""

    def __init__(self, width: int = 384, hidden: int = 640):
        super().__init__()
        deep = CHANNELS[3] + CHANNELS[4]
        self.cell_norm = nn.LayerNorm(deep)
        self.cell = nn.Linear(deep, width)
        self.coarse_norm = nn.LayerNorm(sum(SIZES[:3]))
        self.join = nn.Linear(2 * width + sum(SIZES[:3]), hidden)
        self.out_norm = nn.LayerNorm(hidden)
        self.drop = nn.Dropout(0.3)
        self.out = nn.Linear(hidden, EMBEDDING)

    def forward(self, features: Tensor) -> Tensor:
        *coarse, fourth, fifth = features.float().split(SIZES, 1)
        deep = torch.cat([fourth.unflatten(1, (512, -1)), fifth.unflatten(1, (512, -1))], 1)
        cells = F.gelu(self.cell(self.cell_norm(deep.transpose(1, 2))))  # (B, 16, width)
        low = self.coarse_norm(torch.cat(coarse, 1))
        x = torch.cat([self.drop(cells.mean(1)), self.drop(cells.amax(1)), low], 1)
        x = F.gelu(self.out_norm(self.join(x)))
        return F.normalize(self.out(self.drop(x)), dim=-1)


@dataclass(frozen=True)
class Texts:
    """Candidate texts and their MiniLM embeddings."""

    texts: tuple[str, ...]
    embeddings: Tensor  # (T, 384) float32, unit length
    names: tuple[int, ...]  # which of them are names of held-out concepts, one a concept
    prompts: tuple[int, ...]  # which are prompts

    def of(self, text: str) -> int:
        """Where a text stands; ValueError for one whose embedding is not shipped."""
        try:
            return self.texts.index(text)
        except ValueError:
            raise ValueError(
                f"the judge does not know the text {text!r}: it reads prompts of "
                "bench/prompts.json and names of held-out pictures"
            ) from None

    def pool(self, text: str) -> list[int]:
        """The POOL candidates that a picture of `text` is ranked against; its own comes first.

        A pure function of the text: the same for every picture, seed and mode.
        """
        own = self.of(text)
        alike = self.embeddings @ self.embeddings[own]
        rng = np.random.default_rng(int(hashlib.sha256(text.encode()).hexdigest()[:16], 16))
        chosen = [own]
        for group, count in ((self.names, NAMES), (self.prompts, POOL - 1 - NAMES)):
            free = [i for i in group if i not in chosen and alike[i] < SYNONYM]
            if len(free) < count:
                raise ValueError(f"{text!r} has {len(free)} distractors of {count}: too few")
            chosen += [free[i] for i in rng.choice(len(free), count, replace=False)]
        return chosen


@dataclass(frozen=True)
class Judge:
    """Trunk, head and texts, ready to judge on the CPU."""

    vgg: PerceptualLoss
    head: Head
    texts: Texts
    card: dict

    def embed(self, images: Tensor) -> Tensor:
        """Pictures (B, 3, S, S) in [-1, 1] -> (B, 384) float32 of unit length."""
        return self.embed_features(describe(self.vgg, images))

    @torch.inference_mode()
    def embed_features(self, features: Tensor) -> Tensor:
        """The same from what `describe` gives."""
        return self.head(features)

    def ranks(self, embeddings: Tensor, texts: Sequence[str]) -> list[int]:
        """For each picture how many candidates beat its own text: 0 is best, POOL - 1 worst."""
        found = []
        for x, text in zip(embeddings, texts, strict=True):
            own, *others = (self.texts.embeddings[self.texts.pool(text)] @ x).tolist()
            found.append(sum(score >= own for score in others))
        return found


def shares(ranks: Sequence[int], groups: Sequence[str], tops: Sequence[int] = (1, 5)) -> dict:
    """{"top1": ..., "top5": ..., "pictures": n, "groups": m}: means over groups of their shares."""
    of: dict[str, list[int]] = {}
    for rank, group in zip(ranks, groups, strict=True):
        of.setdefault(group, []).append(rank)
    if not of:
        raise ValueError("there is no picture to judge")
    means = {
        f"top{k}": round(float(np.mean([np.mean([r < k for r in g]) for g in of.values()])), 4)
        for k in tops
    }
    return {**means, "pictures": len(ranks), "groups": len(of)}


def save(head: Head, texts: Texts, card: dict, folder: Path = FILES) -> Path:
    """Write the judge's two files (fp16 weights and texts' embeddings; texts and figures)."""
    folder.mkdir(parents=True, exist_ok=True)
    data = pack({**head.state_dict(), "texts": texts.embeddings})
    about = {
        "sha256": hashlib.sha256(data).hexdigest(),
        "names": texts.names,
        "prompts": texts.prompts,
        "texts": texts.texts,
    }
    write(folder / WEIGHTS, data)
    write(folder / CARD, (json.dumps({**card, **about}, indent=1) + "\n").encode())
    return folder


def load(folder: Path = FILES, vgg: PerceptualLoss | None = None) -> Judge:
    """The shipped judge. ValueError in one sentence where its files are missing or broken."""
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        data = (folder / WEIGHTS).read_bytes()
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"the judge in {folder} cannot be read: {error}") from error
    if hashlib.sha256(data).hexdigest() != card["sha256"]:
        raise ValueError(f"{folder / WEIGHTS} is not the file that {CARD} names: get it again")
    state = {name: value.float() for name, value in parse_safetensors(data).items()}
    embeddings = F.normalize(state.pop("texts"), dim=-1)
    head = Head()
    head.load_state_dict(state)
    texts = Texts(tuple(card["texts"]), embeddings, tuple(card["names"]), tuple(card["prompts"]))
    return Judge(vgg or trunk(), head.eval().requires_grad_(False), texts, card)
