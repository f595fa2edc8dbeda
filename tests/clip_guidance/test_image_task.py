"""The image side: contrast and recall by hand, batches, an exact resume."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from clip_guidance import image_task, model, pictures
from clip_guidance.augment import AugmentConfig
from clip_guidance.config import ClipConfig
from clip_guidance.image_task import ImageTask, ImageTrainConfig, contrast, recalls
from training.chance import Epochs
from training.loop import LoopConfig, run
from vqgan import dataset


def unit(*rows):
    return F.normalize(torch.tensor(rows, dtype=torch.float32), dim=-1)


def test_contrast_by_hand():
    """Two orthogonal phrases and one other; targets nearly one-hot at a low temperature."""
    texts = unit([1, 0], [0, 1], [-1, 0])
    images = unit([1, 0], [1, 1])
    to_texts, to_images = contrast(images, texts, torch.tensor([0, 1]), torch.tensor(2.0), 0.01)
    r = math.sqrt(2)
    first = -2 + math.log(math.exp(2) + 1 + math.exp(-2))
    second = -r + math.log(2 * math.exp(r) + math.exp(-r))
    assert float(to_texts) == pytest.approx((first + second) / 2, abs=1e-5)
    column0 = -2 + math.log(math.exp(2) + math.exp(r))
    column1 = -r + math.log(1 + math.exp(r))
    assert float(to_images) == pytest.approx((column0 + column1) / 2, abs=1e-5)


def test_phrases_of_like_meaning_are_no_negatives():
    """A picture that fits "an apple" is hardly punished for fitting "a red apple" too."""
    texts = unit([1, 0, 0], [1, 0.1, 0], [0, 0, 1])
    image, own = unit([1, 0.05, 0]), torch.tensor([0])
    alike, _ = contrast(image, texts, own, torch.tensor(30.0), 0.05)
    told_apart, _ = contrast(image, texts, own, torch.tensor(30.0), 1e-4)
    best = -(0.5 * math.log(0.5)) * 2
    assert float(alike) == pytest.approx(best, abs=0.05)
    pulled, _ = contrast(unit([1, -0.5, 0]), texts, own, torch.tensor(30.0), 0.05)
    assert float(pulled) > float(alike) + 0.15 and float(told_apart) > 0.6


def test_recalls_by_hand():
    texts = torch.eye(4)
    images = texts[[1, 0, 2, 3]]  # the first two are swapped
    figures = recalls(images, texts, ["a", "b", "c", "d"], at=(1, 2))
    assert figures["find@1"] == figures["name@1"] == 0.5
    assert figures["find@2"] == 1.0
    same = recalls(images, texts, ["a", "a", "c", "d"], at=(1,))
    assert same == {"find@1": 1.0, "name@1": 1.0}  # any of the same concept is a hit


def test_a_text_that_comes_twice_is_one_candidate():
    texts = torch.eye(3)[[0, 0, 1]]
    images = unit([1, 0, 0], [0, 1, 0], [0, 1, 0])
    figures = recalls(images, texts, ["a", "a", "b"], at=(1,))
    assert figures == pytest.approx({"find@1": 1 / 2, "name@1": 2 / 3})


@pytest.fixture(scope="module")
def data(request):
    folder = request.getfixturevalue("fixtures")
    return pictures.read(dataset.scan(folder), 40)


def small():
    """The bundled CLIP's shape with timm's smallest EfficientNet."""
    config = ClipConfig(embed_dim=8, image_size=32, text_width=8).open_clip()
    config["model_cfg"]["vision_cfg"]["timm_model_name"] = "test_efficientnet"
    return model.create(config)


def task(data, loop=None, **changes):
    cfg = ImageTrainConfig(
        **{"batch": 4, "size": 32, "frozen_stages": 1, "negatives": 8, "held_out": 4} | changes
    )
    torch.manual_seed(0)
    clip = small()
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((len(data), 3, 8))
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    loop = loop or LoopConfig(steps=4, lr=1e-3, warmup=1)
    return ImageTask(clip, cfg, AugmentConfig(), loop, data, vectors)


def test_held_out_pictures_and_styles_are_not_trained_on(data):
    found = task(data, leave_out=("noto-v1",))
    rows = [data.rows[i] for i in found.train]
    assert rows and all(r["split"] == "train" and r["set"] != "noto-v1" for r in rows)
    assert any(r["set"] == "noto-v1" for r in data.rows)
    seen = torch.cat([found.batch(step)[1] for step in range(len(found.train) // 4)])  # an epoch
    assert set(seen.tolist()) <= set(found.train.tolist())
    assert len(set(seen.tolist())) == len(seen)


def test_a_manifest_needs_neither_sets_nor_concepts(data):
    """Like that of `data.build`, as the README allows: id, path, kind, split and captions."""
    wanted = ("id", "path", "kind", "split", "captions")
    rows = [{key: row[key] for key in wanted} for row in data.rows]
    found = task(replace(data, rows=rows))
    assert len(found.train) == sum(row["split"] == "train" for row in rows)
    assert 0 <= found.evaluate(0, None)["find@10"] <= 1


def test_frozen_stages_stay_and_the_rest_learns(data):
    found = task(data, frozen_stages=2)
    before = {k: v.clone() for k, v in found.tower.state_dict().items()}
    found.train_step(0)
    changed = {k for k, v in found.tower.state_dict().items() if not torch.equal(v, before[k])}
    frozen = ("trunk.conv_stem", "trunk.bn1", "trunk.blocks.0", "trunk.blocks.1")
    assert not any(k.startswith(frozen) for k in changed)
    assert {"head.proj.weight", "trunk.blocks.2.0.bn1.running_mean"} <= changed


def test_it_learns_the_pictures_it_sees(data):
    found = task(data, LoopConfig(steps=40, lr=1e-2, warmup=1), batch=6, frozen_stages=0)
    found.train, found.vectors = found.train[:6], found.vectors[:, :1]
    found.epochs = Epochs(6, 6, 0)
    found.bank = found.vectors[found.train].flatten(0, 1)
    first = found.train_step(0)["cosine"]
    last = [found.train_step(step)["cosine"] for step in range(1, 9)][-1]
    assert last > first + 0.3


def test_resume_is_exact(data, tmp_path):
    def go(folder, minutes, resume):
        loop = LoopConfig(steps=2, lr=1e-3, warmup=1, sample_every=1, minutes=minutes)
        found = task(data, loop)
        assert run(found, loop, tmp_path / folder, {}, resume) == 1 + (not minutes)
        return found

    whole = go("whole", 0, False)
    go("parts", 1e-9, False)  # stops after its first step
    rest = go("parts", 0, True)
    for name, value in whole.state_dict()["tower"].items():
        assert torch.equal(value, rest.state_dict()["tower"][name]), name
    for name, value in whole.ema.shadow.items():
        assert torch.equal(value, rest.ema.shadow[name]), name


def test_resuming_takes_the_optimiser_settings_that_are_given_now(data):
    old, resumed = (task(data, trunk_lr=x, weight_decay=x / 8) for x in (0.5, 0.25))
    resumed.load_state_dict(old.state_dict())
    given = [(g["lr_scale"], g["weight_decay"]) for g in resumed.opt.param_groups]
    assert set(given) == {(0.25, 0.25 / 8), (0.25, 0.0), (1.0, 0.25 / 8), (1.0, 0.0)}


def test_painted_pictures_take_the_place_of_some(data, fixtures):
    found = dataset.scan(fixtures)

    class Grey:
        """A VQGAN that paints everything grey."""

        config = type("C", (), {"resolution": 32})

        def encode(self, images):
            return type("E", (), {"quantized": images})

        def decode(self, z):
            return torch.zeros_like(z)

    painted, of = pictures.paint(found, Grey(), 5, 40)
    assert painted.shape == (5, 40, 40, 3) and (painted == 128).all()
    assert (of >= 0).sum() == 5 and all(found[i].split == "train" for i in np.flatnonzero(of >= 0))
    both = pictures.Pictures(data.rows, data.pixels, data.masks, painted, of)
    picks = np.array([np.flatnonzero(of >= 0)[0], np.flatnonzero(of < 0)[0]])
    images, _ = both.tensors(picks, np.array([True, True]))
    assert images[0].abs().max() < 0.01 and images[1].std() > 0.1
    assert both.tensors(picks, np.array([False, False]))[0][0].std() > 0.05


@pytest.mark.parametrize(
    "bad", [{"size": 8}, {"frozen_stages": 8}, {"soft": 0}, {"align": -1}, {"painted": 2}]
)
def test_bad_values(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        ImageTrainConfig(**bad)


def test_a_batch_is_shared_evenly_among_processes(data, monkeypatch):
    """Else some pictures of each batch would never be seen."""
    monkeypatch.setattr("training.distributed.world_size", lambda: 3)
    with pytest.raises(ValueError, match="batch is 8: it must be a multiple of 3 processes"):
        task(data, batch=8)


def test_vectors_that_do_not_fit(data):
    clip = small()
    args = (ImageTrainConfig(), AugmentConfig(), LoopConfig(), data)
    with pytest.raises(ValueError, match="vectors have shape"):
        ImageTask(clip, *args, np.zeros((len(data), 3, 9)))


def test_pictures_without_words_are_refused(tmp_path):
    from PIL import Image

    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="no captions"):
        pictures.read(dataset.scan(tmp_path), 16)
    assert image_task.SIDED.search("left arrow") and not image_task.SIDED.search("a cleft apple")
