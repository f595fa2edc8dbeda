"""The judge: what it sees, whom it ranks against whom, how it learns, what it ships."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bench import judge as judges
from bench import judge_train, judge_views
from bench.judge import EMBEDDING, FEATURES, NAMES, POOL, Head, Judge, Texts, describe, shares
from vqgan import dataset


class Trunk:
    """Five feature maps whose every channel is a known picture channel."""

    def features(self, x):
        sides = (96, 49, 25, 13, 7)
        return [
            F.interpolate(x.float(), (s, s)).repeat(1, -(-c // 3), 1, 1)[:, :c]
            for s, c in zip(sides, judges.CHANNELS, strict=True)
        ]


def unit(rows: int, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(rows, EMBEDDING, generator=g), dim=-1)


@pytest.fixture
def texts() -> Texts:
    """90 names and 80 prompts far from each other, but for 30 synonyms of the first prompt."""
    embeddings = unit(170)
    embeddings[140:] = F.normalize(embeddings[90] + 0.3 * embeddings[140:], dim=-1)
    words = tuple(f"t{i}" for i in range(170))
    return Texts(words, embeddings, tuple(range(90)), tuple(range(90, 170)))


def test_features_are_the_stages_averaged_over_cells():
    x = torch.zeros(2, 3, 96, 96)
    x[0, 0, :48, :48] = 1  # red in the upper left quarter
    found = describe(Trunk(), x)
    assert found.shape == (2, FEATURES) and found.dtype == torch.float16
    first = found[0, : 64 * 4].view(64, 2, 2)
    assert first[0].tolist() == [[1, 0], [0, 0]] and not first[1].any() and not found[1].any()
    larger = F.interpolate(x, (192, 192))
    assert (describe(Trunk(), larger) - found).abs().max() < 0.1
    with pytest.raises(ValueError, match="the judge takes"):
        describe(Trunk(), torch.zeros(1, 1, 96, 96))


def test_a_pool_is_the_texts_own_and_has_no_synonyms(texts):
    pool = texts.pool("t90")
    assert pool == texts.pool("t90") and pool[0] == 90
    assert len(pool) == len(set(pool)) == POOL
    assert sum(i < 90 for i in pool) == NAMES
    assert texts.embeddings[160] @ texts.embeddings[90] > judges.SYNONYM
    assert max(pool) < 140 and max(texts.pool("t3")) >= 140
    assert texts.pool("t3")[1:] != texts.pool("t4")[1:]
    with pytest.raises(ValueError, match="does not know the text 'a cow'"):
        texts.pool("a cow")
    few = Texts(texts.texts, texts.embeddings, (0, 1), texts.prompts)
    with pytest.raises(ValueError, match="2 distractors of 39"):
        few.pool("t90")


def test_ranks_count_the_candidates_that_beat_the_own_text(texts):
    judge = Judge(None, None, texts, {})
    pool = texts.pool("t5")
    best, third = texts.embeddings[5], texts.embeddings[5] * 0.5
    third = third + texts.embeddings[pool[1]] * 0.9 + texts.embeddings[pool[2]] * 0.9
    worst = -texts.embeddings[5]
    flat = torch.zeros(EMBEDDING)  # a judge that sees nothing says nothing: every tie is lost
    found = judge.ranks(torch.stack([best, third, worst, flat]), ["t5"] * 4)
    assert found == [0, 2, POOL - 1, POOL - 1]


def test_shares_are_means_over_groups():
    found = shares([0, 0, 0, 9, 4, 5], ["a", "a", "a", "b", "c", "c"])
    assert found == {"top1": 0.3333, "top5": 0.5, "pictures": 6, "groups": 3}
    with pytest.raises(ValueError, match="no picture"):
        shares([], [])


def row(i: int, split: str = "train", kind: str = "icon", name: str = "thing") -> dict:
    return {"set": "s", "id": f"{i}", "split": split, "kind": kind, "name": name}


def test_items_test_first_and_show_each_lesson_both_ways():
    rows = [row(i) for i in range(400)] + [row(900, "val"), row(901, kind="photo")]
    rows += [row(902, kind="clipart"), row(903, name="left arrow")]
    rows += [row(904, "val", "clipart")]
    items = judge_views.items(rows)
    probes = [i for i, r in enumerate(rows) if judge_views.is_probe(r)]
    assert 2 < len(probes) < 25
    tested = sorted([*probes, 400])
    assert [tuple(i) for i in items[: 2 * len(tested)]] == [
        (i, view) for view in ("plain", "rebuilt") for i in tested
    ]
    lessons = items[2 * len(tested) :]
    learned = {i.picture for i in lessons}
    assert learned == set(range(404)) - set(tested) - {401}
    half = len(lessons) // 2
    for i in learned:
        views = [item.view for item in lessons if item.picture == i]
        assert len(views) == 2 and ("varied" in views) and views != ["varied"] * 2
    assert lessons[half - 1].picture == lessons[-1].picture == 402  # clip art last
    assert "mirrored" in {i.view for i in lessons}
    assert "mirrored" not in {i.view for i in lessons if i.picture == 403}


def test_features_go_on_where_they_stopped(tmp_path):
    items = [judge_views.Item(i, "plain") for i in range(50)]
    seen = []

    def look(some):
        seen.extend(i.picture for i in some)
        return torch.stack([torch.full((3, 96, 96), i.picture / 50) for i in some])

    about = {"data": "x", "items": 50}
    first = judge_views.features(items[:20], look, Trunk(), tmp_path, about)
    assert first.shape == (20, FEATURES) and seen == list(range(20))
    whole = judge_views.features(items, look, Trunk(), tmp_path, about)
    assert seen == list(range(50))
    assert whole[:, 0] == pytest.approx(np.arange(50) / 50, abs=1e-2)
    with pytest.raises(ValueError, match="empty --cache"):
        judge_views.features(items, look, Trunk(), tmp_path, {"data": "y", "items": 50})


def test_varied_pictures_stay_on_white_and_are_not_always_mirrored():
    x = np.full((128, 128, 3), 255, np.uint8)
    x[40:80, 20:60] = (200, 0, 0)
    found = [judge_views.vary(x, True, np.random.default_rng(i)) for i in range(20)]
    assert all(f.shape == x.shape and (f[0, 0] == 255).all() and f.min() == 0 for f in found)
    sides = [(f[:, :64, 1] < 128).sum() > (f[:, 64:, 1] < 128).sum() for f in found]
    assert 3 < sum(sides) < 17
    held = [judge_views.vary(x, False, np.random.default_rng(i)) for i in range(20)]
    assert all((f[:, :64, 1] < 128).sum() > (f[:, 64:, 1] < 128).sum() for f in held)


def test_the_head_learns_what_it_is_shown():
    g = torch.Generator().manual_seed(1)
    kinds = torch.rand(12, FEATURES, generator=g)
    which = torch.arange(120) % 12
    x = (kinds[which] + 0.2 * torch.rand(120, FEATURES, generator=g)).half().numpy()
    y = unit(12)[which][:, None].expand(-1, 3, -1).half().numpy()
    head = judge_train.train(x, y, steps=15)
    found = head(torch.from_numpy(x))
    assert found.norm(dim=-1) == pytest.approx(torch.ones(120), abs=1e-4)
    assert ((found @ unit(12).T).argmax(1) == which).float().mean() > 0.9


def test_texts_that_say_the_same_are_no_negatives():
    images, same = unit(3), unit(3, 1)
    same[1] = same[0]
    scale = torch.tensor(10.0)
    other = same.clone()
    other[1] = unit(1, 5)[0]
    alone = judge_train.loss(images[[0, 2]], same[[0, 2]], scale)
    assert judge_train.loss(images, same, scale) < judge_train.loss(images, other, scale) + 2
    logits = scale * images[[0, 2]] @ same[[0, 2]].T
    by_hand = (
        F.cross_entropy(logits, torch.arange(2)) + F.cross_entropy(logits.T, torch.arange(2))
    ) / 2
    assert torch.isclose(alone, by_hand)
    doubled = judge_train.loss(images[[0, 0]], same[[0, 1]], scale)
    assert doubled.item() == pytest.approx(0, abs=1e-6)  # nothing to tell apart


def test_the_shipped_files_round_trip(tmp_path, texts):
    torch.manual_seed(0)
    head = Head().eval()
    judges.save(head, texts, {"real_pictures": {"held_out_plain": {"top5": 0.5}}}, tmp_path)
    loaded = judges.load(tmp_path, vgg=Trunk())
    assert loaded.texts.texts == texts.texts and loaded.texts.pool("t5") == texts.pool("t5")
    x = torch.rand(2, 3, 128, 128)
    expected = head(describe(Trunk(), x))
    torch.testing.assert_close(loaded.embed(x), expected, atol=1e-2, rtol=0)
    data = (tmp_path / judges.WEIGHTS).read_bytes()
    (tmp_path / judges.WEIGHTS).write_bytes(data[:-1] + b"x")
    with pytest.raises(ValueError, match="not the file"):
        judges.load(tmp_path, vgg=Trunk())
    with pytest.raises(ValueError, match="cannot be read"):
        judges.load(tmp_path / "none", vgg=Trunk())


SHIPPED = pytest.mark.skipif(not (judges.FILES / judges.CARD).is_file(), reason="none shipped yet")


@SHIPPED
def test_the_shipped_judge_is_small_and_knows_every_prompt():
    size = sum(p.stat().st_size for p in judges.FILES.iterdir())
    assert size < 8e6
    judge = judges.load(vgg=Trunk())
    assert [judge.texts.texts[i] for i in judge.texts.prompts] == judge_train.english_prompts()
    for text in judge_train.english_prompts():
        assert len(judge.texts.pool(text)) == POOL
    real = judge.card["real_pictures"]
    assert real["held_out_plain"]["top5"] > 3 * 5 / POOL  # far above guessing


@SHIPPED
def test_the_shipped_judge_names_the_fixtures(fixtures):
    """Training pictures for the most part: a random head would name one in sixteen."""
    judge = judges.load()
    known = {text: i for i, text in enumerate(judge.texts.texts)}
    pictures = [p for p in dataset.scan(fixtures) if not p.photo]
    named = [p for p in pictures if judge_train.own_text(p.row) in known][:12]
    assert len(named) >= 6
    x = torch.stack([dataset.to_tensor(dataset.whole(p, 128).copy()) for p in named])
    ranks = judge.ranks(judge.embed(x), [judge_train.own_text(p.row) for p in named])
    assert sum(r < 5 for r in ranks) >= len(named) / 3


def test_bad_input_is_one_line(tmp_path, capsys):
    (tmp_path / "data").mkdir()
    argv = ["--data", tmp_path / "data", "--tokens", tmp_path / "t.npy"]
    argv += ["--conditions", tmp_path / "c.npy", "--cache", tmp_path / "cache"]
    with pytest.raises(SystemExit) as stop:
        judge_train.main([str(a) for a in argv])
    assert stop.value.code == 2
    assert "no readable tokens" in capsys.readouterr().err
    assert json.loads(judge_train.PROMPTS.read_text())["seeds"] == [0, 1, 2, 3]
