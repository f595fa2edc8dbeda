"""`data.build` from end to end on fake packages: layout, resume, messages."""

import json
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from data import build, sources

COPYRIGHT = """Format: copyright-format/1.0

Files: *
Copyright: 2020, Somebody
License: GPL-2+

Files: 16.04/free_by_*
       16.04/life_by_Ann.jpg
Copyright: Ann <ann@example.org>, 2018
License: CC-BY-4.0

Files: 16.04/sunset_by_Bob.jpg
Copyright: Bob
License: CC-BY-NC-4.0

Files: debian/*
Copyright: Packager
License: Expat
"""


def circle(colour: str, radius: int) -> str:
    return f'<circle cx="16" cy="16" r="{radius}" fill="{colour}"/>'


def icon_package(cache: Path, name: str, licence: str, icons: dict, chars: dict) -> None:
    folder = cache / sources.slug(f"@iconify-json/{name}") / "package"
    folder.mkdir(parents=True)
    (folder.parent / "VERSION").write_text("1.0.0")
    info = {"author": {"name": "Author of " + name}, "license": {"spdx": licence}}
    (folder / "info.json").write_text(json.dumps(info))
    data = {"prefix": name, "icons": icons, "width": 32, "height": 32}
    (folder / "icons.json").write_text(json.dumps(data))
    (folder / "chars.json").write_text(json.dumps(chars))


@pytest.fixture
def cache(tmp_path) -> Path:
    """A cache with every package of noto, twemoji, openclipart and one set of photographs."""
    cache = tmp_path / "cache"
    apple, pear = {"body": circle("red", 12)}, {"body": circle("green", 6)}
    icons = {"red-apple": apple, "artist": pear, "artist-light-skin-tone": pear}
    icons |= {"old": {"body": circle("blue", 9), "hidden": True}, "blank": {"body": "<g/>"}}
    icon_package(cache, "noto", "Apache-2.0", icons, {"1f34e": "red-apple"})
    icon_package(cache, "twemoji", "CC-BY-4.0", {"red-apple": {"body": circle("#a00", 15)}}, {})
    icon_package(cache, "fluent-emoji-flat", "MIT", {"artist": pear, "artist-light": pear}, {})
    emojibase = cache / "emojibase-data"
    for language, label in (("en", "red apple"), ("zh", "红苹果")):
        (emojibase / "package" / language).mkdir(parents=True)
        entry = {"hexcode": "1F34E", "label": label, "tags": []}
        (emojibase / "package" / language / "data.json").write_text(json.dumps([entry]))
    (emojibase / "VERSION").write_text("17.0.0")
    clipart = cache / "openclipart-png/usr/share/openclipart/png/food/fruit"
    clipart.mkdir(parents=True)
    (cache / "openclipart-png/VERSION").write_text("0.18")
    Image.new("RGB", (30, 10), "purple").save(clipart / "plum_ganson_01.png")
    (clipart / "link.png").symlink_to("plum_ganson_01.png")
    (clipart / "broken.png").write_bytes(b"no picture")
    photos(cache)
    return cache


def photos(cache: Path) -> None:
    package = cache / "lomiri-wallpapers-16.04"
    folder = package / "usr/share/backgrounds"
    folder.mkdir(parents=True)
    (package / "VERSION").write_text("20.04.0-2")
    for number, stem in enumerate(("free_by_Ann", "sunset_by_Bob", "Wine", "drawn_by_Ann")):
        noise = np.random.default_rng(number).integers(0, 255, (60, 90, 3), np.uint8)
        Image.fromarray(noise).resize((900, 600)).save(folder / f"{stem}.jpg")
    doc = package / "usr/share/doc/lomiri-wallpapers-16.04"
    doc.mkdir(parents=True)
    (doc / "copyright").write_text(COPYRIGHT)


SETS = ["noto", "twemoji", "openclipart", "lomiri-wallpapers-16.04"]


def run(out: Path, cache: Path, *more: str, sets=SETS) -> int:
    args = ["--out", str(out), "--cache", str(cache), "--workers", "1", "--only", *sets]
    try:
        return build.main([*args, *more])
    except SystemExit as stop:
        return stop.code


def snapshot(out: Path) -> dict[str, tuple[int, str]]:
    files = (p for p in sorted(out.rglob("*")) if p.is_file())
    return {
        p.relative_to(out).as_posix(): (p.stat().st_mtime_ns, sha256(p.read_bytes()).hexdigest())
        for p in files
    }


def rows_of(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "manifest.jsonl").read_text("utf-8").splitlines()]


@pytest.fixture
def needs_resvg():
    pytest.importorskip("resvg_py")


def test_layout_resume_and_repair(tmp_path, cache, capsys, needs_resvg):
    out = tmp_path / "out"
    assert run(out, cache) == 0
    assert "broken.png" in capsys.readouterr().err
    rows = rows_of(out)
    # No skin tone, withdrawn, blank, linked or broken picture, and no forbidding licence.
    assert [row["path"] for row in rows] == [
        "images/noto/artist.png",
        "images/noto/red-apple.png",
        "images/openclipart/food-fruit-plum_ganson_01.png",
        "images/twemoji/red-apple.png",
        "photos/lomiri-wallpapers-16.04/free.jpg",
        "photos/lomiri-wallpapers-16.04/wine.jpg",
    ]
    for row in rows:
        with Image.open(out / row["path"]) as picture:
            assert picture.mode == "RGB"
            photo = row["kind"] == "photo"
            assert picture.size == ((768, 512) if photo else (128, 128))
        assert (row["mask"] is None) == photo
        if not photo:
            with Image.open(out / row["mask"]) as mask:
                assert mask.mode == "L" and mask.size == (128, 128)
    by_path = {row["path"]: row for row in rows}
    apple = by_path["images/noto/red-apple.png"]
    assert apple["captions"] == ["red apple"] and apple["captions_zh"] == ["红苹果"]
    assert (apple["codepoints"], apple["source"]) == ("1f34e", "@iconify-json/noto@1.0.0")
    assert by_path["images/twemoji/red-apple.png"]["split"] == apple["split"]
    free = by_path["photos/lomiri-wallpapers-16.04/free.jpg"]
    assert (free["licence"], free["author"]) == ("CC-BY-4.0", "Ann, 2018")
    assert by_path["photos/lomiri-wallpapers-16.04/wine.jpg"]["licence"] == "GPL-2+"

    manifest = json.loads((out / "manifest.json").read_text("utf-8"))
    assert manifest["sha256"] == sha256((out / "manifest.jsonl").read_bytes()).hexdigest()
    assert manifest["counts"]["all"] == 6 and manifest["counts"]["kind"]["icon"] == 3
    assert manifest["licences"]["Apache-2.0"] == 2
    assert manifest["packages"]["@iconify-json/twemoji"] == "1.0.0"
    assert str(tmp_path) not in (out / "manifest.jsonl").read_text("utf-8")

    before = snapshot(out)
    assert run(out, cache) == 0
    assert snapshot(out) == before  # not one file touched

    (out / "images/noto/artist.png").unlink()  # as if killed half-way
    (out / "manifest.json").unlink()
    assert run(out, cache) == 0
    assert {k: v[1] for k, v in snapshot(out).items()} == {k: v[1] for k, v in before.items()}


def test_another_version_of_a_package_needs_a_new_folder(tmp_path, cache, capsys, needs_resvg):
    assert run(tmp_path / "out", cache, sets=["twemoji"]) == 0
    (cache / "iconify-json-twemoji/VERSION").write_text("2.0.0")
    before = snapshot(tmp_path / "out")
    assert run(tmp_path / "out", cache, sets=["twemoji"]) == 2
    assert "@iconify-json/twemoji 1.0.0 and 2.0.0" in last_line(capsys)
    assert snapshot(tmp_path / "out") == before


def test_another_split_or_fewer_sets_need_a_new_folder(tmp_path, cache, capsys, needs_resvg):
    out = tmp_path / "out"
    assert run(out, cache, sets=["noto", "twemoji"]) == 0
    before = snapshot(out)
    assert run(out, cache, "--seed", "1", sets=["noto", "twemoji"]) == 2
    assert "split by seed 0, not 1" in last_line(capsys)
    assert run(out, cache, sets=["twemoji"]) == 2
    assert "holds the sets noto as well" in last_line(capsys)
    assert snapshot(out) == before


def last_line(capsys) -> str:
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("error: ")
    return line


def test_missing_client_names_itself_and_the_way_to_get_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sources.shutil, "which", lambda name: None)
    assert run(tmp_path / "out", tmp_path / "cache", sets=["noto"]) == 2
    line = last_line(capsys)
    assert "emojibase-data" in line and "`npm`" in line and "Node.js" in line
    assert "--only" not in line, "captions need it, whatever else is built"
    assert "Traceback" not in line and not (tmp_path / "out/manifest.json").exists()


def test_missing_debian_client_says_how_to_do_without(tmp_path, cache, monkeypatch, capsys):
    monkeypatch.setattr(sources.shutil, "which", lambda name: None)
    assert run(tmp_path / "out", cache, sets=["noto", "mate-backgrounds"]) == 2
    line = last_line(capsys)
    assert "mate-backgrounds" in line and "`apt-get`" in line and "--only" in line


def test_package_that_cannot_be_had(tmp_path, monkeypatch, capsys):
    def fail(command, **kwargs):
        return sources.subprocess.CompletedProcess(command, 1, "", "E: Unable to locate package\n")

    monkeypatch.setattr(sources.shutil, "which", lambda name: name)
    monkeypatch.setattr(sources.subprocess, "run", fail)
    with pytest.raises(sources.SourceError, match=r"apt-get download.*-png.*Unable.*update"):
        sources.fetch("openclipart-png", tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []  # nothing half-unpacked stays


def test_bad_input_is_one_line_and_code_2(tmp_path, monkeypatch, capsys):
    file = tmp_path / "file"
    file.write_text("")
    assert run(file, tmp_path / "cache") == 2
    assert "is a file" in last_line(capsys)
    assert run(tmp_path / "out", tmp_path / "cache", "--workers", "0") == 2
    assert "--workers" in last_line(capsys)
    assert run(tmp_path / "out", tmp_path / "cache", sets=["nosuchset"]) == 2
    assert "nosuchset" in last_line(capsys)
    monkeypatch.setattr(build.shutil, "disk_usage", lambda path: SimpleNamespace(free=1 << 30))
    assert run(tmp_path / "out", tmp_path / "cache") == 2
    assert "1.0 GB free" in last_line(capsys)
    monkeypatch.setattr(build, "_has", lambda module: module != "resvg_py")
    assert run(tmp_path / "out", tmp_path / "cache") == 2
    assert "pip install resvg-py" in last_line(capsys)


def test_skin_tones():
    names = {"artist", "artist-light", "artist-medium-dark", "traffic-light", "hands", "pair"}
    names |= {"hands-light-dark", "wave-dark-skin-tone"}
    tones = {name for name in names if sources.is_skin_tone(name, names)}
    assert tones == {
        "artist-light",
        "artist-medium-dark",
        "hands-light-dark",
        "wave-dark-skin-tone",
    }


def test_icons_under_another_licence_are_refused(tmp_path):
    icon_package(tmp_path, "noto", "CC-BY-NC-4.0", {"pear": {"body": ""}}, {})
    package = sources.Package("noto", "1", tmp_path / sources.slug("@iconify-json/noto"))
    with pytest.raises(sources.SourceError, match=r"noto is now under CC-BY-NC-4\.0"):
        sources.list_icons("noto", package)


def test_an_icons_view_is_its_own_else_its_sets_else_sixteen():
    icon = {"body": "<g/>", "left": 1, "top": 2, "width": 30}
    assert 'width="30" height="40" viewBox="1 2 30 40"><g/>' in sources._svg(icon, {"height": 40})
    assert 'viewBox="0 0 16 16"' in sources._svg({"body": ""}, {})


def test_clip_art_has_a_name_each_and_broken_ones_are_left_out(tmp_path):
    folder = tmp_path / "usr/share/openclipart/png/food"
    folder.mkdir(parents=True)
    for name in ("big pear", "big-pear", "creation_day_7"):
        (folder / f"{name}.png").write_bytes(b"")
    found = sources.list_clipart("openclipart", sources.Package("openclipart-png", "1", tmp_path))
    assert [p.name for p in found] == ["big pear", "big-pear"]
    assert found[0].id == "food-big-pear" and found[1].id.startswith("food-big-pear-")


def test_a_full_disk_is_no_broken_photograph(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("data.render.save", full)
    Image.new("RGB", (900, 700)).save(tmp_path / "a.png")
    photo = SimpleNamespace(kind="photo", file=tmp_path / "a.png", svg=None, set="s", id="a")
    monkeypatch.setattr(build, "image_path", lambda picture: "a.jpg")
    with pytest.raises(OSError, match="No space left"):
        build._render_job(build._Job(photo, tmp_path / "out"))
    (tmp_path / "a.png").write_bytes(b"broken")
    assert "UnidentifiedImageError" in build._render_job(build._Job(photo, tmp_path / "out"))


def test_kde_wallpaper_comes_once_in_its_largest_size(tmp_path):
    root = tmp_path / "usr/share/wallpapers/Kite"
    for folder, size in (("images", (400, 800)), ("images", (1600, 900)), ("images_dark", (9, 9))):
        file = root / "contents" / folder / f"{size[0]}x{size[1]}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise(size, 60).save(file)
    plugin = {"License": "LGPLv3", "Authors": [{"Name": "Risto"}]}
    (root / "metadata.json").write_text(json.dumps({"KPlugin": plugin}))
    doc = tmp_path / "usr/share/doc/plasma-workspace-wallpapers"
    doc.mkdir(parents=True)
    (doc / "copyright").write_text(COPYRIGHT)
    name = "plasma-workspace-wallpapers"
    (photo,) = sources.list_photos(name, sources.Package(name, "4", tmp_path))
    assert (photo.licence, photo.author) == ("LGPL-3.0-only", "Risto")
    assert photo.file.name == "1600x900.jpg"


def test_stars_are_sampled(tmp_path):
    folder = tmp_path / "usr/share/openclipart/png/shapes/stars"
    folder.mkdir(parents=True)
    for number in range(sources.STARS_KEPT + 30):
        (folder / f"star_{number}pt.png").write_bytes(b"")
    package = sources.Package("openclipart-png", "1", tmp_path)
    assert len(sources.list_clipart("openclipart", package)) == sources.STARS_KEPT


def test_import_needs_no_heavy_package():
    # The message about a missing package must come from data.build, not from its imports.
    code = (
        "import sys, data.build; print([m for m in ('PIL', 'numpy', 'tqdm') if m in sys.modules])"
    )
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr
