"""A bundle: one folder with a model's weights (safetensors) and config.json, its card.

`load` and `save` are strict: every tensor must be there, fit, and match the sha256 in the card.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import get_args, get_origin, get_type_hints

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as parse_safetensors
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from clip_guidance import model as clip_model
from clip_guidance.model import Clip
from clip_guidance.prompts import parse, targets
from prior.model import GPT, PriorConfig
from prior.sketch import SketchConfig, SketchReader
from training.files import write
from vqgan.model import PRESETS, UNSEEN, VQGAN, VQGANConfig
from vqgan.perceptual import PerceptualLoss

FORMAT = 1
DEFAULT = "emoji-128"
FOLDER = Path(__file__).parent
WEIGHTS, PRIOR, CARD = "vqgan.safetensors", "prior.safetensors", "config.json"
SKETCH = "sketch.safetensors"
DECODERS = "decoders"  # folder of those trained with one loss off
METRIC = FOLDER / "perceptual" / "alex.safetensors"
PARTS = ("sha256", "prior", "sketch", "clip", "decoders")  # of a card; each may be left out
KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
TOKENIZER = ("encoder.", "quant_conv.", "quantize.")
DECODER = ("post_quant_conv.", "decoder.")


@dataclass
class Bundle:
    """The models of one folder, ready for inference: eval mode, no gradients."""

    name: str
    vqgan: VQGAN
    prior: GPT | None
    card: dict  # config.json's content
    path: Path
    device: str | torch.device = "cpu"
    sketch: SketchReader | None = None  # what lets the prior follow lines

    @property
    def word(self) -> str:
        """What a command line calls it: its name if it is shipped, else its folder, quoted."""
        shipped = self.path.parent == FOLDER
        return shlex.quote(self.path.name if shipped else str(self.path))

    @cached_property
    def clip(self) -> Clip | None:
        """The bundle's CLIP, if it has one, built at first use: importing open_clip takes seconds.

        `load` has checked its files by then.
        """
        return clip_model.load(self.path, self.device) if "clip" in self.card else None

    def told(self, words: Sequence[str]) -> Tensor:
        """What the prior is told of each prompt, through this bundle's own CLIP: (n, E) float32.

        ValueError where the prior takes no words, or a prompt says nothing.
        """
        size = 0 if self.prior is None else self.prior.config.embedding_size
        if not size or self.clip is None or self.clip.embedding_size != size:
            raise ValueError(f"the prior of bundle {self.name} takes no words")
        return torch.cat([targets(self.clip, parse(text)).condition(1) for text in words])

    @cached_property
    def decoders(self) -> dict[str, VQGAN]:
        """Decoders trained with one loss off, by name; they share encoder and codebook.

        Built at first use; `load` has checked their files by then. See checkpoints/decoders.py.
        Strict: ValueError if one does not fit or belongs to another tokenizer.
        """
        return {name: _load_decoder(self, name) for name in self.card.get("decoders", {})}

    @cached_property
    def tokenizer_id(self) -> str:
        return tokenizer_id(self.vqgan, self.card)


def tokenizer_id(vqgan: VQGAN, card: dict | None = None) -> str:
    """sha256 (hex) over all that decides a picture's codes; the decoder has no part in it.

    The tensors of encoder, quant_conv and quantize as fp16 bytes, sorted by name, then those of
    the config's `UNSEEN` that differ from the bundled model's. It is the same for the trained model
    and for the bundle saved from it.

    Ids were once over tensors alone, and tokens and priors are known by them: where `card`, that of
    the same tokenizer's bundle, holds such an id, it stays.
    """
    state, digest = vqgan.state_dict(), hashlib.sha256()
    for name in sorted(n for n in state if n.startswith(TOKENIZER)):
        digest.update(state[name].detach().cpu().half().contiguous().numpy().tobytes())
    unseen = {name: getattr(vqgan.config, name) for name in UNSEEN}
    if card and card.get("tokenizer_id") == digest.hexdigest():
        known = card.get("vqgan", {})  # may be from before a field was added
        if unseen == {name: known.get(name, getattr(VQGANConfig, name)) for name in UNSEEN}:
            return digest.hexdigest()
    for name, value in unseen.items():
        if value != getattr(PRESETS["small"], name):
            digest.update(f"{name}={value}".encode())
    return digest.hexdigest()


def adopt_tokenizer(vqgan: VQGAN, path: Path) -> bool:
    """Give a model the very bytes of a bundle's tokenizer, if its own has the same values.

    Averaging turns a frozen -0.0 into 0.0, which is the same number and another sha256.
    """
    other, own = load(path).vqgan.state_dict(), vqgan.state_dict()
    names = [name for name in own if name.startswith(TOKENIZER)]
    if not all(torch.equal(own[n].half().cpu(), other[n].half().cpu()) for n in names):
        return False
    vqgan.load_state_dict({n: other[n] for n in names}, strict=False)
    return True


def names() -> list[str]:
    """The bundles that are shipped, by name."""
    return sorted(p.parent.name for p in FOLDER.glob(f"*/{CARD}"))


def load(name_or_path: str | os.PathLike = DEFAULT, device: str | torch.device = "cpu") -> Bundle:
    """A bundle by name, or from a folder. ValueError with one sentence if it is not whole."""
    path = find(name_or_path)
    card = read_card(path)
    vqgan = VQGAN(_config(VQGANConfig, card.get("vqgan"), path))
    fill(vqgan, path / WEIGHTS, card.get("sha256", {}).get(WEIGHTS))
    bundle = Bundle(str(card["name"]), vqgan, None, card, path, device)
    if "prior" in card:
        bundle.prior = _load_prior(bundle)
    if "sketch" in card:
        bundle.sketch = _load_sketch(bundle)
    if "clip" in card:
        for file in (clip_model.CONFIG, clip_model.WEIGHTS):
            checked(path / file, card.get("sha256", {}).get(file))
    for name in card.get("decoders", {}):
        file = f"{DECODERS}/{name}.safetensors"
        checked(path / file, card.get("sha256", {}).get(file))
    for model in filter(None, (bundle.vqgan, bundle.prior, bundle.sketch)):
        model.requires_grad_(False).eval().to(device)
    return bundle


def _load_prior(bundle: Bundle) -> GPT:
    card = bundle.card["prior"]
    prior = GPT(_config(PriorConfig, card.get("model"), bundle.path))
    fill(prior, bundle.path / PRIOR, bundle.card.get("sha256", {}).get(PRIOR))
    if card.get("tokenizer_id") != bundle.tokenizer_id:
        raise ValueError(
            f"the prior in {bundle.path} was trained on codes of another tokenizer: train one on "
            "this bundle's (python -m prior.train)"
        )
    if card.get("ranges") is not None:
        prior.ranges = _ranges(card["ranges"], prior, bundle.path)
    return prior


def _ranges(values: object, prior: GPT, path: Path) -> Tensor:
    """`GPT.ranges` from a card. ValueError if they are not this prior's."""
    try:
        ranges = torch.tensor(values, dtype=torch.float32)
    except (TypeError, ValueError):
        ranges = torch.empty(0)
    wanted = (4 * prior.config.layers + 1, 2)
    if ranges.shape != wanted or not ranges.isfinite().all():
        raise ValueError(
            f"the prior's ranges in {path / CARD} are not {wanted[0]} pairs of finite numbers: "
            "measure them (python -m prior.ranges)"
        )
    return ranges


def ranges_of(prior: GPT) -> dict[str, list]:
    """What a card says of a prior's ranges: nothing if they have not been measured."""
    if prior.ranges is None:
        return {}
    return {"ranges": [[round(x, 4) for x in pair] for pair in prior.ranges.tolist()]}


def _load_sketch(bundle: Bundle) -> SketchReader:
    card, hashes = bundle.card["sketch"], bundle.card.get("sha256", {})
    reader = SketchReader(_config(SketchConfig, card.get("model"), bundle.path))
    fill(reader, bundle.path / SKETCH, hashes.get(SKETCH))
    if bundle.prior is None or card.get("prior_sha256") != hashes.get(PRIOR):
        raise ValueError(
            f"the sketch reader in {bundle.path} was trained beside another prior: train one "
            "beside this one (python -m prior.train_sketch)"
        )
    return reader


def _load_decoder(bundle: Bundle, name: str) -> VQGAN:
    """The bundle's encoder and codebook (shared, not copied) with another decoder."""
    file = f"{DECODERS}/{name}.safetensors"
    path, vqgan = bundle.path / file, bundle.vqgan
    if bundle.card["decoders"][name].get("tokenizer_id") != bundle.tokenizer_id:
        raise ValueError(
            f"{path} was trained on codes of another tokenizer: train one on this bundle's "
            "(python -m vqgan.train --init BUNDLE --freeze-encoder)"
        )
    state = parse_safetensors(checked(path, bundle.card.get("sha256", {}).get(file)))
    strange = [key for key in state if not key.startswith(DECODER)]
    if strange:
        raise ValueError(f"{path} does not fit the model: {strange[0]} is not the decoder's")
    model = VQGAN(vqgan.config)
    model.encoder, model.quant_conv = vqgan.encoder, vqgan.quant_conv
    model.quantize = vqgan.quantize
    own = {k: v for k, v in vqgan.state_dict().items() if not k.startswith(DECODER)}
    try:
        model.load_state_dict({**own, **state})
    except RuntimeError as error:
        first = " ".join(str(error).splitlines()[:2])
        raise ValueError(f"{path} does not fit the model: {first}") from error
    return model.requires_grad_(False).eval().to(bundle.device)


def find(name_or_path: str | os.PathLike) -> Path:
    """The folder of a bundle given by name or path."""
    if str(name_or_path) in names():
        return FOLDER / str(name_or_path)
    path = Path(name_or_path)
    if (path / CARD).is_file():
        return path
    known = ", ".join(names()) or "none"
    raise ValueError(
        f"there is no bundle {str(name_or_path)!r}: give one of those here ({known}) or a folder "
        f"with {CARD} and {WEIGHTS}"
    )


def read_card(path: Path) -> dict:
    """config.json as a dict with a known format and a name."""
    try:
        card = json.loads((path / CARD).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path / CARD} cannot be read: {error}") from error
    if not isinstance(card, dict) or card.get("format") != FORMAT or "name" not in card:
        raise ValueError(f"{path / CARD} is not a bundle of format {FORMAT} with a name")
    parts = {name: card.get(name, {}) for name in PARTS}
    if isinstance(parts["decoders"], dict):
        parts |= {f"decoders.{name}": about for name, about in parts["decoders"].items()}
    for name, about in parts.items():
        if not isinstance(about, dict):
            raise ValueError(
                f"{name} in {path / CARD} is {about!r:.40}: write an object, or leave it out"
            )
    return card


def _config(cls: type, values: object, path: Path) -> VQGANConfig | PriorConfig | SketchConfig:
    try:
        kinds = get_type_hints(cls)
        for name, value in dict(**values).items():
            if name in kinds:
                _check(name, value, kinds[name])
        return cls(**values)
    except (TypeError, ValueError) as error:
        name = cls.__name__
        raise ValueError(f"{path / CARD} does not describe a {name}: {error}") from error


def _check(name: str, value: object, kind: type) -> None:
    """TypeError unless a config's field is of its annotated type, as JSON can write it."""
    if get_origin(kind) is tuple and isinstance(value, list):
        for item in value:
            _check(f"an item of {name}", item, get_args(kind)[0])
    elif type(value) is not kind and not (kind is float and type(value) is int):
        raise TypeError(f"{name} is {value!r:.40}, and must be {KINDS.get(kind, 'a list')}")


def fill(model: nn.Module, path: Path, sha256: str | None = None) -> None:
    """Load a safetensors file strictly into `model` (cast to its dtypes), sha256 checked."""
    data = checked(path, sha256)
    try:
        model.load_state_dict(parse_safetensors(data))
    except Exception as error:  # safetensors' own error type, or torch's list of keys
        first = str(error).splitlines()
        raise ValueError(f"{path} does not fit the model: {' '.join(first[:2])}") from error


def checked(path: Path, sha256: str | None) -> bytes:
    """A file's content; ValueError if it can't be read or its sha256 (if any is given) differs."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise ValueError(
            f"{path} is not the file that its {CARD} names (the sha256 differs): get it again"
        )
    return data


def save(
    path: str | os.PathLike,
    *,
    name: str,
    vqgan: VQGAN,
    card: dict,
    prior: GPT | None = None,
    dtype: torch.dtype | None = None,
) -> Path:
    """Write a bundle folder -> its path.

    `card` is what config.json says beyond what follows from the models: preprocess, training,
    metrics. `prior` must have been trained on this VQGAN's codes. `dtype` is that of the VQGAN's
    file; without one, that of the file which is replaced, or fp16. Each file is replaced in one
    step, config.json last. Other files of the folder stay, but a sketch reader goes with the prior
    beside which it was trained.
    """
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    files = {WEIGHTS: pack(vqgan.state_dict(), dtype or _precision(path / WEIGHTS))}
    derived = {
        "format": FORMAT,
        "name": name,
        "vqgan": vqgan.config.to_dict(),
        "tokenizer_id": tokenizer_id(vqgan, card),
    }
    if prior is not None:
        files[PRIOR] = pack(prior.state_dict())
        fixed = {"model": prior.config.to_dict(), "tokenizer_id": derived["tokenizer_id"]}
        about = {k: v for k, v in card.get("prior", {}).items() if k != "ranges"}
        derived["prior"] = about | fixed | ranges_of(prior)
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    known = card.get("sha256", {})
    stale = "sketch" in card and hashes.get(PRIOR, known.get(PRIOR)) != known.get(PRIOR)
    if stale:
        card = {k: v for k, v in card.items() if k != "sketch"}
        known = {k: v for k, v in known.items() if k != SKETCH}
    derived["sha256"] = known | hashes
    preprocess = {"size": vqgan.config.resolution, "range": [-1, 1], "background": "white"}
    files[CARD] = card_bytes({**derived, "preprocess": preprocess, **card, **derived})
    for file, data in files.items():
        write(path / file, data)
    if stale:
        (path / SKETCH).unlink(missing_ok=True)
    return path


def _precision(path: Path) -> torch.dtype:
    """That of a safetensors file, so that a converted tokenizer keeps its codes; fp16 if none."""
    try:
        with safe_open(path, "pt") as file:
            kinds = {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        return torch.float16
    return torch.float32 if "F32" in kinds else torch.float16


def save_clip(path: str | os.PathLike, config: dict, clip: Clip, about: dict) -> Path:
    """Put a CLIP into a bundle folder -> its path; all else there stays.

    `config` is what it was built from (`clip_guidance.model.create`), `about` the card's "clip":
    how it was trained and what it reaches. Each file is replaced in one step, config.json last.
    """
    path = Path(path)
    card = read_card(path)
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    files = {clip_model.CONFIG: text.encode(), clip_model.WEIGHTS: pack(clip.model.state_dict())}
    hashes = {file: hashlib.sha256(data).hexdigest() for file, data in files.items()}
    hashes = card.get("sha256", {}) | hashes
    files[CARD] = card_bytes(card | {"clip": about, "sha256": hashes})
    for file, data in files.items():
        write(path / file, data)
    return path


def save_sketch(path: str | os.PathLike, reader: SketchReader, about: dict) -> Path:
    """Put a sketch reader into the folder of the bundle whose prior it was trained beside -> it.

    `about` is the card's "sketch": how it was trained and what it reaches.
    """
    path = Path(path)
    card, data = read_card(path), pack(reader.state_dict())
    hashes = card.get("sha256", {}) | {SKETCH: hashlib.sha256(data).hexdigest()}
    about = about | {"model": reader.config.to_dict(), "prior_sha256": hashes[PRIOR]}
    text = card_bytes(card | {"sketch": about, "sha256": hashes})
    write(path / SKETCH, data)
    write(path / CARD, text)
    return path


def write_card(path: Path, card: dict) -> None:
    """Replace config.json in one step."""
    write(path / CARD, card_bytes(card))


def card_bytes(card: dict) -> bytes:
    """config.json's content; made before any file is replaced, since not every text has one."""
    return (json.dumps(card, indent=2, ensure_ascii=False) + "\n").encode()


def pack(state: dict[str, Tensor], dtype: torch.dtype = torch.float16) -> bytes:
    """Tensors -> a safetensors file of one dtype. ValueError if one does not survive the cast."""
    cast = {name: value.detach().cpu().to(dtype).contiguous() for name, value in state.items()}
    for name, value in cast.items():
        if not torch.isfinite(value).all():
            kind = "fp16" if dtype == torch.float16 else str(dtype).removeprefix("torch.")
            raise ValueError(f"{name} has values that are not finite in {kind}")
    return to_safetensors(cast)


def metric(device: str | torch.device = "cpu") -> PerceptualLoss:
    """The app's perceptual metric: shift-tolerant AlexNet, shipped in checkpoints/perceptual/."""
    model = PerceptualLoss("alex")
    fill(model, METRIC)
    return model.to(device)
