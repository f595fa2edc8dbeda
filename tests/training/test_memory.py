"""Every training command asks glibc to keep its pages: elsewhere that must do nothing."""

from __future__ import annotations

import ctypes

import pytest

from training.memory import keep_pages


@pytest.mark.parametrize("error", [TypeError, OSError])
def test_a_system_without_glibc_is_let_be(monkeypatch, error):
    """On Windows `ctypes.CDLL(None)` raises TypeError: it looks for a "/" in the name."""

    def library(name):
        assert name is None
        raise error("no such library")

    monkeypatch.setattr(ctypes, "CDLL", library)
    keep_pages()
