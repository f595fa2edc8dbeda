"""Errors become one sentence, in one place."""

from __future__ import annotations

import gradio as gr
import pytest

from ui.common import Sentence, friendly


def _raises(error: Exception):
    def handler():
        raise error

    return friendly(handler)


def test_a_value_error_is_shown_as_it_is_without_its_markup():
    with pytest.raises(gr.Error) as caught:
        _raises(ValueError("a <b> is not a c"))()
    assert caught.value.message == "a &lt;b&gt; is not a c"
    assert not caught.value.print_exception


def test_our_own_sentences_carry_both_languages():
    with pytest.raises(gr.Error) as caught:
        _raises(Sentence("error.memory"))()
    assert '<span lang="zh">' in caught.value.message


def test_out_of_memory_is_a_sentence_and_a_bug_stays_a_bug():
    with pytest.raises(gr.Error, match="not enough memory"):
        _raises(RuntimeError("DefaultCPUAllocator: can't allocate: Out of memory"))()
    with pytest.raises(RuntimeError, match="a bug"):
        _raises(RuntimeError("a bug"))()


def test_generators_too():
    @friendly
    def handler():
        yield 1
        raise ValueError("enough")

    steps = handler()
    assert next(steps) == 1
    with pytest.raises(gr.Error, match="enough"):
        next(steps)
