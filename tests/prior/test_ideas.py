"""What there is to draw: which titles count, which picture gets which, files and commands."""

import json
import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

import checkpoints
from prior import titles
from prior.draw import main as draw
from prior.ideas import FILE, PULL, Idea, Ideas, collect
from prior.model import GPT, PriorConfig
from prior.sample import finish, sample
from prior.sheet import FILE as SAMPLES
from prior.sheet import Record, weights_id
from prior.tokens import TokenSet
from prior.tokens import save as save_tokens
from vqgan.model import VQGAN, VQGANConfig

CONFIG = {"codebook_size": 16, "height": 4, "width": 4, "layers": 2, "heads": 2, "dim": 16}
TINY = VQGANConfig(
    resolution=16, ch=8, ch_mult=(1, 1, 2), num_res_blocks=1, attn_resolutions=(), mid_attn=False,
    num_groups=2, z_channels=8, codebook_size=16, embed_dim=4, quantizer="cosine",
)  # fmt: skip
KNOWN = (Idea("apple", "苹果"), Idea("boat", "船"), Idea("cat"))


def row(title: str, artist: str, **more) -> dict:
    return {"captions": [title, "thing"], "set": artist, "split": "train", "kind": "icon"} | more


def test_titles_that_several_artists_drew():
    rows = [row("apple", "set3")]
    rows += [row("Apple", f"set{i}", captions_zh=["苹果", "红"]) for i in range(3)]
    rows += [*[row("boat", "set1")] * 5]  # five times, one artist
    rows += [row("cat", f"set{i}") for i in range(4)]
    rows += [row("dog", f"set{i}", split="val") for i in range(4)]  # held out
    rows += [row("egg", f"set{i}", captions=[]) for i in range(4)]
    rows += [row("fox", f"set{i}") for i in range(3)]  # three artists
    rows += [{"captions": ["gnu"], "split": "train", "kind": "photo"}] * 4  # nobody's
    rows += [row("apple", "set3")]  # whose Chinese name an earlier row says
    assert collect(rows) == [Idea("apple", "苹果"), Idea("cat", "")]
    assert [i.text for i in collect(rows, 1)] == ["apple", "boat", "cat", "fox"]


@pytest.fixture
def ideas(tmp_path) -> Ideas:
    Ideas(KNOWN, np.eye(3, 5, dtype=np.float32), "some clip").save(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [FILE]
    return Ideas.load(tmp_path)


def test_ideas_come_back_as_they_were_saved(ideas):
    assert ideas.all == KNOWN and np.array_equal(ideas.conditions, np.eye(3, 5, dtype=np.float32))
    card = {"sha256": {"clip.safetensors": "some clip"}}
    ideas.check(5, card)
    with pytest.raises(ValueError, match="5 numbers long, and this prior takes 4"):
        ideas.check(4, card)
    with pytest.raises(ValueError, match="takes no condition"):
        ideas.check(0, card)
    for other in ({}, {"sha256": {"clip.safetensors": "another"}}):
        with pytest.raises(ValueError, match="made with another CLIP"):
            ideas.check(5, other)


def test_an_id_names_titles_and_conditions(ideas, tmp_path):
    again = Ideas(KNOWN, np.eye(3, 5, dtype=np.float32))
    assert again.id == ideas.id and len(ideas.id) == 12
    third = replace(again, conditions=again.conditions / 3)
    third.save(tmp_path)
    assert Ideas.load(tmp_path).id == third.id, "though the file keeps float16"
    for other in (
        Ideas(KNOWN[:2], np.eye(2, 5, dtype=np.float32)),
        Ideas((*KNOWN[:2], Idea("cow")), np.eye(3, 5, dtype=np.float32)),
        Ideas(KNOWN, np.eye(3, 5, 1, dtype=np.float32)),
    ):
        assert other.id != ideas.id


def test_ideas_that_are_no_numbers_are_told_to_nobody(ideas):
    strange = replace(ideas, conditions=ideas.conditions.copy())
    strange.conditions[1, 2] = np.nan
    with pytest.raises(ValueError, match="not finite: make new ones"):
        strange.check(ideas.conditions.shape[1], {})


def test_a_pictures_idea_depends_on_its_seed_alone(ideas):
    picks = ideas.think(300, 7)
    assert np.array_equal(ideas.think(10, 27), picks[20:30])
    counts = Counter(picks.tolist())
    assert set(counts) == {0, 1, 2} and min(counts.values()) > 60  # each is as likely


def test_another_file_is_no_ideas(tmp_path):
    with pytest.raises(FileNotFoundError):
        Ideas.load(tmp_path)
    for known, conditions in (
        (KNOWN, np.eye(2, 5)),
        (KNOWN, np.eye(4, 5)),
        (KNOWN, np.ones(3)),
        ((), np.eye(0, 5)),
    ):
        Ideas(known, conditions).save(tmp_path)
        with pytest.raises(ValueError, match="do not fit"):
            Ideas.load(tmp_path)
    for content in (b"no ideas", b"", b"PK\x03\x04 broken"):
        (tmp_path / FILE).write_bytes(content)
        with pytest.raises(ValueError, match="holds no ideas"):
            Ideas.load(tmp_path)


@pytest.fixture
def bundle(tmp_path):
    """A bundle whose prior takes 5 numbers, with ideas."""
    torch.manual_seed(0)
    prior = GPT(PriorConfig(**CONFIG, condition="embedding", embedding_size=5))
    for p in prior.requires_grad_(False).parameters():
        p.normal_(std=0.5)
    path = tmp_path / "bundle"
    checkpoints.save(path, name="tiny", vqgan=VQGAN(TINY).eval(), card={}, prior=prior)
    Ideas(KNOWN, np.eye(3, 5)).save(path)
    return checkpoints.load(path)


def test_each_picture_is_drawn_after_its_idea(bundle, tmp_path):
    draw(["--bundle", str(bundle.path), "--out", str(tmp_path / "a.png"), "-n", "4", "--ideas"])
    kept = Record.read(tmp_path / "a.png")
    picks = Ideas.load(bundle.path).think(4, 0)
    assert kept.settings["ideas"] == [KNOWN[i].text for i in picks]
    assert kept.settings["cfg_scale"] == PULL
    assert kept.settings["ideas_id"] == Ideas.load(bundle.path).id
    condition = torch.from_numpy(np.eye(3, 5, dtype=np.float32)[picks])
    last = finish(sample(bundle.prior, 4, seed=0, condition=condition, cfg_scale=PULL))
    assert np.array_equal(kept.codes, last.grid.numpy())
    plain = finish(sample(bundle.prior, 4, seed=0)).grid.numpy()
    assert (plain != kept.codes).any((1, 2)).sum() >= 3


def test_words_go_through_the_bundles_own_clip(bundle, tmp_path, monkeypatch, capsys):
    told = torch.linspace(-1, 1, 5)[None]
    heard = []

    def tell(self, words):
        heard.append(words)
        return told

    monkeypatch.setattr(checkpoints.Bundle, "told", tell)
    files = ["--bundle", str(bundle.path), "--out", str(tmp_path / "a.png")]
    draw([*files, "-n", "3", "--words", "an apple", "--cfg-scale", "2"])
    kept = Record.read(tmp_path / "a.png")
    assert heard == [["an apple"]] and kept.settings["text"] == "an apple"
    last = finish(sample(bundle.prior, 3, seed=0, condition=told.expand(3, -1), cfg_scale=2.0))
    assert np.array_equal(kept.codes, last.grid.numpy())
    with pytest.raises(SystemExit):
        draw([*files, "--words", "an apple", "--ideas"])


def test_what_cannot_be_told_is_one_line(bundle, tmp_path, capsys):
    files = ["--bundle", str(bundle.path), "--out", str(tmp_path / "a.png")]
    for more, said in (
        (["--ideas", "-n", "-2"], "n is -2: it must be a whole number of at least 1"),
        (["--ideas", "--seed", "-1"], "seed is -1: it must be a whole number of at least 0"),
        (["--words", "an apple", "-n", "0"], "n is 0"),
    ):
        with pytest.raises(SystemExit) as stop:
            draw([*files, *more])
        error = capsys.readouterr().err
        assert stop.value.code == 2 and said in error and error.count("\n") == 1
    (bundle.path / FILE).unlink()
    for more, said in (
        (["--words", "an apple"], "the prior of bundle tiny takes no words"),
        (["--ideas"], "holds no ideas: make some with python -m prior.ideas"),
    ):
        with pytest.raises(SystemExit) as stop:
            draw([*files, *more])
        error = capsys.readouterr().err
        assert stop.value.code == 2 and said in error and error.count("\n") == 1


def test_pictures_without_titles_are_told_what_they_lack(bundle, tmp_path, capsys):
    rows = [{"kind": "icon", "captions": [], "split": "train"}]  # of a plain folder
    tokens = TokenSet(np.zeros((1, 2, 4, 4), np.uint16), rows, bundle.tokenizer_id, 16, {})
    save_tokens(tokens, tmp_path / "t.npy")
    with pytest.raises(SystemExit) as stop:
        titles.main(["--tokens", str(tmp_path / "t.npy"), "--bundle", str(bundle.path)])
    assert stop.value.code == 2 and "has a title and a set" in capsys.readouterr().err


def test_the_command_writes_what_the_clip_says_of_each_title(bundle, tmp_path, monkeypatch, capsys):
    rows = [row(title, f"set{i}") for title in ("apple", "cat") for i in range(4)]
    rows.append(row("boat", "photos", kind="photo"))
    tokens = TokenSet(np.zeros((9, 2, 4, 4), np.uint16), rows, bundle.tokenizer_id, 16, {})
    save_tokens(tokens, tmp_path / "t.npy")
    line = ["--tokens", str(tmp_path / "t.npy"), "--bundle", str(bundle.path)]
    monkeypatch.setattr(
        checkpoints.Bundle, "told", lambda self, words: torch.full((len(words), 5), len(words[0]))
    )
    titles.main(line)
    found = Ideas.load(bundle.path)
    assert [i.text for i in found.all] == ["apple", "cat"] and (found.conditions == 5).all()
    assert "2 titles" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        titles.main([*line, "--artists", "5"])
    assert stop.value.code == 2 and "no title was drawn by 5 sets" in capsys.readouterr().err
    given = np.random.default_rng(0).normal(size=(9, 3, 5)).astype(np.float16)
    np.save(tmp_path / "c.npy", given)
    titles.main([*line, "--conditions", str(tmp_path / "c.npy")])
    told = given[4:8].astype(np.float32).mean((0, 1))  # of the four cats
    told /= np.linalg.norm(told)
    np.testing.assert_allclose(Ideas.load(bundle.path).conditions[1], told, atol=1e-3)
    np.save(tmp_path / "flat.npy", given[:, 0])  # one choice a picture
    titles.main([*line, "--conditions", str(tmp_path / "flat.npy")])
    np.save(tmp_path / "few.npy", given[:8])
    np.save(tmp_path / "long.npy", np.ones((9, 3, 6)))
    np.savez(tmp_path / "many.npz", given)
    for name, value in (("nan", np.nan), ("nought", 0)):
        np.save(tmp_path / f"{name}.npy", np.concatenate([given[:8] * 0 + value, given[8:]]))
    with pytest.raises(SystemExit) as stop:
        titles.main([*line, "--artists", "0"])
    assert stop.value.code == 2 and "artists is 0: it must be at" in capsys.readouterr().err
    good = (bundle.path / FILE).read_bytes()
    capsys.readouterr()
    for name, said in (
        ("few.npy", "expected (9, choices, size)"),
        ("long.npy", "6 numbers long, and this prior takes 5"),
        ("many.npz", "holds no conditions"),
        ("nan.npy", "nan.npy holds conditions that are zero or not finite"),
        ("nought.npy", "nought.npy holds conditions that are zero or not finite"),
    ):
        with pytest.raises(SystemExit) as stop:
            titles.main([*line, "--conditions", str(tmp_path / name)])
        error = capsys.readouterr().err
        assert stop.value.code == 2 and said in error and error.count("\n") == 1
        assert (bundle.path / FILE).read_bytes() == good
    card = json.loads((bundle.path / "config.json").read_text())
    card["prior"]["training"] = {"train": {"kinds": ["photo"]}}
    twin = shutil.copytree(bundle.path, tmp_path / "twin")
    (twin / "config.json").write_text(json.dumps(card))
    with pytest.raises(SystemExit):  # only photographs count there, of one set
        titles.main([*line[:3], str(twin)])


def test_the_shipped_ideas_belong_to_the_shipped_prior():
    """1,500 titles in both languages, each nearer to its own words than to another title's."""
    shipped = checkpoints.load()
    found = Ideas.load(shipped.path)
    found.check(shipped.prior.config.embedding_size, shipped.card)
    assert len(found.all) > 1500 and all(idea.zh for idea in found.all)
    places = list(range(0, len(found.all), 60))
    told = shipped.told([found.all[i].text for i in places])
    cosines = told @ torch.from_numpy(found.conditions[places]).T
    assert (cosines.argmax(1) == torch.arange(len(places))).float().mean() > 0.9


def test_the_shipped_samples_are_what_the_tab_would_write():
    """The Sample tab opens with them and with ideas switched on, and says that seeds write them."""
    shipped = checkpoints.load()
    kept, found = Record.read(shipped.path / SAMPLES).settings, Ideas.load(shipped.path)
    assert kept["prior"] == weights_id(shipped.card) and kept["ideas_id"] == found.id
    assert kept["ideas"] == [found.all[i].text for i in found.think(kept["n"], kept["seed"])]
    drawn = {name: kept[name] for name in ("temperature", "top_k", "top_p", "cfg_scale", "seed")}
    assert drawn == {"temperature": 1.0, "top_k": 0, "top_p": 0.95, "cfg_scale": PULL, "seed": 0}
