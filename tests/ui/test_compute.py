"""Whatever uses a model does so in one thread, whoever asks."""

from __future__ import annotations

import contextvars
import inspect
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from ui import compute, page
from ui import studio as studios
from ui.common import heavy

LINES = {"run", "answer", "after"}  # to wait in; see ui/common.py
ELSEWHERE = ("ui.reconstruct", "ui.reconstruct_board", "ui.reconstruct_inputs", "ui.surprise")
ELSEWHERE += ("ui.drawing_board", "ui.endpoint")
WHO = contextvars.ContextVar("who", default=None)


def here(*_: object) -> threading.Thread:
    return threading.current_thread()


def test_all_threads_share_one_and_may_ask_again_in_it():
    with ThreadPoolExecutor(4) as pool:
        threads = {compute.run(here), *pool.map(lambda _: compute.run(here), range(8))}
    assert len(threads) == 1 and threading.current_thread() not in threads
    assert compute.run(compute.run, here) in threads


def test_what_goes_wrong_there_is_raised_here_and_the_thread_goes_on():
    def broken() -> None:
        raise KeyError("a bug")

    with pytest.raises(KeyError, match="a bug"):
        compute.run(broken)
    assert compute.run(lambda: 1 + 1) == 2


def test_the_context_of_the_event_goes_along():
    """Without it gr.Warning and gr.Info would not find their visitor."""
    token = WHO.set("me")
    try:
        assert compute.run(WHO.get) == "me"
        assert next(compute.each(iter([WHO.get()]))) == "me"
    finally:
        WHO.reset(token)


def test_a_stream_lets_others_in_between_its_portions():
    order = []

    def stream():
        for n in range(2):
            order.append((n, here()))
            yield n

    items = compute.each(stream())
    assert next(items) == 0
    compute.run(lambda: order.append(("other", here())))
    assert list(items) == [1]
    assert [name for name, _ in order] == [0, "other", 1]
    assert len({thread for _, thread in order}) == 1


def test_a_stream_that_nobody_wants_any_more_ends_where_it_was_computed():
    ended = []

    def stream():
        try:
            yield 1
        finally:
            ended.append(here())

    items = compute.each(stream())
    next(items)
    items.close()
    assert ended == [compute.run(here)]


def test_closing_a_stream_waits_for_nobody():
    """Gradio closes in its event loop when a visitor leaves: all others would wait with it."""
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()
    stream = compute.each(n for n in range(2))
    next(stream)
    busy = threading.Thread(
        target=compute.run, args=(lambda: (begun.set(), go_on.wait(9), ended.set()),)
    )
    busy.start()
    begun.wait(20)
    stream.close()
    assert not ended.is_set()
    go_on.set()
    busy.join(20)


def test_a_process_ends_though_a_stream_is_left_and_a_job_is_running():
    code = """
from ui import compute
import threading, torch
kept = compute.each(n for n in range(3))
next(kept)
def work():
    begun.set()
    for _ in range(300): torch.rand(256, 256) @ torch.rand(256, 256)
begun = threading.Event()
threading.Thread(target=compute.run, args=(work,), daemon=True).start()
begun.wait()
compute.finish(30)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=90)
    assert (done.returncode, done.stderr) == (0, "")


def test_after_the_end_it_begins_anew():
    first = compute.run(here)
    compute.finish(20)
    assert not first.is_alive() and compute.run(here) is not first


@pytest.mark.parametrize("streams", [False, True])
def test_heavy_handlers_compute_there(streams):
    def stream(share: float):
        yield here(), share

    handler = heavy(stream if streams else lambda share: (here(), share))
    found = next(handler(0.5)) if streams else handler(0.5)
    assert found == (compute.run(here), 0.5)


def test_every_event_that_waits_for_models_computes_there(writer):
    """All but those of the Reconstruct tab, which go through the `Studio`, the surprise map, which
    is read in portions, and drawing, which first loads a CLIP elsewhere (see their tests)."""
    events = [fn for fn in page.build(writer).fns.values() if fn.concurrency_id in LINES]
    assert {fn.concurrency_id for fn in events} == LINES
    assert {fn.concurrency_limit for fn in events} == {1}
    plain = [inspect.unwrap(fn.fn) for fn in events if not hasattr(fn.fn, "heavy")]
    elsewhere = [str(f) for f in plain if getattr(f, "func", f).__module__ not in ELSEWHERE]
    assert elsewhere == []


def test_what_the_studio_is_asked_it_computes_there(studio, monkeypatch):
    image = Image.new("RGB", (32, 32), (1, 2, 3))
    for name in ("through", "measure", "decode_grid"):
        monkeypatch.setattr(studios, name, lambda *of: (here(), torch.zeros(1)))
    studio._kept.clear()
    for found in (
        studio.rebuild(image),
        studio.closeness(image, image),
        studio.decode(np.zeros((4, 4), np.int64), (32, 32)),
    ):
        assert found[0] is compute.run(here)
    studio._kept.clear()
