"""Ctrl-C and SIGTERM end a training after the step that runs, with a checkpoint."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

NOTE = b"\nstopping after this step, with a checkpoint; once more stops at once\n"


class Stopped(Exception):
    """A signal has ended a training, whose checkpoint is there to go on from."""

    def __init__(self, step: int, number: int):
        super().__init__(f"stopped at step {step}: --resume goes on")
        self.code = 128 + number  # as shells have it


class Wish:
    """The number of the signal that asks for an end; 0 while none does."""

    number = 0


@contextlib.contextmanager
def listening(tell: bool = True) -> Iterator[Wish]:
    """Until the block ends, a first signal is only noted, and a second one ends the process.

    Signals that the process was started to ignore (`nohup`, a script's `&`) stay ignored.
    """
    wish, before = Wish(), {}

    def note(number: int, frame: object) -> None:
        wish.number = number
        for each in before:
            signal.signal(each, signal.SIG_DFL)
        if tell:
            os.write(2, NOTE)  # print could be in the middle of another line's buffer

    if threading.current_thread() is threading.main_thread():
        for each in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(each) is not signal.SIG_IGN:
                before[each] = signal.signal(each, note)
    try:
        yield wish
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
