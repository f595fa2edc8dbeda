"""The text side: trimmed contexts, batches, a started token table, Chinese pulled to English."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from clip_guidance import model
from clip_guidance.config import ClipConfig
from clip_guidance.text_task import TextTask, TextTrainConfig, Trimmed, fill_table
from training.loop import LoopConfig, run

ENGLISH = ["an apple", "a dog", "the sun", "a red car", "rain", "a happy face", "ice", "a tree"]
CHINESE = ["苹果", "狗", "太阳", "红色的汽车", "雨", "笑脸", "冰", "树"]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """The bundled CLIP's shape, narrow, its image tower timm's smallest."""

    def build():
        torch.manual_seed(0)
        shape = ClipConfig(embed_dim=12, image_size=32, text_width=16, text_layers=1)
        config = shape.open_clip()
        config["model_cfg"]["vision_cfg"]["timm_model_name"] = "test_efficientnet"
        return model.create(config)

    return build


def vectors(n=8, seed=0):
    return F.normalize(torch.randn(n, 12, generator=torch.Generator().manual_seed(seed)), dim=-1)


def task(small, loop=None, **changes):
    cfg = TextTrainConfig(**{"batch": 8, "table_lr": 1.0} | changes)
    targets = torch.cat([vectors(), vectors()]).numpy()
    held_out = {"english": (["an apple"], vectors()[:1].numpy())}
    loop = loop or LoopConfig(steps=60, lr=1e-2, warmup=2, ema=0.5)
    return TextTask(small(), cfg, loop, [*ENGLISH, *CHINESE], targets, held_out)


def test_trimmed_contexts_change_nothing(small):
    clip = small()
    tokens = clip.tokenize(["a dog", "苹果", "a somewhat longer text about a dog"])
    assert torch.allclose(Trimmed(clip.model.text)(tokens), clip.model.text(tokens), atol=1e-5)
    assert clip.model.text.attn_mask.shape == (clip.model.context_length,) * 2


def test_chinese_is_pulled_to_its_english(small):
    """The encoder that targets come from knows no Chinese: 苹果 must still find the apple."""
    found = task(small)
    for step in range(40):
        found.train_step(step)
    with torch.no_grad():
        english, chinese = (found.clip.encode_text(texts) for texts in (ENGLISH, CHINESE))
    assert (chinese @ english.T).argmax(1).tolist() == list(range(len(ENGLISH)))
    assert found.evaluate(25, None)["english_cosine"] > 0.7


def test_a_text_at_its_own_place_is_there_though_that_was_rounded(small):
    """A vector kept in half precision may be a little short: it is still itself."""
    found = task(small)
    found.held_out = {"english": (["an apple"], vectors()[:1].numpy() * 0.9999)}
    assert found.evaluate(1, None)["english_at1"] == 1


def test_an_epoch_shows_english_once_and_chinese_twice(small):
    found = task(small, chinese=2)
    seen = np.concatenate([found.picks(step) for step in range(3)])
    assert np.bincount(seen).tolist() == [1] * 8 + [2] * 8
    assert not np.array_equal(found.picks(0), found.picks(3))
    assert np.array_equal(found.picks(1), task(small, chinese=2).picks(1))


def test_resume_is_exact(small, tmp_path):
    def go(folder, minutes, resume):
        loop = LoopConfig(steps=3, lr=1e-3, warmup=1, sample_every=1, minutes=minutes)
        found = task(small, loop)
        run(found, loop, tmp_path / folder, {}, resume)
        return found

    whole = go("whole", 0, False)
    go("parts", 1e-9, False)  # stops after its first step
    rest = go("parts", 0, True)
    for name, value in whole.state_dict()["tower"].items():
        assert torch.equal(value, rest.state_dict()["tower"][name]), name
    for name, value in whole.ema.shadow.items():
        assert torch.equal(value, rest.ema.shadow[name]), name


def test_resuming_takes_the_optimiser_settings_that_are_given_now(small):
    old, resumed = (task(small, table_lr=x, weight_decay=x / 8) for x in (0.5, 0.25))
    resumed.load_state_dict(old.state_dict())
    table, matrices, _ = resumed.opt.param_groups
    assert (table["lr_scale"], matrices["weight_decay"]) == (0.25, 0.25 / 8)


def test_the_table_starts_from_word_vectors(small):
    """Main directions kept: words that are close stay close; fragments keep their noise."""
    text = small().model.text
    before = text.token_embedding.weight.detach().clone()
    words = torch.zeros(before.shape[0], 24)
    words[:, :12] = torch.randn(before.shape[0], 12, generator=torch.Generator().manual_seed(0))
    words[7] = words[3]
    strings = ["word"] * before.shape[0]
    strings[5] = ""
    fill_table(text, strings, words)
    table = text.token_embedding.weight.detach()
    assert torch.equal(table[5], before[5]) and torch.equal(table[7], table[3])
    wanted = torch.cdist(words[:50], words[:50])
    got = torch.cdist(table[:50], table[:50])
    keep = [i for i in range(50) if i != 5]
    pairs = torch.stack([wanted[keep][:, keep].flatten(), got[keep][:, keep].flatten()])
    assert torch.corrcoef(pairs)[0, 1] > 0.99


@pytest.mark.parametrize("bad", [{"batch": 1}, {"chinese": 0}, {"soft": 0}, {"contrast": -1}])
def test_bad_values(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        TextTrainConfig(**bad)
