"""Who may join the line of runs, looked at when they ask.

Gradio bounds all waiting events together, so that one program that asks for many runs would have
everybody's clicks refused; and it does not know that the newest wish of a visitor counts.
"""

from __future__ import annotations

import asyncio
from typing import Any

import gradio as gr
from gradio.block_function import BlockFunction
from gradio.queueing import Event, Queue
from gradio.server_messages import ProcessCompletedMessage
from gradio.utils import error_payload

from ui import runs
from ui.common import RUN
from ui.text import add, both

MOST = 24  # runs that may wait; whoever comes then is told that the app is busy
OWN = 8  # of them one visitor's
SETTLED = 1.0  # seconds by which an event that has its turn has begun

add(
    {
        "line.replaced": (
            "A newer request of the same session has taken the place of this one.",
            "同一会话的新请求已取代此请求。",
        ),
    }
)


def watch(page: gr.Blocks) -> None:
    """Let `page`'s queue look at each run before it takes it in."""
    queue = page._queue
    push = queue.push

    async def join(body: Any, request: Any, username: Any) -> tuple[bool, Any, str]:
        fn, visitor = page.fns.get(body.fn_index), body.session_hash
        if fn is None or fn.concurrency_id != RUN["concurrency_id"]:
            return await push(body=body, request=request, username=username)
        newest = not fn.targets and visitor is not None  # through the API: no click has armed it
        if newest:
            await _drop(queue, fn, visitor)
        waiting = _waiting(queue)
        if len(waiting) >= MOST or sum(e.session_hash == visitor for e in waiting) >= OWN:
            return False, f"{len(waiting)} runs are waiting: try again later", "queue_full"
        joined = await push(body=body, request=request, username=username)
        if newest and joined[0]:
            _end(queue, joined[1])
            # Once more, since the one before may have had its turn only now and not begun.
            asyncio.get_running_loop().call_later(SETTLED, _end, queue, joined[1])
        return joined

    queue.push = join


def _waiting(queue: Queue) -> list[Event]:
    line = queue.event_queue_per_concurrency_id.get(RUN["concurrency_id"])
    return [] if line is None else list(line.queue)


def _same(event: Event, fn: BlockFunction, visitor: str) -> bool:
    return event.fn is fn and event.session_hash == visitor


async def _drop(queue: Queue, fn: BlockFunction, visitor: str) -> None:
    """The newest wish wins, as it does among clicks: what waits of this visitor leaves the line."""
    for event in _waiting(queue):
        if _same(event, fn, visitor):
            await queue.remove_from_queue(event._id)
            error = error_payload(gr.Error(both("line.replaced")), False)
            queue.send_message(event, ProcessCompletedMessage(output=error, success=False))


def _end(queue: Queue, event_id: str) -> None:
    """And what works of this visitor ends, while the newer event waits."""
    newer = next((e for e in _waiting(queue) if e._id == event_id), None)
    working = [event for job in queue.active_jobs if job for event in job]
    if newer and any(_same(event, newer.fn, newer.session_hash) for event in working):
        runs.replace(newer.session_hash)
