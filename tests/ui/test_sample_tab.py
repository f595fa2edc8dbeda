"""The Sample tab without a browser: requests, runs, pages, files."""

from __future__ import annotations

import json
import math
import re
import threading
from dataclasses import replace
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
import torch
from gradio_client import Client
from PIL import Image

from prior import checks
from prior.nearest import Training
from prior.sample import finish, sample
from prior.sheet import Record, decode
from prior.task import corrupt
from ui import complete, gallery, masking, page, quick, steps, writing
from ui import sample_panel as panel
from ui import session as sessions
from ui.common import Sentence
from ui.examples import EXAMPLES
from ui.opening import Example
from ui.runs import Runs
from ui.sample import PRESETS, _settings
from ui.sample_board import Board, Turn
from ui.sample_runs import Sampler, _rewrite, follow
from ui.studio import Studio
from ui.writing import Batch, Request, Step

SIZE = (6, 7)
GOOD = {"count": 3, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "seed": 5, "size": "6×7"}


def ask(studio: Studio, **changes) -> Request:
    return writing.request(studio, **{**GOOD, **changes})


@pytest.mark.parametrize("name", PRESETS)
def test_each_preset_can_be_drawn_by_with_a_small_codebook(writer, name):
    """Of 64 codes there are no 100 likeliest."""
    with quick.served_by_launch(), gr.Blocks() as blocks:
        fine = _settings(writer).all[1:4]
    preset = next(b for b in blocks.blocks.values() if b.elem_id == "sample-preset")
    chosen = next(f.fn for f in blocks.fns.values() if f.targets[0] == (preset._id, "input"))
    values = dict(zip(("temperature", "top_k", "top_p"), chosen(name), strict=True))
    ask(writer, **values)
    assert all(s.minimum <= v <= s.maximum for s, v in zip(fine, values.values(), strict=True))


def run(studio: Studio, request: Request, **how) -> tuple[list[Step], Batch]:
    *seen, batch = writing.write(studio, request, threading.Event(), **how)
    return seen, batch


@pytest.fixture(scope="module")
def written(writer) -> Batch:
    return run(writer, ask(writer))[1]


# --- what is asked for ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"count": 0}, "“How many”"),
        ({"count": 65}, "“How many”"),
        ({"count": 2.5}, "“How many”"),
        ({"count": None}, "“How many”"),
        ({"temperature": math.nan}, "Temperature"),
        ({"temperature": -1}, "Temperature"),
        ({"temperature": "hot"}, "Temperature"),
        ({"top_k": 65}, "size of the codebook"),
        ({"top_k": math.nan}, "Top-k"),
        ({"top_k": math.inf}, "Top-k"),
        ({"top_p": 0}, "Top-p"),
        ({"top_p": 1.1}, "Top-p"),
        ({"top_p": math.nan}, "Top-p"),
        ({"seed": -1}, "Seed"),
        ({"seed": 2**60}, "Seed"),
        ({"size": ["6×7"]}, "one of those offered"),
        ({"size": "7×6"}, "one of those offered: 6×7, 9×10, 6×14"),
    ],
)
def test_bad_settings_are_one_sentence_in_both_languages(writer, change, named):
    with pytest.raises(Sentence) as error:
        ask(writer, **change)
    english, chinese = re.findall(r'<span lang="\w+">(.*?)</span>', str(error.value))
    assert named in english and english.count(".") >= 1 and chinese


def test_more_pictures_than_memory_holds_is_a_sentence(writer, monkeypatch):
    monkeypatch.setattr(checks, "free_memory", lambda device: 1000)
    with pytest.raises(ValueError, match="ask for 0 or fewer"):
        run(writer, ask(writer))


def test_numbers_come_as_the_browser_sends_them(writer):
    assert ask(writer, count=3.0, top_k=7.0, seed=5.0, temperature=1).count == 3
    assert ask(writer, top_k=64).top_k == 64


# --- runs -----------------------------------------------------------------------------------------


def test_pictures_appear_row_by_row(writer):
    seen, batch = run(writer, ask(writer))
    previews = [s for s in seen if s.pictures is not None]
    shown = sorted({s.shown for s in previews})
    assert len(shown) >= 3 and all(s % SIZE[1] == 0 for s in shown)
    f = writer.f
    for step in previews:
        rows = step.shown // SIZE[1] * f
        assert (step.pictures[:, rows:] == 255).all()  # nothing is made up below
        assert step.pictures[:, :rows].std() > 0
    assert batch.whole and np.array_equal(
        batch.pictures, decode(writer.vqgan, torch.from_numpy(batch.grids))
    )


def test_a_run_is_what_the_sampler_writes(writer, written):
    last = finish(sample(writer.bundle.prior, 3, seed=5))
    assert np.array_equal(written.grids, last.grid.numpy())
    expected = -last.log_likelihood.numpy() / math.log(2) / 42
    assert np.allclose(written.bits, expected)
    assert written.order.tolist() == np.argsort(expected).tolist()


def test_stop_keeps_what_is_there(writer):
    stop, seen, result = threading.Event(), [], None
    for step in writing.write(writer, ask(writer), stop):
        if isinstance(step, Batch):
            result = step
            break
        seen.append(step)
        if step.done >= 2 * SIZE[1]:
            stop.set()
    assert seen[-1].stopped and seen[-1].done < 42
    whole = run(writer, ask(writer))[1]
    done = seen[-1].done
    assert np.array_equal(
        result.grids.reshape(3, -1)[:, :done], whole.grids.reshape(3, -1)[:, :done]
    )
    assert (result.grids.reshape(3, -1)[:, done:] == -1).all() and not result.whole
    edge = -(-done // SIZE[1]) * writer.f  # below it nothing is decoded, which takes seconds of 64
    assert (result.pictures[:, edge:] == 255).all()
    rows = [result.pictures[:, y : y + writer.f].std() for y in range(0, edge, writer.f)]
    assert len(rows) >= 2 and min(rows) > 0
    assert np.isfinite(result.bits).all()


def test_stop_before_the_first_code_writes_nothing(writer):
    stop = threading.Event()
    stop.set()
    (only,) = writing.write(writer, ask(writer), stop)
    assert only.stopped and only.done == 0


@pytest.fixture
def board() -> Board:
    return Board(*[None] * len(Board.__dataclass_fields__))


def changed(change: list) -> dict:
    """What one change of the board sets, by name."""
    named = dict(zip(Board.__dataclass_fields__, change, strict=True))
    return {name: value for name, value in named.items() if value != gr.skip()}


def test_stop_before_the_first_code_shows_again_what_was_there(writer, board, written):
    turn = Turn(batch=written, picked=1)
    turn.run.stop.set()
    (only,) = map(changed, follow(Sampler.of(writer), board, ask(writer), turn))
    shown = only.pop("pictures")
    assert shown["number"] == written.number and shown["picked"] == 1 and shown["bits"]
    assert "Stopped before the first code" in shown["status"] and not shown["live"]
    assert only.keys() == {"go", "halt"} and only["go"].interactive
    first = Turn(run=turn.run)  # nothing was there yet
    (only,) = map(changed, follow(Sampler.of(writer), board, ask(writer), first))
    assert only["pictures"]["count"] == 3 and "Stopped" in only["pictures"]["status"]


def test_a_run_leaves_buttons_and_status_to_a_newer_one(writer, board, written):
    runs, changes = Runs(), []
    with runs.turn("me", runs.arm("me")) as run:
        for change in follow(Sampler.of(writer), board, ask(writer), Turn(run, written, 0)):
            changes.append(changed(change))
            if len(changes) == 1:
                runs.arm("me")
    last = changes[-1]
    assert changes[0]["pictures"]["live"] and last.keys() == {"pictures"}
    assert last["pictures"]["number"] == written.number
    assert "Waiting for its turn" in last["pictures"]["status"]


def test_a_run_asked_for_before_the_example_is_there_keeps_its_buttons(
    writer, written, monkeypatch
):
    example = replace(written, origin="example", nats=written.nats[::-1].copy())
    monkeypatch.setattr(Example, "batch", example)
    events = [fn for fn in page.build(writer).fns.values() if fn.name == "opened"]
    (opened,) = (fn.fn for fn in events if len(fn.outputs) == len(Board.__dataclass_fields__))
    me = SimpleNamespace(session_hash="me")
    first, told = map(changed, opened(me, None))
    assert first["batch"].number == written.number
    assert first["picked"] == example.order[0] != 0 and not {"go", "halt"} & {*first, *told}
    monkeypatch.setattr(Runs, "alive", lambda self, visitor: visitor == "me")
    assert list(opened(me, None)) == [gr.skip()]


def test_a_decode_on_its_way_gives_in_to_stop(writer, written):
    stop = threading.Event()
    stop.set()
    assert writing.paint(writer, torch.from_numpy(written.grids), 2, stop) is None


# --- one picture ----------------------------------------------------------------------------------


def test_a_page_shows_the_pictures_own_codes(written):
    html = panel.page(written, 1, "")
    codes = [int(c) for c in re.findall(r"<text [^>]*>(\d+)</text>", html)]
    assert codes == written.grids[1].ravel().tolist()
    assert f"<b>{written.bits[1]:.2f}</b>" in html
    rank = written.order.tolist().index(1) + 1
    assert f"no. {rank}" in html and "<b>6</b>" in html  # its seed: 5 + 1


def test_a_rewritten_picture_keeps_its_upper_rows(writer, written):
    known = written.grids[0].copy()
    known[3:] = -1
    _, batch = run(writer, ask(writer, seed=50), known=known, origin="rewritten")
    assert (batch.grids[:, :3] == written.grids[0, :3]).all()
    assert any((g[3:] != written.grids[0, 3:]).any() for g in batch.grids)
    beside = writing.with_original(batch, written.grids[0], written.pictures[0], written.nats[0])
    assert beside.seeds == (None, 50, 51, 52) and beside.number == batch.number
    assert beside.bits[0] == written.bits[0]
    last = finish(sample(writer.bundle.prior, 3, seed=50, known=torch.from_numpy(known)[None]))
    halved = replace(last, tokens_per_second=100.0)
    assert writing._drawn(halved, known) == 50 and writing._drawn(halved, None) == 100
    assert "What it started from" in panel.page(beside, 0, "")


def test_the_picture_that_was_shown_at_the_click_is_rewritten_or_none(writer, board, written):
    """By the run's turn another one may be picked, or another batch there."""
    asked = {"row": 2, "picture": 2, "batch": written.number}
    how = (Sampler.of(writer), board, Turn(batch=written, picked=0))
    changes = list(map(changed, _rewrite(*how, asked, *GOOD.values())))
    (new,) = (change["batch"] for change in changes if "batch" in change)
    assert (new.grids[:, :2] == written.grids[2, :2]).all()
    for other in ({"batch": written.number - 1}, {"picture": 3}, {"picture": None}):
        with pytest.raises(Sentence, match="no longer there"):
            list(_rewrite(*how, asked | other, *GOOD.values()))
    for row in (math.inf, math.nan, 1.5, "2", [], None):
        with pytest.raises(Sentence, match="try again"):
            list(_rewrite(*how, asked | {"row": row}, *GOOD.values()))
    with pytest.raises(Sentence, match="no longer kept"):
        list(_rewrite(Sampler.of(writer), board, Turn(), None, *GOOD.values()))


def test_a_downloaded_picture_carries_its_codes_and_settings(writer, written):
    sampler = Sampler.of(writer)  # its folders last as long as it does
    path = sampler.file(written, 2)
    assert np.array_equal(np.asarray(Image.open(path)), written.pictures[2])
    kept = Record.read(path)
    assert np.array_equal(kept.codes[0], written.grids[2])
    again = finish(
        sample(writer.bundle.prior, kept.settings["n"], seed=kept.settings["seed"],
               temperature=kept.settings["temperature"], top_k=kept.settings["top_k"],
               top_p=kept.settings["top_p"])
    )  # fmt: skip
    assert np.array_equal(again.grid[0].numpy(), written.grids[2])


def test_the_nearest_training_picture_is_named(writer, written):
    others = np.random.default_rng(0).integers(0, 255, (4, 32, 32, 3)).astype(np.uint8)
    copy = Image.fromarray(written.pictures[0][:, ::-1]).resize((32, 32), Image.Resampling.BOX)
    index = Training(
        np.concatenate([others, np.asarray(copy)[None]]), ("a", "b", "c", "d", "<self>"), ("s",) * 5
    )
    first, *_ = found = index.nearest(written.pictures[0], 3)
    assert first.name == "<self>" and first.mirrored and first.distance < 12
    html = panel.near(found, (1.0, 22.4), "command")
    assert "&lt;self&gt;" in html and "off by 1 (median)" in html
    assert "python" in panel.near(None, None, "python -m prior.nearest")
    assert "&lt;b&gt;" in panel.near(None, None, "--bundle <b>"), "a bundle may have any name"


# --- the gallery ----------------------------------------------------------------------------------


def test_the_gallery_hatches_what_is_not_written(writer):
    seen, batch = run(writer, ask(writer))
    step = next(s for s in seen if s.pictures is not None)
    value = gallery.live(ask(writer), step, gallery.lossy(step.pictures), None)
    assert value["live"] and value["shown"] == step.shown < 42 and value["bits"] is None
    value = gallery.finished(batch, 0)
    assert value["shown"] == 42 and value["order"] == batch.order.tolist()
    assert len(value["bits"]) == 3 and value["number"] == batch.number
    json.dumps(value, allow_nan=False)
    nothing = replace(batch, counted=np.zeros(3, int), grids=np.full_like(batch.grids, -1))
    json.dumps(gallery.finished(nothing, 0), allow_nan=False)


# --- completion -----------------------------------------------------------------------------------


def test_a_picture_becomes_codes_of_the_priors_size(writer):
    session = sessions.open_picture(writer, EXAMPLES[0].path, "128")
    source = complete.from_session(writer, session)
    assert source.grid.shape == SIZE and source.picture.shape == (48, 56, 3)
    own = complete.from_file(writer, str(EXAMPLES[6].path))
    assert own.own and own.grid.shape == SIZE
    fits = replace(session, indices=np.arange(42).reshape(SIZE), result=Image.new("RGB", (56, 48)))
    assert complete.from_session(writer, fits).grid is fits.indices  # as painted


def test_completion_keeps_the_kept_cells_and_ranks(writer):
    source = complete.from_file(writer, str(EXAMPLES[0].path))
    free = "".join("1" if 10 <= i < 20 or i > 30 else "0" for i in range(42))
    known = complete.known(source, free)
    _, batch = run(writer, ask(writer, seed=9), known=known, origin="completed")
    kept = known >= 0
    assert "".join("1" if k else "0" for k in ~kept.ravel()) == free
    assert (batch.grids[:, kept] == source.grid[kept]).all()
    assert np.array_equal(batch.kept, kept)
    nats = writing.likelihood(writer, source.grid)
    one = torch.from_numpy(source.grid).flatten()[None]
    logits = writer.bundle.prior(one)
    expected = torch.log_softmax(logits.float(), -1).gather(-1, one[..., None]).sum()
    assert nats == pytest.approx(float(expected), rel=0.02)
    ranked = gallery.finished(batch, 0)
    assert ranked["ranked"] and ranked["order"] == np.argsort(batch.bits).tolist()


@pytest.mark.parametrize("free", [None, 7, "01", "2" * 42, "0" * 42])
def test_a_mask_that_makes_no_sense_is_a_sentence(writer, free):
    source = complete.from_file(writer, str(EXAMPLES[0].path))
    with pytest.raises(Sentence):
        complete.known(source, free)


# --- the example, and a bundle without a prior ----------------------------------------------------


def test_shipped_samples_are_shown_only_if_they_are_this_priors(writer, written, caplog):
    file = writer.bundle.path / "samples.png"
    assert Sampler.of(writer).example.batch is None
    record = Record(written.settings, written.grids, tuple(written.bits))
    Image.new("RGB", (8, 8)).save(file, "PNG", pnginfo=record.info())
    shown = Sampler.of(writer).example.batch
    assert np.array_equal(shown.grids, written.grids) and shown.seeds == (5, 6, 7)
    assert np.array_equal(shown.pictures, written.pictures)
    assert np.allclose(shown.bits, written.bits, atol=1e-4)
    other = replace(record, settings={**written.settings, "prior": "another"})
    Image.new("RGB", (8, 8)).save(file, "PNG", pnginfo=other.info())
    assert Sampler.of(writer).example.batch is None and "another prior" in caplog.text
    file.write_bytes(b"no picture")
    assert Sampler.of(writer).example.batch is None
    file.unlink()


def test_without_a_prior_the_tab_says_so(studio):
    texts = json.dumps(page.build(studio).get_config_file()["components"], default=str)
    assert "holds no prior" in texts and "sample-write" not in texts
    own = studio.bundle.word
    for command in (
        f"prior.tokens --bundle {own} --data DIR --out tokens.npy",
        f"prior.train --bundle {own} --tokens tokens.npy --out prior-run",
        f"prior.export prior-run {own}",
    ):
        assert f"python -m {command}" in texts


def test_the_api_answers_bad_settings_with_the_sentence(writer):
    """Through Gradio itself: nothing on the way turns it into another error."""
    app = page.build(writer)
    _, url, _ = app.launch(prevent_thread_lock=True, **page.launch_options())
    try:
        client = Client(url, verbose=False)
        for change, sentence in (
            ({"top_k": 2000}, "size of the codebook"),
            ({"temperature": None}, "Temperature must be"),
            ({"count": 4000}, "“How many” must be"),
        ):
            with pytest.raises(Exception, match=sentence):
                client.predict(*{**GOOD, **change}.values(), api_name="/sample")
        files, said = client.predict(**GOOD, ideas=False, api_name="/sample")
        assert said["seeds"] == [5, 6, 7] and len(said["bits_per_code"]) == 3
        assert said["codes_written"] == [writer.bundle.prior.config.tokens] * 3
        _, batch = run(writer, ask(writer))
        for file, picture, grid in zip(files, batch.pictures, batch.grids, strict=True):
            assert np.array_equal(np.asarray(Image.open(file)), picture)
            assert np.array_equal(Record.read(file).codes[0], grid)
        asked = client.view_api(return_format="dict")["named_endpoints"]["/sample"]["parameters"]
        assert [p["parameter_name"] for p in asked] == [*GOOD, "ideas"]
        assert all(p["parameter_has_default"] for p in asked), "each may be left out"
    finally:
        app.close()


def test_a_program_is_told_how_far_a_run_came_that_was_cut_short(writer, written):
    grids = written.grids.copy()
    grids[:, 2:] = -1
    _, said = Sampler.of(writer).given(replace(written, grids=grids))
    assert said["codes_written"] == [2 * grids.shape[2]] * len(grids)


# --- one code at a time ---------------------------------------------------------------------------


def test_candidates_are_the_priors_own_before_and_after(writer):
    request = ask(writer, temperature=0.5, top_k=5)
    codes = (3, 60, 7, 7, 12)
    found = steps.candidates(writer, codes, request)
    tokens = torch.zeros(1, 42, dtype=torch.int64)
    tokens[0, :5] = torch.tensor(codes)
    logits = writer.bundle.prior(tokens)[:, 5].float()
    before = torch.softmax(logits, -1)[0].numpy()
    assert np.allclose(found.before, before[found.codes], atol=0.02)
    assert (np.diff(found.before) <= 0).all() and len(found.codes) == steps.OFFERED
    assert (found.after > 0).sum() == 5 and found.after.sum() == pytest.approx(1)
    assert found.others[0] == 64 - steps.OFFERED and found.others[2] == 0
    assert found.before.sum() + found.others[1] == pytest.approx(1)


def test_drawn_codes_are_those_of_a_run_with_this_seed(writer, written):
    text = steps.draw(writer, steps.Text(), ask(writer), 1)
    text = steps.draw(writer, text, ask(writer), 10)
    assert list(text.codes) == written.grids[0].ravel()[:11].tolist()
    assert len(steps.draw(writer, text, ask(writer), 1000).codes) == 42


def test_a_branch_changes_only_what_comes_after(writer):
    text = steps.draw(writer, steps.Text(), ask(writer), 42)
    back = steps.rewind(text, 20)
    assert back.codes == text.codes[:20] and back.was == text.codes[20]
    after = {text.codes[21:]}
    for more in range(1, 9):  # a tiny prior may go on alike after one of them
        other = (text.codes[20] + more) % 64
        branch = steps.draw(writer, steps.force(writer, back, other), ask(writer), 42)
        assert branch.codes[:20] == text.codes[:20] and branch.codes[20] == other
        assert len(branch.codes) == 42
        after.add(branch.codes[21:])
    assert len(after) > 1
    assert steps.force(writer, branch, 1) is branch  # nothing comes after the last
    assert steps.rewind(text, 99) is text and steps.rewind(text, -1) is text


@pytest.fixture(scope="module")
def act(writer):
    """What answers the step board's clicks."""
    handlers = (fn.fn for fn in page.build(writer).fns.values())
    return next(f for f in handlers if getattr(f, "__qualname__", "").endswith("<locals>.act"))


@pytest.mark.parametrize("junk", [None, "3", math.nan, math.inf, -math.inf, 2.5, True, [], {}])
def test_a_step_that_makes_no_sense_is_a_sentence(act, junk):
    """Of a request written by hand: it was a traceback in the log, or nothing at all."""
    text, values = steps.Text((1, 2, 3)), GOOD.values()
    for said in ({"cell": junk}, {"draw": junk}, {"back": junk}, {"at": 3, "code": junk}):
        with pytest.raises(gr.Error, match=r"try again|whole number"):
            act(gr.EventData(None, said), text, *values)
    assert act(gr.EventData(None, {"cell": 1}), text, *values)[0].codes == (1,)
    assert act(gr.EventData(None, {"draw": "row"}), text, *values)[0].codes[:3] == (1, 2, 3)
    assert act(gr.EventData(None, {"back": "one"}), text, *values)[0].codes == (1, 2)
    assert act(gr.EventData(None, {"back": "all"}), text, *values)[0].codes == ()


def test_the_first_code_may_be_given(writer):
    assert steps.begin(writer, "start", 0, None).codes == ()
    random = {steps.begin(writer, "random", seed, None).codes for seed in range(5)}
    assert len(random) > 1 and all(len(codes) == 1 for codes in random)
    text = steps.begin(writer, "picked", 0, 63)
    assert text.codes == (63,) and steps.rewind(steps.force(writer, text, 5), 0).codes == (63,)
    with pytest.raises(ValueError, match="codes 0 to 63"):
        steps.begin(writer, "picked", 0, 64)
    with pytest.raises(ValueError, match="whole number"):
        steps.begin(writer, "picked", 0, None)


def test_the_step_board_shows_the_next_cell(writer):
    shown = steps.value(writer, steps.Text((1, 2, 3, 4, 5, 6, 7, 8)), ask(writer))
    assert "Code 9 of 42: row 2, column 2" in shown["where"]
    assert shown["candidates"][0]["before"] >= shown["candidates"][1]["before"]
    whole = steps.value(writer, steps.Text(tuple(range(42))), ask(writer))
    assert not whole["candidates"] and "All 42 codes are written" in whole["where"]


# --- how it works ---------------------------------------------------------------------------------


def test_the_masked_sequence_is_the_trainings_own(writer):
    source = complete.from_file(writer, str(EXAMPLES[0].path))
    found = masking.masked(writer, source.grid, 0.6, 3)
    targets = torch.from_numpy(source.grid).flatten()[None]
    inputs = corrupt(targets, 0.6, 64, torch.Generator().manual_seed(3))
    assert found.read.ravel().tolist() == inputs[0].tolist()
    assert 5 < found.replaced.sum() < 30 and found.asked is source.grid
    logits = writer.bundle.prior(inputs).float()
    probs = torch.softmax(logits, -1)[0]
    assert found.said.ravel().tolist() == probs.argmax(-1).tolist()
    share = probs.gather(-1, targets[0][:, None])[:, 0]
    np.testing.assert_allclose(found.share.ravel(), share, rtol=1e-4)
    np.testing.assert_allclose(found.said_share.ravel(), probs.max(-1).values, rtol=1e-4)
    expected = -torch.log2(share).mean()
    assert found.bits == pytest.approx(float(expected), rel=1e-4)
    assert masking.masked(writer, source.grid, 1, 3).bits == pytest.approx(found.clean_bits)
    html = masking.view(writer, found)
    assert html.count('class="swapped"') == html.count('class="asked"') == found.replaced.sum()
    assert html.count('class="right"') == (found.said == found.asked).sum()
    assert f"{found.bits:.2f} bits a code" in html and "blindly would cost 6." in html
    asked, said = found.asked[0, 0], found.said[0, 0]
    told = (
        f"{asked}: {100 * found.share[0, 0]:.1f} % · {said}: {100 * found.said_share[0, 0]:.1f} %"
    )
    assert told in html


@pytest.mark.parametrize(("training", "pkeep"), [({"train": {"pkeep": 0.7}}, 0.7), ("?", 0.9)])
def test_it_begins_with_the_share_that_the_prior_was_trained_with(
    writer, monkeypatch, training, pkeep
):
    monkeypatch.setitem(writer.bundle.card["prior"], "training", training)
    with gr.Blocks() as page, gr.Accordion() as fold:
        masking.build(writer, fold, gr.State(None), gr.Textbox())
    found = {block.elem_id: block for block in page.blocks.values()}
    assert found["mask-pkeep"].value == pkeep


@pytest.mark.parametrize("pkeep", [None, math.nan, -0.1, 1.5, "all"])
def test_a_share_that_is_none_is_a_sentence(writer, pkeep):
    with pytest.raises(Sentence, match="pkeep"):
        masking.masked(writer, np.zeros(SIZE, np.int64), pkeep, 0)


def test_larger_pictures_than_it_was_trained_on(writer):
    seen, batch = run(writer, ask(writer, size="9×10", count=2))
    assert batch.grids.shape == (2, 9, 10) and batch.whole
    assert batch.pictures.shape == (2, 9 * writer.f, 10 * writer.f, 3)
    assert {s.shown for s in seen if s.pictures is not None} >= {30, 50, 70}
    assert gallery.finished(batch, 1)["shown"] == 90
    assert len(re.findall("<text ", panel.page(batch, 1, ""))) == 90
