"""Files for download buttons: a folder of the process, the oldest ones dropped."""

from __future__ import annotations

import tempfile
from collections import deque
from pathlib import Path

KEPT = 64  # files of the last answers; Gradio copies each one at once


class Folders:
    """A new folder for each answer, so that files keep the names a visitor should see."""

    def __init__(self) -> None:
        self._root = tempfile.TemporaryDirectory(prefix="vqgan-studio-")
        self._kept: deque[tempfile.TemporaryDirectory] = deque()

    def new(self) -> Path:
        if len(self._kept) == KEPT:
            self._kept.popleft().cleanup()
        self._kept.append(tempfile.TemporaryDirectory(dir=self._root.name))
        return Path(self._kept[-1].name)
