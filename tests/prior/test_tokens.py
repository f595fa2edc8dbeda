"""Token files: what the frozen tokenizer says, kept whole, and tied to it."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from prior import tokens
from prior.tokens import TokenSet, encode, load, save, unigram_bits
from prior.views import drawn, varied
from vqgan import dataset


@pytest.fixture(scope="module")
def pictures(request):
    root = request.getfixturevalue("fixtures")
    return dataset.scan(root)[::8]


def encoded(vqgan, pictures, **changes) -> TokenSet:
    given = {"tokenizer_id": "abc", "size": 32, "data": {"name": "d", "sha256": "1"}, "batch": 3}
    return encode(vqgan, pictures, **given | changes)


def test_codes_are_the_tokenizers_with_mirror_images(tiny_vqgan, pictures):
    found = encoded(tiny_vqgan, pictures)
    assert found.codes.dtype == np.uint16 and found.codes.shape == (len(pictures), 2, 16, 16)
    assert found.grid == (16, 16) and found.codebook_size == 32
    for i in (0, len(pictures) - 1):
        x = dataset.to_tensor(dataset.whole(pictures[i], 32))[None]
        for flip, image in enumerate((x, x.flip(3))):
            with torch.no_grad():
                expected = tiny_vqgan.encode(image).indices[0].numpy()
            # Convolutions over another batch may round a near tie differently.
            assert (found.codes[i, flip] == expected).mean() > 0.98
    assert not np.array_equal(found.codes[:, 0], found.codes[:, 1])


def test_varied_views_are_the_codes_of_varied_pictures(tiny_vqgan, pictures):
    kinds = ("moved", "recoloured")
    plain, found = encoded(tiny_vqgan, pictures), encoded(tiny_vqgan, pictures, view_kinds=kinds)
    assert found.codes.shape == (len(pictures), 4, 16, 16) and found.views == 2
    assert found.view_kinds == kinds and plain.view_kinds == ()
    assert (found.codes[:, :2] == plain.codes).mean() > 0.98
    for i, view in ((0, 0), (0, 1), (4, 1)):
        changes = drawn(kinds[view], len(pictures), np.random.default_rng([view, 1]))
        x = varied(dataset.to_tensor(dataset.whole(pictures[i], 32))[None], changes[i : i + 1])
        with torch.no_grad():
            expected = tiny_vqgan.encode(x).indices[0].numpy()
        assert (found.codes[i, 2 + view] == expected).mean() > 0.98
        assert (found.codes[i, 2 + view] != plain.codes[i, 0]).any()
    again = encoded(tiny_vqgan, pictures, view_kinds=kinds, batch=5)  # whatever the batches
    assert (found.codes == again.codes).mean() > 0.98


def test_kinds_of_views_are_kept_and_old_files_have_moved_ones(tiny_vqgan, pictures, tmp_path):
    found = encoded(tiny_vqgan, pictures, view_kinds=("turned", "moved"))
    save(found, tmp_path / "t.npy")
    assert load(tmp_path / "t.npy").view_kinds == ("turned", "moved")
    card = json.loads((tmp_path / "t.json").read_text())
    del card["view_kinds"]
    (tmp_path / "t.json").write_text(json.dumps(card))
    assert load(tmp_path / "t.npy").view_kinds == ("moved", "moved")
    with pytest.raises(ValueError, match="2 varied views but 1 kinds"):
        TokenSet(found.codes, found.rows, "abc", 32, {}, ("moved",))
    with pytest.raises(ValueError, match="kind 'bent' are unknown: choose of moved, turned"):
        TokenSet(found.codes, found.rows, "abc", 32, {}, ("moved", "bent"))


def test_pictures_that_cannot_be_read_are_left_out(tiny_vqgan, pictures, tmp_path, caplog):
    bad = tmp_path / "cut.png"
    bad.write_bytes(pictures[0].path.read_bytes()[:300])
    broken = dataset.Picture(bad, row={"id": "cut"})
    whole = encoded(tiny_vqgan, pictures)
    found = encoded(tiny_vqgan, [broken, *pictures[:4], broken, *pictures[4:], broken])
    assert found.codes.shape == whole.codes.shape and found.rows == whole.rows
    assert (found.codes == whole.codes).mean() > 0.98  # batches round near ties as they are cut
    (line,) = caplog.messages
    assert f"left out 3 of {len(pictures) + 3} pictures" in line and "cut.png is damaged" in line
    with pytest.raises(ValueError, match="none of the pictures can be opened, 2 in all: cut"):
        encoded(tiny_vqgan, [broken, broken])


def test_the_pictures_behind_the_grids_are_found_by_set_and_id():
    def picture(number: int, of: str, name: str) -> dataset.Picture:
        return dataset.Picture(Path(f"{number}.png"), row={"set": of, "id": name})

    found = [picture(i, *key.split("/")) for i, key in enumerate(["a/x", "b/x", "a/y", "c/z"])]
    rows = [{"set": of, "id": name, "captions": []} for of, name in ("cz", "bx", "ay")]

    def made(rows: list[dict]) -> TokenSet:
        return TokenSet(np.zeros((len(rows), 2, 1, 1), np.uint16), rows, "abc", 32, {})

    assert made(rows).pictures(found) == [found[3], found[1], found[2]]
    with pytest.raises(ValueError, match="a picture that the data lacks, b/x: give the folder"):
        made(rows).pictures([found[0], *found[2:]])
    with pytest.raises(ValueError, match="do not name their pictures"):
        made([{"captions": []}]).pictures([*found, dataset.Picture(Path("plain.png"))])


def test_rows_keep_what_the_manifest_says(tiny_vqgan, pictures):
    rows = encoded(tiny_vqgan, pictures).rows
    for row, picture in zip(rows, pictures, strict=True):
        assert row["captions"] == picture.row["captions"] and row["id"] == picture.row["id"]
        assert row["split"] == picture.split and row["kind"] == picture.row["kind"]
        assert "path" not in row
    plain = encoded(tiny_vqgan, [dataset.Picture(pictures[0].path, photo=True)]).rows
    assert plain == [{"kind": "photo", "captions": [], "split": "train"}]


def test_pictures_are_found_by_split_and_kind():
    rows = [
        {"split": split, "kind": kind}
        for split, kind in (("train", "icon"), ("val", "icon"), ("train", "photo"))
    ]
    found = TokenSet(np.zeros((3, 2, 4, 4), np.uint16), rows, "abc", 32, {})
    assert found.where("train").tolist() == [0, 2]
    assert found.where("train", ("icon", "clipart")).tolist() == [0]
    assert found.where("val", ("photo",)).tolist() == []


def test_a_file_gives_back_what_was_saved(tiny_vqgan, pictures, tmp_path):
    found = encoded(tiny_vqgan, pictures)
    save(found, tmp_path / "deep" / "t.npy")
    back = load(tmp_path / "deep" / "t.npy", "abc")
    assert np.array_equal(back.codes, found.codes)
    assert (back.rows, back.data, back.codebook_size) == (found.rows, found.data, 32)
    assert sorted(p.name for p in (tmp_path / "deep").iterdir()) == ["t.json", "t.npy"]


def test_tokens_of_another_tokenizer_are_refused(tmp_path):
    save(TokenSet(np.zeros((1, 2, 4, 4), np.uint16), [{}], "abc", 32, {}), tmp_path / "t.npy")
    assert load(tmp_path / "t.npy").tokenizer_id == "abc"
    with pytest.raises(ValueError, match="made by tokenizer abc, not by def"):
        load(tmp_path / "t.npy", "def")


def change_card(path, **changes):
    card = json.loads(path.read_text())
    path.write_text(json.dumps(card | changes))


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda p: (p / "t.npy").write_bytes(b""), "no readable tokens"),
        (lambda p: (p / "t.json").write_text("["), "no readable tokens"),
        (lambda p: (p / "t.json").unlink(), "no readable tokens"),
        (lambda p: change_card(p / "t.json", format=2), "format 2 is unknown"),
        (lambda p: change_card(p / "t.json", pictures=[]), "1 grids but 0 rows"),
        (lambda p: change_card(p / "t.json", codebook_size=7), "code 7 is not in a codebook of 7"),
        (lambda p: np.save(p / "t.npy", np.zeros((1, 4, 4), np.uint16)), "expected uint16"),
        (lambda p: np.save(p / "t.npy", np.zeros((1, 2, 4, 4))), "codes are float64"),
    ],
)
def test_spoiled_files_are_refused(tmp_path, spoil, named):
    found = TokenSet(np.full((1, 2, 4, 4), 7, np.uint16), [{}], "abc", 32, {})
    save(found, tmp_path / "t.npy")
    spoil(tmp_path)
    with pytest.raises(ValueError, match=named):
        load(tmp_path / "t.npy")


def test_a_token_file_is_called_npy(tmp_path):
    with pytest.raises(ValueError, match=r"must end in \.npy"):
        tokens.named(tmp_path / "t.json")


def test_unigram_bits_are_a_cross_entropy():
    train = np.array([0] * 49 + [1] * 49)  # with one added to each of four codes: 50, 50, 1, 1
    assert unigram_bits(train, np.array([[0, 1]]), 4) == pytest.approx(math.log2(102 / 50))
    assert unigram_bits(train, np.array([2]), 4) == pytest.approx(math.log2(102))
