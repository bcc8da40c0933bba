"""The server of the explorer: a page, data, and a websocket, for browsers on this machine.

A request is looked at before anything is done. Its `Host` must be a name of this machine, so that
no foreign name can be made to point here; with any port, for tunnels have their own. Its `Origin`,
where it has one, must be the page itself. Browsers tell the origin of every websocket, and of
every upload that another site makes; what has none is a program of the person's own, which
needs no permission from here.

What is computed runs in two threads: one for what is quick, and one for what is not and may draw
random numbers, so that points are decoded at once whatever else goes on.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ipaddress
import logging
import os
import re
import socket
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as Connection
from starlette.websockets import WebSocket, WebSocketDisconnect

from vaelab import checks
from vaelab.explorer import assets, protocol
from vaelab.explorer.scene import Scene

__all__ = ["MOST_ASKED", "Site", "bind"]

Result = TypeVar("Result")

MOST_UPLOADED, MOST_ASKED = 8 * 2**20, 16 * 2**20
"""Bytes of a picture, and of a message on the websocket, which may name a million data."""
LONG = 2**16
"""A message of more characters is read outside the event loop."""
PENDING = 32
"""How many requests of one connection are worked on; further ones wait unread."""

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; script-src 'self' 'sha256-{hash}'; "
    "style-src 'self'; img-src 'self' blob: data:; connect-src 'self' ws://{host}"
)
SAFE = {
    "Content-Security-Policy": "default-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
TYPES = {"js": "text/javascript", "css": "text/css"}


class Site:
    """The explorer of a scene as an ASGI application.

    Arguments:
        scene: What is shown.
        host: The name or address that it listens on; of addresses that mean all, requests may name
            any address of the machine, and its own name.
    """

    def __init__(self, scene: Scene, host: str = "127.0.0.1") -> None:
        self.scene = scene
        self.title = f"{scene.facts['title']}: {', '.join(scene.models)}"
        self.quick = ThreadPoolExecutor(1, "vaelab-quick")
        self.slow = ThreadPoolExecutor(1, "vaelab-slow")
        self.graph = ThreadPoolExecutor(1, "vaelab-graph")  # a minute: nothing waits for it
        self.closed = False
        routes = [
            Route("/", self._page),
            Route("/page/{name}", self._file),
            Route("/scene.json", self._facts),
            Route("/labels", self._labels),
            Route("/view", self._view),
            Route("/figure", self._figure),
            Route("/edges", self._edges),
            Route("/place", self._place, methods=["POST"]),
            Route("/favicon.ico", self._nothing),
            WebSocketRoute("/ws", self._socket),
        ]
        handlers: dict[Any, Any] = {
            checks.VaelabError: _told,
            HTTPException: _told,
            Exception: _told,
        }
        app = Starlette(routes=routes, exception_handlers=handlers)
        self.app: ASGIApp = _Guard(app, host)

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Answers one request, or serves one websocket."""
        await self.app(scope, receive, send)

    def close(self) -> None:
        """Gives up what waits to be computed, and the graph; what else is being computed comes to
        its end.
        """
        self.closed = True
        for lane in (self.quick, self.slow, self.graph):
            lane.shutdown(wait=False, cancel_futures=True)

    async def _run(self, lane: ThreadPoolExecutor, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(lane, work)

    async def _through(self, steps: Iterator[None]) -> None:
        """Goes through slow steps, between which other slow work has its turn."""
        while await self._run(self.slow, partial(next, steps, True)) is None:
            pass

    async def _page(self, request: Request) -> Response:
        page = assets.live_page(self.title)
        policy = POLICY.format(hash=_hash(page), host=request.headers["host"])
        return HTMLResponse(page, headers={"Content-Security-Policy": policy})

    async def _file(self, request: Request) -> Response:
        name = request.path_params["name"]
        text = assets.files().get(name)
        if text is None:
            raise HTTPException(404)
        return Response(text, media_type=TYPES[name.rpartition(".")[2]])

    async def _facts(self, request: Request) -> Response:
        return JSONResponse(await self._run(self.quick, lambda: self.scene.facts))

    async def _labels(self, request: Request) -> Response:
        labels = self.scene.labels()
        return Response(status_code=204) if labels is None else _raw(labels.astype("<u2").tobytes())

    async def _view(self, request: Request) -> Response:
        asked = _query(request, "model", "axes")
        model, axes = _whole("model", asked["model"]), asked["axes"].split(",")
        view = partial(self.scene.view, model, axes)
        return _raw(protocol.frame((await self._run(self.quick, view))._asdict()))

    async def _figure(self, request: Request) -> Response:
        asked = _query(request, "model", "name")
        model, name = _whole("model", asked["model"]), asked["name"]
        self.scene.check_figure(model, name)
        await self._through(self.scene.judge.figure_steps(model))
        figure = await self._run(self.slow, partial(self.scene.figure, model, name))
        return _raw(figure.astype("<f4").tobytes())

    async def _edges(self, request: Request) -> Response:
        ends = await self._run(self.graph, partial(self.scene.edges, self._go_on))
        return _raw(ends.astype("<u4").tobytes())

    def _go_on(self, done: int, count: int) -> None:
        """Hears how far the graph is, and ends its computation when the server ends."""
        if self.closed:
            raise checks.ArgumentError(f"the explorer ended with {done} of {count} data compared.")

    async def _place(self, request: Request) -> Response:
        self.scene.check_drawable("a picture")
        invert = checks.choice("invert", _query(request, "invert")["invert"], ("0", "1")) == "1"
        content = await _body(request)
        await self._through(self.scene.judge.rank_steps())
        place = partial(self.scene.place, content, invert=invert)
        return _raw(protocol.frame((await self._run(self.slow, place))._asdict()))

    async def _nothing(self, request: Request) -> Response:
        return Response(status_code=204)

    async def _socket(self, socket: WebSocket) -> None:
        await socket.accept()
        running: set[asyncio.Task[None]] = set()
        one_at_a_time = asyncio.Lock()
        try:
            while True:
                message = await socket.receive()
                if message["type"] != "websocket.receive":
                    break
                task = asyncio.create_task(self._reply(socket, message.get("text"), one_at_a_time))
                running.add(task)
                task.add_done_callback(running.discard)
                if len(running) >= PENDING:
                    await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in running:
                task.cancel()

    async def _reply(self, socket: WebSocket, text: str | None, sending: asyncio.Lock) -> None:
        """Answers a request, by an error where it cannot be done."""
        identity = None
        try:
            read = partial(protocol.read, text)
            message = await self._run(self.quick, read) if len(text or "") > LONG else read()
            identity = protocol.number(message)
            asked = protocol.understood(message)
            lane = self.quick if protocol.DO[asked.do].quick else self.slow
            content = await self._run(lane, partial(protocol.answer, self.scene, asked))
        except Exception as error:  # noqa: BLE001 - whatever it is, the connection lives on
            content = protocol.frame({"id": identity, "error": _line(error)})
        try:
            async with sending:
                await socket.send_bytes(content)
        except (WebSocketDisconnect, RuntimeError):  # who asked has gone
            return


class _Guard:
    """Refuses requests that name another host or come from another page; adds headers to answers.

    Arguments:
        app: What answers the others.
        host: What it listens on.
    """

    def __init__(self, app: ASGIApp, host: str) -> None:
        self.app, self.host = app, host
        self.names = {*LOOPBACK, f"[{host}]" if ":" in host else host.lower()}
        self.any = _address(host) is not None and ipaddress.ip_address(host).is_unspecified
        if self.any:
            self.names |= {socket.gethostname().lower(), socket.getfqdn().lower()}

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Passes a request on, or refuses it."""
        headers = Headers(scope=scope)
        host = headers.get("host", "").lower()
        refusal = self._refusal(host, headers.get("origin"))

        async def send_safely(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                added = MutableHeaders(scope=message)
                for name, value in SAFE.items():
                    added.setdefault(name, value)
            await send(message)

        if not refusal:
            await self.app(scope, receive, send_safely)
        elif scope["type"] == "websocket":
            response = JSONResponse({"error": refusal}, 403)
            del response.headers["content-length"]  # uvicorn sends one of its own
            await WebSocket(scope, receive, send_safely).send_denial_response(response)
        else:
            await JSONResponse({"error": refusal}, 403)(scope, receive, send_safely)

    def _refusal(self, host: str, origin: str | None) -> str | None:
        """Why a request is refused, in one line, or `None`."""
        match = re.fullmatch(r"(\[[0-9a-f:.]+\]|[^\s:\[\]/]+)(:\d{1,5})?", host)
        name = match[1] if match else ""
        if name not in self.names and not (self.any and _address(name.strip("[]")) is not None):
            return "Host is not a name of this server; open the address that it printed."
        if origin is not None and origin.lower() != f"http://{host}":
            return "Origin is another page; open the address that the server printed."
        return None


def bind(host: str, port: int | None) -> socket.socket:
    """A socket that listens on an address of this machine.

    Arguments:
        host: A name or address; unless it is this machine alone, that is told in a warning.
        port: 1 to 65535; `None` takes a free one.

    Raises:
        checks.ArgumentError: The address or port cannot be had.
    """
    if port is not None:
        checks.integer("port", port, most=65_535)
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port or 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise checks.ArgumentError(
            f"host = {host!r}, but it must be a name or an address of this machine, such as "
            "127.0.0.1."
        ) from error
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # elsewhere it would let two programs have one port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(128)
    except OSError as error:
        listening.close()
        reason = (error.strerror or str(error)).lower()
        raise checks.ArgumentError(
            f"port = {port} on {host} cannot be had: {reason}; give another, or none for one that "
            "is free."
        ) from error
    if not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback:
        warnings.warn(
            f"host = {host}: whoever can reach this machine can see the data and the models.",
            checks.VaelabWarning,
            stacklevel=2,
        )
    return listening


async def _body(request: Request) -> bytes:
    """What was uploaded; no more is read than is allowed."""
    told = request.headers.get("content-length", "0")
    content = bytearray()
    if told.isdecimal() and int(told) <= MOST_UPLOADED:
        async for part in request.stream():
            content += part
            if len(content) > MOST_UPLOADED:
                break
        else:
            return bytes(content)
    raise HTTPException(
        413, f"picture takes more than {MOST_UPLOADED // 2**20} MB; make it smaller."
    )


def _query(request: Request, *names: str) -> dict[str, str]:
    """The arguments of an address: these, each once, and no others."""
    given = request.query_params.multi_items()
    if sorted(name for name, _ in given) != sorted(names):
        raise checks.ArgumentError(f"{request.url.path} takes {', '.join(names)}, each once.")
    return dict(given)


def _whole(name: str, text: str) -> int:
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII):
        raise checks.ArgumentError(f"{name} must be a whole number.")
    return int(text)


def _raw(content: bytes) -> Response:
    return Response(content, media_type="application/octet-stream")


async def _told(request: Request, error: Exception) -> Response:
    """An error as an answer: its line in JSON."""
    if isinstance(error, HTTPException):
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)
    return JSONResponse(
        {"error": _line(error)}, 400 if isinstance(error, checks.VaelabError) else 500
    )


def _line(error: Exception) -> str:
    """An error in one line; of one that nobody expected, the log has the rest."""
    if isinstance(error, checks.VaelabError):
        return protocol.line(error)
    logging.getLogger(__name__).error("explorer: unexpected error", exc_info=error)
    return f"unexpected error: {type(error).__name__}; the program's log has more."


def _hash(page: str) -> str:
    """SHA-256 of the import map in a page, by which the page's policy knows it."""
    imports = page.partition('<script type="importmap">')[2].partition("</script>")[0]
    return base64.b64encode(hashlib.sha256(imports.encode()).digest()).decode()


def _address(text: str) -> object | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
