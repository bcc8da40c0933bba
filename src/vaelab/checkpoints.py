"""Floor 1: snapshots of a run in a folder: written whole, verified when read, by one process.

A snapshot is one safetensors file that holds tensors and, in its header, plain values. The file's
name carries the step and the SHA-256 of its content, so that damage is found and nothing is torn.
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vaelab import checks, files

__all__ = ["KEPT", "Snapshot", "latest", "locked", "pack", "unpack", "write"]

KEPT = 2
"""How many snapshots are kept: should the newest be damaged, there is one before."""

WAIT = 3.0
"""Seconds to wait for a process that is about to end, before its folder is refused."""

NAME = re.compile(r"step-(\d+)-([0-9a-f]{16})\.safetensors")


class Snapshot(NamedTuple):
    """The state of a run.

    Attributes:
        values: Plain values that JSON knows, NaN and infinity included.
        tensors: Tensors by name.
    """

    values: dict[str, Any]
    tensors: dict[str, Tensor]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Within, no other process can lock `folder`, which is made if it is missing.

    The operating system undoes the lock when the process ends, however it ends.

    Raises:
        checks.StorageError: Another process has locked it.
        OSError: The folder cannot be made or written.
    """
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock", timeout=WAIT)
    try:
        lock.acquire(poll_interval=0.1)
    except Timeout:
        raise checks.StorageError(
            f"{folder} is in use by another process that has not ended; wait for it, stop it, or "
            "choose another folder."
        ) from None
    try:
        for part in folder.glob(".*.part"):  # left by a process that was killed while it wrote
            part.unlink(missing_ok=True)
        yield
    finally:
        lock.release()


def pack(snapshot: Snapshot) -> bytes:
    """The content of a snapshot's file."""
    from safetensors.torch import save

    tensors = {name: t.detach().cpu().contiguous() for name, t in snapshot.tensors.items()}
    return save(tensors, metadata={"values": json.dumps(snapshot.values)})


def unpack(content: bytes) -> Snapshot:
    """The snapshot of which `pack` made the content.

    The format: eight bytes tell how long the header is, little end first; it is JSON, and its
    `__metadata__` holds the plain values. See https://huggingface.co/docs/safetensors

    >>> unpack(pack(Snapshot({"step": 3}, {"w": torch.ones(2)})))
    Snapshot(values={'step': 3}, tensors={'w': tensor([1., 1.])})
    """
    from safetensors.torch import load

    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    return Snapshot(json.loads(header["__metadata__"]["values"]), load(content))


def write(folder: Path, step: int, snapshot: Snapshot) -> Path:
    """Writes a snapshot atomically, then removes all but the newest two.

    Raises:
        OSError: It cannot be written; the snapshots that are there stay.
    """
    content = pack(snapshot)
    digest = hashlib.sha256(content).hexdigest()[:16]
    path = files.write_atomically(folder / f"step-{step:09d}-{digest}.safetensors", content)
    kept = 1
    for at, other in _found(folder):
        if other == path:
            continue
        if at >= step or kept == KEPT:  # as late as this one, it is its like or was damaged
            other.unlink(missing_ok=True)
        else:
            kept += 1
    return path


def latest(folder: Path) -> Snapshot | None:
    """The newest snapshot that is whole, or `None` where there is none at all.

    A damaged one is told in a `VaelabWarning` and removed, and the one before is taken.

    Raises:
        checks.StorageError: There are snapshots, but all are damaged.
        OSError: The folder cannot be read.
    """
    found = _found(folder)
    for position, (_, path) in enumerate(found):
        snapshot = _read(path)
        if snapshot is not None:
            for _, damaged in found[:position]:  # or it would count as one of those that are kept
                damaged.unlink(missing_ok=True)
            return snapshot
        if position + 1 < len(found):
            warnings.warn(
                f"{path} is damaged: its content is not that of its checksum; the checkpoint "
                f"before it, of step {found[position + 1][0]}, is used.",
                checks.VaelabWarning,
                stacklevel=2,
            )
    if found:
        raise checks.StorageError(
            f"{folder}: every checkpoint is damaged; remove the folder to begin anew."
        )
    return None


def _found(folder: Path) -> list[tuple[int, Path]]:
    """Steps and paths of the snapshots of a folder, the newest first."""
    matches = [(NAME.fullmatch(path.name), path) for path in folder.glob("step-*.safetensors")]
    found = [(int(match[1]), path) for match, path in matches if match]
    return sorted(found, key=lambda item: (item[0], item[1].name), reverse=True)


def _read(path: Path) -> Snapshot | None:
    from safetensors import SafetensorError, safe_open

    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    if digest not in path.name:
        return None
    try:
        with safe_open(path, framework="pt") as file:
            values = json.loads(file.metadata()["values"])
            tensors = {name: torch.clone(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
    except SafetensorError:
        return None
    return Snapshot(values, tensors)
