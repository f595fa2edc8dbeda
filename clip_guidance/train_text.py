"""Train CLIP's text tower: `python -m clip_guidance.train_text --texts T --out RUN`.

Its token table starts from the sentence encoder's word pieces; then it learns to put the corpus of
`python -m clip_guidance.texts` where the sentence encoder puts it.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from clip_guidance import model, texts
from clip_guidance.captions import captioned, phrase_vectors
from clip_guidance.config import ClipConfig
from clip_guidance.teacher import Teacher
from clip_guidance.text_task import TextTask, TextTrainConfig, fill_table, is_chinese
from training import checkpoint, flags
from training.command import launch, prepare
from training.loop import LoopConfig
from vqgan import dataset

PARTS = {"model": ClipConfig, "train": TextTrainConfig, "loop": LoopConfig}
LOOP = {"lr": 1e-3, "steps": 3000}


def parser() -> argparse.ArgumentParser:
    p = flags.Parser(prog="python -m clip_guidance.train_text", description=__doc__)
    p.add_argument("--texts", required=True, type=Path, help="corpus by clip_guidance.texts")
    p.add_argument("--data", required=True, help="folder made by data.build: held-out captions")
    p.add_argument("--phrases", required=True, type=Path, help=".npy by clip_guidance.conditions")
    p.add_argument("--out", required=True, type=Path, help="folder of the run: checkpoint, log")
    p.add_argument("--resume", action="store_true", help="go on exactly where OUT stopped")
    flags.add_device(p)
    flags.add_flags(p, ClipConfig, "model", without=("image_size",))  # the other tower's
    flags.add_flags(p, TextTrainConfig, "losses and data")
    flags.add_flags(p, LoopConfig, "schedule", LOOP, without=("compile",))
    return p


def held_out(data: str, phrases: Path) -> dict[str, tuple[list[str], np.ndarray]]:
    """Names of held-out pictures, English and, where there are any, Chinese, with the English
    names' vectors."""
    rows, vectors = captioned(dataset.scan(data)), phrase_vectors(phrases)[:, 0]
    found: dict[str, dict[str, np.ndarray]] = {"english": {}, "chinese": {}}
    if len(rows) != len(vectors):
        raise ValueError(f"{phrases} is of {len(vectors)} pictures and {data} has {len(rows)}")
    for row, vector in zip(rows, vectors, strict=True):
        if row["split"] == "val":
            found["english"][row["captions"][0]] = vector
            if row.get("captions_zh"):
                found["chinese"][row["captions_zh"][0]] = vector
    if not found["english"]:
        raise ValueError(f"{data} has no held-out pictures: some must be of the split val")
    return {k: (list(some), np.array(list(some.values()))) for k, some in found.items() if some}


def word_table(strings: list[str], corpus: list[str], vectors: np.ndarray) -> torch.Tensor:
    """(V, E): what each string means, from its word pieces alone.

    The sentence encoder's input vectors, averaged over a string's pieces, through a linear map
    that was fitted on the corpus: no forward pass for 49,408 strings.
    """
    teacher = Teacher()
    pieces = teacher.model.get_input_embeddings().weight

    def averages(some: list[str]) -> torch.Tensor:
        ids = teacher.tokenizer(some, add_special_tokens=False)["input_ids"]
        return torch.stack([pieces[i].mean(0) if i else torch.zeros(pieces.shape[1]) for i in ids])

    short = [i for i, t in enumerate(corpus) if t.isascii() and t.count(" ") < 3][:40_000]
    inputs, wanted = averages([corpus[i] for i in short]), torch.from_numpy(vectors[short])
    ones = torch.ones(len(short), 1)
    linear = torch.linalg.lstsq(torch.cat([inputs, ones], 1), wanted).solution
    return torch.cat([averages(strings), torch.ones(len(strings), 1)], 1) @ linear


def token_strings(tokenizer: object) -> list[str]:
    """What each of the byte-pair tokens says, "" for fragments that are no text."""
    strings = []
    for token in range(tokenizer.vocab_size):
        said = "" if token in tokenizer.all_special_ids else tokenizer.decode([token]).strip()
        strings.append(said if said.isascii() else "")
    return strings


def get_task(args: argparse.Namespace, device: str) -> tuple[TextTask, dict]:
    """The task and its configs, from flags or, with --resume, from the run."""
    stored = {"model": {}, "train": {}, "loop": LOOP}
    if args.resume:
        stored = checkpoint.config_of(args.out, "clip_guidance.train_text", stored)
    configs = {k: flags.build(c, stored[k], flags.given(args, c)) for k, c in PARTS.items()}
    corpus, vectors = texts.load(args.texts)
    torch.manual_seed(configs["loop"].seed)
    clip = model.create(configs["model"].open_clip())
    if not args.resume:
        strings = token_strings(clip.tokenizer)
        table = word_table(strings, corpus, vectors)
        single = {t: i for i, t in enumerate(corpus) if len(t) == 1 and is_chinese(t)}
        for token in range(clip.tokenizer.vocab_size):  # characters, from their glosses
            said = clip.tokenizer.decode([token]).strip()
            if said in single:
                strings[token] = said
                table[token] = torch.from_numpy(vectors[single[said]])
        fill_table(clip.model.text, strings, table)
    task = TextTask(
        clip,
        configs["train"],
        configs["loop"],
        corpus,
        vectors,
        held_out(args.data, args.phrases),
        device,
    )
    return task, {k: asdict(v) for k, v in configs.items()}


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    try:
        device = prepare(args.out, args.resume, args.device)
        task, config = get_task(args, device)
    except (ValueError, OSError) as error:
        flags.fail(error)
    config["data"] = dataset.identity(args.data)
    options = {"module": "clip_guidance.train_text", "argv": argv, "resume": args.resume}
    launch(task, task.loop, args.out, config, **options)


if __name__ == "__main__":
    main()
