"""The quality figures by hand on small sets, and what the command writes."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

import checkpoints
from bench import quality
from bench.quality import choose, main, measure, pixel_figures, summarise, table
from vqgan import dataset
from vqgan.images import to_image, to_tensor
from vqgan.metrics import psnr
from vqgan.model import reconstruct


@pytest.fixture
def folder(tmp_path):
    """Six icons of five concepts, one photograph; the even ones and the photograph held out."""
    root, rows = tmp_path / "data", []
    root.mkdir()
    for i in range(7):
        pixels = np.full((32, 32, 3), 255, np.uint8)
        pixels[8:24, 8:24] = np.random.default_rng(i).integers(0, 256, (16, 16, 3))
        Image.fromarray(pixels).save(root / f"{i}.png")
        mask = np.zeros((32, 32), np.uint8)
        mask[8:24, 8:24] = 255
        Image.fromarray(mask).save(root / f"m{i}.png")
        kind = "photo" if i == 6 else "icon"
        row = {"path": f"{i}.png", "kind": kind, "mask": None if i == 6 else f"m{i}.png"}
        row |= {"name": f"icon {i}", "captions": [f"icon {i}"], "set": "drawn"}
        rows.append(row | {"concept": str(min(i, 4)), "split": "train" if i % 2 else "val"})
    (root / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return root


@pytest.fixture
def bundle(tiny_vqgan, tmp_path):
    return checkpoints.save(tmp_path / "tiny", name="tiny", vqgan=tiny_vqgan, card={})


def test_pixel_figures_by_hand():
    x = torch.zeros(1, 3, 16, 16)
    x_hat = x.clone()
    x_hat[..., :4] = 0.2  # a quarter of the pixels: mse 0.01; all of the mask: mse 0.04
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., :4] = 1
    row = pixel_figures(x, x_hat, mask)
    assert row["psnr"] == pytest.approx(10 * math.log10(400), abs=1e-3)
    assert row["fg_psnr"] == pytest.approx(20, abs=1e-3)
    assert "fg_psnr" not in pixel_figures(x, x_hat, None)
    assert pixel_figures(x, x, None)["psnr"] == pytest.approx(106.02, abs=0.01)


def test_means_are_of_each_picture_and_the_other_of_the_error():
    rows = [
        {"path": "a", "error": 0.04, "psnr": 20.0, "ssim": 0.5, "fg_error": 0.04, "fg_psnr": 20.0}
        | {"alex": 0.1, "webp_alex": 0.2},
        {"path": "b", "error": 0.0004, "psnr": 40.0, "ssim": 0.9, "alex": 0.3, "webp_alex": 0.4},
    ]
    s = summarise(rows, torch.tensor([3, 0, 3, 0]))
    assert s["psnr"] == 30 and s["fg_psnr"] == 20 and s["ssim"] == pytest.approx(0.7)
    assert s["psnr_of_mean_error"] == pytest.approx(10 * math.log10(4 / 0.0202), abs=1e-3)
    assert (s["pictures"], s["pictures_with_mask"]) == (2, 1)
    assert (s["codes_used"], s["perplexity"]) == (2, 2)
    assert s["nearer_than_webp_alex"] == 1
    assert "mean of 2 pictures" in table(s) and "2 of 4 (50.0%)" in table(s)
    with pytest.raises(ValueError, match="no picture"):
        summarise([], torch.tensor([1]))


def test_measuring_is_reconstructing_whole_pictures(folder, tiny_vqgan):
    pictures = choose(folder, "val", None)
    assert [p.path.name for p in pictures] == ["0.png", "2.png", "4.png", "6.png"]
    rows, counts = measure(tiny_vqgan, pictures, size=32)
    assert counts.sum() == 4 * 16 * 16
    x = dataset.to_tensor(np.array(Image.open(pictures[1].path)))[None]
    x_hat, indices = reconstruct(tiny_vqgan, x)
    x_hat = to_tensor(to_image(x_hat))
    assert rows[1]["psnr"] == pytest.approx(psnr(x, x_hat).item(), abs=1e-4)
    inner = psnr(x[..., 8:24, 8:24], x_hat[..., 8:24, 8:24]).item()
    assert rows[1]["fg_psnr"] == pytest.approx(inner, abs=1e-4)
    assert "fg_psnr" not in rows[3]
    only = measure(tiny_vqgan, pictures[1:2], size=32)[1]
    assert torch.equal(only, torch.bincount(indices.flatten(), minlength=32))


def test_webp_gets_the_bytes_of_the_codes(folder, tiny_vqgan):
    metric = {"alex": checkpoints.metric()}
    picture = choose(folder, "val", None)[:1]
    row = measure(tiny_vqgan, picture, size=32, metrics=metric)[0][0]
    assert row["code_bytes"] == 16 * 16 * 5 / 8 and row["webp_bytes"] <= row["code_bytes"]
    x = dataset.to_tensor(np.array(Image.open(picture[0].path)))[None]
    x_hat = to_tensor(to_image(reconstruct(tiny_vqgan, x)[0]))
    assert row["alex"] == pytest.approx(metric["alex"](x, x_hat).item(), rel=1e-3)
    assert 0 < row["webp_alex"] < row["alex"]  # an untrained model is no match for WebP
    assert row["webp_full_bytes"] > 0 and row["webp_full_alex"] > 0


def test_choosing(folder):
    assert len(choose(folder, "all", None)) == 7
    assert [p.path.name for p in choose(folder, "val", 2)] == ["0.png", "6.png"]
    for split, limit, said in (("val", 0, "limit is 0"), ("test", None, "no pictures")):
        with pytest.raises(ValueError, match=said):
            choose(folder, split, limit)


def test_the_command(folder, bundle, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(quality, "load_metrics", lambda d: {"alex": checkpoints.metric(d)})
    out = {name: tmp_path / name for name in ("f.json", "sheet.png", "blind")}
    argv = ["--bundle", str(bundle), "--data", str(folder), "--json", str(out["f.json"])]
    main([*argv, "--sheet", str(out["sheet.png"]), "--blind", str(out["blind"]), "--card"])
    said = json.loads(out["f.json"].read_text())
    means = said["means"]
    assert f"full PSNR          {means['psnr']:.2f} dB" in capsys.readouterr().out
    assert said["tokenizer_id"] == checkpoints.load(bundle).tokenizer_id
    assert said["data"] == dataset.identity(folder) and len(said["pictures"]) == 4
    assert means["command"].startswith("python -m bench.quality --bundle tiny --data data")
    assert checkpoints.load(bundle).card["metrics"] == {"val": means}
    assert Image.open(out["sheet.png"]).size == (12 * 36 + 4, 36 + 4)
    assert sorted(p.name for p in out["blind"].iterdir()) == [
        "key.json",
        "originals.png",
        "rebuilt.png",
    ]


def test_a_damaged_picture_is_left_out(folder, bundle, tmp_path, capsys, caplog, monkeypatch):
    """As everywhere: among hours of pictures one must not end the command."""
    monkeypatch.setattr(quality, "load_metrics", lambda _: {})
    (folder / "manifest.jsonl").unlink()
    for i in range(7):
        (folder / f"m{i}.png").unlink()
    whole = (folder / "3.png").read_bytes()
    (folder / "3.png").write_bytes(whole[: len(whole) // 2])
    argv = ["--bundle", str(bundle), "--data", str(folder), "--split", "all"]
    main([*argv, "--sheet", str(tmp_path / "s.png"), "--blind", str(tmp_path / "blind")])
    assert "mean of 6 pictures" in capsys.readouterr().out
    assert "left out 1 of 7 pictures that cannot be opened, the first: 3.png" in caplog.text
    for path in folder.glob("*.png"):
        path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SystemExit):
        main(argv)
    assert "none of the pictures can be opened, 7 in all" in capsys.readouterr().err


def test_bad_input(folder, bundle, tmp_path, capsys):
    def fails(*argv):
        with pytest.raises(SystemExit) as stop:
            main([str(a) for a in argv])
        assert stop.value.code == 2
        return capsys.readouterr().err

    assert "required" in fails()
    ok = ("--bundle", bundle)
    assert "is not a folder" in fails(*ok, "--data", tmp_path / "gone")
    assert "no bundle" in fails("--bundle", "nope", "--data", folder)
    assert "leave out --limit" in fails(*ok, "--data", folder, "--card", "--limit", 2)
