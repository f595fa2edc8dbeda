"""The command: what it writes, what it says, and exit code 2 with one line on bad input."""

import os

import numpy as np
import pytest
from PIL import Image

import checkpoints
from vqgan.rebuild import rebuild
from vqgan.reconstruct import main


@pytest.fixture
def bundle(tiny_vqgan, tmp_path) -> str:
    return str(checkpoints.save(tmp_path / "tiny", name="tiny", vqgan=tiny_vqgan, card={}))


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "in.png"
    Image.linear_gradient("L").convert("RGB").resize((50, 40)).save(path)
    return path


def fails(capsys, *argv) -> str:
    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in argv])
    assert stop.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ")
    return lines[0]


def test_a_picture(bundle, picture, tmp_path, capsys):
    main([str(picture), str(tmp_path / "out.png"), "--bundle", bundle])
    said = capsys.readouterr().out
    r = rebuild(checkpoints.load(bundle).vqgan, checkpoints.metric(), Image.open(picture), 128)
    assert np.array_equal(np.array(Image.open(tmp_path / "out.png")), np.array(r.image))
    for figure in (
        f"PSNR {r.psnr:.2f} dB",
        f"SSIM {r.ssim:.3f}",
        f"perceptual distance {r.distance:.3f}",
        f"{r.distinct_codes} distinct codes of 32",
        f"{r.bits_per_pixel:.3f} bits per pixel",
    ):
        assert figure in said


def test_native_size_and_a_folder_as_target(bundle, picture, tmp_path):
    (tmp_path / "there").mkdir()
    main([str(picture), str(tmp_path / "there"), "--bundle", bundle, "--size", "native"])
    assert Image.open(tmp_path / "there" / "in.png").size == (50, 40)


def test_a_folder_keeps_its_layout_and_two_pictures_of_one_name(bundle, tmp_path, capsys):
    source, out = tmp_path / "pictures", tmp_path / "out"
    (source / "deep").mkdir(parents=True)
    image = Image.new("RGB", (20, 20), "teal")
    for name in ("a.png", "a.jpg", "deep/b.webp"):
        image.save(source / name)
    (source / "notes.txt").write_text("not a picture")
    main([str(source), str(out), "--bundle", bundle])
    written = sorted(p.relative_to(out).as_posix() for p in out.rglob("*.png"))
    assert written == ["a.jpg.png", "a.png.png", "deep/b.png"]
    assert "mean of 3: PSNR" in capsys.readouterr().out
    for _ in range(2):  # what the first time has written there is no picture of the second
        main([str(source), str(source / "out"), "--bundle", bundle])
        assert "mean of 3: PSNR" in capsys.readouterr().out
    assert not (source / "out" / "out").exists()


def test_a_picture_that_cannot_be_written_leaves_nothing(bundle, picture, tmp_path, monkeypatch):
    def full(image, file, kind):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(SystemExit):
        main([str(picture), str(tmp_path / "out" / "a.png"), "--bundle", bundle])
    assert not list((tmp_path / "out").iterdir())


def test_one_bad_picture_of_a_folder_is_named_and_the_rest_done(bundle, tmp_path, capsys):
    source = tmp_path / "pictures"
    source.mkdir()
    Image.new("RGB", (20, 20)).save(source / "good.png")
    (source / "bad.png").write_bytes(b"")
    with pytest.raises(SystemExit) as stop:
        main([str(source), str(tmp_path / "out"), "--bundle", bundle])
    assert stop.value.code == 2
    assert "error: bad.png is empty" in capsys.readouterr().err
    assert (tmp_path / "out" / "good.png").is_file()


def test_bad_input(bundle, picture, tmp_path, capsys):
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "none").mkdir()
    out = tmp_path / "out.png"
    ok = ("--bundle", bundle)
    assert "known format" in fails(capsys, tmp_path / "text.png", out, *ok)
    assert "there is no file" in fails(capsys, tmp_path / "gone.png", out, *ok)
    assert "no picture in" in fails(capsys, tmp_path / "none", tmp_path / "o", *ok)
    assert "must end in .png" in fails(capsys, picture, tmp_path / "out.jpg", *ok)
    assert "OUT is IN itself" in fails(capsys, picture, picture, *ok)
    assert "OUT is IN itself" in fails(capsys, tmp_path, tmp_path, *ok)
    assert "is a file" in fails(capsys, tmp_path, picture, *ok)
    assert "no bundle 'nope'" in fails(capsys, picture, out, "--bundle", "nope")
    assert "device 'tpu'" in fails(capsys, picture, out, *ok, "--device", "tpu")
    assert not out.exists()


def test_a_name_that_is_no_utf8_is_printed_as_well_as_it_goes(bundle, picture, tmp_path, capsys):
    odd = tmp_path / os.fsdecode("苹果.png".encode("gbk"))
    try:
        picture.rename(odd)
    except (OSError, UnicodeError):
        pytest.skip("this file system takes no such names")
    main([str(odd), str(tmp_path / "out.png"), "--bundle", bundle])
    assert capsys.readouterr().out.encode().count(b": ") and (tmp_path / "out.png").is_file()
