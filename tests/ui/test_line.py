"""A program that asks for many runs leaves the page to the others."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import httpx
import pytest

from ui import line, page, runs, sample_runs

ASKED = {"data": [1, 1.0, 0, 0.95, 0, "6×7", False]}


@pytest.fixture
def app(writer, monkeypatch):
    """The whole page, whose runs last until they are stopped or let go."""
    begun, over = [], threading.Event()

    def endless(sampler, board, turn, said, *values):
        begun.append(turn.run)
        while not (turn.run.stop.wait(0.02) or over.is_set()):
            pass
        yield board.change()

    monkeypatch.setattr(sample_runs, "_write", endless)
    # Waits beside the models' thread, so that other answers can be computed.
    monkeypatch.setattr("ui.sample_board.heavy", lambda handler: handler)
    blocks = page.build(writer)
    _, url, _ = blocks.launch(prevent_thread_lock=True, **page.launch_options())
    with httpx.Client(base_url=f"{url}gradio_api/call", timeout=30) as client:

        def post(name: str, visitor: str, body: dict) -> httpx.Response:
            return client.post(f"/{name}", json={**body, "session_hash": visitor})

        def events(name: str, answer: httpx.Response) -> list[str]:
            text = client.get(f"/{name}/{answer.json()['event_id']}").text
            return [part for part in text.split("\n\n") if part]

        yield SimpleNamespace(blocks=blocks, runs=begun, over=over, post=post, events=events)
        over.set()
    blocks.close()


def soon(true) -> bool:
    end = time.monotonic() + 20
    while not true() and time.monotonic() < end:
        time.sleep(0.02)
    return true()


def test_of_one_programs_runs_the_newest_counts(app):
    first = app.post("sample", "flood", ASKED)
    assert soon(lambda: len(app.runs) == 1)
    answers = [app.post("sample", "flood", ASKED) for _ in range(70)]
    assert {a.status_code for a in answers} == {200}
    assert app.runs[0].stop.is_set(), "a newer one is asked for"
    waiting = app.blocks._queue.event_queue_per_concurrency_id["run"].queue
    assert soon(lambda: not waiting and not app.runs[-1].stop.is_set())
    assert all(run.stop.is_set() for run in app.runs[:-1])
    app.over.set()
    told = app.events("sample", first)
    assert told[-1].startswith("event: complete")
    unbegun = sum("newer request" in part for part in told)
    assert unbegun and unbegun + len(app.runs) == 71


def test_a_program_ends_a_run_that_had_its_turn_but_had_not_begun(app, monkeypatch):
    real, late = runs.replace, []
    monkeypatch.setattr(
        runs, "replace", lambda visitor: real(visitor) if late else late.append(visitor)
    )
    app.post("sample", "me", ASKED), app.post("sample", "me", ASKED)
    assert soon(lambda: len(app.runs) == 2), "the second look ends the first"


def test_runs_that_wait_leave_room_for_other_clicks(app):
    assert app.post("sample", "first", ASKED).status_code == 200
    assert soon(lambda: len(app.runs) == 1)
    answers = [app.post("sample", f"visitor {i}", ASKED) for i in range(line.MOST + 5)]
    assert [a.status_code for a in answers] == [200] * line.MOST + [503] * 5
    assert "runs are waiting: try again later" in answers[-1].text
    answer = app.post("resize", "someone", {"data": ["128"]})
    assert answer.status_code == 200
    assert app.events("resize", answer)[-1].startswith("event: complete")


def test_one_visitor_cannot_fill_the_line_by_another_name_of_the_same_event(app):
    """A page's own events can be asked for too, as often as one likes."""
    assert app.post("sample", "first", ASKED).status_code == 200
    assert soon(lambda: len(app.runs) == 1)
    clicked = next(
        fn._id
        for fn in app.blocks.fns.values()
        if fn.concurrency_id == "run" and fn.targets and fn.trigger_after is not None
    )
    with httpx.Client(base_url=f"{app.blocks.local_api_url}queue", timeout=30) as client:
        body = {"data": [], "fn_index": clicked, "session_hash": "one"}
        codes = [client.post("/join", json=body).status_code for _ in range(line.OWN + 2)]
    assert codes == [200] * line.OWN + [503] * 2
