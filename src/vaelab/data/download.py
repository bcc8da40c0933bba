"""Files fetched from public mirrors into a folder: verified in memory, then written whole.

A file is at most some ten megabytes packed, so it is held in memory until its content is
verified; an interrupted download leaves nothing behind, and the next one starts that file again.
"""

from __future__ import annotations

import io
import socket
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

from vaelab import checks, files
from vaelab.data.catalogue import Entry
from vaelab.data.pinned import File

__all__ = ["Progress", "UnavailableError", "fetch"]

Progress = Callable[[str, int, int | None], None]
"""Called with a file's name, the bytes that have come, and how many there are, if known."""

CONNECT_SECONDS = 2.5  # for each of IPv4 and IPv6
TIMEOUT = (5.0, 30.0)  # seconds to connect, and to wait for the next bytes
PIECE = 2**16


class UnavailableError(checks.DataError):
    """No mirror gave a file; `kind` says in a few words why, where the message has each reason."""

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


def fetch(entry: Entry, folder: Path, progress: Progress | None = None) -> str:
    """Downloads the files of a data set that are missing or damaged in `folder`.

    The mirrors are tried in order; one that fails, or serves other content, is not asked again.

    Returns:
        The mirrors that the files came from.

    Raises:
        DataError: A file cannot be had from any mirror, or the folder cannot be written.
    """
    used: list[str] = []
    failures: dict[str, tuple[str, str]] = {}  # mirror: reason, and its kind
    for file in entry.files:
        if _intact(file, folder):
            continue
        mirror, packed = _from_any(entry.mirrors, failures, file, progress)
        used.append(mirror)
        try:
            files.write_atomically(folder / f"{file.name}.gz", packed)
        except OSError as error:
            raise checks.DataError(
                f"{folder}: cannot be written ({error.strerror or error}); "
                "set VAELAB_CACHE to a folder that can."
            ) from error
    return ", ".join(dict.fromkeys(used))


def _intact(file: File, folder: Path) -> bool:
    try:
        file.read(folder)
    except checks.DataError:
        return False
    return True


def _from_any(
    mirrors: tuple[str, ...],
    failures: dict[str, tuple[str, str]],
    file: File,
    progress: Progress | None,
) -> tuple[str, bytes]:
    """The first mirror that serves the file, and the bytes; those that fail join `failures`."""
    for mirror in mirrors:
        if mirror in failures:
            continue
        url = f"{mirror}{file.name}.gz"
        try:
            packed = _download(url, file, progress)
            file.content(io.BufferedReader(io.BytesIO(packed)), url)
        except (OSError, ValueError) as error:  # those of requests and checks derive from these
            failures[mirror] = _reason(error), _kind(error)
        else:
            return mirror, packed
    reasons = "; ".join(f"{mirror}: {reason}" for mirror, (reason, _) in failures.items())
    kinds = dict.fromkeys(kind for _, kind in failures.values())
    raise UnavailableError(f"{file.name}.gz cannot be downloaded ({reasons}).", ", ".join(kinds))


def _reason(error: Exception) -> str:
    return " ".join(str(getattr(error, "strerror", None) or error).split()).rstrip(".")


def _kind(error: Exception) -> str:
    """Why a mirror gave nothing, in two or three words."""
    if isinstance(error, checks.DataError):
        return "other content is served"
    if getattr(error, "response", None) is not None:  # of requests: the server did answer
        return "a mirror refuses it"
    return "no network" if isinstance(error, OSError) else "no answer that can be read"


def _download(url: str, file: File, progress: Progress | None) -> bytes:
    """The bytes at an address, with no more trust in the server than `_Sink` has."""
    import pooch

    _connect(url)
    sink = _Sink(f"{file.name}.gz", most=file.size + PIECE, progress=progress)
    headers = {"Accept-Encoding": "identity"}  # the file itself, not unpacked on the way
    get = pooch.HTTPDownloader(progressbar=sink, chunk_size=PIECE, timeout=TIMEOUT, headers=headers)
    get(url, sink, None)
    return bytes(sink.content)


def _connect(url: str) -> None:
    """Raises an `OSError` within seconds where a server cannot be reached.

    Where packets vanish, urllib3 would wait for the connection to each of a server's many
    addresses in turn; here the first of each family answers for all.
    """
    address = urllib.parse.urlsplit(url)
    host = address.hostname or ""
    proxied = {"all", address.scheme} & urllib.request.getproxies().keys()
    if proxied and not urllib.request.proxy_bypass(host):
        return  # then it is the proxy that connects
    port = address.port or (443 if address.scheme == "https" else 80)
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    families = {info[0]: info for info in reversed(found)}
    failure = OSError(f"{host} has no address")
    for family, kind, protocol, _, target in families.values():
        with socket.socket(family, kind, protocol) as trial:
            trial.settimeout(CONNECT_SECONDS)
            try:
                return trial.connect(target)
            except OSError as error:
                failure = error
    raise failure


class _Sink:
    """Both the file and the progress bar that pooch writes to: memory, with a limit."""

    def __init__(self, name: str, *, most: int, progress: Progress | None) -> None:
        self.name = name
        self.most = most
        self.progress = progress
        self.content = bytearray()
        self.total = 0  # set by pooch; 0 where the server does not say

    def write(self, piece: bytes) -> None:
        self.content += piece
        if len(self.content) > self.most:
            raise checks.DataError(f"{self.name}: more than {self.most:,} bytes were sent.")
        if self.progress is not None:
            self.progress(self.name, len(self.content), self.total or None)

    def update(self, size: int) -> None: ...  # pooch counts whole pieces; `write` counts bytes

    def flush(self) -> None: ...

    def reset(self) -> None: ...

    def close(self) -> None: ...
