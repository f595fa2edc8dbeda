"""Who may join the line of runs, looked at when they ask, and who is next in the other lines.

Gradio bounds all waiting events together, so that one program that asks for many runs would have
everybody's clicks refused; and it does not know that the newest wish of a visitor counts, nor that
a click should not stand behind all pictures that another visitor's program has sent.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import gradio as gr
from gradio.block_function import BlockFunction
from gradio.queueing import Event, Queue
from gradio.server_messages import ProcessCompletedMessage
from gradio.utils import error_payload

from ui import runs
from ui.common import RUN
from ui.text import add, both

MOST = 24  # runs that may wait; whoever comes then is told so
OWN = 8  # of them one visitor's
SETTLED = 1.0  # seconds by which an event that has its turn has begun
NAMELESS = ""  # the visitor that all programs are which name no session: nothing tells them apart

add(
    {
        "line.replaced": (
            "A newer request of the same session has taken the place of this one.",
            "同一会话的新请求已取代此请求。",
        ),
        "line.busy": (
            "{count} runs are waiting already, so this one was not taken in: try again in a "
            "minute or two.",
            "已有 {count} 个任务在排队，因此未接受此任务：请过一两分钟再试。",
        ),
    }
)


def watch(page: gr.Blocks) -> None:
    """Let `page`'s queue look at each event before it takes it in, and forget who cannot return."""
    queue = page._queue
    push, ended = queue.push, queue.reset_iterators

    async def join(body: Any, request: Any, username: Any) -> tuple[bool, Any, str]:
        fn, visitor = page.fns.get(body.fn_index), body.session_hash or NAMELESS
        if fn is None or fn.concurrency_id != RUN["concurrency_id"]:
            joined = await push(body=body, request=request, username=username)
            if fn is not None and joined[0]:
                _take_turns(queue, fn.concurrency_id)
            return joined
        clicked = bool(fn.targets)  # else asked for through the API: no click has armed it
        newest = not clicked and visitor != NAMELESS
        if newest:
            await _drop(queue, fn, visitor)
        elif clicked:
            await _let_go(queue, visitor)
        waiting = _waiting(queue)
        full = len(waiting) >= MOST or sum(_visitor(e) == visitor for e in waiting) >= OWN
        if full and not clicked:
            return False, f"{len(waiting)} runs are waiting: try again later", "queue_full"
        joined = await push(body=body, request=request, username=username)
        if full and joined[0]:  # of a refusal here a browser would show Gradio's words alone
            error = error_payload(gr.Error(both("line.busy", count=len(waiting))), False)
            await _complete(queue, queue.event_ids_to_events[joined[1]], error, success=False)
        if newest and joined[0]:
            _end(queue, joined[1])
            # Once more, since the one before may have had its turn only now and not begun.
            asyncio.get_running_loop().call_later(SETTLED, _end, queue, joined[1])
        return joined

    async def end(event_id: str) -> None:
        await ended(event_id)
        # The session of a call that named none (see `_visitor`): nobody can go on with it, and each
        # that is kept takes the place of a visitor's picture.
        page.state_holder.session_data.pop(event_id, None)
        page.state_holder.time_last_used.pop(event_id, None)
        runs.forget(event_id)

    queue.push, queue.reset_iterators = join, end


def _visitor(event: Event) -> str:
    """Whose event it is: Gradio names the session of a call that names none after its event."""
    return NAMELESS if event.session_hash == event._id else event.session_hash


def _waiting(queue: Queue) -> list[Event]:
    line = queue.event_queue_per_concurrency_id.get(RUN["concurrency_id"])
    return [] if line is None else list(line.queue)


def _same(event: Event, fn: BlockFunction, visitor: str) -> bool:
    return event.fn is fn and event.session_hash == visitor


async def _drop(queue: Queue, fn: BlockFunction, visitor: str) -> None:
    """The newest wish wins, as it does among clicks: what waits of this visitor leaves the line."""
    error = error_payload(gr.Error(both("line.replaced")), False)
    for event in _waiting(queue):
        if _same(event, fn, visitor):
            await _complete(queue, event, error, success=False)


async def _let_go(queue: Queue, visitor: str) -> None:
    """What this visitor's page has asked for and no longer wants leaves the line, as it would be
    told once it had its turn: nothing changes."""
    for event in _waiting(queue):
        own = event.session_hash == visitor and event.fn.targets
        if own and not runs.wanted(visitor, _number(event)):
            nothing = {"data": [gr.skip()] * len(event.fn.outputs), "is_generating": False}
            await _complete(queue, event, nothing, success=True)


def _number(event: Event) -> Any:
    """Of the click that has armed it: the first input of all runs, by itself or with what it says
    (see `runs.ticket`)."""
    first = next(iter(event.data.data), None)
    return first.get("number") if isinstance(first, dict) else first


async def _complete(queue: Queue, event: Event, output: dict[str, Any], *, success: bool) -> None:
    """Take a waiting event out of its line, with this as its answer, unless it has its turn."""
    await queue.remove_from_queue(event._id)
    if event._id not in queue.event_ids_to_events:
        queue.send_message(event, ProcessCompletedMessage(output=output, success=success))


def _take_turns(queue: Queue, line: str) -> None:
    """One event of each visitor after the other, each visitor's own in their order."""
    waiting = queue.event_queue_per_concurrency_id[line].queue
    before: Counter[str] = Counter()
    rounds: dict[str, int] = {}
    for event in waiting:
        rounds[event._id] = before[_visitor(event)]
        before[_visitor(event)] += 1
    waiting.sort(key=lambda event: rounds[event._id])


def _end(queue: Queue, event_id: str) -> None:
    """And what works of this visitor ends, while the newer event waits."""
    newer = next((e for e in _waiting(queue) if e._id == event_id), None)
    working = [event for job in queue.active_jobs if job for event in job]
    if newer and any(_same(event, newer.fn, newer.session_hash) for event in working):
        runs.replace(newer.session_hash)
