"""Code statistics: what is counted, cut out and kept, the file, and the command that builds it."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import checkpoints
from tests.fakes import TINY
from vqgan.codebook import CONTEXT, FILE, SIDES, CodeStatistics, decode_cells
from vqgan.codebook import __main__ as command
from vqgan.codebook.build import (
    OUTSIDE,
    beside,
    build,
    code_distance,
    encode_all,
    nearest_patches,
    surroundings,
)
from vqgan.dataset import to_tensor
from vqgan.model import VQGAN

SIZE, F = 32, 2  # of the tiny model: 16 x 16 codes


@pytest.fixture(scope="module")
def pictures():
    """Nine smooth random pictures, (9, 32, 32, 3) uint8."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (9, 5, 5, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(p).resize((SIZE, SIZE))) for p in small])


@pytest.fixture(scope="module")
def tiny_vqgan():
    """One model for the module, of 32 codes on 2 x 2 pixels; no test changes it."""
    torch.manual_seed(0)
    return VQGAN(TINY).requires_grad_(False).eval()


@pytest.fixture(scope="module")
def statistics(tiny_vqgan, pictures):
    names = [f"picture {i}" for i in range(len(pictures))]
    return build(
        tiny_vqgan, pictures.__getitem__, names, tokenizer_id="t" * 64, data="nine", quality=100
    )


# --- counting --------------------------------------------------------------------------------


def test_encode_all_agrees_with_the_model(tiny_vqgan, pictures):
    seen = []
    grids, far = encode_all(
        tiny_vqgan, pictures.__getitem__, 9, batch=4, progress=lambda *done: seen.append(done)
    )
    with torch.no_grad():
        encoding = tiny_vqgan.encode(to_tensor(pictures))
    assert (grids == encoding.indices.numpy()).all() and seen == [(4, 9), (8, 9), (9, 9)]
    vectors = tiny_vqgan.quantize.codebook()[encoding.indices].permute(0, 3, 1, 2)
    expected = (encoding.latents - vectors).square().sum(1).sqrt()
    assert far == pytest.approx(expected.detach().numpy(), abs=1e-5)


def test_larger_pictures_are_encoded_fewer_at_once(tiny_vqgan, pictures, monkeypatch):
    monkeypatch.setattr("vqgan.codebook.build.PIXELS_AT_ONCE", 4 * SIZE * SIZE)
    seen = []
    encode_all(tiny_vqgan, pictures.__getitem__, 9, progress=lambda *done: seen.append(done))
    assert seen == [(4, 9), (8, 9), (9, 9)]


def test_gumbel_distance_is_minus_log_of_the_codes_probability(tiny_vqgan):
    torch.manual_seed(0)
    vqgan = VQGAN(replace(tiny_vqgan.config, quantizer="gumbel"))
    with torch.no_grad():
        encoding = vqgan.encode(torch.randn(2, 3, 8, 8))
        scores = vqgan.quantize.proj(encoding.latents)
        best = scores.softmax(1).amax(1)  # the code that was chosen is the most probable one
        assert torch.allclose(code_distance(vqgan, encoding), -best.log(), atol=1e-6)


def test_nearest_patches_by_hand():
    #                 picture 0            picture 1
    grids = np.array([[[0, 0], [0, 2]], [[0, 2], [2, 2]]], np.int32)
    far = np.array([[[0.3, 0.1], [0.2, 0.9]], [[0.15, 0.5], [0.4, 0.4]]], np.float32)
    picture, cell, distance = nearest_patches(grids, far, 4)
    # Code 0: two of picture 0's three, by distance, with picture 1's between them.
    assert picture[0].tolist() == [0, 1, 0] + [-1] * 13
    assert cell[0, :3].tolist() == [[0, 1], [0, 0], [1, 0]]
    assert distance[0, :3] == pytest.approx([0.1, 0.15, 0.2])
    # Code 2: equal distances in reading order; of picture 1's three the farthest is left out.
    assert picture[2].tolist() == [1, 1, 0] + [-1] * 13
    assert cell[2, :3].tolist() == [[1, 0], [1, 1], [1, 1]]
    assert (picture[1] == -1).all() and (picture[3] == -1).all()


def test_nearest_patches_keeps_the_sixteen_nearest():
    far = np.random.default_rng(0).random((40, 1, 1)).astype(np.float32)
    picture, _, distance = nearest_patches(np.zeros((40, 1, 1), np.int32), far, 1)
    assert picture[0].tolist() == np.argsort(far.ravel())[:16].tolist()
    assert distance[0] == pytest.approx(np.sort(far.ravel())[:16])


def test_beside_by_hand():
    grids = np.array([[[0, 1, 2], [0, 1, 0], [0, 2, 2]]], np.int32)
    numbers, counts = beside(grids, 4)
    found = {
        side: dict(zip(numbers[0, i].tolist(), counts[0, i].tolist(), strict=True))
        for i, side in enumerate(SIDES)
    }
    assert found["right"] == {1: 2, 2: 1, -1: 0} and numbers[0, 0, :2].tolist() == [1, 2]
    assert found["left"] == {1: 1, -1: 0}
    assert found["below"] == {0: 2, 2: 1, -1: 0}
    assert found["above"] == {0: 2, 2: 1, -1: 0}
    assert (numbers[3] == -1).all() and (counts[3] == 0).all()


def test_beside_keeps_the_eight_most_frequent():
    pairs = [[0, n] for n in range(1, 11)] + [[0, 10]] * 2 + [[0, 9]]
    numbers, counts = beside(np.array([[p] for p in pairs], np.int32), 11)
    assert numbers[0, 0].tolist() == [10, 9, 1, 2, 3, 4, 5, 6]
    assert counts[0, 0].tolist() == [3, 2] + [1] * 6


def test_surroundings_are_centred_and_grey_outside():
    pixels = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    cut = surroundings(pixels, 1, 3, 2)
    middle = CONTEXT // 2 * 2
    assert cut.shape == (CONTEXT * 2, CONTEXT * 2, 3)
    assert (cut[middle : middle + 2, middle : middle + 2] == pixels[2:4, 6:8]).all()
    assert (cut[:, middle + 2 :] == OUTSIDE).all() and (cut[: middle - 2] == OUTSIDE).all()


# --- the whole of it -------------------------------------------------------------------------


def test_patches_are_cells_that_the_encoder_gave_this_code(statistics, tiny_vqgan, pictures):
    with torch.no_grad():
        grids = tiny_vqgan.encode(to_tensor(pictures)).indices.numpy()
    assert statistics.counts.sum() == grids.size and statistics.pictures == 9
    used = np.flatnonzero(statistics.counts)
    middle = CONTEXT // 2 * F
    for code in used:
        shown, own_cells = statistics.patches(int(code)), []
        assert len(shown) == (statistics.patch_picture[code] >= 0).sum() > 0
        for k, patch in enumerate(shown):
            name = statistics.names[statistics.patch_picture[code, k]]
            row, column = statistics.patch_cell[code, k]
            number = int(name.split()[1])
            assert grids[number, row, column] == code
            expected = surroundings(pictures[number], row, column, F)
            assert np.abs(patch.astype(int) - expected).mean() < 12  # a lossy picture of it
            own = patch[middle : middle + F, middle : middle + F].astype(int)
            real = expected[middle : middle + F, middle : middle + F]
            assert np.abs(own - real).mean() < 40
            own_cells.append(real)
        assert np.abs(statistics.means[code] - np.mean(own_cells, 0)).max() <= 0.5
    dead = np.flatnonzero(statistics.counts == 0)
    assert len(dead) and statistics.patches(int(dead[0])) == []
    assert (statistics.means[dead] == OUTSIDE).all()


def test_statistics_hold_the_decoded_cells_and_their_map(statistics, tiny_vqgan):
    cells = decode_cells(tiny_vqgan)
    assert np.abs(statistics.cells.astype(int) - cells).max() <= 1
    assert sorted(statistics.similarity[statistics.similarity >= 0]) == list(range(32))
    assert 2 <= statistics.field <= 2 * SIZE


def test_the_file_keeps_everything(statistics, tmp_path):
    path = statistics.save(tmp_path / FILE)
    again = CodeStatistics.load(path)
    for name, value in vars(statistics).items():
        assert np.array_equal(getattr(again, name), value), name
    assert statistics.save(tmp_path / "b.npz").read_bytes() == path.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.npz", FILE]  # nothing half-written


def test_statistics_of_another_tokenizer_are_refused(statistics, tiny_vqgan):
    statistics.check(tiny_vqgan, "t" * 64)
    with pytest.raises(ValueError, match=r"another encoder or codebook .*python -m vqgan.codebook"):
        statistics.check(tiny_vqgan, "u" * 64)


def test_other_files_are_refused_with_a_sentence(statistics, tmp_path):
    path = tmp_path / FILE
    for content in (b"", b"no archive", None):
        if content is not None:
            path.write_bytes(content)
        else:
            np.savez(path, counts=np.zeros(3))
        with pytest.raises(ValueError, match="not a file of code statistics"):
            CodeStatistics.load(path)
    with pytest.raises(ValueError, match="not a file of code statistics"):
        CodeStatistics.load(tmp_path / "none.npz")
    for change in (
        {"beside": statistics.beside[:5]},
        {"names": []},
        {"strips": statistics.strips[:-1]},
        {"similarity": np.zeros((4, 8), np.int64)},
    ):
        replace(statistics, **change).save(path)
        with pytest.raises(ValueError, match="not a file of code statistics"):
            CodeStatistics.load(path)


# --- the command -----------------------------------------------------------------------------


@pytest.fixture
def bundle(tiny_vqgan, tmp_path):
    return checkpoints.save(tmp_path / "bundle", name="tiny", vqgan=tiny_vqgan, card={})


@pytest.fixture
def folder(pictures, tmp_path):
    """A plain folder with a file that is no picture among the pictures."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i, pixels in enumerate(pictures):
        Image.fromarray(pixels).resize((48, 40)).save(folder / f"{i}.png")
    (folder / "broken.png").write_text("no picture")
    return folder


def run(*args) -> None:
    command.main([str(a) for a in args])


def test_command_writes_statistics_into_the_bundle(bundle, folder, capsys):
    run("--bundle", bundle, "--data", folder, "--split", "all")
    loaded = checkpoints.load(bundle)
    found = CodeStatistics.load(bundle / FILE)
    found.check(loaded.vqgan, loaded.tokenizer_id)
    assert found.pictures == 9 and found.size == SIZE
    assert set(found.names) <= {f"{i}.png" for i in range(9)}
    assert f"{FILE}: 0.0" in capsys.readouterr().out


def test_command_limits_and_reads_a_manifest(bundle, folder, tmp_path):
    rows = [
        {"path": f"{i}.png", "kind": "icon", "split": "train" if i else "val", "name": f"n{i}",
         "set": "s"}
        for i in range(9)
    ]  # fmt: skip
    (folder / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    out = tmp_path / "other.npz"
    run("--bundle", bundle, "--data", folder, "--limit", 3, "--out", out)
    found = CodeStatistics.load(out)
    assert found.pictures == 3 and set(found.names) <= {"n1 (s)", "n4 (s)", "n5 (s)", "n8 (s)"}
    assert not (bundle / FILE).exists()


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"--bundle": "nowhere"}, "there is no bundle 'nowhere'"),
        ({"--data": "nowhere"}, "nowhere is not a folder"),
        ({"--limit": "0"}, "--limit is 0: it must be at least 1"),
        ({"--quality": "101"}, "--quality is 101"),
        ({"--out": "nowhere/codes.npz"}, "there is no folder nowhere"),
        ({"--device": "toaster"}, "toaster"),
    ],
)
def test_command_ends_with_one_line_on_bad_input(bundle, folder, capsys, change, sentence):
    arguments = {"--bundle": bundle, "--data": folder, **change}
    with pytest.raises(SystemExit) as stopped:
        run(*(part for pair in arguments.items() for part in pair))
    assert stopped.value.code == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and sentence in error


def test_command_says_when_no_picture_opens(bundle, tmp_path, capsys):
    folder = tmp_path / "bad"
    folder.mkdir()
    (folder / "a.png").write_text("no picture")
    with pytest.raises(SystemExit) as stopped:
        run("--bundle", bundle, "--data", folder, "--split", "all")
    assert stopped.value.code == 2
    assert "none of the pictures can be opened" in capsys.readouterr().err


def test_command_redraws_the_cells_by_a_new_decoder(bundle, folder, tiny_vqgan, capsys):
    run("--bundle", bundle, "--data", folder, "--split", "all")
    old = CodeStatistics.load(bundle / FILE)
    other = VQGAN(tiny_vqgan.config)
    other.load_state_dict(tiny_vqgan.state_dict())
    other.decoder.conv_out.bias.data += 0.5
    checkpoints.save(bundle, name="tiny", vqgan=other, card={})
    run("--bundle", bundle, "--redraw")
    new = CodeStatistics.load(bundle / FILE)
    assert new.decoder_id != old.decoder_id and new.strips == old.strips
    assert np.array_equal(new.counts, old.counts) and new.tokenizer_id == old.tokenizer_id
    assert new.cells.mean() > old.cells.mean() + 10
    other.quantize.embedding.weight.data += 1
    checkpoints.save(bundle, name="tiny", vqgan=other, card={})
    with pytest.raises(SystemExit):
        run("--bundle", bundle, "--redraw")
    assert "is of another tokenizer" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run("--bundle", bundle)
    assert "--data, or --redraw" in capsys.readouterr().err
