"""Files are there whole or not at all, and a place for them is looked for before the work."""

from __future__ import annotations

import importlib
import os
import re
from pathlib import Path

import numpy as np
import pytest

from training.files import naming, replacing, swap, writable, write

# Commands that work for minutes before they write: the least they ask for, {out} being the file.
LATE = {
    "prior.sketches": "--tokens T.npy --data D --out {out}",
    "prior.encode": "--data D --out {out}",
    "prior.draw": "--out {out}",
    "clip_guidance.conditions": "--tokens T.npy --data D --out {out}",
    "clip_guidance.texts": "--data D --words W --out {out}",
    "clip_guidance.generate": "apple --out {out}",
    "vqgan.codebook.__main__": "--data D --out {out}",
    "bench.quality": "--fixtures --json {out}",
    "bench.text_to_image": "--sheet {out}",
    "bench.guidance": "--plot {out}",
    "bench.ideas": "--sheet {out}",
    "bench.clip": "--data D --json {out}",
    "bench.sketches": "--data D --sheet {out}",
    "bench.answers": "--json {out}",
    "bench.__main__": "--json {out}",
}


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.npy"
    write(path, b"old")
    with pytest.raises(OSError, match=r"No space left on device: '.*a\.npy'"), replacing(path) as f:
        f.write(b"half")
        raise OSError(28, "No space left on device")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
    with replacing(path) as file:
        np.save(file, np.arange(3))
    assert np.load(path).tolist() == [0, 1, 2] and list(tmp_path.iterdir()) == [path]


def test_links_and_devices_stay_what_they_are(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "file")
    write(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "file").read_bytes() == b"new"
    read, end = os.pipe()
    write(f"/dev/fd/{end}", b"told")
    assert os.read(read, 9) == b"told"


def test_a_log_that_cannot_be_written_has_a_name(tmp_path):
    with pytest.raises(OSError, match=r"log\.csv"), naming(tmp_path / "log.csv"):
        raise OSError(28, "No space left on device")


def test_what_was_there_goes_last(tmp_path):
    for name in ("0.png", "1.png", "note.txt"):
        write(tmp_path / name, b"old")
    swap(tmp_path, "*.png", {"0.png": b"new"})
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {
        "0.png": b"new",
        "note.txt": b"old",
    }


def test_a_place_for_a_file(tmp_path):
    assert writable(tmp_path / "a" / "b.npy", ".npy") == tmp_path / "a" / "b.npy"
    assert (tmp_path / "a").is_dir() and not list((tmp_path / "a").iterdir())
    (tmp_path / "file").write_text("")
    for path, sentence in (
        (tmp_path / "b.png", r"b\.png is no name for this file: it must end in \.npy or \.NPY"),
        (tmp_path / "file" / "c.npy", "file cannot be a folder: there is a file of that name"),
        (Path("/proc/none/c.npy"), "nothing can be written into /proc/none: "),
    ):
        with pytest.raises(ValueError, match=sentence):
            writable(path, ".npy", ".NPY")
    with pytest.raises(ValueError, match="is a folder: give the name of a file"):
        writable(tmp_path)


@pytest.mark.parametrize("module", LATE)
def test_commands_look_for_a_place_first(tmp_path, capsys, monkeypatch, module):
    monkeypatch.setattr("checkpoints.load", None)  # nothing is loaded before that
    ending = {"prior.draw": ".png", "clip_guidance.generate": ".png"}
    ending |= dict.fromkeys(("bench.text_to_image", "bench.ideas", "bench.sketches"), ".webp")
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / f"x{ending.get(module, '.npy')}"
    with pytest.raises(SystemExit) as stop:
        importlib.import_module(module).main(LATE[module].format(out=out).split())
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1
    assert re.search("file cannot be a folder: there is a file of|there is no folder .*file", error)
