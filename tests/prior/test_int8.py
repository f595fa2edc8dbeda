"""Products of bytes are the products of the rounded numbers, and rounding is as fine as it can."""

import pytest
import torch
import torch.nn.functional as F

from prior import int8
from prior.decode import Cache, pack, packed, quickest, read
from prior.int8 import Steps, linear, residual, to_bytes
from prior.ranges import measure
from prior.sample import finish, sample
from training.precision import native_bf16

needs_bytes = pytest.mark.skipif(not int8.supported(), reason="no products of bytes here")
onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch lacks oneDNN")
MOST = 255 if int8.supported() else 127  # up to which sums of pairs fit into 16 bits


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def floats(x, steps):
    return (x.float() - steps.zero) * steps.scale


@pytest.mark.parametrize(("low", "high"), [(-3.0, 5.0), (0.5, 4.0), (-4.0, -1.0), (0.0, 0.0)])
def test_steps_reach_over_the_range_and_know_zero(low, high):
    steps = Steps.over(low, high)
    x = torch.linspace(low, high, 1001)
    rounded = steps.rounding()(x)
    assert rounded.dtype == torch.uint8
    assert (floats(rounded, steps) - x).abs().max() <= steps.scale * 0.501
    assert floats(steps.rounding()(torch.zeros(1)), steps) == 0
    if low < 0 < high:
        assert rounded[0] == 0 and rounded[-1] == 255


def test_numbers_beyond_the_range_become_its_ends():
    rounding = Steps.over(-1.0, 1.0).rounding()
    assert rounding(torch.tensor([-50.0, 50.0])).tolist() == [0, 255]
    x = normal(5, 7)
    assert torch.equal(rounding(x.bfloat16()), rounding(x.bfloat16().float()))


def test_a_folded_norm_gives_steps():
    x, weight, bias, steps = (
        normal(6, 32),
        normal(32, seed=1),
        normal(32, seed=2),
        Steps.over(-7, 6),
    )
    plain = torch.layer_norm(x, (32,), weight, bias)
    found = to_bytes(torch.layer_norm(x, (32,), *steps.fold(weight, bias)))
    assert (floats(found, steps) - plain).abs().max() <= steps.scale * 0.51


@onednn
@pytest.mark.parametrize("rows", [1, 3, 48, 200])
def test_products_are_those_of_the_rounded_numbers(rows):
    weight, bias, steps, after = normal(96, 64), normal(96, seed=1), Steps(0.02, 100), Steps(0.1, 9)
    x = torch.randint(
        MOST + 1, (rows, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(2)
    )
    scale = weight.abs().amax(1, keepdim=True) / 127
    exact = F.linear(floats(x, steps), (weight / scale).round() * scale, bias)
    torch.testing.assert_close(linear(weight, bias, steps, torch.float32)(x), exact)
    bare = linear(weight, None, steps, torch.float32)(x)
    torch.testing.assert_close(bare, exact - bias, rtol=1e-4, atol=1e-4)
    for gelu in ("tanh", "none"):
        wanted = F.gelu(exact, approximate=gelu)
        found = linear(weight, bias, steps, torch.float32, gelu)(x)
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
        found = linear(weight, bias, steps, after, gelu)(x)
        clamped = wanted.clamp(-9 * 0.1, 246 * 0.1)
        assert found.dtype == torch.uint8
        assert (floats(found, after) - clamped).abs().max() < 0.051
    add = normal(rows, 96, seed=3)
    torch.testing.assert_close(residual(weight, bias, steps)(x, add), exact + add)


def test_a_processor_that_saturates_is_found_out(monkeypatch):
    """Pairs of products added in 16 bits: at most 32767."""
    int8.supported.cache_clear()
    half = lambda *args: lambda x: torch.full((len(x), 16), 8256.25)  # noqa: E731
    monkeypatch.setattr(int8, "linear", half)
    assert not int8.supported()
    monkeypatch.undo()
    int8.supported.cache_clear()


def ready(model):
    model.ranges = measure(model)
    return model


def logits(model, dtype, grids):
    weights = packed(model, dtype)
    prefix = model.embed_prefix(len(grids)).to(weights.codes.dtype)
    x = torch.cat([prefix, weights.codes[grids[:, :-1]]], 1)
    start = torch.zeros(len(grids), dtype=torch.int64)
    return read(weights, Cache(weights, len(grids)), x, start).float()


@onednn
@pytest.mark.parametrize(
    "shape", [{}, {"tie_head": False, "gelu": "exact"}, {"heads": 4, "kv_heads": 1}]
)
def test_int8_stays_close(tiny, grids, shape, monkeypatch):
    model = ready(tiny(**shape))
    if not int8.supported():  # wider ranges leave only bytes that any processor multiplies
        model.ranges[:, 1] += model.ranges[:, 1] - model.ranges[:, 0]
        monkeypatch.setattr(int8, "supported", lambda: True)
    found, plain = logits(model, torch.int8, grids), model(grids)
    assert found.sub(plain).square().mean().sqrt() < 0.1 * plain.std()
    assert (found.argmax(-1) == plain.argmax(-1)).float().mean() > 0.8


@needs_bytes
def test_a_model_with_ranges_is_written_with_in_int8(tiny):
    model = tiny()
    assert quickest(model) in (torch.bfloat16, torch.float32)
    ready(model)
    assert quickest(model) == torch.int8 == packed(model).products
    assert packed(model, torch.float32).products == torch.float32
    first = packed(model)
    model.ranges = model.ranges * 2
    assert packed(model) is not first


@needs_bytes
@pytest.mark.parametrize("ahead", [1, 4])
def test_a_picture_does_not_depend_on_the_batch_or_the_guesses(tiny, ahead):
    if not native_bf16("cpu"):
        pytest.skip("in float32 a row's bits depend on the batch")
    model = ready(tiny())
    alone = [finish(sample(model, 1, seed=9 + i)).grid for i in range(5)]
    assert torch.equal(finish(sample(model, 5, seed=9, ahead=ahead)).grid, torch.cat(alone))


def test_int8_without_ranges_says_what_to_do(tiny, monkeypatch):
    with pytest.raises(ValueError, match=r"needs this prior's ranges \(python -m prior.ranges\)"):
        sample(tiny(), 1, seed=0, dtype=torch.int8)
    monkeypatch.setattr(int8, "supported", lambda: False)
    model = ready(tiny())
    assert quickest(model) != torch.int8
    with pytest.raises(ValueError, match="a processor that sums products of bytes"):
        pack(model, torch.int8)
