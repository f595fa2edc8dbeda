"""The quick path gives what the plain forward pass gives."""

import pytest
import torch
import torch.nn.functional as F

from prior import decode
from prior.decode import Cache, pack, packed, quickest, read
from prior.model import GPT, PriorConfig
from prior.sample import finish, sample
from training.precision import native_bf16


def embedded(model, weights, grids, condition=None):
    """(B, 42, dim): what the blocks read for these grids, before positions."""
    prefix = model.embed_prefix(len(grids), condition).to(weights.dtype)
    return torch.cat([prefix, weights.codes[grids[:, :-1]]], 1)


def places(*numbers):
    return torch.tensor(numbers, dtype=torch.int64)


def at_once(weights, x):
    return read(weights, Cache(weights, len(x)), x, places(*[0] * len(x)))


def step_by_step(weights, x, count=1):
    cache, steps = Cache(weights, len(x)), enumerate(x.split(count, 1))
    found = [read(weights, cache, part, places(*[i * count] * len(x))) for i, part in steps]
    return torch.cat(found, 1)


def halved(model):
    """The same model with every weight rounded to float16, as shipped ones are."""
    for p in model.parameters():
        p.copy_(p.half())
    return model


SHARED = [{"heads": 4, "kv_heads": 1}, {"heads": 4, "kv_heads": 2, "head_size": 3}]


@pytest.mark.parametrize("rows", [1, 5, 20])
@pytest.mark.parametrize(
    "shape", [{}, {"tie_head": False, "gelu": "exact"}, {"head_size": 5}, *SHARED]
)
def test_cached_logits_equal_uncached_ones(tiny, rows, shape):
    """42 positions: past the 32 of the cache's first block; 20 rows: past the float32 ones."""
    model = tiny(**shape)
    grids = torch.randint(48, (rows, 42), generator=torch.Generator().manual_seed(3))
    weights = pack(model, torch.float32)
    plain = model(grids)
    assert plain.std() > 0.5
    x = embedded(model, weights, grids)
    torch.testing.assert_close(step_by_step(weights, x), plain, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(at_once(weights, x), plain, atol=1e-4, rtol=0)


@pytest.mark.parametrize("cuts", [(1, 40, 1), (31, 1, 10), (10, 25, 7)])
def test_reading_in_pieces_equals_reading_at_once(prior, grids, cuts):
    weights, pieces, at = pack(prior, torch.float32), [], 0
    cache, x = Cache(weights, 5), embedded(prior, weights, grids)
    for part in x.split(cuts, 1):
        pieces.append(read(weights, cache, part, places(*[at] * 5)))
        at += part.shape[1]
    torch.testing.assert_close(torch.cat(pieces, 1), prior(grids), atol=1e-4, rtol=0)
    assert cache.capacity == 64


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("shape", [{}, *SHARED])
def test_rows_are_read_where_they_stand(tiny, grids, shape, count):
    """Rows start 0 to 16 places apart and go on so, past the end of the first block."""
    prior = tiny(**shape)
    weights, starts = pack(prior, torch.float32), places(0, 3, 16, 7, 1)
    cache, x, plain = Cache(weights, 5), embedded(prior, weights, grids), prior(grids)
    rows = torch.arange(5)[:, None]
    read(weights, cache, x[:, :16], places(*[0] * 5))
    for step in range(0, 24, count):
        at = (starts + step)[:, None] + torch.arange(count)
        found = read(weights, cache, x[rows, at], at[:, 0])
        torch.testing.assert_close(found, plain[rows, at], atol=1e-4, rtol=0)


@pytest.mark.parametrize("count", [1, 4])
def test_a_place_read_too_early_is_forgotten(prior, grids, count):
    """Other codes were read there and beyond: reading on from it is as if they never were."""
    weights, other = pack(prior, torch.float32), grids.flip(0, 1)
    cache, plain = Cache(weights, 5), prior(grids)
    x, wrong = embedded(prior, weights, grids), embedded(prior, weights, other)
    read(weights, cache, torch.cat([x[:, :9], wrong[:, 9:40]], 1), places(*[0] * 5))
    for at in range(9, 33, count):
        found = read(weights, cache, x[:, at : at + count], places(*[at] * 5))
        torch.testing.assert_close(found, plain[:, at : at + count], atol=1e-4, rtol=0)


@pytest.mark.parametrize("shape", [{}, *SHARED])
def test_rows_can_be_forgotten(tiny, grids, shape):
    """Before and after the cache grows; those that stay are read as before."""
    prior = tiny(**shape)
    weights, kept = pack(prior, torch.float32), places(1, 3, 4)
    x, plain, cache = embedded(prior, weights, grids), prior(grids)[kept], Cache(weights, 5)
    read(weights, cache, x[:, :20], places(*[0] * 5))
    cache.keep(kept)
    found = [read(weights, cache, x[kept, 20:30], places(20, 20, 20))]
    found.append(read(weights, cache, x[kept, 30:], places(30, 30, 30)))
    torch.testing.assert_close(torch.cat(found, 1), plain[:, 20:], atol=1e-4, rtol=0)
    heads, shared = shape.get("heads", 2), shape.get("kv_heads", 2)
    assert cache.capacity == 64 and len(cache.table[0]) == 3 * (20 * heads + 2 * 64 * shared)


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("rows", [2, 20])
@pytest.mark.parametrize("shape", [{}, *SHARED])
def test_bfloat16_stays_close(tiny, shape, rows, count):
    prior = tiny(**shape)
    grids = torch.randint(48, (rows, 42), generator=torch.Generator().manual_seed(3))
    weights = pack(prior, torch.bfloat16)
    quick, plain = (
        step_by_step(weights, embedded(prior, weights, grids), count).float(),
        prior(grids),
    )
    assert quick.sub(plain).square().mean().sqrt() < 0.05 * plain.std()


@pytest.mark.parametrize("bias", [True, False])
def test_float16_weights_are_multiplied_exactly(monkeypatch, bias):
    """All that float16 holds, up to its largest and down to its smallest; inputs stay float32."""
    if not decode._halves():
        pytest.skip("this processor has no such product")
    monkeypatch.setattr(decode, "_onednn", lambda device, dtype: pytest.fail("not in float16"))
    source = torch.Generator().manual_seed(0)
    weight = torch.randn(64, 96, generator=source).half().float()
    weight[0, :4] = torch.tensor([2.0**-24, 65504.0, -(2.0**-15), 1.0])
    add = torch.randn(64, generator=source) if bias else None
    for rows in (1, 3, 40):
        x, r = (torch.randn(rows, n, generator=source) for n in (96, 64))
        exact = F.linear(x.double(), weight.double(), add if add is None else add.double())
        close = {"rtol": 1e-5, "atol": 1e-4}
        for found, wanted in (
            (decode._product(weight, add)(x), exact),
            (decode._product(weight, add, "tanh")(x), F.gelu(exact, approximate="tanh")),
            (decode._product(weight, add, "none")(x), F.gelu(exact)),
            (decode._residual(weight, add)(x, r), exact + r),
        ):
            torch.testing.assert_close(found[:, 1:].double(), wanted[:, 1:], **close)
            torch.testing.assert_close(found[:, 0].double(), wanted[:, 0], rtol=1e-5, atol=0.05)
    one = decode._half_product(weight, None)(torch.eye(96))
    assert torch.equal(one, weight.T)


def test_weights_that_are_no_float16_numbers_are_left_as_they_are():
    if not decode._halves():
        pytest.skip("this processor has no such product")
    weight = torch.ones(32, 32)
    assert decode._half_product(weight, None) is not None
    for odd in (1 + 2.0**-11, 65520.0, 2.0**-25):
        changed = weight.clone()
        changed[3, 5] = odd
        assert decode._half_product(changed, None) is None
        assert decode._product(changed, None)(torch.eye(32))[5, 3] == odd
    assert decode._half_product(weight.bfloat16(), None) is None


def test_a_model_of_float16_weights_gives_the_same_logits(tiny, grids):
    """42 places, in float32 products only: no weight is changed by a scale on the way."""
    model = halved(tiny())
    weights = pack(model, torch.float32)
    x = embedded(model, weights, grids)
    for found in (step_by_step(weights, x), at_once(weights, x)):
        torch.testing.assert_close(found, model(grids), atol=1e-4, rtol=0)


def test_every_product_of_a_float16_model_takes_half_the_memory(tiny, monkeypatch):
    if not decode._halves():
        pytest.skip("this processor has no such product")
    monkeypatch.setattr(decode, "_onednn", lambda device, dtype: pytest.fail("not in float16"))
    pack(halved(tiny(tie_head=False)), torch.float32)


def test_without_onednn_the_numbers_are_the_same(tiny, grids, monkeypatch):
    for gelu in ("tanh", "exact"):
        model = tiny(gelu=gelu)
        monkeypatch.setattr(decode, "_onednn", lambda device, dtype: False)
        monkeypatch.setattr(decode, "_halves", lambda: False)
        weights = pack(model, torch.float32)
        result = step_by_step(weights, embedded(model, weights, grids))
        torch.testing.assert_close(result, model(grids), atol=1e-4, rtol=0)


def test_packing_is_remembered_until_the_weights_change(tiny):
    model = tiny()
    first = packed(model)
    assert packed(model) is first
    assert packed(model, torch.float64) is not first
    second = packed(model)
    model.blocks[1].fc.weight.mul_(2)
    assert packed(model) is not second
    for scale in (2, 3):  # as often written to as the one before
        third = packed(model)
        model.ln_f.weight = torch.nn.Parameter(model.ln_f.weight * scale)
        assert packed(model) is not third
    fourth = packed(model, torch.float32)
    model.ranges = torch.zeros(9, 2)
    assert packed(model, torch.float32) is not fourth


def test_the_type_is_what_the_processor_multiplies(tiny, monkeypatch):
    model = tiny()
    monkeypatch.setattr(decode.int8, "supported", lambda: True)
    for native, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(decode, "native_bf16", lambda device, native=native: native)
        assert quickest(model) == dtype, "its ranges are not known"
    model.ranges = torch.zeros(9, 2)
    assert quickest(model) == torch.int8
    assert quickest(model.to("meta")) == torch.float32, "bytes are for processors"


def test_room_in_the_cache_holds_nothing_strange(prior, grids, monkeypatch):
    """New memory may hold NaN, and a masked one would not stay masked."""
    make = torch.Tensor.new_empty
    strange = lambda *of: make(*of).fill_(torch.nan)  # noqa: E731
    monkeypatch.setattr(torch.Tensor, "new_empty", strange)
    weights = pack(prior, torch.float32)
    x = embedded(prior, weights, grids)
    for found in (step_by_step(weights, x), at_once(weights, x)):
        assert found.isfinite().all()


def test_packed_weights_are_copies(tiny, grids):
    model = tiny()
    weights = pack(model, torch.float32)
    before = step_by_step(weights, embedded(model, weights, grids))
    start = embedded(model, weights, grids)
    for p in model.parameters():
        p.zero_()
    assert torch.equal(step_by_step(weights, start), before)


def invariant(dtype: torch.dtype) -> bool:
    """Whether this processor's own products give a row the same bits in every batch."""
    x, weight = torch.randn(48, 64).to(dtype), torch.randn(64, 64).to(dtype)
    keys = torch.randn(48, 64, 64).to(dtype)
    product = decode._product(weight, None)
    both = (product, lambda x: torch.bmm(x[:, None], keys[: len(x)]))
    return all(torch.equal(f(x[:n]), f(x)[:n]) for f in both for n in (1, 2, 4, 16))


@pytest.mark.skipif(not native_bf16("cpu"), reason="bfloat16 is what this processor emulates")
def test_a_row_on_its_own_is_multiplied_as_among_others():
    torch.manual_seed(0)
    x, r = torch.randn(64, 2048).bfloat16(), torch.randn(64, 256).bfloat16()
    weight, bias = torch.randn(256, 2048).bfloat16(), torch.randn(256).bfloat16()
    product, gelu = decode._product(weight, bias), decode._product(weight, bias, "tanh")
    added = decode._residual(weight, bias)
    for f in (lambda n: product(x[n]), lambda n: gelu(x[n]), lambda n: added(x[n], r[n])):
        whole = f(slice(64))
        if not torch.equal(f(slice(2)), whole[:2]):
            pytest.skip("this processor's products depend on the batch")
        assert torch.equal(torch.cat([f(slice(i, i + 1)) for i in range(64)]), whole)


@pytest.mark.skipif(not native_bf16("cpu"), reason="bfloat16 is what this processor emulates")
@pytest.mark.parametrize("kv_heads", [0, 1])
@pytest.mark.parametrize("kind", [{}, {"condition": "embedding", "embedding_size": 96}])
def test_a_seed_gives_its_picture_in_every_batch(kind, kv_heads):
    if not invariant(torch.bfloat16):
        pytest.skip("this processor's products depend on the batch")
    torch.manual_seed(0)
    shape = {"codebook_size": 64, "height": 8, "width": 8, "layers": 4, "heads": 2, "dim": 128}
    config = PriorConfig(**shape, **kind, kv_heads=kv_heads, tie_head=False)
    model = GPT(config).eval().requires_grad_(False)
    for p in model.parameters():
        p.normal_(std=0.1)
    condition = torch.randn(20, 96) if kind else None
    how = {"cfg_scale": 2.0} if kind else {}

    def written(first, n, **more):
        own = {} if condition is None else {"condition": condition[first : first + n]}
        steps = sample(model, n, seed=7 + first, dtype=torch.bfloat16, **own, **how, **more)
        return finish(steps).grid

    whole = written(0, 20)
    assert len(whole.unique()) > 40  # not a few likely codes
    for first, n, ahead in ((0, 1, None), (19, 1, 1), (3, 1, 5), (2, 5, None), (4, 12, 2)):
        assert torch.equal(written(first, n, ahead=ahead), whole[first : first + n]), (first, n)
