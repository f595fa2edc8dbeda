"""Data-parallel helpers over torch.distributed; each is a no-op in a single process.

Tensors may be on the CPU or on the GPU of their process: see `start`.

No DistributedDataParallel: gradients are averaged by hand after the backward pass, since the VQGAN
step sends one combined gradient back and takes lambda from averaged gradients first.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from training.device import usable_device


def start(device: str) -> str:
    """Join the process group that `torchrun` describes, if any -> this process's device.

    "cuda" becomes the GPU of this process's LOCAL_RANK. There nccl carries GPU tensors and gloo
    those on the CPU (code counts); on "cpu" gloo carries all. ValueError if the device cannot be
    used here, or is one GPU for several processes.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1 or dist.is_initialized():
        return usable_device(device)
    if device != "cuda":  # trying that would leave each process's driver memory on the first GPU
        device = usable_device(device)
    kind = torch.device(device).type
    if kind not in ("cpu", "cuda") or (kind == "cuda" and device != "cuda"):
        raise ValueError(f"device {device!r} is one for {world} processes: choose cpu or cuda")
    if kind == "cuda":
        device = usable_device(f"cuda:{int(os.environ.get('LOCAL_RANK', '0'))}")
        torch.cuda.set_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if kind == "cuda" else "gloo")
    return device


def stop() -> None:
    """Leave the process group, if any."""
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """Number of this process, in [0, world size); 0 in a single one. Rank 0 writes the files."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many processes train together; 1 in a single one."""
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


def agreed(decision: bool) -> bool:
    """Process 0's decision, for all: clocks differ, and who stops alone leaves others waiting."""
    if not dist.is_initialized():
        return decision
    told = torch.tensor([decision], dtype=torch.uint8)  # on the CPU: gloo carries it everywhere
    dist.broadcast(told, src=0)
    return bool(told.item())


def average_gradients(module: nn.Module) -> None:
    """Average the gradients of a module over processes."""
    mean_(p.grad for p in module.parameters() if p.grad is not None)
