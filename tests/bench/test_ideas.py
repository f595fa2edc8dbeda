"""The bench of ideas: what a title is ranked against, and what counts as shown."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bench.ideas import FIRST, draw, figures, pool, ranks
from bench.judge import POOL
from prior.ideas import PULL, Idea, Ideas
from prior.model import GPT, PriorConfig
from prior.sample import finish, sample
from prior.sheet import decode
from vqgan.model import VQGAN, VQGANConfig

TITLES = np.eye(120, 384, dtype=np.float32)


def test_a_title_is_ranked_against_others_that_mean_something_else():
    near = TITLES.copy()
    near[3] = (TITLES[3] + 2 * TITLES[5]) / 5**0.5  # nearly a synonym of number 5
    found = pool(near, 5)
    assert found[0] == 5 and len(set(found.tolist())) == POOL and 3 not in found
    assert np.array_equal(found, pool(near, 5)) and set(pool(near, 6)) != set(found)
    with pytest.raises(ValueError, match="too few ideas"):
        pool(near[:60], 5)


def test_ranks_count_the_titles_that_fit_better():
    picks = np.array([7, 8, 9])
    others = pool(TITLES, 8)[1:5]
    seen = TITLES[picks].copy()
    seen[1] = 0.5 * TITLES[8] + TITLES[others].sum(0)  # four fit better
    seen[2] = 0  # nothing fits: not even a tie counts
    assert ranks(seen, TITLES, picks) == [0, 4, POOL - 1]


def test_shares_of_ideas_shown_and_of_guessing():
    picks = np.arange(20)

    class Eye:
        """Sees in a picture the title whose number is its grey level."""

        def embed(self, images):
            levels = ((images.mean((1, 2, 3)) + 1) * 127.5).round().long()
            return torch.from_numpy(TITLES)[levels]

    right = np.stack([np.full((8, 8, 3), i, np.uint8) for i in picks])
    found = figures(Eye(), TITLES, picks, right)
    assert (found["top1"], found["top5"], found["pictures"]) == (1.0, 1.0, 20)
    assert found["guessing"] == 0
    wrong = figures(Eye(), TITLES, picks, np.roll(right, 7, 0))
    assert wrong["top5"] == 0 and wrong["guessing"] == 1.0


def test_pictures_are_drawn_as_the_sample_tab_does():
    torch.manual_seed(0)
    tiny = VQGANConfig(
        resolution=16, ch=8, ch_mult=(1, 1, 2), num_res_blocks=1, attn_resolutions=(),
        mid_attn=False, num_groups=2, z_channels=8, codebook_size=16, embed_dim=4,
        quantizer="cosine",
    )  # fmt: skip
    shape = {"codebook_size": 16, "height": 4, "width": 4, "layers": 1, "heads": 2, "dim": 16}
    prior = GPT(PriorConfig(**shape, condition="embedding", embedding_size=3)).eval()
    bundle = SimpleNamespace(vqgan=VQGAN(tiny).eval(), prior=prior.requires_grad_(False))
    ideas = Ideas((Idea("a"), Idea("b")), np.eye(2, 3, dtype=np.float32))
    picks, pictures = draw(bundle, ideas, 18)
    assert np.array_equal(picks, ideas.think(18, FIRST)) and len(pictures) == 18
    told = torch.from_numpy(ideas.conditions[picks[16:]])
    how = {"seed": FIRST + 16, "top_p": 0.95, "condition": told, "cfg_scale": PULL}
    last = decode(bundle.vqgan, finish(sample(prior, 2, **how)).grid)
    assert np.array_equal(pictures[16:], last)
