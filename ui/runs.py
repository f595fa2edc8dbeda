"""Which run a visitor waits for, and which is to stop.

A run is armed by the click, waits in line, works, and is over. The newest request of a visitor
wins: it ends the one before, which then leaves buttons and status to the newer one.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from ui.text import add, both

BUDGET = 120  # seconds that a run has where everybody waits in the same line

_numbers = itertools.count(1)

add(
    {
        "run.budget": (
            "On this public page a run ends after {seconds} seconds, with what it has by then.",
            "在此公共页面上，每次运行最多 {seconds} 秒，到时保留已有的结果。",
        ),
    }
)


def budget() -> float | None:
    """Seconds that a run has; None where no Space is shared with strangers."""
    return BUDGET if "SPACE_ID" in os.environ else None


def ticket() -> gr.HTML:
    """Goes with a click through the browser, so that a run in line knows which click it is of.

    No gr.State: that is read when the run begins, and then holds what the last click said.
    """
    return gr.HTML(visible=False)


@dataclass(frozen=True)
class Filled:
    """The components that a run fills: each field of a tab's own board is one."""

    @property
    def shown(self) -> list[gr.components.Component]:
        return [getattr(self, f.name) for f in dataclasses.fields(self)]

    @property
    def names(self) -> list[str]:
        """Of the fields, in the order of `shown`."""
        return [f.name for f in dataclasses.fields(self)]

    def change(self, **values: Any) -> list[Any]:
        """New values for some of `shown`; the others stay."""
        return [values.get(name, gr.skip()) for name in self.names]


@dataclass(eq=False)
class Run:
    """One run of a visitor, from the click on."""

    number: int | None  # None: asked for without a click, through the API
    stop: threading.Event = field(default_factory=threading.Event)
    working: bool = False  # it has its turn
    over: bool = False
    newer: Run | None = None  # that the visitor has asked for since

    @property
    def replaced(self) -> bool:
        """Whether a newer one waits or works: buttons and status are no longer this one's."""
        newest = self
        while newest.newer is not None:
            newest = newest.newer
        return newest is not self and not newest.over


_all: weakref.WeakSet[Runs] = weakref.WeakSet()


def replace(visitor: str) -> None:
    """What this visitor's program asked for works, and it asks for the next: end it."""
    for runs in list(_all):
        runs.end_unclicked(visitor)


def wanted(visitor: str, number: Any) -> bool:
    """Whether the click of this number still waits or works: no newer one, no Stop since."""
    return any(runs.newest_is(visitor, number) for runs in list(_all))


def forget(visitor: str) -> None:
    """This visitor does not come back."""
    for runs in list(_all):
        runs.forget(visitor)


def stop_all() -> None:
    """The app ends."""
    for runs in list(_all):
        runs.end_all()


class Runs:
    """The newest run of each visitor. `seconds` after its turn began, a run ends as by Stop."""

    def __init__(self, seconds: float | None = None) -> None:
        self._newest: dict[str, Run] = {}
        self._lock = threading.Lock()
        self._seconds = budget() if seconds is None else seconds
        _all.add(self)

    def arm(self, visitor: str) -> int:
        """A new run of this visitor is on its way -> its number. The one before ends."""
        run = Run(next(_numbers))
        with self._lock:
            before = self._newest.get(visitor)
            self._newest[visitor] = run
            if before is not None:
                before.newer = run
                before.stop.set()
        return run.number

    @contextmanager
    def turn(self, visitor: str, number: int | None, *, last: bool = True) -> Iterator[Run | None]:
        """While the run works; None where it has ended in line and must not begin.

        Without `last` it waits for another turn afterwards. What goes wrong in a run that nobody
        waits for any more is nobody's concern.
        """
        run, ended = self._begin(visitor, number), True
        spent = threading.Event()
        timer = self._timer(run, spent) if last else None
        try:
            yield run
            ended = last
            if spent.is_set():
                gr.Info(both("run.budget", seconds=round(self._seconds)))
        except (ValueError, RuntimeError, MemoryError):
            if run is None or run.newer is None:
                raise
        finally:
            if timer is not None:
                timer.cancel()
            if run is not None:
                with self._lock:
                    run.working, run.over = False, run.over or ended

    def _timer(self, run: Run | None, spent: threading.Event) -> threading.Timer | None:
        """Stops the run when its time is over, and tells so by `spent`."""
        if run is None or self._seconds is None:
            return None

        def stop() -> None:
            if not run.stop.is_set():
                spent.set()
                run.stop.set()

        timer = threading.Timer(self._seconds, stop)
        timer.daemon = True
        timer.start()
        return timer

    def _begin(self, visitor: str, number: int | None) -> Run | None:
        with self._lock:
            if number is None:
                self._newest[visitor] = Run(None)
            run = self._live(visitor, number)
            if run is not None:
                run.working = True
            return run

    def _live(self, visitor: str, number: Any) -> Run | None:
        """The visitor's newest run, if it is of this number and not over. The lock is held."""
        run = self._newest.get(visitor)
        return None if run is None or run.number != number or run.over else run

    def newest_is(self, visitor: str, number: Any) -> bool:
        """Whether this visitor's newest run is the one of this number, and is not over."""
        with self._lock:
            return self._live(visitor, number) is not None

    def alive(self, visitor: str) -> bool:
        """Whether a run of this visitor waits or works."""
        with self._lock:
            return not getattr(self._newest.get(visitor), "over", True)

    def stop(self, visitor: str) -> bool:
        """End this visitor's run -> whether it had not begun, and so is over with this."""
        with self._lock:
            run = self._newest.get(visitor)
            if run is None:
                return True
            run.stop.set()
            run.over = not run.working
            return run.over

    def failed(self, visitor: str) -> bool:
        """An event of this visitor has failed -> whether none of their runs is left.

        A run that does not work by then was refused a place in line.
        """
        with self._lock:
            run = self._newest.get(visitor)
            if run is not None:
                run.over = not run.working
            return run is None or run.over

    def end_unclicked(self, visitor: str) -> None:
        """Stop what this visitor's program asked for, if it works."""
        with self._lock:
            run = self._newest.get(visitor)
            if run is not None and run.number is None and run.working:
                run.stop.set()

    def end_all(self) -> None:
        """Stop everybody's run."""
        with self._lock:
            for run in self._newest.values():
                run.stop.set()

    def forget(self, visitor: str) -> None:
        """The visitor has left: end the run and keep nothing."""
        with self._lock:
            run = self._newest.pop(visitor, None)
        if run is not None:
            run.stop.set()
