"""Folders for downloads: every answer its own, and only the last ones kept."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

from ui import downloads
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
