"""Floor 0: files written whole or not at all."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path, PureWindowsPath

__all__ = [
    "OPTIONS",
    "check_writable",
    "is_plain",
    "missing_parents",
    "remove_empty",
    "write_atomically",
    "write_json",
]

OPTIONS = "config.toml"
"""The file beside a result that tells the options of the command that made it."""


def write_atomically(path: str | os.PathLike[str], content: bytes | str) -> Path:
    """Writes `content` so that a reader sees the old file or the new one, never a part.

    The bytes go to a temporary file in the same folder, are flushed to the disk, and the file is
    then renamed. On failure the temporary file is removed and the old file is left as it was.

    Arguments:
        path: The file; missing parent folders are made.
        content: Bytes, or text to be written as UTF-8.

    Raises:
        OSError: The folder cannot be written, or the disk is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error  # the name people know
    finally:
        part.unlink(missing_ok=True)
    return path


def write_json(path: str | os.PathLike[str], document: Mapping[str, object]) -> Path:
    """Writes one JSON document atomically, indented, in UTF-8; NaN is refused.

    Raises:
        ValueError: The document holds NaN or infinity, which JSON does not know.
        OSError: As for `write_atomically`.
    """
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    return write_atomically(path, text + "\n")


def is_plain(name: object) -> bool:
    """Whether a name from a file can name a file or folder in a folder, and leads nowhere else.

    >>> is_plain("vae"), is_plain("../vae"), is_plain("C:vae"), is_plain("..")
    (True, False, False, False)
    """
    return isinstance(name, str) and name not in ("", "..") and PureWindowsPath(name).name == name


def check_writable(path: str | os.PathLike[str]) -> None:
    """Finds out now whether a file or folder can be written at `path`, not after hours of work.

    What is made for that is removed again.

    Raises:
        OSError: Its parent folder cannot be made or written.
    """
    parent = Path(path).parent
    probe = parent / f".{secrets.token_hex(4)}.part"
    missing = missing_parents(path)
    try:
        parent.mkdir(parents=True, exist_ok=True)
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error  # the name people know
    finally:
        remove_empty(missing)


def missing_parents(path: str | os.PathLike[str]) -> list[Path]:
    """The folders above `path` that are not there, the nearest first."""
    return [folder for folder in Path(path).parents if not folder.exists()]


def remove_empty(folders: Iterable[Path]) -> None:
    """Removes those of the folders, the nearest first, that hold nothing."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()
