"""Files behind any address that fsspec knows: found, and asked for again where that fails."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from vaelab import checks
from vaelab.data.rows import brief, told

__all__ = ["MAGIC", "file_system", "listing", "persistent"]

PAUSES = (0.5, 2.0)
"""Seconds between the three tries after which a shard counts as one that cannot be read."""

MAGIC = re.compile(r"[*?\[]")
"""What makes a name a pattern of names."""

T = TypeVar("T")


def file_system(location: str, options: Mapping[str, Any]) -> tuple[Any, str]:
    """The file system of fsspec that an address names, and the path there."""
    from fsspec.core import url_to_fs  # type: ignore[import-untyped]

    try:
        fs, path = url_to_fs(location, **options)
    except ImportError as error:
        raise checks.ArgumentError(
            f"location = {told(location)!r} needs a package that is not installed "
            f"({brief(error, 120)}); install it beside vaelab."
        ) from error
    except Exception as error:  # file systems raise anything
        raise checks.ArgumentError(
            f"location = {told(location)!r} cannot be opened ({brief(error, 120)}); give a folder, "
            "or an address that fsspec knows."
        ) from error
    return fs, path


def persistent(
    fs: Any, job: Callable[[], T], origin: str, pauses: Sequence[float] | None = None
) -> T:
    """What a job gives that a file system does; should it fail, it is tried again after pauses.

    File systems have no common class for what they raise when a connection breaks, so all but the
    library's own errors counts as that.
    """
    pauses = PAUSES if pauses is None else pauses
    try:
        return job()
    except checks.VaelabError:
        raise
    except Exception as error:
        if not pauses:
            raise checks.DataError(
                f"{origin}: cannot be read, after {len(PAUSES) + 1} tries ({_reason(error)}); mend "
                "it, or the way to it."
            ) from error
    time.sleep(pauses[0])
    fs.invalidate_cache()
    return persistent(fs, job, origin, pauses[1:])


def _reason(error: Exception) -> str:
    strerror = getattr(error, "strerror", None)
    words = brief(strerror or error, 120)
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def listing(fs: Any, path: str) -> tuple[str, dict[str, dict[str, Any]]]:
    """The folder that names are told from, and all files below it, or that a pattern gives."""
    parts = path.split("/")
    magic = next((k for k, part in enumerate(parts) if MAGIC.search(part)), None)
    if magic is None or fs.exists(path):
        found = dict(fs.find(path, detail=True))
        root = path if list(found) != [path] else path.rpartition("/")[0]
        return root, found
    found = {}
    for name, info in fs.glob(path, detail=True).items():
        found |= fs.find(name, detail=True) if info["type"] == "directory" else {name: info}
    return "/".join(parts[:magic]), found
