"""How the page and its parts are sent: kept, compressed, and with the names of their scripts."""

from __future__ import annotations

import re

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from ui import delivery, page
from ui.delivery import FIRST, MOST, WORTH, Delivery

SCRIPT = "console.log('one');\n" * 200
PAGE = (
    '<!doctype html><head><meta charset="utf-8" /><base href="./" /></head>' + "<p>text</p>" * 200
)


class Server:
    """A small Gradio behind the middleware, and what it was asked for."""

    def __init__(self):
        self.asked: list[str] = []
        self.page, self.now = PAGE, 0.0
        app = Starlette(
            routes=[
                Route("/", self.answer),
                Route("/assets/{name:path}", self.answer),
                Route("/file/{name}", self.answer, methods=["GET", "POST"]),
            ]
        )
        self.delivery = Delivery(app, clock=lambda: self.now)
        self.client = TestClient(self.delivery)

    async def answer(self, request) -> Response:
        self.asked.append(request.url.path)
        if request.url.path == "/":
            return HTMLResponse(self.page)
        if request.path_params["name"] == "none.js":
            return PlainTextResponse("there is none", 404)
        if "if-none-match" in request.headers:
            return Response(status_code=304)
        if request.path_params["name"].endswith(".woff2"):
            return Response(SCRIPT, media_type="font/woff2")
        if request.path_params["name"] == "stream":
            return StreamingResponse(iter(["a", "b"]), media_type="text/event-stream")
        return Response(SCRIPT, media_type="application/javascript", headers={"etag": '"1"'})

    def get(self, path: str, packed: str = "gzip, br", **headers: str):
        return self.client.get(path, headers={"accept-encoding": packed, **headers})

    def named(self) -> list[str]:
        return re.findall(r'<link rel="modulepreload" href="([^"]+)">', self.get("/").text)


@pytest.fixture
def server() -> Server:
    return Server()


def test_a_part_is_asked_for_once_and_may_be_kept_for_good(server):
    answers = [server.get("/assets/a-1.js"), server.get("/assets/a-1.js", packed="identity")]
    answers.append(server.get("/assets/a-1.js", **{"if-none-match": '"1"', "range": "bytes=0-9"}))
    assert server.asked == ["/assets/a-1.js"]
    for answer in answers:
        assert answer.status_code == 200 and answer.text == SCRIPT
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["vary"] == "Accept-Encoding"
    packed, plain, _ = answers
    assert packed.headers["content-encoding"] == "gzip" and "content-encoding" not in plain.headers
    assert int(packed.headers["content-length"]) < 200 < int(plain.headers["content-length"])


def test_a_part_is_kept_under_its_own_name_alone(server):
    """Each spelling that Gradio takes for the same file would else fill the memory."""
    for name in ("%2e/a-1.js", "%2e/%2e/a-1.js", "b/%2e%2e/a-1.js", "/a-1.js"):
        assert server.get(f"/assets/{name}").text == SCRIPT
    assert not server.delivery.parts and not server.delivery.scripts
    server.get("/assets/a-1.js")
    assert list(server.delivery.parts) == ["/assets/a-1.js"]


def test_what_one_browser_has_already_is_whole_for_the_next(server):
    first = server.get("/assets/a-1.js", **{"if-none-match": '"1"', "range": "bytes=0-9"})
    assert first.status_code == 200 and first.text == SCRIPT
    assert server.get("/assets/a-1.js").text == SCRIPT


def test_what_would_hardly_be_smaller_is_not_compressed(server):
    answer = server.get("/assets/letters.woff2")
    assert "content-encoding" not in answer.headers and answer.text == SCRIPT
    server.page = PAGE[:100]  # nor is what a packet holds anyway
    assert "content-encoding" not in server.get("/").headers


def test_a_part_that_is_not_there_is_looked_for_each_time(server):
    for _ in range(2):
        answer = server.get("/assets/none.js")
        assert (answer.status_code, answer.text) == (404, "there is none")
        assert "cache-control" not in answer.headers
    assert server.asked == ["/assets/none.js"] * 2 and not server.delivery.parts


def test_the_page_names_the_scripts_that_the_first_ones_needed(server):
    assert server.named() == []
    for name in ("b-1.js", "a-1.js", "looks-1.css", "none.js", "b-1.js"):
        server.get(f"/assets/{name}")
    server.now = FIRST
    assert server.named() == [], "more of them may be on their way"
    server.now = FIRST + 1
    server.get("/assets/of-some-fold.js")
    assert server.named() == ["./assets/b-1.js", "./assets/a-1.js"]
    head = server.get("/").text
    assert head.index("charset") < head.index("modulepreload") < head.index("<base")
    assert re.sub("<link[^>]+>", "", head) == PAGE


def test_nobody_can_have_the_page_name_more_than_some(server):
    for n in range(MOST + 10):
        server.get(f"/assets/{n}.js")
    server.now = FIRST + 1
    assert len(server.named()) == MOST


def test_the_page_is_compressed_once_and_anew_when_it_is_another(server, monkeypatch):
    server.now = 1.0
    server.get("/")
    server.now += FIRST + 1
    compress, sizes = delivery.gzip.compress, []
    monkeypatch.setattr(
        delivery.gzip,
        "compress",
        lambda body, *a, **k: (sizes.append(len(body)), compress(body))[1],
    )
    for _ in range(3):
        answer = server.get("/")
        assert answer.headers["content-encoding"] == "gzip" and answer.text == PAGE
    assert len(sizes) == 1
    server.page = PAGE.replace("text", "other")
    assert server.get("/").text == server.page
    assert len(sizes) == 2
    assert server.get("/", packed="identity").text == server.page


def test_all_else_passes_as_it_is(server):
    assert "content-encoding" not in server.get("/file/a.js").headers
    assert server.get("/file/a.js", **{"if-none-match": '"1"'}).status_code == 304
    assert server.get("/file/stream").text == "ab"
    assert server.client.post("/file/a.js").text == SCRIPT
    assert server.client.head("/assets/a.js").text == "" and not server.delivery.parts
    assert server.asked == [
        "/file/a.js",
        "/file/a.js",
        "/file/stream",
        "/file/a.js",
        "/assets/a.js",
    ]


def test_the_app_is_delivered_so(writer):
    app = page.build(writer)
    try:
        _, url, _ = app.launch(prevent_thread_lock=True, **page.launch_options())
        client = httpx.Client(base_url=url, headers={"accept-encoding": "gzip"})
        pages, name = [client.get("/") for _ in range(2)], None
        for found in pages:
            assert found.headers["content-encoding"] == "gzip"
            name = re.search(r'src="\.(/assets/[^"]+\.js)"', found.text)[1]
        assert delivery.AFTER.decode() in pages[0].text
        assert pages[0].text == pages[1].text, "else each would be compressed anew"
        kept = [client.get(name) for _ in range(2)]
        assert kept[0].content == kept[1].content and len(kept[0].content) > WORTH
        assert "immutable" in kept[1].headers["cache-control"]
    finally:
        app.close()
