"""The codebook library: decoded cells, usage, neighbours, orders, receptive field."""

import numpy as np
import pytest
import torch
from torch import nn

from vqgan.codebook import (
    CellStore,
    Usage,
    by_hue,
    by_similarity,
    by_usage,
    count_codes,
    decode_cells,
    decoder_id,
    effective_field,
    look,
    mosaic,
    nearest_codes,
    norms,
    receptive_field,
    split_mosaic,
)
from vqgan.codebook.layout import oklab
from vqgan.model import VQGAN, VQGANConfig

# --- decoded cells ---------------------------------------------------------------------------


def test_decoded_cell_is_the_centre_of_a_uniform_grid(tiny_vqgan):
    cells = decode_cells(tiny_vqgan)
    assert cells.shape == (32, 2, 2, 3) and cells.dtype == np.uint8
    grid = torch.full((1, 5, 5), 7)
    pixels = tiny_vqgan.decode_indices(grid)[0, :, 4:6, 4:6].clamp(-1, 1)
    expected = (pixels + 1).mul(127.5).round().permute(1, 2, 0).detach().numpy()
    assert np.abs(cells[7].astype(int) - expected).max() <= 1  # another batch may round otherwise


def test_decoded_cells_do_not_depend_on_the_batch(tiny_vqgan, monkeypatch):
    whole = decode_cells(tiny_vqgan)
    monkeypatch.setattr("vqgan.codebook.cells.PIXELS_AT_ONCE", 3 * 10 * 10)
    seen = []
    parts = decode_cells(tiny_vqgan, progress=lambda done, of: seen.append((done, of)))
    assert np.abs(whole.astype(int) - parts).max() <= 1
    assert seen[0] == (3, 32) and seen[-1] == (32, 32)
    assert np.abs(decode_cells(tiny_vqgan, [7, 3]).astype(int) - whole[[7, 3]]).max() <= 1


def test_cell_store_decodes_what_is_asked_for_once(tiny_vqgan, monkeypatch):
    expected, asked = decode_cells(tiny_vqgan), []

    def count(vqgan, codes):
        asked.append(list(codes))
        return decode_cells(vqgan, codes)

    monkeypatch.setattr("vqgan.codebook.cells.decode_cells", count)
    store = CellStore(tiny_vqgan)
    assert store.done == 0
    assert np.abs(store.of([5, 3, 5]).astype(int) - expected[[5, 3, 5]]).max() <= 1
    store.of([3])
    assert asked == [[3, 5]] and store.done == 2 and not store.whole
    assert np.abs(store.all().astype(int) - expected).max() <= 1
    assert store.whole and sorted(n for part in asked for n in part) == list(range(32))
    store.all()
    kept = np.zeros((32, 2, 2, 3), np.uint8)
    assert CellStore(tiny_vqgan, kept).whole and CellStore(tiny_vqgan, kept).all() is kept
    assert sorted(n for part in asked for n in part) == list(range(32))


def test_the_background_decodes_moment_by_moment_and_says_how_long_it_will_take(
    tiny_vqgan, monkeypatch
):
    """On a clock where a code takes a tenth of a second, and a pause an hour."""
    clock, parts, left = [0.0], [], []

    def slowly(vqgan, codes):
        parts.append(len(codes))
        clock[0] += 0.1 * len(codes)
        return decode_cells(vqgan, codes)

    def pause():
        clock[0] += 3600
        left.append(store.seconds_left)
        if len(left) == 2:
            store.of([30, 31])  # a visitor's

    monkeypatch.setattr("vqgan.codebook.cells.decode_cells", slowly)
    monkeypatch.setattr("vqgan.codebook.cells.monotonic", lambda: clock[0])
    store = CellStore(tiny_vqgan, pause=pause)
    store.all()
    assert parts[:3] == [1, 2, 2] and sum(parts) == 32 and max(parts) == 2
    assert left[0] is None and left[1:4] == pytest.approx([3.1, 2.7, 2.5])
    assert len(left) == len(parts) - 1 and store.seconds_left == 0


def test_even_side_is_refused(tiny_vqgan):
    with pytest.raises(ValueError, match="odd"):
        decode_cells(tiny_vqgan, side=4)


def test_decoder_id_follows_the_look_only(tiny_vqgan):
    first = decoder_id(tiny_vqgan)
    with torch.no_grad():
        tiny_vqgan.encoder.conv_in.weight.add_(1)
    assert decoder_id(tiny_vqgan) == first
    changed = [tiny_vqgan.decoder.conv_out.bias, tiny_vqgan.quantize.embedding.weight]
    for weight in [*changed, tiny_vqgan.post_quant_conv.bias]:
        with torch.no_grad():
            weight[0] += 0.5
        assert decoder_id(tiny_vqgan) != first
        first = decoder_id(tiny_vqgan)


def test_mosaic_and_back():
    cells = np.arange(5 * 2 * 2 * 3, dtype=np.uint8).reshape(5, 2, 2, 3)
    picture = mosaic(cells, np.array([[4, 1, 0], [2, 3, -1]]), empty=9)
    assert picture.shape == (4, 6, 3)
    assert (picture[:2, :2] == cells[4]).all() and (picture[2:, 2:4] == cells[3]).all()
    assert (picture[2:, 4:] == 9).all()
    assert (split_mosaic(picture, 2, 5) == cells[[4, 1, 0, 2, 3]]).all()


# --- usage -----------------------------------------------------------------------------------


def test_usage_by_hand():
    usage = Usage.of(np.array([2, 0, 4, 2, 0]))
    assert usage.total == 8 and usage.dead.tolist() == [1, 4]
    assert usage.ranks.tolist() == [2, 4, 1, 3, 5]
    # p = 1/4, 1/2, 1/4: entropy 1.5 bits
    assert usage.perplexity == pytest.approx(2**1.5)
    assert usage.share(2) == 0.5 and usage.share(1) == 0


def test_count_codes():
    assert count_codes(np.array([[[0, 2], [2, 2]]]), 4).tolist() == [1, 0, 3, 0]


@pytest.mark.parametrize("bad", [[1.0, 2.0], [[1, 2]], [3, -1]])
def test_usage_refuses_what_are_no_counts(bad):
    with pytest.raises(ValueError, match="whole numbers"):
        Usage.of(np.array(bad))


def model(quantizer: str, codes: list[list[float]]) -> VQGAN:
    torch.manual_seed(0)
    size = {"codebook_size": len(codes), "embed_dim": len(codes[0])}
    config = VQGANConfig(
        resolution=8, ch=4, ch_mult=(1, 1), num_groups=2, z_channels=4, quantizer=quantizer, **size
    )
    vqgan = VQGAN(config)
    table = torch.tensor(codes)
    quantize = vqgan.quantize
    table_of = quantize.embed if quantizer == "gumbel" else quantize.embedding
    table_of.weight.data.copy_(table)
    return vqgan


def test_nearest_codes_use_the_quantisers_own_metric():
    # By length 1 and 2 are neighbours; by direction 0 and 2 are.
    codes = [[1.0, 0.1], [6.0, 6.0], [9.0, 1.0], [-1.0, 0.0]]
    numbers, distances = nearest_codes(model("euclidean", codes), 2)
    assert numbers.tolist() == [1, 0, 3]
    assert distances[0] == pytest.approx(34**0.5)
    numbers, distances = nearest_codes(model("cosine", codes), 2, n=2)
    assert numbers.tolist() == [0, 1] and (distances < 2).all()
    gumbel = model("gumbel", codes)
    gumbel.quantize.proj.weight.data.copy_(torch.tensor(codes)[[1, 0, 2, 3], :, None, None])
    numbers, _ = nearest_codes(gumbel, 2)  # by the projection, where 0 and 1 are swapped
    assert numbers.tolist() == [0, 1, 3]


def test_nearest_codes_refuses_a_code_that_does_not_exist(tiny_vqgan):
    for code in (32, -1):
        with pytest.raises(ValueError, match="0 to 31"):
            nearest_codes(tiny_vqgan, code)


def test_norms():
    codes = [[3.0, 4.0], [1.0, 0.0]]
    assert norms(model("euclidean", codes)).tolist() == [5, 1]
    assert norms(model("cosine", codes)).tolist() == [1, 1]


# --- orders ----------------------------------------------------------------------------------


def flat(colours) -> np.ndarray:
    """Colours (K, 3) -> uniform cells (K, 4, 4, 3) uint8."""
    return np.broadcast_to(np.asarray(colours, np.uint8)[:, None, None], (len(colours), 4, 4, 3))


def disorder(cells: np.ndarray, grid: np.ndarray) -> float:
    """Mean distance of look between neighbours on the grid, over that of random pairs."""
    points = look(cells)
    inside = points[grid]
    steps = [inside[1:] - inside[:-1], (inside[:, 1:] - inside[:, :-1])]
    near = np.concatenate([np.linalg.norm(s, axis=-1).ravel() for s in steps])
    shuffled = points[np.random.default_rng(0).permutation(len(points))]
    return near.mean() / np.linalg.norm(points - shuffled, axis=-1).mean()


def test_similarity_map_is_a_permutation_on_which_neighbours_look_alike():
    colours = np.random.default_rng(0).integers(0, 256, (400, 3))
    cells = flat(colours)
    grid = by_similarity(look(cells))
    assert sorted(grid.ravel()) == list(range(400))
    assert disorder(cells, np.arange(400).reshape(20, 20)) > 0.9
    # By number 0.97, rows sorted along the first axis 0.52, by hue 0.31.
    assert disorder(cells, grid) < 0.25
    assert (grid == by_similarity(look(cells))).all()  # the same again


def test_similarity_map_with_empty_places():
    cells = flat(np.random.default_rng(1).integers(0, 256, (11, 3)))
    grid = by_similarity(look(cells))
    assert grid.shape == (3, 4) and grid[2, 3] == -1
    assert sorted(grid.ravel()) == [-1, *range(11)]


def test_usage_order():
    assert by_usage(np.array([3, 9, 3, 0, 5])).tolist() == [[1, 4, 0], [2, 3, -1]]


def test_hue_order_is_greys_then_the_wheel():
    red, yellow, green, blue = [220, 0, 0], [220, 220, 0], [0, 160, 0], [0, 0, 220]
    order = by_hue(flat([green, [250] * 3, blue, red, [10] * 3, yellow, [120] * 3])).ravel()
    assert order.tolist() == [4, 6, 1, 3, 0, 5, 2, -1, -1]  # a row from dark to light


def test_oklab_of_known_colours():
    white, red = oklab(np.array([[255, 255, 255], [255, 0, 0]]))
    assert white == pytest.approx([1, 0, 0], abs=1e-3)
    assert red == pytest.approx([0.628, 0.225, 0.126], abs=1e-3)


# --- receptive field -------------------------------------------------------------------------


def without_norms(config: VQGANConfig) -> VQGAN:
    """A random model whose only paths between pixels are its convolutions, in float64."""
    torch.manual_seed(0)
    vqgan = VQGAN(config)
    for module in list(vqgan.encoder.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.GroupNorm):
                setattr(module, name, nn.Identity())
    return vqgan.double()


@pytest.mark.parametrize("mult, blocks", [((1,), 1), ((1, 1), 2), ((1, 2, 1), 1), ((1, 1, 1), 2)])
def test_receptive_field_is_where_a_random_models_gradient_is(mult, blocks):
    config = VQGANConfig(
        resolution=256,
        ch=4,
        ch_mult=mult,
        num_res_blocks=blocks,
        attn_resolutions=(),
        mid_attn=False,
        num_groups=2,
        z_channels=4,
        embed_dim=4,
    )
    field = receptive_field(config)
    assert field.stride == config.downsampling and not field.attention
    vqgan = without_norms(config)
    images = torch.randn(1, 3, 256, 256, dtype=torch.float64, requires_grad=True)
    row, column = (256 // field.stride // 2, 256 // field.stride // 2 + 1)
    vqgan.latents(images)[0, :, row, column].sum().backward()
    ys, xs = torch.nonzero(images.grad[0].abs().sum(0), as_tuple=True)
    measured = (int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1)
    assert measured == field.box(row, column)
    assert measured[2] - measured[0] == field.side


def test_receptive_field_of_the_small_preset_and_of_attention():
    small = VQGANConfig(
        resolution=128, ch=32, ch_mult=(1, 2, 4, 4), num_res_blocks=1, attn_resolutions=(),
        mid_attn=False, num_groups=4,
    )  # fmt: skip
    assert receptive_field(small).side == 157
    assert not receptive_field(small).attention
    assert receptive_field(VQGANConfig()).attention  # the paper's: 16 px level and middle block
    assert receptive_field(VQGANConfig(attn_resolutions=())).attention  # the middle block alone
    only_level = VQGANConfig(attn_resolutions=(32,), mid_attn=False)
    assert receptive_field(only_level).attention


def test_effective_field_of_a_known_gradient(tiny_vqgan, monkeypatch):
    images = torch.zeros(2, 3, 32, 32)
    # A stand-in encoder: each latent is the mean of its own 2 x 2 cell and of 1 pixel right of it.
    weight = torch.zeros(4, 3, 3, 3)
    weight[:, :, :2, :2] = 1.0
    weight[:, :, 0, 2] = 0.5  # 0.25 / 4.25 of the energy lies outside the cell

    def latents(x):
        padded = nn.functional.pad(x, (0, 1, 0, 1))
        return nn.functional.conv2d(padded, weight, stride=2)

    monkeypatch.setattr(tiny_vqgan, "latents", latents)
    assert effective_field(tiny_vqgan, images, share=0.92) == 2
    assert effective_field(tiny_vqgan, images, share=0.97) == 4


def test_effective_field_of_a_random_model(tiny_vqgan):
    images = torch.randn(2, 3, 32, 32).clamp(-1, 1)
    half, most = (effective_field(tiny_vqgan, images, share=s) for s in (0.5, 0.95))
    assert 2 <= half < most <= 64
    assert images.grad is None  # the caller's tensor is left alone


def test_effective_field_is_measured_in_parts(tiny_vqgan, monkeypatch):
    """With its gradients, a 256 px picture in a published model takes some 700 MB."""
    images = torch.randn(5, 3, 32, 32).clamp(-1, 1)
    whole, sizes, latents = effective_field(tiny_vqgan, images), [], tiny_vqgan.latents

    def watched(part):
        sizes.append(len(part))
        return latents(part)

    monkeypatch.setattr(tiny_vqgan, "latents", watched)
    monkeypatch.setattr("vqgan.codebook.field.PIXELS_AT_ONCE", 2 * 32 * 32)
    assert effective_field(tiny_vqgan, images) == whole and sizes == [2, 2, 1]
