"""Folders for downloads: every answer its own, and only the last ones kept."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from gradio import route_utils

from ui import downloads, page
from ui.downloads import Folders


def test_answers_at_once_get_folders_of_their_own_and_old_ones_still_go(monkeypatch):
    monkeypatch.setattr(downloads, "KEPT", 4)
    folders, threads, each = Folders(), 8, 60
    start, pause = threading.Barrier(threads), sys.getswitchinterval()

    def answers(_: int) -> list:
        start.wait(20)
        return [folders.new() for _ in range(each)]

    sys.setswitchinterval(1e-6)  # threads change places wherever they can
    try:
        with ThreadPoolExecutor(threads) as pool:
            made = [path for paths in pool.map(answers, range(threads)) for path in paths]
    finally:
        sys.setswitchinterval(pause)
    assert len(set(made)) == threads * each, "none is handed out twice"
    assert sum(path.is_dir() for path in made) == 4


def test_a_folder_stays_until_enough_newer_ones_are_there(monkeypatch):
    monkeypatch.setattr(downloads, "KEPT", 3)
    folders = Folders()
    made = [folders.new() for _ in range(5)]
    assert [path.is_dir() for path in made] == [False, False, True, True, True]


@pytest.fixture
def delete(studio):
    """What Gradio calls every some minutes, and at the end with no age, once a page is built."""
    page.build(studio)
    return lambda *args: route_utils.delete_files_created_by_app(*args)


def made(folder: Path, names: str) -> list[str]:
    for name in names:
        (folder / name).touch()
    return [str(folder / name) for name in names]


def test_old_files_go_though_more_come_meanwhile(delete, tmp_path, monkeypatch):
    files, look = set(made(tmp_path, "abc")), Path.lstat

    def lstat(path):
        files.add(f"{path}-more")
        return look(path)

    monkeypatch.setattr(Path, "lstat", lstat)
    delete(SimpleNamespace(blocks={}, temp_file_sets=[files]), -1)
    assert not list(tmp_path.iterdir()) and len(files) == 3


@pytest.mark.parametrize("age", [-1, None])
def test_what_is_no_file_or_gone_holds_up_no_other(delete, tmp_path, age):
    (tmp_path / "folder").mkdir()
    odd, shown = [str(tmp_path / "folder"), str(tmp_path / "gone")], made(tmp_path, "s")
    sets = [{*odd, *made(tmp_path, "ab")}, {*shown, *made(tmp_path, "c")}]
    block = SimpleNamespace(keep_in_cache=set(shown))
    delete(SimpleNamespace(blocks={1: block}, temp_file_sets=sets), age)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "s"]
    assert sets == [set(), set(shown)]


def test_young_files_stay(delete, tmp_path):
    files = set(made(tmp_path, "ab"))
    delete(SimpleNamespace(blocks={}, temp_file_sets=[files]), 60)
    assert len(files) == len(list(tmp_path.iterdir())) == 2
