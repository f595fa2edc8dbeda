"""Files for download buttons: a folder of the process, the oldest ones dropped.

Nothing here imports Gradio: app.py needs it before.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

KEPT = 64  # last answers whose files are kept; Gradio copies each one at once
_roots: list[tempfile.TemporaryDirectory] = []


def clear() -> None:
    """Delete all files: Python does so at its end, but not where that is skipped (`app.main`)."""
    while _roots:
        _roots.pop().cleanup()


def delete_old(page: Any, age: float | None) -> None:
    """Delete what a gr.Blocks was sent or gave, if it is older than `age` seconds; None: all of it.

    In place of Gradio's own, which fails where a request comes in the middle of it or a program has
    named a folder: after its first failure nothing is ever deleted again.
    """
    kept = set().union(*(getattr(block, "keep_in_cache", ()) for block in page.blocks.values()))
    for files in page.temp_file_sets:
        for file in set(files) - kept:  # a copy, as requests add to it all the while
            try:
                if age is not None and time.time() - Path(file).lstat().st_ctime <= age:
                    continue
                Path(file).unlink()
            except OSError:  # it is gone, or no file: a program may have named a folder
                pass
            files.discard(file)


def track(page: Any) -> None:
    """Let `delete_old` know of all files that a gr.Blocks gives.

    Of a component that an event has changed, and be it by gr.skip(), Gradio makes one more for the
    visitor, and forgets what files that is given.
    """
    give = page.postprocess_data

    async def given(event: Any, values: Any, state: Any) -> list[Any]:
        answer = await give(event, values, state)
        for block in event.outputs:
            own = None if state is None else state.get(block._id)
            if found := getattr(own, "temp_files", None):
                block.temp_files.update(found)
        return answer

    page.postprocess_data = given


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
