"""Which class each picture is of, for a prior that is told one.

p(s) = sum over y of p(y) p(s | y), as with `prior.ideas`: where nobody names a class, the seed
picks one, each as often as the others.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from prior.model import GPT

STREAM = 0xC1A55  # apart from the noise of the codes, which has the same seeds


def choose(prior: GPT, n: int, seed: int, label: int | None = None) -> Tensor:
    """Class ids for n pictures, (n,) int64: `label` for all, or for picture i by seed + i alone.

    ValueError where the prior takes no class, or does not know this one.
    """
    count = prior.config.classes
    if not count:
        raise ValueError("this prior takes no class")
    if label is None:
        picks = [np.random.default_rng([STREAM, seed + i]).integers(count) for i in range(n)]
        return torch.tensor(np.array(picks, dtype=np.int64))
    if not 0 <= label < count:
        raise ValueError(f"class is {label}: this prior knows the classes 0 to {count - 1}")
    return torch.full((n,), label, dtype=torch.int64)
