"""One hand-computed test for each formula of the article. `pytest -k formula` runs them all."""

import math

import pytest
import torch

from vqgan import losses
from vqgan.perceptual import PerceptualLoss
from vqgan.quantize import CosineQuantizer, EuclideanQuantizer, nearest, rotate, straight_through


def test_formula_reconstruction():
    x, x_hat = torch.tensor([[1.0, -1.0]]), torch.tensor([[0.5, 0.0]])
    assert losses.reconstruction_loss(x, x_hat, "l1") == pytest.approx((0.5 + 1.0) / 2)
    assert losses.reconstruction_loss(x, x_hat, "l2") == pytest.approx((0.25 + 1.0) / 2)
    with pytest.raises(ValueError, match="choose l1 or l2"):
        losses.reconstruction_loss(x, x_hat, "l3")


def test_formula_straight_through():
    """Forward is z_q; the gradient is taken at z_q and lands on z, none on the codebook."""
    z = torch.tensor([1.0, 2.0], requires_grad=True)
    z_q = torch.tensor([3.0, 5.0], requires_grad=True)
    out = straight_through(z, z_q)
    assert torch.equal(out, z_q)
    out.square().sum().backward()
    assert torch.equal(z.grad, torch.tensor([6.0, 10.0]))  # 2 z_q, not 2 z
    assert z_q.grad is None


def test_formula_codebook_loss():
    z = torch.tensor([1.0, 2.0], requires_grad=True)
    z_q = torch.tensor([0.0, 4.0], requires_grad=True)
    loss = losses.codebook_loss(z, z_q)
    loss.backward()
    assert loss.item() == pytest.approx((1 + 4) / 2)
    assert z.grad is None
    assert torch.equal(z_q.grad, torch.tensor([-1.0, 2.0]))  # 2 (z_q - z) / 2


def test_formula_commitment_with_beta():
    """beta weighs the commitment term only: the codebook's gradient does not depend on it."""
    grads = {}
    for beta in (0.25, 2.0):
        z = torch.tensor([1.0, 2.0], requires_grad=True)
        z_q = torch.tensor([0.0, 4.0], requires_grad=True)
        loss = losses.vq_loss(z, z_q, beta)
        loss.backward()
        assert loss.item() == pytest.approx(2.5 + beta * 2.5)
        assert torch.allclose(z.grad, beta * torch.tensor([1.0, -2.0]))
        grads[beta] = z_q.grad
    assert torch.equal(grads[0.25], grads[2.0])
    legacy = losses.vq_loss(torch.tensor([1.0]), torch.tensor([3.0]), 0.25, legacy_beta=True)
    assert legacy.item() == pytest.approx(0.25 * 4 + 4)
    z = torch.tensor([1.0], requires_grad=True)
    losses.vq_loss(z, torch.tensor([3.0]), 0.25, legacy_beta=True).backward()
    assert z.grad.item() == pytest.approx(-4.0)


def test_formula_perceptual():
    """Unit-length features, weighted squared differences, means over places, sum over layers."""
    net = PerceptualLoss("alex")
    for head in net.heads:
        head.data.fill_(0.0)
    net.heads[0].data[:2] = torch.tensor([0.5, 3.0])
    net.heads[3].data[0] = 2.0
    a = [torch.zeros(1, c, 1, 2) for c in (64, 192, 384, 256, 256)]
    b = [t.clone() for t in a]
    a[0][0, :2, 0, 0] = torch.tensor([1.0, 0.2])
    b[3][0, 0, 0, 1] = 0.6
    expected = (0.5 * 1.0 + 3.0 * 0.04) / 2 + 2.0 * 0.36 / 2
    assert net.compare(a, b).item() == pytest.approx(expected)
    maps = net.features(torch.rand(1, 3, 32, 32) * 2 - 1)
    assert len(maps) == 5
    for m in maps:
        lengths = m.norm(dim=1)
        assert ((lengths - 1).abs() < 1e-3).logical_or(lengths < 1e-3).all()


def test_formula_gan():
    real, fake = torch.tensor([0.5, 2.0]), torch.tensor([-2.0, 0.0])
    hinge = losses.discriminator_loss(real, fake, "hinge")
    assert hinge.item() == pytest.approx(0.5 * (0.5 / 2 + 1.0 / 2))
    assert losses.generator_loss(fake, "hinge").item() == pytest.approx(1.0)

    def sig(v: float) -> float:
        return 1 / (1 + math.exp(-v))

    d_terms = [math.log(sig(0.5)), math.log(sig(2.0))]
    g_terms = [math.log(1 - sig(-2.0)), math.log(1 - sig(0.0))]
    log = losses.discriminator_loss(real, fake, "log")
    assert log.item() == pytest.approx(-0.5 * (sum(d_terms) / 2 + sum(g_terms) / 2), rel=1e-5)
    assert losses.generator_loss(fake, "log").item() == pytest.approx(sum(g_terms) / 2, rel=1e-5)
    for loss in (losses.generator_loss, lambda f, k: losses.discriminator_loss(f, f, k)):
        with pytest.raises(ValueError, match="choose hinge or log"):
            loss(fake, "wgan")


def test_formula_lambda():
    rec, gan = torch.tensor([3.0, 4.0], requires_grad=True), torch.tensor([0.0, 2.0])
    lam = losses.adaptive_weight(rec, gan, delta=0.5)
    assert lam.item() == pytest.approx(5 / 2.5)
    assert not lam.requires_grad
    assert losses.adaptive_weight(rec, torch.zeros(2)).item() == pytest.approx(1e4)  # clamped
    assert losses.adaptive_weight(rec, torch.full((1,), 1e-3)).item() == pytest.approx(
        5 / (1e-3 + 1e-6)
    )


def test_formula_total():
    parts = [torch.tensor(v) for v in (1.0, 2.0, 4.0, -3.0)]
    total = losses.total_loss(*parts, lam=torch.tensor(0.5), gan_weight=0.8)
    assert total.item() == pytest.approx(1 + 2 + 4 - 0.8 * 0.5 * 3)


def test_formula_nearest_neighbour():
    codebook = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.0, 3.0]])
    latents = torch.tensor([[0.1, -0.2], [0.6, 0.6], [-1.0, 2.0], [0.9, 0.9], [0.0, 1.4]])
    assert nearest(latents, codebook).tolist() == [0, 1, 2, 1, 1]
    big, table = torch.randn(1000, 8), torch.randn(64, 8)
    whole = torch.cdist(big, table).argmin(1)
    assert torch.equal(nearest(big, table, chunk=77), whole)


def test_rotation_trick_turns_the_gradient():
    z = torch.randn(5, 8, requires_grad=True)
    z_q = torch.randn(5, 8)
    out = rotate(z, z_q)
    assert torch.allclose(out, z_q, atol=1e-5)
    grad = torch.randn(5, 8)
    out.backward(grad)
    scale = z_q.norm(dim=1) / z.detach().norm(dim=1)
    assert torch.allclose(z.grad.norm(dim=1), scale * grad.norm(dim=1), rtol=1e-4)
    before = (grad * z_q).sum(1) / z_q.norm(dim=1)  # the part along the vector stays along it
    after = (z.grad * z.detach()).sum(1) / z.detach().norm(dim=1)
    assert torch.allclose(after, scale * before, atol=1e-4)


def test_cosine_latents_are_those_of_the_unit_sphere():
    latents = torch.tensor([[3.0, 4.0], [0.0, -2.0]]).T.view(1, 2, 1, 2)
    encoding = CosineQuantizer(16, 2).encode(latents)
    torch.testing.assert_close(encoding.latents[0, :, 0].T, torch.tensor([[0.6, 0.8], [0.0, -1.0]]))
    torch.testing.assert_close(encoding.quantized.norm(dim=1), torch.ones(1, 1, 2))


def test_project_moves_latents_to_where_codes_live():
    cosine, box = CosineQuantizer(16, 4), EuclideanQuantizer(16, 4)
    z = torch.randn(2, 4, 3, 3) * 5
    assert torch.allclose(cosine.project(z).norm(dim=1), torch.ones(2, 3, 3))
    low, high = box.codebook().amin(0), box.codebook().amax(0)
    inside = box.project(z).permute(0, 2, 3, 1)
    assert (inside >= low - 1e-6).all() and (inside <= high + 1e-6).all()
    codes = box.lookup(torch.randint(16, (2, 3, 3)))
    assert torch.equal(box.project(codes), codes)
