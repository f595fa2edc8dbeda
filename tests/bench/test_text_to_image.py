"""The prompts' bench: which pictures are made, kept, judged and counted as copies."""

import json
from argparse import Namespace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from bench import copies, text_to_image
from bench.judge import EMBEDDING, Judge, Texts
from bench.text_to_image import figures, judged, make, wanted

COLOURS = {"a red apple": (250, 0, 0), "a blue heart": (0, 0, 250)}


class ByColour(Judge):
    """Says "a red apple" to red, "a blue heart" to blue, and nothing to anything else."""

    def embed(self, images):
        found = torch.zeros(len(images), EMBEDDING)
        for i, x in enumerate(images):
            mean = x.mean((1, 2))
            for text, colour in COLOURS.items():
                if int(mean.argmax()) == int(np.argmax(colour)) and mean.max() > mean.min() + 0.5:
                    found[i] = self.texts.embeddings[self.texts.of(text)]
        return found


@pytest.fixture(autouse=True)
def judge(monkeypatch):
    """A judge that knows all prompts, each its own direction."""
    content = json.loads(text_to_image.PROMPTS.read_text())["prompts"]
    english = list(dict.fromkeys(p["english"] for p in content))
    names = [f"n{i}" for i in range(60)]
    texts = Texts(
        (*english, *names),
        torch.eye(len(english) + 60, EMBEDDING),
        tuple(range(len(english), len(english) + 60)),
        tuple(range(len(english))),
    )
    real = {"held_out_plain": 0.5, "known_concepts_rebuilt": 0.8}
    card = {"real_pictures": {k: {"top1": 0.3, "top5": v} for k, v in real.items()}}
    found = ByColour(None, None, texts, {**card, "copies": {"distance": 5.0}})
    monkeypatch.setattr("bench.judge.load", lambda: found)
    return found


def generate(prompt, mode, seed):
    """Right in mode both; in mode prior for even seeds only; never in mode guided."""
    right = mode == "both" or (mode == "prior" and seed % 2 == 0)
    colour = COLOURS.get(prompt, (9, 9, 9)) if right else (9, 9, 9)
    return Image.new("RGB", (128, 128), colour)


def test_every_prompt_and_seed_in_every_mode():
    todo = wanted(["both", "prior"])
    assert len(todo) == len(set(todo)) == 2 * 4 * 60
    assert sum(w.language == "zh" for w in todo) == 2 * 4 * 12
    few = wanted(["both"], limit=6, seeds=2)
    assert len(few) == 12 and len({w.prompt for w in few}) == 6
    assert len({w.category for w in few}) == 5
    for bad in ({"limit": 0}, {"seeds": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            wanted(["both"], **bad)


def test_guided_pictures_do_not_depend_on_the_prior():
    def about(mode, **changed):
        files = {"vqgan.safetensors": "a", "clip.json": "b", "prior.safetensors": "c"} | changed
        return text_to_image.about(SimpleNamespace(card={"sha256": files}), mode)

    assert about("guided") == about("guided", **{"prior.safetensors": "d", "sketch.x": "e"})
    assert about("guided") != about("guided", **{"clip.json": "d"})
    assert about("both") == about("both", **{"sketch.safetensors": "e"})
    assert about("both") != about("both", **{"prior.safetensors": "d"})


def test_pictures_are_kept_and_not_made_twice(tmp_path):
    todo = wanted(["both"], limit=2, seeds=2)
    asked = []

    def counted(*args):
        asked.append(args)
        return generate(*args)

    first = make(todo, counted, tmp_path, "v1".format)
    again = make(todo, counted, tmp_path, "v1".format)
    assert len(asked) == 4 and [m.seconds for m in again] == [m.seconds for m in first]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(first, again, strict=True))
    make(todo, counted, tmp_path, "v2".format)
    assert len(asked) == 8


def test_seconds_of_pictures_from_another_machine_do_not_count(judge, tmp_path, monkeypatch):
    first, second = wanted(["both"], limit=2, seeds=1)
    make([first], generate, tmp_path, str)
    monkeypatch.setattr("platform.node", lambda: "elsewhere")
    made = make([first, second], generate, tmp_path, str)
    assert [m.seconds is None for m in made] == [True, False]
    assert figures(judge, made[1:])["seconds"]["of"] == 1
    assert "seconds" not in figures(judge, made[:1])


def test_figures_are_shares_of_the_real_ones(judge):
    todo = [w for w in wanted(["prior"]) if w.prompt in COLOURS]
    found = figures(judge, make(todo, generate, None, str))
    assert found["pictures"] == 8 and found["groups"] == 2
    assert found["top1"] == found["top5"] == 0.5 and found["of_real"] == 1.0
    assert found["of_known"] == 0.625
    assert found["guessing"] == 0 and found["category"] == {"colours": 0.5}
    guided = [w._replace(mode="guided") for w in todo]
    assert figures(judge, make(guided, generate, None, str))["top5"] == 0


class Colours:
    """Training pictures of one colour each; distance: mean difference."""

    def nearest(self, picture, count=1):
        known = {"apple": (250, 0, 0), "sea": (0, 0, 200)}
        found = [
            SimpleNamespace(
                name=name,
                distance=float(np.abs(picture.reshape(-1, 3).mean(0) - colour).mean()),
                thumbnail=np.full((32, 32, 3), colour, np.uint8),
            )
            for name, colour in known.items()
        ]
        return sorted(found, key=lambda n: n.distance)[:count]


def test_the_whole_run(judge, tmp_path, monkeypatch):
    bundle = SimpleNamespace(name="b", card={"sha256": {}}, path=tmp_path)
    monkeypatch.setattr("checkpoints.load", lambda name: bundle)
    monkeypatch.setattr(text_to_image, "load_index", lambda bundle: Colours())
    args = Namespace(
        modes=["both", "guided"],
        limit=None,
        seeds=1,
        bundle="b",
        pictures=None,
        json=tmp_path / "f.json",
        sheet=tmp_path / "s.webp",
        twins=tmp_path / "t.webp",
    )
    result = judged(args, generate)
    assert json.loads(args.json.read_text())["modes"]["both"]["pictures"] == 60
    both = result["modes"]["both"]
    assert both["top5"] == pytest.approx(2 / 60, abs=1e-3)
    assert both["copies"] == 1 and both["nearest"][0]["training"] == "apple"
    assert result["modes"]["guided"]["copies"] == 0
    assert Image.open(args.sheet).width == 10 * 132 + 4
    assert Image.open(args.twins).width == 10 * 132 + 4
    said = text_to_image.table(result)
    assert said.index("real, held_out_plain") < said.index("mode both")
    assert text_to_image.short("a" * 30) == "a" * 17 + "\u2026" and text_to_image.short("b") == "b"
    assert "1 copies of 60" in said and "mode both                    3.3%" in said


def test_copies_are_nearer_than_held_out_pictures_are(tiny_vqgan, tmp_path, monkeypatch):
    """Held-out pictures 10 to 49 off, training pictures 1 off: the 1st percentile is 10.39."""
    pictures = [
        SimpleNamespace(path=tmp_path / f"{i}.png", row={"kind": "icon"}, split=split)
        for i, split in enumerate(["val"] * 40 + ["train"] * 10)
    ]

    class Far:
        def nearest(self, picture, count=1):
            return [SimpleNamespace(name="", distance=float(picture[0, 0, 0]), thumbnail=None)]

    def rebuilt(vqgan, some):
        return [
            (p.path.stem, Image.new("RGB", (8, 8), (10 + i if p.split == "val" else 1, 0, 0)))
            for i, p in enumerate(some)
        ]

    monkeypatch.setattr(copies, "rebuilt", rebuilt)
    found = copies.calibrate(tiny_vqgan, Far(), pictures)
    assert found["distance"] == pytest.approx(10.39) and found["training"]["found"] == 1
    assert found["held_out"] == {"pictures": 40, "median": 29.5}
    with pytest.raises(ValueError, match="no held-out icons"):
        copies.calibrate(tiny_vqgan, Far(), [p for p in pictures if p.split == "train"])


def test_rebuilt_pictures_went_through_the_codes(tiny_vqgan, tmp_path):
    from vqgan import dataset
    from vqgan.model import reconstruct

    Image.effect_noise((32, 32), 90).convert("RGB").save(tmp_path / "x.png")
    picture = dataset.Picture(tmp_path / "x.png")
    ((name, image),) = copies.rebuilt(tiny_vqgan, [picture])
    x = dataset.to_tensor(dataset.whole(picture, 32).copy())[None]
    expected = reconstruct(tiny_vqgan, x)[0][0].add(1).mul(127.5).movedim(0, -1).detach()
    assert name == "x" and np.abs(np.array(image) - expected.numpy()).mean() < 10  # bfloat16


def test_bad_input_is_one_line(capsys, monkeypatch):
    for argv in (["--limit", "0"], ["--bundle", "none-such"]):
        with pytest.raises(SystemExit) as stop:
            text_to_image.main(argv)
        assert stop.value.code == 2
        assert capsys.readouterr().err.strip().startswith("error: ")
