"""A program that asks for many runs leaves the page to the others."""

from __future__ import annotations

import json
import threading
import time
from types import SimpleNamespace

import gradio as gr
import httpx
import pytest

from ui import line, page, runs, sample_runs
from ui import session as sessions

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

        def post(name: str, visitor: str | None, body: dict) -> httpx.Response:
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


def test_programs_that_name_no_session_are_bounded_together(app):
    app.post("sample", "first", ASKED)
    assert soon(lambda: len(app.runs) == 1)
    codes = [app.post("sample", None, ASKED).status_code for _ in range(line.OWN + 3)]
    assert codes == [200] * line.OWN + [503] * 3
    assert app.post("sample", "someone", ASKED).status_code == 200


def test_calls_that_name_no_session_take_no_visitors_place(app, monkeypatch):
    """Gradio makes a session for each, and beyond its capacity drops the oldest one."""
    app.events("resize", app.post("resize", "painter", {"data": ["256"]}))
    holder = app.blocks.state_holder
    monkeypatch.setattr(holder, "capacity", 3)
    app.over.set()
    for name, body in (("resize", {"data": ["128"]}), ("sample", ASKED)) * 3:
        answer = app.post(name, None, body)
        assert app.events(name, answer)[-1].startswith("event: complete")
        made = answer.json()["event_id"]
        assert soon(lambda: list(holder.session_data) == ["painter"])
        assert not any(made in known._newest for known in list(runs._all))


@pytest.fixture
def clicks(app):
    """Puts the event of a click of the Sample tab in line, and hears what a visitor is told."""
    fns = [fn for fn in app.blocks.fns.values() if fn.concurrency_id == "run" and fn.targets]
    clicked = next(fn for fn in fns if fn.trigger_after is not None and fn.targets[0][1] == "then")
    with httpx.Client(base_url=f"{app.blocks.local_api_url}queue", timeout=30) as client:

        def join(visitor: str, ticket: object) -> httpx.Response:
            states = [isinstance(block, gr.State) for block in clicked.inputs]
            rest = zip(clicked.inputs[1:], states[1:], strict=True)
            data = [ticket, *(None if state else block.value for block, state in rest)]
            body = {"data": data, "fn_index": clicked._id, "session_hash": visitor}
            return client.post("/join", json=body)

        def told(visitor: str) -> list[dict]:
            lines = client.get("/data", params={"session_hash": visitor}).text.splitlines()
            return [json.loads(part[5:]) for part in lines if part.startswith("data:")]

        yield SimpleNamespace(join=join, told=told, outputs=len(clicked.outputs))


def test_what_a_click_has_replaced_leaves_the_line(app, clicks):
    """A page's own events, which can be asked for by a program too, as often as one likes."""
    app.post("sample", "first", ASKED)
    assert soon(lambda: len(app.runs) == 1)
    (known,) = (found for found in list(runs._all) if found.alive("first"))
    waiting = app.blocks._queue.event_queue_per_concurrency_id["run"].queue
    for _ in range(line.MOST):
        ticket = {"number": known.arm("one"), "said": None}
        assert clicks.join("one", ticket).status_code == 200
        assert clicks.join("two", None).status_code == 200
    assert sorted(event.session_hash for event in waiting) == ["one", "two"]
    assert waiting[0].data.data[0]["number"] == known._newest["one"].number
    app.over.set()
    ends = [m for m in clicks.told("one") if m["msg"] == "process_completed"]
    assert len(ends) == line.MOST and all(m["success"] for m in ends)
    nothing = [{"__type__": "update"}] * clicks.outputs
    assert all(m["output"]["data"] == nothing for m in ends[:-1])


def test_one_visitor_cannot_fill_the_line_with_one_click(app, clicks):
    app.post("sample", "first", ASKED)
    assert soon(lambda: len(app.runs) == 1)
    (known,) = (found for found in list(runs._all) if found.alive("first"))
    ticket = {"number": known.arm("one"), "said": None}
    codes = [clicks.join("one", ticket).status_code for _ in range(line.OWN + 2)]
    waiting = app.blocks._queue.event_queue_per_concurrency_id["run"].queue
    assert codes == [200] * (line.OWN + 2) and len(waiting) == line.OWN
    app.over.set()
    ends = [m for m in clicks.told("one") if m["msg"] == "process_completed"]
    assert [m["success"] for m in ends].count(False) == 2


def test_a_click_that_finds_the_line_full_is_told_so_in_both_languages(app, clicks):
    for i in range(line.MOST + 1):
        app.post("sample", f"visitor {i}", ASKED)
    waiting = app.blocks._queue.event_queue_per_concurrency_id["run"].queue
    assert soon(lambda: len(waiting) == line.MOST)
    assert clicks.join("late", None).status_code == 200
    assert len(waiting) == line.MOST, "it was not taken in"
    (end,) = [m for m in clicks.told("late") if m["msg"] == "process_completed"]
    assert not end["success"]
    assert f"{line.MOST} runs are waiting already" in end["output"]["error"]
    assert f"已有 {line.MOST} 个任务在排队" in end["output"]["error"]


@pytest.mark.parametrize("program", ["batch", None])
def test_a_click_stands_behind_one_picture_of_a_program_that_sends_many(app, monkeypatch, program):
    over, real = threading.Event(), sessions.resized
    monkeypatch.setattr(sessions, "resized", lambda *given: over.wait(20) and real(*given))
    try:
        for visitor in (program,) * 6 + ("someone",) * 2:
            assert app.post("resize", visitor, {"data": ["128"]}).status_code == 200
        waiting = app.blocks._queue.event_queue_per_concurrency_id["answer"].queue
        assert soon(lambda: len(waiting) == 7)  # one has its turn
        clicked = [event.session_hash == "someone" for event in waiting]
        assert clicked == [False, True, False, True, False, False, False]
        own = [event.enqueue_time for event in waiting if event.session_hash != "someone"]
        assert own == sorted(own)
    finally:
        over.set()
