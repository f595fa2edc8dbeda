"""The pictures one can click instead of bringing one's own. Sources: examples/LICENCES.md."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import gradio as gr
from PIL import Image

from ui.text import add, both

FOLDER = Path(__file__).parent / "examples"
THUMBNAIL = 96  # pixels


@dataclass(frozen=True)
class Example:
    """One picture of examples/, with its name in both languages as a text key."""

    file: str
    key: str

    @property
    def path(self) -> Path:
        return FOLDER / self.file


EXAMPLES = tuple(
    Example(file, f"example.{Path(file).stem}")
    for file in (
        "clown.png",
        "lemon.png",
        "moon-cake.png",
        "penguin.png",
        "rabbit.png",
        "plant.png",
        "dandelions.jpg",
        "mountains.jpg",
    )
)

add(
    {
        "example.rabbit": ("rabbit", "兔子"),
        "example.clown": ("clown", "小丑"),
        "example.plant": ("potted plant", "盆栽"),
        "example.lemon": ("lemon", "柠檬"),
        "example.moon-cake": ("moon cake", "月饼"),
        "example.penguin": ("penguin", "企鹅"),
        "example.dandelions": ("dandelions", "蒲公英"),
        "example.mountains": ("mountains", "山"),
        "example.title": ("or take one of these", "或者选一张"),
        "example.second": ("Second picture", "第二张图片"),
    }
)


def _thumbnail(path: Path) -> str:
    with Image.open(path) as image:
        small = image.convert("RGB")
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=90)  # a quarter of PNG's bytes, which every page carries
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def row(elem_id: str, title: str = "example.title") -> gr.HTML:
    """A row of thumbnails below a text; its `pick` event carries {index}."""
    buttons = "".join(
        f'<button type="button" data-index="{i}"><img alt="" src="{_thumbnail(e.path)}">'
        f'<span class="hidden-name">{both(e.key)}</span></button>'
        for i, e in enumerate(EXAMPLES)
    )
    return gr.HTML(
        html_template=f'<p class="note">{both(title)}</p><div class="strip">{buttons}</div>',
        js_on_load=(
            "element.addEventListener('click', (event) => {"
            " const button = event.target.closest('button');"
            " if (button) trigger('pick', { index: Number(button.dataset.index) }); });"
        ),
        apply_default_css=False,
        elem_id=elem_id,
        elem_classes="examples",
    )
