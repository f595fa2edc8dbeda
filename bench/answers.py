"""How soon the app answers: `python -m bench.answers`, in a real browser (needs playwright).

Per action the milliseconds from the click (or the choice of a file) until the picture or card that
answers it is drawn, and until its figures are there too; medians. And the time from the start of
the process until the worked example is painted, with the processor time in it; and until a browser
that was never there has painted it over a slow line (LINE). Some seconds after
its start the app has computed its examples: taking one shows how soon it fetches what it has, an
upload how soon it answers with what it has never seen. `--beside DIR` does
everything in turn with the app of another checkout, so that a ratio means something on a busy
machine.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from PIL import Image, ImageDraw

from training.files import writable
from training.flags import Parser, fail

ROOT = Path(__file__).parents[1]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
PATIENCE = 60_000  # milliseconds
SETTLE = 0.4  # seconds without work before an action, so that two do not mix
# That of the page which arrives: a round trip in milliseconds, bytes a second both ways.
LINE = {"latency": 150, "downloadThroughput": 5e6 / 8, "uploadThroughput": 5e6 / 8}
ARRIVAL = "page over 150 ms, 5 Mbit/s"
IDLE = 0.2  # share of a core that an app takes while it only waits for visitors, at most

# Measures inside the page, where the driver's own latency does not count: from the first input
# event after `arm` to the first change of the page at which an answer can be seen.
TIMER = """
window.answers = (() => {
  const q = (query) => document.querySelector(query);
  const second = () => [...document.querySelectorAll('#slider img')][1];
  const look = {
    version: () => Number(q('#code-grid [data-version]')?.dataset.version || 0),
    after: () => second()?.src,
    figures: () => q('#figures .tiles')?.innerHTML,
    card: () => q('#code-card .card')?.dataset.code,
    page: () => q('#codebook-page .cb-page')?.dataset.code,
    blend: () => q('#between-view [data-figure=codes] img')?.src,
  };
  const changed = (name) => look[name]() !== before[name];
  const drawn = {
    picture: () => changed('version') && changed('after') && second().complete,
    figures: () => changed('figures'),
    card: () => changed('card'),
    page: () => changed('page'),
    blend: () => changed('blend'),
  };
  let before = {}, start = null, found = {};
  const check = () => {
    if (start === null) return;
    for (const name of Object.keys(drawn))
      if (!(name in found) && drawn[name]()) found[name] = performance.now() - start;
  };
  for (const kind of ['pointerdown', 'pointerup', 'change', 'input', 'keydown'])
    addEventListener(kind, () => { if (start === null) start = performance.now(); }, true);
  document.addEventListener('load', check, true);
  new MutationObserver(check).observe(
    document, { subtree: true, childList: true, attributes: true, characterData: true });
  return {
    arm() {
      before = Object.fromEntries(Object.entries(look).map(([name, get]) => [name, get()]));
      start = null;
      found = {};
    },
    found: () => found,
  };
})();
"""
READY = (
    "document.querySelector('#code-grid [data-version]') && "
    "[...document.querySelectorAll('#slider img')][1]?.naturalWidth > 0"
)


@dataclass(frozen=True)
class Action:
    """Something a visitor does, and the names in TIMER of what answers it."""

    name: str
    act: Callable[[Any], None]  # gets the page
    answer: str = "picture"
    figures: bool = True


def cpu_seconds(*roots: int) -> float:
    """User and system time of these processes and all below them (Linux; else 0)."""
    children, spent = defaultdict(list), {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue  # it has ended
        pid = int(stat.parent.name)
        children[int(fields[1])].append(pid)
        spent[pid] = sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
    todo, total = list(roots), 0.0
    while todo:
        pid = todo.pop()
        total += spent.get(pid, 0)
        todo += children[pid]
    return total


@contextmanager
def serving(checkout: Path, bundle: str | None) -> Iterator[tuple[subprocess.Popen, str, float]]:
    """The app of a checkout: its process, its address, and when it was started."""
    command = [sys.executable, "app.py", "--port", "7940"]
    command += ["--bundle", bundle] if bundle else []
    started = time.monotonic()
    app = subprocess.Popen(
        command, cwd=checkout, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        said = []
        for line in app.stdout:
            said.append(line)
            if "http://" in line:
                break
        else:
            raise ValueError(f"the app of {checkout} did not start: {' '.join(said)[-300:]}")
        yield app, next(w for w in line.split() if w.startswith("http://")), started
    finally:
        app.terminate()
        app.wait(20)


class Visitor:
    """A page of one app, and what it was measured to take."""

    def __init__(self, browser: Any, app: subprocess.Popen, address: str, started: float):
        self.app, self.address = app, address
        self.page = browser.new_page(viewport={"width": 1440, "height": 1000})
        self.page.set_default_timeout(PATIENCE)
        self.page.add_init_script(TIMER)
        self.page.goto(address)
        self.page.wait_for_function(READY)
        self.start = time.monotonic() - started
        self.start_cpu = cpu_seconds(app.pid)
        self.times: dict[tuple[str, str], list[float]] = defaultdict(list)

    def arrive(self, browser: Any, keep: bool) -> None:
        """Somebody else's first visit, over LINE."""
        self.settle()
        context = browser.new_context(viewport={"width": 1440, "height": 1000})
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        line = context.new_cdp_session(page)
        line.send("Network.enable")
        line.send("Network.emulateNetworkConditions", {"offline": False, **LINE})
        began = time.monotonic()
        page.goto(self.address, wait_until="commit")
        page.wait_for_function(READY)
        if keep:
            self.times[ARRIVAL, "answer"].append(1000 * (time.monotonic() - began))
        context.close()

    def settle(self) -> None:
        """Wait until what follows the last answer has been computed too, and for SETTLE."""
        before = cpu_seconds(self.app.pid)
        for _ in range(25):
            time.sleep(SETTLE)
            before, last = cpu_seconds(self.app.pid), before
            if before - last < IDLE * SETTLE:
                return

    def measure(self, action: Action, keep: bool) -> None:
        self.settle()
        self.page.evaluate("answers.arm()")
        action.act(self.page)
        wanted = {action.answer, "figures"} if action.figures else {action.answer}
        deadline = time.monotonic() + PATIENCE / 1000
        while not wanted <= (found := self.page.evaluate("answers.found()")).keys():
            if time.monotonic() > deadline:
                raise ValueError(f"{action.name!r} was not answered: {sorted(found)} came")
            time.sleep(0.05)
        if not keep:
            return
        self.times[action.name, "answer"].append(found[action.answer])
        if action.figures:
            self.times[action.name, "figures"].append(found["figures"])


def spot(page: Any, row: int, column: int, side: int = 16) -> tuple[float, float]:
    """Where the middle of a cell of the code grid is on the screen."""
    canvas = page.locator("#code-grid .cg-picture")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    x = box["x"] + (column + 0.5) * box["width"] / side
    return x, box["y"] + (row + 0.5) * box["height"] / side


def press(selector: str) -> Callable[[Any], None]:
    return lambda page: page.click(selector)


def tool(name: str, row: int, columns: range) -> Callable[[Any], None]:
    """Take a tool, then drag it over some cells of a row; timed from letting go."""

    def act(page: Any) -> None:
        page.click(f"#code-grid [data-tool={name}]")
        page.mouse.move(*spot(page, row, columns[0]))
        page.mouse.down()
        page.mouse.move(*spot(page, row, columns[-1]))
        page.evaluate("answers.arm()")
        page.mouse.up()

    return act


def drawings(folder: Path) -> Iterator[Path]:
    """Pictures to upload, each another."""
    number = 0
    while True:
        image = Image.new("RGB", (128, 128), (250, 240, 200 - number))
        ImageDraw.Draw(image).ellipse((16, 20, 100, 110), fill=(30, 110, 200))
        image.save(folder / f"{number}.png")
        yield folder / f"{number}.png"
        number += 1


def script(folder: Path) -> tuple[Action, ...]:
    """What the visitor does, in order. Each leaves the page ready for the next."""
    files, turn = drawings(folder), iter(range(1, 10_000))

    def upload(page: Any) -> None:
        page.locator("#upload input[type=file]").first.set_input_files(next(files))

    def blend(page: Any) -> None:
        share = page.locator("#share input[type=number]")
        if not share.is_visible():
            page.click("#between button")
            page.wait_for_selector("#between-view [data-figure=codes] img")
            time.sleep(SETTLE)
            page.evaluate("answers.arm()")
        share.fill(f"{next(turn) % 19 * 0.05:.2f}")
        share.press("Enter")

    def code(page: Any) -> None:
        """A click on another place of the codebook's map."""
        if not page.locator("#codebook-map .cm-stage > canvas").is_visible():
            page.get_by_role("tab", name="Codebook").click()
            page.wait_for_selector("#codebook-map [data-version]")
            time.sleep(SETTLE)
            page.evaluate("answers.arm()")
        box = page.locator("#codebook-map .cm-stage > canvas").bounding_box()
        n = next(turn)
        page.mouse.click(
            box["x"] + box["width"] * (0.1 + 0.07 * (n % 11)),
            box["y"] + box["width"] * (0.05 + 0.03 * (n % 7)),
        )

    def look(page: Any) -> None:
        """A click on a cell, another one every time."""
        page.click("#code-grid [data-tool=look]")
        page.evaluate("answers.arm()")
        odd = page.evaluate("window.looked = !window.looked")
        page.mouse.click(*spot(page, 8, 4 if odd else 9))

    def swap(page: Any) -> None:
        page.click("#code-grid [data-tool=swap]")
        page.evaluate("answers.arm()")
        page.mouse.click(*spot(page, 0, 15))

    back = press("#code-grid [data-act=restore]")
    return (
        Action("take an example", press("#examples button:nth-of-type(2)")),
        Action("take another example", press("#examples button:nth-of-type(1)")),
        Action("click a cell", look, "card", figures=False),
        Action("paint a stroke", tool("paint", 7, range(3, 12))),
        Action("erase a stroke", tool("erase", 9, range(3, 12))),
        Action("swap all", swap),
        Action("shuffle", press("#code-grid [data-act=shuffle]")),
        Action("undo", press("#code-grid [data-act=undo]")),
        Action("start over", back),
        Action("blend, one step", blend, "blend", figures=False),
        Action("upload", upload),
        Action("click a code in the codebook", code, "page", figures=False),
    )


def run(visitors: list[Visitor], browser: Any, repeats: int) -> None:
    """Every visitor does everything in turn; the first round only warms up."""
    with tempfile.TemporaryDirectory() as folder:
        actions = script(Path(folder))
        for turn in range(repeats + 1):
            for visitor in visitors:
                visitor.page.get_by_role("tab", name="Reconstruct").click()
            for action in actions:
                for visitor in visitors:
                    visitor.measure(action, keep=turn > 0)
            for visitor in visitors:
                visitor.arrive(browser, keep=turn > 0)


def report(visitors: list[Visitor]) -> list[dict[str, Any]]:
    """One row an action: medians of every visitor, in milliseconds."""
    rows = []
    for name in dict.fromkeys(name for name, _ in visitors[0].times):
        row: dict[str, Any] = {"action": name}
        for visitor, mark in zip(visitors, ("", "beside_"), strict=False):
            for kind in ("answer", "figures"):
                if values := visitor.times.get((name, kind)):
                    row[mark + kind] = round(median(values))
        rows.append(row)
    first = {"action": "process start to worked example"}
    for visitor, mark in zip(visitors, ("", "beside_"), strict=False):
        first[mark + "answer"] = round(1000 * visitor.start)
        first[mark + "cpu"] = round(1000 * visitor.start_cpu)
    return [first, *rows]


def table(rows: list[dict[str, Any]]) -> str:
    columns = [c for c in ("answer", "figures", "cpu") if any(c in row for row in rows)]
    columns += [f"beside_{c}" for c in columns if any(f"beside_{c}" in row for row in rows)]
    lines = [["milliseconds", *(c.replace("_", " ") for c in columns)]]
    lines += [[row["action"], *(str(row.get(c, "")) for c in columns)] for row in rows]
    return "\n".join(f"{line[0]:34s}" + "".join(f"{c:>16s}" for c in line[1:]) for line in lines)


def main(argv: list[str] | None = None) -> None:
    p = Parser(prog="python -m bench.answers", description=__doc__)
    p.add_argument("--bundle", help="name or folder; default: the app's own")
    p.add_argument("--repeats", type=int, default=5, help="times each action (%(default)s)")
    p.add_argument("--beside", type=Path, metavar="DIR", help="another checkout to compare with")
    p.add_argument("--json", type=Path, metavar="F", help="also write the figures to F")
    args = p.parse_args(argv)
    if args.repeats < 1:
        fail(f"--repeats is {args.repeats}: it must be at least 1")
    try:
        if args.json:
            writable(args.json)
    except ValueError as error:
        fail(error)
    if args.beside and not (args.beside / "app.py").is_file():
        fail(f"--beside {args.beside}: there is no app.py in it")
    chromium = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if chromium is None:
        fail("this needs Chromium: install it, or name it in the environment variable CHROMIUM")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        fail("this needs playwright: pip install -r requirements-dev.txt")
    with ExitStack() as stack:
        driver = stack.enter_context(sync_playwright())
        browser = driver.chromium.launch(executable_path=chromium, args=FLAGS)
        stack.callback(browser.close)
        visitors = []
        try:
            for checkout in filter(None, (ROOT, args.beside)):
                served = stack.enter_context(serving(checkout, args.bundle))
                visitors.append(Visitor(browser, *served))
            run(visitors, browser, args.repeats)
        except ValueError as error:
            fail(error)
        rows = report(visitors)
    print(table(rows))
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
