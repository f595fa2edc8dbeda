"""The page as a whole."""

from __future__ import annotations

import math

import gradio as gr

from ui import page


def test_between_the_tabs_lies_nothing_else(writer):
    """Gradio numbers what lies directly in `gr.Tabs`: a State among them shows a tab twice."""
    blocks = page.build(writer).blocks.values()
    groups = [block for block in blocks if isinstance(block, gr.Tabs)]
    assert [tab.id for tab in groups[0].children] == [
        "reconstruct",
        "codebook",
        "sample",
        "text-to-image",
    ]
    assert all(isinstance(child, gr.Tab) for group in groups for child in group.children)


def test_a_run_is_never_dropped_because_the_last_one_still_tells(writer):
    """Its button is ready before its figures are; of mode "once" Gradio would run nothing then,
    and nothing would switch the button back."""
    events = page.build(writer).fns.values()
    fetches = {fn._id: fn for fn in events if fn.concurrency_id == "fetch"}  # come before some
    runs = [
        fn
        for fn in events
        if fn.concurrency_id == "run"
        and fn.trigger_after is not None
        and (not fn.trigger_only_on_success or fn.trigger_after in fetches)
    ]
    assert len(runs) == 8
    assert {fn.trigger_mode for fn in [*runs, *fetches.values()]} == {"multiple"}


def test_the_api_asks_for_runs_without_a_click(writer):
    """A page's own events carry the number of a click, which nobody else should have to give."""
    events = {fn.api_name: fn for fn in page.build(writer).fns.values()}
    for name in ("sample", "text_to_image"):
        assert events[name].concurrency_id == "run" and not events[name].targets
        assert events[name].api_visibility == "public"


def test_what_strangers_leave_behind_goes_sooner(writer, monkeypatch):
    """At home nothing goes while a page is open; programs that ask a Space never close one."""

    def kept() -> tuple:
        made = page.build(writer)
        lives = {b.time_to_live for b in made.blocks.values() if isinstance(b, gr.State)}
        options = page.launch_options()
        return lives, made.delete_cache, options["max_file_size"], options["state_session_capacity"]

    monkeypatch.delenv("SPACE_ID", raising=False)
    assert kept() == ({math.inf}, (3600, 86400), "64mb", 300)
    monkeypatch.setenv("SPACE_ID", "someone/studio")
    assert kept() == ({7200}, (600, 7200), "20mb", 300)
