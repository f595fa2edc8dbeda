"""One step of training: corruption, batches, conditions, resume, and that it learns."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from prior.model import GPT, PriorConfig
from prior.narrow import narrowed
from prior.task import PriorTask, corrupt, divergence
from prior.tokens import TokenSet
from prior.train_config import TrainConfig
from training.loop import LoopConfig, run

MODEL = {"codebook_size": 16, "height": 4, "width": 4, "layers": 1, "heads": 2, "dim": 16}


def data(pictures: int = 12, seed: int = 0) -> TokenSet:
    """Rising diagonals from a random start: what precedes a code says what it is."""
    rng = np.random.default_rng(seed)
    start = rng.integers(16, size=(pictures, 2, 1, 1))
    steps = np.arange(4)[:, None] * 4 + np.arange(4)
    codes = ((start + steps) % 16).astype(np.uint16)
    rows = [
        {"split": "val" if i % 4 == 3 else "train", "kind": "icon" if i % 2 else "photo"}
        for i in range(pictures)
    ]
    return TokenSet(codes, rows, "abc", 16, {"sha256": None})


def task(tokens=None, model=None, loop=None, conditions=None, teacher=None, **train) -> PriorTask:
    cfg = TrainConfig(**{"batch": 4, **train})
    loop = LoopConfig(**{"bf16": False, "warmup": 0, "lr": 1e-2, **(loop or {})})
    model = PriorConfig(**MODEL | (model or {}))
    given = {"conditions": conditions, "teacher": teacher}
    return PriorTask(model, cfg, loop, tokens or data(), **given)


# --- the article's corruption ---------------------------------------------------------------------


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_the_share_of_changed_inputs_is_what_pkeep_says():
    tokens = torch.randint(512, (100, 256), generator=seeded())
    for pkeep in (0.9, 0.5):
        changed = corrupt(tokens, pkeep, 512, seeded()) != tokens
        # One in 512 replaced tokens happens to be the same.
        assert changed.float().mean() == pytest.approx((1 - pkeep) * 511 / 512, abs=0.01)


def test_replacements_are_any_code():
    tokens = torch.zeros(100, 256, dtype=torch.int64)
    noisy = corrupt(tokens, 0.1, 8, seeded())
    share = torch.bincount(noisy.flatten(), minlength=8) / noisy.numel()
    torch.testing.assert_close(share[1:], torch.full((7,), 0.9 / 8), atol=0.01, rtol=0)


def test_corruption_leaves_its_argument_alone_and_can_be_off():
    tokens = torch.randint(16, (8, 16), generator=seeded())
    before = tokens.clone()
    assert not torch.equal(corrupt(tokens, 0.5, 16, seeded()), tokens)
    assert torch.equal(tokens, before)
    same = corrupt(tokens, 1.0, 16, seeded())
    assert torch.equal(same, tokens) and same.data_ptr() != tokens.data_ptr()


def test_the_loss_is_of_whole_targets_read_from_corrupted_inputs(monkeypatch):
    """Both halves as the training step uses them, not only as the function gives them."""
    trained = task(pkeep=0.5)
    inputs, targets, *_ = trained.batch(0)
    assert 0.3 < (inputs != targets).float().mean() < 0.7
    whole = {tuple(g) for g in data().codes.reshape(-1, 16).tolist()}
    assert {tuple(t) for t in targets.tolist()} <= whole
    seen = []
    forward = GPT.forward
    monkeypatch.setattr(
        GPT, "forward", lambda m, x, *a, **k: seen.append(x) or forward(m, x, *a, **k)
    )
    with torch.no_grad():
        logits = trained.model(inputs)
        expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
    report = trained.train_step(0)
    assert torch.equal(seen[-1], inputs)
    assert report["bits"] == pytest.approx(float(expected) / math.log(2), rel=1e-5)


# --- batches --------------------------------------------------------------------------------------


def test_every_training_picture_comes_once_an_epoch():
    trained = task()
    train = data().where("train")
    first = np.concatenate([trained.picks(step)[0] for step in range(9)])  # four epochs of nine
    for epoch in range(4):
        assert sorted(first[9 * epoch : 9 * epoch + 9]) == sorted(train)
    assert first[:9].tolist() != first[9:18].tolist()


def test_a_batch_is_a_function_of_seed_and_step():
    a, b, other = task(), task(), task(loop={"seed": 1})
    a.batch(0), a.batch(1)
    assert torch.equal(a.batch(5)[0], b.batch(5)[0])
    assert not torch.equal(a.batch(5)[0], other.batch(5)[0])


def test_mirrored_pictures_are_half_of_them_or_none():
    tokens = data()
    tokens.codes[:, 1] = 15  # a mark
    mirrored = torch.cat([task(tokens).batch(i)[1] for i in range(40)])
    assert (mirrored == 15).all(1).float().mean() == pytest.approx(0.5, abs=0.15)
    plain = torch.cat([task(tokens, flips=False).batch(i)[1] for i in range(10)])
    assert not (plain == 15).all(1).any()


def test_varied_views_are_the_share_that_is_asked_for():
    plain = data()
    extra = np.full((12, 3, 4, 4), 15, np.uint16) - np.arange(3, dtype=np.uint16)[:, None, None]
    codes = np.concatenate([plain.codes, extra], 1)
    tokens = replace(plain, codes=codes, view_kinds=("moved",) * 3)
    assert tokens.views == 3 and plain.views == 0
    shares = []
    for share in (0.0, 0.5, 1.0):
        found = torch.cat([task(tokens, views=share).batch(i)[1] for i in range(40)])
        varied = found[(found == found[:, :1]).all(1)][:, 0]
        shares.append(len(varied) / len(found))
        assert share == 0 or set(varied.tolist()) == {13, 14, 15}  # each of them at times
    assert shares[0] == 0 and shares[1] == pytest.approx(0.5, abs=0.15) and shares[2] == 1
    # Without them nothing changes: the same batches, and the same bits of counting codes.
    assert torch.equal(task(tokens).batch(3)[0], task().batch(3)[0])
    assert task(tokens).unigram == task().unigram


def test_kinds_of_views_are_told_with_their_grids(monkeypatch):
    extra = np.full((12, 3, 4, 4), 15, np.uint16) - np.arange(3, dtype=np.uint16)[:, None, None]
    kinds = ("moved", "recoloured", "turned")
    tokens = replace(data(), codes=np.concatenate([data().codes, extra], 1), view_kinds=kinds)
    trained = task(tokens, {"view_kinds": 3}, views=0.6)
    seen = set()
    for step in range(20):
        batch = trained.batch(step)
        for target, kind in zip(batch.targets, batch.kinds.tolist(), strict=True):
            varied = bool((target == target[0]).all())
            seen.add((int(target[0]) if varied else None, kind))
    assert seen == {(None, 0), (15, 1), (14, 3), (13, 2)}
    given, forward = [], GPT.forward
    monkeypatch.setattr(GPT, "forward", lambda m, *a, **k: given.append(k) or forward(m, *a, **k))
    trained.train_step(0)
    assert torch.equal(given[0]["kinds"], trained.batch(0).kinds)
    assert task(tokens, views=0.6).batch(0).kinds is None  # not told, as before
    with pytest.raises(ValueError, match="view_kinds is 2: these tokens need 3, or 0 to tell none"):
        task(tokens, {"view_kinds": 2})


def test_kinds_choose_pictures():
    trained = task(kinds=("icon",))
    assert {trained.codes.shape[0], *trained.train} <= {12, 1, 5, 9}
    with pytest.raises(ValueError, match="0 training and 0 held-out pictures of clipart"):
        task(kinds=("clipart",))


# --- conditions -----------------------------------------------------------------------------------


def embeddings(choices: int = 2) -> np.ndarray:
    """(12, M, 3): the picture's number, and which of its embeddings this is."""
    number = np.arange(12.0)[:, None] * np.ones(choices)
    which = np.arange(choices) * np.ones((12, 1))
    return np.stack([number, which, which], -1).astype(np.float16)


def test_conditions_belong_to_their_pictures_and_are_dropped_at_times():
    model = {"condition": "embedding", "embedding_size": 3}
    trained = task(model=model, conditions=embeddings(), drop=0.3)
    numbers, choices, drops = [], [], []
    for step in range(60):
        picks, _ = trained.picks(step)
        _, _, condition, dropped, _ = trained.batch(step)
        assert condition.dtype == torch.float32
        numbers += (condition[:, 0].numpy() == picks).tolist()
        choices += condition[:, 1].tolist()
        drops += dropped.tolist()
    assert all(numbers)
    assert np.mean(choices) == pytest.approx(0.5, abs=0.12)
    assert np.mean(drops) == pytest.approx(0.3, abs=0.1)


def test_the_step_trains_with_what_the_batch_drops(monkeypatch):
    model = {"condition": "embedding", "embedding_size": 3}
    teacher = prior(**model)
    trained = task(model=model, conditions=embeddings(), drop=0.5, distil=0.5, teacher=teacher)
    seen, forward = [], GPT.forward
    monkeypatch.setattr(
        GPT, "forward", lambda m, *a, **k: seen.append((m, a)) or forward(m, *a, **k)
    )
    trained.train_step(3)
    assert [m for m, _ in seen] == [trained.model, teacher]
    for _, read in seen:
        for given, expected in zip(read, (trained.batch(3)[i] for i in (0, 2, 3)), strict=True):
            assert torch.equal(given, expected)


def test_classes_are_conditions_too():
    classes = np.arange(12) % 3
    trained = task(model={"condition": "class", "classes": 3}, conditions=classes)
    picks, _ = trained.picks(0)
    assert trained.batch(0)[2].tolist() == (picks % 3).tolist()
    figures = trained.evaluate(0, None)
    assert figures.keys() == {"val_bits", "val_free_bits", "unigram_bits"}


def test_a_condition_is_learnt_and_so_is_its_absence():
    """The class says where the diagonal starts; without it the first code is a guess."""
    tokens = data(48)
    classes = tokens.codes[:, 0, 0, 0].astype(np.int64)
    trained = task(
        tokens,
        model={"condition": "class", "classes": 16},
        conditions=classes,
        flips=False,
        pkeep=1.0,
        drop=0.3,
        batch=16,
        loop={"ema": 0.9},
    )
    for step in range(150):
        trained.train_step(step)
    figures = trained.evaluate(0, None)
    assert figures["val_bits"] < 0.1 < 0.2 < figures["val_free_bits"] < 1


@pytest.mark.parametrize(
    "less", [{"head_size": 5}, {"kv_heads": 1}, {"head_size": 12, "kv_heads": 1}]
)
def test_training_can_begin_with_less_to_keep(less):
    wide = task(model={"layers": 2})
    cut = task(model={"layers": 2, **less})
    cut.init_from(wide.model)
    size, kv_heads = less.get("head_size", 8), less.get("kv_heads", 0)
    expected = narrowed(wide.model, size, cut.typical(256), kv_heads).state_dict()
    for name, value in cut.model.state_dict().items():
        assert torch.equal(value, expected[name]), name
    assert torch.equal(cut.ema.shadow["blocks.1.qkv.weight"], expected["blocks.1.qkv.weight"])
    deeper = task(model={"layers": 4, **less})  # both at once
    deeper.init_from(wide.model)
    inputs = deeper.typical(9)
    torch.testing.assert_close(deeper.model(inputs), cut.model(inputs))
    assert all(block.qkv.weight.any(1).all() for block in deeper.model.blocks)
    tokens = data()
    whole = torch.from_numpy(tokens.codes[tokens.where("train"), 0].astype(np.int64)).flatten(1)
    assert torch.equal(cut.typical(256), whole)
    assert torch.equal(cut.typical(2), whole[[0, -1]])


# --- a teacher ------------------------------------------------------------------------------------


def prior(seed: int = 1, std: float = 0.3, **changed) -> GPT:
    torch.manual_seed(seed)
    model = GPT(PriorConfig(**MODEL | changed)).eval().requires_grad_(False)
    for p in model.parameters():
        p.normal_(std=std)
    return model


def test_the_divergence_is_kl_from_the_teacher():
    taught, logits = torch.randn(2, 3, 5, 7, generator=seeded())
    p, q = taught.softmax(-1), logits.softmax(-1)
    expected = (p * (p / q).log()).sum(-1).mean()
    torch.testing.assert_close(divergence(taught, logits), expected)
    assert divergence(taught, taught + 3) == pytest.approx(0, abs=1e-6)


def test_a_teacher_is_followed_in_what_it_makes_of_the_same_inputs():
    """One that the data knows nothing of, with its conditions; the share says how closely."""
    kind = {"condition": "embedding", "embedding_size": 3}
    how = {"conditions": embeddings(), "model": kind, "batch": 8, "loop": {"lr": 1e-2}}
    apart = {}
    for share in (0.0, 0.3, 1.0):
        teacher = prior(**kind)
        trained = task(distil=share, teacher=teacher if share else None, **how)
        for step in range(100):
            report = trained.train_step(step)
        batch = trained.batch(100)
        with torch.no_grad():
            asked = (batch.inputs, batch.condition, batch.dropped)
            apart[share] = float(divergence(teacher(*asked), trained.model(*asked)))
        assert report.keys() == {"bits", "grad", "lr"} | ({"kl_bits"} if share else set())
    assert apart[1.0] < 0.4 * apart[0.3] < 0.4 * apart[0.0]
    state = prior(**kind).state_dict()
    assert all(torch.equal(v, state[k]) for k, v in teacher.state_dict().items())


def test_the_loss_is_shared_between_codes_and_teacher():
    """What is reported, from the batch of that step."""
    teacher = prior()
    trained = task(distil=0.25, teacher=teacher, loop={"clip": 1e9, "lr": 1e-9})
    batch = trained.batch(0)
    logits = trained.model(batch.inputs)
    nats = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.targets.flatten())
    apart = divergence(teacher(batch.inputs), logits)
    (0.75 * nats + 0.25 * apart).backward()
    grads = [p.grad for p in trained.model.parameters() if p.grad is not None]
    norm = float(torch.stack([g.norm() for g in grads]).norm())
    trained.model.zero_grad()
    report = trained.train_step(0)
    assert report["bits"] == pytest.approx(float(nats.detach()) / math.log(2), rel=1e-5)
    assert report["kl_bits"] == pytest.approx(float(apart.detach()) / math.log(2), rel=1e-4)
    assert report["grad"] == pytest.approx(norm, rel=1e-4)


@pytest.mark.parametrize(
    ("how", "named"),
    [
        ({"distil": 0.5}, "distil is 0.5: it needs --teacher"),
        ({"teacher": prior()}, "--teacher needs --distil"),
        ({"distil": -0.1}, "distil is -0.1"),
        ({"distil": 1.5, "teacher": prior()}, "distil is 1.5"),
        ({"distil": 1, "teacher": prior(codebook_size=8)}, "its prior has codebook_size 8, and"),
        ({"distil": 1, "teacher": prior(condition="first")}, "has condition first, and this one"),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused(how, named):
    with pytest.raises(ValueError, match=named):
        task(**how)


# --- learning, evaluating, resuming ---------------------------------------------------------------


@pytest.mark.parametrize("kv_heads", [0, 1])
def test_it_learns_beyond_the_unigram(kv_heads):
    trained = task(model={"kv_heads": kv_heads}, loop={"ema": 0.9})
    start = trained.evaluate(0, None)
    assert start["val_bits"] == pytest.approx(4, abs=0.3)
    for step in range(120):
        report = trained.train_step(step)
    end = trained.evaluate(0, None)
    assert report.keys() == {"bits", "grad", "lr"}
    assert end["val_bits"] < 1 < end["unigram_bits"]
    assert 3.8 < end["unigram_bits"] < 4.3


def test_evaluation_is_of_averaged_weights_on_clean_grids():
    trained = task(pkeep=0.2)
    for step in range(20):
        trained.train_step(step)
    model, tokens = trained.averaged(), data()
    grids = torch.from_numpy(tokens.codes[tokens.where("val"), 0].astype(np.int64)).flatten(1)
    with torch.no_grad():
        logits = model(grids)
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), grids.flatten())
    assert trained.evaluate(0, None)["val_bits"] == pytest.approx(float(expected) / math.log(2))
    assert not torch.equal(model.wte.weight, trained.model.wte.weight)
    for name, value in trained.ema.shadow.items():
        assert torch.equal(model.state_dict()[name], value)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_ten_steps_equal_five_and_five_more(tmp_path, optimizer):
    whole = task(loop={"bf16": True}, optimizer=optimizer)
    for step in range(10):
        whole.train_step(step)
    half = task(loop={"bf16": True}, optimizer=optimizer)
    for step in range(5):
        half.train_step(step)
    torch.save(half.state_dict(), tmp_path / "s.pt")
    resumed = task(loop={"bf16": True, "seed": 0}, optimizer=optimizer)
    resumed.load_state_dict(torch.load(tmp_path / "s.pt", weights_only=True))
    for step in range(5, 10):
        resumed.train_step(step)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name
    for name, value in whole.ema.shadow.items():
        assert torch.equal(resumed.ema.shadow[name], value), name


def test_how_often_is_evaluated_changes_no_weight(tmp_path):
    """Dropout draws from the numbers that new models draw their weights from."""
    found = []
    for every in (0, 1):
        loop = {"steps": 3, "sample_every": every}
        trained = task(model={"dropout": 0.3}, loop=loop)
        run(trained, trained.loop, tmp_path / str(every), {}, resume=False)
        found.append(trained.model.wte.weight)
    assert torch.equal(*found)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_resuming_takes_the_settings_that_are_given_now(optimizer):
    """Not those of the checkpoint: its weights and moments are what goes on."""
    before, now = {"weight_decay": 0.1, "beta1": 0.8}, {"weight_decay": 0.3, "beta1": 0.7}
    old = task(optimizer=optimizer, **before)
    old.train_step(0)
    state = copy.deepcopy(old.state_dict())  # torch's loading shares what it can
    resumed = task(optimizer=optimizer, **now)
    resumed.load_state_dict(copy.deepcopy(state))
    groups = resumed.opt.param_groups
    assert {g["weight_decay"] for g in groups} == {0.3, 0.0}
    assert {g["betas"][0] for g in groups if "betas" in g} == {0.7}
    same = task(optimizer=optimizer, **before)
    same.load_state_dict(state)
    for trained in (old, resumed, same):
        trained.train_step(1)
    assert torch.equal(old.model.wte.weight, same.model.wte.weight)
    assert not torch.equal(old.model.wte.weight, resumed.model.wte.weight)


def test_matrices_alone_decay():
    trained = task(model={"tie_head": False})
    decayed, others = trained.opt.param_groups
    assert decayed["weight_decay"] == 0.05 and others["weight_decay"] == 0
    assert all(p.ndim == 2 for p in decayed["params"])
    assert all(p.ndim == 1 for p in others["params"])
    assert len(decayed["params"]) + len(others["params"]) == len(list(trained.model.parameters()))


def test_muon_takes_the_matrices_of_the_layers():
    trained = task(optimizer="muon")
    inner, decayed, others = trained.opt.param_groups
    names = {id(p): n for n, p in trained.model.named_parameters()}
    kinds = ("qkv", "proj", "fc", "out")
    assert {names[id(p)] for p in inner["params"]} == {f"blocks.0.{k}.weight" for k in kinds}
    assert {names[id(p)] for p in decayed["params"]} == {"wte.weight", "wpe.weight"}
    assert all(p.ndim == 1 for p in others["params"])
    before = trained.model.blocks[0].fc.weight.detach().clone()
    trained.train_step(0)
    change = trained.model.blocks[0].fc.weight.detach() - before * (1 - 1e-2 * 0.05)
    values = torch.linalg.svdvals(change / (1e-2 * 0.2 * 64**0.5))  # lr * 0.2 * sqrt(longer side)
    # Orthogonal up to its few iterations, but for directions that hardly have a gradient.
    assert values[:12].min() > 0.5 and values.max() < 1.5


# --- what is refused ------------------------------------------------------------------------------

EMBEDDED = {"condition": "embedding", "embedding_size": 3}
CLASSES = {"condition": "class", "classes": 3}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model": {"height": 5}}, "grids of 4 x 4: the prior's height and width are 5 x 4"),
        ({"model": {"codebook_size": 32}}, "come from 16 codes"),
        ({"model": EMBEDDED}, "needs a file of conditions"),
        ({"conditions": embeddings()}, "takes no file of conditions"),
        ({"model": EMBEDDED, "conditions": embeddings()[:11]}, r"shape \(12, choices, 3\)"),
        ({"model": EMBEDDED, "conditions": embeddings()[..., :2]}, r"shape \(12, choices, 3\)"),
        ({"model": EMBEDDED, "conditions": embeddings() * np.nan}, "finite floats"),
        ({"model": CLASSES, "conditions": np.full(12, 3)}, "in 0 to 2"),
        ({"model": CLASSES, "conditions": np.zeros(12)}, "whole numbers"),
        ({"pkeep": 0.0}, "pkeep is 0.0"),
        ({"pkeep": math.nan}, "pkeep is nan"),
        ({"batch": 0}, "batch is 0"),
        ({"held_out": 0}, "held_out is 0"),
        ({"drop": 1.5}, "drop is 1.5"),
        ({"views": 1.5}, "views is 1.5"),
        ({"views": 0.5}, "hold no varied views: make some with prior.tokens --views"),
        ({"weight_decay": -1.0}, "weight_decay is -1.0"),
        ({"beta2": 1.0}, "beta2 is 1.0"),
    ],
)
def test_what_does_not_fit_is_named(change, named):
    with pytest.raises(ValueError, match=named):
        task(**change)


def test_a_batch_is_shared_evenly(monkeypatch):
    monkeypatch.setattr("training.distributed.world_size", lambda: 3)
    with pytest.raises(ValueError, match="multiple of 3 processes"):
        task()


def test_processes_share_a_batch_without_overlap(monkeypatch):
    alone, trained = task().picks(3)[0], task()
    monkeypatch.setattr("training.distributed.world_size", lambda: 2)
    parts = []
    for rank in range(2):
        monkeypatch.setattr("training.distributed.rank", lambda rank=rank: rank)
        parts.append(trained.picks(3)[0])
    assert np.array_equal(np.concatenate(parts), alone)


# --- starting from a trained prior ----------------------------------------------------------------


def test_starting_from_a_prior_goes_on_from_its_weights():
    old = task()
    for step in range(5):
        old.train_step(step)
    start, new = old.averaged(), task()
    new.init_from(start)
    grids = torch.arange(16)[None]
    assert torch.equal(new.model(grids), start(grids))
    assert torch.equal(new.averaged()(grids), start(grids))
    new.train_step(0)
    assert not torch.equal(new.model(grids), start(grids))


@pytest.mark.parametrize(
    ("changed", "flag"),
    [
        ({"heads": 4}, "heads 2, and this one would have 4: leave out --heads"),
        ({"heads": 1, "head_size": 6}, "heads 2, and this one would have 1: leave out --heads"),
        ({"heads": 4, "head_size": 4, "layers": 2}, "leave out --heads"),
        ({"gelu": "exact"}, "gelu tanh, and this one would have exact: leave out --gelu"),
        ({"dim": 8}, "dim 16, and this one would have 8: leave out --dim"),
        ({"head_size": 9}, "head_size 8, and this one would have 9: leave out --head-size"),
        ({"tie_head": False}, "tie_head True, .* have False: leave out --no-tie-head"),
    ],
)
def test_what_weights_cannot_be_brought_to_is_refused_by_its_flag(changed, flag):
    """Or would mean something else, though their shapes fit."""
    with pytest.raises(ValueError, match=f"--init: its prior has .*{flag}"):
        task(model=changed).init_from(task().model)


def test_a_prior_cannot_begin_as_one_with_fewer_layers():
    with pytest.raises(ValueError, match="layers 2, and this one would have 1: leave out --layers"):
        task().init_from(task(model={"layers": 2}).model)


def test_heads_that_share_keys_and_values_stay_as_many():
    start = task(model={"heads": 4, "head_size": 4, "kv_heads": 2}).model
    for kv_heads, said in ((1, "would have 1"), (0, "would have 4")):
        other = task(model={"heads": 4, "head_size": 4, "kv_heads": kv_heads})
        with pytest.raises(ValueError, match=f"kv_heads 2, and this one {said}: leave out --kv"):
            other.init_from(start)


def test_a_start_whose_heads_share_nothing_may_say_so_or_not():
    start, new = task(model={"kv_heads": 2}), task()
    new.init_from(start.model)
    grids = torch.arange(16)[None]
    assert torch.equal(new.model(grids), start.model(grids))


def test_a_start_for_grids_of_another_form_is_refused():
    """As many cells, so all shapes fit; but a place in the text would be another in the grid."""
    with pytest.raises(ValueError, match=r"height 2, .* 4: leave out --height"):
        task().init_from(prior(height=2, width=8))
