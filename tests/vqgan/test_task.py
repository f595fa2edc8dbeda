"""One training step: lambda the cheap way, warm-up of the discriminator, codebook upkeep."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from training.chance import generator
from training.loop import LoopConfig, NotFinite
from vqgan import dataset, losses
from vqgan.task import VQGANTask, decibels
from vqgan.train_config import TrainConfig
from vqgan.usage import CodeUsage, kmeans, perplexity

LOOP = LoopConfig(steps=200, bf16=False, warmup=1, lr=1e-3)
CONFIG = TrainConfig(
    batch=4,
    crop=16,
    perceptual_weight=0.0,
    gan_weight=0.8,
    gan_start=2,
    disc_ch=8,
    disc_layers=1,
    held_out=2,
)


@pytest.fixture
def pictures(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(24):
        pixels = rng.integers(0, 255, (4, 4, 3), np.uint8)
        Image.fromarray(pixels).resize((40, 36)).save(tmp_path / f"{i}.png")
    return dataset.scan(tmp_path)


def make(pictures, tiny_config, **changes) -> VQGANTask:
    return VQGANTask(tiny_config, replace(CONFIG, **changes), LOOP, pictures)


def test_cheap_lambda_equals_two_full_backward_passes(pictures, tiny_config):
    """The formula asks for two gradients through everything; the step takes both at the output."""
    task = make(pictures, tiny_config, gan_start=0, disc_norm="group")
    images = task.batch(0)
    output, _, vq, _ = task.forward(images, 0)
    grad, report = task.output_gradient(images, output, 0)
    torch.autograd.backward([output, vq], [grad, None])
    cheap = {n: p.grad.clone() for n, p in task.model.named_parameters()}
    task.model.zero_grad()

    output, _, vq, _ = task.forward(images, 0)
    rec = 4 * (images - output).abs().mean() + 4 * (images - output).square().mean()
    gan = losses.generator_loss(task.disc(output))
    weight = task.model.last_layer
    norms = [torch.autograd.grad(t, weight, retain_graph=True)[0].norm() for t in (rec, gan)]
    lam = (norms[0] / (norms[1] + 1e-6)).detach()
    assert report["lambda"] == pytest.approx(lam.item(), rel=1e-4)
    losses.total_loss(rec, torch.zeros(()), vq, gan, lam, 0.8).backward()
    for name, p in task.model.named_parameters():
        assert torch.allclose(cheap[name], p.grad, rtol=1e-3, atol=1e-6), name


class Blurred(torch.nn.Module):
    """Stands in for the perceptual network: (B, 3, H, W) pairs -> (B,)."""

    def forward(self, a, b):
        return (a.float() - b.float()).mean((2, 3)).square().sum(1)


def test_the_perceptual_loss_counts_by_its_weight_over_its_share(pictures, tiny_config):
    task = make(pictures, tiny_config, gan_weight=0.0)
    task.cfg = replace(task.cfg, perceptual_weight=0.3, perceptual_share=0.5)
    task.perceptual = Blurred()
    images = task.batch(0)
    output = (images + 0.2 * torch.randn(images.shape)).requires_grad_()
    grad, report = task.output_gradient(images, output, 0)
    near = Blurred()(images[:2], output[:2]).mean()  # two of four
    assert report["perceptual"] == pytest.approx(near.item(), rel=1e-5)
    rec = 4 * (images - output).abs().mean() + 4 * (images - output).square().mean()
    (expected,) = torch.autograd.grad(rec + 0.3 * near, output)
    torch.testing.assert_close(grad, expected)


def test_dead_codes_restart_within_a_step_in_all_that_is_kept(pictures, tiny_config):
    task = make(pictures, tiny_config, gan_weight=0.0, restart_every=2, restart_below=0.5)
    for step in range(2):
        task.train_step(step)
    table = task.model.quantize.embedding.weight
    used = task.usage.share.clone()
    task.usage.share = torch.where(torch.arange(len(used)) == 5, 0.0, 1.0 / len(used))
    before = table.detach().clone()
    latents = []
    restart = task.restart_codes
    task.restart_codes = lambda step, z: (latents.append(z), restart(step, z))
    task.train_step(2)
    row = table.detach()[5]
    apart = (latents[0] - row.view(1, -1, 1, 1)).abs().sum(1)
    assert apart.min() < 1e-5, "a latent of the batch"
    assert not torch.allclose(row, before[5], atol=1e-3)
    assert torch.allclose(task.ema.shadow["quantize.embedding.weight"][5], row)
    assert all(not m[5].any() for m in task.opt.state[table].values() if m.shape == table.shape)
    kept, task.usage.share[5] = table.detach().clone(), 0
    restart(3, latents[0])
    assert torch.equal(table, kept), "every second step only"


@pytest.mark.parametrize("legacy", [False, True])
def test_codebook_and_commitment_count_by_their_weights(pictures, tiny_config, legacy):
    config = replace(tiny_config, quantizer="euclidean", legacy_beta=legacy)
    task = make(pictures, config, gan_weight=0.0, codebook_weight=3.0, beta=0.5)
    _, encoding, vq, report = task.forward(task.batch(0), 0)
    rows = encoding.latents.movedim(1, -1).flatten(0, -2)
    table = task.model.quantize.embedding.weight
    chosen = torch.cdist(rows, table).argmin(1)
    apart = (rows.detach() - table[chosen]).square().mean()
    assert report["vq"] == pytest.approx(1.5 * apart.item(), rel=1e-4)
    assert vq.item() == pytest.approx(4.5 * apart.item(), rel=1e-4)
    found, pull = (torch.autograd.grad(x, table)[0] for x in (vq, apart))
    torch.testing.assert_close(found, (1.5 if legacy else 3.0) * pull)
    task.usage.update(encoding.indices)
    counts = torch.bincount(chosen, minlength=32)
    wanted = 0.98 / 32 + 0.02 * counts / counts.sum()  # usage moves by a fiftieth of a batch
    torch.testing.assert_close(task.usage.share, wanted)


def test_held_out_pictures_are_measured_with_the_averaged_weights(pictures, tiny_config, tmp_path):
    task = make(pictures, tiny_config, gan_weight=0.0)
    before = task.evaluate(1, tmp_path)
    with torch.no_grad():
        for p in task.model.parameters():
            p.zero_()
    assert task.evaluate(1, tmp_path) == before
    for value in task.ema.shadow.values():
        value.zero_()
    assert task.evaluate(1, tmp_path)["val_psnr"] != before["val_psnr"]


def test_discriminator_gradient_does_not_leak_into_the_generator_nor_back(pictures, tiny_config):
    task = make(pictures, tiny_config, gan_start=0)
    images = task.batch(0)
    output, _, _, _ = task.forward(images, 0)
    task.output_gradient(images, output, 0)
    assert all(p.grad is None for p in task.disc.parameters())
    before = {k: v.clone() for k, v in task.model.state_dict().items()}
    task.discriminator_step(images, output.detach(), 1e-3)
    assert all(torch.equal(v, before[k]) for k, v in task.model.state_dict().items())


def test_the_discriminator_learns_which_pictures_are_real(pictures, tiny_config):
    task, given = make(pictures, tiny_config), []
    judged = task.discriminator_step
    task.discriminator_step = lambda *args: given.extend(args) or 0.0
    task.train_step(0)
    assert torch.equal(given[0], task.batch(0)) and not torch.equal(given[1], given[0])
    real = torch.ones(4, 3, 16, 16)
    for _ in range(10):
        judged(real, -real, 1e-2)
    assert task.disc(real).mean() > task.disc(-real).mean() + 0.1


def test_discriminator_warms_up_before_its_loss_reaches_the_generator(pictures, tiny_config):
    task = make(pictures, tiny_config, disc_start=1, gan_start=3)
    reports = [task.train_step(step) for step in range(4)]
    assert [("disc" in r, "lambda" in r) for r in reports] == [
        (False, False),
        (True, False),
        (True, False),
        (True, True),
    ]
    with pytest.raises(ValueError, match="discriminator must train first"):
        TrainConfig(disc_start=5, gan_start=3)


def test_vqvae_is_the_same_model_without_perceptual_and_gan(pictures, tiny_config):
    task = make(pictures, tiny_config, gan_weight=0.0)
    assert task.disc is None and task.perceptual is None
    first = task.train_step(0)
    for step in range(1, 30):
        last = task.train_step(step)
    assert last["l1"] < 0.9 * first["l1"]
    assert set(last) == {"l1", "l2", "vq", "grad", "lr", "total"}


def test_autoencoder_start_then_kmeans_codebook(pictures, tiny_config):
    task = make(pictures, tiny_config, autoencoder_steps=3)
    before = task.model.quantize.codebook().clone()
    reports = [task.train_step(step) for step in range(3)]
    assert all("vq" not in r for r in reports)
    assert torch.equal(task.model.quantize.codebook(), before)
    assert "vq" in task.train_step(3)
    assert not torch.allclose(task.model.quantize.codebook(), before, atol=0.05)
    averaged = task.ema.shadow["quantize.embedding.weight"]
    assert torch.allclose(averaged, task.model.quantize.embedding.weight, atol=0.01)
    error = reports[0]["l1"]
    assert task.train_step(4)["l1"] < 1.5 * error


def test_the_codebook_is_taken_where_resuming_asks_for_it_earlier(pictures, tiny_config):
    """A run that was to quantise from step 9 on goes on at step 3, and is to from step 2 on."""
    first = make(pictures, tiny_config, autoencoder_steps=9)
    for step in range(3):
        first.train_step(step)
    task = make(pictures, tiny_config, autoencoder_steps=2)
    task.load_state_dict(first.state_dict())
    before = task.model.quantize.codebook().clone()
    task.train_step(3)
    taken = task.model.quantize.codebook().clone()
    assert not torch.allclose(taken, before, atol=0.05)
    again = make(pictures, tiny_config, autoencoder_steps=2)
    again.load_state_dict(task.state_dict())
    again.train_step(4)
    assert torch.allclose(again.model.quantize.codebook(), taken, atol=0.01), "only once"


@pytest.mark.parametrize("batch", [2, 16])
def test_kmeans_sees_enough_latents_whatever_the_batch(pictures, tiny_config, monkeypatch, batch):
    """Of small crops in small batches it once saw fewer than there are codes."""
    config = replace(tiny_config, codebook_size=256)
    task, seen = make(pictures, config, new_codebook=True, batch=batch), []

    def kmeans(points, k, *_, **__):
        seen.append(len(points))
        return points[:k]

    monkeypatch.setattr("vqgan.task.kmeans", kmeans)
    task.start_codebook(0)
    a_batch = batch * (CONFIG.crop // config.downsampling) ** 2
    assert 40 * 256 <= seen[0] < 40 * 256 + 8 * a_batch


def test_frozen_encoder_keeps_tokens(pictures, tiny_config):
    task = make(pictures, tiny_config, freeze_encoder=True, restart_every=1, restart_below=1.0)
    before = {k: v.clone() for k, v in task.model.state_dict().items()}
    for step in range(3):
        task.train_step(step)
    for key, value in task.model.state_dict().items():
        same = torch.equal(value, before[key])
        assert same == key.startswith(("encoder.", "quant_conv.", "quantize.")), key


def test_what_is_not_shown_is_measured_but_not_on_the_sheet(pictures, tiny_config, tmp_path):
    task = make(pictures, tiny_config)
    one, two = pictures[:2]
    task.held_out = [replace(one, row={"codepoints": "1f595"}), replace(two, row={})]
    figures = task.evaluate(1, tmp_path)
    size = tiny_config.resolution
    with Image.open(tmp_path / "0000001.png") as sheet:
        assert sheet.size == (size, 2 * size)
        original = sheet.crop((0, 0, size, size))
    assert np.abs(np.asarray(original, int) - dataset.whole(two, size)).max() <= 1
    task.held_out = [two]
    assert task.evaluate(2, tmp_path)["val_psnr"] != figures["val_psnr"]


def test_nan_names_the_tensor_and_changes_nothing(pictures, tiny_config):
    task = make(pictures, tiny_config)
    task.train_step(0)
    before = {k: v.clone() for k, v in task.model.state_dict().items()}
    images = task.batch(1)
    images[0, 0, 0, 0] = float("nan")
    task.batch = lambda step: images
    with pytest.raises(NotFinite, match="vq is nan"):
        task.train_step(1)
    task.batch = lambda step: torch.zeros_like(images)
    hook = task.model.decoder.conv_in.weight.register_hook(lambda g: g * float("inf"))
    with pytest.raises(NotFinite, match=r"decoder\.conv_in\.weight"):
        task.train_step(1)
    hook.remove()
    assert all(torch.equal(v, before[k]) for k, v in task.model.state_dict().items())


def test_resuming_takes_the_optimiser_settings_that_are_given_now(pictures, tiny_config):
    old, resumed = (make(pictures, tiny_config, disc_lr=x, beta1=x) for x in (0.5, 0.25))
    old.train_step(0)
    resumed.load_state_dict(old.state_dict())
    assert resumed.opt.param_groups[0]["betas"] == (0.25, 0.99)
    assert resumed.disc_opt.param_groups[0]["lr_scale"] == 0.25
    weight = resumed.model.last_layer
    assert resumed.opt.state[weight]["step"] == 1  # the moments are the old ones


def test_dead_codes_restart_at_latents_of_the_batch():
    usage = CodeUsage(4, decay=0.5)
    for _ in range(8):
        usage.update(torch.tensor([[0, 0, 1, 2]]))
    assert usage.dead(0.05).tolist() == [3]
    codes, latents = torch.zeros(4, 2), torch.arange(10.0).view(5, 2) + 1
    moved = usage.restart(codes, latents, 0.05, generator(1))
    assert moved.tolist() == [3]
    assert (codes[3] == latents).all(1).any() and (codes[:3] == 0).all()
    assert usage.dead(0.05).numel() == 0


@pytest.mark.parametrize(("latents", "places"), [(90, 64), (40, 40)])
def test_dead_codes_restart_each_at_a_latent_of_its_own(latents, places):
    usage, codes = CodeUsage(64), torch.zeros(64, 1)
    usage.share.zero_()
    usage.restart(codes, torch.arange(float(latents))[:, None] + 1, 0.05, generator(1))
    assert codes.min() >= 1 and len(codes.unique()) <= places
    assert len(codes.unique()) == 64 or latents < 64


def test_kmeans_of_fewer_points_than_centres():
    points = torch.randn(10, 4, generator=torch.Generator().manual_seed(0))
    centres = kmeans(points, 64, torch.Generator().manual_seed(1))
    assert centres.shape == (64, 4) and torch.isfinite(centres).all()
    assert torch.cdist(points, centres).amin(1).max() < 1e-4, "every point has its own"


def test_kmeans_does_not_depend_on_threads():
    """Which of many nearly equal points a centre starts from."""
    points = torch.randn(120_000, 2, generator=torch.Generator().manual_seed(0)) / 20
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2, 2, 2, 2, 2):
            torch.set_num_threads(threads)
            found.append(kmeans(points, 64, torch.Generator().manual_seed(1), steps=0))
    finally:
        torch.set_num_threads(before)
    picked = points[:, None].eq(found[0]).all(2).any(0)
    assert picked.all() and all(torch.equal(f, found[0]) for f in found)


def test_whole_pictures_are_crops_too(pictures, tiny_config):
    make(pictures, tiny_config, crop=32)
    with pytest.raises(ValueError, match="crop is 34: it must not be larger than whole pictures"):
        make(pictures, tiny_config, crop=34)


def test_decibels_by_hand():
    assert decibels(torch.tensor(0.04)) == pytest.approx(20)  # 10 log10(4 / 0.04)
    assert decibels(torch.tensor(0.0)) == pytest.approx(106.02, abs=0.01)  # no division by 0


def test_perplexity_counts_evenly_used_codes():
    assert perplexity(torch.tensor([5.0, 5.0, 5.0, 5.0, 0.0])) == pytest.approx(4)
    assert perplexity(torch.tensor([7.0, 0.0])) == pytest.approx(1)
    assert perplexity(torch.zeros(3)) == 1  # before anything was counted


def test_kmeans_finds_clusters_and_gives_a_background_one_code():
    g = torch.Generator().manual_seed(0)
    corners = torch.tensor([[0.0, 9.0], [9.0, 0.0], [9.0, 9.0]])
    blobs = (corners[:, None] + 0.1 * torch.randn(3, 20, 2, generator=g)).flatten(0, 1)
    points = torch.cat([torch.zeros(500, 2), blobs])
    centres = kmeans(points, 4, g)
    for corner in torch.cat([corners, torch.zeros(1, 2)]):
        assert ((centres - corner).norm(dim=1) < 0.3).sum() == 1


def test_crops_depend_on_seed_and_step_only(pictures):
    kwargs = {"size": 32, "crop": 16, "photo_share": 0.25}
    a = dataset.Crops(pictures, seed=1, **kwargs)
    b = dataset.Crops(pictures, seed=1, **kwargs)
    a.batch(0, 4)
    assert torch.equal(a.batch(7, 4), b.batch(7, 4))
    assert not torch.equal(a.batch(7, 4), a.batch(8, 4))
    assert not torch.equal(a.batch(7, 4), dataset.Crops(pictures, seed=2, **kwargs).batch(7, 4))
    halves = torch.cat([a.batch(7, 4, rank, 2) for rank in range(2)])
    assert torch.equal(halves, b.batch(7, 4))
    assert -1 <= halves.min() and halves.max() <= 1


def test_colour_shuffle_permutes_channels_and_moves_no_pixel(pictures):
    kwargs = {"size": 32, "crop": 16, "photo_share": 0.25, "seed": 1}
    plain = dataset.Crops(pictures, **kwargs).batch(3, 64)
    mixed = dataset.Crops(pictures, colour_shuffle=0.6, **kwargs).batch(3, 64)
    assert torch.equal(plain.sort(dim=1).values, mixed.sort(dim=1).values)
    changed = (plain != mixed).flatten(1).any(1).float().mean()
    assert 0.3 < changed < 0.7  # five of six permutations change something


def test_figures_leave_the_device_together(pictures, tiny_config, monkeypatch):
    """A GPU that waits for each figure on its own stands still most of a small step."""
    task, read = make(pictures, tiny_config, gan_start=0), []
    number = torch.Tensor.__float__
    monkeypatch.setattr(torch.Tensor, "__float__", lambda x: read.append(x) or number(x))
    report = task.train_step(0)
    assert {"vq", "l1", "l2", "gan", "lambda", "disc"} < report.keys()
    assert len(read) == 3, "two gradient norms and the discriminator's loss"
