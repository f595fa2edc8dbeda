"""Brings the page to a browser sooner than Gradio's server does, above all over a slow line.

A page consists of some 90 files. Gradio reads and compresses each of them anew for every visitor,
sends the page itself (0.8 MB) as it is, and browsers find out in four rounds which scripts they
need. Here the files are kept ready, the page is compressed, and it begins with the names of the
scripts: those that the first visitors' browsers asked for.
"""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from html import escape
from posixpath import normpath

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PARTS = "/assets/"  # the name of each changes with its content, so that browsers may keep it
FIRST = 20.0  # seconds from the first page on, in which scripts are taken for what a page needs
MOST = 64  # of them
AFTER = b'<meta charset="utf-8" />'
TEXTS = ("text/", "application/javascript", "application/json", "image/svg")
WORTH = 1000  # bytes
# What would make the answer another one than the whole file.
PARTIAL = (b"if-none-match", b"if-modified-since", b"range", b"if-range")


@dataclass(frozen=True)
class Answer:
    """A whole HTTP answer; `headers` without its length and how long to keep it."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    @cached_property
    def packed(self) -> bytes:
        """As gzip, which every browser takes."""
        return gzip.compress(self.body, 6, mtime=0)

    @property
    def text(self) -> bool:
        kind = dict(self.headers).get(b"content-type", b"").decode("latin-1")
        return kind.startswith(TEXTS) and len(self.body) >= WORTH

    async def send(self, scope: Scope, send: Send, *more: tuple[bytes, bytes]) -> None:
        body, headers = self.body, [*self.headers, *more]
        if self.text:
            headers.append((b"vary", b"Accept-Encoding"))
            if "gzip" in Headers(scope=scope).get("accept-encoding", ""):
                body = self.packed
                headers.append((b"content-encoding", b"gzip"))
        headers.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class Delivery:
    """ASGI middleware, for `launch(app_kwargs={"middleware": [Middleware(Delivery)]})`."""

    def __init__(self, app: ASGIApp, clock: Callable[[], float] = time.monotonic):
        self.app, self.clock = app, clock
        self.parts: dict[str, Answer] = {}
        self.scripts: list[str] = []  # what a page needs, in its order
        self.first: float | None = None  # when the first page was asked for
        self.page: tuple[Answer, Answer] | None = None  # as Gradio made it last, and as it is sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET":
            return await self.app(scope, receive, send)
        path = scope["path"].removeprefix(scope.get("root_path", "")) or "/"
        if path == "/":
            page = await self._asked(scope, receive)
            return await self._with_scripts(page).send(scope, send)
        if path.startswith(PARTS) and normpath(path) == path:  # else one file would be kept often
            return await self._part(path, scope, receive, send)
        await self.app(scope, receive, send)

    async def _part(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        part = self.parts.get(path) or await self._asked(scope, receive)
        if part.status != 200:
            return await part.send(scope, send)
        self.parts[path] = part
        wanted = path.endswith(".js") and path not in self.scripts and not self._known()
        if wanted and len(self.scripts) < MOST:
            self.scripts.append(path)
        await part.send(scope, send, (b"cache-control", b"public, max-age=31536000, immutable"))

    def _known(self) -> bool:
        """Whether all that a page needs has been asked for."""
        if self.first is None:
            self.first = self.clock()
        return self.clock() - self.first > FIRST

    def _with_scripts(self, page: Answer) -> Answer:
        if not self._known():
            return page
        if self.page is None or self.page[0] != page:
            names = (escape(f".{path}") for path in self.scripts)
            links = "".join(f'<link rel="modulepreload" href="{name}">' for name in names)
            body = page.body.replace(AFTER, AFTER + links.encode(), 1)
            self.page = page, Answer(page.status, page.headers, body)
        return self.page[1]

    async def _asked(self, scope: Scope, receive: Receive) -> Answer:
        """The app's own answer, whole."""
        asked = [(key, value) for key, value in scope["headers"] if key not in PARTIAL]
        status, headers, body = 500, (), b""

        async def collect(message: Message) -> None:
            nonlocal status, headers, body
            if message["type"] == "http.response.start":
                left = (b"content-length", b"cache-control")
                found = [(k.lower(), v) for k, v in message["headers"]]
                status = message["status"]
                headers = tuple((k, v) for k, v in found if k not in left)
            else:
                body += message.get("body", b"")

        # Without extensions: else a server could be told to send a file by itself.
        await self.app({**scope, "headers": asked, "extensions": {}}, receive, collect)
        return Answer(status, headers, body)
