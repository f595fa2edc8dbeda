"""The time-lapse: which moments are taken, what is on a picture, and the two commands."""

import json
from itertools import product

import numpy as np
import pytest
import torch
from PIL import Image

import checkpoints
from checkpoints import timelapse
from checkpoints.timelapse import COLUMNS, GAP, Moment, frame, moments, order, snapshot, spread
from training import checkpoint
from vqgan.codebook import by_similarity, decode_cells, in_rows, look, mosaic

S = 16  # pixels, side of a held-out picture here


def strip(path, seed: int) -> np.ndarray:
    """Ten random originals above ten random reconstructions."""
    pixels = np.random.default_rng(seed).integers(0, 256, (2 * S, 10 * S, 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


@pytest.fixture
def run(tmp_path):
    """A run of 300 steps in half an hour, sampled every 100."""
    folder = tmp_path / "run"
    for step in (100, 200, 300):
        strip(folder / "samples" / f"{step:07d}.png", step)
    log = "step,hours,l1\n9,0.05,1\n99,0.1,1\n199,0.3,1\n299,0.5,1\n"
    (folder / "log.csv").write_text(log)
    return folder


def test_a_moment_says_what_was_trained_and_how_well(run):
    header = "step,hours,l1,perceptual,lambda,val_psnr,val_codes\n"
    (run / "log.csv").write_text(
        header + "98,0.1,1,,,,\n99,0.11,,,,20.123,\n198,0.3,1,2,,,\n199,0.31,,,,21,32\n"
        "298,0.5,1,2,0.7,,\n299,0.51,,,,22.5,30\n"
    )
    strip(run / "codes" / "0000050.png", 0)  # of a codebook that was not in use until later
    found = moments([run])
    assert [m.psnr for m in found] == [20.123, 21, 22.5]
    assert [m.losses for m in found] == [("pixels",), ("pixels", "vgg"), ("pixels", "vgg", "gan")]
    assert [m.codes is not None for m in found] == [False, True, True]
    assert [m.minutes for m in found] == pytest.approx([6.6, 18.6, 30.6])


def test_moments_of_runs_that_went_on_from_each_other(run, tmp_path):
    second = tmp_path / "second"
    strip(second / "samples" / "0000050.png", 0)
    (second / "log.csv").write_text("step,hours\n49,1.0\n")
    for step in (150, 250):
        strip(run / "codes" / f"{step:07d}.png", 0)
    found = moments([run, second])
    assert [m.step for m in found] == [100, 200, 300, 350]
    assert [m.minutes for m in found] == pytest.approx([6, 18, 30, 90])
    assert [m.codes and m.codes.stem for m in found] == [None, "0000150", "0000250", None]


def test_spread_keeps_both_ends_and_more_of_the_beginning():
    found = [Moment(None, None, minutes, 0) for minutes in range(1, 101)]
    picked = [m.minutes for m in spread(found, 6)]
    assert picked[0] == 1 and picked[-1] == 100 and len(picked) == 6
    assert (np.diff(picked, 2) > 0).all()
    assert len(spread(found[:3], 30)) == 3


def test_a_frame_shows_pairs_and_the_codebook_in_its_places(tmp_path):
    pixels = strip(tmp_path / "s.png", 1)
    cells = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3), np.uint8)
    Image.fromarray(mosaic(cells, in_rows(np.arange(5)))).save(tmp_path / "c.png")
    places = np.array([[4, 1, 0], [2, 3, -1], [-1, -1, -1]])
    shown = np.asarray(frame(Moment(tmp_path / "s.png", tmp_path / "c.png", 0, 0), places, 4))
    height = 4 * S
    assert shown.shape == (height, COLUMNS * S + GAP + height, 3)
    # The sixth picture stands in the second row, second column; its reconstruction below it.
    assert np.array_equal(shown[2 * S : 4 * S, S : 2 * S], pixels[:, 5 * S : 6 * S])
    codebook = shown[:, COLUMNS * S + GAP :]
    k = height / 12  # pixels of the frame per pixel of a cell
    for code, (row, column) in ((4, (0, 0)), (3, (1, 1))):
        y, x = int((row * 4 + 1.5) * k), int((column * 4 + 2.5) * k)
        assert np.array_equal(codebook[y, x], cells[code, 1, 2])
    assert (codebook[-2:] == 255).all()
    bare = np.asarray(frame(Moment(tmp_path / "s.png", None, 0, 0), places, 4))
    assert (bare[:, COLUMNS * S :] == 255).all()


def test_the_command_writes_pictures_and_their_index(run, tiny_vqgan, tmp_path, capsys):
    bundle = checkpoints.save(tmp_path / "bundle", name="tiny", vqgan=tiny_vqgan, card={})
    (bundle / "timelapse").mkdir()
    (bundle / "timelapse" / "099.webp").write_bytes(b"of an older time-lapse")
    timelapse.main([str(run), "--bundle", str(bundle), "--frames", "2"])
    index = json.loads((bundle / "timelapse" / "index.json").read_text())
    row = {"codes": False, "losses": ["pixels"]}
    assert index["another_run"] is False and index["moments"] == [
        {"file": "000.webp", "minutes": 6.0, "step": 100, **row},
        {"file": "001.webp", "minutes": 30.0, "step": 300, **row},
    ]
    names = sorted(p.name for p in (bundle / "timelapse").iterdir())
    assert names == ["000.webp", "001.webp", "index.json"]
    assert Image.open(bundle / "timelapse" / "001.webp").size == (4 * S, 4 * S)  # no codebook kept
    assert "2 pictures" in capsys.readouterr().out


def checkpoint_of(vqgan, folder, **changed):
    """RUN/last.pt as vqgan.train leaves it, as far as a time-lapse looks."""
    shadow = {k: v.clone() for k, v in vqgan.state_dict().items()} | changed
    state = {"step": 1234, "config": {"model": vqgan.config.to_dict()}}
    checkpoint.save(folder / "last.pt", state | {"task": {"ema": {"shadow": shadow}}})
    return shadow


def test_the_codebook_lies_as_its_last_picture_and_another_run_is_called_so(
    run, tiny_vqgan, tmp_path
):
    bundle = checkpoints.save(tmp_path / "bundle", name="tiny", vqgan=tiny_vqgan, card={})
    f, grey = tiny_vqgan.config.downsampling, np.arange(32, dtype=np.uint8) * 8
    cells = np.broadcast_to(grey[::-1, None, None, None], (32, f, f, 3))  # code 31 is the darkest
    (run / "codes").mkdir()
    for step, shown in ((90, 255 - cells), (290, cells)):
        picture = Image.fromarray(mosaic(shown, in_rows(np.arange(32))))
        picture.save(run / "codes" / f"{step:07d}.png")
    places = order(moments([run]), tiny_vqgan)
    assert np.array_equal(places, by_similarity(look(cells)))
    checkpoint_of(tiny_vqgan, run)
    command = [str(run), "--bundle", str(bundle), "--frames", "2", "--quality", "100"]
    timelapse.main(command)
    index = json.loads((bundle / "timelapse" / "index.json").read_text())
    assert not index["another_run"] and all(row["codes"] for row in index["moments"])
    last = np.asarray(Image.open(bundle / "timelapse" / "001.webp"))[:, COLUMNS * S + GAP :, 0]
    rows, columns = np.indices(places.shape)
    y = ((rows + 0.5) * last.shape[0] / max(places.shape)).astype(int)
    x = ((columns + 0.5) * last.shape[1] / max(places.shape)).astype(int)
    there = places >= 0
    assert np.corrcoef(last[y, x][there], grey[::-1][places[there]])[0, 1] > 0.99
    name = "quantize.embedding.weight"
    checkpoint_of(tiny_vqgan, run, **{name: tiny_vqgan.state_dict()[name].roll(1, 0)})
    timelapse.main(command)
    index = json.loads((bundle / "timelapse" / "index.json").read_text())
    assert index["another_run"]
    Image.new("RGB", (8, 8)).save(run / "codes" / "0000290.png")
    with pytest.raises(ValueError, match="does not show 32 codes"):
        order(moments([run]), tiny_vqgan)


def test_pictures_are_left_out_and_the_next_ones_follow(tmp_path, run, tiny_vqgan):
    pixels = strip(tmp_path / "s.png", 1)
    shown = np.asarray(frame(Moment(tmp_path / "s.png", None, 0, 0), None, 4, leave_out=(2,)))
    assert shown.shape == (4 * S, COLUMNS * S, 3)
    row = [0, 1, 3, 4, 5, 6, 7, 8]
    for place, number in enumerate(row):
        y, x = 2 * S * (place // COLUMNS), S * (place % COLUMNS)
        pair = pixels[:, number * S : number * S + S]
        assert np.array_equal(shown[y : y + 2 * S, x : x + S], pair)
    bundle = checkpoints.save(tmp_path / "bundle", name="tiny", vqgan=tiny_vqgan, card={})
    command = [str(run), "--bundle", str(bundle), "--quality", "100", "--leave-out", "1", "3"]
    timelapse.main(command)
    first = Image.open(run / "samples" / "0000100.png").crop((S, 0, 2 * S, 2 * S))
    kept = Image.open(bundle / "timelapse" / "000.webp").crop((0, 0, S, 2 * S))
    grey = [np.asarray(picture.convert("L")).ravel() for picture in (first, kept)]
    assert np.corrcoef(*grey)[0, 1] > 0.8  # lossy; another picture's noise is not like it at all


def test_no_shipped_moment_shows_the_raised_middle_finger():
    """Its drawing, 8 x 8 grey: its own reconstruction is like it by 0.98, all others by 0.6."""
    finger = bytes.fromhex(
        "fffff8ebf6fffffffffff1dfeefffffffffff4d9eefffffffff7e5d6dfeffdff"
        "ffebdad3d1d3e4fffebed9d5d4d4dfffffe1ced8d9d8e0fffffff4d7e1e8feff"
    )
    folder = checkpoints.bundle.FOLDER / checkpoints.DEFAULT / "timelapse"
    rows = json.loads((folder / "index.json").read_text())["moments"]
    assert len(rows) > 1
    for row in rows:
        picture = Image.open(folder / row["file"]).convert("L")
        side = picture.height  # of the square that the pairs fill; the codebook lies beside it
        for x, y in product(range(0, side, 128), range(0, side, 128)):
            tile = picture.crop((x, y, x + 128, y + 128)).resize((8, 8), Image.Resampling.BOX)
            assert np.asarray(tile).std() > 5, f"{row['file']} is empty at {x}, {y}"
            like = np.corrcoef(list(finger), np.asarray(tile).ravel())[0, 1]
            assert like < 0.8, f"{row['file']} at {x}, {y}"


def test_a_snapshot_is_every_code_by_number_with_averaged_weights(tiny_vqgan, tmp_path, capsys):
    expected = decode_cells(tiny_vqgan)
    checkpoint_of(tiny_vqgan, tmp_path)
    timelapse.main([str(tmp_path), "--snapshot"])
    assert "0001234.png" in capsys.readouterr().out
    shown = np.asarray(Image.open(tmp_path / "codes" / "0001234.png")).astype(int)
    assert np.abs(shown - mosaic(expected, in_rows(np.arange(32)))).max() <= 1
    torch.save({"step": 1}, tmp_path / "last.pt")
    with pytest.raises(ValueError, match="is not a checkpoint of"):
        snapshot(tmp_path)


def test_bad_input_ends_with_one_line(run, tiny_vqgan, tmp_path, capsys):
    bundle = checkpoints.save(tmp_path / "bundle", name="tiny", vqgan=tiny_vqgan, card={})
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "log.csv").write_text("step,hours\n")
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "log.csv").write_text("step,hours\n0,1\n")
    few = tmp_path / "few"
    (few / "samples").mkdir(parents=True)
    (few / "log.csv").write_text("step,hours\n0,1\n")
    Image.new("RGB", (3 * S, 2 * S)).save(few / "samples" / "0000001.png")
    (bundle / "timelapse").mkdir()
    (bundle / "timelapse" / "000.webp").write_bytes(b"of an older time-lapse")
    for arguments, sentence in (
        ([tmp_path / "none", "--bundle", bundle], "has no log.csv"),
        ([empty, "--bundle", bundle], "has not trained yet"),
        ([bare, "--bundle", bundle], "left no samples"),
        (
            [few, "--bundle", bundle],
            "and the time-lapse needs 8: train with --held-out 8",
        ),
        ([run], "give --bundle"),
        ([run, "--bundle", bundle, "--frames", "1"], "--frames must be at least 2"),
        ([run, "--bundle", bundle, "--quality", "0"], "--quality lie between"),
        ([run, "--bundle", bundle, "--leave-out", "0"], "counts the pictures of a strip from 1"),
        ([run, "--bundle", tmp_path / "none"], "there is no bundle"),
        ([tmp_path / "none", "--snapshot"], "no checkpoint at"),
    ):
        with pytest.raises(SystemExit) as stopped:
            timelapse.main([str(a) for a in arguments])
        assert stopped.value.code == 2
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert error.startswith("error: ") and sentence in error
        assert (bundle / "timelapse" / "000.webp").is_file()  # nothing is lost by a mistake
