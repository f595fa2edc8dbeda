"""The weights in this checkout: there, whole, trained, and as good as their card says."""

import hashlib
import re

import pytest

import checkpoints
from bench.quality import choose, measure, summarise
from checkpoints.bundle import FOLDER, METRIC

PATH = FOLDER / checkpoints.DEFAULT
TOLERANCE = 0.05  # dB; another processor may round a latent to another code
UNTRAINED = 15.0  # dB; random weights give about 7, a picture of one grey about 11
MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def bundle():
    return checkpoints.load(PATH)


def test_the_files_are_there_and_small_enough():
    for name in ("config.json", "vqgan.safetensors", "README.md", "log.csv"):
        assert (PATH / name).is_file(), name
    sizes = [p.stat().st_size for p in FOLDER.rglob("*") if p.is_file()]
    assert max(sizes) <= 45 * MEGABYTE and sum(sizes) <= 120 * MEGABYTE
    assert METRIC.stat().st_size < 6 * MEGABYTE


def test_every_file_is_the_one_that_the_card_names(bundle):
    named = bundle.card["sha256"]
    assert "vqgan.safetensors" in named
    for name, expected in named.items():
        assert hashlib.sha256((PATH / name).read_bytes()).hexdigest() == expected, name
    assert {p.name for p in PATH.glob("*.safetensors")} <= named.keys()


def test_the_model_card_names_every_file_with_its_size():
    section = (PATH / "README.md").read_text("utf-8").split("\n## Files\n")[1].split("\n## ")[0]
    rows = [line.split(" | ") for line in section.splitlines() if line.startswith("| `")]
    named = [re.findall("`(.+?)`", names) for names, *_ in rows]
    there = {p.name + "/" * p.is_dir() for p in PATH.iterdir()} - {"README.md"}
    assert {name for names in named for name in names} == there
    for names, (_, said, _) in zip(named, rows, strict=True):
        files = [f for name in names for f in (PATH / name, *(PATH / name).rglob("*"))]
        size = sum(f.stat().st_size for f in files if f.is_file()) / 1e6
        assert float(said) == pytest.approx(size, rel=0.01, abs=0.05), names


def test_the_card_is_whole(bundle):
    card = bundle.card
    assert card["name"] == checkpoints.DEFAULT
    assert card["tokenizer_id"] == bundle.tokenizer_id == checkpoints.tokenizer_id(bundle.vqgan)
    assert bundle.tokenizer_id.startswith("67ba49a89ddb")  # tokens and priors elsewhere name it
    training = card["training"]
    assert training["steps"] > 0 and training["hours"] > 0 and training["command"]
    assert re.fullmatch("[0-9a-f]{64}", training["data_sha256"])
    assert training["licences"] and training["attribution"]
    for split in ("val", "fixtures"):
        assert card["metrics"][split]["pictures"] > 0, split
        assert card["metrics"][split]["command"]


def test_nothing_names_a_folder_of_the_computer_that_trained_it():
    text = (PATH / "config.json").read_text() + (PATH / "log.csv").read_text()
    assert not re.search(r"(?<![\w./:])/(root|home|work|tmp|data|mnt)/", text)


def test_the_fixture_pictures_come_back_as_well_as_the_card_says(bundle, fixtures):
    said = bundle.card["metrics"]["fixtures"]
    pictures = choose(fixtures, "all", None)
    rows, counts = measure(bundle.vqgan, pictures, size=bundle.card["preprocess"]["size"])
    found = summarise(rows, counts)
    assert found["pictures"] == said["pictures"]
    for name in ("psnr", "fg_psnr"):
        assert found[name] == pytest.approx(said[name], abs=TOLERANCE), name
    assert found["psnr"] > UNTRAINED and found["codes_used"] > 100


def test_the_decoders_of_the_live_experiment_differ_in_one_loss_only(bundle, fixtures):
    entries = bundle.card["decoders"]
    off = {name: entry["off"] for name, entry in entries.items()}
    assert off == {"all-on": [], "no-gan": ["gan"], "no-perceptual": ["perceptual", "gan"]}
    loops = [entry["loop"] for entry in entries.values()]
    assert all(loop == loops[0] for loop in loops) and loops[0]["steps"] == 900
    pictures = choose(fixtures, "all", None)[:8]
    size = bundle.card["preprocess"]["size"]
    found = {}
    for name, decoder in {"shipped": bundle.vqgan, **bundle.decoders}.items():
        rows, counts = measure(decoder, pictures, size=size)
        found[name] = summarise(rows, counts)["psnr"]
    assert min(found.values()) > UNTRAINED + 3
    # Pixel losses alone come nearest in pixels; the GAN pays for its edges with them.
    assert found["no-perceptual"] > found["no-gan"] > found["all-on"]
