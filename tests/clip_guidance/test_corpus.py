"""The text tower's corpus: what it holds, what it leaves out, what Chinese means."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from clip_guidance import corpus, texts
from clip_guidance.captions import phrases


def row(name, *tags, zh=(), split="train", kind="icon"):
    captions = [name, *tags]
    return {"captions": captions, "captions_zh": list(zh), "split": split, "kind": kind}


ROWS = [
    row("apple", "fruit", zh=["苹果", "水果"]),
    row("pear", "fruit", zh=["梨", "水果"]),
    row("zebra", "savanna", zh=["斑马", "草原"], split="val"),
]
WORDS = {
    "sources": [],
    "nouns": [["kettle", "a metal pot"], ["ice cream", "frozen dessert"]],
    "characters": [["马", "horse"], ["龘", "a dragon in flight"]],
}


@pytest.fixture
def built():
    return corpus.build(ROWS, WORDS, made_up=200, seed=0)


def test_held_out_captions_stay_out(built):
    held_out = {"zebra", "savanna", "斑马", "草原"}
    assert not held_out & {*built.english, *built.chinese}
    assert not any("zebra" in text for text in built.english)
    assert {"apple", "an apple", "fruit", "kettle", "ice cream"} <= built.english.keys()


def test_what_chinese_means(built):
    names = list(built.english)

    def meaning(text):
        return [names[i] for i in built.chinese[text]]

    assert meaning("苹果") == ["apple"] and meaning("一个苹果") == ["an apple"]
    assert sorted(meaning("水果")) == ["apple", "pear"]
    assert meaning("马") == ["horse"] and "龘" not in built.chinese  # only common characters
    assert meaning("红色") == meaning("红") == ["red"]
    tinted = {t: meaning(t) for t in built.chinese if t.endswith("色的梨") or t.endswith("色梨")}
    assert len(tinted) == 2
    for text, (said,) in tinted.items():
        colour = next(c for c, zh in corpus.COLOURS_ZH.items() if text.startswith(zh))
        assert colour in said and "pear" in said


def test_vectors(built):
    rng = np.random.default_rng(0)
    english = rng.standard_normal((len(built.english), 6)).astype(np.float32)
    found, names = built.vectors(english), built.texts()
    assert found.shape == (len(names), 6) and np.allclose(np.linalg.norm(found, axis=1), 1)
    place = {text: i for i, text in enumerate(names)}
    assert np.allclose(found[place["苹果"]], found[place["apple"]], atol=1e-6)
    mean = (english[place["apple"]] + english[place["pear"]]) / 2
    assert np.allclose(found[place["水果"]], mean / np.linalg.norm(mean), atol=1e-6)


def test_scenes_are_sentences_and_seeded(built):
    again = corpus.build(ROWS, WORDS, made_up=200, seed=0)
    assert again.texts() == built.texts()
    assert any(" and " in text for text in built.english)
    assert corpus.build(ROWS, WORDS, made_up=200, seed=1).texts() != built.texts()


def test_known_vectors_belong_to_their_texts():
    vectors = np.arange(3 * 6 * 2).reshape(3, 6, 2)
    known = corpus.known_vectors(ROWS, vectors)
    assert np.array_equal(known["an apple"], vectors[0, 1])
    assert np.array_equal(known[phrases(ROWS[1]["captions"])[4]], vectors[1, 4])
    with pytest.raises(ValueError, match=f"of 2 pictures and the data has {len(ROWS)}"):
        corpus.known_vectors(ROWS, vectors[:2])


@pytest.mark.parametrize(
    "content",
    ["[1]", "{}", "no json", '{"nouns": [["a"]], "characters": [], "sources": ["x"]}',
     '{"nouns": [["a", 1]], "characters": [], "sources": ["x"]}'],
)  # fmt: skip
def test_words_that_are_none(tmp_path, fixtures, capsys, content):
    (tmp_path / "w.json").write_text(content)
    line = ["--data", str(fixtures), "--words", str(tmp_path / "w.json"), "--out"]
    with pytest.raises(SystemExit) as stop:
        texts.main([*line, str(tmp_path / "t")])
    assert stop.value.code == 2
    assert "w.json is no words.json made by data.words" in capsys.readouterr().err
    (tmp_path / "plain").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "plain" / "1.png")
    with pytest.raises(SystemExit) as stop:
        texts.main([line[0], str(tmp_path / "plain"), *line[2:], str(tmp_path / "t")])
    assert stop.value.code == 2 and "1.png has no captions" in capsys.readouterr().err


def test_a_corpus_that_is_none(tmp_path):
    with pytest.raises(ValueError, match="no corpus"):
        texts.load(tmp_path / "x")
    (tmp_path / "x.json").write_text(json.dumps({"texts": ["a", "b"]}))
    np.save(tmp_path / "x.npy", np.zeros((3, 4), np.float16))
    with pytest.raises(ValueError, match="2 texts and vectors of shape"):
        texts.load(tmp_path / "x")
    np.save(tmp_path / "x.npy", np.ones((2, 4), np.float16))
    found, vectors = texts.load(tmp_path / "x")
    assert found == ["a", "b"] and vectors.dtype == np.float32
