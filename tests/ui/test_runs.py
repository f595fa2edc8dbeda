"""Whose run waits, works and ends: the newest request of a visitor wins."""

from __future__ import annotations

import time

import pytest

from ui import runs
from ui.runs import Runs

ME = "me"


def test_stop_finds_the_run_that_works():
    runs = Runs()
    with runs.turn(ME, runs.arm(ME)) as run:
        assert run.working and not runs.stop(ME), "it ends by itself"
        assert run.stop.is_set() and runs.alive(ME)
    assert not runs.alive(ME)
    with runs.turn(ME, runs.arm(ME)) as run:  # the next click starts afresh
        assert not run.stop.is_set()


def test_a_second_request_ends_the_first_and_can_itself_be_stopped():
    runs = Runs()
    with runs.turn(ME, runs.arm(ME)) as first:
        second = runs.arm(ME)
        assert first.stop.is_set() and first.replaced
    assert runs.alive(ME), "the second one waits"
    with runs.turn(ME, second) as run:
        assert not run.stop.is_set() and not run.replaced
        runs.stop(ME)
        assert run.stop.is_set()


def test_a_run_that_was_ended_in_line_never_begins():
    runs = Runs()
    first, second = runs.arm(ME), runs.arm(ME)
    with runs.turn(ME, first) as run:
        assert run is None, "a newer one was asked for"
    assert runs.alive(ME)
    assert runs.stop(ME) and not runs.alive(ME), "over at once: it had not begun"
    with runs.turn(ME, second) as run:
        assert run is None
    third = runs.arm(ME)
    runs.forget(ME)
    with runs.turn(ME, third) as run:
        assert run is None, "nobody is there any more"


def test_once_the_newer_one_is_over_the_buttons_are_the_older_ones_again():
    runs = Runs()
    with runs.turn(ME, runs.arm(ME)) as first:
        runs.arm(ME), runs.arm(ME)
        assert first.replaced
        runs.stop(ME)
        assert not first.replaced


def test_a_run_may_wait_again_between_two_turns():
    runs = Runs()
    number = runs.arm(ME)
    with runs.turn(ME, number, last=False) as run:
        assert run.working
    assert runs.alive(ME)
    with runs.turn(ME, number) as run:
        assert run is not None
    assert not runs.alive(ME)


def test_what_goes_wrong_in_a_run_that_was_replaced_is_nobodys_concern():
    runs = Runs()
    with pytest.raises(ValueError), runs.turn(ME, runs.arm(ME)):
        raise ValueError("said to the visitor")
    assert not runs.alive(ME) and runs.failed(ME)
    with runs.turn(ME, runs.arm(ME)):
        runs.arm(ME)
        raise ValueError("said to nobody")
    assert runs.alive(ME)


def test_a_run_that_was_refused_a_place_in_line_is_over():
    runs = Runs()
    number = runs.arm(ME)
    with runs.turn(ME, number):
        assert not runs.failed(ME), "it works"
    runs.arm(ME)
    assert runs.failed(ME) and not runs.alive(ME)


def test_without_a_click_a_run_begins_and_ends_with_its_visitor():
    runs = Runs()
    with runs.turn("api", None) as run:
        runs.forget("api")
        assert run.stop.is_set()


def test_a_run_ends_when_its_time_is_over_and_says_so(monkeypatch):
    said = []
    monkeypatch.setattr("ui.runs.gr.Info", said.append)
    runs = Runs(seconds=0.05)
    with runs.turn(ME, runs.arm(ME)) as run:
        assert run.stop.wait(10) and not said
    assert len(said) == 1 and "在此公共页面上" in said[0]
    with runs.turn(ME, runs.arm(ME), last=False) as run:  # waits for a download: in nobody's way
        assert not run.stop.wait(0.2)
    with runs.turn(ME, runs.arm(ME)):
        runs.stop(ME)
        time.sleep(0.2)
    assert len(said) == 1, "the visitor has ended it"
    runs = Runs(seconds=30)
    with runs.turn(ME, runs.arm(ME)) as run:
        assert not run.stop.wait(0.1)
    assert len(said) == 1 and not run.stop.is_set()


def test_only_a_space_has_a_time_for_runs(monkeypatch):
    monkeypatch.delenv("SPACE_ID", raising=False)
    assert Runs()._seconds is None
    monkeypatch.setenv("SPACE_ID", "someone/studio")
    assert Runs()._seconds == runs.BUDGET


def test_a_programs_next_request_ends_its_last_one_and_no_click():
    mine, others = Runs(), Runs()
    with mine.turn("api", None) as asked, others.turn(ME, others.arm(ME)) as clicked:
        runs.replace("api"), runs.replace(ME)
        assert asked.stop.is_set() and not clicked.stop.is_set()
        runs.stop_all()
        assert clicked.stop.is_set()
