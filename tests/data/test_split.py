"""Concepts, the split by hash, and near twins across it."""

import numpy as np
import pytest

from data.captions import Emoji, EmojiTable
from data.split import (
    MAX_VAL_PICTURES,
    VAL_PHOTOS,
    VAL_SHARE,
    Looks,
    concept_of,
    family_of,
    look,
    move_twins,
    normal_title,
    split_concepts,
    split_photos,
    twins,
)


@pytest.mark.parametrize(
    "codes",
    [
        # the artist: man, woman, person, with a skin tone
        ["1f468-200d-1f3a8", "1f469-200d-1f3a8", "1f9d1-200d-1f3a8", "1f469-1f3fd-200d-1f3a8"],
        ["1f3c3", "1f3c3-200d-2640", "1f3c3-200d-2642-fe0f", "1f3c3-200d-27a1"],  # running
        ["1f9d1-200d-1f9af", "1f468-200d-1f9af-200d-27a1"],  # white cane, facing right
        ["1f468", "1f467", "1f475", "1f469-200d-1f9b0", "1f9d1-200d-1f9b3"],  # people, hair
        ["1f550", "1f55b", "1f55c", "1f567"],  # clock hours and half hours
        ["1f1eb-1f1f7", "1f1fa-1f1f8", "1f3f4-e0067-e0062-e007f", "1f3f3-200d-1f308"],  # flags
        ["31-20e3", "23-20e3", "2a-20e3"],  # keycaps
        ["1f311", "1f315", "1f318"],
        ["2764", "1f499", "1fa77"],
        ["1f7e5", "1f7eb", "2b1c"],
        ["1f46b", "1f9d1-200d-1f91d-200d-1f9d1", "1f469-200d-1f91d-200d-1f468"],
        ["1f48f", "1f469-200d-2764-200d-1f48b-200d-1f468"],
        ["1f46a", "1f468-200d-1f469-200d-1f467", "1f9d1-200d-1f9d2"],
    ],
)
def test_one_family(codes):
    assert len({family_of(code) for code in codes}) == 1


def test_families_stay_apart():
    codes = ["1f34e", "1f34f", "1f9d1-200d-1f3a8", "1f9d1-200d-1f373", "1f9d1", "1f550", "23f0"]
    codes += ["1f1eb-1f1f7", "1f3c1", "2764", "2764-200d-1f525", "1f46a", "1f491", "1f48f"]
    assert len({family_of(code) for code in codes}) == len(codes)


@pytest.mark.parametrize(
    ("title", "plain"),
    [
        ("Red Apples 02", "red apple"),
        ("berries of the bushes", "berry bush"),
        ("glass", "glass"),
        ("the 7", "the"),  # only stop words: better than nothing
        ("42", "42"),
    ],
)
def test_normal_title(title, plain):
    assert normal_title(title) == plain


def test_concept_is_shared_between_sets_and_clip_art():
    table = EmojiTable(
        {"1f436": Emoji("dog face", (), "", ()), "1f34e": Emoji("red apple", (), "", ())},
        {"dog-face": "1f436", "red-apple": "1f34e", "apple": "1f34e"},
    )
    assert concept_of("1f34e", "anything", "", table) == "red apple"
    assert concept_of(None, "apple", "food", table) == "red apple"
    assert concept_of(None, "apples 03", "food", table) == "red apple"
    assert concept_of("1f436", "dog face", "", table) == "dog"
    assert concept_of("1f1eb-1f1f7", "flag france", "", table) == "flag"
    assert concept_of(None, "france", "signs_and_symbols/flags/europe", table) == "flag"
    assert concept_of("1fadf", "unheard of things", "", table) == "unheard thing"


def test_split_is_by_hash_and_needs_no_other_concept():
    counts = {f"thing {i}": 6 for i in range(4000)}
    split = split_concepts(counts, seed=0)
    share = sum(s == "val" for s in split.values()) / len(split)
    assert abs(share - VAL_SHARE) < 0.012
    some = {name: counts[name] for name in list(counts)[::7]}
    assert split_concepts(some, seed=0) == {name: split[name] for name in some}
    assert split_concepts(counts, seed=1) != split


def test_large_families_are_trained_on():
    names = [f"thing {i}" for i in range(500)]
    held_out = [n for n, s in split_concepts(dict.fromkeys(names, 1), 0).items() if s == "val"]
    assert held_out
    at_limit = split_concepts(dict.fromkeys(held_out, MAX_VAL_PICTURES), 0)
    above = split_concepts(dict.fromkeys(held_out, MAX_VAL_PICTURES + 1), 0)
    assert set(at_limit.values()) == {"val"} and set(above.values()) == {"train"}


def test_held_out_photographs_have_the_freest_licences():
    licences = {f"cc {i}": "CC-BY-4.0" for i in range(9)} | {f"gpl {i}": "GPL-2+" for i in range(9)}
    val = [name for name, split in split_photos(licences, 0).items() if split == "val"]
    assert len(val) == VAL_PHOTOS and all(name.startswith("cc") for name in val)


def disc(colour, radius=50, hole=0) -> np.ndarray:
    y, x = np.mgrid[:128, :128] - 64
    distance = np.hypot(x, y)
    picture = np.full((128, 128, 3), 255, np.uint8)
    picture[(distance < radius) & (distance >= hole)] = colour
    return picture


def test_twins_are_copies_and_recoloured_copies_but_not_other_shapes():
    square = np.full((128, 128, 3), 255, np.uint8)
    square[20:108, 20:108] = (200, 40, 40)
    pictures = [
        disc((200, 40, 40)),  # val
        disc((205, 45, 40), radius=51),  # train: nearly the same
        disc((40, 90, 60), radius=40, hole=25),  # val
        disc((150, 60, 60), radius=40, hole=25),  # train: in another colour
        square,  # val: no twin
    ]
    looks = Looks.stack([look(p) for p in pictures])
    found = twins(looks, np.array([True, False, True, False, True]))
    assert [(t.val, t.train) for t in found] == [(0, 1), (2, 3)]
    assert twins(looks, np.ones(5, bool)) == []


def test_moving_twins_goes_on_until_none_is_left():
    # Each picture is a twin of the next only: b moves because of a, then c because of b.
    angles = np.array([0, 0.2, 0.4, 0.9])
    ink = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    looks = Looks(ink, np.eye(4, dtype=np.float32))
    before = {"a": "train", "b": "val", "c": "val", "d": "val"}
    split, moved = move_twins(list("abcd"), looks, before)
    assert split == {"a": "train", "b": "train", "c": "train", "d": "val"}
    assert [twin.val for twin in moved] == [1, 2]


def test_all_drawings_of_a_moved_concept_move():
    looks = Looks.stack([look(disc((9, 9, 9))), look(disc((9, 9, 9))), look(disc((0, 0, 255), 20))])
    split, _ = move_twins(
        ["train one", "held", "held"], looks, {"train one": "train", "held": "val"}
    )
    assert split["held"] == "train"
