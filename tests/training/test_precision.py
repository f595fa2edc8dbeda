"""bfloat16 where it is native, and nowhere by default where it is not."""

import argparse

import pytest
import torch

from training import flags, precision
from training.loop import LoopConfig
from training.precision import autocast, native_bf16


@pytest.mark.parametrize(("native", "wanted", "used"), [
    (True, None, torch.bfloat16), (False, None, torch.float32),
    (True, False, torch.float32), (False, True, torch.bfloat16),
])  # fmt: skip
def test_the_processor_decides_unless_told(monkeypatch, native, wanted, used):
    monkeypatch.setattr(precision, "native_bf16", lambda device: native)
    with autocast("cpu", wanted):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == used


@pytest.mark.parametrize("flags_set", [(False, False), (True, False), (False, True)])
def test_either_instruction_set_counts(monkeypatch, flags_set):
    names = "_is_avx512_bf16_supported", "_is_amx_tile_supported"
    for name, value in zip(names, flags_set, strict=True):
        monkeypatch.setattr(torch.cpu, name, lambda value=value: value, raising=False)
    assert native_bf16(torch.device("cpu")) == any(flags_set)


@pytest.mark.parametrize("native", [False, True])
def test_a_card_that_emulates_does_not_count(monkeypatch, native):
    """Every card can compute in bfloat16 by emulation; the products of its own come with Ampere."""
    monkeypatch.setattr(
        torch.cuda,
        "is_bf16_supported",
        lambda including_emulation=True: including_emulation or native,
    )
    assert native_bf16("cuda:0") == native


def test_the_flag_has_three_states():
    parser = argparse.ArgumentParser()
    flags.add_flags(parser, LoopConfig, "schedule")
    for words, value in ([], None), (["--bf16"], True), (["--no-bf16"], False):
        given = flags.given(parser.parse_args(words), LoopConfig)
        assert flags.build(LoopConfig, {}, given).bf16 is value
