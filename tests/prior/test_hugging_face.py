"""Hugging Face's GPT-2 and GPTBigCode give the same logits with the prior's weights."""

import pytest
import torch

from prior.hugging_face import from_hugging_face, to_big_code, to_hugging_face, unshared
from prior.model import GPT

KINDS = [{"condition": "start"}, {"condition": "first"}, {"condition": "class", "classes": 3}]
UNTIED = {"tie_head": False, "gelu": "exact"}
TOLD = {"condition": "embedding", "embedding_size": 5}
NO_TOKENS = {"bos_token_id": None, "eos_token_id": None}


def gpt2(model: GPT):
    from transformers import GPT2Config, GPT2LMHeadModel

    arguments, state = to_hugging_face(model)
    theirs = GPT2LMHeadModel(GPT2Config(**arguments, **NO_TOKENS)).eval()
    theirs.load_state_dict(state, strict=True)
    return theirs


def big_code(model: GPT):
    from transformers import GPTBigCodeConfig, GPTBigCodeForCausalLM

    arguments, state = to_big_code(model)
    theirs = GPTBigCodeForCausalLM(GPTBigCodeConfig(**arguments, **NO_TOKENS)).eval()
    theirs.load_state_dict(state, strict=True)
    return theirs


@torch.no_grad()
def check_same(model: GPT, theirs, grids: torch.Tensor) -> None:
    """Logits of every code within 1e-4, told a class where the prior knows some."""
    cfg, size = model.config, model.config.codebook_size
    condition = torch.arange(len(grids)) % 3 if cfg.classes else None
    ours, text = model(grids, condition), grids[:, :-1]
    assert ours.std() > 0.5
    if cfg.prefix:
        first = torch.full((len(grids),), size) if condition is None else size + 1 + condition
        text = torch.cat([first[:, None], text], 1)
    else:
        ours = ours[:, 1:]
    torch.testing.assert_close(theirs(text).logits[..., :size], ours, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [{}, UNTIED])
def test_gpt2_gives_the_same_logits(tiny, grids, kind, shape):
    model = tiny(**kind, **shape)
    theirs = gpt2(model)
    check_same(model, theirs, grids)
    back = from_hugging_face(theirs.state_dict(), model.config)
    for name, value in model.state_dict().items():
        assert torch.equal(back.state_dict()[name], value), name


@pytest.mark.parametrize("more", [{}, UNTIED, {"head_size": 3}])
@pytest.mark.parametrize("kv_heads", [1, 2])
def test_shared_heads_are_repeated_for_gpt2(tiny, grids, kv_heads, more):
    """Four heads of queries, so that it shows which of them share what."""
    model = tiny(heads=4, kv_heads=kv_heads, **more)
    check_same(model, gpt2(model), grids)
    with torch.no_grad():
        own = tiny(heads=4, **more)
        own.load_state_dict(unshared(model.state_dict(), model.config))
        torch.testing.assert_close(own(grids), model(grids), atol=1e-4, rtol=0)
    if not more:
        with pytest.raises(ValueError, match=f"kv_heads is {kv_heads}: GPT2LMHeadModel has keys"):
            from_hugging_face(to_hugging_face(model)[1], model.config)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [{}, UNTIED, {"head_size": 3}])
def test_big_code_has_what_all_heads_share_once(tiny, grids, kind, shape):
    model = tiny(heads=4, kv_heads=1, **kind, **shape)
    theirs = big_code(model)
    assert theirs.transformer.h[0].attn.c_attn.weight.shape == (16 + 2 * 4, 16)
    check_same(model, theirs, grids)


@pytest.mark.parametrize("shape", [{}, {"heads": 4, "kv_heads": 2}])
def test_big_code_takes_no_other_heads(tiny, shape):
    with pytest.raises(ValueError, match="only priors with kv_heads 1 convert to GPTBigCode"):
        to_big_code(tiny(**shape))


def test_narrow_heads_are_filled_up(tiny, grids):
    """Theirs have dim / heads channels, 8; ours 5, with the same logits."""
    model = tiny(head_size=5)
    assert model.blocks[0].qkv.weight.shape == (3 * 2 * 5, 16)
    before = model(grids)
    check_same(model, gpt2(model), grids)
    assert torch.equal(model(grids), before), "ours stays as it is"
    for odd in ({"head_size": 9}, {"heads": 5, "head_size": 3}):
        with pytest.raises(ValueError, match="do not fit into transformers' GPT-2"):
            to_hugging_face(tiny(**odd))
        with pytest.raises(ValueError, match="do not fit into transformers' GPT-2"):
            to_big_code(tiny(**odd, kv_heads=1))
    with pytest.raises(ValueError, match="does not fit the config"):
        from_hugging_face(to_hugging_face(model)[1], model.config)


def test_a_wrong_gpt2_is_refused(tiny):
    model = tiny()
    _, state = to_hugging_face(model)
    missing = {k: v for k, v in state.items() if k != "transformer.h.1.ln_2.bias"}
    with pytest.raises(ValueError, match=r"no transformer\.h\.1\.ln_2\.bias"):
        from_hugging_face(missing, model.config)
    with pytest.raises(ValueError, match="49 rows: this config needs 48"):
        from_hugging_face(state, tiny(condition="first").config)
    with pytest.raises(ValueError, match="does not fit the config"):
        from_hugging_face({**state, "transformer.ln_f.bias": torch.zeros(3)}, model.config)
    for convert in (to_hugging_face, to_big_code):
        with pytest.raises(ValueError, match="embedding prefix"):
            convert(tiny(**TOLD, kv_heads=1))
    with pytest.raises(ValueError, match="embedding prefix"):
        from_hugging_face(state, tiny(**TOLD).config)
