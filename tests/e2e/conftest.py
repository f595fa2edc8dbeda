"""The app as a visitor gets it: a process of its own, and a headless Chromium in front of it."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import checkpoints
from checkpoints.bundle import DECODER, DECODERS, pack, save_sketch, write_card
from prior.draw import main as draw
from prior.model import GPT, PriorConfig
from prior.nearest import FILE as TRAINING
from prior.nearest import gather
from prior.sheet import FILE as SAMPLES
from prior.sketch import SketchReader, config_for
from tests.measured import MEASURED
from ui import page
from ui.studio import Studio
from vqgan import dataset
from vqgan.codebook import FILE
from vqgan.codebook.build import build
from vqgan.model import VQGAN, VQGANConfig

ROOT = Path(__file__).parents[2]
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# Stands in for the shipped model while there is none: its cells, figures and events are real.
TINY = VQGANConfig(
    resolution=128,
    ch=8,
    ch_mult=(1, 1, 2, 2),
    num_res_blocks=1,
    attn_resolutions=(),
    mid_attn=False,
    num_groups=2,
    z_channels=16,
    codebook_size=256,
    embed_dim=4,
    quantizer="cosine",
)
READY = 120  # seconds that a busy machine may take


@pytest.fixture(scope="session")
def bundle_path(tmp_path_factory) -> Path:
    """The shipped bundle, or the folder that E2E_BUNDLE names, or a tiny random model.

    Always a copy with a tiny random prior: what is drawn does not matter here, and it is quick.
    """
    folder = tmp_path_factory.mktemp("bundle")
    shipped = checkpoints.bundle.FOLDER / checkpoints.DEFAULT
    source = Path(os.environ.get("E2E_BUNDLE", shipped))
    if (source / checkpoints.bundle.WEIGHTS).is_file():
        shutil.copytree(source, folder, dirs_exist_ok=True)
        bundle = checkpoints.load(folder)
    else:
        torch.manual_seed(0)
        checkpoints.save(folder, name="tiny", vqgan=VQGAN(TINY).eval(), card={})
        bundle = checkpoints.load(folder)
        _write_statistics(bundle)
    _write_prior(bundle)
    _write_decoder(checkpoints.load(folder))
    return folder


def _write_decoder(bundle: checkpoints.Bundle) -> None:
    """One more decoder, as if trained without GAN: the shipped one, paler."""
    state = bundle.vqgan.state_dict()
    own = {k: v for k, v in state.items() if k.startswith(DECODER)}
    own["decoder.conv_out.weight"] = own["decoder.conv_out.weight"] / 2
    (bundle.path / DECODERS).mkdir(exist_ok=True)
    (bundle.path / DECODERS / "paler.safetensors").write_bytes(pack(own))
    weights = {"perceptual_weight": 0.4, "gan_weight": 0.0}
    entry = {"off": ["gan"], "steps": 900, "hours": 0.25, "train": weights}
    paler = {"paler": entry | {"tokenizer_id": bundle.tokenizer_id}}
    write_card(bundle.path, bundle.card | {"decoders": paler})


def _write_prior(bundle: checkpoints.Bundle) -> None:
    """A prior, the samples its tab opens with, and the fixtures as its training pictures."""
    torch.manual_seed(0)
    size = bundle.vqgan.config.codebook_size
    config = PriorConfig(codebook_size=size, layers=1, heads=2, dim=32, tie_head=False)
    prior = GPT(config).requires_grad_(False)
    prior.head.weight.mul_(20)
    saved = {"name": bundle.name, "vqgan": bundle.vqgan, "card": bundle.card, "prior": prior}
    checkpoints.save(bundle.path, **saved)
    reader = SketchReader(config_for(config, bundle.vqgan.config.downsampling, 8))
    reader.requires_grad_(False).shifts.weight.normal_(std=0.5)
    save_sketch(bundle.path, reader, {})
    line = ["--bundle", str(bundle.path), "--out", str(bundle.path / SAMPLES), "-n", "3"]
    draw([*line, "--seed", "40"])
    index = gather(dataset.scan(ROOT / "tests" / "fixtures" / "images"))
    index.save(bundle.path / TRAINING)


@pytest.fixture(scope="session")
def told_bundle(bundle_path, tmp_path_factory) -> Callable[..., checkpoints.Bundle]:
    """Makes the same models again, under a name, with a prior that is told things."""

    def make(name: str, **shape: object) -> checkpoints.Bundle:
        path = shutil.copytree(bundle_path, tmp_path_factory.mktemp(name) / "bundle")
        bundle = checkpoints.load(path)
        torch.manual_seed(2)
        prior = GPT(PriorConfig(**{**bundle.prior.config.to_dict(), **shape})).requires_grad_(False)
        prior.head.weight.mul_(20)
        told = prior.class_emb if prior.config.classes else prior.condition_proj
        told.weight.normal_()
        checkpoints.save(path, name=name, vqgan=bundle.vqgan, card=bundle.card, prior=prior)
        return checkpoints.load(path)

    return make


def _write_statistics(bundle: checkpoints.Bundle) -> None:
    """What `python -m vqgan.codebook` would write, of a few fixture pictures, and a time-lapse."""
    pictures = dataset.scan(ROOT / "tests" / "fixtures")[:8]
    statistics = build(
        bundle.vqgan,
        lambda i: dataset.whole(pictures[i], 128),
        [p.path.stem for p in pictures],
        tokenizer_id=bundle.tokenizer_id,
        data="fixtures",
    )
    statistics.save(bundle.path / FILE)
    moments = bundle.path / "timelapse"
    moments.mkdir()
    rows = []
    for i, colour in enumerate(("red", "lime", "blue")):
        Image.new("RGB", (64, 32), colour).save(moments / f"{i:03d}.webp", lossless=True)
        row = {"file": f"{i:03d}.webp", "minutes": 40 * i + 5, "step": 1000 * i + 10}
        rows.append(row | {"codes": True, "losses": ["pixels"]})
    index = {"another_run": False, "moments": rows}
    (moments / "index.json").write_text(json.dumps(index))


@pytest.fixture(scope="session")
def studio(bundle_path) -> Studio:
    """The same models in this process, to say what the page should show."""
    return Studio(checkpoints.load(bundle_path), checkpoints.metric(), "cpu")


@pytest.fixture(scope="session")
def address(bundle_path) -> Iterator[str]:
    """Where `python app.py` answers."""
    with serving(bundle_path) as found:
        yield found


@contextmanager
def serving(bundle_path: Path) -> Iterator[str]:
    """`python app.py` with a bundle, in a process of its own -> its address."""
    port = str(7900 + os.getpid() % 1000)  # test runs side by side must not meet
    command = [sys.executable, "app.py", "--bundle", str(bundle_path), "--port", port]
    start = time.monotonic()
    app = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        lines = []
        for line in app.stdout:
            lines.append(line)
            if "http://" in line:
                break
            assert time.monotonic() - start < READY, "".join(lines)
        assert lines and "http://" in lines[-1], "app.py ended:\n" + "".join(lines)
        MEASURED["app.py, start to serving"].append(time.monotonic() - start)
        yield next(word for word in lines[-1].split() if word.startswith("http://"))
    finally:
        app.terminate()
        app.wait(20)


@contextmanager
def serving_here(bundle_path: Path) -> Iterator[str]:
    """The same page from this process, which has what `python app.py` would load first."""
    blocks = page.build(Studio(checkpoints.load(bundle_path), checkpoints.metric(), "cpu"))
    _, url, _ = blocks.launch(prevent_thread_lock=True, **page.launch_options())
    try:
        yield url.rstrip("/")
    finally:
        blocks.close(verbose=False)


@pytest.fixture(scope="session")
def serve() -> Callable:
    """`serving`, for tests of long runs by a bundle of their own."""
    return serving


@pytest.fixture(scope="session")
def serve_here() -> Callable:
    """`serving_here`, for the others."""
    return serving_here


@pytest.fixture(scope="session")
def tiny() -> VQGANConfig:
    """A model that stands in for a shipped one."""
    return TINY


@pytest.fixture(scope="session")
def browser():
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        pytest.fail("the browser tests need playwright: pip install -r requirements-dev.txt")
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.fail(
            "the browser tests need Chromium: install it (apt-get install chromium), or name it "
            "in the environment variable CHROMIUM"
        )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


class Visit:
    """One visitor's page, in the words of the tests."""

    def __init__(self, page, address: str):
        self.page, self.address = page, address
        self.requests: list[str] = []
        self.complaints: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.goto(address)
        page.wait_for_selector("#code-grid [data-version]")
        page.wait_for_function("document.querySelectorAll('#slider img')[1]?.complete")

    @property
    def version(self) -> int:
        return int(self.page.get_attribute("#code-grid [data-version]", "data-version"))

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Report how long the block took, under `name`, at the end of the test run."""
        start = time.monotonic()
        yield
        MEASURED[name].append(time.monotonic() - start)

    def measured(self, name: str, seconds: float) -> None:
        """Report a time that the page itself took."""
        MEASURED[name].append(seconds)

    def after(self, act: Callable[[], object], name: str = "other changes of the grid") -> None:
        """Do something, and wait until the code grid has drawn the answer and the slider too."""
        before = self.version
        sources = self.sources()
        with self.timed(name):
            act()
            self.page.wait_for_function(
                "old => document.querySelector('#code-grid [data-version]').dataset.version > old",
                arg=before,
            )
        self.page.wait_for_function(
            "old => document.querySelectorAll('#slider img')[1].src != old", arg=sources[1]
        )

    def says(self, selector: str, text: str) -> None:
        """Wait until an element says this: figures follow their picture a little later."""
        self.page.wait_for_function(
            "([query, text]) => document.querySelector(query)?.innerText.includes(text)",
            arg=[selector, text],
        )

    def sources(self) -> list[str]:
        return self.page.eval_on_selector_all("#slider img", "all => all.map(i => i.src)")

    def images(self) -> tuple[np.ndarray, np.ndarray]:
        """The slider's two pictures, pixel for pixel: (H, W, 3) uint8."""
        before, after = (
            np.asarray(Image.open(io.BytesIO(self.page.request.get(source).body())).convert("RGB"))
            for source in self.sources()
        )
        return before, after

    def spot(self, row: int, column: int, rows: int = 16, columns: int = 16) -> tuple[float, float]:
        """Where a cell's middle is on the screen."""
        canvas = self.page.locator("#code-grid .cg-picture")
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        x = box["x"] + (column + 0.5) * box["width"] / columns
        return x, box["y"] + (row + 0.5) * box["height"] / rows

    def code_at(self, row: int, column: int) -> int:
        """The code that the tip names when the pointer is over a cell."""
        self.page.mouse.move(0, 0)
        self.page.mouse.move(*self.spot(row, column))
        tip = self.page.locator("#code-grid .cg-tip").inner_text()
        assert f"row {row + 1}, column {column + 1}" in tip
        return int(tip.split()[1])

    def click(self, row: int, column: int) -> None:
        self.page.mouse.click(*self.spot(row, column))

    def overtaken(self, first: Callable[[], None], second: Callable[[], None], shown: str) -> None:
        """Hold back the answer to the `first` click until that to the `second` is `shown`."""
        held, answers = [], []

        def clicked(request) -> bool:
            return "/run/" in request.url and bool(request.post_data_json.get("event_data"))

        def hold(route) -> None:
            if held or not clicked(route.request):
                return route.continue_()
            held.append(route)
            answers.append(route.fetch())

        self.page.route("**/gradio_api/run/**", hold)
        with self.page.expect_request(clicked):  # two clicks at once would be one request
            first()
        second()
        self.page.wait_for_selector(shown)
        while not answers:  # the app may have answered the second first
            self.page.wait_for_timeout(20)
        held[0].fulfill(response=answers[0])
        self.page.unroute("**/gradio_api/run/**")

    def fingers(self, *moments: list[tuple[float, float]]) -> None:
        """Where fingers are, moment by moment; one comes or goes where their number changes."""
        client, before = self.page.context.new_cdp_session(self.page), 0
        for points in moments:
            kind = {0: "touchMove", 1: "touchStart", -1: "touchEnd"}[len(points) - before]
            touches = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(points)]
            client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})
            self.page.wait_for_timeout(16)
            before = len(points)

    def browsers(self, target: str, *keys: str) -> list[bool]:
        """Press keys on an element -> which of them the page leaves to the browser."""
        self.page.evaluate(
            "() => { window.left = []; window.onkeydown = (event) =>"
            " ['Control', 'Alt'].includes(event.key) || left.push(!event.defaultPrevented); }"
        )
        self.page.focus(target)
        for key in keys:
            self.page.keyboard.press(key)
        self.page.evaluate("() => { window.onkeydown = null; }")
        return self.page.evaluate("left")

    def tool(self, name: str) -> None:
        self.page.click(f"#code-grid [data-tool={name}]")

    def choose(self, button: str, path: Path) -> None:
        """Click an upload button and give it a file."""
        with self.page.expect_file_chooser() as chooser:
            self.page.click(button)
        chooser.value.set_files(path)

    def toast(self) -> str:
        toast = self.page.wait_for_selector("[data-testid=toast-text]")
        text = toast.inner_text()
        self.page.click("[data-testid=toast-close]")
        toast.wait_for_element_state("hidden")  # it fades: the next look must not find it again
        return text


@contextmanager
def visiting(browser, address: str) -> Iterator[Callable[..., Visit]]:
    """Opens the page for visitors; at the end, nobody's page may have broken or left the host."""
    contexts, visits = [], []

    def open_page(width: int = 1440, height: int = 900, **options) -> Visit:
        context = browser.new_context(
            viewport={"width": width, "height": height}, **{"locale": "en-US", **options}
        )
        context.set_default_timeout(60_000)
        contexts.append(context)
        visits.append(Visit(context.new_page(), address))
        return visits[-1]

    yield open_page
    for context in contexts:
        context.close()
    for visited in visits:
        assert not visited.complaints
        own = (address, "data:", "blob:")
        assert [url for url in visited.requests if not url.startswith(own)] == []


@pytest.fixture
def visit(browser, address) -> Iterator[Callable[..., Visit]]:
    """Opens a page of its own for each visitor of a test."""
    with visiting(browser, address) as open_page:
        yield open_page


@pytest.fixture(scope="module")
def shared(browser, address) -> Iterator[Visit]:
    """One page for the tests of a file that leave it as they found it: opening one takes long."""
    with visiting(browser, address) as open_page:
        yield open_page()
