"""Whether a visitor's picture is still kept here.

Gradio drops what a page left for long has opened, and all of it when the app is started anew; from
then on its state is the worked example. So an event that goes on with the picture says which one
the page shows, and is refused where that is another one. The code grid's events say it themselves
(`code_grid.EVENTS`); for others it is a last input, `shown`, that `saying` fills in.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from ui.common import Sentence
from ui.session import Session
from ui.text import add

add(
    {
        "rec.lost": (
            "This picture is no longer kept here: the page was left for long, or the app was "
            "restarted. Open it again.",
            "此图片已不再保留：页面闲置过久，或应用已重启。请重新打开它。",
        ),
        "rec.newer": (
            "Another picture was being opened just then, so this was not done to it.",
            "当时正在打开另一张图片，因此这一步没有用在它上面。",
        ),
    }
)


def shown() -> gr.Textbox:
    """The input. It stays empty, which is what programs send: they show nothing."""
    return gr.Textbox("", visible=False, label="picture")


def saying(inputs: int) -> str:
    """JavaScript for an event of that many inputs: the last says what code_grid.js has drawn."""
    picture = "document.querySelector('#code-grid [data-picture]')?.dataset.picture ?? ''"
    return f"(...values) => [...values.slice(0, {inputs - 1}), {picture}]"


def told(inputs: list[Any]) -> dict[str, Any]:
    """`inputs` and `js` of an event whose last input is `shown`."""
    return {"inputs": inputs, "js": saying(len(inputs))}


def check(session: Session, picture: object) -> None:
    """Refuse to go on with `session` where it is not the picture of this name."""
    if picture != session.picture:
        raise Sentence("rec.lost" if session.opening else "rec.newer")  # as in `known`


def check_shown(session: Session, shown: str) -> None:
    """The same for what `shown` has sent, where it says anything."""
    if known(session, shown) is None:
        raise Sentence("rec.lost")


def known(session: Session, shown: str) -> Session | None:
    """For what only adds to an answer: the session, None where it is not what `shown` has sent.

    Any other session than the one that pages begin with is there, and only newer than what the page
    has drawn: one example was opened quickly after another.
    """
    return None if shown and session.opening and shown != session.picture else session
