"""Arrays as text in a page."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["Blobs"]


class Blobs:
    """Arrays as text; what refers to one says its place and its type."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    @property
    def size(self) -> int:
        """Characters of all arrays."""
        return sum(map(len, self.texts))

    def add(self, values: np.ndarray | bytes) -> dict[str, Any]:
        """Takes an array in, and gives what refers to it."""
        kind = "bytes"
        if isinstance(values, np.ndarray):
            kind = values.dtype.name
            values = values.astype(values.dtype.newbyteorder("<")).tobytes()
        self.texts.append(base64.b64encode(values).decode())
        return {"blob": len(self.texts) - 1, "type": kind}

    def quantised(self, values: np.ndarray, kind: type[np.unsignedinteger]) -> dict[str, Any]:
        """Columns `(N, K)` as whole numbers: a value is low + step × number, to half a step."""
        values = np.asarray(values, np.float64)
        low, high = values.min(0), values.max(0)
        step = np.where(high > low, high - low, 1) / np.iinfo(kind).max
        numbers = np.rint((values - low) / step).astype(kind)
        return self.add(numbers) | {"low": low.tolist(), "step": step.tolist()}

    def html(self, document: Mapping[str, Any]) -> str:
        """The arrays, and a document in JSON that refers to them, as elements of a page."""
        text = json.dumps(document, allow_nan=False).replace("<", "\\u003c")  # ends no element
        parts = [f'<script type="application/json" id="vaelab-scene">{text}</script>']
        parts += [
            f'<script type="application/octet-stream" id="vaelab-blob-{k}">{text}</script>'
            for k, text in enumerate(self.texts)
        ]
        return "\n".join(parts)
