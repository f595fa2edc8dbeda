"""The page as a whole."""

from __future__ import annotations

import gradio as gr

from ui import page


def test_between_the_tabs_lies_nothing_else(writer):
    """Gradio numbers what lies directly in `gr.Tabs`: a State among them shows a tab twice."""
    blocks = page.build(writer).blocks.values()
    groups = [block for block in blocks if isinstance(block, gr.Tabs)]
    assert [tab.id for tab in groups[0].children] == [
        "reconstruct",
        "codebook",
        "sample",
        "text-to-image",
    ]
    assert all(isinstance(child, gr.Tab) for group in groups for child in group.children)
