"""Lets the page come sooner: leaves out, while the app starts, what Gradio does and no page needs.

To be imported before Gradio, and so without it.
"""

from __future__ import annotations

import gc
import importlib
import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collecting_later() -> Iterator[None]:
    """No search for garbage inside, and none afterwards among what is alive by then.

    Imports build a million objects that stay: looking through them again and again takes a fifth
    of the start, and 0.1 s in the middle of some later click.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


class OnUse(types.ModuleType):
    """Stands for a module until something of it is asked for; only then it is imported."""

    def __getattr__(self, name: str) -> object:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


class QuickGradio(importlib.abc.MetaPathFinder):
    """Finds Gradio's modules as ever, but changes what two of them do when they are imported.

    gradio.component_meta would rewrite the type stubs (.pyi) of the components, every time: a third
    of the import. gradio.caching imports pandas, 0.4 s, for caches of data frames.
    """

    def find_spec(self, name, path, target=None):
        if name not in ("gradio.component_meta", "gradio.caching"):
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def exec_module(module: types.ModuleType) -> None:
            if name == "gradio.caching":
                with later("pandas"):
                    execute(module)
            else:
                execute(module)
                module.create_or_modify_pyi = lambda *args: None

        spec.loader.exec_module = exec_module
        return spec


@contextmanager
def later(name: str) -> Iterator[None]:
    """`import name` inside gives an `OnUse`; for the rest of the program nothing is changed."""
    if name in sys.modules:
        yield
        return
    stand_in = sys.modules[name] = OnUse(name)
    try:
        yield
    finally:
        if sys.modules.get(name) is stand_in:
            del sys.modules[name]


@contextmanager
def served_by_launch() -> Iterator[None]:
    """Building a page inside makes no web server: `launch` makes the one that answers.

    Gradio makes another three on the way, 0.2 s, which nobody asks anything.
    """
    from gradio import blocks

    App = getattr(blocks, "App", None)
    if App is None:  # another Gradio: then it starts as it likes
        yield
        return
    blocks.App = types.SimpleNamespace(create_app=lambda *args, **kwargs: None)
    try:
        yield
    finally:
        blocks.App = App
