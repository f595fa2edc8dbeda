"""Endpoints of the API for what the page does in runs: named settings in, files and figures out.

A program gets all at the end, where the page is told all the while.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Any

import gradio as gr
from gradio.block_function import BlockFunction
from gradio.components import Component

from ui import text
from ui.common import RUN
from ui.runs import Filled

Run = Callable[..., Generator[list[Any], None, None]]  # (request, *values) -> changes of a board

text.add(
    {
        "endpoint.unfit": (
            "What was sent does not fit: a file is sent by gradio_client's handle_file (an address "
            "must lead straight to it), and values come in the order that “Use via API” lists.",
            "发来的内容不符合要求：文件请用 gradio_client 的 handle_file 发送"
            "（网址须直接指向文件），各值按“通过 API 使用”中的顺序给出。",
        ),
    }
)


def add(
    name: str,
    about: str,
    run: Run,
    inputs: dict[str, Component],
    board: Filled,
    made: str,
    give: Callable[[Any], tuple[list[str], dict[str, Any]]],
    guard: Callable[[Callable], Callable],
) -> None:
    """Offer `run` as `/name`, told in `about`; `inputs` by the names of their arguments.

    made   the field of `board` that holds what a run has made
    give   that -> files, and what there is to say about them
    guard  `friendly` or `heavy` of ui.common
    """

    def asked(request: gr.Request, *values: Any) -> Iterator[list[Any]]:
        found = None
        # Closed once it is made: what the page would be told next takes files and time of its own.
        with closing(run(request, *values)) as changes:
            for change in changes:
                new = dict(zip(board.names, change, strict=True))[made]
                if not _skipped(new):
                    found = new
                    break
                yield [gr.skip(), gr.skip()]  # where the program has left, Gradio ends the run here
        yield [[], {}] if found is None else list(give(found))

    asked.__signature__ = _signature(inputs)  # type: ignore[attr-defined]
    given = list(inputs.values())
    files, said = gr.File(visible=False, file_count="multiple"), gr.JSON(visible=False)
    how: dict[str, Any] = {"show_progress": "hidden", "preprocess": False, **RUN}
    gr.on([], guard(asked), given, [files, said], api_name=name, api_description=about, **how)


def explain(page: gr.Blocks) -> None:
    """Answer a program whose values `page` cannot even hand to a handler with a sentence.

    A path as it is, an address that leads nowhere, too few values: Gradio would answer null.
    """
    take = page.preprocess_data

    async def taken(event: BlockFunction, *args: Any, **kwargs: Any) -> list[Any]:
        try:
            return await take(event, *args, **kwargs)
        except gr.Error:
            raise
        except Exception as error:  # pydantic's, httpx's, Gradio's own
            own = event.api_visibility == "private"  # a page's: it is older than the app, say
            raise gr.Error(text.both("error.said" if own else "endpoint.unfit")) from error

    page.preprocess_data = taken  # type: ignore[method-assign]


def _skipped(value: Any) -> bool:
    return isinstance(value, dict) and value.get("__type__") == "update"


def _signature(inputs: dict[str, Component]) -> inspect.Signature:
    """What the documentation of the API shows: each argument may be left out."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    request = inspect.Parameter("request", kind, annotation=gr.Request)
    others = [
        inspect.Parameter(name, kind, default=component.value) for name, component in inputs.items()
    ]
    return inspect.Signature([request, *others])
