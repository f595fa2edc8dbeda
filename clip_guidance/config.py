"""The bundled CLIP's shape, as open_clip's factory takes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from clip_guidance.lite import TIMM
from training.flags import option


@dataclass(frozen=True)
class ClipConfig:
    """What can be chosen about the small CLIP."""

    embed_dim: int = option(384, "length of the vectors: the sentence encoder's")
    image_size: int = option(96, "side of the pictures it looks at, in pixels")
    context_length: int = option(40, "tokens it reads; a Chinese character takes two or three")
    text_width: int = option(256, "width of the text transformer")
    text_layers: int = option(4, "its layers")
    text_heads: int = option(4, "its attention heads")

    def __post_init__(self) -> None:
        for name in ("embed_dim", "text_layers", "text_heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be at least 1")
        if self.image_size < 32:
            raise ValueError(f"image_size is {self.image_size}: it must be at least 32")
        if self.context_length < 4:
            raise ValueError(f"context_length is {self.context_length}: it must be at least 4")
        if self.text_width < 1 or self.text_width % self.text_heads:
            raise ValueError(
                f"text_width is {self.text_width}: it must be a multiple of {self.text_heads} heads"
            )

    def open_clip(self) -> dict[str, Any]:
        """`model_cfg` and `preprocess_cfg`, the content of clip.json."""
        return {
            "model_cfg": {
                "embed_dim": self.embed_dim,
                "vision_cfg": {
                    "timm_model_name": TIMM,
                    "timm_model_pretrained": False,
                    "timm_pool": "avg",
                    "timm_proj": "linear",
                    "image_size": self.image_size,
                },
                "text_cfg": {
                    "context_length": self.context_length,
                    "vocab_size": 49408,
                    "width": self.text_width,
                    "heads": self.text_heads,
                    "layers": self.text_layers,
                },
                "custom_text": True,
            },
            "preprocess_cfg": {
                "mean": [0.5, 0.5, 0.5],
                "std": [0.5, 0.5, 0.5],
                "interpolation": "bilinear",
                "resize_mode": "squash",
            },
        }
