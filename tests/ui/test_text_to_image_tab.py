"""What the Text-to-image tab does, without a browser."""

from __future__ import annotations

import io
import re
import threading
import time
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
import torch
from gradio_client import Client
from PIL import Image

from clip_guidance import record
from clip_guidance.guide import GuidanceConfig, decode
from clip_guidance.modes import DrawConfig, Models, Request
from prior.nearest import SIDE, Training
from ui import compute, drawing, drawing_inputs, page, quick, text_to_image
from ui import drawing_panel as panel
from ui.clips import OWN, PUBLISHED, Clips
from ui.common import Sentence, TabHandles
from ui.drawing import Drawn, View
from ui.drawing_board import Board, Desk, follow, had, looked_at, shown, switch
from ui.drawing_inputs import Inputs
from ui.runs import Run, Runs
from vqgan.grids import decode_grid
from vqgan.images import to_image
from vqgan.model import VQGAN

FEW = GuidanceConfig(steps=4, cutouts=2)


@pytest.fixture(scope="module")
def models(able) -> Models:
    return Clips(able).models(OWN)


def ask(mode: str = "both", prompt: str = "red", steps: int = 4) -> Request:
    guidance = GuidanceConfig(steps=steps, cutouts=2)
    return Request(prompt, mode, DrawConfig(candidates=3), guidance)


def drawn(able, models, request: Request, stop_at: int | None = None) -> tuple[list[View], Drawn]:
    stop, views = threading.Event(), []
    for step in drawing.draw(able, models, request, OWN, stop):
        if isinstance(step, View):
            views.append(step)
            if stop_at is not None and step.phase == "steps" and step.done >= stop_at:
                stop.set()
    return views, step


def onwards(
    able, models, before: Drawn, shown: Request, clip: str = OWN, stop_at: int | None = None
) -> tuple[list[View], Drawn]:
    """Continue, with these settings on the page."""
    stop, views = threading.Event(), []
    for step in drawing.go_on(able, models, before, shown, clip, stop):
        if isinstance(step, View):
            views.append(step)
            if step.done == stop_at:
                stop.set()
    return views, step


@pytest.fixture(autouse=True)
def every_step_is_shown(monkeypatch):
    monkeypatch.setattr(drawing, "SHOWN", 0.0)
    monkeypatch.setattr(drawing, "PAINTED", 0.0)
    monkeypatch.setattr(drawing, "PREVIEWS", 1.0)


def test_a_run_shows_codes_then_the_best_candidate_then_steps(able, models):
    views, result = drawn(able, models, ask())
    phases = [v.phase for v in views]
    assert phases == ["writing"] * phases.count("writing") + ["steps"] * 5
    assert [v.done for v in views[-5:]] == [0, 1, 2, 3, 4] and len(views[-1].curve) == 4
    pictures = [np.asarray(v.image) for v in views]
    assert not np.array_equal(pictures[0], pictures[-6]), "previews of the writing differ"
    off = np.abs(pictures[-5].astype(int) - pictures[-4]).mean()
    assert off < 2, "the first step shows the best candidate"  # bfloat16, another batch size
    assert result.stopped is None and result.picked == result.ranking.best
    assert result.score == views[-1].score and len(result.frames) == 5


def test_stop_ends_within_a_step_and_keeps_the_picture(able, models):
    views, result = drawn(able, models, ask(steps=50), stop_at=3)
    assert views[-1].done == 3 and result.stopped == 3 and result.state.step == 3
    assert alike(result.image, views[-1].image)
    exact = decode_grid(able.vqgan, result.codes[0].numpy())
    assert np.array_equal(np.asarray(result.image), np.asarray(exact))


def stopped_at(able, models, done: int, mode: str = "both") -> View | Drawn:
    """What is left of a run that was stopped while the prior wrote its code of this number."""
    stop = threading.Event()
    for step in drawing.draw(able, models, ask(mode), OWN, stop):
        if isinstance(step, View) and step.done == done:
            stop.set()
        if stop.is_set():
            result = step
    return result


def test_stop_while_the_prior_writes_keeps_what_is_written(able, models):
    result = stopped_at(able, models, 15)
    assert result.state is None and result.stopped == 0
    codes = result.codes.flatten().tolist()
    assert codes[15:] == [able.blank_code] and codes[:15] != [able.blank_code] * 15


@pytest.mark.parametrize("mode", ["prior", "both"])
def test_a_picture_whose_prior_was_stopped_says_so_on_the_page_and_in_its_file(able, models, mode):
    result = stopped_at(able, models, 15, mode)
    html, desk = panel.finished(result), text_to_image.Desk(able, Clips(able))
    assert "Stopped at code 15 of 16" in html and 'data-phase="stopped"' in html
    _, made = record.read(desk.files(result)[0])
    assert made["stopped_code"] == 15
    assert "to another picture" in (said := text_to_image._restored(made)), said
    assert "same picture" not in said
    _, end = onwards(able, models, result, ask(mode))  # its first codes stay what they are
    assert "Done" in panel.finished(end)
    assert "to another picture" in text_to_image._restored(record.read(desk.files(end)[0])[1])


def test_what_is_hardly_written_is_shown_and_not_kept(able, models):
    """White paper has no score worth telling, no neighbours, and no place in the history."""
    stage, (_, before) = Stage(able), drawn(able, models, ask())
    left = stopped_at(able, models, 5)
    assert isinstance(left, View) and (left.phase, left.done, left.total) == ("unfinished", 5, 16)
    shown, end = stage.follow(Run(1), before, iter([left]))
    assert "Stopped at code 5 of 16" in shown["stage"] and "已停在第 5 / 16 个码" in shown["stage"]
    assert panel.data_url(left.image) in shown["stage"] and "Score" not in shown["stage"]
    assert end["drawn"] is None and end["found"] == "" and "results" not in end
    assert "stage" not in end, "it stays there"
    on = [n for n in ("go", "halt", "more", "open", "png", "gif") if end[n].interactive]
    assert on == ["go"]
    runs = Runs()
    with runs.turn("me", runs.arm("me")) as run:  # a newer wish: what was there stays
        runs.arm("me")
        *_, end = stage.follow(run, before, iter([left]))
        assert panel.data_url(before.image) in end["stage"] and "drawn" not in end


@pytest.mark.parametrize("mode", ["both", "guided"])
def test_stop_before_the_beginning_draws_nothing(able, models, mode):
    stop = threading.Event()
    stop.set()
    assert list(drawing.draw(able, models, ask(mode), OWN, stop)) == []
    _, result = drawn(able, models, ask(mode))
    assert list(drawing.go_on(able, models, result, ask(mode, steps=9), OWN, stop)) == []


class Stage:
    """A board that tells what a run makes of it."""

    def __init__(self, able):
        self.desk = Desk(able, Clips(able))
        self.board = Board(*[None] * len(fields(Board)))

    def follow(self, run: Run, before: Drawn | None, steps) -> list[dict]:
        names = [f.name for f in fields(Board)]
        found = []
        for change in follow(self.desk, self.board, run, [], before, steps):
            values = dict(zip(names, change, strict=True))
            found.append({n: value for n, value in values.items() if value != gr.skip()})
        return found


def test_what_was_there_is_shown_again_where_nothing_was_drawn(able, models):
    stage, (_, before) = Stage(able), drawn(able, models, ask())
    (only,) = stage.follow(Run(1), before, iter(()))
    assert "Stopped before anything was drawn" in only["stage"]
    assert panel.data_url(before.image) in only["stage"] and "data-candidate" in only["found"]
    assert not {"results", "drawn", "history"} & only.keys()
    assert only["go"].interactive and only["more"].interactive and not only["halt"].interactive
    (only,) = stage.follow(Run(1), None, iter(()))
    assert not only["more"].interactive, "there is nothing to go on from"


def test_files_are_never_those_of_the_picture_before(able, models):
    """A picture is there a moment before its files: what is saved then must not be the last one."""
    stage, (_, result) = Stage(able), drawn(able, models, ask())
    begun = switch(True, True)
    assert not begun["png"].interactive and not begun["gif"].interactive
    out, told = stage.follow(Run(1), None, iter([result]))
    assert out["go"].interactive and not {"png", "gif"} & out.keys()
    assert told["png"].interactive and told["gif"].interactive and told["png"].value
    again = had(result), had(replace(result, frames=())), had(None)
    on = [[buttons[name].interactive for name in ("png", "gif")] for buttons in again]
    assert on == [[True, True], [True, False], [False, False]]


def test_a_run_leaves_buttons_and_stage_to_a_newer_one(able, models):
    stage, (_, before) = Stage(able), drawn(able, models, ask())
    _, hardly = drawn(able, models, ask(), stop_at=0)
    _, some = drawn(able, models, ask(steps=50), stop_at=3)
    runs = Runs()
    with runs.turn("me", runs.arm("me")) as run:
        runs.arm("me")
        (only,) = stage.follow(run, before, iter([hardly]))
        assert "Waiting for its turn" in only["stage"] and "results" not in only
        assert not only["png"].interactive and "data-candidate" in only["found"]
        kept, told = stage.follow(run, before, iter([some]))
        assert "Waiting for its turn" in kept["stage"] and kept["results"] == [some]
        assert not {"go", "halt", "more", "open"} & {*only, *kept, *told}
        runs.stop("me")
        assert stage.follow(run, before, iter([some]))[0]["go"].interactive


def test_a_picture_that_is_looked_at_during_a_run_leaves_the_buttons_to_it(able, models):
    desk, (_, result) = Stage(able).desk, drawn(able, models, ask())
    for opening in (False, True):
        desk.runs.arm("me")
        during = shown(desk, result, [result], "me", opening)
        assert not {"go", "halt", "more", "open", "stage"} & during.keys()
        assert "results" not in during, "or a picture that the run adds meanwhile would be lost"
        assert during.get("drawn") is (result if opening else None)
        assert opening or not during, "the page is the run's, as a whole"
        desk.runs.stop("me")
        after = shown(desk, result, [result], "me", opening)
        assert after["go"].interactive and "stage" in after


def test_a_click_on_a_picture_during_a_run_changes_nothing(able, models, monkeypatch):
    said: list[str] = []
    monkeypatch.setattr("gradio.Info", said.append)
    stage, (_, result) = Stage(able), drawn(able, models, ask())
    desk, skipped = stage.desk, [gr.skip()] * len(fields(Board))
    with desk.runs.turn("me", desk.runs.arm("me")) as run:
        assert looked_at(desk, stage.board, result, [result], "me") == skipped
        assert "Stop first" in said[0] and "请等它画完" in said[0]
        steps = follow(desk, stage.board, run, [], None, iter([result]))
        next(steps)  # the picture is out, its files are still to come
        click = threading.Thread(
            target=lambda: said.append(looked_at(desk, stage.board, result, [result], "me"))
        )
        click.start()
        click.join(0.3)
        assert click.is_alive(), "it waits for them"
        list(steps)
        assert not desk.ending.is_set()
        run.over = True
    click.join(20)
    assert len(said) == 2 and result in said[1]


def test_a_candidate_is_one_of_the_picture_that_was_shown(able, models):
    """A click may come after another picture has taken its place."""
    _, result = drawn(able, models, ask("prior"))
    _, other = drawn(able, models, ask("prior", "blue"))
    pick = next(fn.fn for fn in alone(able).fns.values() if fn.name == "candidate")
    named = re.search(r'data-of="(\w+)" data-candidate="2"', panel.found(result))[1]
    event = gr.EventData(None, {"candidate": "2", "of": named})
    answers = [pick(event, ME, [result, other], shown) for shown in (result, other)]
    (picked,) = [value for value in answers[0] if isinstance(value, Drawn)]
    assert picked.picked == 2 and picked.ranking is result.ranking
    assert answers[1] == gr.skip()


def test_continue_after_stop_equals_not_having_stopped(able, models):
    _, whole = drawn(able, models, ask(steps=6))
    _, half = drawn(able, models, ask(steps=6), stop_at=3)
    views, rest = onwards(able, models, half, ask(steps=6))
    assert [v.done for v in views] == [4, 5, 6] and rest.stopped is None
    assert np.array_equal(np.asarray(rest.image), np.asarray(whole.image))
    assert rest.curve == whole.curve
    assert rest.earlier == () and rest.request == whole.request
    _, longer = onwards(able, models, rest, ask(steps=6))
    assert longer.state.step == 12 and longer.request.guidance.steps == 12


def test_without_words_it_goes_on_with_those_of_the_picture(able, models):
    _, result = drawn(able, models, ask("guided"))
    _, more = onwards(able, models, result, ask("guided", "  "))
    assert more.request.prompt == result.request.prompt == "red" and more.state.step == 8


def test_previews_take_their_share_of_the_time_and_no_more(able, models, monkeypatch):
    """On a slow computer a preview takes longer than the pause before it."""
    decoded = drawing._decoded

    def slowly(*args):
        time.sleep(0.3)
        return decoded(*args)

    monkeypatch.setattr(drawing, "_decoded", slowly)
    monkeypatch.setattr(drawing, "PREVIEWS", 0.3)
    views, _ = drawn(able, models, ask("prior"))  # 16 codes, a few milliseconds each
    assert 1 <= sum(view.phase == "writing" for view in views) <= 4


def test_what_is_kept_is_what_its_codes_give_back(able, models, monkeypatch):
    """On the way pictures may be decoded in bfloat16; a file's codes are its picture exactly."""
    monkeypatch.setattr("training.precision.native_bf16", lambda device: True)
    for mode in ("prior", "guided", "both"):
        _, result = drawn(able, models, ask(mode))
        some = [result]
        if result.ranking is not None:
            some += [drawing.chosen(able.vqgan, result, i) for i in range(3)]
        for one in some:
            exact = decode_grid(able.vqgan, one.codes[0].numpy())
            assert np.array_equal(np.asarray(one.image), np.asarray(exact))
    in_bf16 = to_image(decode(able.vqgan, able.vqgan.quantize.lookup(result.codes)))
    assert not np.array_equal(np.asarray(in_bf16), np.asarray(result.image))


def test_a_result_of_the_prior_goes_on_with_guided_steps(able, models):
    _, result = drawn(able, models, ask("prior"))
    assert result.state is None and result.stopped is None
    other = (result.picked + 1) % 3
    picked = drawing.chosen(able.vqgan, result, other)
    assert torch.equal(picked.codes[0], result.ranking.grids[other])
    (first, *_), end = onwards(able, models, picked, ask("prior"))
    assert alike(first.image, picked.image)
    assert end.state.step == 4 and end.picked == other
    assert end.request.mode == "both" and end.earlier == (), "that is how to draw it again"
    _, both = drawn(able, models, ask("both"))
    _, best = onwards(able, models, result, ask("prior"))
    assert np.array_equal(np.asarray(best.image), np.asarray(both.image))


def test_continue_goes_by_the_settings_that_are_shown(able, models):
    _, half = drawn(able, models, ask("guided", steps=6), stop_at=3)
    other = GuidanceConfig(
        steps=8, lr=0.5, optimizer="sgd", ema=0.5, z_l2=1.0, tv=1.0, surprise=1.0, cutouts=5
    )
    changed = vars(other).keys() - {"seed", "method"}
    models.clip.seen.clear()
    shown = Request("blue", "guided", DrawConfig(candidates=3), other)
    views, end = onwards(able, models, half, shown, "another")
    assert end.request == shown and end.clip == "another" and drawing.kept(half, shown) == []
    assert [v.done for v in views] == [4, 5, 6, 7, 8] and end.state.optimizer == "sgd"
    assert {seen[0] for seen in models.clip.seen if seen[-1] == models.clip.size} == {5}
    assert end.earlier == (
        {
            "until": 3,
            "prompt": "red",
            **{name: old for name, old in vars(half.request.guidance).items() if name in changed},
            "clip": OWN,
        },
    )


def test_a_picture_to_go_towards_can_come_and_go_on_the_way(able, models):
    _, result = drawn(able, models, ask("guided"))
    blue = Image.new("RGB", (8, 8), "blue")
    _, more = onwards(able, models, result, replace(ask("guided", " "), image_prompt=blue))
    assert more.request.image_prompt == blue and more.request.prompt == " "
    assert more.earlier[0]["image_prompt"] == "another"
    _, same = onwards(able, models, more, ask("guided", " "))
    assert same.request.image_prompt == blue, "with nothing to go towards it keeps its own"
    _, back = onwards(able, models, more, ask("guided", "green"))
    assert back.request.image_prompt is None and back.request.prompt == "green"
    away = replace(ask("guided", "green:-1"), image_prompt=blue)
    assert drawn(able, models, away)[1].request.prompt == "green:-1"


@pytest.mark.parametrize(
    ("first", "stop_at", "then", "end"),
    [
        (5, 2, 5, 5),  # those that Stop left out
        (9, 2, 4, 4),  # fewer by now
        (5, 2, 7, 7),  # more
        (5, 4, 3, 7),  # fewer than were taken: as many again
        (3, None, 3, 6),
        (3, None, 5, 5),
    ],
)
def test_how_far_continue_goes(able, models, first, stop_at, then, end):
    _, result = drawn(able, models, ask("guided", steps=first), stop_at)
    _, more = onwards(able, models, result, ask("guided", steps=then))
    assert more.state.step == more.request.guidance.steps == end and more.stopped is None
    _, again = onwards(able, models, more, ask("guided", steps=2), stop_at=end + 1)
    assert again.stopped == end + 1
    _, rest = onwards(able, models, again, ask("guided", steps=2))
    assert rest.state.step == end + 2, "the rest of what was asked for last"


def test_what_belongs_to_the_beginning_stays_and_is_named(able, models):
    picture = Image.new("RGB", (8, 8), "green")
    _, result = drawn(able, models, ask())
    now = Request(
        "red",
        "guided",
        DrawConfig(candidates=2, strength=0.9, top_p=0.5),
        GuidanceConfig(steps=4, cutouts=2, seed=7, method="logits"),
    )
    assert drawing.kept(result, ask()) == []
    names = drawing.kept(result, now)
    assert names == ["mode", "seed", "candidates", "top_p", "method"]
    assert drawing.kept(result, replace(now, picture=picture))[2] == "picture"
    english, chinese = drawing_inputs.named(names)
    assert english == "“How”, “Seed”, “Candidates”, “Top-p”, “What is optimised”"
    assert chinese == "“方式”、“种子”、“候选数”、“Top-p”、“优化对象”"
    _, end = onwards(able, models, result, now)
    guidance = replace(result.request.guidance, steps=8)
    assert end.request == replace(result.request, guidance=guidance)
    from_picture = replace(ask("guided"), picture=picture)
    _, guided = drawn(able, models, from_picture)
    same = replace(from_picture, picture=picture.copy(), drawing=DrawConfig(candidates=9))
    assert drawing.kept(guided, same) == [], "no prior wrote anything"
    weaker = replace(from_picture, drawing=DrawConfig(strength=0.1))
    assert drawing.kept(guided, weaker) == ["strength"]


def test_without_steps_so_far_the_method_is_free(able, models):
    _, result = drawn(able, models, ask("prior"))
    logits = replace(ask(), guidance=replace(FEW, method="logits"))
    assert drawing.kept(result, logits) == []
    _, end = onwards(able, models, result, logits)
    assert end.state.method == end.request.guidance.method == "logits"


def test_the_png_says_which_candidate_was_taken_instead_of_the_best(able, models):
    desk = text_to_image.Desk(able, Clips(able))
    _, result = drawn(able, models, ask("prior"))
    assert "candidate" not in record.read(desk.files(result)[0])[1]
    order = result.ranking.order
    assert order[0] == result.picked and len(order) == 3
    picked = drawing.chosen(able.vqgan, result, order[2])
    _, made = record.read(desk.files(picked)[0])
    assert made["candidate"] == 3, "as numbered on the page, best first"
    _, end = onwards(able, models, picked, ask("prior"))
    assert record.read(desk.files(end)[0])[1]["candidate"] == 3
    assert "click number 3 of" in text_to_image._restored(made)
    assert "for the same picture" in text_to_image._restored({})
    for done in (0, 12):
        assert "to another picture" in text_to_image._restored({"stopped": done, "steps": 20})
    assert "makes another picture" in text_to_image._restored({**made, "earlier": [{"until": 3}]})


def test_what_is_said_of_a_file_whose_pictures_are_the_visitors_own():
    began, aimed = {"picture": True}, {"image_prompt": True}
    said = text_to_image._restored(began)
    assert "put it back under “Start from a picture”, then press Draw." in said
    assert "请把它放回“从图片开始”，再按“开始画”。" in said and "same picture" not in said
    assert "“A picture to go towards”" in text_to_image._restored(aimed)
    assert "same picture" in text_to_image._restored({"picture": False, "image_prompt": False})
    both = text_to_image._restored({**began, "candidate": 2})
    assert "put it back" in both and "click number 2 of" in both


def test_candidates_name_the_prompt_that_their_scores_are_for(able, models):
    _, red = drawn(able, models, ask("prior"))
    assert "CLIP's score below each. Click" in panel.found(red)
    _, same = onwards(able, models, red, ask("both"))
    assert "CLIP's score below each. Click" in panel.found(same)
    _, blue = onwards(able, models, same, ask("both", "blue", steps=6))
    said = panel.found(blue)
    assert "score below each, for “red”" in said and "CLIP 对“red”的得分" in said
    picked = drawing.chosen(able.vqgan, blue, 1)
    assert "CLIP's score below each. Click" in panel.found(picked), "red is its prompt again"


def test_an_example_was_drawn_by_the_settings_that_the_page_opens_with(able, models):
    _, result = drawn(able, models, ask("guided"))
    said = panel.finished(replace(result, example=True))
    assert "settings that this page opens with" in said and "用本页打开时的设置绘制" in said


def test_the_png_of_a_picture_that_went_on_says_what_came_before(able, models, tmp_path):
    desk = text_to_image.Desk(able, Clips(able))
    _, result = drawn(able, models, ask("prior"))
    _, red = onwards(able, models, result, ask("both", steps=3))
    request, made = record.read(desk.files(red)[0])
    assert request == ask("both", steps=3) and "earlier" not in made
    _, blue = onwards(able, models, red, ask("both", "blue", steps=5))
    request, made = record.read(desk.files(blue)[0])
    assert request.prompt == "blue"
    assert made["earlier"] == [{"until": 3, "prompt": "red", "steps": 3}]
    again = drawing.chosen(able.vqgan, blue, 1)
    assert again.request == result.request and again.earlier == (), "red chose the candidates"
    _, other = onwards(able, models, again, ask("both", "blue", steps=2))
    assert record.read(desk.files(other)[0])[1]["earlier"] == [{"until": 0, "prompt": "red"}]
    example = replace(red, state=None, example=True)
    _, more = onwards(able, models, example, ask("both", steps=3))
    assert more.earlier == ({"until": 0, "steps": 3},), "its own steps lie before"


def test_same_seed_same_picture(able, models):
    first, again = (np.asarray(drawn(able, models, ask())[1].image) for _ in range(2))
    assert np.array_equal(first, again)


@pytest.mark.parametrize(
    ("prompt", "sentence"),
    [
        ("", "提示词为空"),
        ("x" * 10_000, "10,000 个字符"),
        (":1", "只有权重没有文字"),
        ("a:-1", "都是 0 或负数"),
        ("a:999", "权重过大"),
        ("|".join("abcdefghijklmnopq"), "17 个部分"),
        ("?!", "没有文字"),
        ("red | red:-1", "互相抵消"),
    ],
)
def test_a_bad_prompt_is_a_sentence_in_both_languages(able, models, prompt, sentence):
    with pytest.raises(Sentence) as caught:
        drawn(able, models, ask(prompt=prompt))
    assert sentence in str(caught.value) and '<span lang="en">' in str(caught.value)


def test_the_panel_shows_scores_curves_and_candidates(able, models):
    views, result = drawn(able, models, ask())
    live = panel.live(views[-1])
    assert "Step 4 of 4" in live and f"{views[-1].score:.3f}" in live
    assert live.count('data-points="4"') == 2
    assert "Done" in panel.finished(result) and 'data-step="4"' in panel.finished(result)
    found = panel.found(result)
    order = [int(part.split('"')[0]) for part in found.split('data-candidate="')[1:]]
    assert order == result.ranking.order
    assert f'data-candidate="{result.picked}" aria-pressed="true"' in found
    html = panel.history([result], result.number)
    assert f'data-number="{result.number}"' in html and "red" in html


def test_a_prompt_cannot_become_markup(able, models):
    _, result = drawn(able, models, ask("guided", '<script>"red"'))
    example = replace(result, example=True)
    for html in (panel.history([result], None), panel.finished(result), panel.finished(example)):
        assert "<script>" not in html and "&lt;script&gt;" in html, "escaped, and only once"


def test_the_files_remember_and_move(able, models):
    _, result = drawn(able, models, ask(prompt="red / 红"))
    desk = text_to_image.Desk(able, Clips(able))
    png, gif = desk.files(result)
    assert png.endswith("red _ 红.png")
    request, made = record.read(png)
    assert request == result.request and made["clip"] == OWN and "stopped" not in made
    with Image.open(gif) as way:
        assert way.n_frames >= 2 and way.size == (64, 64)
    assert drawing.animation((), result.image) is None
    still = Image.open(io.BytesIO(drawing.animation(result.frames[:1], result.image)))
    assert still.n_frames == 2


def test_the_best_candidate_taken_before_any_step_is_not_what_draw_gives(able, models):
    desk = text_to_image.Desk(able, Clips(able))
    for mode, place in (("both", 1), ("prior", None)):
        _, result = drawn(able, models, ask(mode))
        best = drawing.chosen(able.vqgan, result, result.ranking.best)
        assert record.read(desk.files(best)[0])[1].get("candidate") == place


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("", "picture"),
        ("half cat / half dog", "half cat _ half dog"),
        ("a red apple v1.5", "a red apple v1_5"),
        ("...", "picture"),
        (r"a\b", "a_b"),
    ],
)
def test_a_picture_is_named_after_its_whole_prompt(able, models, prompt, name):
    _, result = drawn(able, models, ask("guided", steps=1))
    named = replace(result, request=replace(result.request, prompt=prompt))
    png, gif = text_to_image.Desk(able, Clips(able)).files(named)
    assert (Path(png).name, Path(gif).name) == (f"{name}.png", f"{name}.gif")
    assert text_to_image.sent(named)[1].name == name


def values(able) -> dict:
    """What the browser sends when nothing was changed."""
    with quick.served_by_launch(), gr.Blocks():
        tab = drawing_inputs.settings(able, Clips(able))
    return {"prompt": "red", "mode": "both", **{k: v.value for k, v in tab.items()}}


def test_untouched_settings_are_the_defaults(able):
    request, clip = drawing_inputs.asked(values(able))
    assert request == Request("red") and clip == OWN


def test_a_model_whose_codes_are_no_nearest_neighbours_draws_as_the_tab_opens(able):
    vqgan = VQGAN(replace(able.vqgan.config, quantizer="gumbel")).eval().requires_grad_(False)
    gumbel = replace(able, bundle=SimpleNamespace(**{**vars(able.bundle), "vqgan": vqgan}))
    with quick.served_by_launch(), gr.Blocks():
        method = drawing_inputs.settings(gumbel, Clips(gumbel))["method"]
    assert [value for _, value in method.choices] == ["logits"]
    request, _ = drawing_inputs.asked(values(gumbel) | {"mode": "guided", "steps": 2, "cutouts": 2})
    _, result = drawn(gumbel, Clips(gumbel).models(OWN), request)
    assert result.taken == 2


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("seed", None, "whole number"),
        ("seed", -1, "whole number"),
        ("seed", 1e30, "“种子”必须是 0 到 9007199254740992 之间的整数"),
        ("seed", float("inf"), "whole number"),
        ("steps", 0, "“引导步数”必须是 1 到 1000"),
        ("steps", 2.5, "“Guided steps” must be a whole number from 1 to 1000"),
        ("steps", 1001, "whole number from 1 to 1000"),
        ("cutouts", 65, "“裁剪数”必须是 1 到 64"),
        ("candidates", 17, "“Candidates” must be a whole number from 1 to 16"),
        ("lr", None, "“Learning rate” must be a number from 0 to 100"),
        ("tv", None, r"“平滑（全变差）”必须是 0 到 1000 之间的数字"),
        ("strength", "half", "“Strength” must be a number from 0 to 1"),
        ("temperature", [], "“Temperature” must be a number"),
        ("ema", True, "must be a number"),
        ("ema", 1, r"“步间平均（EMA）”必须是 0 到 0.999 之间的数字"),
        ("surprise", float("nan"), "“Pull of the prior” must be a number from 0 to 1000"),
        ("top_p", 0, "“Top-p” must be a number from 0.001 to 1"),
        ("cfg_scale", 1e9, "“Pull of the prompt” must be a number from 0 to 100"),
        ("cutouts", float("nan"), "whole number"),
        ("mode", "magic", "choose both"),
        ("optimizer", "magic", "choose adam"),
        ("optimizer", {}, "choose adam"),
        ("method", None, "choose latents"),
        ("prompt", None, "empty"),
    ],
)
def test_nonsense_from_a_browser_is_a_sentence(able, name, value, sentence):
    with pytest.raises(ValueError, match=sentence):
        drawing_inputs.asked(values(able) | {name: value})


@pytest.fixture
def uploads(tmp_path, monkeypatch) -> Path:
    """Where what is written counts as uploaded."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    return tmp_path


def test_a_start_picture_that_is_none_is_a_sentence(able, uploads):
    (uploads / "text.png").write_text("no picture")
    with pytest.raises(ValueError, match="not a picture"):
        drawing_inputs.asked(values(able) | {"picture": {"path": uploads / "text.png"}})


@pytest.mark.parametrize("name", ["picture", "image_prompt"])
@pytest.mark.parametrize("file", [7, {}, {"path": None}])
def test_what_is_no_file_is_a_sentence(able, name, file):
    with pytest.raises(Sentence, match="choose one"):
        drawing_inputs.asked(values(able) | {name: file})


def test_large_pictures_are_kept_no_larger_than_they_are_of_use(able, uploads):
    Image.new("RGB", (3000, 1500), "red").save(uploads / "large.png")
    Image.new("RGB", (30, 15), "red").save(uploads / "small.png")
    files = {name: {"path": str(uploads / f"{name}.png")} for name in ("large", "small")}
    wished = values(able) | {"picture": files["large"], "image_prompt": files["small"]}
    request, _ = drawing_inputs.asked(wished)
    assert request.picture.size == (1024, 512) and request.image_prompt.size == (30, 15)


def alike(a: Image.Image, b: Image.Image) -> bool:
    """The same up to the rounding of bfloat16."""
    return np.abs(np.asarray(a).astype(int) - np.asarray(b)).max() <= 6


def alone(studio) -> gr.Blocks:
    """The tab without the others."""
    with quick.served_by_launch(), gr.Blocks() as blocks, gr.Tabs() as tabs:
        text_to_image.build(studio, TabHandles(gr.Tab(), inbox=gr.State(None)), tabs)
    return blocks


def test_without_prior_or_clip_the_tab_says_so_and_offers_what_works(studio):
    blocks = alone(studio)
    components = blocks.get_config_file()["components"]
    by_id = {c["props"].get("elem_id"): c["props"] for c in components}
    assert [value for _, value in by_id["draw-mode"]["choices"]] == ["guided"]
    assert [v for _, v in by_id["draw-clip"]["choices"]] == list(PUBLISHED)
    assert by_id["draw-prompt"]["lines"] == 1, "with more, Enter would not draw"
    shown = " ".join(str(c["props"].get("value")) for c in components)
    assert "holds no CLIP" in shown and "has no prior" in shown


def test_a_program_gets_the_picture_its_settings_and_the_way(able, tmp_path):
    app = page.build(able)
    _, url, _ = app.launch(prevent_thread_lock=True, **page.launch_options())
    try:
        client = Client(url, verbose=False)
        given = {"steps": 3, "cutouts": 2, "candidates": 2, "seed": 4}
        (png, gif), said = client.predict("red", **given, api_name="/text_to_image")
        request, made = record.read(png)
        assert request.prompt == "red" and request.guidance.steps == 3
        assert request.guidance.seed == 4 and request.drawing.candidates == 2
        assert said == {"score": made["score"], "steps": 3}
        with Image.open(gif) as way:
            assert way.n_frames >= 2
        assert Image.open(png).size == (32, 32)
        with pytest.raises(Exception, match="The prompt is empty"):
            client.predict(" ", **given, api_name="/text_to_image")
    finally:
        app.close()


def test_drawing_computes_in_the_models_thread_and_waits_for_a_download_elsewhere(
    able, models, monkeypatch
):
    """Others can go on with their pictures while a published CLIP is on its way."""
    _, result = drawn(able, models, ask("guided"))
    threads = {}

    def loaded(self, name):
        threads["load"] = threading.current_thread()
        return models

    def draw(*of):
        threads["draw"] = threading.current_thread()
        yield result

    monkeypatch.setattr(Clips, "models", loaded)
    monkeypatch.setattr(drawing, "draw", draw)
    handler = next(fn for fn in alone(able).fns.values() if fn.api_name == "text_to_image").fn
    given = values(able)
    list(handler(SimpleNamespace(session_hash="me"), *(given[f.name] for f in fields(Inputs))))
    model_thread = compute.run(threading.current_thread)
    assert threads["draw"] is model_thread
    assert threads["load"] not in (model_thread, threading.current_thread())


def given(studio, **changes) -> list:
    """What Draw sends: no click's number, nothing drawn before, and all settings."""
    settings = {**values(studio), **changes}
    return [None, [], None, *(settings[f.name] for f in fields(Inputs))]


@pytest.fixture
def fetching(able, monkeypatch):
    """The events that fetch a CLIP, the clips they fetch into, and a download to be let through."""
    downloads = SimpleNamespace(names=[], begun=threading.Event(), over=threading.Event())

    def slow(name, device):
        downloads.names.append(name)
        downloads.begun.set()
        assert downloads.over.wait(20)
        return f"CLIP {name}"

    clips: list[Clips] = []
    monkeypatch.setattr("ui.clips.by_name", slow)
    monkeypatch.setattr(
        text_to_image, "Clips", lambda studio: clips.append(Clips(studio)) or clips[0]
    )
    blocks = alone(able)
    downloads.events = [fn for fn in blocks.fns.values() if fn.concurrency_id == "fetch"]
    downloads.blocks, downloads.clips = blocks, clips[0]
    yield downloads
    downloads.over.set()


ME = SimpleNamespace(session_hash="me")


def test_a_clip_is_fetched_before_the_line_of_runs(fetching):
    """And a run begins only where it came; whatever fails, the buttons come back once."""
    assert len(fetching.events) == 4
    assert {fn.concurrency_limit for fn in fetching.events} == {16}
    after = [fn for fn in fetching.blocks.fns.values() if fn.trigger_after is not None]
    for fetch in fetching.events:
        follows = [fn for fn in after if fn.trigger_after == fetch._id]
        (run,) = (fn for fn in follows if fn.trigger_only_on_success)
        assert run.concurrency_id == "run"
        ends = [[fn for fn in after if fn.trigger_after == e._id] for e in (fetch, run)]
        for found in ends:
            assert sum(fn.trigger_only_on_failure for fn in found) == 1
        assert len(ends[0]) == 2 and len(ends[1]) == 1


def test_a_download_stands_in_nobodys_way(able, fetching):
    draw, clips, rest = fetching.events[0].fn, fetching.clips, []
    own = [given(able, clip=name) for name in (OWN, "", None)]
    steps = draw(ME, *given(able, clip="RN50"))
    assert "Fetching the published CLIP" in str(next(steps))
    first = threading.Thread(target=lambda: rest.extend(steps))
    first.start()
    assert fetching.begun.wait(20) and not clips.ready("RN50")
    assert clips.models(OWN).clip is clips.own, "others draw meanwhile"
    for asking in own:
        assert len(list(draw(ME, *asking))) == 1, "and have nothing to wait for"
    fetching.over.set()
    first.join(20)
    assert "Waiting for its turn" in str(rest[0]) and clips.get("RN50") == "CLIP RN50"
    fetching.over.clear(), fetching.begun.clear()
    other = threading.Thread(target=lambda: clips.get("ViT-B-16"))
    other.start()
    assert fetching.begun.wait(20)
    assert clips.get("RN50") == "CLIP RN50", "what is there waits for no other download"
    fetching.over.set()
    other.join(20)
    clips.get("ViT-B-32")
    assert not clips.ready("RN50") and clips.ready("ViT-B-16") and clips.ready("ViT-B-32")
    assert fetching.names == ["RN50", "ViT-B-16", "ViT-B-32"]


def test_nothing_is_fetched_for_a_wish_that_cannot_be_drawn(able, fetching):
    with pytest.raises(gr.Error, match="empty"):
        list(fetching.events[0].fn(ME, *given(able, clip="RN50", prompt="")))
    with pytest.raises(gr.Error, match="Draw"):  # Continue, without a picture
        list(fetching.events[3].fn(ME, *given(able, clip="RN50")))
    assert fetching.names == []


def test_no_picture_is_opened_while_a_wish_is_only_looked_at(able, fetching, uploads, monkeypatch):
    """Sixteen may be looked at at once, and each picture takes memory."""
    monkeypatch.setattr(drawing_inputs, "open_image", None)
    (uploads / "a.png").touch()
    file = {"path": str(uploads / "a.png")}
    ask = given(able, picture=file, image_prompt=file, prompt="")  # no words needed beside it
    assert len(list(fetching.events[0].fn(ME, *ask))) == 1


def asked_by_a_program(able, **changes):
    """The answers to a program that asks for a picture."""
    handler = next(fn for fn in alone(able).fns.values() if fn.api_name == "text_to_image").fn
    return handler(ME, *given(able, **changes)[3:])


def test_a_program_waits_for_a_download_only_where_it_holds_up_nobody(able, fetching, monkeypatch):
    steps = asked_by_a_program(able, clip="RN50")
    assert next(steps) == next(steps) == [gr.skip(), gr.skip()] and fetching.begun.wait(5)
    steps.close()  # the program has left
    monkeypatch.setenv("SPACE_ID", "someone/studio")
    monkeypatch.setattr("ui.fetching.PATIENCE", 0.3)
    with pytest.raises(gr.Error, match=r"(?s)“RN50” is being fetched.*ask again later.*正在获取"):
        list(asked_by_a_program(able, clip="RN50"))


def test_stop_ends_the_waiting_for_a_download(able, fetching):
    steps = fetching.events[0].fn(ME, *given(able, clip="RN50"))
    next(steps)
    stop = next(fn for fn in fetching.blocks.fns.values() if fn.fn and fn.fn.__name__ == "stop")
    began = time.monotonic()
    stop.fn(ME, None)
    with pytest.raises(gr.Error, match="Stopped before the CLIP was there"):
        list(steps)
    assert time.monotonic() - began < 5


def test_a_visitor_who_leaves_ends_the_run(able, monkeypatch):
    ended = []
    monkeypatch.setattr(Runs, "forget", lambda self, visitor: ended.append(visitor))
    blocks = alone(able)
    leaving = [fn for fn in blocks.fns.values() if any(on == "unload" for _, on in fn.targets)]
    for fn in leaving:
        fn.fn(SimpleNamespace(session_hash="them"))
    assert ended == ["them"]


def test_the_nearest_training_picture_is_beside_the_result(able, models):
    _, result = drawn(able, models, ask("guided"))
    small = np.asarray(result.image.resize((SIDE, SIDE), Image.Resampling.BOX))
    index = Training(np.stack([255 - small, small]), ("other", "itself"), ("a", "b"), (5.0, 40.0))
    html = panel.found(result, index.nearest(np.asarray(result.image), 2), index.scale)
    assert html.index("itself") < html.index("other") and "off by 5 (median)" in html
