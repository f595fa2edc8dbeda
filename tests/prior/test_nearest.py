"""The index of training pictures: what is near, and the file it lies in."""

import json

import numpy as np
import pytest
from PIL import Image

import checkpoints
from prior import index as command
from prior import nearest
from prior.model import GPT, PriorConfig
from prior.nearest import FILE, SIDE, Training, gather, measure, reduce
from vqgan import dataset
from vqgan.model import VQGAN, VQGANConfig

TINY = VQGANConfig(
    resolution=32, ch=8, ch_mult=(1, 1, 2, 2), num_res_blocks=1, attn_resolutions=(),
    mid_attn=False, num_groups=2, z_channels=8, codebook_size=16, embed_dim=4,
)  # fmt: skip


@pytest.fixture(scope="module")
def pictures(fixtures) -> list[dataset.Picture]:
    return [dataset.Picture(p.path) for p in dataset.scan(fixtures)[:20]]


@pytest.fixture(scope="module")
def training(pictures) -> Training:
    return gather(pictures)


def test_a_picture_finds_itself_and_its_mirror_image(training, pictures):
    for i in (0, 7, 19):
        picture = dataset.whole(pictures[i], 128)
        (found,) = training.nearest(picture)
        assert found.name == pictures[i].path.stem and found.distance < 1 and not found.mirrored
        (found,) = training.nearest(np.ascontiguousarray(picture[:, ::-1]))
        assert found.name == pictures[i].path.stem and found.distance < 1


def test_the_distance_is_the_root_mean_squared_difference(training):
    grey = np.full((64, 64, 3), 100, np.uint8)
    flat = reduce(training.thumbnails, 16)
    expected = np.sqrt(((flat - 100) ** 2).mean((1, 2, 3)))
    found = training.nearest(grey, 20)
    assert [f.name for f in found] == [training.names[i] for i in np.argsort(expected)]
    assert np.allclose([f.distance for f in found], np.sort(expected), atol=0.05)


def test_the_file_gives_back_nearly_the_same_thumbnails(training, tmp_path):
    kept = Training(training.thumbnails, training.names, training.sets, (3.0, 30.0))
    size = kept.save(tmp_path / FILE)
    assert size == (tmp_path / FILE).stat().st_size < 30_000
    back = Training.load(tmp_path / FILE)
    assert back.names == kept.names and back.sets == kept.sets and back.scale == (3.0, 30.0)
    assert back.thumbnails.shape == (20, SIDE, SIDE, 3)
    off = np.abs(back.thumbnails.astype(int) - kept.thumbnails).mean((1, 2, 3))
    others = np.abs(back.thumbnails.astype(int) - np.roll(kept.thumbnails, 1, 0)).mean((1, 2, 3))
    assert off.max() < 24 and np.median(others) > 4 * np.median(off)  # it is lossy


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04"])
def test_another_file_is_refused(tmp_path, content):
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(ValueError, match="no index of training pictures"):
        Training.load(tmp_path / FILE)


def test_of_too_many_pictures_some_are_taken_evenly(pictures, monkeypatch):
    monkeypatch.setattr(nearest, "MOST", 5)
    found = gather(pictures)
    assert found.names == tuple(pictures[i].path.stem for i in (0, 5, 10, 14, 19))


def test_the_sheet_is_no_decompression_bomb_to_pillow(training, tmp_path, monkeypatch):
    assert nearest.MOST * SIDE**2 < Image.MAX_IMAGE_PIXELS
    assert -(-nearest.MOST // nearest.COLUMNS) * SIDE < 65_536, "AVIF is no higher"
    training.save(tmp_path / FILE)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match="no index of training pictures"):
        Training.load(tmp_path / FILE)


def test_a_pillow_without_avif_is_a_sentence_before_anything_is_read(monkeypatch, capsys):
    monkeypatch.setattr(nearest.features, "check", lambda name: name != "avif")
    with pytest.raises(SystemExit) as end:
        command.main(["--data", "nowhere"])
    assert end.value.code == 2 and "this Pillow writes no AVIF" in capsys.readouterr().err


def test_what_a_distance_means_is_measured(training):
    own = [np.kron(training.thumbnails[i], np.ones((4, 4, 1), np.uint8)) for i in range(3)]
    far = [np.zeros((32, 32, 3), np.uint8)] * 2
    low, high = measure(training, own, far)
    assert low < 0.5 < 50 < high


def test_the_command_indexes_what_the_prior_was_trained_on(tmp_path, capsys):
    card = {"prior": {"training": {"train": {"kinds": ["icon"]}}}}
    prior = GPT(PriorConfig(codebook_size=16, height=4, width=4, layers=1, heads=1, dim=8))
    saved = {"name": "tiny", "vqgan": VQGAN(TINY), "prior": prior, "card": card}
    bundle = checkpoints.save(tmp_path / "bundle", **saved)
    rows = []
    for i, (split, kind) in enumerate(
        [("train", "icon"), ("train", "photo"), ("val", "icon"), ("train", "icon")]
    ):
        Image.new("RGB", (40, 40), (60 * i, 80, 200)).save(tmp_path / f"{i}.png")
        rows.append({"path": f"{i}.png", "kind": kind, "split": split, "name": f"n{i}", "set": "s"})
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    command.main(["--data", str(tmp_path), "--bundle", str(bundle)])
    index = Training.load(bundle / FILE)
    assert index.names == ("n0", "n3") and index.scale is not None  # no photo, nothing held out
    assert "2 pictures" in capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        command.main(["--data", str(tmp_path / "nowhere"), "--bundle", str(bundle)])
    assert end.value.code == 2 and "is not a folder" in capsys.readouterr().err
