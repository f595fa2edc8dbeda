"""Which CLIPs a visitor may draw with."""

from __future__ import annotations

import threading

import pytest

from clip_guidance import model
from ui.clips import OWN, Clips
from ui.common import Sentence


@pytest.mark.parametrize("name", ["NoSuchModel", "ViT-B-32/nonsense", "."])
def test_a_clip_of_an_unknown_name_is_no_failed_download(able, name):
    with pytest.raises(Sentence, match="knows no CLIP") as said:
        Clips(able).get(name)
    assert name in str(said.value) and f"没有名为“{name}”的" in str(said.value)
    assert "downloaded" not in str(said.value) and "下载" not in str(said.value)


def test_a_clip_that_cannot_be_had_is_a_sentence(able, studio, monkeypatch):
    monkeypatch.setattr(model, "_factory", lambda *of: 1 / 0)
    with pytest.raises(Sentence, match=r"RN50.*can't be used"):
        Clips(able).get("RN50")
    with pytest.raises(Sentence, match="holds no CLIP"):
        Clips(studio).get(OWN)


def test_a_folder_of_this_computer_is_no_clip_for_a_visitor(able, tmp_path):
    for name in (str(tmp_path), "."):
        with pytest.raises(Sentence, match="knows no CLIP"):
            Clips(able).get(name)


def test_the_published_ones_asked_for_last_stay_in_memory(able, studio, monkeypatch):
    read = []
    monkeypatch.setattr("ui.clips.by_name", lambda name, device: read.append(name) or name)
    clips = Clips(able)
    assert not clips.ready("A") and clips.ready(OWN)
    for name in "ABBCB":
        assert clips.get(name) == name and clips.ready(name)
    assert read == ["A", "B", "C"]
    assert not clips.ready("A"), "two are kept"
    with clips._loading:  # while another one is on its way
        asked = threading.Thread(target=lambda: read.append(clips.get("C")), daemon=True)
        asked.start()
        asked.join(5)
        assert not asked.is_alive() and read == ["A", "B", "C", "C"]
    models = clips.models("B")
    assert models.clip == "B" and models.own is able.bundle.clip
    assert Clips(studio).own is None


def test_on_a_space_only_the_offered_clips_are_loaded(able, monkeypatch):
    monkeypatch.setattr("ui.clips.by_name", lambda name, device: f"CLIP {name}")
    assert Clips(able).get("ViT-H-14") == "CLIP ViT-H-14"
    monkeypatch.setenv("SPACE_ID", "someone/studio")
    assert Clips(able).get("RN50") == "CLIP RN50" and Clips(able).get(OWN) is able.bundle.clip
    for name in ("ViT-H-14", "ViT-B-32/openai", "checkpoints"):
        with pytest.raises(Sentence, match=r"RN50 only.+ViT-B-32、ViT-B-16"):
            Clips(able).get(name)
