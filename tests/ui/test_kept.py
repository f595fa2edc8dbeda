"""A page whose picture is no longer kept, as Gradio answers a lost state with the example."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from ui import codebook_panel as panel
from ui import kept, page, panels
from ui import session as sessions
from ui.common import Sentence
from ui.examples import EXAMPLES

GOING_ON = {
    "ui.sketching connect.<locals>.from_session",
    "ui.sample_runs _connect_sources.<locals>.from_session",
    "ui.sample_runs _connect_sources.<locals>.opened",
    "ui.masking build.<locals>.from_session",
    "ui.masking build.<locals>.opened",
    "ui.reconstruct_inputs Opening.size",
    "ui.between build.<locals>.show",
    "ui.surprise build.<locals>.measure",
}


@pytest.fixture(scope="module")
def events(writer):
    """What goes on with the picture that is open in Reconstruct, by name."""
    found = {}
    for fn in page.build(writer).fns.values():
        name = f"{getattr(fn.fn, '__module__', '')} {getattr(fn.fn, '__qualname__', '')}"
        if name in GOING_ON and fn.targets:  # what programs call as well is offered apart
            found[name] = fn
    return found


def asked(event: Any, session: sessions.Session, shown: str) -> list[Any]:
    """The event's inputs, of a page that shows a picture of that name."""
    values = [block.value for block in event.inputs]
    places = [i for i, value in enumerate(values) if isinstance(value, sessions.Session)]
    values[places[0]] = session
    place = next(i for i, block in enumerate(event.inputs) if block.label == "picture")
    values[place] = shown
    return values


def test_a_stroke_that_finds_another_picture_is_told_why(writer):
    """Nothing is lost where the picture is newer than the one that was painted on."""
    example = replace(sessions.open_picture(writer, EXAMPLES[0].path, "128"), opening=True)
    newer = sessions.open_picture(writer, EXAMPLES[1].path, "128")
    for session, said in ((example, "no longer kept here"), (newer, "Another picture .* opened")):
        with pytest.raises(Sentence, match=said):
            kept.check(session, "of-before")
    kept.check(newer, newer.picture)


@pytest.mark.parametrize("name", sorted(GOING_ON))
def test_what_would_go_on_with_another_picture_is_refused(writer, events, name):
    event = events[name]
    example = replace(sessions.open_picture(writer, EXAMPLES[0].path, "128"), opening=True)
    mine = sessions.open_picture(writer, EXAMPLES[1].path, "128")
    with pytest.raises(gr.Error, match=r"(?s)no longer kept here.*不再保留"):
        event.fn(*asked(event, example, mine.picture))
    # A program shows nothing, and a page may not have drawn what was chosen last.
    for shown in (mine.picture, "", example.picture):
        assert event.fn(*asked(event, mine, shown))


@pytest.mark.parametrize("name", sorted(GOING_ON))
def test_the_page_says_last_which_picture_it_shows(events, name):
    event = events[name]
    assert event.inputs[-1].label == "picture" and not event.inputs[-1].visible
    assert event.js == kept.saying(len(event.inputs))


def test_what_is_said_of_a_code_leaves_out_a_picture_that_is_not_there(writer):
    mine = sessions.open_picture(writer, EXAMPLES[1].path, "128")
    example = replace(sessions.open_picture(writer, EXAMPLES[0].path, "128"), opening=True)
    code = int(example.indices[7, 7])
    for shown, lost in ((mine.picture, True), (example.picture, False), ("", False)):
        session = kept.known(example, shown)
        card, place = panels.code_card(writer, session, code), panel.here(code, session, writer.f)
        assert ("cells here" in card, "In your picture" in place) == (not lost, not lost)
        assert ("no longer kept" in card, "no longer kept" in place) == (lost, lost)
    assert kept.known(mine, example.picture) is mine  # only newer than what is drawn


def test_what_was_written_or_drawn_and_is_lost_is_said(writer):
    """And what the page still shows stays on it."""
    fns = [fn.fn for fn in page.build(writer).fns.values() if fn.fn is not None]
    handlers = {(getattr(f, "__module__", ""), getattr(f, "__qualname__", "")): f for f in fns}
    me = SimpleNamespace(session_hash="me")
    said = gr.EventData(None, {"number": "3", "picture": 0, "batch": 1, "cell": 0})
    for module, name, values in (
        ("steps", "_connect.<locals>.act", (None, 3, 1.0, 0, 1.0, 5, "6×7")),
        ("sample_runs", "connect_board.<locals>.pick", (None,)),
        ("text_to_image", "_connect_board.<locals>.again", (me, [])),
    ):
        with pytest.raises(gr.Error, match=r"(?s)no longer kept.*不再保留"):
            handlers[f"ui.{module}", name](said, *values)
    listed = handlers["ui.text_to_image", "_connect_board.<locals>.listed"]
    assert listed([], None) == gr.skip()
