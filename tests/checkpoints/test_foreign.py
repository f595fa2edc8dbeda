"""Tensors out of pickles: nothing in them is run or imported."""

import argparse
import os
import pathlib
import sys
import zipfile
from collections import OrderedDict

import pytest
import torch

from checkpoints import foreign
from checkpoints.foreign import read

STATE = {
    "a": torch.arange(12.0).view(3, 4).t(),
    "b": torch.ones(2).half(),
    "c": torch.arange(3),
    "d": torch.nn.Parameter(torch.ones(5)),
    "e": torch.empty(0),  # an optimiser or a callback may keep some
}


class Evil:
    """Unpickled by pickle itself, it makes a folder."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


TRAINER = """
import enum, pathlib
pathlib.Path(__file__).with_name("imported").touch()
class Callback:
    def __init__(self): self.best = 1
class Settings(dict): pass
class Steps(list): pass
class Kind(enum.Enum): A = 1
class Slots:
    __slots__ = ("x",)
    def __init__(self): self.x = 1
class Made:
    @classmethod
    def make(cls): return cls()
    def __reduce__(self): return self.make, ()
def function(): pass
"""


def states_equal(found: dict) -> bool:
    return found.keys() == STATE.keys() and all(
        torch.equal(found[k], v.data) and found[k].dtype == v.dtype for k, v in STATE.items()
    )


def test_nothing_hostile_runs(tmp_path):
    path, target = tmp_path / "evil.ckpt", tmp_path / "made"
    torch.save({"state_dict": STATE, "callbacks": Evil(target)}, path)
    torch.load(path, weights_only=False)
    assert target.is_dir()  # so the trap works
    target.rmdir()
    found = read(path)
    assert states_equal(found.tensors) and found.part == "state_dict"
    assert found.ignored == ("posix.mkdir",) and not target.exists()


@pytest.mark.parametrize("inside", ["weights", "keys"])
def test_nothing_hostile_runs_amid_the_weights(tmp_path, inside):
    path, target = tmp_path / "evil.ckpt", tmp_path / "made"
    state = {"x": torch.ones(1), "y": Evil(target)}
    torch.save({"state_dict": state} if inside == "weights" else state, path)
    assert list(read(path).tensors) == ["x"] and not target.exists()


def test_foreign_objects_are_neither_imported_nor_built(tmp_path, monkeypatch):
    (tmp_path / "a_trainer.py").write_text(TRAINER)
    monkeypatch.syspath_prepend(tmp_path)
    import a_trainer as t

    settings, steps = t.Settings(lr=3, more={"a": [1]}), t.Steps([1, 2])
    others = [t.Callback(), settings, steps, t.Kind.A, t.Slots(), t.function, {t.Callback(), 3}]
    others.append(t.Made())
    rest = {t.Callback: {"best": 3}, "n": argparse.Namespace(a=1), "p": pathlib.PurePosixPath("x")}
    path = tmp_path / "last.ckpt"
    for protocol in (2, 4):
        whole = {"callbacks": rest, "others": others, "state_dict": OrderedDict(STATE)}
        torch.save(whole, path, pickle_protocol=protocol)
        sys.modules.pop("a_trainer", None)
        (tmp_path / "imported").unlink(missing_ok=True)
        found = read(path)
        assert states_equal(found.tensors)
        assert {"a_trainer.Callback", "a_trainer.function"} < set(found.ignored)
        assert "a_trainer" not in sys.modules and not (tmp_path / "imported").exists()
        sys.modules["a_trainer"] = t
    del sys.modules["a_trainer"]


def test_plain_files_take_torchs_own_reader(tmp_path, monkeypatch):
    monkeypatch.setattr(foreign, "_read_zip", None)
    path = tmp_path / "x.pt"
    for whole in ({"state_dict": STATE}, STATE):
        torch.save(whole, path)
        assert states_equal(read(path).tensors) and read(path).ignored == ()
    torch.save({"model": STATE}, path, _use_new_zipfile_serialization=False)
    assert states_equal(read(path).tensors)


def rewritten(path, change) -> None:
    """The archive with its members passed through `change(name, data) -> data or None`."""
    with zipfile.ZipFile(path) as old:
        members = {name: change(name, old.read(name)) for name in old.namelist()}
    with zipfile.ZipFile(path, "w") as new:
        for name, data in members.items():
            if data is not None:
                new.writestr(name, data)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda n, d: None if n.endswith("data/0") else d, "is not whole, at 'a'"),
        (lambda n, d: d[:-8] if n.endswith("data/0") else d, "is not whole, at 'a'"),
        (lambda n, d: b"big" if n.endswith("byteorder") else d, "big-endian"),
        (lambda n, d: d[:-9] if n.endswith(".pkl") else d, "cannot be read as a torch checkpoint"),
        (lambda n, d: b"junk" if n.endswith(".pkl") else d, "cannot be read as a torch checkpoint"),
    ],
)
def test_damaged_archives(tmp_path, change, sentence):
    path = tmp_path / "x.ckpt"
    torch.save({"state_dict": STATE, "more": argparse.Namespace()}, path)
    rewritten(path, change)
    with pytest.raises(ValueError, match=sentence) as caught:
        read(path)
    assert "x.ckpt" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("\n<!DOCTYPE html><title>Sign in</title>", "a web page"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0", "a pointer of Git LFS"),
    ],
)
def test_what_was_saved_in_a_checkpoints_stead(tmp_path, content, what):
    (tmp_path / "x.ckpt").write_text(content)
    with pytest.raises(ValueError, match=f"x.ckpt is {what} and not the checkpoint itself"):
        read(tmp_path / "x.ckpt")


@pytest.mark.parametrize("sums", [True, False])
def test_numbers_that_changed_on_the_way(tmp_path, sums):
    """torch's own reader takes them as they are; an archive without sums says nothing of it."""
    path = tmp_path / "x.pt"
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(sums)
    try:
        torch.save({"state_dict": {"a": torch.arange(1000.0)}}, path)
    finally:
        torch.serialization.set_crc32_options(before)
    assert read(path).tensors["a"][700] == 700
    data, number = path.read_bytes(), torch.tensor([700.0]).numpy().tobytes()
    assert data.count(number) == 1
    path.write_bytes(data.replace(number, b"abcd"))
    if sums:
        with pytest.raises(ValueError, match=r"x.pt is damaged, so get it again: Bad CRC-32"):
            read(path)
    else:
        assert read(path).tensors["a"][700] != 700


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_programs_are_refused(tmp_path):
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "program.pt")
    with pytest.raises(ValueError, match="TorchScript"):
        read(tmp_path / "program.pt")


def test_every_kind_of_number_comes_back_and_parts_of_a_tensor_too(tmp_path):
    kinds = "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool".split()
    state = {kind: torch.arange(6).to(getattr(torch, kind))[2:] for kind in kinds}
    torch.save({"state_dict": state, "more": argparse.Namespace()}, tmp_path / "x.ckpt")
    found = read(tmp_path / "x.ckpt").tensors
    assert [v.dtype for v in found.values()] == [v.dtype for v in state.values()]
    assert all(torch.equal(found[kind], state[kind]) for kind in kinds)


def test_a_modules_own_state_dict_comes_back(tmp_path):
    """It is an OrderedDict with an attribute of its own."""
    state = torch.nn.Linear(2, 3).state_dict()
    torch.save({"state_dict": state, "more": argparse.Namespace()}, tmp_path / "x.ckpt")
    found = read(tmp_path / "x.ckpt").tensors
    assert list(found) == ["weight", "bias"] and torch.equal(found["weight"], state["weight"])


def test_archives_from_before_torch_2_1_name_no_byte_order(tmp_path):
    path = tmp_path / "x.ckpt"
    torch.save({"state_dict": STATE, "more": argparse.Namespace()}, path)
    rewritten(path, lambda name, data: None if name.endswith("byteorder") else data)
    assert states_equal(read(path).tensors)


def test_what_lay_on_a_gpu_is_read_without_one(tmp_path, monkeypatch):
    path = tmp_path / "x.pt"
    with monkeypatch.context() as patched:
        patched.setattr(torch.serialization, "location_tag", lambda _: "cuda:0")
        torch.save({"model": STATE}, path, _use_new_zipfile_serialization=False)
    assert states_equal(read(path).tensors)
