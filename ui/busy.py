"""Who computes for a visitor right now, so that work for later can wait for a quiet moment."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE = 10.0  # seconds that later work waits at most: a visitor's long run only slows it down

_changed = threading.Condition()
_running = 0


@contextmanager
def working() -> Iterator[None]:
    """While this lasts, a visitor waits for its end."""
    global _running
    with _changed:
        _running += 1
    try:
        yield
    finally:
        with _changed:
            _running -= 1
            _changed.notify_all()


def give_way() -> None:
    """Return once no visitor waits, or after `PATIENCE`."""
    with _changed:
        _changed.wait_for(lambda: not _running, PATIENCE)
