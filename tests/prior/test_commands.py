"""The four commands on a tiny bundle: tokens, train and resume, export, sample."""

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import checkpoints
from prior import encode, export, train
from prior.draw import grid_size
from prior.draw import main as draw
from prior.model import GPT, PriorConfig
from prior.sample import finish, sample
from prior.sheet import sheet
from prior.tokens import load, save
from tests.fakes import TINY
from training.checkpoint import load as load_checkpoint
from training.checkpoint import save as save_checkpoint
from vqgan.model import VQGAN

TRAIN = (
    "--layers 1 --heads 2 --dim 16 --batch 4 --log-every 1 --checkpoint-every 3 --sample-every 3 "
    "--warmup 2 --held-out 2 --steps"
).split()


pytestmark = pytest.mark.usefixtures("few_ranges")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A random tokenizer for 32-pixel pictures, 12 pictures, and their tokens."""
    root = tmp_path_factory.mktemp("world")
    torch.manual_seed(0)
    for name in ("bundle", "other"):
        checkpoints.save(root / name, name=name, vqgan=VQGAN(TINY).eval(), card={})
    (root / "data").mkdir()
    rows = []
    for i in range(12):
        Image.effect_noise((32, 32), 60 + i).convert("RGB").save(root / "data" / f"{i}.png")
        row = {"path": f"{i}.png", "mask": None, "kind": "icon", "captions": [f"noise {i}"]}
        rows.append(json.dumps(row | {"split": "val" if i % 4 == 3 else "train"}))
    (root / "data" / "manifest.jsonl").write_text("\n".join(rows))
    encode.main(words(root, "--data data --out tokens.npy"))
    np.savez(root / "packed.npz", np.zeros((12, 1, 4)))
    vqgan = {"config": {"model": {}, "train": {}, "loop": {}, "command": ""}, "step": 1}
    save_checkpoint(root / "other_run" / "last.pt", vqgan)
    return root


def words(root, text: str, bundle: str = "bundle") -> list[str]:
    """A command line in which names of files under `root` become paths."""
    known = {p.name for p in root.iterdir()} | {"tokens.npy", "run", "twin", "half", "missing.npy"}
    found = [str(root / w) if w in known else w for w in text.split()]
    return ["--bundle", str(root / bundle), *found]


def run(root, text: str, *more: str, bundle: str = "bundle") -> None:
    train.main([*words(root, f"--tokens tokens.npy {text}", bundle), *TRAIN, *more])


@pytest.fixture(scope="module")
def trained(world):
    run(world, "--out run", "6")
    return world / "run"


@pytest.fixture(scope="module")
def shipped(world, trained, tmp_path_factory):
    """A copy of the bundle with the prior in it."""
    folder = tmp_path_factory.mktemp("shipped") / "b"
    shutil.copytree(world / "bundle", folder)
    export.main([str(trained), str(folder)])
    return folder


def refused(capsys, command, *args) -> str:
    """The one line that a command ends with, exit code 2."""
    with pytest.raises(SystemExit) as stop:
        command(*args)
    error = capsys.readouterr().err
    assert stop.value.code == 2
    line = error.strip().splitlines()[-1]
    assert line.startswith("error: ") and "Traceback" not in error
    return line


def test_tokens_of_a_folder(world):
    bundle = checkpoints.load(world / "bundle")
    found = load(world / "tokens.npy", bundle.tokenizer_id)
    assert found.codes.shape == (12, 2, 16, 16) and found.rows[5]["captions"] == ["noise 5"]
    assert len(found.where("val")) == 3 and len(found.data["sha256"]) == 64


def test_a_limit_spreads_over_the_folder(world, tmp_path):
    encode.main(words(world, f"--data data --out {tmp_path / 't.npy'} --limit 4"))
    captions = [row["captions"][0] for row in load(tmp_path / "t.npy").rows]
    assert captions == ["noise 0", "noise 3", "noise 6", "noise 9"]


@pytest.mark.parametrize(
    ("split", "other", "sentence"),
    [("val", "train", "no picture for training"), ("train", "val", "no held-out picture")],
)
def test_a_folder_of_one_split_has_no_tokens(world, tmp_path, capsys, split, other, sentence):
    shutil.copytree(world / "data", tmp_path / "data")
    manifest = tmp_path / "data" / "manifest.jsonl"
    manifest.write_text(manifest.read_text().replace(f'"{other}"', f'"{split}"'))
    out = tmp_path / "t.npy"
    line = ["--bundle", str(world / "bundle"), "--data", str(tmp_path / "data"), "--out", str(out)]
    assert f"has {sentence}" in refused(capsys, encode.main, line)
    assert not out.exists()


def test_tokens_hold_varied_views_where_asked(world, tmp_path, capsys):
    encode.main(words(world, f"--data data --out {tmp_path / 't.npy'} --views 2"))
    assert load(tmp_path / "t.npy").codes.shape == (12, 4, 16, 16)
    assert "mirrored, varied views of each: 2" in capsys.readouterr().out
    line = words(world, f"--data data --out {tmp_path / 'u.npy'} --views -1")
    assert "views -1: at least" in refused(capsys, encode.main, line)


def test_views_of_several_kinds_come_in_turn_and_export_forgets_who_told_them(
    world, shipped, tmp_path
):
    out, run = tmp_path / "t.npy", tmp_path / "r"
    kinds = "--views 3 --view-kinds moved turned"
    encode.main(words(world, f"--data data --out {out} {kinds}"))
    assert load(out).view_kinds == ("moved", "turned", "moved")
    asked = f"--tokens {out} --out {run} --init {shipped} --view-kinds 2 --views 0.5 --steps 2"
    train.main(words(world, f"{asked} --batch 4 --warmup 0 --sample-every 0 --lr 1e-3 --ema 0"))
    shadow = load_checkpoint(run / "last.pt")["task"]["ema"]["shadow"]
    assert shadow["view_emb.weight"].shape == (2, 16)
    shutil.copytree(shipped, tmp_path / "b")
    export.main([str(run), str(tmp_path / "b"), "--before", str(shipped), "--mix", "0.5"])
    prior = checkpoints.load(tmp_path / "b").prior
    assert prior.config.view_kinds == 0 and "view_emb.weight" not in prior.state_dict()
    export.main([str(run), str(tmp_path / "b")])
    for name, value in checkpoints.load(tmp_path / "b").prior.state_dict().items():
        assert torch.equal(value, shadow[name].half().float()), name


def test_training_logs_bits_beside_the_unigram(trained):
    with open(trained / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(r["step"]) for r in rows] == list(range(6))
    assert float(rows[5]["val_bits"]) > 0 and float(rows[5]["unigram_bits"]) > 0
    assert not rows[4]["val_bits"]
    assert sorted(p.name for p in (trained / "samples").iterdir()) == ["0000003.png", "0000006.png"]
    config = json.loads((trained / "config.json").read_text())
    assert config["model"]["height"] == 16 and config["model"]["codebook_size"] == 32


def test_resuming_is_exact(world, trained):
    run(world, "--out half", "6", "--minutes", "1e-9")
    assert load_checkpoint(world / "half" / "last.pt")["step"] == 1
    resume = words(world, "--tokens tokens.npy --out half --resume --minutes 0")
    train.main(resume)
    a, b = (load_checkpoint(p / "last.pt")["task"] for p in (trained, world / "half"))
    for part in ("model", "ema", "opt"):
        flat_a, flat_b = tensors(a[part]), tensors(b[part])
        assert len(flat_a) > 3 and flat_a.keys() == flat_b.keys()
        for name, value in flat_a.items():
            assert torch.equal(value, flat_b[name]), f"{part} {name}"


def test_the_card_names_every_command(world, tmp_path):
    run(world, f"--out {tmp_path / 'r'}", "6", "--minutes", "1e-9")
    train.main(words(world, f"--tokens tokens.npy --out {tmp_path / 'r'} --resume --steps 2"))
    shutil.copytree(world / "bundle", tmp_path / "b")
    export.main([str(tmp_path / "r"), str(tmp_path / "b")])
    told = checkpoints.load(tmp_path / "b").card["prior"]["training"]
    first, second = told["commands"]
    assert "--minutes 1e-9" in first and "--resume --steps 2" in second == told["command"]
    assert str(tmp_path) not in first + second


def tensors(value, where="") -> dict[str, torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return {where: value}
    items = value.items() if isinstance(value, dict) else enumerate(value)
    found = {}
    for key, inner in items:
        if isinstance(inner, (dict, list, torch.Tensor)):
            found |= tensors(inner, f"{where}.{key}")
    return found


def test_training_encodes_what_is_missing(world, tmp_path):
    train.main([*words(world, f"--data data --out {tmp_path / 'r'}"), *TRAIN, "1"])
    assert np.array_equal(
        load(tmp_path / "r" / "tokens.npy").codes, load(world / "tokens.npy").codes
    )


def test_codes_of_other_pictures_are_not_trained_on_in_their_place(world, tmp_path, capsys):
    shutil.copytree(world / "data", tmp_path / "moved")
    shutil.copytree(world / "data", tmp_path / "more")
    with open(tmp_path / "more" / "manifest.jsonl", "a") as file:
        file.write('\n{"path": "0.png", "kind": "icon", "split": "train"}\n')
    line = [*words(world, f"--tokens tokens.npy --out {tmp_path / 'r'}"), *TRAIN, "1", "--data"]
    said = refused(capsys, train.main, [*line, str(tmp_path / "more")])
    assert "holds the codes of data, not of more as it is now" in said
    train.main([*line, str(tmp_path / "moved")])


def test_codes_of_another_plain_folder_neither(world, tmp_path, capsys):
    """They have no manifest to tell them apart, but names."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        for i in range(3):
            shutil.copy(world / "data" / f"{i}.png", tmp_path / name / f"{i}.png")
    common = ["--bundle", str(world / "bundle"), "--data"]
    encode.main([*common, str(tmp_path / "one"), "--out", str(tmp_path / "t.npy")])
    line = [*common, str(tmp_path / "two"), "--tokens", str(tmp_path / "t.npy")]
    said = refused(capsys, train.main, [*line, "--out", str(tmp_path / "r"), *TRAIN, "1"])
    assert "holds the codes of one, not of two" in said


def test_several_processes_do_not_encode_the_same_twice(world, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("training.distributed.world_size", lambda: 2)
    line = words(world, f"--data data --out {tmp_path / 'r'} --minutes 1e-9 --sample-every 0")
    assert "encode first" in refused(capsys, train.main, line)


@pytest.mark.parametrize(
    ("text", "bundle", "named"),
    [
        ("--tokens tokens.npy --out run", "bundle", "holds a run already"),
        ("--tokens tokens.npy --out twin", "other", "encode the data again"),
        ("--tokens missing.npy --out twin", "bundle", "give --data to encode"),
        (
            "--data data --tokens missing.npy --views 0.5 --out twin",
            "bundle",
            "with varied views: make it with prior.tokens",
        ),
        ("--tokens tokens.npy --out twin --resume", "bundle", "no checkpoint"),
        ("--tokens tokens.npy --out run --resume --dim 8", "bundle", "leave out dim"),
        ("--tokens tokens.npy --out twin --heads 5", "bundle", "heads is 5"),
        ("--tokens tokens.npy --out twin --conditions tokens.npy", "bundle", "takes no file"),
        (
            "--tokens tokens.npy --out twin --conditions missing.npy",
            "bundle",
            "holds no conditions",
        ),
        ("--tokens tokens.npy --out twin --conditions packed.npz", "bundle", "it is an .npz, give"),
        ("--tokens tokens.npy --out other_run --resume", "bundle", "is no run of prior.train: res"),
        ("--tokens tokens.npy --out twin --kinds photo", "bundle", "0 training"),
        ("--data missing --out twin", "bundle", "is not a folder"),
        ("--tokens tokens.npy --out twin --init bundle", "bundle", "holds no prior"),
        ("--tokens tokens.npy --out run --resume --init bundle", "bundle", "leave out --init"),
        ("--tokens tokens.npy --out twin --teacher bundle", "bundle", "--teacher: bundle"),
        ("--tokens tokens.npy --out twin --distil 0.5", "bundle", "needs --teacher"),
    ],
)
def test_training_refuses(world, trained, capsys, text, bundle, named):
    line = words(world, f"{text} --minutes 1e-9 --sample-every 0", bundle)  # short if not refused
    assert named in refused(capsys, train.main, line)


def test_a_run_can_start_from_a_bundles_prior(world, shipped, tmp_path):
    line = words(world, f"--tokens tokens.npy --out {tmp_path / 'on'} --init {shipped}")
    train.main([*line, *"--steps 1 --lr 1e-9 --batch 4 --warmup 0 --sample-every 0".split()])
    state = load_checkpoint(tmp_path / "on" / "last.pt")
    before = checkpoints.load(shipped).prior.state_dict()
    assert state["config"]["model"]["dim"] == 16  # the shape comes with it
    for name, value in state["task"]["model"].items():
        torch.testing.assert_close(value, before[name], atol=1e-6, rtol=0)


def test_a_run_can_begin_as_a_deeper_copy_of_a_bundles_prior(world, shipped, tmp_path):
    """--init with more --layers: the same logits at first; mixed, it is mixed with that copy."""
    line = words(world, f"--tokens tokens.npy --out {tmp_path / 'on'} --init {shipped} --layers 3")
    train.main([*line, *"--steps 1 --batch 4 --warmup 0 --sample-every 0 --lr 1e-9".split()])
    shutil.copytree(shipped, tmp_path / "b")
    asked = [str(tmp_path / "on"), str(tmp_path / "b"), "--before", str(shipped), "--mix", "0.5"]
    export.main(asked)
    old, new = (checkpoints.load(b).prior for b in (shipped, tmp_path / "b"))
    assert old.config.layers < new.config.layers == 3
    grids = torch.arange(old.config.tokens)[None] % old.config.codebook_size
    torch.testing.assert_close(new(grids), old(grids), atol=2e-3, rtol=0)


def test_a_run_can_begin_with_narrower_heads_and_follow_a_teacher(world, shipped, tmp_path, capsys):
    """Resumed as well: then the teacher is named again. Mixed it cannot be."""
    out = tmp_path / "on"
    rest = "--batch 4 --warmup 0 --sample-every 0 --log-every 1 --distil 0.5".split()
    line = [*words(world, f"--tokens tokens.npy --out {out} --teacher {shipped}"), *rest]
    train.main([*line, "--steps", "2", "--init", str(shipped), "--head-size", "3"])
    train.main([*line, "--steps", "3", "--resume"])
    with open(out / "log.csv", newline="") as file:
        assert [float(row["kl_bits"]) >= 0 for row in csv.DictReader(file)] == [True] * 3
    shutil.copytree(shipped, tmp_path / "b")
    export.main([str(out), str(tmp_path / "b"), "--before", str(shipped)])
    old, new = (checkpoints.load(b).prior for b in (shipped, tmp_path / "b"))
    assert (old.config.head_channels, new.config.head_channels) == (8, 3)
    asked = [str(out), str(tmp_path / "b"), "--before", str(shipped), "--mix", "0.5"]
    assert "differ in shape" in refused(capsys, export.main, asked)
    line = words(world, f"--tokens tokens.npy --out {out} --resume --sample-every 0")
    assert "needs --teacher" in refused(capsys, train.main, line)


def test_heads_may_share_keys_and_values(world, shipped, tmp_path, capsys):
    """Trained, shipped, made ready for int8 and written with; begun with or cut, as they are."""
    out, bundle = tmp_path / "on", tmp_path / "b"
    run(world, f"--out {out} --kv-heads 1", "3")
    shutil.copytree(shipped, bundle)
    export.main([str(out), str(bundle)])
    prior = checkpoints.load(bundle).prior
    assert prior.config.kv_heads == 1 and prior.ranges.shape == (5, 2)
    assert prior.blocks[0].qkv.weight.shape == ((2 + 2) * 8, 16)
    draw(["--bundle", str(bundle), "--out", str(tmp_path / "s.png"), "-n", "2"])
    assert Image.open(tmp_path / "s.png").getextrema() != ((0, 0),) * 3
    again = words(world, f"--tokens tokens.npy --out {tmp_path / 'again'} --batch 4 --init")
    for init, flag, said in (
        (bundle, "--kv-heads 2", "kv_heads 1, and this one would have 2: leave out --kv-heads"),
        (bundle, "--head-size 1", "heads share keys and values already (kv_heads 1)"),
        (shipped, "--kv-heads 1 --head-size 16", "head_size is 16: beside 1 heads"),
    ):
        assert said in refused(capsys, train.main, [*again, str(init), *flag.split()])
    train.main([*again, str(shipped), "--kv-heads", "1", "--steps", "1", "--sample-every", "0"])


def test_a_run_goes_on_with_the_same_teacher_and_data_only(world, shipped, tmp_path, capsys):
    out, other = tmp_path / "on", tmp_path / "other"
    bundle = checkpoints.load(shipped)
    prior = GPT(bundle.prior.config).eval()
    checkpoints.save(other, name="other", vqgan=bundle.vqgan, card={}, prior=prior)
    rest = f"--out {out} --distil 0.5 --batch 4 --sample-every 0 --steps"
    line = words(world, f"--tokens tokens.npy {rest}")
    train.main([*line, "1", "--teacher", str(shipped)])
    resume = [*line, "2", "--resume", "--teacher"]
    assert "followed another teacher" in refused(capsys, train.main, [*resume, str(other)])
    tokens = load(world / "tokens.npy")
    save(replace(tokens, data=tokens.data | {"sha256": "0" * 64}), tmp_path / "t.npy")
    elsewhere = words(world, f"--tokens {tmp_path / 't.npy'} {rest}")
    resume[: len(elsewhere)] = elsewhere
    assert "trained on other data" in refused(capsys, train.main, [*resume, str(shipped)])


def test_what_a_run_began_with_is_counted_in(world, shipped, trained, tmp_path, capsys):
    """--before: steps, hours, commands and log of both trainings."""
    line = words(world, f"--tokens tokens.npy --out {tmp_path / 'on'} --init {shipped}")
    train.main([*line, *"--steps 3 --batch 4 --warmup 0 --sample-every 3 --log-every 1".split()])
    shutil.copytree(shipped, tmp_path / "b")
    export.main([str(tmp_path / "on"), str(tmp_path / "b"), "--before", str(shipped)])
    told, old = (checkpoints.load(b).card["prior"] for b in (tmp_path / "b", shipped))
    assert told["training"]["steps"] == 9
    assert told["training"]["commands"][:-1] == old["training"]["commands"]
    assert "--init" in told["training"]["commands"][-1]
    hours = load_checkpoint(tmp_path / "on" / "last.pt")["seconds"] / 3600
    assert told["training"]["hours"] == pytest.approx(old["training"]["hours"] + hours, abs=2e-3)
    with open(tmp_path / "b" / "prior-log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(int(r["run"]), int(r["step"])) for r in rows] == [
        *((1, i) for i in range(6)), *((2, i) for i in range(3)),
    ]  # fmt: skip
    assert told["metrics"]["val_bits"] == float(rows[-1]["val_bits"])
    for run, before, said in (
        (trained, shipped, "was not started from"),
        (tmp_path / "on", world / "bundle", "does not say how"),
    ):
        asked = [str(run), str(tmp_path / "b"), "--before", str(before)]
        assert said in refused(capsys, export.main, asked)


def test_a_run_can_be_mixed_with_what_it_began_with(world, shipped, tmp_path, capsys):
    line = words(world, f"--tokens tokens.npy --out {tmp_path / 'on'} --init {shipped}")
    train.main([*line, *"--steps 3 --batch 4 --warmup 0 --sample-every 0 --lr 0.1 --ema 0".split()])
    shutil.copytree(shipped, tmp_path / "b")
    asked = [str(tmp_path / "on"), str(tmp_path / "b")]
    export.main([*asked, "--before", str(shipped), "--mix", "0.25"])
    old, mixed = (checkpoints.load(b).prior.state_dict() for b in (shipped, tmp_path / "b"))
    run = load_checkpoint(tmp_path / "on" / "last.pt")["task"]["ema"]["shadow"]
    for name, value in mixed.items():
        torch.testing.assert_close(value, 0.75 * old[name] + 0.25 * run[name], atol=1e-3, rtol=1e-3)
    assert any((run[name] - old[name]).abs().max() > 0.1 for name in old)
    told = checkpoints.load(tmp_path / "b").card["prior"]
    assert told["mix"] == 0.25 and told["metrics"] == {}  # those of the log are the run's alone
    capsys.readouterr()
    with pytest.raises(ValueError, match="differ in shape"):
        export._mix(GPT(PriorConfig(dim=6)), GPT(PriorConfig(dim=12)), 0.5)
    for more in (["--mix", "0.5"], ["--mix", "0", "--before", str(shipped)]):
        assert "mix is" in refused(capsys, export.main, [*asked, *more])


def test_a_prior_of_another_tokenizer_is_no_start(world, shipped, tmp_path, capsys):
    encode.main(words(world, f"--data data --out {tmp_path / 't.npy'}", "other"))
    line = words(world, f"--tokens {tmp_path / 't.npy'} --out twin --init {shipped}", "other")
    assert "reads codes of tokenizer" in refused(capsys, train.main, line)


def test_resuming_on_another_tokenizer_is_refused(world, trained, tmp_path, capsys):
    encode.main(words(world, f"--data data --out {tmp_path / 't.npy'}", "other"))
    line = words(world, f"--tokens {tmp_path / 't.npy'} --out run --resume --minutes 0", "other")
    assert "codes of another tokenizer" in refused(capsys, train.main, line)


def test_the_bundle_carries_the_averaged_prior(trained, shipped):
    bundle = checkpoints.load(shipped)
    shadow = load_checkpoint(trained / "last.pt")["task"]["ema"]["shadow"]
    for name, value in shadow.items():
        assert torch.equal(bundle.prior.state_dict()[name], value.half().float()), name
    told = bundle.card["prior"]
    assert told["training"]["steps"] == 6 and "/" not in told["training"]["command"]
    assert set(told["metrics"]) == {"val_bits", "unigram_bits"}
    assert (shipped / "prior-log.csv").read_text() == (trained / "log.csv").read_text()


def test_export_refuses_what_does_not_fit(world, trained, tmp_path, capsys):
    line = [str(trained), str(world / "other")]
    assert "train one on this bundle" in refused(capsys, export.main, line)
    torch.save({"config": {}, "step": 1}, tmp_path / "last.pt")
    line = [str(tmp_path), str(world / "bundle")]
    assert "not a prior's checkpoint" in refused(capsys, export.main, line)


def picture(shipped, path, *more: str) -> bytes:
    draw(["--bundle", str(shipped), "--out", str(path), "-n", "3", "--seed", "5", *more])
    return path.read_bytes()


def test_the_same_seed_gives_the_same_bytes(shipped, tmp_path):
    first = picture(shipped, tmp_path / "a.png")
    assert picture(shipped, tmp_path / "b.png") == first
    assert picture(shipped, tmp_path / "c.png", "--temperature", "0.5") != first


def test_a_picture_carries_its_settings_and_codes(shipped, tmp_path):
    picture(shipped, tmp_path / "a.png", "--top-k", "7", "--size", "17x18")
    bundle = checkpoints.load(shipped)
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (2 * 36 + 2, 2 * 34 + 2)
        settings, codes = (json.loads(image.text[k]) for k in ("settings", "codes"))
    assert settings["top_k"] == 7 and settings["seed"] == 5 and settings["bundle"] == bundle.name
    last = finish(sample(bundle.prior, 3, seed=5, top_k=7, size=(17, 18)))
    assert last.grid.tolist() == codes


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("--top-k 4000", "top_k is 4000"),
        ("--temperature nan", "temperature is nan"),
        ("-n 0", "n is 0"),
        ("--size 24", "rows x columns"),
        ("--size 4x4", "size is 4 x 4"),
        ("--out grid.jpg", "must end in .png"),
        ("--bundle nothing", "there is no bundle"),
    ],
)
def test_sampling_refuses(shipped, tmp_path, capsys, line, named):
    start = ["--bundle", str(shipped), "--out", str(tmp_path / "a.png")]
    assert named in refused(capsys, draw, [*start, *line.split()])
    assert not (tmp_path / "a.png").exists()


def test_a_bundle_without_prior_cannot_sample(world, tmp_path, capsys):
    line = ["--bundle", str(world / "other"), "--out", str(tmp_path / "a.png")]
    assert "holds no prior" in refused(capsys, draw, line)


def test_sheets_are_filled_row_by_row():
    pictures = np.stack([np.full((2, 3, 3), i, np.uint8) for i in range(5)])
    image = np.asarray(sheet(pictures))
    assert image.shape == (2 * 2 + 2, 3 * 3 + 4, 3)
    assert (image[0, ::5, 0] == [0, 1, 2]).all() and (image[4, ::5, 0] == [3, 4, 255]).all()
    assert grid_size("24x16") == (24, 16) and grid_size(None) is None
