"""The one thread in which the models of the app compute.

Gradio answers every event in some thread of forty, and each thread that computes gets its own team
of OpenMP threads. Once all teams together have more threads than the machine has cores, libgomp
lets none of them wait actively, and every kernel pays for waking them: on two cores a picture takes
1.2 to 1.6 times as long. So all events, the background work and the main thread ask this thread, in
the order of asking. What streams asks for each of its portions, and lets others in between.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")
END, STOP = object(), (None, None)

_asked: SimpleQueue[tuple] = SimpleQueue()
_lock = threading.Lock()
_thread: threading.Thread | None = None


def _work() -> None:
    while (question := _asked.get()) is not STOP:
        _answer(*question)
        del question  # or the last answer would be kept until the next one


def _answer(future: Future, call: Callable[[], Any]) -> None:
    try:
        future.set_result(call())
    except BaseException as error:  # whoever asked deals with it
        future.set_exception(error)


def _question(function: Callable[..., T], args: tuple) -> tuple[Future, Callable[[], T]]:
    context = contextvars.copy_context()  # Gradio keeps in it whom the event belongs to
    return Future(), lambda: context.run(function, *args)


def run(function: Callable[..., T], *args: Any) -> T:
    """What `function(*args)` returns or raises, computed in the models' thread."""
    global _thread
    with _lock:
        if _thread is None:  # a daemon, so that Ctrl+C waits for no computation
            _thread = threading.Thread(target=_work, name="models", daemon=True)
            _thread.start()
    if threading.current_thread() is _thread:
        return function(*args)
    future, call = _question(function, args)
    _asked.put((future, call))
    return future.result()


def apart(function: Callable[..., T], *args: Any) -> Future[T]:
    """The same in a thread of its own, whose team ends with it: for loading, which takes long."""
    future, call = _question(function, args)
    threading.Thread(target=_answer, args=(future, call), daemon=True).start()
    return future


def aside(function: Callable[..., T], *args: Any) -> T:
    """`apart`, waited for."""
    return apart(function, *args).result()


def each(items: Iterator[T]) -> Iterator[T]:
    """The same items, each of them computed in the models' thread."""
    try:
        while (item := run(next, items, END)) is not END:
            yield item
    finally:
        if hasattr(items, "close"):  # not waited for: Gradio closes in its event loop
            _asked.put(_question(items.close, ()))


def finish(seconds: float) -> bool:
    """End the thread after its present job, which gets that long: torch aborts if it is cut off.

    Whether it has ended.
    """
    global _thread
    with _lock:
        thread, _thread = _thread, None
    if thread is not None:
        _asked.put(STOP)
        thread.join(seconds)
    return thread is None or not thread.is_alive()
