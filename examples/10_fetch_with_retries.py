"""Fetching pages as a scraper does: some fail for a while, some for good, and one never answers.

    python examples/10_fetch_with_retries.py

The pages come from a server in a thread of this script, so nothing leaves the machine.

What to notice: `retry` names what is worth another attempt, and waiting for it occupies no worker;
`task_timeout` ends the one item that hangs, with the stack that it hung in; `on_error="return"`
leaves each failure in its place. For nothing but waiting, threads would do as well
(`pool=ThreadPoolExecutor()`): processes pay when pages are parsed, too, and can be ended.
"""

from __future__ import annotations

import threading
from collections import Counter
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

from parmap import Retry, TaskFailure, parallel_map

PAGES = ["/welcome", "/busy", "/about", "/gone", "/silent", "/contact"]
closing = threading.Event()
asked: Counter[str] = Counter()


class Server(BaseHTTPRequestHandler):
    """Busy twice, then well; one page is gone; one is never answered."""

    def do_GET(self) -> None:
        asked[self.path] += 1
        if self.path == "/silent":
            closing.wait()
            return
        status = {"/busy": 503 if asked[self.path] < 3 else 200, "/gone": 404}.get(self.path, 200)
        body = f"<title>This is {self.path[1:]}</title>".encode() if status == 200 else b""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        """Say nothing."""


class Title(HTMLParser):
    """The text of a page."""

    text = ""

    def handle_data(self, data: str) -> None:
        self.text += data


class BusyError(Exception):
    """The server asks to come again later."""


def title_of(url: str) -> str:
    try:
        with build_opener(ProxyHandler({})).open(url) as answer:
            page = answer.read().decode()
    except HTTPError as error:
        if error.code == 503:
            raise BusyError(url.rpartition("/")[2]) from None
        raise
    parser = Title()
    parser.feed(page)
    return parser.text


server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
try:
    titles = parallel_map(
        title_of,
        [f"http://127.0.0.1:{server.server_port}{page}" for page in PAGES],
        max_workers=3,
        retry=Retry(attempts=3, on=(BusyError,), first_delay=0.05),
        task_timeout=3.0,
        on_error="return",
    )
finally:
    closing.set()
    server.shutdown()
    server.server_close()

for page, title in zip(PAGES, titles, strict=True):
    if isinstance(title, TaskFailure):
        print(f"{page:10} {type(title.error).__name__} after {title.attempts} attempt(s)")
    else:
        print(f"{page:10} {title!r}, asked for {asked[page]} time(s)")
