"""Open a published tokenizer, or your own: `python -m checkpoints.convert SRC OUT --format F`.

Writes a bundle folder that every `--bundle` takes. Strict: each tensor of SRC must have its place
in our VQGAN and each place its tensor; what only training needs is left out by name and counted.

  taming     .ckpt of taming-transformers (or latent-diffusion's VQ models), or .safetensors with
             its names; --config is the model's .yaml, or the shape is read off the weights. One
             with a transformer in it (FFHQ, CelebA-HQ, class-conditional ImageNet) brings its prior
             along, and then needs its .yaml
  diffusers  a VQModel: its folder, or the weights with config.json beside them (or --config)
  llamagen   .pt of LlamaGen's VQ-16 and VQ-8: codes on the unit sphere
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shlex
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from checkpoints import net2net
from checkpoints.bundle import read_card, save
from checkpoints.foreign import read
from checkpoints.formats import FORMATS, LANDMARK, Fields, count, ours, rename, theirs
from prior.model import GPT
from training.flags import Parser, fail
from vqgan.model import VQGAN, VQGANConfig

RESOLUTION = 256  # where nothing else says it
WRAPPERS = ("module.", "_orig_mod.")
AVERAGE = "model_ema."
# What diffusers calls a model's weights: today, until 2023, and where halves lie alone.
ENDINGS = (".safetensors", ".bin", ".fp16.safetensors", ".fp16.bin")


@dataclass(frozen=True)
class Converted:
    """What `load` made of a file."""

    vqgan: VQGAN
    prior: GPT | None  # where the file holds both stages
    dtype: torch.dtype  # of the VQGAN: fp16 if the file held nothing finer
    part: str | None  # of the file
    dropped: dict[str, int]  # tensors that only training needs, counted by the start of their name
    ignored: tuple[str, ...]  # foreign classes in the file, none of which was run


def load(
    src: Path,
    name: str,
    config: Path | None = None,
    *,
    resolution: int | None = None,
    unit_range: bool = False,
    with_prior: bool = True,
) -> Converted:
    """What other people's file `src` holds, whose names are those of FORMATS[name].

    `resolution` is the side that pictures are brought to. `unit_range`: the model was trained on
    pixels in [0, 1]. `with_prior` False leaves a second stage out. ValueError with one sentence if
    anything is missing, left over or misfitting.
    """
    form = FORMATS[name]
    if name == "diffusers":
        src = weights_of(src)
        beside = src.parent / "config.json"
        config = beside if config is None and beside.is_file() else config
    found, part, ignored = read(src)
    found = unwrapped(found)
    if (mean := averaged(found)) is not None:
        found, part = mean, f"{part or 'tensors'}, of these the average ({AVERAGE}*)"
    both = name == "taming" and net2net.holds(found)
    tensors = net2net.part(found, net2net.FIRST) if both else found
    dropped = [key for key in tensors if key.startswith(form.dropped)] if form.dropped else []
    tensors = {
        rename(key, [(old, new) for new, old in form.aliases]): value
        for key, value in tensors.items()
        if key not in dropped
    }
    _recognise(src, name, tensors)
    depth = count((ours(key, form, 0) for key in tensors), r"encoder\.down\.(\d+)\.")
    shapes = {ours(key, form, depth): tuple(value.shape) for key, value in tensors.items()}
    try:
        fields = form.fields(config, shapes)
    except KeyError as error:
        raise ValueError(f"{src} lacks {theirs(error.args[0], form, depth)}") from error
    both = both and with_prior
    if both and config and resolution not in (None, fields["resolution"]):
        raise ValueError(
            f"{src} holds a prior, which writes pictures of {fields['resolution']} px: leave "
            "--resolution out, or the prior with --no-prior"
        )
    vqgan = _model(src, fields, resolution, unit_range)
    _fill(src, name, tensors, vqgan)
    prior = net2net.prior_of(src, found, config, vqgan.config) if both else None
    halves = all(value.dtype == torch.float16 for value in tensors.values())
    counts = Counter(".".join(key.split(".")[:2]) for key in dropped)
    dtype = torch.float16 if halves else torch.float32
    return Converted(vqgan, prior, dtype, part, dict(counts), ignored)


def weights_of(src: Path) -> Path:
    """The file with the weights: `src` itself, or the one in a VQModel's folder."""
    if not src.is_dir():
        return src
    files = [src / f"diffusion_pytorch_model{ending}" for ending in ENDINGS]
    return next((file for file in files if file.is_file()), files[0])


def unwrapped(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without what DataParallel and torch.compile put before each name, in whatever order."""
    for start in WRAPPERS * 2:
        if tensors and all(key.startswith(start) for key in tensors):
            tensors = {key.removeprefix(start): value for key, value in tensors.items()}
    return tensors


def averaged(tensors: dict[str, Tensor]) -> dict[str, Tensor] | None:
    """Weights as latent-diffusion evaluates them: each one's average where there is one.

    Its LitEma keeps that under the weight's own name without the dots. None where it has none.
    """
    means = net2net.part(tensors, AVERAGE)
    last = {key: value for key, value in tensors.items() if not key.startswith(AVERAGE)}
    found = {key: means.get(key.replace(".", ""), value) for key, value in last.items()}
    placed = {key.replace(".", "") for key in last} & set(means)
    lost = set(means) - placed - {"decay", "num_updates"}  # stays, so that it is refused
    return found | {AVERAGE + key: means[key] for key in lost} if placed else None


def _recognise(src: Path, name: str, tensors: dict[str, Tensor]) -> None:
    """ValueError if the tensors have another format's names, or no VQGAN's."""
    found = [f for f, form in FORMATS.items() if theirs(LANDMARK, form, 1) in tensors]
    if name not in found:
        advice = f"its names are those of --format {found[0]}" if found else "is it a VQGAN?"
        raise ValueError(
            f"{src} has no {theirs(LANDMARK, FORMATS[name], 1)}, as {name} checkpoints do: {advice}"
        )


def _model(src: Path, fields: Fields, resolution: int | None, unit_range: bool) -> VQGAN:
    """The model that the fields describe, without its numbers."""
    fields = {"resolution": RESOLUTION, "in_channels": 3, "out_ch": 3} | fields
    levels = fields.pop("levels")
    if resolution is not None:
        fields["resolution"] = resolution
    for field in ("in_channels", "out_ch"):
        if fields[field] != 3:
            raise ValueError(f"{src} has {field} {fields[field]}: only RGB pictures can be shown")
    try:
        sides = tuple(fields["resolution"] // 2**i for i in levels)
        config = VQGANConfig(**fields, attn_resolutions=sides, unit_range=unit_range)
        with torch.device("meta"):
            return VQGAN(config)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{src} is no VQGAN of ours: {error}") from error


def _fill(src: Path, name: str, tensors: dict[str, Tensor], vqgan: VQGAN) -> None:
    """Give a model exactly these tensors, by their foreign names."""
    form, depth = FORMATS[name], len(vqgan.config.ch_mult)
    wanted = {theirs(key, form, depth): (key, v.shape) for key, v in vqgan.state_dict().items()}
    for keys, verb in (
        (wanted.keys() - tensors.keys(), "lacks"),
        (tensors.keys() - wanted.keys(), "has no place here for"),
    ):
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise ValueError(f"{src} {verb} {', '.join(sorted(keys)[:3])}{more}")
    state = {}
    for key, (own, shape) in wanted.items():
        value = tensors[key]
        if not value.is_floating_point():
            raise ValueError(f"{src}: {key} is {value.dtype}, not floating point")
        # diffusers keeps 1x1 convolutions of its attention as matrices
        if value.shape != shape and (*value.shape, 1, 1) != tuple(shape):
            found, right = ("x".join(map(str, s)) for s in (value.shape, shape))
            raise ValueError(f"{src}: {key} is {found}, and by its configuration {right}")
        state[own] = value.float().reshape(shape)
    # aMUSEd's decoder draws pixels in [0, 1]: scaling its last layer is exact
    if vqgan.config.unit_range:
        state["decoder.conv_out.weight"] = state["decoder.conv_out.weight"] * 2
        state["decoder.conv_out.bias"] = state["decoder.conv_out.bias"] * 2 - 1
    vqgan.load_state_dict(state, assign=True)
    vqgan.eval().requires_grad_(False)


def convert(src: Path, out: Path, name: str, config: Path | None = None, **options: Any) -> str:
    """Write the bundle `out` -> what was done, in lines. ValueError leaves nothing behind."""
    if out.exists():
        raise ValueError(f"{out} is there already: choose a new folder, or remove it")
    made = load(src, name, config, **options)
    cfg = made.vqgan.config
    weights = weights_of(src)
    card = {"converted": {"format": name, "file": weights.name, "sha256": _sha256(weights)}}
    part = out.resolve().with_name(f".{out.resolve().name}.{os.getpid()}.part")
    try:
        models = {"vqgan": made.vqgan, "prior": made.prior}
        save(part, name=out.resolve().name, card=card, dtype=made.dtype, **models)
        os.rename(part, out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    size = sum(p.numel() for p in made.vqgan.parameters()) / 1e6
    lines = [
        f"{out}: {cfg.resolution} px, f{cfg.downsampling}, {cfg.codebook_size:,} {cfg.quantizer} "
        f"codes of {cfg.embed_dim} dimensions, {size:.1f} M parameters",
        f"tokenizer {read_card(out)['tokenizer_id']}",
    ]
    if made.prior is not None:
        lines.append(f"prior: {_described(made.prior)}, kept in fp16")
    if made.part:
        lines.append(f"taken: {made.part}")
    if made.dropped:
        counts = ", ".join(f"{start} {n}" for start, n in sorted(made.dropped.items()))
        lines.append(f"left out, tensors for training only: {counts}")
    if made.ignored:
        lines.append(f"named in the file and not run: {', '.join(made.ignored)}")
    return "\n".join([*lines, f"next: python app.py --bundle {shlex.quote(str(out))}"])


def _described(prior: GPT) -> str:
    cfg, size = prior.config, sum(p.numel() for p in prior.parameters()) / 1e6
    told = f"told one of {cfg.classes:,} classes" if cfg.classes else "unconditional"
    return f"{cfg.layers} layers of {cfg.dim}, {size:.1f} M parameters, {told}"


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def main(argv: list[str] | None = None) -> None:
    p = Parser(
        prog="python -m checkpoints.convert",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("src", metavar="SRC", type=Path, help="the checkpoint")
    p.add_argument("out", metavar="OUT", type=Path, help="folder of the bundle; must not be there")
    p.add_argument("--format", required=True, choices=FORMATS, help="whose names the tensors have")
    p.add_argument("--config", metavar="FILE", type=Path, help="the model's .yaml or config.json")
    p.add_argument(
        "--resolution",
        type=int,
        help=f"side that pictures are brought to (the configuration's, or {RESOLUTION})",
    )
    p.add_argument(
        "--unit-range", action="store_true", help="trained on pixels in [0, 1], as aMUSEd's was"
    )
    p.add_argument(
        "--no-prior", action="store_false", dest="with_prior", help="take the VQGAN alone"
    )
    args = vars(p.parse_args(argv))
    try:
        print(convert(args.pop("src"), args.pop("out"), args.pop("format"), **args))
    except (ValueError, OSError) as error:
        fail(error)


if __name__ == "__main__":
    main()
