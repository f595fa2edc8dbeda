"""Errors become one sentence, in one place."""

from __future__ import annotations

import gradio as gr
import pytest

from ui.common import Sentence, friendly, path_of, said, whole


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


def test_what_a_page_sends_is_read_or_refused(tmp_path, monkeypatch):
    assert said(gr.EventData(None, {"code": 7})) == {"code": 7}
    assert said(gr.EventData(None, None)) == {} and whole(7) == 7
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    (tmp_path / "uploads").mkdir()
    (tmp_path / "uploads" / "a.png").touch(), (tmp_path / "b.png").touch()
    file = {"path": str(tmp_path / "uploads" / "a.png")}
    assert path_of(file) == (tmp_path / "uploads" / "a.png").resolve()
    for read, junk in (
        *((lambda junk: said(gr.EventData(None, junk)), junk) for junk in (7, [], "index")),
        *((whole, junk) for junk in (None, "7", 7.5, True, [], float("nan"))),
        *((path_of, junk) for junk in (7, {}, {"path": None}, {"path": 7}, "a.png", [])),
        *((path_of, {"path": path}) for path in (str(tmp_path / "b.png"), "README.md", "\0")),
        (path_of, {"path": str(tmp_path / "uploads" / ".." / "b.png")}),
    ):
        with pytest.raises(Sentence, match="try again"):
            read(junk)
    (tmp_path / "uploads" / "a.png").unlink()
    with pytest.raises(Sentence, match="此处不再保留"):
        path_of(file)
