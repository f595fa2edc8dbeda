"""Sketches: lines of pictures, what a reader adds to a prior, and that every way to read agrees."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import checkpoints
from prior import encode, export, sketches, tokens, train, train_sketch
from prior.draw import main as draw
from prior.grow import grown
from prior.model import token_nats
from prior.sample import finish, sample
from prior.sheet import Record
from prior.sketch import (
    SketchConfig,
    SketchReader,
    config_for,
    drawn,
    edges,
    from_text,
    paper,
    picture_lines,
    shifts_of,
    thicken,
)
from prior.sketch_task import SketchTask
from prior.tokens import TokenSet
from prior.train_config import TrainConfig
from training.checkpoint import load as load_checkpoint
from training.loop import LoopConfig
from vqgan.model import VQGAN, VQGANConfig

PATCH = 4  # pixels along a cell of the tiny prior: sketches of 24 x 28


def reader_for(prior, strength: float = 1.0) -> SketchReader:
    """A reader with opinions: a new one adds nothing."""
    torch.manual_seed(1)
    reader = SketchReader(config_for(prior.config, PATCH, 8)).eval().requires_grad_(False)
    reader.shifts.weight.normal_(std=strength)
    return reader


pytestmark = pytest.mark.usefixtures("few_ranges")


@pytest.fixture(scope="module")
def lines() -> torch.Tensor:
    """(5, 1, 24, 28): random lines."""
    return (torch.rand(5, 1, 24, 28, generator=torch.Generator().manual_seed(2)) > 0.9).float()


def test_a_new_reader_adds_nothing(prior, grids, lines):
    reader = SketchReader(config_for(prior.config, PATCH, 8))
    shifts = reader(lines)
    assert shifts.shape == (5, 42, 3, 16) and not shifts.any()
    assert torch.equal(prior(grids, shifts=shifts), prior(grids))


def test_what_is_added_counts_from_its_cell_on(prior, grids, lines):
    """A code depends on what is added at its own cell, in every layer, and not on later cells."""
    shifts = reader_for(prior)(lines)
    before = prior(grids, shifts=shifts)
    for layer in range(3):
        changed = shifts.clone()
        changed[:, 20, layer] += torch.linspace(-1, 1, 16)
        after = prior(grids, shifts=changed)
        assert torch.equal(after[:, :20], before[:, :20])
        assert not torch.allclose(after[:, 20], before[:, 20], atol=1e-3)
        later = not torch.allclose(after[:, 21:], before[:, 21:], atol=1e-5)
        assert later == (layer < 2)  # the last is behind all attention


def test_a_line_is_seen_from_eight_cells_around(prior):
    reader, empty = reader_for(prior), torch.zeros(1, 1, 24, 28)
    one = empty.clone()
    one[0, 0, 1, 1] = 1  # in the first cell
    seen = (reader(one) != reader(empty)).flatten(2).any(2).view(6, 7)
    assert seen.all()  # 6 x 7 cells: the last is six away
    assert not (reader(thicken(one, 3))[0, 0] == reader(one)[0, 0]).all()
    wide = SketchReader(SketchConfig(height=1, width=20, patch=2, layers=1, dim=4, channels=8))
    wide.requires_grad_(False).shifts.weight.normal_()
    empty, one = torch.zeros(2, 1, 1, 2, 40)
    one[0, 0, 0, 20] = 1  # in cell 10
    seen = (wide(one) != wide(empty)).flatten(2).any(2)[0]
    assert torch.where(seen)[0].tolist() == [*range(2, 19)]


@pytest.mark.parametrize("ahead", [1, 12])
def test_written_codes_are_those_of_the_whole_model(prior, lines, ahead):
    """Greedy grids, read from the cache some codes a pass, beside GPT.forward on the whole grid."""
    shifts = reader_for(prior)(lines)
    settings = {"seed": 0, "temperature": 0.0, "dtype": torch.float32, "ahead": ahead}
    last = finish(sample(prior, 5, shifts=shifts, **settings))
    logits = prior(last.grid.flatten(1), shifts=shifts)
    assert torch.equal(logits.argmax(-1).view_as(last.grid), last.grid)
    nats = token_nats(logits, last.grid.flatten(1)).sum(1)
    assert torch.allclose(-nats, last.log_likelihood, atol=1e-3)
    free = finish(sample(prior, 5, **settings)).grid
    assert (free != last.grid).float().mean() > 0.3
    alone = finish(sample(prior, 1, shifts=shifts[3:4], **settings | {"seed": 3})).grid
    assert torch.equal(alone[0], last.grid[3])


def test_guidance_goes_from_nothing_given_towards_all_that_is(tiny, lines):
    """Alone, and with a condition: what is pulled away from has neither."""
    prior = tiny(condition="class", classes=3)
    shifts = reader_for(prior)(lines[:2])
    settings = {"seed": 0, "temperature": 0.0, "cfg_scale": 2.0, "dtype": torch.float32}
    for kind in (None, torch.tensor([0, 2])):
        grid = finish(sample(prior, 2, shifts=shifts, condition=kind, **settings)).grid
        told, free = prior(grid.flatten(1), kind, shifts=shifts), prior(grid.flatten(1))
        assert torch.equal((free + 2 * (told - free)).argmax(-1).view_as(grid), grid)
        plain = finish(
            sample(prior, 2, shifts=shifts, condition=kind, **settings | {"cfg_scale": 1.0})
        )
        assert (plain.grid != grid).any()


def test_sketches_that_do_not_fit_are_refused(prior, tiny, lines):
    shifts = reader_for(prior)(lines)
    with pytest.raises(ValueError, match="a sketch is of 6 x 7 codes"):
        sample(prior, 5, seed=0, shifts=shifts, size=(8, 8))
    with pytest.raises(ValueError, match=r"this prior takes \(3, 42, 3, 16\)"):
        sample(prior, 3, seed=0, shifts=shifts)
    with pytest.raises(ValueError, match="only with a start token"):
        sample(tiny(condition="first"), 5, seed=0, shifts=shifts)
    with pytest.raises(ValueError, match="needs a start token"):
        config_for(tiny(condition="first").config, PATCH)
    with pytest.raises(ValueError, match=r"expected \(B, 1, 24, 28\)"):
        reader_for(prior)(lines[:, :, :20])
    with pytest.raises(ValueError, match="channels is 0"):
        SketchConfig(channels=0)


def test_edges_of_a_square_are_its_outline():
    picture = -torch.ones(2, 3, 32, 32)
    picture[0, :, 8:24, 8:24] = 1
    picture[1, 2, 8:24, 8:24] = -0.6  # a fifth of the range, in blue only
    found = edges(picture)
    outline = thicken(found[0, :1, None].float(), 3)[0, 0]
    inside = torch.zeros(32, 32)
    inside[8:24, 8:24] = 1
    ring = thicken(inside[None, None], 3)[0, 0] - (1 - thicken(1 - inside[None, None], 3)[0, 0])
    assert outline[ring > 0].float().mean() > 0.95  # corners are round
    assert not found[0, :, 11:21, 11:21].any() and not found[0, :, :6].any()
    assert 40 < found[0, 0].sum() < 80  # a pixel wide: the outline is 60 long
    assert not found[1, 0].any() and found[1, 1].sum() > 40  # faint: an edge, but no outline
    assert not edges(torch.full((1, 3, 16, 16), 0.3)).any()


def test_edges_that_slant_are_found_whole_and_thin():
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    away = (x - 15).abs() + (y - 15).abs()  # a square on its tip
    picture = torch.where(away < 10, 1.0, -1.0).expand(1, 3, 32, 32)
    found = edges(picture)[0, 0]
    assert thicken(found[None, None].float(), 3)[0, 0][away.sub(9.5).abs() < 1].all()
    assert found.sum() <= 80, "two pixels wide, or one"
    assert not edges(picture.mul(0.08)).any(), "too faint"


def test_lines_of_a_picture_are_its_every_edge_three_pixels_wide():
    picture = Image.new("RGB", (32, 16), (120,) * 3)
    picture.paste((165,) * 3, (0, 0, 14, 16))  # too faint for an outline
    lines = picture_lines(picture, (16, 32))
    assert lines.shape == (16, 32) and lines.dtype == bool
    assert set(lines.sum(1)) == {3} and lines[:, 13:15].all()
    page = paper(torch.from_numpy(lines)[None, None].float())
    assert page.shape == (1, 16, 32, 3) and page.dtype == np.uint8
    assert np.array_equal(page[0], np.where(lines[..., None], 0, 255).repeat(3, 2))


def test_a_drawing_becomes_lines_of_the_models_size():
    canvas = np.zeros((512, 512), np.uint8)
    canvas[100:102, :] = 255  # thinner than a pixel of 128
    found = drawn(canvas, (128, 128))
    assert found.shape == (1, 1, 128, 128) and found[0, 0, 25].all() and found.sum() == 128
    assert not drawn(np.full((64, 64), 90, np.uint8), (128, 128)).any()  # a faint touch is none


def test_it_learns_to_follow_lines_and_leaves_the_prior_alone(tiny, monkeypatch, tmp_path):
    prior = tiny(width=8, condition="start")
    before = {k: v.clone() for k, v in prior.state_dict().items()}
    rng = np.random.default_rng(0)
    there = rng.random((40, 6, 8)) < 0.3
    bits = there.repeat(PATCH, 1).repeat(PATCH, 2)[:, None].repeat(2, 1)
    codes = np.where(there, 7, 3).astype(np.uint16)
    rows = [{"split": "val" if i % 3 == 2 else "train", "kind": "icon"} for i in range(40)]
    found = TokenSet(np.stack([codes, codes[:, :, ::-1]], 1), rows, "t", 48, {"sha256": "d"})
    loop = LoopConfig(steps=100, lr=3e-2, warmup=5, ema=0.8, clip=0.0, bf16=False)
    config = config_for(prior.config, PATCH, 16)
    monkeypatch.setattr("prior.sketch_task.SLIP", 0)
    bits[2::3, 0] = False  # the outlines of what is held out
    packed = np.packbits(bits, axis=3)
    task = SketchTask(prior, config, TrainConfig(batch=8, held_out=13), loop, found, packed)
    free = task.sketch_bits(None, 1)
    assert task.sketch_bits(task.averaged(), 1) == pytest.approx(free)
    for step in range(100):
        task.train_step(step)
    reader = task.averaged()
    told, wrong = task.sketch_bits(reader, 1), task.sketch_bits(reader, 1, turn=1)
    assert told < 0.55 * free and wrong > 1.7 * told
    figures = task.evaluate(100, tmp_path)
    outlines = task.sketch_bits(reader, 0)
    assert outlines > 1.2 * told and figures == {
        "val_bits": told, "val_outline_bits": outlines, "val_free_bits": free,
        "val_wrong_bits": wrong,
    }  # fmt: skip
    grids, shown = torch.from_numpy(codes[2::3].astype(np.int64)), torch.from_numpy(bits[2::3, 1:])
    nats = token_nats(
        prior(grids.flatten(1), shifts=reader(thicken(shown.float(), 3))), grids.flatten(1)
    )
    assert told == pytest.approx(float(nats.mean()) / math.log(2), rel=1e-5)
    assert all(torch.equal(v, before[k]) for k, v in prior.state_dict().items())
    assert {k.split(".")[0] for k in task.ema.shadow} == {"stem", "around", "shifts"}


def test_lines_turn_with_their_picture(tiny, monkeypatch):
    """A mirrored grid is asked for with mirrored lines, of one kind, some pixels off at most."""
    prior = tiny(width=8)
    rng = np.random.default_rng(3)
    codes = rng.integers(0, 48, (12, 2, 6, 8)).astype(np.uint16)
    bits = np.zeros((12, 2, 24, 32), bool)
    bits[:, 0, 10, 5] = bits[:, 1, 10, 20] = True
    bits[:2] = False  # what is held out
    rows = [{"split": "val" if i < 2 else "train", "kind": "icon"} for i in range(12)]
    found = TokenSet(codes, rows, "t", 48, {"sha256": "d"})
    config = config_for(prior.config, PATCH, 8)
    options = (prior, config, TrainConfig(batch=10, held_out=2), LoopConfig(), found)
    task = SketchTask(*options, np.packbits(bits, axis=3))
    seen = set()
    for step in range(6):
        _, flips, _ = task.chosen(step)
        shown = task.sketches(step)
        assert torch.equal(shown, task.sketches(step)) and shown.shape == (10, 1, 24, 32)
        for one, flip in zip(shown[:, 0], flips, strict=True):
            y, x = (c.float().mean().item() for c in torch.where(one > 0))
            width = round(one.sum().sqrt().item())
            column = min((5, 20), key=lambda c, at=31 - x if flip else x: abs(at - c))
            assert abs(y - 10) <= 2 and abs((31 - x if flip else x) - column) <= 2
            seen.add((int(flip), width, column))
    flips, widths, columns = (set(found) for found in zip(*seen, strict=True))
    assert (flips, widths, columns) == ({0, 1}, {1, 3, 5}, {5, 20})
    with pytest.raises(ValueError, match=r"expected uint8 of \(12, 2, 24, 4\)"):
        SketchTask(*options, np.packbits(bits, axis=3)[:5])
    muon = TrainConfig(batch=10, held_out=2, optimizer="muon")  # which is for a prior's layers
    views = TrainConfig(batch=10, held_out=2, views=0.5)  # which the lines would not follow
    with pytest.raises(ValueError, match="of the pictures as they are"):
        SketchTask(prior, config, views, LoopConfig(), found, np.packbits(bits, axis=3))
    taught = TrainConfig(batch=10, held_out=2, distil=1.0)
    with pytest.raises(ValueError, match="has no teacher"):
        SketchTask(prior, config, taught, LoopConfig(), found, np.packbits(bits, axis=3))
    with pytest.raises(ValueError, match="learns by adamw"):
        SketchTask(prior, config, muon, LoopConfig(), found, np.packbits(bits, axis=3))


def test_the_prior_is_told_words_beside_the_lines_and_now_and_then_not(tiny):
    prior = tiny(width=8, condition="embedding", embedding_size=5)
    rows = [{"split": "val" if i else "train", "kind": "icon"} for i in range(3)]
    found = TokenSet(np.zeros((3, 2, 6, 8), np.uint16), rows, "t", 48, {"sha256": "d"})
    options = (prior, config_for(prior.config, PATCH, 8), TrainConfig(batch=8, drop=0.5))
    bits, given = np.zeros((3, 2, 24, 4), np.uint8), np.ones((3, 1, 5), np.float32)
    prior.requires_grad_(True).train()
    task = SketchTask(*options, LoopConfig(), found, bits, conditions=given)
    assert not prior.training and not any(p.requires_grad for p in prior.parameters())
    batch = task.batch(0)
    assert 0 < batch.dropped.sum() < 8
    expected = prior(batch.inputs, torch.ones(8, 5), batch.dropped)  # a new reader adds nothing
    torch.testing.assert_close(task.logits(0, batch), expected)


def test_what_slips_off_the_page_does_not_come_back_on_its_other_side(tiny):
    bits = np.zeros((3, 2, 24, 32), bool)
    bits[:, :, 0], bits[:, :, :, 0] = True, True  # along the upper and the left border
    rows = [{"split": "val" if i else "train", "kind": "icon"} for i in range(3)]
    found = TokenSet(np.zeros((3, 2, 6, 8), np.uint16), rows, "t", 48, {"sha256": "d"})
    prior = tiny(width=8)
    options = (prior, config_for(prior.config, PATCH, 8), TrainConfig(batch=40, flips=False))
    shown = SketchTask(*options, LoopConfig(), found, np.packbits(bits, axis=3)).sketches(0)[:, 0]
    assert not shown[:, -8:, 8:].any() and not shown[:, 8:, -8:].any()
    left = shown[:, 12].argmax(1)  # where the left border's line begins, or nowhere
    gone = ~shown[:, 12].bool().any(1)
    assert gone.any() and {0, 1, 2} <= set(left[~gone].tolist())


def test_processes_draw_their_own_lines(tiny, monkeypatch):
    """The same picture everywhere, so that only kind, pen and place can differ."""
    codes = np.zeros((3, 2, 6, 8), np.uint16)
    bits = np.zeros((3, 2, 24, 32), bool)
    bits[:, 0, 10, 5] = bits[:, 1, 10, 20] = True
    rows = [{"split": "val" if i else "train", "kind": "icon"} for i in range(3)]
    found = TokenSet(codes, rows, "t", 48, {"sha256": "d"})
    prior = tiny(width=8)
    options = (prior, config_for(prior.config, PATCH, 8), TrainConfig(batch=16, flips=False))
    task = SketchTask(*options, LoopConfig(), found, np.packbits(bits, axis=3))
    monkeypatch.setattr("training.distributed.world_size", lambda: 2)
    parts = []
    for rank in range(2):
        monkeypatch.setattr("training.distributed.rank", lambda rank=rank: rank)
        parts.append(task.sketches(3))
    assert parts[0].shape == parts[1].shape == (8, 1, 24, 32)
    alike = (parts[0] == parts[1]).flatten(1).all(1)
    assert not alike.all() and torch.equal(task.sketches(3), parts[1])


# --- the commands ---------------------------------------------------------------------------------

TINY = VQGANConfig(
    resolution=32, ch=8, ch_mult=(1, 2), num_res_blocks=1, attn_resolutions=(), mid_attn=False,
    num_groups=4, z_channels=8, codebook_size=32, embed_dim=4, quantizer="cosine",
)  # fmt: skip
COMMON = (
    "--batch 4 --log-every 1 --checkpoint-every 2 --sample-every 4 --warmup 2 --held-out 2 --lr 0.1"
).split()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A random bundle with a prior, 12 pictures, their tokens and lines."""
    root = tmp_path_factory.mktemp("sketches")
    torch.manual_seed(0)
    checkpoints.save(root / "b", name="b", vqgan=VQGAN(TINY).eval(), card={})
    (root / "data").mkdir()
    rows = []
    for i in range(12):
        picture = Image.new("RGB", (32, 32), "white")
        picture.paste((20 * i, 90, 30), (4, 4, 12 + i, 20))
        picture.save(root / "data" / f"{i}.png")
        row = {"path": f"{i}.png", "mask": None, "kind": "icon", "captions": []}
        rows.append(json.dumps(row | {"split": "val" if i % 4 == 3 else "train"}))
    (root / "data" / "manifest.jsonl").write_text("\n".join(rows))
    files = ["--data", str(root / "data"), "--out"]
    encode.main(["--bundle", str(root / "b"), *files, str(root / "t.npy")])
    shape = "--layers 1 --heads 2 --dim 16 --steps 4".split()
    prior = ["--bundle", str(root / "b"), "--tokens", str(root / "t.npy")]
    train.main([*prior, "--out", str(root / "prior"), *shape, *COMMON])
    export.main([str(root / "prior"), str(root / "b")])
    lines = ["--tokens", str(root / "t.npy"), *files, str(root / "s.npy")]
    sketches.main([*lines, "--bundle", str(root / "b")])
    return root


def learn(root, out: str, steps: int, *more: str) -> None:
    files = ["--tokens", str(root / "t.npy"), "--sketches", str(root / "s.npy")]
    files += ["--bundle", str(root / "b"), "--out", str(root / out)]
    shape = [] if {"--resume", "--init"} & set(more) else ["--channels", "8"]
    train_sketch.main([*files, *shape, *COMMON, "--steps", str(steps), *more])


def test_lines_are_kept_in_the_order_of_the_tokens(world):
    packed = np.load(world / "s.npy")
    assert packed.shape == (12, 2, 32, 4) and packed.dtype == np.uint8
    lines = np.unpackbits(packed[:, 0], axis=2)
    for i in range(12):  # the right edge of picture i's box
        assert abs(int(np.where(lines[i, 12])[0].max()) - (12 + i)) <= 1


def test_pictures_that_are_gone_are_one_sentence(world, tmp_path, monkeypatch):
    """Also where a whole batch of them is."""
    monkeypatch.setattr(sketches, "BATCH", 4)
    shutil.copytree(world / "data", tmp_path / "data")
    for i in range(3, 12):
        (tmp_path / "data" / f"{i}.png").unlink()
    with pytest.raises(ValueError, match="has not the 12 pictures of the tokens"):
        sketches.gather(tokens.load(world / "t.npy"), str(tmp_path / "data"), 2)


def test_training_resumes_exactly_and_joins_the_bundle(world, capsys):
    learn(world, "whole", 4)
    learn(world, "half", 4, "--minutes", "1e-9")  # stops after its first step
    assert load_checkpoint(world / "half" / "last.pt")["step"] < 4
    learn(world, "half", 4, "--resume", "--minutes", "0")
    whole, half = (load_checkpoint(world / n / "last.pt")["task"] for n in ("whole", "half"))
    for name, value in whole["ema"]["shadow"].items():
        assert torch.equal(value, half["ema"]["shadow"][name]), name
    assert Image.open(world / "whole" / "samples" / "0000004.png").size == (3 * 32, 64)
    export.main([str(world / "whole"), str(world / "b")])
    assert "sketch.safetensors" in capsys.readouterr().out
    bundle = checkpoints.load(world / "b")
    shown = whole["ema"]["shadow"]["shifts.weight"]
    assert torch.equal(bundle.sketch.shifts.weight, shown.half().float()) and shown.any()
    assert bundle.card["sketch"]["training"]["steps"] == 4
    assert not bundle.sketch.training
    assert "vqgan.safetensors" in bundle.card["sha256"]
    assert not any(p.requires_grad for p in bundle.sketch.parameters())
    assert set(bundle.card["sketch"]["metrics"]) == {
        "val_bits", "val_free_bits", "val_outline_bits", "val_wrong_bits",
    }  # fmt: skip
    assert (world / "b" / "sketch-log.csv").read_text().startswith("step,")


def test_a_reader_goes_on_beside_a_later_prior(world, tmp_path, capsys):
    """--init takes over another bundle's reader, grown where this prior has more layers."""
    learn(world, "first", 4)
    shutil.copytree(world / "b", tmp_path / "b")
    export.main([str(world / "first"), str(tmp_path / "b")])
    before = checkpoints.load(tmp_path / "b").sketch
    learn(world, "second", 1, "--init", str(tmp_path / "b"), "--lr", "1e-9", "--sample-every", "0")
    after = load_checkpoint(world / "second" / "last.pt")
    assert after["config"]["sketch"] == before.config.to_dict()
    for name, value in before.state_dict().items():
        torch.testing.assert_close(after["task"]["ema"]["shadow"][name], value)
    assert before.shifts.weight.any()
    deeper = shutil.copytree(world / "b", world / "deeper")
    bundle = checkpoints.load(deeper)
    prior = grown(bundle.prior, 3)
    checkpoints.save(deeper, name="b", vqgan=bundle.vqgan, card=bundle.card, prior=prior)
    more = ["--init", str(tmp_path / "b"), "--bundle", str(deeper)]
    learn(world, "third", 1, *more, "--lr", "1e-9", "--sample-every", "0")
    shown = load_checkpoint(world / "third" / "last.pt")["task"]["ema"]["shadow"]["shifts.weight"]
    torch.testing.assert_close(shown[:16], before.shifts.weight[:16])
    torch.testing.assert_close(shown[-16:], before.shifts.weight[-16:])
    assert shown[16:-16].abs().max() < 1e-6
    checkpoints.save(tmp_path / "bare", name="bare", vqgan=VQGAN(TINY).eval(), card={})
    capsys.readouterr()
    for more, said in (
        (["--init", str(tmp_path / "bare")], "bundle bare reads no sketches"),
        (["--init", str(tmp_path / "b"), "--channels", "16"], "keeps the reader's 8 channels"),
        (["--init", str(tmp_path / "b"), "--resume"], "leave out --channels, --init"),
    ):
        with pytest.raises(SystemExit) as stop:
            learn(world, "second" if "--resume" in more else "never", 2, *more)
        error = capsys.readouterr().err
        assert stop.value.code == 2 and said in error and error.count("\n") == 1


def test_what_does_not_belong_to_the_run_is_one_sentence(world, tmp_path, capsys):
    """Files of the wrong kind, and another prior in the bundle that a run is resumed beside."""
    tokens = np.load(world / "t.npy")
    np.save(tmp_path / "floats.npy", np.zeros((12, 2, 32, 4), np.float32))
    np.save(tmp_path / "few.npy", np.load(world / "s.npy")[:3])
    np.savez(tmp_path / "packed.npz", lines=np.load(world / "s.npy"))
    np.save(tmp_path / "codes.npy", tokens)
    capsys.readouterr()
    for name, said in (
        ("floats.npy", "the sketches are float32"),
        ("few.npy", "expected uint8 of (12, 2, 32, 4)"),
        ("packed.npz", "packed.npz holds no sketches"),
        ("codes.npy", "as prior.sketches --patch 2 writes them"),
    ):
        with pytest.raises(SystemExit) as stop:
            learn(world, "never", 2, "--sketches", str(tmp_path / name))
        error = capsys.readouterr().err
        assert stop.value.code == 2 and said in error and error.count("\n") == 1
    learn(world, "beside", 2)
    shutil.copytree(world / "b", tmp_path / "b")
    bundle = checkpoints.load(tmp_path / "b")
    bundle.prior.start.add_(1)
    files = {"name": "b", "vqgan": bundle.vqgan, "card": bundle.card, "prior": bundle.prior}
    checkpoints.save(tmp_path / "b", **files)
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        learn(world, "beside", 4, "--resume", "--bundle", str(tmp_path / "b"))
    assert stop.value.code == 2 and "beside another prior than b's" in capsys.readouterr().err


def test_how_large_a_cell_is_follows_from_the_bundle_of_the_tokens(world, tmp_path, capsys):
    out = tmp_path / "s.npy"
    line = ["--tokens", str(world / "t.npy"), "--data", str(world / "data"), "--out", str(out)]
    with pytest.raises(SystemExit) as stop:
        sketches.main(line)
    said = "the tokens are not of bundle emoji-128: name theirs with --bundle"
    assert stop.value.code == 2 and said in capsys.readouterr().err and not out.exists()
    sketches.main([*line, "--patch", "2"])
    assert np.array_equal(np.load(out), np.load(world / "s.npy"))


def test_the_command_follows_a_drawing_or_a_pictures_edges(world, tmp_path, capsys):
    learn(world, "drawn", 4)
    export.main([str(world / "drawn"), str(world / "b")])
    bundle = checkpoints.load(world / "b")
    page = Image.new("L", (400, 200), 255)  # twice as wide as the model's: white above and below
    page.paste(0, (100, 0, 103, 200))
    page.save(tmp_path / "drawing.png")
    Image.open(world / "data" / "5.png").resize((64, 64)).save(tmp_path / "box.png")
    line = ["--bundle", str(world / "b"), "-n", "2", "--seed", "3", "--out"]

    def written(*more: str) -> tuple[np.ndarray, np.ndarray]:
        out = tmp_path / "out.png"
        draw([*line, str(out), *more])
        kept = Record.read(out)
        lines = from_text(kept.settings["sketch"], (32, 32))
        shifts = shifts_of(bundle.sketch, lines)
        assert kept.settings["cfg_scale"] == 3.0
        grids = finish(sample(bundle.prior, 2, seed=3, shifts=shifts, cfg_scale=3.0)).grid.numpy()
        assert np.array_equal(kept.codes, grids)
        return lines, grids

    lines, grids = written("--sketch", str(tmp_path / "drawing.png"))
    assert lines[8:24, 8].all() and lines.sum() == 16
    lines, others = written("--lines-of", str(tmp_path / "box.png"))
    assert abs(int(np.where(lines[12])[0].max()) - 17) <= 2 and (grids != others).any()
    kept = shutil.copy(tmp_path / "out.png", tmp_path / "kept.png")  # carries its own lines
    again, same = written("--sketch", str(kept))
    assert np.array_equal(again, lines) and np.array_equal(same, others)
    Image.new("L", (64, 64), 255).save(tmp_path / "blank.png")
    capsys.readouterr()
    for more, said in (
        (["--sketch", str(tmp_path / "blank.png")], "has no lines"),
        (["--sketch", str(tmp_path / "none.png")], "none.png"),
        (["--sketch", str(tmp_path / "box.png"), "--size", "18x18"], "a sketch is of 16 x 16"),
    ):
        with pytest.raises(SystemExit) as stop:
            draw([*line, str(tmp_path / "x.png"), *more])
        error = capsys.readouterr().err
        assert stop.value.code == 2 and said in error and error.count("\n") == 1


def test_another_prior_takes_the_reader_out_of_the_bundle(world, tmp_path, capsys):
    learn(world, "own", 2)
    export.main([str(world / "own"), str(world / "b")])
    assert checkpoints.load(world / "b").sketch is not None
    more = ["--bundle", str(world / "b"), "--tokens", str(world / "t.npy"), "--seed", "9"]
    shape = "--layers 1 --heads 2 --dim 16 --steps 2".split()
    train.main([*more, "--out", str(tmp_path / "prior"), *shape, *COMMON])
    card = json.loads((world / "b" / "config.json").read_text())
    capsys.readouterr()
    export.main([str(tmp_path / "prior"), str(world / "b")])
    assert "sketch.safetensors is gone: it read sketches for the prior b" in capsys.readouterr().out
    bundle = checkpoints.load(world / "b")
    assert bundle.sketch is None and "sketch" not in bundle.card
    assert not (world / "b" / "sketch.safetensors").exists()
    with pytest.raises(SystemExit):
        export.main([str(world / "own"), str(world / "b")])
    assert "beside another prior" in capsys.readouterr().err
    checkpoints.bundle.save_sketch(
        world / "b", SketchReader(config_for(bundle.prior.config, 2)), {}
    )
    card = json.loads((world / "b" / "config.json").read_text())
    card["sketch"]["prior_sha256"] = "0" * 64
    (world / "b" / "config.json").write_text(json.dumps(card))
    with pytest.raises(ValueError, match="trained beside another prior"):
        checkpoints.load(world / "b")
