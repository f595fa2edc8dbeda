"""The measure of sketches: what agrees, what does not, and the command on a tiny bundle."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import checkpoints
from bench import sketches
from prior.model import GPT, PriorConfig
from prior.sketch import SketchReader, config_for, edges


def boxes(*lefts: int) -> np.ndarray:
    """White pictures of 32 pixels, each with a black box that begins at its column."""
    found = np.full((len(lefts), 32, 32, 3), 255, np.uint8)
    for picture, left in zip(found, lefts, strict=True):
        picture[8:24, left : left + 10] = 0
    return found


def lines_of(pictures: np.ndarray) -> torch.Tensor:
    x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float().div(127.5).sub(1)
    return edges(x)[:, 1:]


def test_agreement_falls_with_the_way_between_lines():
    pictures = boxes(4, 4, 4, 4)
    asked = lines_of(boxes(4, 6, 10, 18))
    found = sketches.agreement(asked, pictures)
    assert found[0] == 1 and found[1] == 1  # two pixels off counts as there
    assert found[1] > found[2] > found[3]
    blank = sketches.agreement(asked[:1], np.full((1, 32, 32, 3), 255, np.uint8))
    assert blank == 0


def test_lines_where_nothing_was_drawn_count_against_a_picture():
    busy = boxes(4)
    busy[0, 2:30, 22:28] = (200, 0, 0)
    asked = lines_of(boxes(4))
    assert sketches.agreement(asked, busy) < 0.85 < sketches.agreement(asked, boxes(4))


@pytest.fixture
def bundle(tiny_vqgan, tmp_path):
    torch.manual_seed(0)
    cfg = tiny_vqgan.config
    side = cfg.resolution // cfg.downsampling
    config = PriorConfig(cfg.codebook_size, side, side, layers=1, heads=2, dim=16)
    path = tmp_path / "b"
    checkpoints.save(path, name="b", vqgan=tiny_vqgan, card={}, prior=GPT(config).eval())
    checkpoints.bundle.save_sketch(path, SketchReader(config_for(config, cfg.downsampling, 8)), {})
    return path


def test_the_command_measures_held_out_drawings_and_draws_a_sheet(
    bundle, tiny_vqgan, tmp_path, capsys
):
    data, side = tmp_path / "data", tiny_vqgan.config.resolution
    data.mkdir()
    rows = []
    for i in range(20):
        picture = Image.new("RGB", (side, side), "white")
        picture.paste((9 * i, 0, 0), (4, 4, side // 2, side // 2))
        picture.save(data / f"{i}.png")
        row = {"path": f"{i}.png", "mask": None, "kind": "icon", "captions": []}
        rows.append(json.dumps(row | {"split": "val" if i % 2 else "train"}))
    (data / "manifest.jsonl").write_text("\n".join(rows))
    files = ["--sheet", str(tmp_path / "s.webp"), "--json", str(tmp_path / "f.json")]
    command = ["--data", str(data), "--bundle", str(bundle), *files]
    sketches.main([*command, "--limit", "9"])
    figures = json.loads((tmp_path / "f.json").read_text())
    assert figures["pictures"] == 9
    # A reader that adds nothing writes what is written without it, however strong the pull.
    assert figures["along its lines"] == figures["written without lines"]
    assert Image.open(tmp_path / "s.webp").size[0] > 8 * side
    assert "along its lines" in capsys.readouterr().out
    sketches.main([*command, "--limit", "2", "--card"])
    card = checkpoints.load(bundle).card
    assert card["sketch"]["metrics"]["agreement"]["pictures"] == 2
    assert Image.open(tmp_path / "s.webp").size[0] < 3 * side
    with pytest.raises(SystemExit) as stop:
        sketches.main(["--data", str(data), "--bundle", str(bundle), "--limit", "1"])
    assert stop.value.code == 2 and "at least 2" in capsys.readouterr().err
