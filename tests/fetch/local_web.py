"""A server on this machine that can do what servers do: ranges, none, breaking off, another version, moods."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Served:
    """One file, and how the server treats it."""

    content: bytes
    etag: str | None = '"1"'
    ranges: bool = True
    break_after: list[int] = field(default_factory=list)
    """Bytes sent before the connection breaks, one entry a request."""
    answers: list[int] = field(default_factory=list)
    """Status codes given before the file is."""
    length: bool = True
    moved_to: str | None = None
    passes_over_if_range: bool = False
    asked: list[str | None] = field(default_factory=list)
    """The Range of every request."""


class Web:
    """Files by path."""

    def __init__(self, port: int) -> None:
        self.files: dict[str, Served] = {}
        self.port = port

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}"

    def serve(self, path: str, content: bytes, **how: object) -> Served:
        self.files["/" + path] = Served(content, **how)  # type: ignore[arg-type]
        return self.files["/" + path]


@contextlib.contextmanager
def web() -> Iterator[Web]:
    """Serve until the block ends."""
    here: dict[str, Web] = {}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            file = here["web"].files.get(self.path)
            if file is None:
                return self.send_error(404)
            asked = self.headers.get("Range")
            file.asked.append(asked)
            if file.answers:
                self.send_response(file.answers.pop(0))
                self.send_header("Content-Length", "0")
                return self.end_headers()
            if file.moved_to:
                self.send_response(302)
                self.send_header("Location", file.moved_to)
                self.send_header("Content-Length", "0")
                return self.end_headers()
            return self.give(file, asked)

        def give(self, file: Served, asked: str | None) -> None:
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
            same = file.passes_over_if_range or self.headers.get("If-Range") in (None, file.etag)
            if asked and file.ranges and same and start >= len(file.content):
                self.send_response(416)
                self.send_header("Content-Length", "0")
                return self.end_headers()
            partial = bool(asked and file.ranges and same)
            body = file.content[start:] if partial else file.content
            self.send_response(206 if partial else 200)
            if partial:
                total = len(file.content)
                self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
            if file.etag:
                self.send_header("ETag", file.etag)
            if file.length:
                self.send_header("Content-Length", str(len(body)))
            else:
                self.send_header("Connection", "close")
            self.end_headers()
            if file.break_after:
                body = body[: file.break_after.pop(0)]
                self.close_connection = True
            self.wfile.write(body)
            return None

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        here["web"] = Web(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield here["web"]
        finally:
            server.shutdown()
            thread.join()
