"""Fetches packages with npm and apt and lists the pictures in them; renders nothing."""

import fnmatch
import json
import re
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

ICON_SETS = {
    "noto": "@iconify-json/noto",
    "noto-v1": "@iconify-json/noto-v1",
    "twemoji": "@iconify-json/twemoji",
    "fluent-emoji": "@iconify-json/fluent-emoji",
    "fluent-emoji-flat": "@iconify-json/fluent-emoji-flat",
    "emojione": "@iconify-json/emojione",
    "flat-color-icons": "@iconify-json/flat-color-icons",
}
# Only these sets carry a chars.json (code point -> name); it serves the other sets as well.
CHARS_SETS = ("noto", "twemoji", "fluent-emoji-flat")
EMOJIBASE = "emojibase-data"
CLIPART_SETS = {"openclipart": "openclipart-png"}
# The photographs of each wallpaper package, picked by eye: the rest is drawn, computed or blurred
# (gnome-backgrounds and ukui-wallpapers hold no photograph at all, so they are not fetched).
PHOTO_SETS = {
    "plasma-workspace-wallpapers": [
        "Autumn",
        "BytheWater",
        "ColdRipple",
        "ColorfulCups",
        "DarkestHour",
        "EveningGlow",
        "FallenLeaf",
        "Grey",
        "Kite",
        "OneStandsOut",
        "Path",
        "summer_1am",
    ],
    "mate-backgrounds": [
        "Aqua",
        "Blinds",
        "Dune",
        "FreshFlower",
        "Garden",
        "GreenMeadow",
        "LadyBird",
        "RainDrops",
        "Storm",
        "TwoWings",
        "Wood",
        "YellowFlower",
    ],
    "lomiri-wallpapers-16.04": [
        "Bridge",
        "Dragonfly",
        "Picture_0B",
        "Picture_1A",
        "Wine",
        "aitzgorri",
        "analogpattern",
        "free",
        "friends",
        "greentock",
        "life",
        "picosdeeuropa",
        "seeding",
        "sunset",
    ],
    "lomiri-wallpapers-20.04": ["Kleiber"],
}
ALL_SETS = (*ICON_SETS, *CLIPART_SETS, *PHOTO_SETS)

ICON_LICENCES = ("Apache-2.0", "MIT", "CC-BY-4.0")
PUBLIC_DOMAIN = "CC-PDDC"  # SPDX: Creative Commons Public Domain Dedication and Certification
FORBIDDING = re.compile(r"\b(NC|ND)\b|non-?commercial|no-?deriv", re.IGNORECASE)

# 1,378 of the clip-art files are computed star polygons ("star_53pt16step"): a sample is plenty.
STARS_FOLDER, STARS_KEPT = "shapes/stars", 120
# Broken at the source: these drawings hold a "linked image not found" sign.
BROKEN_CLIPART = ("stylized_yoga_person", "creation_day_7")

TONE = r"(?:medium-light|medium-dark|light|medium|dark)"


class SourceError(Exception):
    """A client or package is missing; the message says which and how to get it."""


@dataclass(frozen=True)
class Package:
    """An unpacked package: its folder, its version, and the name it is fetched by."""

    name: str
    version: str
    folder: Path


@dataclass(frozen=True)
class Picture:
    """One picture to render: `svg` (markup) or `file` is set, never both."""

    set: str
    id: str
    kind: str  # "icon" | "clipart" | "photo"
    name: str  # words
    licence: str  # SPDX where there is one
    author: str
    source: str  # "package@version"
    svg: str | None = None
    file: Path | None = None
    folder: str = ""  # clip art: its folder, "animals/birds"


def slug(text: str) -> str:
    """File-name-safe lower-case form: letters, digits, `-`, `_` and `.` only."""
    return re.sub(r"[^a-z0-9_.]+", "-", text.lower()).strip("-.")


# --- fetching -------------------------------------------------------------------------------------


def fetch(name: str, cache: Path) -> Package:
    """Unpack npm package or Debian package `name` under `cache`, unless it is there already.

    Raises SourceError with one sentence when the client is missing or does not deliver.
    """
    is_npm = name.startswith("@") or name == EMOJIBASE
    folder = cache / slug(name)
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix=".part-") as part:
            (_npm if is_npm else _apt)(name, Path(part))
            (Path(part) / "unpacked").rename(folder)  # atomic: a folder that exists is whole
    version = (folder / "VERSION").read_text(encoding="utf-8").strip()
    return Package(name, version, folder)


def _npm(name: str, part: Path) -> None:
    _run(["npm", "pack", "--silent", name], part, name, "Node.js, which brings npm")
    with tarfile.open(next(part.glob("*.tgz"))) as archive:
        archive.extractall(part / "unpacked", filter="data")
    meta = json.loads((part / "unpacked/package/package.json").read_text(encoding="utf-8"))
    (part / "unpacked/VERSION").write_text(meta["version"], encoding="utf-8")


def _apt(name: str, part: Path) -> None:
    hint = "it on Debian or Ubuntu (apt-get and dpkg-deb are part of both)"
    _run(["apt-get", "download", name], part, name, hint)
    deb = next(part.glob("*.deb"))
    _run(["dpkg-deb", "-x", str(deb), str(part / "unpacked")], part, name, hint)
    version = _run(["dpkg-deb", "-f", str(deb), "Version"], part, name, hint)
    (part / "unpacked/VERSION").write_text(version, encoding="utf-8")


def _run(command: list[str], cwd: Path, package: str, hint: str) -> str:
    client = command[0]
    if shutil.which(client) is None:
        raise SourceError(f"package {package} needs `{client}`, which is not installed: use {hint}")
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        if client == "apt-get":
            lines.append("try `apt-get update` first")
        raise SourceError(
            f"`{' '.join(command[:2])}` could not deliver package {package}: "
            f"{'; '.join(line.strip() for line in lines[-2:])}"
        )
    return done.stdout


# --- listing --------------------------------------------------------------------------------------


def list_icons(set_name: str, package: Package) -> list[Picture]:
    """Every icon of an iconify set, without skin-tone variants and withdrawn (`hidden`) icons."""
    folder = package.folder / "package"
    info = json.loads((folder / "info.json").read_text(encoding="utf-8"))
    data = json.loads((folder / "icons.json").read_text(encoding="utf-8"))
    licence = info["license"]["spdx"]
    if licence not in ICON_LICENCES:
        raise SourceError(f"{package.name} is now under {licence}; expected {ICON_LICENCES}")
    icons = data["icons"]
    return [
        Picture(
            set=set_name,
            id=slug(name),
            kind="icon",
            name=name.replace("-", " "),
            licence=licence,
            author=info["author"]["name"],
            source=f"{package.name}@{package.version}",
            svg=_svg(icon, data),
        )
        for name, icon in sorted(icons.items())
        if not icon.get("hidden") and not is_skin_tone(name, icons)
    ]


def is_skin_tone(name: str, names) -> bool:
    """Whether `name` is a skin-tone variant of another icon among `names`.

    "artist-light-skin-tone" always is; "artist-light" is if there is an "artist", so that
    "vertical-traffic-light" is none.
    """
    if "skin-tone" in name:
        return True
    base = re.sub(rf"(-{TONE})+$", "", name)
    return base != name and base in names


def _svg(icon: dict, data: dict) -> str:
    left, top = icon.get("left", 0), icon.get("top", 0)
    width = icon.get("width", data.get("width", 16))
    height = icon.get("height", data.get("height", 16))
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{width}" height="{height}" viewBox="{left} {top} {width} {height}">'
        f"{icon['body']}</svg>"
    )


def list_clipart(set_name: str, package: Package) -> list[Picture]:
    """Every PNG of the clip-art package once: links are left out, star polygons are sampled."""
    root = package.folder / "usr/share/openclipart/png"
    files = sorted(p for p in root.rglob("*.png") if not p.is_symlink())
    paths = {p: p.relative_to(root).with_suffix("").as_posix() for p in files}
    stars = [p for p in files if paths[p].startswith(STARS_FOLDER)]
    stars.sort(key=lambda p: sha256(paths[p].encode()).digest())
    dropped = set(stars[STARS_KEPT:])
    pictures, seen = [], set()
    for file in files:
        if file in dropped or file.name.startswith(BROKEN_CLIPART):
            continue
        path = paths[file]
        folder, _, stem = path.rpartition("/")
        picture_id = slug(path.replace("/", "-"))
        if picture_id in seen:  # two paths that differ in punctuation only
            picture_id += "-" + sha256(path.encode()).hexdigest()[:6]
        seen.add(picture_id)
        pictures.append(
            Picture(
                set=set_name,
                id=picture_id,
                kind="clipart",
                name=stem,
                licence=PUBLIC_DOMAIN,
                author="contributors of the Open Clip Art Library",
                source=f"{package.name}@{package.version}",
                file=file,
                folder=folder,
            )
        )
    return pictures


def list_photos(set_name: str, package: Package) -> list[Picture]:
    """The photographs of a wallpaper package, each in its largest landscape size, licence read.

    A photograph whose licence forbids commercial use or derivatives is left out.
    """
    share = package.folder / "usr/share"
    files = [
        p
        for p in sorted(
            (
                *share.glob("wallpapers/*/contents/images/*"),
                *share.rglob("backgrounds/**/*"),
            )
        )
        if p.suffix.lower() in (".jpg", ".jpeg", ".png") and not p.is_symlink()
    ]
    stanzas = _copyright(share / "doc" / package.name / "copyright")
    pictures = []
    for stem in PHOTO_SETS[set_name]:
        kde = [p for p in files if p.parent.parent.parent.name == stem]
        plain = [p for p in files if p.stem == stem or p.stem.startswith(f"{stem}_by_")]
        if not kde and not plain:
            continue  # another release of the package may have dropped it
        file = max(kde or plain, key=lambda p: p.stat().st_size)
        licence, author = _kde_licence(file) if kde else _stanza_licence(stanzas, file)
        if not licence or FORBIDDING.search(licence):
            continue
        words = re.sub(r"([a-z])([A-Z])", r"\1 \2", stem).replace("_", " ").lower()
        pictures.append(
            Picture(
                set=set_name,
                id=slug(stem),
                kind="photo",
                name=words,
                licence=licence,
                author=author,
                source=f"{package.name}@{package.version}",
                file=file,
            )
        )
    return pictures


KDE_LICENCES = {"LGPLv3": "LGPL-3.0-only", "CC-BY-SA-4.0": "CC-BY-SA-4.0"}


def _kde_licence(file: Path) -> tuple[str, str]:
    folder = file.parent.parent.parent
    meta = folder / "metadata.json"
    if meta.exists():
        plugin = json.loads(meta.read_text(encoding="utf-8"))["KPlugin"]
        licence = plugin.get("License", "")
        author = ", ".join(a.get("Name", "") for a in plugin.get("Authors", []))
    else:
        text = (folder / "metadata.desktop").read_text(encoding="utf-8")
        fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
        licence = fields.get("X-KDE-PluginInfo-License", "")
        author = fields.get("X-KDE-PluginInfo-Author", "")
    return KDE_LICENCES.get(licence, licence), author


def _copyright(file: Path) -> list[tuple[list[str], str, str]]:
    """The (globs, licence, copyright) stanzas of a Debian machine-readable copyright file."""
    stanzas = []
    for stanza in re.split(r"\n\s*\n", file.read_text(encoding="utf-8", errors="replace")):
        fields: dict[str, str] = {}
        key = ""
        for line in stanza.splitlines():
            match = re.match(r"([A-Za-z-]+):\s*(.*)", line)
            if match:
                key = match[1].lower()
                fields[key] = match[2]
            elif key:
                fields[key] += " " + line.strip()
        if "files" in fields and "license" in fields:
            licence = fields["license"].split()[0]
            holder = re.sub(r"\s*<[^>]*>?|[´`\"]", "", fields.get("copyright", "")).strip()
            stanzas.append((fields["files"].split(), licence, holder))
    return stanzas


def _stanza_licence(stanzas, file: Path) -> tuple[str, str]:
    """Licence and holder of `file`: the last stanza that matches wins, as Debian defines it."""
    found = ("", "")
    for globs, licence, holder in stanzas:
        for glob in globs:
            name = glob.rsplit("/", 1)[-1]
            # "debian/*" and the like are about other folders, and the pictures have moved.
            if fnmatch.fnmatch(file.name, name) and (name != "*" or glob == "*"):
                found = (licence, holder)
    return found
