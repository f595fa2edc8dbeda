"""Which device to compute on: the name a command was given -> one that works here."""

from __future__ import annotations

import torch


def usable_device(name: str) -> str:
    """`name` ("cpu", "cuda", "cuda:1", "mps", ...) if this computer can compute on it.

    "auto" becomes the GPU where there is one, else the CPU. ValueError with one sentence otherwise.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=torch.device(name)).item()  # "meta" makes tensors that hold nothing
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        raise ValueError(
            f"device {name!r} cannot be used here: choose auto, cpu, cuda or mps"
        ) from error
    return name
