"""The commands on a tiny data set: both towers, into a bundle, measured."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

import checkpoints
from bench import clip as bench_clip
from clip_guidance import config, export, model, train, train_image, train_text
from training.checkpoint import load
from vqgan import dataset
from vqgan.model import VQGAN

SHAPE = {
    "text": "--embed-dim 8 --text-width 8 --text-layers 1 --text-heads 1".split(),
    "image": "--embed-dim 8 --image-size 32".split(),
}
LOOP = "--log-every 1 --sample-every 2 --warmup 1 --steps 2".split()


@pytest.fixture(scope="module", autouse=True)
def smallest():
    """timm's smallest EfficientNet from scratch in place of Lite0 and its ImageNet weights."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config, "TIMM", "test_efficientnet")
        patch.setattr(train_image.lite, "start_from_imagenet", lambda trunk: None)
        patch.setattr(train_text, "word_table", lambda strings, *_: torch.randn(len(strings), 12))
        yield


@pytest.fixture(scope="module")
def world(tmp_path_factory, fixtures):
    """Phrases, a corpus, two trained towers and a bundle without CLIP."""
    root = tmp_path_factory.mktemp("world")
    rng, count = np.random.default_rng(0), len(dataset.scan(fixtures))
    np.save(root / "phrases.npy", rng.standard_normal((count, 2, 8)).astype(np.float16))
    texts = ["an apple", "a dog", "苹果", "狗"]
    (root / "texts.json").write_text(json.dumps({"texts": texts}), encoding="utf-8")
    np.save(root / "texts.npy", rng.standard_normal((4, 8)).astype(np.float16))
    common = ["--data", str(fixtures), "--phrases", str(root / "phrases.npy"), *LOOP]
    image = ["--batch", "4", "--size", "32", "--negatives", "4", "--frozen-stages", "1"]
    image += ["--held-out", "4", "--pixels", str(root / "pixels.npz")]
    train.main(["image", "--out", str(root / "image"), *common, *SHAPE["image"], *image])
    text = ["--texts", str(root / "texts"), "--batch", "4"]
    train.main(["text", "--out", str(root / "text"), *common, *SHAPE["text"], *text])
    return root


def words(world, fixtures, part, *more):
    """A command line that would go on with a run; "texts" becomes its path."""
    more = [f"{world}/texts" if word == "texts" else word for word in more]
    phrases = ["--phrases", f"{world}/phrases.npy"]
    return [part, "--data", str(fixtures), *phrases, "--out", f"{world}/{part}", *more]


@pytest.fixture
def bundle(world, tmp_path, tiny_vqgan):
    path = checkpoints.save(tmp_path / "b", name="b", vqgan=tiny_vqgan, card={})
    export.main(["--image", str(world / "image"), "--text", str(world / "text"), str(path)])
    return path


def test_logs_and_held_out_figures(world):
    with open(world / "image" / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [r["step"] for r in rows] == ["0", "1"] and 0 <= float(rows[-1]["find@10"]) <= 1
    with open(world / "text" / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[-1]["english_at1"] and rows[-1]["chinese_cosine"]


def test_a_bundle_gets_exactly_the_averaged_towers(world, bundle):
    clip = checkpoints.load(bundle).clip
    assert clip.size == 32 and clip.embedding_size == 8
    for part, tower in (("image", clip.model.visual), ("text", clip.model.text)):
        shadow = load(world / part / "last.pt")["task"]["ema"]["shadow"]
        for name, value in tower.state_dict().items():
            assert torch.equal(value, shadow[name].half().to(value.dtype)), name
    training = checkpoints.load(bundle).card["clip"]["training"]
    assert training["image"]["steps"] == training["text"]["steps"] == 2
    assert training["image"]["train"]["leave_out"] == ["noto-v1"]
    assert "/" not in training["image"]["commands"][0]


def test_resume_keeps_the_first_command_too(world, fixtures):
    train.main(words(world, fixtures, "text", "--resume", "--steps", "3", "--texts", "texts"))
    config = load(world / "text" / "last.pt")["config"]
    assert len(config["earlier_commands"]) == 1 and "--resume" in config["command"]


@pytest.mark.parametrize(("part", "command"), [("image", train_image), ("text", train_text)])
def test_a_run_does_not_go_on_with_other_data(world, fixtures, capsys, monkeypatch, part, command):
    other = {"name": "other", "sha256": "0" * 64}
    monkeypatch.setattr(command.dataset, "identity", lambda folder: other)
    more = ["--texts", "texts"] if part == "text" else ["--pixels", f"{world}/pixels.npz"]
    with pytest.raises(SystemExit) as caught:
        train.main(words(world, fixtures, part, "--resume", "--steps", "9", *more))
    error = capsys.readouterr().err
    assert caught.value.code == 2 and f"{part} was trained on other data" in error


def test_a_run_is_not_overwritten(world, fixtures, capsys):
    with pytest.raises(SystemExit) as caught:
        train.main(words(world, fixtures, "image"))
    assert caught.value.code == 2 and "holds a run already" in capsys.readouterr().err


def test_phrases_of_fewer_pictures_are_refused(fixtures, tmp_path):
    np.save(tmp_path / "p.npy", np.zeros((3, 2, 8), np.float16))
    with pytest.raises(ValueError, match=r"p\.npy is of 3 pictures and .* has "):
        train_text.held_out(str(fixtures), tmp_path / "p.npy")


@pytest.mark.parametrize(
    ("part", "wrong", "sentence"),
    [
        ("text", {"phrases": np.zeros(3)}, "holds no phrases: it is float64 of shape (3,)"),
        ("text", {"phrases": np.zeros((0, 2, 8))}, "holds no phrases"),
        ("image", {"phrases": np.zeros((2, 2, 8), int)}, "holds no phrases: it is int64"),
        ("image", {"init": "text"}, "text is no run of this tower"),
        ("image", {"resume": "text"}, "is no run of clip_guidance.train_image"),
        ("text", {"data": "plain"}, "has no captions: give a folder made by data.build"),
        ("text", {"flags": ["--embed-dim", "9"]}, "and the model's 9: --embed-dim must be 8"),
        ("image", {"flags": ["--size", "40"]}, "image_size is not 40"),
        ("image", {"flags": ["--pixels", "PHRASES"]}, "p.npy holds no pixels and masks"),
        ("image", {"flags": ["--pixels", "nowhere.npy"]}, "it must end in .npz"),
    ],
)
def test_files_of_another_kind_are_one_line(
    world, fixtures, tmp_path, capsys, part, wrong, sentence
):
    np.save(tmp_path / "p.npy", wrong.get("phrases", np.load(world / "phrases.npy")))
    (tmp_path / "plain").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "plain" / "1.png")
    data = tmp_path / "plain" if "data" in wrong else fixtures
    out = world / "text" if "resume" in wrong else tmp_path / "run"
    line = [part, "--data", str(data), "--phrases", str(tmp_path / "p.npy"), "--out", str(out)]
    image = ["--pixels", f"{world}/pixels.npz", "--size", "32"]
    line += ["--texts", f"{world}/texts"] if part == "text" else image
    line += ["--init", str(world / "text")] if "init" in wrong else []
    line += ["--resume"] if "resume" in wrong else SHAPE[part]
    line += wrong.get("flags", [])
    line = [str(tmp_path / "p.npy") if word == "PHRASES" else word for word in line]
    with pytest.raises(SystemExit) as caught:
        train.main([*line, *LOOP])
    assert caught.value.code == 2 and sentence in capsys.readouterr().err.splitlines()[-1]


@pytest.fixture
def painting(world, fixtures, tmp_path, tiny_vqgan):
    """Trains an image tower with what a bundle gives back -> how many reconstructions it had."""
    torch.manual_seed(1)
    models = {"one": tiny_vqgan, "two": VQGAN(tiny_vqgan.config)}
    bundles = {
        name: checkpoints.save(tmp_path / name, name=name, vqgan=vqgan, card={})
        for name, vqgan in models.items()
    }
    pixels = ["--phrases", f"{world}/phrases.npy", "--pixels", f"{world}/pixels.npz"]
    common = ["image", "--data", str(fixtures), *pixels, "--out", str(tmp_path / "run")]
    begin = [*SHAPE["image"], *LOOP, "--batch", "4", "--size", "32", "--negatives", "4"]

    def go(bundle: str | None, *more: str, resume: bool = False) -> int:
        seen = []
        real = train_image.ImageTask.__init__

        def kept(self, clip, cfg, augment, loop, found, *rest):
            seen.append(0 if found.painted is None else len(found.painted))
            real(self, clip, cfg, augment, loop, found, *rest)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(train_image.ImageTask, "__init__", kept)
            line = ["--resume"] if resume else begin
            line += ["--bundle", str(bundles[bundle])] if bundle else []
            train.main([*common, *line, *more])
        return seen[0]

    return go


def test_a_run_goes_on_with_the_pictures_that_were_painted_for_it(painting, tmp_path, capsys):
    assert painting("one", "--painted-count", "5") == 5
    assert painting(None, "--steps", "3", resume=True) == 5, "without --bundle too"
    (tmp_path / "run" / "last.pt").unlink()  # as if it had been stopped before its first checkpoint
    for bundle, count in (("two", "5"), ("one", "6")):
        with pytest.raises(SystemExit):
            painting(bundle, "--painted-count", count)
        assert "made with another bundle, data set or --painted-count" in capsys.readouterr().err
    assert painting("one", "--painted-count", "5") == 5
    with pytest.raises(SystemExit):
        painting(None, "--init", str(tmp_path / "run"), resume=True)
    assert "leave out --init" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("part", "flag"),
    [
        ("image", "--compile"),
        ("image", "--bf16"),
        ("image", "--text-width"),
        ("text", "--compile"),
        ("text", "--image-size"),
    ],
)
def test_no_flag_is_offered_that_would_do_nothing(part, flag, capsys):
    with pytest.raises(SystemExit) as caught:
        train.main([part, "--help"])
    assert caught.value.code == 0 and flag not in capsys.readouterr().out


def test_held_out_pictures_need_no_chinese_names(fixtures, tmp_path, world):
    rows = [json.loads(line) for line in (fixtures / "manifest.jsonl").open(encoding="utf-8")]
    for row in rows:
        row["captions_zh"] = []
    for path in (fixtures / "images").parent.iterdir():
        if path.name != "manifest.jsonl":
            (tmp_path / path.name).symlink_to(path)
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    found = train_text.held_out(str(tmp_path), world / "phrases.npy")
    assert list(found) == ["english"]
    for row in rows:
        row["split"] = "train"
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    with pytest.raises(ValueError, match="has no held-out pictures"):
        train_text.held_out(str(tmp_path), world / "phrases.npy")


def test_pictures_of_no_size_are_refused(world, bundle, capsys):
    runs = ["--image", str(world / "image"), "--text", str(world / "text")]
    with pytest.raises(SystemExit) as caught:
        export.main([*runs, "--size", "0", str(bundle)])
    assert caught.value.code == 2 and "size is 0: it must be at least 32" in capsys.readouterr().err


def test_runs_that_do_not_belong_together(world, bundle, capsys):
    with pytest.raises(SystemExit) as caught:
        export.main(["--image", str(world / "text"), "--text", str(world / "text"), str(bundle)])
    assert caught.value.code == 2 and "no runs of one CLIP" in capsys.readouterr().err


def test_the_bench_measures_a_bundle(bundle, fixtures, tmp_path, capsys):
    words = ["--data", str(fixtures), "--bundle", str(bundle), "--no-teacher", "--card"]
    bench_clip.main([*words, "--json", str(tmp_path / "f.json")])
    metrics = checkpoints.load(bundle).card["clip"]["metrics"]
    assert metrics == json.loads((tmp_path / "f.json").read_text())
    assert metrics["concepts"]["en"]["clip"]["pictures"] == 13  # held out, photographs aside
    assert 0 <= metrics["style"]["name@1"] <= 1 and metrics["style"]["sets"] == ["noto-v1"]
    assert metrics["cpu_ms_a_cutout"] > 0
    assert "| en, clip |" in capsys.readouterr().out
    assert checkpoints.load(bundle).clip is not None  # the card still fits its files


def test_the_bench_wants_a_clip(tmp_path, tiny_vqgan, fixtures, capsys):
    path = checkpoints.save(tmp_path / "n", name="n", vqgan=tiny_vqgan, card={})
    with pytest.raises(SystemExit) as caught:
        bench_clip.main(["--data", str(fixtures), "--bundle", str(path)])
    assert caught.value.code == 2 and "has no CLIP" in capsys.readouterr().err
    assert model.CONFIG == "clip.json"
