"""What starting the app leaves out, and that it is there when something asks for it."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from pathlib import Path

import pytest

from ui import examples, page, quick
from ui import reconstruct as reconstruct_tab
from ui import session as sessions
from ui import studio as studios
from ui.examples import EXAMPLES

ROOT = Path(__file__).parents[2]
NOT_FOR_THE_FIRST_PAGE = ("open_clip", "timm", "torchvision", "lpips", "pandas", "sympy")
SERVED = """
import gc, json, sys
import app

def main_stops_here(self):
    there = [name for name in sys.argv[1:] if name in sys.modules]
    searched = gc.get_stats()[2]["collections"]
    print(json.dumps([there, searched, gc.isenabled(), gc.get_freeze_count()]), flush=True)
    sys.exit()

def patched(serving=app.quick.served_by_launch):
    from gradio import Blocks
    Blocks.block_thread = main_stops_here
    return serving()

app.quick.served_by_launch = patched
app.main(["--port", "7870"])
"""


def test_the_page_is_served_without_what_it_does_not_show():
    """The whole start, in a process of its own. open_clip alone would take seconds."""
    command = [sys.executable, "-c", SERVED, *NOT_FOR_THE_FIRST_PAGE]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    there, searched, enabled, frozen = json.loads(done.stdout.splitlines()[-1])
    assert there == []
    assert searched == 0 and enabled and frozen > 100_000


def test_garbage_is_collected_again_after_an_error():
    with pytest.raises(ValueError), quick.collecting_later():
        assert not gc.isenabled()
        raise ValueError
    assert gc.isenabled()
    gc.unfreeze()


def test_a_module_for_later_is_imported_when_it_is_used(tmp_path, monkeypatch):
    (tmp_path / "put_off").mkdir()
    (tmp_path / "put_off" / "__init__.py").write_text("value = 7")
    (tmp_path / "put_off" / "part.py").write_text("value = 8")
    monkeypatch.syspath_prepend(tmp_path)
    with quick.later("put_off"):
        import put_off
    assert isinstance(put_off, quick.OnUse) and "put_off" not in sys.modules
    assert put_off.value == 7 and sys.modules["put_off"] is not put_off
    with quick.later("put_off"):  # it is there by now, so it stays what it is
        import put_off as again
    assert again is sys.modules.pop("put_off")
    with quick.later("put_off"):
        from put_off.part import value
    assert value == 8


def test_building_the_page_makes_no_server(studio):
    assert page.build(studio).app is None


def test_an_example_of_which_all_was_computed_waits_for_no_model(studio, monkeypatch):
    """After `warm_up` a click on an example asks nothing of the models, not even figures."""
    page.warm_up(studio, after=0, pause=0).join(60)
    asked = []
    for name in ("through", "measure", "decode_grid"):
        monkeypatch.setattr(studios, name, lambda *of, name=name: asked.append(name))
    for example in EXAMPLES[1:]:
        session = sessions.open_picture(studio, example.path, "128")
        assert session.result.size == session.original.size
        reconstruct_tab._figures(studio, session)
        reconstruct_tab._rival(studio, session)
    assert asked == []


def test_of_large_pictures_nothing_is_kept(studio, monkeypatch):
    monkeypatch.setattr(studios, "KEPT_PIXELS", 100 * 100)
    made = []
    monkeypatch.setattr(studios, "measure", lambda *of: made.append(of) or "near")
    for side, times in ((100, 1), (101, 2)):
        image = studios.Image.new("RGB", (side, side), (side, 2, 3))
        made.clear()
        for _ in range(2):
            studio.closeness(image, image)
        assert len(made) == times


def test_thumbnails_do_not_fill_the_page():
    assert len(examples.row("a-row").html_template) < 40_000  # 110,000 as PNG
