"""CLIP: sentences and pictures as unit vectors of one space. Always an open_clip model.

A folder's own model (clip.json + clip.safetensors) and a published one by name are both built by
open_clip's factory. Radford et al. 2021, "Learning Transferable Visual Models From Natural
Language Supervision".
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load as parse_safetensors
from torch import Tensor, nn

CONFIG, WEIGHTS = "clip.json", "clip.safetensors"
BATCH = 256  # texts at a time
# Characters of a text that are looked at, for each token the model reads: byte-pair encoding takes
# quadratic time in the length of a word, and Chinese has no spaces.
CHARACTERS = 16


class Clip(nn.Module):
    """An open_clip model with its tokenizer and its preprocessing."""

    def __init__(self, name: str, model: nn.Module, tokenizer: Any):
        super().__init__()
        self.name, self.model, self.tokenizer = name, model, tokenizer
        # Channels last: a fifth less time for the small CLIP's cutouts on a CPU.
        model.visual.to(memory_format=torch.channels_last)
        quicken(model.visual)
        preprocess = model.visual.preprocess_cfg
        side = preprocess["size"]
        self.size: int = side if isinstance(side, int) else side[0]
        mean, std = (torch.tensor(preprocess[k]).view(1, 3, 1, 1) for k in ("mean", "std"))
        # (x + 1) / 2, then minus mean, over std, in one step.
        self.register_buffer("scale", 0.5 / std, persistent=False)
        self.register_buffer("shift", (0.5 - mean) / std, persistent=False)
        self.eval()

    @cached_property
    def embedding_size(self) -> int:
        with torch.no_grad():
            return self.encode_text([""]).shape[1]

    @property
    def device(self) -> torch.device:
        return self.scale.device

    def encode_image(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) float in [-1, 1], any size -> (B, E) float32 of unit length.

        Differentiable to the pixels. Pictures of another size than `size` are resized (bilinear,
        with antialiasing); a cutout made at `size` passes as it is.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images have shape {tuple(images.shape)}: expected (B, 3, H, W)")
        if images.shape[-2:] != (self.size, self.size):
            images = F.interpolate(
                images.float(), (self.size, self.size), mode="bilinear", antialias=True
            )
        pixels = torch.addcmul(self.shift, images.float(), self.scale)
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        return F.normalize(self.model.encode_image(pixels).float(), dim=-1)

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Texts -> (B, E) float32 of unit length. Long ones are cut at the context length."""
        if isinstance(texts, str):
            raise ValueError("encode_text takes a list of texts: put the one text in a list")
        parts = [self.encode_tokens(self.tokenize(texts[i : i + BATCH])) for i in _starts(texts)]
        return torch.cat(parts) if parts else torch.empty(0, self.embedding_size)

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Texts -> (B, context length) int64."""
        limit = CHARACTERS * self.model.context_length
        return self.tokenizer([" ".join(text.split())[:limit] for text in texts])

    def encode_tokens(self, tokens: Tensor) -> Tensor:
        """(B, context length) int64 -> (B, E) float32 of unit length."""
        return F.normalize(self.model.encode_text(tokens.to(self.device)).float(), dim=-1)


def _starts(texts: Sequence[str]) -> range:
    return range(0, len(texts), BATCH)


def quicken(visual: nn.Module) -> None:
    """Have a tower's strided depthwise convolutions compute in float32 on a CPU, despite autocast.

    oneDNN has no kernel for their bfloat16 gradient to the input, only a reference loop: it took
    54 ms of the 90 that 16 cutouts need for a way back through EfficientNet-Lite0; float32 takes 2.
    """
    for conv in visual.modules():
        if (
            isinstance(conv, nn.Conv2d)
            and conv.groups == conv.in_channels > 1
            and max(conv.stride) > 1
        ):
            conv.forward = partial(_in_float32, conv.forward)


def _in_float32(forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    if x.device.type != "cpu":
        return forward(x)
    with torch.autocast("cpu", enabled=False):
        return forward(x.float()).to(x.dtype)


def load(folder_or_name: str | os.PathLike, device: str | torch.device = "cpu") -> Clip:
    """The CLIP of a folder (clip.json + clip.safetensors), or a published one by name.

    Published: any of open_clip's names, "ViT-B-32" or "ViT-B-32/laion2b_s34b_b79k"; downloaded at
    first use. Ready for inference: eval mode, no gradients to the weights. ValueError with one
    sentence if there is no such model, it is damaged, or it cannot be downloaded.
    """
    folder = Path(folder_or_name)
    if (folder / CONFIG).is_file():
        clip = create(read_config(folder / CONFIG), folder.resolve().name)
        fill(clip, folder / WEIGHTS)
    elif folder.is_dir() and str(folder_or_name):
        raise ValueError(f"{folder} holds no {CONFIG}: give a folder with {CONFIG} and {WEIGHTS}")
    else:
        return by_name(str(folder_or_name), device)
    return clip.requires_grad_(False).to(device)


class UnknownClip(ValueError):
    """open_clip publishes none of this name."""


def by_name(name: str, device: str | torch.device = "cpu") -> Clip:
    """The published CLIP of this name; unlike `load` it looks into no folder."""
    return published(name).requires_grad_(False).to(device)


def read_config(path: Path) -> dict[str, Any]:
    """clip.json: open_clip's `model_cfg` and `preprocess_cfg`."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if not isinstance(config, dict) or not isinstance(config.get("model_cfg"), dict):
        raise ValueError(f"{path} describes no CLIP: it needs open_clip's model_cfg")
    return config


def create(config: dict[str, Any], name: str = "clip") -> Clip:
    """A CLIP with fresh weights from open_clip's `model_cfg` and `preprocess_cfg`.

    Random numbers come from torch's global generator. ValueError if open_clip can't build it.
    """
    with tempfile.TemporaryDirectory(prefix="clip-") as folder:
        # The file name that open_clip looks for in a local folder.
        path = Path(folder) / "open_clip_config.json"
        path.write_text(json.dumps(config), encoding="utf-8")
        with _quiet("Local config loaded, but no CLIP weights", "No pretrained weights loaded"):
            try:
                return _factory(name, f"local-dir:{folder}", None)
            except (ValueError, TypeError, KeyError, RuntimeError, AssertionError) as error:
                first = str(error).splitlines() or [type(error).__name__]
                raise ValueError(f"open_clip cannot build {name}: {first[0]}") from error


def published(name: str) -> Clip:
    """A published model, "NAME" or "NAME/TAG", through open_clip's download. See `load`."""
    import open_clip

    model, _, tag = name.partition("/")
    tags = open_clip.list_pretrained_tags_by_model(model)
    if not tags:
        raise UnknownClip(
            f"there is no CLIP {name!r}: choose one of open_clip's names, such as ViT-B-32"
        )
    if tag and tag not in tags:
        raise UnknownClip(f"{model} has no weights {tag!r}: choose from {', '.join(tags)}")
    tag = tag or default_tag(model, tags)
    try:
        return _factory(name, model, tag)
    except Exception as error:  # whatever the hub's client, the network or the disk raises
        raise ValueError(
            f"{model} could not be downloaded: its weights ({tag}) come over the network at first "
            f"use, and that failed ({_reason(error)}); the CLIP that is shipped works offline"
        ) from error


def default_tag(model: str, tags: Sequence[str]) -> str:
    """LAION's largest training where there is one, whose activation the model's config has."""
    return next((t for t in tags if t.startswith("laion2b_s")), tags[0])


def fill(clip: Clip, path: Path) -> None:
    """Load a safetensors file strictly into the model, cast to its dtypes."""
    try:
        clip.model.load_state_dict(parse_safetensors(path.read_bytes()))
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except Exception as error:  # safetensors' own error type, or torch's list of keys
        first = " ".join(str(error).splitlines()[:2])
        raise ValueError(f"{path} does not fit its {CONFIG}: {first}") from error


def _factory(name: str, model_name: str, pretrained: str | None) -> Clip:
    """open_clip's factory; imported here, since that takes seconds."""
    import open_clip

    tag = open_clip.get_pretrained_cfg(model_name, pretrained) if pretrained else {}
    quick = bool((tag or {}).get("quick_gelu"))
    model = open_clip.create_model(
        model_name, pretrained, force_quick_gelu=quick, require_pretrained=pretrained is not None
    )
    return Clip(name, model, open_clip.get_tokenizer(model_name))


@contextlib.contextmanager
def _quiet(*starts: str) -> Iterator[None]:
    """Drop these log messages of open_clip's, which would alarm: weights are loaded afterwards."""
    root = logging.getLogger()

    def keep(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(starts)

    root.addFilter(keep)
    try:
        yield
    finally:
        root.removeFilter(keep)


def _reason(error: BaseException) -> str:
    """The first line of an error's message, or its kind."""
    return " ".join((str(error).strip().splitlines() or [type(error).__name__])[0].split())
