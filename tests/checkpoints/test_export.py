"""From the trainer's own checkpoint to a bundle."""

import csv
import hashlib
import json
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

import checkpoints
from checkpoints.bundle import write_card
from checkpoints.export import export, main, without_folders
from training.checkpoint import load, save
from vqgan.train import main as train

MODEL = (
    "--resolution 16 --ch 8 --ch-mult 1 2 --num-res-blocks 1 --attn-resolutions --no-mid-attn "
    "--num-groups 4 --z-channels 8 --codebook-size 16 --embed-dim 4 --quantizer cosine"
)
SCHEDULE = (
    "--steps 3 --batch 2 --crop 16 --perceptual-weight 0 --no-bf16 --log-every 1 --sample-every 0 "
    "--device cpu"
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two short runs, the second started from the first, and their data."""
    root = tmp_path_factory.mktemp("runs")
    (root / "data").mkdir()
    rows = []
    for i in range(4):
        Image.effect_noise((16, 16), 90 + i).convert("RGB").save(root / "data" / f"{i}.png")
        row = {"path": f"{i}.png", "mask": None, "kind": "icon"}
        rows.append(json.dumps(row | {"split": "val" if i == 3 else "train"}))
    (root / "data" / "manifest.jsonl").write_text("\n".join(rows))
    manifest = {"licences": {"MIT": 4}, "counts": {"all": 4}, "attribution": ["me"]}
    (root / "data" / "manifest.json").write_text(json.dumps(manifest))
    for name, start in (("first", []), ("second", ["--init", str(root / "first")])):
        data = ["--data", str(root / "data"), "--out", str(root / name), *start]
        train([*data, *SCHEDULE.split(), *(MODEL.split() if name == "first" else [])])
    return root


def test_the_average_is_taken(runs, tmp_path):
    out = export(runs / "first", tmp_path / "b")
    task = load(runs / "first" / "last.pt")["task"]
    loaded = checkpoints.load(out)
    name = "decoder.conv_out.weight"
    shadow, last = task["ema"]["shadow"][name], task["model"][name]
    assert not torch.equal(shadow.half(), last.half())
    assert torch.equal(loaded.vqgan.state_dict()[name], shadow.half().float())
    raw = checkpoints.load(export(runs / "first", tmp_path / "r", raw=True))
    assert torch.equal(raw.vqgan.state_dict()[name], last.half().float())
    assert (loaded.name, loaded.card["training"]["weights"]) == ("b", "average")
    assert raw.card["training"]["weights"] == "last"


def test_the_card_tells_how_it_was_trained(runs, tmp_path):
    data = runs / "data"
    out = export(runs / "second", tmp_path / "b", before=[runs / "first"], name="n", data=data)
    card = checkpoints.load(out).card
    t = card["training"]
    assert card["name"] == "n" and t["steps"] == 6 and t["hours"] >= 0
    assert t["data_sha256"] == hashlib.sha256((data / "manifest.jsonl").read_bytes()).hexdigest()
    assert t["licences"] == {"MIT": 4} and t["pictures"] == 4 and t["attribution"] == ["me"]
    assert [r["steps"] for r in t["runs"]] == [3, 3]
    assert t["command"].startswith("python -m vqgan.train --data data --out second --init first")
    assert t["runs"][0]["train"]["batch"] == 2 and t["runs"][0]["loop"]["steps"] == 3
    assert str(runs) not in (out / "config.json").read_text()
    with open(out / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["run"], r["step"]) for r in rows] == [(r, s) for r in "12" for s in "012"]
    assert all(float(r["total"]) > 0 for r in rows)


def test_the_card_names_every_command_of_a_run(runs, tmp_path):
    more = ["--data", str(runs / "data"), "--out", str(tmp_path / "r"), "--resume", "--steps", "4"]
    shutil.copytree(runs / "first", tmp_path / "r")
    train(more)
    t = checkpoints.load(export(tmp_path / "r", tmp_path / "b")).card["training"]
    ((first, second),) = [r["commands"] for r in t["runs"]]
    assert "--out first" in first and second.endswith("--resume --steps 4") and t["steps"] == 4
    assert t["command"] == second and str(tmp_path) not in first + second


def test_what_a_new_export_keeps(runs, tmp_path):
    """Metrics belong to exactly these weights; what hangs on the tokens, to the tokenizer."""
    out = export(runs / "first", tmp_path / "b")

    def add(**more):
        card = json.loads((out / "config.json").read_text()) | more
        (out / "config.json").write_text(json.dumps(card))

    add(metrics={"val": 1}, more={"layers": 2})
    (out / "README.md").write_text("the card")
    card = checkpoints.load(export(runs / "first", out)).card
    assert card["metrics"] == {"val": 1} and card["more"] == {"layers": 2}

    state = load(runs / "first" / "last.pt")
    for change, kept in (("decoder.conv_out.bias", True), ("quant_conv.bias", False)):
        state["task"]["ema"]["shadow"][change] += 1
        save(tmp_path / "run" / "last.pt", state | {"seconds": 5400.0})
        (tmp_path / "run" / "log.csv").write_text("step\n0\n")
        card = checkpoints.load(export(tmp_path / "run", out, replace=not kept)).card
        assert "metrics" not in card and ("more" in card) == kept
        assert card["training"]["hours"] == 1.5
        assert (out / "README.md").read_text() == "the card"


def test_a_clip_stays_when_the_tokenizer_changes(runs, tmp_path):
    """It sees pictures. What the card said of the old tokenizer's prior goes, with its sha256."""
    out = export(runs / "first", tmp_path / "b")
    card = json.loads((out / "config.json").read_text())
    for file in ("clip.json", "clip.safetensors"):
        (out / file).write_bytes(file.encode())
        card["sha256"][file] = hashlib.sha256(file.encode()).hexdigest()
    hashes = card["sha256"] | {"prior.safetensors": "00"}
    old = card | {"clip": {"metrics": {"recall": 1}}, "more": 1, "sha256": hashes}
    (out / "config.json").write_text(json.dumps(old))
    (out / "prior.safetensors").write_bytes(b"the old tokenizer's")
    with pytest.raises(ValueError, match="holds another tokenizer, and its prior"):
        export(runs / "second", out)
    assert json.loads((out / "config.json").read_text()) == old
    export(runs / "second", out, replace=True)
    new = checkpoints.load(out).card  # which checks the files
    assert not (out / "prior.safetensors").exists() and (out / "clip.json").exists()
    assert new["tokenizer_id"] != old["tokenizer_id"] and "more" not in new
    assert new["clip"] == old["clip"] and new["sha256"].keys() == card["sha256"].keys()


def test_commands_lose_their_folders():
    command = (
        "python -m vqgan.train --data /a/b/emoji --out=/r/x/ --init emoji-128 --lr 1e-4 --n 1/2"
    )
    kept = "python -m vqgan.train --data emoji --out=x --init emoji-128 --lr 1e-4 --n 1/2"
    assert without_folders(command) == kept
    spaced = "python -m m --data '/home/Jane Doe/secret project/my pics' --out '/x/a b/run'"
    assert without_folders(spaced) == "python -m m --data 'my pics' --out run"
    windows = shlex.join(["--data", r"C:\Users\Ann\my pics", r"--out=D:\run", "-n", "4"])
    assert without_folders(windows) == "--data 'my pics' --out=run -n 4"


def test_bad_input(runs, tmp_path, capsys):
    def fails(*argv):
        with pytest.raises(SystemExit) as stop:
            main([str(a) for a in argv])
        assert stop.value.code == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1
        return lines[0]

    out = tmp_path / "b"
    assert "no checkpoint" in fails(tmp_path, out)
    (tmp_path / "bad").mkdir()
    torch.save({"step": 1}, tmp_path / "bad" / "last.pt")
    assert "is not a VQGAN run's checkpoint" in fails(tmp_path / "bad", out)
    early = load(runs / "first" / "last.pt")
    early["config"]["train"]["autoencoder_steps"] = 3  # of the three that it has made
    save(tmp_path / "early" / "last.pt", early)
    assert "has no codebook yet: it is at step 3" in fails(tmp_path / "early", out)
    assert "there is no bundle" in fails(runs / "first", out, "--onto")
    converted = checkpoints.load(export(runs / "first", tmp_path / "converted"))
    card = {k: v for k, v in converted.card.items() if k != "training"}
    write_card(converted.path, card)
    said = fails(runs / "first", converted.path, "--onto")
    assert "does not say what it was trained on: export the run without --onto" in said
    other = tmp_path / "data"
    other.mkdir()
    (other / "manifest.json").write_text("{}")
    (other / "manifest.jsonl").write_text("")
    assert "is not the data set" in fails(runs / "first", out, "--data", other)
    assert not out.exists()


def test_the_command(runs, tmp_path, capsys):
    main([str(runs / "second"), str(tmp_path / "b"), "--before", str(runs / "first")])
    said = capsys.readouterr().out
    assert "6 steps" in said and checkpoints.load(tmp_path / "b").tokenizer_id in said


def test_out_may_be_the_name_of_a_shipped_bundle(runs, tmp_path, monkeypatch):
    """As it may for every other command: `--init NAME` and `--onto` speak of the same folder."""
    monkeypatch.setattr("checkpoints.bundle.FOLDER", tmp_path)
    export(runs / "first", tmp_path / "shipped")
    monkeypatch.chdir(runs)
    assert export(runs / "first", Path("shipped")) == tmp_path / "shipped"
    assert not (runs / "shipped").exists()


def test_a_run_goes_on_from_the_bundle_whose_own_runs_are_gone(runs, tmp_path):
    data = ["--data", str(runs / "data")]
    second = load(runs / "second" / "last.pt")
    second["task"]["ema"]["shadow"]["encoder.conv_in.bias"].fill_(-0.0)
    shutil.copytree(runs / "second", tmp_path / "second")
    save(tmp_path / "second" / "last.pt", second)
    out = export(tmp_path / "second", tmp_path / "b", before=[runs / "first"], data=runs / "data")
    go_on = [*data, *SCHEDULE.split(), "--init", str(out), "--freeze-encoder"]
    train([*go_on, "--out", str(tmp_path / "third")])
    frozen, state = checkpoints.load(out).tokenizer_id, load(tmp_path / "third" / "last.pt")
    # Averaging may give a zero its other sign: the same number, other bytes.
    state["task"]["ema"]["shadow"]["encoder.conv_in.bias"].fill_(0.0)
    save(tmp_path / "third" / "last.pt", state)
    export(tmp_path / "third", out, onto=True)
    t = checkpoints.load(out).card["training"]
    assert [r["steps"] for r in t["runs"]] == [3, 3, 3] and t["steps"] == 9
    assert checkpoints.load(out).tokenizer_id == frozen
    assert t["pictures"] == 4 and "--freeze-encoder" in t["command"]
    with open(out / "log.csv", newline="") as file:
        found = [(r["run"], r["step"]) for r in csv.DictReader(file)]
    assert found == [(r, s) for r in "123" for s in "012"]
    with pytest.raises(ValueError, match="not started from"):
        export(runs / "first", export(runs / "first", tmp_path / "c"), onto=True)
    elsewhere = load(tmp_path / "third" / "last.pt")
    elsewhere["config"]["data"]["sha256"] = "0" * 64
    shutil.copytree(tmp_path / "third", tmp_path / "elsewhere")
    save(tmp_path / "elsewhere" / "last.pt", elsewhere)
    with pytest.raises(ValueError, match="saw other data"):
        export(tmp_path / "elsewhere", out, onto=True)
    strange = load(tmp_path / "third" / "last.pt")
    strange["config"]["model"]["num_groups"] = 2
    shutil.copytree(tmp_path / "third", tmp_path / "strange")
    save(tmp_path / "strange" / "last.pt", strange)
    with pytest.raises(ValueError, match=r"num_groups is 4 in .* and 2 in the run"):
        export(tmp_path / "strange", out, onto=True)
    other = export(runs / "first", tmp_path / "d")
    with pytest.raises(ValueError, match="moved the tokenizer"):
        export(runs / "second", other, onto=True)
