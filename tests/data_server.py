"""A bounded HTTP server on the loopback, which serves files well or badly, for the data tests."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = tuple[int, bytes, int | None]
"""Status, body, and the Content-Length that is claimed (None: none)."""


class Mirror:
    """`answer` maps a file name to what is sent; `asked` are the names in the order of requests."""

    def __init__(self, answer: Callable[[str], Answer]) -> None:
        self.answer = answer
        self.asked: list[str] = []
        self.url = ""

    def serve(self, name: str) -> Answer:
        self.asked.append(name)
        return self.answer(name)


@contextlib.contextmanager
def serving(mirror: Mirror) -> Iterator[Mirror]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 5

        def do_GET(self) -> None:
            status, body, length = mirror.serve(self.path.rsplit("/", 1)[-1])
            self.send_response(status)
            if length is not None:
                self.send_header("Content-Length", str(length))
            self.end_headers()
            with contextlib.suppress(OSError):  # the client may have gone
                self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

        def handle_error(self, *_: object) -> None: ...

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        mirror.url = f"http://127.0.0.1:{server.server_port}/data/"
        try:
            yield mirror
        finally:
            server.shutdown()
            thread.join(timeout=5)


def refusing() -> str:
    """An address where nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return f"http://127.0.0.1:{port}/"
