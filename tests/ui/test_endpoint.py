"""What a program gets of a run: the first thing that is made, or nothing."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import httpx
import pytest

from ui import downloads, endpoint, page

SKIP = gr.skip()


@pytest.mark.parametrize(
    ("told", "made"),
    [
        ([["begun", SKIP], ["still", SKIP], [SKIP, "a.png"], ["more", "b.png"]], "a.png"),
        ([["begun", SKIP], ["stopped", SKIP]], None),
        ([], None),
    ],
)
def test_a_program_gets_what_is_made_first_and_the_run_ends_there(told, made):
    asked, reached, closed = [], [], []

    def run(request, *values):
        asked.append(values)
        try:
            for change in told:
                reached.append(change)
                yield change
        finally:
            closed.append(True)

    with gr.Blocks() as page:
        inputs, board = {"count": gr.Number(7)}, SimpleNamespace(names=("said", "made"))
        give = lambda made: ([made], {"of": made})  # noqa: E731
        endpoint.add("make", "Makes.", run, inputs, board, "made", give, lambda handler: handler)
    (event,) = page.fns.values()
    assert event.api_name == "make" and event.api_description == "Makes."
    assert inspect.signature(event.fn).parameters["count"].default == 7
    *waits, answer = event.fn(None, 3)
    assert asked == [(3,)] and closed == [True]
    assert reached == told[: 3 if made else None] and waits == [[SKIP, SKIP]] * min(len(told), 2)
    assert answer == ([[made], {"of": made}] if made else [[], {}])


@pytest.fixture(scope="module")
def app(writer):
    """The whole page, and the address of its endpoints."""
    blocks = page.build(writer)
    _, url, _ = blocks.launch(prevent_thread_lock=True, **page.launch_options())
    yield SimpleNamespace(blocks=blocks, url=f"{url}gradio_api/call/")
    blocks.close()


def told(app, name: str, data: list) -> str:
    """The events that a program hears of."""
    event = httpx.post(app.url + name, json={"data": data}).json()["event_id"]
    return httpx.get(f"{app.url}{name}/{event}", timeout=30).text


CLAIMS = {"meta": {"_type": "gradio.FileData"}}  # to be an upload


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("reconstruct", ["photo.png", "128"]),
        ("reconstruct", [{"path": "http://127.0.0.1:9/a.png", **CLAIMS}, "128"]),
        ("reconstruct", []),
        ("decode", ["codes.npz"]),
        ("resize", []),
    ],
)
def test_what_fits_no_endpoint_is_answered_with_a_sentence(app, name, data):
    """A plain path, a dead address, too few values: of all these Gradio would answer null."""
    answer = told(app, name, data)
    assert "event: error" in answer and "handle_file" in answer
    assert json.dumps("不符合要求")[1:-1] in answer


def test_a_page_that_is_older_than_the_app_is_told_to_reload(app):
    private = [fn for fn in app.blocks.fns.values() if fn.api_visibility == "private" and fn.queue]
    answer = told(app, private[0].api_name, [])
    assert "event: error" in answer and "reload it and try again" in answer


def test_what_a_program_was_given_is_deleted_too(app):
    answer = told(app, "sample", [2, 1.0, 0, 0.95, 0, "6×7", False])
    files = {Path(path) for path in re.findall(r'"path": "([^"]+)"', answer)}
    assert len(files) == 2 and all(file.is_file() for file in files)
    downloads.delete_old(app.blocks, -1)
    assert not any(file.is_file() for file in files)
