"""The autoencoder: the paper's layout and names, shapes, and what bad input is told."""

from dataclasses import replace

import pytest
import torch

from vqgan.model import PRESETS, VQGAN, VQGANConfig, reconstruct
from vqgan.quantize import EuclideanQuantizer, GumbelQuantizer


def test_paper_preset_has_the_published_names_and_shapes():
    """Names and shapes of the f16 ImageNet checkpoint, so that it loads strictly."""
    with torch.device("meta"):
        model = VQGAN(PRESETS["paper"])
    shapes = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    expected = {
        "encoder.conv_in.weight": (128, 3, 3, 3),
        "encoder.down.0.block.1.norm2.bias": (128,),
        "encoder.down.2.block.0.nin_shortcut.weight": (256, 128, 1, 1),
        "encoder.down.3.downsample.conv.weight": (256, 256, 3, 3),
        "encoder.down.4.attn.1.proj_out.weight": (512, 512, 1, 1),
        "encoder.mid.attn_1.q.weight": (512, 512, 1, 1),
        "encoder.mid.block_2.conv2.weight": (512, 512, 3, 3),
        "encoder.norm_out.weight": (512,),
        "encoder.conv_out.weight": (256, 512, 3, 3),
        "quant_conv.weight": (256, 256, 1, 1),
        "quantize.embedding.weight": (1024, 256),
        "post_quant_conv.bias": (256,),
        "decoder.conv_in.weight": (512, 256, 3, 3),
        "decoder.up.4.attn.2.norm.weight": (512,),
        "decoder.up.4.block.2.conv1.weight": (512, 512, 3, 3),
        "decoder.up.1.upsample.conv.weight": (128, 128, 3, 3),
        "decoder.up.0.block.2.conv2.weight": (128, 128, 3, 3),
        "decoder.conv_out.weight": (3, 128, 3, 3),
    }
    assert {k: shapes.get(k) for k in expected} == expected
    assert "encoder.down.4.downsample.conv.weight" not in shapes
    assert "decoder.up.0.upsample.conv.weight" not in shapes
    assert not any(k.startswith("encoder.down.3.attn") for k in shapes)


@pytest.mark.parametrize("quantizer", ["euclidean", "cosine", "gumbel"])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_encode_and_decode_in_both_modes(tiny_config, quantizer, mode):
    model = VQGAN(replace(tiny_config, quantizer=quantizer, attn_resolutions=(16,), mid_attn=True))
    getattr(model, mode)()
    images = torch.rand(2, 3, 32, 48) * 2 - 1
    output, encoding = model(images)
    assert output.shape == images.shape
    assert encoding.latents.shape == encoding.quantized.shape == (2, 4, 16, 24)
    assert encoding.indices.shape == (2, 16, 24) and encoding.indices.dtype == torch.int64
    codes = model.quantize.lookup(encoding.indices)
    assert torch.allclose(codes, encoding.quantized, atol=1e-5)
    assert torch.allclose(model.decode_indices(encoding.indices), output, atol=1e-3)
    chosen = model.quantize.codebook()[encoding.indices]
    assert torch.equal(chosen.permute(0, 3, 1, 2), codes)


def test_the_nearest_code_is_chosen(tiny_config):
    for kind in ("euclidean", "cosine"):
        model = VQGAN(replace(tiny_config, quantizer=kind))
        latents, _, indices = model.encode(torch.rand(1, 3, 32, 32))
        rows = latents.permute(0, 2, 3, 1).reshape(-1, 4)
        assert torch.equal(
            torch.cdist(rows, model.quantize.codebook()).argmin(1).view(1, 16, 16), indices
        )


def test_gradient_reaches_the_encoder_through_the_codes(tiny_config):
    for gradient in ("straight_through", "rotation"):
        model = VQGAN(replace(tiny_config, gradient=gradient))
        output, _ = model(torch.rand(1, 3, 32, 32))
        output.square().mean().backward()
        assert model.encoder.conv_in.weight.grad.abs().sum() > 0
        assert model.quantize.embedding.weight.grad is None


def test_a_large_lookup_never_holds_all_distances():
    """65,536 latents against 4,096 codes: 1 GiB of distances at once, 64 MiB in chunks."""
    sizes = []
    original = torch.addmm

    def watched(*args, **kwargs):
        result = original(*args, **kwargs)
        sizes.append(result.numel())
        return result

    torch.addmm = watched
    try:
        EuclideanQuantizer(4096, 2).encode(torch.randn(1, 2, 256, 256))
    finally:
        torch.addmm = original
    assert sum(sizes) == 65536 * 4096 and max(sizes) <= 4096 * 4096


def test_gumbel_takes_the_highest_projected_score():
    q = GumbelQuantizer(3, 2)
    q.proj.weight.data = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]]).view(3, 2, 1, 1)
    q.proj.bias.data.zero_()
    latents = torch.tensor([[5.0, 1.0], [1.0, 2.0], [-3.0, -3.0]]).T.view(1, 2, 1, 3)
    encoding = q.encode(latents)
    assert encoding.indices.tolist() == [[[0, 1, 2]]]
    assert torch.allclose(encoding.quantized[0, :, 0].T, q.embed.weight)


def test_bad_input_is_told_what_would_be_right(tiny_vqgan):
    with pytest.raises(ValueError, match="33x32 pixels: both sides must be multiples of 2"):
        tiny_vqgan.encode(torch.zeros(1, 3, 32, 33))
    with pytest.raises(ValueError, match=r"expected \(B, 3, H, W\)"):
        tiny_vqgan.encode(torch.zeros(1, 1, 32, 32))
    with pytest.raises(ValueError, match="expected whole numbers"):
        tiny_vqgan.decode_indices(torch.zeros(1, 4, 4))
    for code in (-1, 32):
        with pytest.raises(ValueError, match="this codebook has codes 0 to 31"):
            tiny_vqgan.decode_indices(torch.full((1, 4, 4), code))
    output, _ = reconstruct(tiny_vqgan, torch.rand(1, 3, 32, 32) * 9)
    assert output.abs().max() <= 1


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("num_groups", 48, "must divide the channels of every level"),
        ("resolution", 100, "multiple of the downsampling factor 16"),
        ("codebook_size", 1, "at least 2"),
        ("quantizer", "lfq", "choose euclidean, cosine, gumbel"),
        ("gradient", "none", "choose straight_through, rotation"),
        ("dropout", 1.0, r"lie in \[0, 1\)"),
        ("ch_mult", (), "one factor >= 1 per level"),
        ("embed_dim", 0, "at least 1"),
    ],
)
def test_config_names_field_value_and_range(field, value, sentence):
    with pytest.raises(ValueError, match=f"{field} is .*{sentence}"):
        VQGANConfig(**{field: value})
