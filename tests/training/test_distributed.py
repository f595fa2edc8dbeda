"""Which device and which backend each process of torchrun gets. GPUs are mocked, not used."""

from __future__ import annotations

import pytest
import torch

from training import distributed


@pytest.fixture
def joined(monkeypatch):
    """Two processes of which this is the second, on a computer with two GPUs -> what was called."""
    calls, tried = {}, []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", lambda d: calls.update(device=d))
    group = distributed.dist
    monkeypatch.setattr(group, "init_process_group", lambda backend: calls.update(backend=backend))

    def usable(name: str) -> str:
        tried.append(name)
        if name not in ("auto", "cpu", "cuda", "cuda:0", "cuda:1", "mps"):
            raise ValueError(f"device {name!r} cannot be used here")
        return "cuda" if name == "auto" else name

    monkeypatch.setattr(distributed, "usable_device", usable)
    yield calls
    assert not {"cuda", "cuda:0"} & {*tried} or not calls, "memory was taken on another's GPU"


@pytest.mark.parametrize("asked", ["cuda", "auto"])
def test_each_process_has_its_own_gpu_and_code_counts_go_by_gloo(joined, asked):
    assert distributed.start(asked) == "cuda:1"
    assert joined == {"device": "cuda:1", "backend": "cpu:gloo,cuda:nccl"}


def test_cpu_means_gloo_where_there_are_gpus_too(joined):
    assert distributed.start("cpu") == "cpu"
    assert joined == {"backend": "gloo"}


@pytest.mark.parametrize("asked", ["cuda:0", "mps"])
def test_one_device_for_several_processes_is_refused(joined, asked):
    with pytest.raises(ValueError, match=f"device '{asked}' is one for 2 processes"):
        distributed.start(asked)
    assert not joined


def test_more_processes_than_gpus_are_refused(joined, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ValueError, match="device 'cuda:2' cannot be used here"):
        distributed.start("cuda")
    assert not joined


def test_one_process_joins_nothing(joined, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert distributed.start("cuda:0") == "cuda:0" and not joined
    assert (distributed.rank(), distributed.world_size()) == (0, 1)
