"""The whole page: header, one tab per file, and what launching it needs."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import gradio as gr
from gradio import route_utils
from starlette.middleware import Middleware

from ui import codebook, downloads, endpoint, line, quick, reconstruct, sample, text_to_image, theme
from ui.delivery import Delivery
from ui.examples import EXAMPLES
from ui.studio import Studio
from ui.text import both, t, translations

MAX_FILE, MAX_FILE_SHARED = "64mb", "20mb"  # the second where strangers upload
SESSIONS = 300  # visitors whose pictures are kept; beyond, the one who was away longest starts anew
QUEUE = 1000  # waiting events; beyond, a visitor is told that the app is busy. Runs: ui/line.py
HOUR = 3600
KEPT_SHARED = 2 * HOUR  # for which a Space keeps files, and a visitor's state since it changed
PAINTING = 5  # seconds in which the first visitor's browser gets the processor to itself
PAUSE = 0.3  # seconds between two examples, so that no click waits for long


def build(studio: Studio) -> gr.Blocks:
    """The page for one set of loaded models."""
    route_utils.delete_files_created_by_app = downloads.delete_old
    with quick.served_by_launch():
        with gr.Blocks(
            title="VQGAN Studio",
            analytics_enabled=False,
            fill_width=True,  # studio.css sets the width
            delete_cache=(600, KEPT_SHARED) if shared() else (HOUR, 24 * HOUR),
        ) as page:
            _header(studio)
            with gr.Tabs() as tabs:
                reading = reconstruct.build(studio)
                codebook.build(studio, reading, tabs)
                sample.build(studio, reading, tabs)
                text_to_image.build(studio, reading, tabs)
        page.queue(max_size=QUEUE)
        line.watch(page)
        endpoint.explain(page)
        downloads.track(page)
        if shared():
            _forget(page)
    return page


def shared() -> bool:
    """Whether this is a Space, where strangers upload."""
    return "SPACE_ID" in os.environ


def _forget(page: gr.Blocks) -> None:
    """Drop what a program left behind: Gradio hears of a page that is closed, but not of that."""
    for block in page.blocks.values():
        if isinstance(block, gr.State):
            block.time_to_live = KEPT_SHARED


def warm_up(studio: Studio, *, after: float = PAINTING, pause: float = PAUSE) -> threading.Thread:
    """Compute the other examples in the background, as a click on one would: it then has them."""

    def work() -> None:
        time.sleep(after)
        for example in EXAMPLES[1:]:
            reconstruct.prepare(studio, example.path)
            time.sleep(pause)

    thread = threading.Thread(target=work, name="warm-up", daemon=True)
    thread.start()
    return thread


def _header(studio: Studio) -> None:
    lead = both("app.lead", codes=f"{studio.codebook_size:,}")
    model = both("app.model", name=studio.bundle.name, f=studio.f)
    gr.HTML(
        f'<header class="masthead"><div><h1>VQGAN <span>Studio</span></h1><p>{lead}</p></div>'
        f'<div class="masthead-side"><span class="model">{model}</span>'
        '<button type="button" data-switch="language"><span lang="en">中文</span>'
        '<span lang="zh">English</span></button>'
        '<button type="button" data-switch="theme" aria-label="light / dark · 明 / 暗">◐</button>'
        "</div></header>",
        apply_default_css=False,
        elem_id="masthead",
    )
    # Tells page.js which language Gradio took, now and when a visitor changes it.
    gr.HTML(
        t("language"),
        html_template='<i data-language="${value}"></i>',
        apply_default_css=False,
        elem_id="language",
    )


def launch_options() -> dict[str, Any]:
    """What `build(studio).launch(...)` needs beside host and port."""
    return {
        "theme": theme.theme(),
        "css": theme.css(),
        "head": theme.head(),
        "i18n": translations(),
        "app_kwargs": {"middleware": [Middleware(Delivery)]},
        "max_file_size": MAX_FILE_SHARED if shared() else MAX_FILE,
        "state_session_capacity": SESSIONS,
        "footer_links": ["api", "settings"],
        "ssr_mode": False,
        # Gradio would write every answer, pictures and all, into the browser's storage: each click
        # took longer than the one before (40 ms at first, 400 ms after 50).
        "run_history": False,
        # Only leaves out that launch asks itself for the page, and gives up where a busy computer
        # takes 3 seconds for it, or a proxy stands between.
        "_frontend": False,
        "show_error": False,
        "quiet": True,
    }
