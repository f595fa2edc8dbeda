"""Grids of codes: editing, files, blending."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import torch

from vqgan import grids
from vqgan.grids import IndexFile
from vqgan.model import VQGAN


@pytest.fixture
def grid() -> np.ndarray:
    return np.arange(12, dtype=np.int64).reshape(3, 4)


def test_paint_gives_cells_a_code_and_leaves_the_rest(grid):
    painted = grids.paint(grid, [(0, 1), (2, 3)], 7)
    assert painted.tolist() == [[0, 7, 2, 3], [4, 5, 6, 7], [8, 9, 10, 7]]
    assert grid[0, 1] == 1
    assert np.array_equal(grids.paint(painted, [(0, 1)], grid)[0], grid[0])


@pytest.mark.parametrize("cell", [(3, 0), (0, 4), (-1, 0), (0, -1)])
def test_paint_refuses_cells_outside(grid, cell):
    with pytest.raises(ValueError, match="outside this grid of 3 rows, 4 columns"):
        grids.paint(grid, [cell], 1)


def test_swap_replaces_every_occurrence(grid):
    assert grids.swap(np.array([[1, 2], [2, 3]]), 2, 9).tolist() == [[1, 9], [9, 3]]
    assert np.array_equal(grids.swap(grid, 99, 1), grid)


def test_shuffle_keeps_the_codes_and_depends_on_the_seed_only(grid):
    a, b, c = (grids.shuffle(grid, seed) for seed in (0, 0, 1))
    assert np.array_equal(a, b) and not np.array_equal(a, c) and not np.array_equal(a, grid)
    assert sorted(a.ravel()) == list(range(12)) and a.shape == grid.shape


@pytest.mark.parametrize("code", [-1, 32, 1.5, "3", None, True, float("nan"), [1]])
def test_codes_must_be_whole_numbers_of_the_codebook(code):
    with pytest.raises(ValueError, match="code"):
        grids.check_code(code, 32)


def test_whole_floats_are_codes():
    assert grids.check_code(3.0, 32) == 3 and grids.check_code(31, 32) == 31


def test_decode_grid_is_the_models_decode_cropped(tiny_vqgan, grid):
    whole = np.asarray(grids.decode_grid(tiny_vqgan, grid))
    with torch.no_grad():
        expected = tiny_vqgan.decode_indices(torch.from_numpy(grid)[None])[0]
    expected = expected.clamp(-1, 1).add(1).mul(127.5).round().byte().permute(1, 2, 0).numpy()
    assert whole.shape == (6, 8, 3) and np.array_equal(whole, expected)
    assert np.array_equal(np.asarray(grids.decode_grid(tiny_vqgan, grid, (7, 5))), whole[:5, :7])


def test_a_file_comes_back_as_it_was(tmp_path, grid):
    path = IndexFile(grid, (7, 5), 32, "abc").save(tmp_path / "x.npz")
    back = IndexFile.read(path, 32, 2)
    assert np.array_equal(back.indices, grid) and back.indices.dtype == np.int64
    assert (back.size, back.codebook_size, back.tokenizer_id) == ((7, 5), 32, "abc")


def test_plain_arrays_are_files_too(tmp_path, grid):
    np.savez(tmp_path / "a.npz", indices=grid[None].astype(np.uint8))
    np.save(tmp_path / "a.npy", grid)
    for name in ("a.npz", "a.npy"):
        back = IndexFile.read(tmp_path / name, 32, 2)
        assert np.array_equal(back.indices, grid) and back.size == (8, 6)
        assert back.codebook_size is None and back.tokenizer_id is None


def test_a_size_that_does_not_fit_the_grid_is_ignored(tmp_path, grid):
    for size in ((9, 6), (6, 6), (8, 4), (0, 0)):
        path = IndexFile(grid, size).save(tmp_path / "x.npz")
        assert IndexFile.read(path, 32, 2).size == (8, 6)


def saved(**arrays) -> io.BytesIO:
    file = io.BytesIO()
    np.savez(file, **arrays)
    file.seek(0)
    return file


def promising(shape: tuple[int, ...]) -> io.BytesIO:
    """The beginning of an .npy whose array would not fit anywhere."""
    file = io.BytesIO()
    header = {"descr": "<i8", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file


def damaged() -> io.BytesIO:
    """An .npz whose packed bytes are not what they were."""
    file = io.BytesIO()
    np.savez_compressed(file, indices=np.arange(1000).reshape(40, 25))
    data = bytearray(file.getvalue())
    data[60:160] = b"\xff" * 100
    return io.BytesIO(data)


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        (promising((10**6, 10**6)), "not a file of indices"),
        (promising((2**62, 4)), "not a file of indices"),
        (damaged(), "not a file of indices"),
        (saved(indices=np.full((4, 4), 2**63 + 5, np.uint64)), f"run from {2**63 + 5} to"),
        (saved(indices=np.zeros((4, 4))), "are float64: codes are whole numbers"),
        (saved(indices=np.zeros((4, 4), bool)), "are bool: codes are whole numbers"),
        (saved(indices=np.zeros(16, int)), r"shape \(16,\): a grid has two axes"),
        (saved(indices=np.zeros((2, 4, 4), int)), r"shape \(2, 4, 4\): a grid has two axes"),
        (saved(indices=np.zeros((0, 4), int)), r"shape \(0, 4\): a grid has two axes"),
        (saved(indices=np.zeros((200, 200), np.uint8)), "has 200 x 200 cells: at most 16384"),
        (saved(indices=np.full((4, 4), 32)), "run from 32 to 32: .* of 32 has codes 0 to 31"),
        (saved(indices=np.full((4, 4), -1)), "run from -1 to -1: .* has codes 0 to 31"),
        (saved(indices=np.zeros((4, 4), int), codebook_size=64), "a codebook of 64 codes: .* 32"),
        (saved(codes=np.zeros((4, 4), int)), "no array named `indices`"),
        (saved(indices=np.zeros(10**6, np.uint8)), r"at most|two axes"),
        (saved(indices=np.zeros(10**6)), "unpacks to 8 MB: .* at most 1 MB"),
        (saved(indices=np.array([{}], object)), "not a file of indices"),
        (io.BytesIO(b""), "not a file of indices"),
        (io.BytesIO(b"PK\x03\x04 broken"), "not a file of indices"),
        (io.BytesIO(b"some text"), "not a file of indices"),
    ],
)
def test_wrong_files_get_a_sentence_that_says_what_is_right(file, sentence):
    file.seek(0)
    with pytest.raises(ValueError, match=sentence):
        IndexFile.read(file, 32, 2)


@pytest.fixture
def latents(tiny_vqgan):
    with torch.no_grad():
        pair = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1)).clamp(-1, 1)
        encoding = tiny_vqgan.encode(pair)
    return encoding.latents[:1], encoding.latents[1:], encoding.indices.numpy()


def test_a_blend_starts_and_ends_at_its_pictures(tiny_vqgan, latents):
    a, b, indices = latents
    for share, own in ((0.0, indices[0]), (1.0, indices[1])):
        found = grids.blend(tiny_vqgan, a, b, share)
        assert np.array_equal(found.indices, own)
        decoded = np.asarray(grids.decode_grid(tiny_vqgan, own)).astype(int)
        assert np.abs(np.asarray(found.discrete) - decoded).max() <= 1
    with torch.no_grad():
        plain = tiny_vqgan.decode(a)[0].clamp(-1, 1).add(1).mul(127.5).round()
    start = np.asarray(grids.blend(tiny_vqgan, a, b, 0.0).continuous).astype(int)
    assert np.abs(start - plain.permute(1, 2, 0).numpy()).max() <= 1


def test_a_blend_of_a_gumbel_model_starts_at_its_picture_too(tiny_config):
    """Its latents are what scores are made of, and no pictures themselves."""
    torch.manual_seed(0)
    vqgan = VQGAN(replace(tiny_config, quantizer="gumbel")).eval().requires_grad_(False)
    vqgan.quantize.embed.weight.mul_(0.05)
    vqgan.quantize.proj.weight.mul_(200)  # nearly certain of each code, as trained ones are
    vqgan.quantize.proj.bias.zero_()
    a, b = (torch.randn(1, vqgan.config.embed_dim, 4, 4) for _ in range(2))
    own = vqgan.quantize.encode(a).indices[0].numpy()
    found = grids.blend(vqgan, a, b, 0.0)
    assert np.array_equal(found.indices, own) and len(np.unique(own)) > 4
    off = np.asarray(found.continuous).astype(int) - np.asarray(found.discrete)
    other = np.asarray(grids.blend(vqgan, a, b, 1.0).discrete).astype(int) - found.discrete
    assert np.abs(off).mean() < 0.2 * np.abs(other).mean()


def test_mixtures_lie_where_codes_live(tiny_vqgan, latents):
    a, b, _ = latents
    lengths = grids.mixture(tiny_vqgan, a, b, 0.5).norm(dim=1)
    assert torch.allclose(lengths, torch.ones_like(lengths), atol=1e-5)


def test_jumps_lead_from_one_grid_to_the_other(tiny_vqgan, latents):
    a, b, indices = latents
    steps = grids.jumps(tiny_vqgan, a, b, steps=10)
    assert steps.shape == (10,) and steps.sum() >= (indices[0] != indices[1]).sum() > 0
    assert grids.jumps(tiny_vqgan, a, a, steps=10).sum() == 0
    half = grids.blend(tiny_vqgan, a, b, 0.5).indices
    halves = [(indices[0] != half).sum(), (half != indices[1]).sum()]
    assert grids.jumps(tiny_vqgan, a, b, steps=2).tolist() == halves


def test_pictures_of_two_sizes_do_not_blend(tiny_vqgan, latents):
    a, b, _ = latents
    with pytest.raises(ValueError, match="blend pictures of one size"):
        grids.blend(tiny_vqgan, a, b[..., :4], 0.5)
