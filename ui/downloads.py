"""Files for download buttons: a folder of the process, the oldest ones dropped."""

from __future__ import annotations

import tempfile
import threading
from collections import deque
from pathlib import Path

KEPT = 64  # last answers whose files are kept; Gradio copies each one at once
_roots: list[tempfile.TemporaryDirectory] = []


def clear() -> None:
    """Delete all files: Python does so at its end, but not where that is skipped (`app.main`)."""
    while _roots:
        _roots.pop().cleanup()


class Folders:
    """A new folder for each answer, so that files keep the names a visitor should see."""

    def __init__(self) -> None:
        self._root = tempfile.TemporaryDirectory(prefix="vqgan-studio-")
        _roots.append(self._root)
        self._kept: deque[tempfile.TemporaryDirectory] = deque()
        self._lock = threading.Lock()  # answers come from many threads

    def new(self) -> Path:
        made = tempfile.TemporaryDirectory(dir=self._root.name)
        with self._lock:
            dropped = [self._kept.popleft() for _ in range(len(self._kept) + 1 - KEPT)]
            self._kept.append(made)
        for old in dropped:
            old.cleanup()
        return Path(made.name)
