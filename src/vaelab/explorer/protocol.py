"""What the page and the server say to each other: requests in JSON, answers in binary frames."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from vaelab import checks
from vaelab.explorer.scene import Scene

__all__ = ["DO", "Asked", "Do", "answer", "frame", "line", "number", "read", "understood"]

TOLD = 300
"""At most how many characters an error has."""

LONGEST = 40
"""At most how many characters a text among the arguments has."""

LARGEST_ID = 2**53
"""Numbers beyond are not whole in JavaScript."""


class Do(NamedTuple):
    """What may be asked for: its arguments by the type they have in JSON, and its answer.

    Attributes:
        fields: The arguments, each of which must be given.
        answer: Called with the scene and the arguments.
        quick: Whether it takes no more than a small part of a second.
    """

    fields: Mapping[str, type]
    answer: Callable[..., Mapping[str, Any]]
    quick: bool = True


class Asked(NamedTuple):
    """A request: its number, what is to be done, and the arguments."""

    id: int
    do: str
    arguments: dict[str, Any]


def _path(scene: Scene, **asked: Any) -> dict[str, Any]:
    found = scene.path(**asked)
    return {"z": found.points, "length": found.length, "straight": found.straight}


def _gif(scene: Scene, **asked: Any) -> dict[str, Any]:
    return {"gif": np.frombuffer(scene.gif(**asked), np.uint8)}


WAY = {"model": int, "start": list, "end": list, "steps": int, "kind": str}

DO: dict[str, Do] = {
    "decode": Do({"model": int, "z": list}, lambda s, **a: {"image": s.decode(**a)}),
    "codes": Do({"model": int, "indices": list}, lambda s, **a: s.codes_of(**a)._asdict()),
    "images": Do({"indices": list}, lambda s, **a: {"image": s.images(**a)}),
    "mean": Do({"indices": list}, lambda s, **a: {"image": s.mean(**a)}, quick=False),
    "nearest": Do({"model": int, "z": list, "count": int}, lambda s, **a: s.nearest(**a)._asdict()),
    "datum": Do({"index": int}, lambda s, **a: s.datum(**a)._asdict(), quick=False),
    "path": Do(WAY, _path, quick=False),
    "gif": Do({"model": int, "z": list}, _gif, quick=False),
}
"""Everything that can be asked for on the websocket."""


def read(text: str | bytes | None) -> dict[str, Any]:
    """A message as a JSON object.

    Raises:
        checks.ArgumentError: It is none, or holds NaN or infinity.
    """
    try:
        found = json.loads(text or "", parse_constant=_refused)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(text, str) or not isinstance(found, dict):
        raise checks.ArgumentError("request must be a JSON object in a text message.")
    return found


def _refused(constant: str) -> float:
    raise ValueError(constant)


def number(message: Mapping[str, Any]) -> int | None:
    """The number of a request, `None` where it has none that can be answered to."""
    found = message.get("id")
    return found if type(found) is int and abs(found) <= LARGEST_ID else None


def understood(message: Mapping[str, Any]) -> Asked:
    """A request from a JSON object, with the fields it must have, and no others.

    Raises:
        checks.ArgumentError: It is not so.

    >>> understood({"id": 7, "do": "datum", "index": 3})
    Asked(id=7, do='datum', arguments={'index': 3})
    """
    identity, do = number(message), message.get("do")
    if identity is None:
        raise checks.ArgumentError("id must be a whole number, by which the answer is known.")
    known = DO.get(do) if isinstance(do, str) else None
    if known is None:
        raise checks.ArgumentError(f"do must be one of {', '.join(DO)}.")
    arguments = {name: value for name, value in message.items() if name not in ("id", "do")}
    if arguments.keys() != known.fields.keys():
        raise checks.ArgumentError(f"{do} takes {', '.join(known.fields)}, all and no others.")
    for name, kind in known.fields.items():
        value = arguments[name]
        long = isinstance(value, str) and len(value) > LONGEST
        if type(value) is not kind or long:
            raise checks.ArgumentError(f"{name} must be {IN_WORDS[kind]}.")
    return Asked(identity, str(do), arguments)


IN_WORDS = {int: "a whole number", list: "a list of numbers", str: "a short text"}


def answer(scene: Scene, asked: Asked) -> bytes:
    """What a request is answered with, as a frame."""
    return frame({"id": asked.id, **DO[asked.do].answer(scene, **asked.arguments)})


def line(error: Exception) -> str:
    """An error in one line of bounded length.

    >>> line(ValueError("two\\nlines"))
    'two lines'
    """
    told = " ".join(str(error)[: 4 * TOLD].split())
    return told if len(told) <= TOLD else told[: TOLD - 1] + "…"


def frame(values: Mapping[str, Any]) -> bytes:
    """One binary message: the length of a header, the header in JSON, and arrays after it.

    Arrays, however deep in `values`, are named in the header by their way there, `models.0.z` say;
    numbers that are not finite become null.

    >>> message = frame({"id": 7, "z": np.zeros((1, 2), np.float32)})
    >>> length = int.from_bytes(message[:4], "little")
    >>> json.loads(message[4 : 4 + length])["arrays"], len(message) - 4 - length
    ([{'name': 'z', 'dtype': 'float32', 'shape': [1, 2]}], 8)
    """
    arrays: dict[str, np.ndarray] = {}
    header = _plain(values, "", arrays)
    header["arrays"] = [
        {"name": name, "dtype": str(array.dtype), "shape": list(array.shape)}
        for name, array in arrays.items()
    ]
    text = json.dumps(header, ensure_ascii=False, allow_nan=False).encode()
    text += b" " * (-len(text) % 4)
    parts = [struct.pack("<I", len(text)), text]
    for array in arrays.values():
        content = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
        parts += [content, bytes(-len(content) % 4)]
    return b"".join(parts)


def _plain(value: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    """A value as JSON can say it; arrays are put aside under their names."""
    if isinstance(value, tuple) and hasattr(value, "_asdict"):  # a named one
        return _plain(value._asdict(), name, arrays)
    if isinstance(value, Mapping):
        dot = f"{name}." if name else ""
        plain = {key: _plain(part, f"{dot}{key}", arrays) for key, part in value.items()}
        return {key: part for key, part in plain.items() if f"{dot}{key}" not in arrays}
    if isinstance(value, list):
        return [_plain(part, f"{name}.{i}", arrays) for i, part in enumerate(value)]
    if isinstance(value, np.ndarray):
        arrays[name] = value
        return None
    return None if isinstance(value, float) and not math.isfinite(value) else value
