"""Floor 2: what users may pass in as data, made a tensor at rest, and what is known of it."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vaelab import checks
from vaelab.data import huggingface
from vaelab.data.rows import channels_last
from vaelab.data.shards import Shards
from vaelab.records import Dataset
from vaelab.tensors import as_array, as_tensor, span

__all__ = [
    "Given",
    "check_latent_dim",
    "joined",
    "labels",
    "laid_out",
    "needs_all",
    "numbered",
    "one",
    "read",
    "record",
    "streamed",
    "suited",
    "weights",
]

GREY = 1 / 255
"""Values that are nowhere this large are too small to be grey levels or bits."""

SHOWN = 10
"""How many classes an error names."""

LOOKED_AT = 2**20
"""How many values are looked at once for whether they are bits."""


class Given(NamedTuple):
    """Data that a user gave.

    Attributes:
        x: The data at rest, `(N, D)` or `(N, C, H, W)`.
        layout: How they lay: `"ND"`, `"NCHW"`, `"NHW"` or `"NHWC"`.
    """

    x: Tensor
    layout: str


def read(given: Any) -> Given:
    """Data of any kind as a tensor at rest, and how they lay.

    Vectors are `(N, D)`; images `(N, H, W)`, `(N, C, H, W)` or `(N, H, W, C)`. The last axis is
    taken for channels where its size is 1, 3 or 4 and that of the second is not; where both are,
    the images are taken as `(N, C, H, W)`.

    Arguments:
        given: An array, tensor, data frame, nested list, `vaelab.records.Dataset`, Hugging Face
            `Dataset` (its column of images, or those of numbers but for labels), or a torch
            `Dataset` with a length, whose items are data or tuples of a datum and what belongs to
            it; such items are read once, one by one, into memory.

    Raises:
        checks.DataError: They are not numbers, of another shape, empty, or not finite.

    >>> read(np.zeros((5, 8, 9, 3), np.uint8)).x.shape
    torch.Size([5, 3, 8, 9])
    """
    if isinstance(given, Shards):
        raise needs_all(given)
    if huggingface.is_given(given):
        given = _of_one_split(given)
    if isinstance(given, Dataset):
        x = as_tensor(given.x)
        return Given(x, "ND" if x.dim() == 2 else "NCHW")
    if isinstance(given, torch.utils.data.Dataset):
        given = _collected(given)
    names = [name for name in getattr(given, "columns", ()) if isinstance(name, str)]
    given = given if isinstance(given, Tensor) else as_array(given)
    shape = tuple(given.shape)
    x = as_tensor(given, names)
    if channels_last(shape):
        return Given(x.permute(0, 3, 1, 2), "NHWC")
    return Given(x, {2: "ND", 3: "NHW"}.get(len(shape), "NCHW"))


def needs_all(shards: Shards) -> checks.DataError:
    """What to say where data in shards are given, but all data are needed at once."""
    return checks.DataError(
        f"{shards.name}: is data in shards, never all in memory, but here all are needed; give "
        "one shard, shards.read(0) say, or another array."
    )


def _of_one_split(given: Any) -> Dataset:
    """The data of a Hugging Face `Dataset`, read as `vaelab.data.load` does, but not split."""
    origin = huggingface.called(given)
    if isinstance(given, dict):
        first = next(iter(given), "train")
        raise checks.DataError(
            f"{origin}: is several data sets, a {type(given).__name__}; give one of them, "
            f"[{first!r}] say, or vaelab.data.load of all."
        )
    found = huggingface.read(given, origin)
    for note in found.notes:
        warnings.warn(note, checks.VaelabWarning, stacklevel=4)
    return Dataset(found.train.x, None, origin)


def labels(given: object, y: Any, count: int, recipe: str) -> np.ndarray:
    """The label of each of N data, `(N,)`: whole numbers or strings.

    Arguments:
        given: The data; the labels of a `vaelab.records.Dataset` serve where `y` is `None`.
        y: A label for each datum, or one for all.
        count: N.
        recipe: What needs them, for the error.

    Raises:
        checks.DataError: There are none, another number of them, or they are of another kind.

    >>> labels(None, "cat", 2, "conditional").tolist()
    ['cat', 'cat']
    """
    if y is None and isinstance(given, Dataset):
        y = given.y
    if y is None:
        found = f"{given.name} has none" if isinstance(given, Dataset) else "y = None"
        raise checks.DataError(
            f"recipe {recipe!r} needs labels, but {found}; give the class of each datum, or use "
            "another recipe."
        )
    try:
        array = np.asarray(y.cpu() if isinstance(y, Tensor) else y)
    except ValueError as error:  # lists of different lengths
        raise checks.DataError(f"y is no array: {error}.") from error
    if array.dtype.kind == "O" and array.size:
        if all(isinstance(label, str) for label in array.flat):
            array = array.astype(str)
        elif all(isinstance(label, int | np.integer) for label in array.flat):
            array = array.astype(np.int64)
    if array.dtype.kind not in "biuU":
        raise checks.DataError(
            f"y has type {array.dtype}, but labels must be whole numbers or strings; convert them, "
            "by y.astype(int) say."
        )
    if array.dtype.kind != "U":
        array = array.astype(np.int64)
    if array.shape not in ((), (count,)):
        raise checks.DataError(
            f"y has shape {array.shape}, but one label for each of {count} data is needed: "
            f"({count},)."
        )
    return np.broadcast_to(array, (count,))


def numbered(y: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Where each label stands among the classes, `(N,)` in `int64`.

    Raises:
        checks.DataError: A label is none of them.

    >>> numbered(np.array(["dog", "cat"]), np.array(["cat", "dog"]))
    array([1, 0])
    """
    alike = (y.dtype.kind == "U") == (classes.dtype.kind == "U")
    unknown = ~np.isin(y, classes) if alike else np.ones(len(y), bool)
    if unknown.any():
        known = ", ".join(map(repr, classes[:SHOWN].tolist()))
        raise checks.DataError(
            f"label {y[unknown][:1].tolist()[0]!r} is not one of the {len(classes)} classes of the "
            f"training data: {known}{', …' if len(classes) > SHOWN else ''}."
        )
    return np.searchsorted(classes, y).astype(np.int64)


def weights(given: Any, count: int) -> np.ndarray | None:
    """Weights of N data, `(N,)` in `float64`, the largest 1; `None` where none were given.

    Raises:
        checks.DataError: Another number of them, not finite, below 0, or all 0.

    >>> weights([1, 0, 4], 3)
    array([0.25, 0.  , 1.  ])
    """
    if given is None:
        return None
    try:
        array = np.asarray(given, np.float64)
    except (TypeError, ValueError) as error:
        raise checks.DataError(f"sample_weight holds no numbers: {error}.") from error
    if array.shape != (count,):
        raise checks.DataError(
            f"sample_weight has shape {array.shape}, but one weight for each of {count} data is "
            f"needed: ({count},)."
        )
    wrong = np.flatnonzero(~(np.isfinite(array) & (array >= 0)))
    if len(wrong):
        raise checks.DataError(
            f"sample_weight is {array[wrong[0]]:g} for datum {wrong[0]}, but weights must be "
            "finite and at least 0."
        )
    if not array.any():
        raise checks.DataError("sample_weight is 0 for all data; give one of them a weight.")
    return np.asarray(array / array.max())


def _collected(given: torch.utils.data.Dataset[Any]) -> Tensor | np.ndarray:
    """The data of a torch `Dataset`, read item by item into one array."""
    try:
        count = len(given)  # type: ignore[arg-type]
    except TypeError as error:
        raise checks.DataError(
            f"the torch Dataset {type(given).__name__} has no length; give one that has, or an "
            "array of its data."
        ) from error
    if count == 0:
        raise checks.DataError(f"the torch Dataset {type(given).__name__} is empty.")
    first = _datum(given, 0)
    x = np.empty((count, *first.shape), first.dtype)
    for index in range(count):
        datum = _datum(given, index)
        if datum.shape != first.shape:
            raise checks.DataError(
                f"item {index} of the torch Dataset has shape {datum.shape}, but item 0 has "
                f"{first.shape}; make them alike, by a transform say."
            )
        x[index] = datum
    return x


def _datum(given: torch.utils.data.Dataset[Any], index: int) -> np.ndarray:
    """The datum of an item: the item itself, or the first of a tuple."""
    item = given[index]
    datum = item[0] if isinstance(item, tuple | list) else item
    return datum.detach().cpu().numpy() if isinstance(datum, Tensor) else np.asarray(datum)


def one(datum: Any, shape: tuple[int, ...]) -> np.ndarray:
    """A single datum as data of one, in whichever layout it lies.

    Arguments:
        datum: Of the shape `(D,)`, `(C, H, W)`, `(H, W)` or `(H, W, C)`.
        shape: Shape of the model's data.
    """
    array = as_array(datum)
    return array[None] if array.ndim == len(shape) else array.reshape(1, *shape)


def laid_out(x: np.ndarray, layout: str) -> np.ndarray:
    """Data `(N, *shape)` laid out as data that were given.

    >>> laid_out(np.zeros((5, 3, 8, 9)), "NHWC").shape
    (5, 8, 9, 3)
    """
    if layout == "NHWC":
        return np.moveaxis(x, 1, -1)
    return x[:, 0] if layout == "NHW" else x


def check_latent_dim(latent_dim: int, shape: tuple[int, ...]) -> None:
    """Refuses more latent dimensions than a datum of a shape has elements.

    Raises:
        checks.ArgumentError: There are more; a code would then be longer than what it stands for.

    >>> check_latent_dim(5, (4,))
    Traceback (most recent call last):
    ...
    vaelab.checks.ArgumentError: latent_dim = 5, but each datum has 4 feature(s); give at most 4.
    """
    features = math.prod(shape)
    if latent_dim > features:
        raise checks.ArgumentError(
            f"latent_dim = {latent_dim}, but each datum has {features} feature(s); give at most "
            f"{features}."
        )


def suited(x: Tensor) -> tuple[str, str]:
    """Which likelihood suits data at rest, by its name, and why, in words.

    Bits, grey levels in `uint8`, and other values in [0, 1] suit the Bernoulli likelihood; all
    else, values in [0, 1] that are nowhere as large as 1/255 among them, suits the Gaussian.

    >>> suited(torch.tensor([[0.5, 2.0]]))
    ('gaussian', 'values range from 0.5 to 2')
    >>> suited(torch.tensor([[0, 255]], dtype=torch.uint8))
    ('bernoulli', 'values are bits')
    """
    if x.dtype == torch.uint8:  # which needs no look at all of them
        kind = "values are bits" if _two_valued(x, 255) else "values are grey levels in uint8"
        return "bernoulli", kind
    low, high = span(x)
    if _two_valued(x, 1):
        return "bernoulli", "values are bits"
    if low >= 0 and GREY <= high <= 1:
        return "bernoulli", f"values lie in [0, 1], from {low:g} to {high:g}"
    hint = " (grey levels, as uint8 or divided by 255, suit Bernoulli)"
    grey = x.dim() > 2 and low >= 0 and 2 < high <= 255
    return "gaussian", f"values range from {low:g} to {high:g}{hint if grey else ''}"


def _two_valued(x: Tensor, high: float) -> bool:
    """Whether all values are 0 or `high`; it looks no further than the first that is not."""
    parts = torch.split(x, max(1, LOOKED_AT // x[0].numel()))
    return all(bool(((part == 0) | (part == high)).all()) for part in parts)


def record(
    given: object, x: Tensor, y: np.ndarray | None = None, classes: np.ndarray | None = None
) -> dict[str, Any]:
    """What is kept of training data at rest, and of what was given as them.

    Arguments:
        given: What was given.
        x: The data at rest.
        y: Numbers of the classes that were given beside them, `(N,)`.
        classes: The labels of the classes that a conditional model is to know, `(C,)`.
    """
    dataset = (
        given
        if isinstance(given, Dataset)
        else Dataset(x=x.cpu().numpy(), y=None, name="array", source="memory")
    )
    if y is not None:
        dataset = replace(dataset, y=y, class_names=())
    known = {} if classes is None else _known(dataset, classes)
    return known | {
        "name": dataset.name,
        "source": dataset.source,
        "loaded": dict(dataset.loaded),
        "count": len(dataset),
        "shape": list(x.shape[1:]),
        "dtype": str(x.dtype).removeprefix("torch."),
        "range": list(span(x)),
        "fingerprint": dataset.fingerprint,
    }


def streamed(shards: Shards, x: Tensor, classes: np.ndarray | None = None) -> dict[str, Any]:
    """What is kept of training data in shards; their range is that of a sample, `x`.

    Arguments:
        shards: The data.
        x: Some of them, at rest.
        classes: The labels of the classes that a conditional model is to know, `(C,)`.
    """
    given = {name: value for name, value in shards.loaded.items() if name != "location"}
    some = Dataset(
        x=x.numpy(),
        y=None,
        name=shards.name,
        source=shards.location,
        class_names=shards.class_names,
        loaded={"name": shards.loaded["location"], **given},
    )
    whole = {"count": len(shards), "fingerprint": shards.fingerprint}
    return record(some, x, None, classes) | whole


def _known(dataset: Dataset, classes: np.ndarray) -> dict[str, Any]:
    """The labels of classes, and what they are called."""
    names = dataset.class_names
    called = [
        names[k] if isinstance(k, int) and 0 <= k < len(names) else str(k) for k in classes.tolist()
    ]
    return {"classes": classes.tolist(), "class_names": called}


def joined(earlier: Mapping[str, Any], later: Mapping[str, Any]) -> dict[str, Any]:
    """The record of data that came in parts: the earlier one's, with the later counted in."""
    both = (earlier["fingerprint"] + later["fingerprint"]).encode()
    low, high = zip(earlier["range"], later["range"], strict=True)
    return {
        **earlier,
        "count": earlier["count"] + later["count"],
        "range": [min(low), max(high)],
        "fingerprint": hashlib.sha256(both).hexdigest(),
    }
