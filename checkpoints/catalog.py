"""What weights exist: the bundles shipped here, and the field's published checkpoints.

`python -m checkpoints.catalog` lists them, `python -m checkpoints.catalog NAME` downloads one and
says how to make a bundle of it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import os
import shlex
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from checkpoints.bundle import names
from training.files import usable_folder
from training.flags import Parser, fail

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vqgan-studio"
CHUNK = 1 << 20
TIMEOUT = 30  # seconds without a byte
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no more room on the disk, or for this user
HEIBOX = "https://heibox.uni-heidelberg.de"
HUB = "https://huggingface.co"


@dataclass(frozen=True)
class File:
    """One file of a published checkpoint. `sha256` is None where none is known."""

    name: str
    url: str
    sha256: str | None = None


@dataclass(frozen=True)
class Published:
    """A checkpoint that others trained and published."""

    name: str
    about: str
    layout: str  # whose parameter names: taming | llamagen | diffusers
    licence: str
    source: str  # page that describes it
    files: tuple[File, ...]  # the weights first, then their configuration if there is one
    options: tuple[str, ...] = ()  # further ones for checkpoints.convert

    def convert(self, folder: Path) -> str:
        """The command that makes a bundle of the files in `folder`."""
        weights, *config = (str(folder / file.name) for file in self.files)
        more = ["--config", *config] if config else []
        words = [weights, self.name, "--format", self.layout, *more, *self.options]
        return f"python -m checkpoints.convert {shlex.join(words)}"


TAMING = "https://github.com/CompVis/taming-transformers"


def _heibox(folder: str) -> tuple[File, File]:
    """The two files of one of the paper's shared folders."""
    link = f"{HEIBOX}/d/{folder}/files/?dl=1&p=%2F"
    return File("last.ckpt", link + "ckpts%2Flast.ckpt"), File(
        "model.yaml", link + "configs%2Fmodel.yaml"
    )


PUBLISHED = (
    Published(
        "imagenet-f16-1024",
        "the paper's VQGAN: ImageNet, 256 px, f16, 1,024 codes",
        "taming",
        "MIT",
        TAMING,
        _heibox("8088892a516d4e3baf92"),
    ),
    Published(
        "imagenet-f16-16384",
        "the paper's VQGAN: ImageNet, 256 px, f16, 16,384 codes",
        "taming",
        "MIT",
        TAMING,
        (
            File("last.ckpt", f"{HEIBOX}/f/867b05fc8c4841768640/?dl=1"),
            File("model.yaml", f"{HEIBOX}/f/274fb24ed38341bfa753/?dl=1"),
        ),
    ),
    Published(
        "openimages-f8-8192",
        "Gumbel quantiser: OpenImages, 256 px, f8, 8,192 codes",
        "taming",
        "MIT",
        TAMING,
        _heibox("2e5662443a6b4307b470"),
    ),
    Published(
        "llamagen-f16",
        "LlamaGen's tokenizer: ImageNet, f16, 16,384 codes of 8 dimensions, L2-normalised",
        "llamagen",
        "MIT",
        "https://github.com/FoundationVision/LlamaGen",
        (File("vq_ds16_c2i.pt", f"{HUB}/FoundationVision/LlamaGen/resolve/main/vq_ds16_c2i.pt"),),
    ),
    Published(
        "amused-256",
        "aMUSEd's VQGAN: 256 px, f16, 8,192 codes",
        "diffusers",
        "OpenRAIL++",
        f"{HUB}/amused/amused-256",
        (
            File(
                "diffusion_pytorch_model.safetensors",
                f"{HUB}/amused/amused-256/resolve/main/vqvae/diffusion_pytorch_model.safetensors",
            ),
            File("config.json", f"{HUB}/amused/amused-256/resolve/main/vqvae/config.json"),
        ),
        options=("--unit-range",),
    ),
)


def published(name: str) -> Published:
    """The catalogue's entry of that name. ValueError that lists the names."""
    for entry in PUBLISHED:
        if entry.name == name:
            return entry
    known = ", ".join(entry.name for entry in PUBLISHED)
    raise ValueError(f"there is no published checkpoint {name!r}: choose one of {known}")


Progress = Callable[[int, int | None], None]  # bytes so far, bytes in all if known


def download(file: File, folder: Path, progress: Progress | None = None) -> Path:
    """Fetch one file into `folder` -> its path; nothing is fetched if it is there already.

    What a broken connection left is kept as `.part` and gone on from. The file takes its name only
    when it is whole and its sha256 (if known) is right. ValueError with one sentence otherwise.
    """
    target = folder / file.name
    if _there(file, target):
        return target
    usable_folder(folder)
    part = target.with_name(target.name + ".part")
    with _alone(folder):
        if _there(file, target):
            return target
        try:
            _fetch(file.url, part, progress)
        except (OSError, http.client.HTTPException) as error:
            raise ValueError(_why(file, part, error)) from error
        return _checked(file, part, target)


def _there(file: File, target: Path) -> bool:
    return target.is_file() and (file.sha256 is None or _sha256(target) == file.sha256)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """ValueError while another process downloads into `folder`: two would mix up one `.part`.

    The lock is the folder's own, so that nothing stays of it, however this process ends. Where
    there is no such lock (Windows, some network drives) it is left to luck.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    place = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            try:
                fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(
                    f"another download into {folder} is going on: wait until it has ended"
                ) from None
        yield
    finally:
        os.close(place)


def _checked(file: File, part: Path, target: Path) -> Path:
    """Give a file that is whole its name -> `target`. ValueError if it is not the right one."""
    if file.sha256 is not None and _sha256(part) != file.sha256:
        part.unlink()
        raise ValueError(
            f"{file.url} is not the file that was expected (its sha256 differs): it was not kept"
        )
    os.replace(part, target)
    return target


def _fetch(url: str, part: Path, progress: Progress | None) -> None:
    """GET into `part`, after the bytes that it has. OSError if it ends early."""
    start = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "vqgan-studio"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if not start or error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        part.unlink()  # as long as the whole file, or longer: begin again
        return _fetch(url, part, progress)
    with response:
        resumed = response.status == http.client.PARTIAL_CONTENT
        have = start if resumed else 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        with part.open("ab" if resumed else "wb") as out:
            while block := response.read(CHUNK):
                out.write(block)
                have += len(block)
                if progress:
                    progress(have, total)
    if total is not None and have != total:
        raise ConnectionError(f"the connection ended after {have:,} of {total:,} bytes")


def _why(file: File, part: Path, error: Exception) -> str:
    full = getattr(error, "errno", None) in FULL
    if full or getattr(error, "filename", None) == str(part):
        advice = "make room, or choose" if full else "choose"
        return f"{part} cannot be written ({error.strerror}): {advice} another folder (--to)"
    if isinstance(error, urllib.error.HTTPError):
        return f"{file.name} cannot be downloaded: {file.url} answers {error.code} {error.reason}"
    reason = getattr(error, "reason", None) or error
    return (
        f"{file.name} cannot be downloaded ({reason}): check the network and try again, or fetch "
        f"{file.url} by other means"
    )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(CHUNK):
            digest.update(block)
    return digest.hexdigest()


def main(argv: list[str] | None = None) -> None:
    parser = Parser(prog="python -m checkpoints.catalog", description=__doc__)
    parser.add_argument("name", nargs="?", help="a published checkpoint to download")
    parser.add_argument("--to", type=Path, default=CACHE, help="folder (%(default)s)")
    args = parser.parse_args(argv)
    if args.name is None:
        for name in names():
            print(f"{name:20} shipped here")
        for entry in PUBLISHED:
            print(f"{entry.name:20} {entry.about} ({entry.licence}; {entry.source})")
        return
    try:
        entry = published(args.name)
        folder = args.to / entry.name
        for file in entry.files:
            with tqdm(desc=file.name, unit="B", unit_scale=True) as bar:

                def show(done: int, total: int | None, bar: tqdm = bar) -> None:
                    bar.total = total
                    bar.update(done - bar.n)

                path = download(file, folder, show)
            if file.sha256 is None:
                print(f"{path}: sha256 {_sha256(path)}, unchecked, none is known here")
            else:
                print(f"{path}: sha256 as published")
        print(f"next: {entry.convert(folder)}")
    except (ValueError, OSError) as error:
        fail(error)


if __name__ == "__main__":
    main()
