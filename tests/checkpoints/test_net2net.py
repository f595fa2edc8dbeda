"""A published prior comes along with its VQGAN and writes what it wrote; others are refused."""

import re
import shutil

import pytest
import torch

import checkpoints
from checkpoints.convert import main
from prior.draw import main as draw
from prior.sample import finish, sample
from prior.sheet import Record
from tests.checkpoints.foreign_models import (
    TRANSFORMER,
    Foreign,
    MinGPT,
    net2net_state,
    net2net_yaml,
)

LABELS = {"target": "taming.modules.util.Labelator", "params": {"n_classes": 5}}


def save(folder, state, config: str) -> list[str]:
    """What the command takes for a checkpoint of this state and configuration."""
    torch.save({"epoch": 1, "state_dict": state}, folder / "last.ckpt")
    (folder / "model.yaml").write_text(config)
    file, out = str(folder / "last.ckpt"), str(folder / "out")
    return [file, out, "--format", "taming", "--config", str(folder / "model.yaml")]


@pytest.fixture
def grids():
    return torch.randint(16, (3, 16), generator=torch.Generator().manual_seed(2))


def as_kept(gpt: MinGPT) -> MinGPT:
    """Its weights as the bundle keeps them."""
    gpt.state = {name: value.half().float() for name, value in gpt.state.items()}
    return gpt


@pytest.mark.parametrize("start", [0, 9])
def test_an_unconditional_prior_computes_what_it_did(tmp_path, capsys, grids, start):
    gpt = MinGPT()
    main(save(tmp_path, net2net_state(gpt), net2net_yaml(sos_token=start)))
    said = capsys.readouterr().out
    assert "prior: 2 layers of 24" in said and "unconditional" in said
    assert "training only: loss.discriminator 1" in said
    bundle = checkpoints.load(tmp_path / "out")
    assert bundle.prior.config.condition == "start" and not bundle.prior.config.tie_head
    text = torch.cat([torch.full((3, 1), start), grids[:, :-1]], 1)
    expected = as_kept(gpt)(text)
    assert expected.std() > 1
    torch.testing.assert_close(bundle.prior(grids), expected, atol=1e-4, rtol=1e-4)
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(3)) * 2 - 1
    assert torch.equal(bundle.vqgan.encode(images).indices, Foreign("taming")(images)[1])


def test_a_class_conditional_prior_is_told_its_class(tmp_path, capsys, grids):
    gpt = MinGPT(vocabulary=18)
    config = net2net_yaml({"vocab_size": 18, "n_unmasked": 0}, cond_stage_config=LABELS)
    main(save(tmp_path, net2net_state(gpt), config))
    assert "told one of 5 classes" in capsys.readouterr().out
    prior = checkpoints.load(tmp_path / "out").prior
    assert prior.config.condition == "class" and prior.config.classes == 5
    mean = as_kept(MinGPT(vocabulary=18)).state["tok_emb.weight"][:5].mean(0)
    torch.testing.assert_close(prior.start, mean, atol=1e-3, rtol=0)
    for label in (0, 4):
        text = torch.cat([torch.full((3, 1), label), grids[:, :-1]], 1)
        expected = as_kept(gpt)(text)[..., :16]
        found = prior(grids, torch.full((3,), label))
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_a_text_as_long_as_its_codes(tmp_path, grids):
    gpt = MinGPT(block=16)
    main(save(tmp_path, net2net_state(gpt), net2net_yaml({"block_size": 16})))
    text = torch.cat([torch.zeros(3, 1, dtype=torch.int64), grids[:, :-1]], 1)
    found = checkpoints.load(tmp_path / "out").prior(grids)
    torch.testing.assert_close(found, as_kept(gpt)(text), atol=1e-4, rtol=1e-4)


PLAIN = {"target": "taming.modules.transformer.permuter.Identity"}


@pytest.mark.parametrize(
    "said",
    [
        {"permuter_config": PLAIN},
        {"unconditional": True, "cond_stage_config": {"target": "taming.Any"}},
        {"shape": {"n_unmasked": 1, "resid_pdrop": 0.1, "attn_pdrop": 0.1}},
    ],
)
def test_what_changes_nothing_is_taken(tmp_path, said):
    main(save(tmp_path, net2net_state(MinGPT()), net2net_yaml(**said)))
    assert checkpoints.load(tmp_path / "out").prior.config.condition == "start"


def test_it_writes_pictures(tmp_path, capsys):
    """Through the sampler and its cache, and by command."""
    gpt = MinGPT()
    main(save(tmp_path, net2net_state(gpt), net2net_yaml()))
    prior = checkpoints.load(tmp_path / "out").prior
    last = finish(sample(prior, 2, seed=3, dtype=torch.float32))
    cells = last.grid.flatten(1)
    text = torch.cat([torch.zeros(2, 1, dtype=torch.int64), cells[:, :-1]], 1)
    nats = torch.log_softmax(as_kept(gpt)(text), -1).gather(2, cells[..., None]).sum((1, 2))
    torch.testing.assert_close(last.log_likelihood, nats, atol=1e-3, rtol=1e-4)
    file = tmp_path / "two.png"
    draw(["--bundle", str(tmp_path / "out"), "--out", str(file), "-n", "2", "--seed", "3"])
    assert Record.read(file).codes.shape == (2, 4, 4)


def test_the_vqgan_alone(tmp_path, capsys):
    args = save(tmp_path, net2net_state(MinGPT()), net2net_yaml())
    main([*args, "--no-prior"])
    assert checkpoints.load(tmp_path / "out").prior is None
    main([args[0], str(tmp_path / "shape"), "--format", "taming", "--no-prior"])
    assert checkpoints.load(tmp_path / "shape").vqgan.config.codebook_size == 16


def without(name: str):
    return lambda state: state.pop(name)


def unmasked(state) -> None:
    state["transformer.blocks.1.attn.mask"][..., :3, :3] = 1


def changed(**values):
    """__ is a dot."""
    return lambda state: state.update({k.replace("__", "."): v for k, v in values.items()})


COORDINATES = {"target": "taming.modules.misc.coord.CoordStage", "params": {"n_embed": 16}}
SHUFFLED = {"target": "taming.modules.transformer.permuter.ZCurve", "params": {}}
NONE = LABELS | {"params": {"n_classes": 0}}
AIMLESS = {"target": None, "params": TRANSFORMER}
MANY = LABELS | {"params": {"n_classes": 17}}
HEADLESS = {
    "target": "taming.modules.transformer.mingpt.GPT",
    "params": {name: value for name, value in TRANSFORMER.items() if name != "n_head"},
}
LARGE = {"resolution": 16, "attn_resolutions": [8]}
BAD = {
    "coordinates": (None, {"cond_stage_config": COORDINATES}, "CoordStage, which conditions it"),
    "itself": (None, {"cond_stage_config": "__is_first_stage__"}, "__is_first_stage__, which"),
    "depth": (changed(cond_stage_model__a=torch.ones(1)), {}, "has cond_stage_model.a, which"),
    "order": (None, {"permuter_config": SHUFFLED}, "in the order of taming"),
    "order kept": (changed(permuter__a=torch.ones(1)), {}, "permuter.a, which writes the codes in"),
    "two unmasked": (None, {"shape": {"n_unmasked": 2}}, "n_unmasked is 2, which our prior"),
    "masks": (unmasked, {}, "see others after them"),
    "heads": (None, {"shape": {"n_head": 5}}, "heads is 5: it must divide dim, 24"),
    "no heads": (None, {"shape": {"n_head": 0}}, "n_head is 0: it must be a whole number"),
    "another kind": (None, {"shape": {"rotary": True}}, "rotary is True, which our prior"),
    "width": (
        None,
        {"shape": {"n_embd": 48}},
        "tok_emb.weight is 16x24, and by",
    ),
    "layers": (None, {"shape": {"n_layer": 1}}, "has no place here for transformer.blocks.1"),
    "more layers": (None, {"shape": {"n_layer": 3}}, "lacks transformer.blocks.2.ln1.weight"),
    "vocabulary": (None, {"shape": {"vocab_size": 15}}, "a vocabulary of 15 has no place for 16"),
    "start": (None, {"sos_token": 16}, "no place for 16 codes and token 16"),
    "shape": (changed(transformer__ln_f__bias=torch.ones(25)), {}, "ln_f.bias is 25, and by"),
    "places": (changed(transformer__pos_emb=torch.ones(())), {}, "transformer.pos_emb is , and by"),
    "block": (None, {"shape": {"block_size": 24}}, "pos_emb is 1x20x24, and by its"),
    "query": (
        changed(transformer__blocks__0__attn__query__weight=torch.ones(24, 12)),
        {},
        "attn.query.weight is 24x12, and by its configuration 24x24",
    ),
    "permuter": (changed(permuter__idx=torch.arange(16)), {}, "has permuter.idx, which"),
    "one place short": (None, {"shape": {"block_size": 15}}, "15 places has no room for 4 x 4"),
    "more classes": (None, {"cond_stage_config": MANY}, "no place for 16 codes and token 16"),
    "nothing of heads": (None, {"transformer_config": HEADLESS}, "transformer_config lacks n_head"),
    "size": (None, {"dd": LARGE}, "20 places has no room for 8 x 8 codes"),
    "classes": (None, {"cond_stage_config": NONE}, "n_classes is 0: it must be a whole number"),
    "start word": (None, {"sos_token": "x"}, "sos_token is 'x': it must be a whole number"),
    "no target": (None, {"transformer_config": AIMLESS}, "the transformer is a None"),
    "lost": (without("transformer.head.weight"), {}, "lacks transformer.head.weight"),
    "numbers": (changed(transformer__ln_f__bias=torch.ones(24).long()), {}, "ln_f.bias is torch"),
    "no transformer": (None, {"transformer_config": None}, "no configuration of a taming Net2Net"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_ours_cannot_be_is_refused(tmp_path, capsys, case):
    spoil, config, sentence = BAD[case]
    state = net2net_state(MinGPT())
    if spoil is not None:
        spoil(state)
    said = refused(capsys, save(tmp_path, state, net2net_yaml(**config)))
    assert sentence in said and not (tmp_path / "out").exists()


def test_the_size_of_pictures_is_the_priors(tmp_path, capsys):
    args = save(tmp_path, net2net_state(MinGPT()), net2net_yaml())
    said = refused(capsys, [*args, "--resolution", "4"])
    assert "writes pictures of 8 px: leave --resolution out, or the prior with --no-prior" in said
    main([*args, "--resolution", "4", "--no-prior"])
    assert checkpoints.load(tmp_path / "out").vqgan.config.resolution == 4
    shutil.rmtree(tmp_path / "out")
    main([*args, "--resolution", "8"])  # as its configuration says
    assert checkpoints.load(tmp_path / "out").prior is not None


def test_without_its_configuration(tmp_path, capsys):
    args = save(tmp_path, net2net_state(MinGPT()), net2net_yaml())
    assert re.search("number of heads .* --config, .* --no-prior", refused(capsys, args[:4]))


def refused(capsys, args: list[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        main(args)
    said = capsys.readouterr()
    assert stop.value.code == 2 and said.out == "" and said.err.count("\n") == 1
    return said.err
