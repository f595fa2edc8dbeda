"""Train the judge's head: `python -m bench.judge_train --data DIR --tokens F.npy ...`.

It learns from the training split only, and of that one icon in forty (by hash) is kept back:
unseen drawings of known concepts, which the card reports beside the held-out concepts. Texts are
the MiniLM embeddings of the pictures' phrases (`--conditions`, from clip_guidance.conditions), the
loss is CLIP's (arXiv:2103.00020). The VGG features in `--cache` are computed once, an hour or two
on one core; a run that was stopped goes on with them, and `--items` does with fewer.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

import checkpoints
from bench import judge_views
from bench.judge import FILES, Head, Judge, Texts, save, shares, trunk
from bench.judge_views import Item, is_probe, is_reference
from clip_guidance.captions import article
from clip_guidance.teacher import Teacher
from prior import tokens as token_files
from training import flags
from training.arrays import read_array
from training.precision import autocast
from vqgan import dataset

PROMPTS = Path(__file__).parent / "prompts.json"
ALIKE = 0.8  # texts of this cosine and more are no negatives of each other
BATCH, RATE, DECAY, TEMPERATURE = 512, 1e-3, 0.1, 0.06


def english_prompts() -> list[str]:
    """What the judge reads of the committed prompts, each once."""
    prompts = json.loads(PROMPTS.read_text(encoding="utf-8"))["prompts"]
    return list(dict.fromkeys(p["english"] for p in prompts))


def own_text(row: dict) -> str:
    """What a real picture is judged by: "a rabbit"."""
    return article(row["name"])


def protocol_texts(rows: list[dict], teacher: Teacher) -> Texts:
    """Names of held-out icons and of the kept-back ones, and all prompts, with embeddings."""
    held_out: dict[str, str] = {}
    for row in sorted(filter(is_reference, rows), key=lambda r: (len(r["name"]), r["name"])):
        held_out.setdefault(row["concept"], own_text(row))
    english = english_prompts()
    own = sorted({own_text(row) for row in rows if is_reference(row) or is_probe(row)})
    texts = list(dict.fromkeys([*held_out.values(), *english, *own]))
    place = {text: i for i, text in enumerate(texts)}
    names = sorted({place[text] for text in held_out.values()})
    embeddings = torch.from_numpy(teacher.encode(texts))
    return Texts(tuple(texts), embeddings, tuple(names), tuple(place[text] for text in english))


def loss(images: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
    """InfoNCE both ways: (B, 384) unit vectors; rows of nearly the same text are no negatives."""
    alike = texts @ texts.T >= ALIKE
    alike.fill_diagonal_(False)
    logits = (scale * images @ texts.T).masked_fill(alike, float("-inf"))
    own = torch.arange(len(images))
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def train(features: np.ndarray, phrases: np.ndarray, *, steps: int, seed: int = 0) -> Head:
    """A head from features (N, FEATURES) float16 and each one's phrases (N, P, 384)."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    head = Head().train()
    log_scale = torch.nn.Parameter(torch.tensor(math.log(1 / TEMPERATURE)))
    groups = [{"params": head.parameters()}, {"params": [log_scale], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, weight_decay=DECAY)
    warmup = max(1, steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda i: min((i + 1) / warmup, 0.5 + 0.5 * math.cos(math.pi * i / steps))
    )
    bar = tqdm(range(steps), unit="step", mininterval=5, disable=steps < 20)
    for step in bar:
        chosen = rng.choice(len(features), min(BATCH, len(features)), replace=False)
        x = torch.from_numpy(features[np.sort(chosen)])
        which = rng.integers(phrases.shape[1], size=len(chosen))
        y = torch.from_numpy(phrases[np.sort(chosen), which].astype(np.float32))
        with autocast("cpu"):
            embedded = head(x)
        value = loss(embedded.float(), y, log_scale.exp().clamp(max=100))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
        if step % 20 == 0:
            bar.set_postfix(loss=f"{value.item():.3f}", scale=f"{log_scale.exp().item():.1f}")
    return head.eval().requires_grad_(False)


def report(judge: Judge, features: np.ndarray, items: list[Item], rows: list[dict]) -> dict:
    """Top-1 and top-5 on real pictures, plain and rebuilt: held-out concepts, known concepts."""
    found = {}
    for name, chosen in (("held_out", is_reference), ("known_concepts", is_probe)):
        for view in ("plain", "rebuilt"):
            at = [n for n, i in enumerate(items) if i.view == view and chosen(rows[i.picture])]
            own = [rows[items[n].picture] for n in at]
            x = judge.embed_features(torch.from_numpy(features[at]))
            ranks = judge.ranks(x, [own_text(row) for row in own])
            found[f"{name}_{view}"] = shares(ranks, [row["concept"] for row in own])
    return found


def parser() -> argparse.ArgumentParser:
    p = flags.Parser(prog="python -m bench.judge_train", description=__doc__)
    p.add_argument("--data", required=True, type=Path, help="folder made by data.build")
    p.add_argument("--tokens", required=True, type=Path, help="F.npy made of it by prior.tokens")
    p.add_argument("--conditions", required=True, type=Path, help="C.npy made of both")
    p.add_argument("--cache", required=True, type=Path, help="folder where the features are kept")
    p.add_argument("--bundle", default=checkpoints.DEFAULT, help="name or folder (%(default)s)")
    p.add_argument("--items", type=int, metavar="N", help="only the first N rows of features")
    p.add_argument("--out", type=Path, default=FILES, help="folder to write (%(default)s)")
    p.add_argument("--steps", type=int, default=1500, help="of training (%(default)s)")
    p.add_argument("--seed", type=int, default=0)
    return p


def run(args: argparse.Namespace) -> dict:
    """Features, training, report, files -> the card's figures."""
    bundle = checkpoints.load(args.bundle)
    tokens = token_files.load(args.tokens, bundle.tokenizer_id)
    pictures, rows = tokens.pictures(dataset.scan(args.data)), tokens.rows
    if tokens.data["sha256"] != dataset.identity(args.data)["sha256"]:
        raise ValueError(f"{args.tokens} was not made from {args.data}: encode it again")
    if not any(map(is_reference, rows)):
        raise ValueError(f"{args.data} has no held-out icons: give a folder made by data.build")
    phrases = read_array(args.conditions, "conditions", mmap=True)
    if len(phrases) != len(rows) or args.steps < 1:
        raise ValueError(f"--conditions has {len(phrases)} rows for {len(rows)}, or no --steps")
    everything = judge_views.items(rows)
    items = everything[: args.items]
    about = {"data": tokens.data["sha256"], "tokenizer": bundle.tokenizer_id}
    features = judge_views.features(
        items,
        lambda some: judge_views.seen(some, pictures, tokens, bundle.vqgan),
        trunk(),
        args.cache,
        {**about, "items": len(everything)},
        lambda it: tqdm(it, unit="batch", desc="features", mininterval=5),
    )
    first = sum(is_reference(row) or is_probe(row) for row in rows) * 2
    if len(items) <= first:
        raise ValueError(f"--items {args.items}: the first {first} are for testing, none is left")
    lessons = phrases[[item.picture for item in items[first:]]]
    head = train(features[first:], lessons, steps=args.steps, seed=args.seed)
    texts = protocol_texts(rows, Teacher())
    figures = report(Judge(None, head, texts, {}), features, items, rows)
    learned = {"views": len(items) - first, "steps": args.steps, "seed": args.seed}
    save(head, texts, {**about, **learned, "real_pictures": figures}, args.out)
    return figures


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    try:
        figures = run(args)
    except (ValueError, OSError) as error:
        flags.fail(error)
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
