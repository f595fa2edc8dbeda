"""Classes for priors that are told one: by number, or by the seed of each picture."""

import pytest
import torch

import checkpoints
from prior.classes import choose
from prior.draw import main
from prior.sample import finish, sample
from prior.sheet import Record


@pytest.fixture(scope="module")
def labelled(tiny):
    return tiny(condition="class", classes=9, codebook_size=32, height=4, width=4)


@pytest.fixture
def bundle(labelled, tiny_vqgan, tmp_path):
    return checkpoints.save(tmp_path / "b", name="b", vqgan=tiny_vqgan, card={}, prior=labelled)


def test_the_seed_of_a_picture_picks_its_class(labelled):
    many = choose(labelled, 200, 5)
    assert many.dtype == torch.int64 and set(many.tolist()) == set(range(9))
    assert torch.equal(choose(labelled, 3, 25), many[20:23])
    counts = many.bincount()
    assert counts.min() > 8 and counts.max() < 40  # each as often as the others: 22, give or take 4


def test_a_class_that_is_named_is_that_of_all(labelled):
    assert choose(labelled, 3, 5, 8).tolist() == [8, 8, 8]
    for label in (-1, 9):
        with pytest.raises(ValueError, match=f"class is {label}: .* the classes 0 to 8"):
            choose(labelled, 3, 5, label)


def test_other_priors_take_none(prior):
    for label in (None, 0):
        with pytest.raises(ValueError, match="this prior takes no class"):
            choose(prior, 1, 0, label)


@pytest.mark.parametrize("label", [None, 7])
def test_the_command_tells_the_prior_and_says_so(bundle, labelled, tmp_path, label):
    more = [] if label is None else ["--class-id", str(label)]
    file = tmp_path / "p.png"
    main(["--bundle", str(bundle), "--out", str(file), "-n", "3", "--seed", "4", *more])
    kept = Record.read(file)
    told = choose(labelled, 3, 4, label)
    assert kept.settings["classes"] == told.tolist()
    prior = checkpoints.load(bundle).prior
    expected = finish(sample(prior, 3, seed=4, condition=told)).grid
    assert (kept.codes == expected.numpy()).all()
    other = finish(sample(prior, 3, seed=4, condition=(told + 1) % 9)).grid
    assert not torch.equal(expected, other)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--class-id", "9"], "class is 9: this prior knows the classes 0 to 8"),
        (["--words", "a cat"], "takes no words"),
        (["--ideas"], "holds no ideas"),
    ],
)
def test_what_is_refused(bundle, tmp_path, capsys, more, sentence):
    with pytest.raises(SystemExit):
        main(["--bundle", str(bundle), "--out", str(tmp_path / "p.png"), *more])
    assert sentence in capsys.readouterr().err and not (tmp_path / "p.png").exists()
