"""Data-parallel helpers over torch.distributed; each is a no-op in a single process.

No DistributedDataParallel: gradients are averaged by hand after the backward pass, since the VQGAN
step sends one combined gradient back and takes lambda from averaged gradients first.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn


def start() -> tuple[int, int]:
    """Join the process group that `torchrun` describes, if any. Returns (rank, world size)."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return rank(), world


def stop() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def sum_(tensor: Tensor) -> Tensor:
    """Sum over processes, in place."""
    if dist.is_initialized():
        dist.all_reduce(tensor)
    return tensor


def mean_(tensors: Iterable[Tensor]) -> None:
    """Average tensors over processes, in place, in one message."""
    tensors = list(tensors)
    if not dist.is_initialized() or not tensors:
        return
    flat = torch.cat([t.flatten() for t in tensors])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


def gather(tensor: Tensor) -> Tensor:
    """Concatenate equal-shaped tensors of all processes along dimension 0, in rank order."""
    if not dist.is_initialized():
        return tensor
    parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, tensor.contiguous())
    return torch.cat(parts)


def average_gradients(module: nn.Module) -> None:
    """Average the gradients of a module over processes."""
    mean_(p.grad for p in module.parameters() if p.grad is not None)
