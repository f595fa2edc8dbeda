"""Deeper priors, and readers of sketches, that begin as what they grew from."""

import pytest
import torch

from prior.grow import grown, origins, reader_grown
from prior.model import GPT, PriorConfig
from prior.sketch import SketchReader, config_for

CONFIG = {"codebook_size": 12, "height": 4, "width": 4, "heads": 2, "dim": 16}


def trained(layers: int = 3, **changed) -> GPT:
    """A prior whose every layer does something."""
    torch.manual_seed(0)
    model = GPT(PriorConfig(**{**CONFIG, "layers": layers, **changed})).eval()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return model


def test_new_layers_are_spread_and_follow_what_they_copy():
    plain, new = False, True
    assert origins(2, 4) == [(0, plain), (0, new), (1, plain), (1, new)]
    assert origins(4, 6) == [(0, plain), (1, plain), (1, new), (2, plain), (3, plain), (3, new)]
    for before in range(1, 9):
        for after in range(before, 25):
            layout = origins(before, after)
            assert len(layout) == after
            assert [i for i, new in layout if not new] == list(range(before))
            assert [i for i, _ in layout] == sorted(i for i, _ in layout)


@pytest.mark.parametrize("layers", [3, 4, 5, 7])
@pytest.mark.parametrize(
    "kind",
    [{}, {"condition": "embedding", "embedding_size": 5}, {"tie_head": False}, {"kv_heads": 1}],
)
def test_a_grown_prior_gives_the_same_logits(layers, kind):
    prior = trained(**kind)
    deeper = grown(prior, layers).eval()
    assert deeper.config.layers == len(deeper.blocks) == layers
    grids = torch.randint(12, (3, 16), generator=torch.Generator().manual_seed(1))
    condition = torch.randn(3, 5) if kind.get("embedding_size") else None
    logits = prior(grids, condition)
    assert logits.std() > 0.2
    torch.testing.assert_close(deeper(grids, condition), logits)


def test_new_layers_learn():
    """Zeros are only where what a new layer gives joins the stream: gradients reach it."""
    deeper = grown(trained(), 6)
    grids = torch.randint(12, (2, 16), generator=torch.Generator().manual_seed(1))
    deeper(grids).square().mean().backward()
    new = [b for b, (_, new) in zip(deeper.blocks, origins(3, 6), strict=True) if new]
    assert len(new) == 3
    for block in new:
        assert block.proj.weight.grad.any() and block.out.weight.grad.any()
        assert block.qkv.weight.any() and block.fc.weight.any()


def test_a_prior_cannot_shrink():
    with pytest.raises(ValueError, match="3 layers can only grow"):
        grown(trained(), 2)


@pytest.mark.parametrize("layers", [3, 4, 6, 8])
def test_a_grown_reader_gives_the_same_logits_beside_a_grown_prior(layers):
    prior = trained()
    reader = SketchReader(config_for(prior.config, patch=2, channels=4)).eval()
    for p in reader.parameters():
        torch.nn.init.normal_(p, std=0.3)
    lines = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(1)).round()
    grids = torch.randint(12, (2, 16), generator=torch.Generator().manual_seed(1))
    logits = prior(grids, shifts=reader(lines))
    assert (logits - prior(grids)).abs().max() > 0.1
    more = reader_grown(reader, layers).eval()
    assert more.config == config_for(grown(prior, layers).config, patch=2, channels=4)
    torch.testing.assert_close(grown(prior, layers).eval()(grids, shifts=more(lines)), logits)
    with pytest.raises(ValueError, match="can only grow"):
        reader_grown(reader, 2)
