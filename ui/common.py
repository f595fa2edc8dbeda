"""What all tabs share: errors as sentences, the queue for heavy work, pictures inside HTML."""

from __future__ import annotations

import base64
import functools
import inspect
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from gradio.utils import get_upload_folder
from PIL import Image

from clip_guidance.prompts import PromptError
from ui import busy, compute, refusals
from ui.text import add, both

# Three lines to wait in, so that a click stands behind neither a long run of another visitor nor
# the figures that follow the last click. In each, one event at a time; all that compute do so in
# turn (see ui/compute.py), since two at once on two cores would only make both late.
RUN: dict[str, Any] = {"concurrency_id": "run", "concurrency_limit": 1}  # seconds, with progress
ANSWER: dict[str, Any] = {"concurrency_id": "answer", "concurrency_limit": 1}  # at once
AFTER: dict[str, Any] = {"concurrency_id": "after", "concurrency_limit": 1}  # what follows that
# Downloads that a run needs: none holds up another, but each that is waited for holds one of the
# server's forty threads.
FETCH: dict[str, Any] = {"concurrency_id": "fetch", "concurrency_limit": 16}
# Look-ups of a millisecond answer at once: no queue, no stream of events to open for them.
QUICK: dict[str, Any] = {"queue": False, "api_visibility": "private"}
# For events that say what was clicked: "always_last" forgets that for all but the first of several
# quick clicks (Gradio keeps of a deferred event only that there was one).
EACH: dict[str, Any] = {"trigger_mode": "multiple"}
LATEST = (Path(__file__).parent / "static" / "latest.js").read_text("utf-8")  # before one's own
LATEX = [
    {"left": "$$", "right": "$$", "display": True},
    {"left": "$", "right": "$", "display": False},
]

add(
    {
        "error.said": (
            "What the page sent could not be understood: reload it and try again.",
            "无法识别页面发来的内容：请刷新页面后重试。",
        ),
        "error.file": (
            "What was sent is no uploaded file: choose one and try again.",
            "发来的内容不是已上传的文件：请重新选择文件。",
        ),
        "error.gone": (
            "That file was uploaded long ago and is no longer kept here: choose it again.",
            "该文件上传已久，此处不再保留：请重新选择文件。",
        ),
    }
)


class Sentence(ValueError):
    """A ValueError whose message is our own HTML in both languages (see `text.both`)."""

    def __init__(self, key: str, **values: object):
        super().__init__(both(key, **values))


@dataclass(frozen=True)
class TabHandles:
    """What one tab lets the others connect to, in ui/page.py.

    `selected_code`: int or None; its `.change` fires when a visitor picks another code.
    `last_code`: the code picked last, in this tab or in the Codebook tab.
    `session`: the visitor's picture and grid (`ui.session.Session`).
    `code_actions`: a container below the picked code, for buttons that lead to other tabs.
    `inbox`: set it to a `Sent`, and the Reconstruct tab opens those codes.
    `shown`: what events take beside `session`, so that a lost one is noticed (ui/kept.py).
    """

    tab: gr.Tab
    selected_code: gr.State | None = None
    last_code: gr.State | None = None
    session: gr.State | None = None
    code_actions: gr.Row | None = None
    inbox: gr.State | None = None
    shown: gr.Textbox | None = None


@dataclass(frozen=True, eq=False)  # two sendings are never the same, even of the same codes
class Sent:
    """Codes on their way from one tab to the Reconstruct tab."""

    indices: np.ndarray  # (h, w) int64
    name: str  # of the picture, for downloads


@contextmanager
def understood() -> Iterator[None]:
    """A prompt that says nothing or too much becomes its sentence in both languages."""
    try:
        yield
    except PromptError as error:
        raise Sentence(f"draw.prompt.{error.reason}", **error.values) from error


def answered(name: str) -> str:
    """JavaScript for an event's `then`: tells static/latest.js that an answer is there."""
    return f"() => {{ window.dispatchEvent(new Event('{name}')); }}"


def said(event: gr.EventData) -> dict[str, Any]:
    """What an event of our own HTML says; anybody can send anything instead."""
    data = {} if event._data is None else event._data
    if not isinstance(data, dict):
        raise Sentence("error.said")
    return data


def whole(value: object) -> int:
    """A whole number that the page has sent."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise Sentence("error.said")
    return value


def path_of(file: object) -> Path:
    """Where an uploaded file lies, of an event that is not preprocessed.

    Gradio itself lets a picture by without looking where it lies, if it does not claim to be an
    upload: anybody could open any picture of this computer.
    """
    path = file.get("path") if isinstance(file, dict) else None
    if not path or not isinstance(path, (str, os.PathLike)) or "\0" in str(path):
        raise Sentence("error.file")
    found = Path(path).resolve()
    if not found.is_relative_to(Path(get_upload_folder()).resolve()):
        raise Sentence("error.file")
    return present(found)


def present(path: str | os.PathLike) -> Path:
    """The same path, if the file is still there: Gradio deletes uploads after some hours."""
    if not os.path.isfile(path):
        raise Sentence("error.gone")
    return Path(path)


def _as_error(error: Exception) -> gr.Error | None:
    if isinstance(error, Sentence):
        return gr.Error(str(error), print_exception=False)
    if isinstance(error, ValueError):
        return gr.Error(refusals.in_both(str(error)), print_exception=False)
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return gr.Error(both("error.memory"), print_exception=False)
    return None


def friendly(handler: Callable) -> Callable:
    """Show a handler's ValueError to the visitor as one sentence; other errors pass unchanged.

    While it runs, background work gives way (`ui.busy`).
    """
    if inspect.isgeneratorfunction(handler):

        @functools.wraps(handler)
        def generator(*args: Any, **kwargs: Any) -> Any:
            try:
                with busy.working():
                    yield from handler(*args, **kwargs)
            except (ValueError, RuntimeError, MemoryError) as error:
                raise _as_error(error) or error from error

        return generator

    @functools.wraps(handler)
    def function(*args: Any, **kwargs: Any) -> Any:
        try:
            with busy.working():
                return handler(*args, **kwargs)
        except (ValueError, RuntimeError, MemoryError) as error:
            raise _as_error(error) or error from error

    return function


def heavy(handler: Callable) -> Callable:
    """`friendly`, and in the models' thread (`ui.compute`): for handlers that use a model."""
    if inspect.isgeneratorfunction(handler):

        @functools.wraps(handler)
        def generator(*args: Any, **kwargs: Any) -> Any:
            yield from compute.each(handler(*args, **kwargs))

        generator.heavy = True
        return friendly(generator)

    @functools.wraps(handler)
    def function(*args: Any, **kwargs: Any) -> Any:
        return compute.run(functools.partial(handler, *args, **kwargs))

    function.heavy = True
    return friendly(function)


def data_url(picture: Image.Image | np.ndarray) -> str:
    """A picture (PIL, or (H, W, 3) uint8) as a lossless PNG inside a URL."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
