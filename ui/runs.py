"""Which visitor's run is to stop."""

from __future__ import annotations

import threading


class Runs:
    """Which visitor's run to stop. A run is armed by the click, before it waits for its turn."""

    def __init__(self) -> None:
        self._stops: dict[str, threading.Event] = {}
        self._lock = threading.Lock()

    def arm(self, visitor: str) -> None:
        """A new run of this visitor is on its way."""
        with self._lock:
            self._stops[visitor] = threading.Event()

    def stop_of(self, visitor: str) -> threading.Event:
        """The event that ends this visitor's run."""
        with self._lock:
            return self._stops.setdefault(visitor, threading.Event())

    def stop(self, visitor: str) -> None:
        """End this visitor's run, whether it has begun or not."""
        self.stop_of(visitor).set()

    def forget(self, visitor: str) -> None:
        """The visitor has left: end the run and keep nothing."""
        with self._lock:
            stop = self._stops.pop(visitor, None)
        if stop is not None:
            stop.set()
