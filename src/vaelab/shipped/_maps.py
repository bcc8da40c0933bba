"""Latent maps that ship with models: where all data lie, without the data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vaelab import checks

if TYPE_CHECKING:
    import numpy as np

    from vaelab.latent import Codes
    from vaelab.records import Dataset

__all__ = ["MAP", "Map", "read_map", "write_map"]

MAP = "map.safetensors"


class Map(NamedTuple):
    """The codes of data that are not at hand.

    Attributes:
        train, test: The data with their labels and names; of each datum, `x` is nothing but zeros
            that take no memory.
        codes: Posteriors of the training data, then the test data, `(N, D)`.
        reference: The ELBO and log p(x) of some test data, each in order, `(2, R)`, in nats.
        fingerprint: Of the training data.
    """

    train: Dataset
    test: Dataset
    codes: Codes
    reference: np.ndarray
    fingerprint: str


def write_map(
    folder: Path, codes: Codes, train: Dataset, test: Dataset, reference: np.ndarray
) -> Path:
    """Writes the map of a model into its folder.

    Means are whole numbers of 16 bits over their range, so they are within 1/131,070 of it;
    logarithms of scales likewise in 8 bits, within 1/510 of their range.

    Arguments:
        folder: The model's folder.
        codes: Posteriors of `train`, then of `test`.
        train, test: Images in `uint8`, with at most 255 classes, or none.
        reference: See `Map`.
    """
    import numpy as np
    from safetensors.numpy import save

    from vaelab import files

    parts: dict[str, np.ndarray] = {}
    told: dict[str, Any] = {}
    for name, values, kind in (
        ("loc", codes.loc, np.uint16),
        ("scale", np.log(np.maximum(codes.scale, 1e-30)), np.uint8),
    ):
        wide = values.astype(np.float64)
        low, high = wide.min(0), wide.max(0)
        step = np.where(high > low, high - low, 1) / np.iinfo(kind).max
        parts[name] = np.rint((wide - low) / step).astype(kind)
        told[name] = {"low": low.tolist(), "step": step.tolist()}
    if train.y is not None and test.y is not None:
        parts["labels"] = np.concatenate([train.y, test.y]).astype(np.uint8)
    parts["reference"] = reference.astype(np.float32)
    told |= {
        "name": train.name,
        "shape": train.shape,
        "counts": [len(train), len(test)],
        "class_names": train.class_names,
        "licence": train.licence,
        "fingerprint": train.fingerprint,
    }
    content = save(parts, metadata={"map": json.dumps(told)})
    return files.write_atomically(folder / MAP, content)


def read_map(folder: Path) -> Map:
    """Reads the map of a model.

    Raises:
        checks.StorageError: It is damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(folder / MAP, framework="np") as file:
            told = json.loads(file.metadata()["map"])
            return _checked(told, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except FileNotFoundError:
        raise checks.StorageError(f"{folder / MAP} is missing; install vaelab again.") from None
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise checks.StorageError(
            f"{folder / MAP} is damaged ({error}); install vaelab again."
        ) from error


def _checked(told: dict[str, Any], parts: dict[str, np.ndarray]) -> Map:
    """A map from what a file holds, whose parts are of as many data as it tells."""
    import numpy as np

    from vaelab.latent import Codes
    from vaelab.records import Dataset

    loc, scale = (
        (np.array(told[name]["low"]) + parts[name] * np.array(told[name]["step"]))
        for name in ("loc", "scale")
    )
    first, second = map(int, told["counts"])
    labels = parts.get("labels")
    if loc.ndim != 2 or loc.shape != scale.shape or len(loc) != first + second:
        raise ValueError("its parts are of different data")
    if labels is not None and labels.shape != (len(loc),):
        raise ValueError("its labels are of different data")
    sets = [
        Dataset(
            x=np.broadcast_to(np.uint8(0), (rows.stop - rows.start, *told["shape"])),
            y=None if labels is None else labels[rows].astype(np.int64),
            name=told["name"],
            split=split,
            licence=told["licence"],
            class_names=tuple(told["class_names"]),
        )
        for split, rows in (("train", slice(0, first)), ("test", slice(first, first + second)))
    ]
    codes = Codes(loc.astype(np.float32), np.exp(scale).astype(np.float32))
    return Map(sets[0], sets[1], codes, parts["reference"], told["fingerprint"])
