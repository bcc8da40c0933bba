"""Arrow columns as arrays: numbers, and lists of numbers that are all alike."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from vaelab import checks

if TYPE_CHECKING:
    import numpy as np

__all__ = ["depth", "values"]


def depth(kind: Any) -> int | None:
    """How many lists are around each number in an Arrow type; `None` where it holds no numbers."""
    import pyarrow as pa

    if isinstance(kind, pa.ExtensionType):
        return depth(kind.storage_type)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        inner = depth(kind.value_type)
        return None if inner is None else inner + 1
    numeric = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    return 0 if numeric else None


def values(array: Any, where: str, start: int) -> np.ndarray:
    """The numbers of an Arrow array, with an axis for each list that they are in."""
    import pyarrow as pa
    import pyarrow.compute as pc

    shape = [len(array)]
    while True:
        if isinstance(array, pa.ExtensionArray):
            array = array.storage
        if depth(array.type) == 0:
            found: np.ndarray = array.to_numpy(zero_copy_only=False).reshape(shape)
            return found
        lengths = pc.fill_null(pc.list_value_length(array), -1)
        usual = lengths[0].as_py()
        odd = pc.index(pc.not_equal(lengths, usual), True).as_py()
        if odd >= 0 or usual < 1:
            row = start + (0 if usual < 1 else odd * shape[0] // math.prod(shape))
            raise checks.DataError(
                f"{where}: row {row} (they count from 0) is empty, missing, or of another length "
                "than the others; make them alike."
            )
        array = pc.list_flatten(array)
        shape.append(usual)
