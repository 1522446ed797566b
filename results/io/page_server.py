"""A page on this machine: an HTTP server on the loopback interface that serves one page and nothing else."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import ThreadingMixIn
from urllib.parse import urlsplit

from rungwise.errors import RungwiseError

HOST = "127.0.0.1"
REFUSED = "served under 127.0.0.1 and localhost alone"


class QuietThreads(ThreadingMixIn):
    """Of a server: a thread for each request, as a page asks for several things at once, and no word of it."""

    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Print nothing: a browser that was closed, or sends what is no request, is no news on the terminal."""


class QuietRequests(BaseHTTPRequestHandler):
    """Of a server's requests: not a line for each, as a progress display may be on the terminal."""

    def log_message(self, *_: object) -> None:
        """Print nothing."""


class _Server(QuietThreads, HTTPServer):
    """Serves one page."""


@contextmanager
def serving(page: Callable[[], bytes]) -> Iterator[str]:
    """Serve the HTML that `page` returns, in a thread of its own; yields the address."""

    class Handler(QuietRequests):
        def do_GET(self) -> None:
            if not is_this_machine(self.headers.get("Host", "")):
                self.send_error(403, REFUSED)
            elif self.path != "/":
                self.send_error(404)
            else:
                try:
                    content = page()
                except (RungwiseError, OSError, sqlite3.Error):
                    self.send_error(503, "the page could not be made")
                else:
                    self._send(content)

        def _send(self, content: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(content)

    server = _Server((HOST, 0), Handler)
    thread = threading.Thread(target=server.serve_forever, name="page", daemon=True)
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def is_this_machine(host: str) -> bool:
    """Whether a Host header names this machine as its own user does.

    A website could give its own name this machine's address, and read what is served here by the user's browser (DNS
    rebinding).
    """
    try:
        return urlsplit(f"//{host}").hostname in (HOST, "localhost")
    except ValueError:
        return False
