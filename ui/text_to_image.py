"""The Text-to-image tab: a sentence becomes a picture, and one can watch it and steer."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import gradio as gr
from gradio.context import Context

from clip_guidance import record
from clip_guidance.modes import MODES
from ui import compute, drawing, endpoint, fetching
from ui import drawing_panel as panel
from ui.clips import OWN, Clips
from ui.common import EACH, FETCH, LATEX, RUN, Sent, Sentence, TabHandles, friendly, path_of, said
from ui.drawing import Drawn
from ui.drawing_board import Board, Desk, follow, had, in_turn, looked_at, opened, switch, told_of
from ui.drawing_inputs import EXAMPLES, PICK, Inputs, ask, named, settings
from ui.fetching import fetcher, to_draw, to_go_on
from ui.runs import Run, ticket
from ui.sample_panel import INTO_SIGHT
from ui.studio import Studio
from ui.text import add, both, explanation, t, together

# On a phone the picture lies below the button: a run that begins brings it into sight.
SHOW = """
let phase = '';
// A screen reader hears each new phase; the figures that follow would never let it finish.
const said = document.createElement('p');
said.className = 'hidden-name';
said.role = 'status';
element.after(said);
new MutationObserver(() => {
  const stage = element.querySelector('.dr'), before = phase;
  phase = stage ? stage.dataset.phase : '';
  if (phase === before) return;
  said.textContent = stage.querySelector('.dr-status').innerText || stage.innerText;
  if (phase !== 'waiting') return;
  if (stage.getBoundingClientRect().top > 0.6 * innerHeight) {
    stage.scrollIntoView({ block: 'nearest', behavior: 'smooth' }); // Stop stays in sight too
  }
}).observe(element, {
  childList: true, subtree: true, attributes: true, attributeFilter: ['data-phase'],
});
"""

ABOUT = (
    "Draw a picture of a text. Returns a PNG with settings and codes in it, after guided steps a "
    "GIF of the way there, and the score."
)

add(
    {
        "draw.tab": ("Text to image", "文生图"),
        "draw.lead": (
            "Say what you want to see. The prior writes a few pictures for it, CLIP picks the one "
            "that fits best, and then every code is nudged towards your words, while the prior "
            "keeps the picture plausible.",
            "说出你想看到的内容。先验模型据此写出几张图，CLIP 挑出最合适的一张，"
            "然后逐步微调每个码，使画面更贴近你的描述，先验模型则让它保持自然。",
        ),
        "draw.lead.guided": (
            "Say what you want to see. Starting from noise or from your picture, every code is "
            "nudged until CLIP finds that it shows your words. This bundle has no prior, so the "
            "other ways are not offered.",
            "说出你想看到的内容。从噪声或你的图片出发，逐步微调每个码，"
            "直到 CLIP 认为它符合你的描述。该模型包没有先验模型，因此不提供其他方式。",
        ),
        "draw.open": ("Open in Reconstruct", "在“重建”页打开"),
        "draw.load": ("Bring settings back", "恢复设置"),
        "draw.png": ("Picture with prompt and settings (PNG)", "含提示词和设置的图片（PNG）"),
        "draw.gif": ("The way there (GIF)", "生成过程（GIF）"),
        "draw.restore": ("A PNG saved here", "在此保存的 PNG"),
        "draw.restored": (
            "Prompt and settings are back: press Draw for the same picture.",
            "提示词和设置已恢复：按“开始画”可得到同一张图。",
        ),
        "draw.restored.picture": (
            "Prompt and settings are back. It began from a picture of yours: put it back under "
            "“Start from a picture”, then press Draw.",
            "提示词和设置已恢复。这张图由你的一张图片开始：请把它放回“从图片开始”，再按“开始画”。",
        ),
        "draw.restored.image_prompt": (
            "Prompt and settings are back. It went towards a picture of yours: put it back under "
            "“A picture to go towards”, then press Draw.",
            "提示词和设置已恢复。这张图以你的一张图片为目标：请把它放回“作为目标的图片”，"
            "再按“开始画”。",
        ),
        "draw.restored.earlier": (
            "Prompt and settings of its last steps are back. The steps before had others, so that "
            "“Draw” makes another picture.",
            "已恢复最后一段所用的提示词和设置。之前的步骤用的是别的设置，因此“开始画”会得到另一张图。",
        ),
        "draw.restored.candidate": (
            "Prompt and settings are back. Press Draw, click number {place} of the prior's "
            "candidates, then Continue: this picture began with that one.",
            "提示词和设置已恢复。按“开始画”，再点先验模型的第 {place} 个候选，然后按“继续”："
            "这张图由它而来。",
        ),
        "draw.restored.stopped": (
            "Prompt and settings are back. This picture's run was stopped before its end: “Draw” "
            "goes all the way, to another picture.",
            "提示词和设置已恢复。这张图在画完之前就停止了：“开始画”会一直画完，得到另一张图。",
        ),
        "draw.kept": (
            "This picture goes on with what it began with, whatever is set now: {names}. “Draw” "
            "begins anew.",
            "这张图沿用开始时的设置，现在的改动不起作用：{names}。要使用新设置，请按“开始画”。",
        ),
        "draw.lost": (
            "What was drawn here is no longer kept: the page was left for long, or the app was "
            "restarted. Press Draw to begin anew.",
            "这里画过的图已不再保留：页面闲置过久，或应用已重启。请按“开始画”重新开始。",
        ),
        "draw.nothing": (
            "There is no picture to go on from: press Draw first.",
            "还没有可以继续的图片：请先按“开始画”。",
        ),
    }
)


def build(studio: Studio, reading: TabHandles, tabs: gr.Tabs) -> TabHandles:
    """The tab. Without a CLIP of its own, or a prior, it says so and offers what works.

    `reading` is the Reconstruct tab, where a drawn picture can be opened.
    """
    desk = Desk(studio, Clips(studio))
    modes = MODES if studio.bundle.prior is not None else ("guided",)
    with gr.Tab(t("draw.tab"), id="text-to-image") as tab:
        lead = both("draw.lead" if len(modes) > 1 else "draw.lead.guided")
        gr.HTML(f'<p class="cb-lead">{lead}</p>', apply_default_css=False)
        if not desk.clips.shipped:
            sentence = both("draw.clip.none", name=studio.bundle.name)
            gr.HTML(f'<p class="note" id="no-clip">{sentence}</p>', apply_default_css=False)
        drawn, results = gr.State(None), gr.State([])
        with gr.Row(elem_classes="draw-desk"):
            with gr.Column(min_width=0, elem_classes="dr-ask"):
                prompt, examples, buttons = ask()
            with gr.Column(min_width=0, elem_classes="dr-board"):
                stage = gr.HTML(
                    panel.empty(), apply_default_css=False, js_on_load=SHOW, elem_id="draw-stage"
                )
                send = gr.Button(t("draw.open"), size="sm", interactive=False, elem_id="draw-open")
                with gr.Row(elem_classes="draw-files"):
                    png, gif = (
                        gr.DownloadButton(
                            t(f"draw.{name}"), size="sm", interactive=False, elem_id=f"draw-{name}"
                        )
                        for name in ("png", "gif")
                    )
            with gr.Column(min_width=0, elem_classes="dr-aside"):
                history, found = (  # the history first, as it stays while the other comes and goes
                    gr.HTML("", apply_default_css=False, js_on_load=PICK, elem_id=f"draw-{name}")
                    for name in ("history", "found")
                )
            with gr.Column(min_width=0, elem_classes="dr-set"):
                inputs = Inputs(prompt, **settings(studio, desk.clips, modes))
                with gr.Accordion(t("draw.load"), open=False, elem_id="draw-load"):
                    restore = gr.File(
                        label=t("draw.restore"),
                        file_types=[".png"],
                        height=150,
                        elem_id="draw-restore",
                    )
        with gr.Accordion(t("app.how"), open=False, elem_id="how-text-to-image"):
            gr.Markdown(explanation("text_to_image"), latex_delimiters=LATEX)
        board = Board(drawn, results, stage, found, history, png, gif, *buttons, send)
        _connect_runs(desk, board, inputs, examples)
        _connect_board(desk, board, inputs, restore)
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    opens = board.open.click(friendly(sent), board.drawn, [tabs, reading.inbox], **quiet)
    opens.success(None, js=INTO_SIGHT)
    tab.select(desk.clips.warm, None, None, **quiet)

    def opening(request: gr.Request, results: list[Drawn]) -> list[Any]:
        return opened(desk, board, results, request.session_hash)

    tab.select(opening, results, board.shown, **quiet)
    return TabHandles(tab)


def sent(drawn: Drawn | None) -> tuple[gr.Tabs, Sent]:
    """The codes of the picture on the stage, on their way to the Reconstruct tab."""
    if drawn is None:
        raise Sentence("draw.nothing")
    grid = drawn.codes[0].numpy()
    return gr.Tabs(selected="reconstruct"), Sent(grid, panel.name(drawn))


# --- runs -----------------------------------------------------------------------------------------


def _draw(
    desk: Desk, board: Board, run: Run, results: list[Drawn], drawn: Drawn | None, *values: Any
) -> Iterator[list[Any]]:
    wanted, clip = to_draw(drawn, *values)
    yield board.change(stage=panel.empty("draw.ready"), found="", **switch(True, False))
    models = yield from fetching.models(desk.clips, clip, run, board.change())
    if models is None:
        return
    steps = compute.each(drawing.draw(desk.studio, models, wanted, clip, run.stop))
    yield from follow(desk, board, run, results, drawn, steps)


def _more(
    desk: Desk, board: Board, run: Run, results: list[Drawn], drawn: Drawn | None, *values: Any
) -> Iterator[list[Any]]:
    wanted, clip = to_go_on(drawn, *values)
    yield board.change(**switch(True, False))
    models = yield from fetching.models(desk.clips, clip, run, board.change())
    if models is None:
        return
    steps = compute.each(drawing.go_on(desk.studio, models, drawn, wanted, clip, run.stop))
    if stays := drawing.kept(drawn, wanted):
        gr.Info(both("draw.kept", names=named(stays)))
    yield from follow(desk, board, run, results, drawn, steps)


def _connect_runs(desk: Desk, board: Board, inputs: Inputs, examples: gr.HTML) -> None:
    """Draw, Continue, Stop."""

    def armed(request: gr.Request, drawn: Drawn | None) -> list[Any]:
        change = board.change(stage=panel.kept(drawn, "draw.waiting"), **switch(True, False))
        return [desk.runs.arm(request.session_hash), *change]

    def stop(request: gr.Request, drawn: Drawn | None) -> list[Any]:
        if not desk.runs.stop(request.session_hash):
            return board.change()  # the run itself will show where it has stopped
        switches = switch(False, drawn is not None) | had(drawn)
        return board.change(stage=panel.kept(drawn, "draw.unbegun"), **switches)

    def example(event: gr.EventData, request: gr.Request, drawn: Drawn | None) -> list[Any]:
        text = str(said(event).get("prompt", ""))
        return [text if text in EXAMPLES else EXAMPLES[0], *armed(request, drawn)]

    def leave(request: gr.Request) -> None:
        desk.runs.forget(request.session_hash)

    def failed(request: gr.Request, drawn: Drawn | None) -> list[Any]:
        if not desk.runs.failed(request.session_hash):
            return board.change()  # another one of the visitor's goes on
        if drawn is None:
            return board.change(stage=panel.empty(), **switch(False, False))
        return board.change(
            stage=panel.finished(drawn), **switch(False, True), **told_of(desk, drawn)
        )

    quick: dict[str, Any] = {
        "show_progress": "hidden", "api_visibility": "private", "queue": False,
    }  # fmt: skip
    # "multiple", as else Gradio drops a run asked for while the last one's figures still come.
    long: dict[str, Any] = {
        "show_progress": "hidden", "preprocess": False, "trigger_mode": "multiple", **RUN,
    }  # fmt: skip
    before = {**long, "api_visibility": "private", **FETCH}
    for event, arm, first, wish, handler in (
        (board.go.click, armed, [], to_draw, _draw),
        (inputs.prompt.submit, armed, [], to_draw, _draw),
        (examples.pick, example, [inputs.prompt], to_draw, _draw),
        (board.more.click, armed, [], to_go_on, _more),
    ):
        number = ticket()
        given = [number, board.results, board.drawn, *inputs.all]
        begun = event(arm, board.drawn, [*first, number, *board.shown], **quick)
        fetch = fetcher(wish, desk.clips, desk.runs, board.change)
        fetched = begun.then(friendly(fetch), given, board.shown, **before)
        run = friendly(in_turn(desk, board, handler))
        ran = fetched.success(run, given, board.shown, api_visibility="private", **long)
        for end in (fetched, ran):
            end.failure(failed, board.drawn, board.shown, **quick)
    given = {f.name: getattr(inputs, f.name) for f in dataclasses.fields(Inputs)}
    asked = in_turn(desk, board, _draw, clicked=False)
    endpoint.add("text_to_image", ABOUT, asked, given, board, "drawn", desk.given, friendly)
    board.halt.click(stop, board.drawn, board.shown, **quick)
    Context.root_block.unload(leave)  # a run for no one would only make others wait


def _restored(made: dict[str, Any]) -> str:
    """What to say once a file's settings are back."""
    place = made.get("candidate")
    if made.get("earlier"):
        return both("draw.restored.earlier")
    told = [both(f"draw.restored.{own}") for own in ("picture", "image_prompt") if made.get(own)]
    if isinstance(place, int):
        told.append(both("draw.restored.candidate", place=place))
    if made.get("stopped") is not None or made.get("stopped_code") is not None:
        told.append(both("draw.restored.stopped"))
    return together(*told) if told else both("draw.restored")


def _connect_board(desk: Desk, board: Board, inputs: Inputs, restore: gr.File) -> None:
    """The history, the candidates, and a PNG that is dropped back in."""

    def again(event: gr.EventData, request: gr.Request, results: list[Drawn]) -> list[Any]:
        number = str(said(event).get("number"))
        if not results:
            raise Sentence("draw.lost")
        drawn = next((d for d in results if str(d.number) == number), None)
        if drawn is None:
            return gr.skip()
        return looked_at(desk, board, drawn, results, request.session_hash)

    def candidate(
        event: gr.EventData, request: gr.Request, results: list[Drawn], drawn: Drawn | None
    ) -> list[Any]:
        place = str(said(event).get("candidate"))  # as the page's attributes have it
        index = int(place) if place.isdecimal() else -1
        if drawn is None or drawn.ranking is None or not 0 <= index < len(drawn.ranking.grids):
            raise Sentence("draw.nothing")
        if said(event).get("of") != panel.name_of(drawn.ranking):
            return gr.skip()  # by now another picture is shown
        other = drawing.chosen(desk.studio.vqgan, drawn, index)
        return looked_at(desk, board, other, results, request.session_hash)

    fields = [f for f in dataclasses.fields(Inputs) if f.name not in ("picture", "image_prompt")]

    def restored(file: dict | None) -> list[Any]:
        if file is None:
            return [gr.skip()] * len(fields)
        request, made = record.read(path_of(file))
        clip = made.get("clip")
        values = {**made, "prompt": request.prompt, "clip": clip if isinstance(clip, str) else OWN}
        gr.Info(_restored(made))
        return [values.get(f.name, gr.skip()) for f in fields]

    def listed(results: list[Drawn], drawn: Drawn | None) -> Any:
        """The history once more: meanwhile a run may have ended and added to it."""
        if not results:  # lost: what the page shows is all there is
            return gr.skip()
        return panel.history(results, None if drawn is None else drawn.number)

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    given = [board.results, board.drawn]
    for looked in (
        board.history.pick(friendly(again), board.results, board.shown, **EACH, **quiet),
        board.found.pick(friendly(candidate), given, board.shown, **EACH, **quiet),
    ):
        looked.then(listed, given, board.history, **quiet)
    restore.upload(
        friendly(restored),
        restore,
        [getattr(inputs, f.name) for f in fields],
        preprocess=False,
        **quiet,
    )
