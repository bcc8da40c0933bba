"""What may spoil training on data: the checks, and the one pass over the data that they share."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from vaelab import checks
from vaelab.data import names
from vaelab.doctor import Finding
from vaelab.records import Dataset

__all__ = ["CHECKS", "examine", "word"]

BLOCK = 2**20
"""How many values are looked at once: 8 MiB in `float64`, little beside any batch."""

SHOWN = 5
"""How many rows, columns or classes are named."""

BINARY = 1e-3
"""Data look binary if at most this share of their values lies strictly between 0 and 1: grey
images have edges, which put a few per cent there."""

DIM = 0.25
"""Grey levels that reach less than this share of white were most likely counted to another top: to
1, 15, 16 or 63 are usual."""

LOUD = 100.0
"""Images of real numbers, none negative, that reach this most likely count grey levels to 255."""

FINE = 1e5
"""A column whose values are this many times its deviation has about two digits left in float32."""

BLANK = 0.01
"""From this share of blank images on, a class or source of images is likely to have failed."""

REPEATED = 0.01
"""Repeats below this share change no mean over data by more than a hundredth of their spread."""

IMBALANCED = 10.0
"""From this ratio of classes on, methods for imbalanced data are usual, and 15 nearest neighbours
seldom hold a majority of the smallest class."""

FEW, VERY_FEW = 1_000, 100
"""Below 1,000 data a mean over a test set of a fifth of them is known to some 7 % of its spread
only; 100 make two batches."""

LEAKED, TAINTED = 1e-3, 0.01
"""A share s of leaked test data moves the mean ELBO by s times the gap of training and test data:
below 0.1 % not to be seen, above 1 % in reach of what separates good models."""

SHIFTED = 0.3
"""Distance of the means of two splits in standard deviations: 0.2 is small and 0.5 medium by
J. Cohen, Statistical Power Analysis for the Behavioral Sciences (1988), section 2.2."""


@dataclass(frozen=True, eq=False)
class Look:
    """What one pass over a split tells; bounds and moments are those of its finite rows.

    Attributes:
        data: The split.
        least, most, mean, deviation: Of each element of a datum, `(D,)`, as stored.
        between: Share of values strictly between black and white.
        whole: Whether all values are whole numbers.
        rows, columns: Which rows and elements hold NaN or infinity.
        blank: How many data have one value throughout.
        digests: A fingerprint of each datum, `(N,)`; of 10⁷ data two agree by chance with odds of
            3 in a million.
    """

    data: Dataset
    least: np.ndarray
    most: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray
    between: float
    whole: bool
    rows: np.ndarray
    columns: np.ndarray
    blank: int
    digests: np.ndarray

    @property
    def images(self) -> bool:
        """Whether the data are images."""
        return self.data.x.ndim > 2

    @property
    def bytes(self) -> bool:
        """Whether they are grey levels from 0 to 255, which are scored as [0, 1]."""
        return self.data.x.dtype == np.uint8

    @property
    def bounds(self) -> tuple[float, float]:
        """The smallest and the largest value, as stored."""
        return float(self.least.min()), float(self.most.max())

    @property
    def unit(self) -> bool:
        """Whether all values are scored as numbers in [0, 1]."""
        low, high = self.bounds
        return self.bytes or (low >= 0 and high <= 1)


def look(data: Dataset, *, floats: bool) -> Look:
    """Reads a split once; `floats` takes fingerprints of values as they are scored."""
    if data.x.ndim < 2 or data.x.size == 0 or data.x.dtype.kind not in "buif":
        raise checks.DataError(
            f"{data.name}: x has shape {data.x.shape} and type {data.x.dtype}, but (N, ...) real "
            "numbers with at least one datum are needed."
        )
    tally = _Tally(math.prod(data.shape), white=255.0 if data.x.dtype == np.uint8 else 1.0)
    rows = max(1, BLOCK // math.prod(data.shape))
    for start in range(0, len(data), rows):
        tally.add(data.x[start : start + rows], start, floats=floats)
    return tally.look(data)


class _Tally:
    """Sums over the rows of a split, for `Look`."""

    def __init__(self, size: int, white: float) -> None:
        self.white = white
        self.count = self.between = self.blank = 0
        self.whole = True
        self.mean, self.squares = np.zeros(size), np.zeros(size)
        self.least, self.most = np.full(size, np.inf), np.full(size, -np.inf)
        self.wrong = np.zeros(size, dtype=bool)
        self.rows: list[np.ndarray] = []
        self.digests: list[np.ndarray] = []

    def add(self, block: np.ndarray, start: int, *, floats: bool) -> None:
        """Counts the rows of a block, the first of which is row `start` of the split."""
        block = block.reshape(len(block), -1)
        if block.dtype != np.uint8:
            with np.errstate(over="ignore"):  # what overflows is told as infinite
                block = block.astype(np.float32) + np.float32(0)  # −0 and 0 are the same number
        scored = block.astype(np.float32) / 255 if floats and block.dtype == np.uint8 else block
        self.digests.append(_digests(scored))
        finite = np.isfinite(block)
        good = finite.all(1)
        self.wrong |= ~finite.all(0)
        self.rows.append(start + np.flatnonzero(~good))
        if good.any():
            self._add(block[good].astype(np.float64))

    def _add(self, values: np.ndarray) -> None:
        count = len(values)
        mean = values.mean(0)
        apart = mean - self.mean
        self.squares += ((values - mean) ** 2).sum(0)
        self.squares += apart**2 * (self.count * count / (self.count + count))
        self.mean += apart * (count / (self.count + count))
        self.count += count
        self.least = np.minimum(self.least, values.min(0))
        self.most = np.maximum(self.most, values.max(0))
        self.between += int(((values > 0) & (values < self.white)).sum())
        self.blank += int((values.min(1) == values.max(1)).sum())
        self.whole = self.whole and bool((values == np.rint(values)).all())

    def look(self, data: Dataset) -> Look:
        """What the sums tell."""
        return Look(
            data,
            least=self.least,
            most=self.most,
            mean=self.mean,
            deviation=np.sqrt(self.squares / max(1, self.count)),
            between=self.between / max(1, self.count * len(self.mean)),
            whole=self.whole,
            rows=np.concatenate(self.rows),
            columns=np.flatnonzero(self.wrong),
            blank=self.blank,
            digests=np.concatenate(self.digests),
        )


def _digests(block: np.ndarray) -> np.ndarray:
    """64 bits of BLAKE2 of each row, `(N,)`."""
    rows = np.ascontiguousarray(block)
    joined = b"".join(hashlib.blake2b(row.data, digest_size=8).digest() for row in rows)
    return np.frombuffer(joined, dtype=np.uint64)


def word(name: str) -> str:
    """What a command calls data: their name if `vaelab.data` knows it."""
    return name if name in names() else "DATA"


def _listed(values: Sequence[object] | np.ndarray) -> str:
    """The first few of several, in words: `3, 7, ...`."""
    shown = ", ".join(str(value) for value in values[:SHOWN])
    return shown + (", ..." if len(values) > SHOWN else "")


def finite(train: Look, test: Look | None) -> Finding:
    """NaN and infinity."""
    told = []
    for one in (train, test):
        if one is not None and len(one.rows):
            told.append(
                f"{len(one.rows):,} of {len(one.data):,} {one.data.split} data hold NaN or "
                f"infinity (rows {_listed(one.rows)}; columns {_listed(one.columns)})"
            )
    if not told:
        return Finding("finite", "ok", f"all values of {len(train.data):,} data are finite.")
    advice = "remove those rows or columns, or fill them, by sklearn.impute.SimpleImputer say"
    return Finding("finite", "problem", " and ".join(told) + ".", advice)


def value_range(train: Look, test: Look | None) -> Finding:
    """The range of values against what likelihoods score."""
    low, high = train.bounds
    span = f"values range from {low:g} to {high:g}"
    if train.unit:
        return _unit_range(train, high / (255 if train.bytes else 1), span)
    if train.images and low >= 0 and LOUD <= high <= 255:
        grey = ", all whole" if train.whole else ""
        evidence = f"{span}{grey}: they look like grey levels from 0 to 255."
        advice = "store them as uint8 (x.round().astype('uint8')), or divide them by 255"
        return Finding("range", "warning", evidence, advice)
    evidence = f"{span}, outside [0, 1]: a Gaussian likelihood with a learnt scale is taken."
    if not train.images:
        return Finding("range", "ok", evidence)
    advice = "nothing, if they are real numbers; if they are intensities, rescale them to [0, 1]"
    return Finding("range", "note", evidence, advice)


def _unit_range(train: Look, brightest: float, span: str) -> Finding:
    if train.bytes and 0 < brightest < DIM:
        evidence = f"{span} in uint8, which is scored as at most {brightest:.2g} of white."
        top = train.bounds[1]
        advice = f"rescale them: (x / {top:g}).astype('float32'), or to 0 and 255 in uint8"
        return Finding("range", "problem" if brightest < 0.01 else "warning", evidence, advice)
    kind = "uint8, scored as [0, 1]" if train.bytes else "within [0, 1]"
    binary = "they look binary" if train.between <= BINARY else "they are grey levels"
    evidence = (
        f"{span} ({kind}), {train.between:.1%} of them strictly between the ends: {binary}, and a "
        "Bernoulli likelihood fits (recipes 'vae', 'conv')."
    )
    return Finding("range", "ok", evidence)


def scales(train: Look, test: Look | None) -> Finding:
    """Columns of vectors that vary too little beside their size for the numbers' precision."""
    varied = train.most > train.least
    if train.images or train.unit or not varied.any():
        return Finding("scales", "ok", "all elements share one scale, or are within [0, 1].")
    deviation = train.deviation[varied]
    size = np.maximum(np.abs(train.least), np.abs(train.most))[varied]
    evidence = (
        f"standard deviations of columns range from {deviation.min():.3g} to "
        f"{deviation.max():.3g}; each column is computed with in units of its own."
    )
    fine = np.flatnonzero(varied)[size > FINE * deviation]
    if not len(fine):
        return Finding("scales", "ok", evidence)
    evidence += (
        f" Columns {_listed(fine)} vary by less than 1/{FINE:,.0f} of their size, so that float32 "
        "rounds them."
    )
    return Finding("scales", "warning", evidence, "subtract the columns' means from them first")


def constant(train: Look, test: Look | None) -> Finding:
    """Elements that are the same in all data."""
    still = np.flatnonzero(train.most == train.least)
    evidence = f"{len(still):,} of {len(train.least):,} elements are the same in all data"
    if len(still) == len(train.least):
        advice = "look at how the data were read: there is nothing to learn"
        return Finding("constant", "problem", f"{evidence}: all data are alike.", advice)
    if train.images or not len(still):  # borders of images are often empty, and do no harm
        return Finding("constant", "ok", f"{evidence}.")
    advice = "remove these columns: they tell nothing, and count as fitted without error"
    return Finding("constant", "warning", f"{evidence} (columns {_listed(still)}).", advice)


def blank(train: Look, test: Look | None) -> Finding:
    """Images that have one value throughout."""
    if not train.images:
        return Finding("blank", "ok", "the data are vectors, so no image is blank.")
    share = train.blank / len(train.data)
    evidence = f"{train.blank:,} of {len(train.data):,} images ({share:.2%}) have one value only."
    if not train.blank:
        return Finding("blank", "ok", evidence)
    advice = "look at how they were read, and remove those that failed"
    return Finding("blank", "warning" if share >= BLANK else "note", evidence, advice)


def duplicates(train: Look, test: Look | None) -> Finding:
    """Data that repeat another bit for bit."""
    repeats = len(train.data) - len(np.unique(train.digests))
    share = repeats / len(train.data)
    evidence = f"{repeats:,} of {len(train.data):,} training data ({share:.2%}) repeat another."
    if not repeats:
        return Finding("duplicates", "ok", evidence)
    advice = "remove the repeats (numpy.unique(x, axis=0)), unless they are meant as weights"
    return Finding("duplicates", "warning" if share >= REPEATED else "note", evidence, advice)


def balance(train: Look, test: Look | None) -> Finding:
    """How many data the classes have, and classes that are known from the test data alone."""
    y = train.data.y
    if y is None:
        return Finding("balance", "ok", "there are no labels, and training needs none.")
    classes, counts = np.unique(y, return_counts=True)
    shares = counts / counts.sum()
    relative = -(shares * np.log(shares)).sum() / math.log(len(counts)) if len(counts) > 1 else 1.0
    ratio = counts.max() / counts.min()
    evidence = (
        f"{len(counts)} classes of {counts.min():,} to {counts.max():,} data (a ratio of "
        f"{ratio:.3g}; entropy {relative:.0%} of its largest value)"
    )
    other = None if test is None else test.data.y
    missing = np.setdiff1d(other, classes) if other is not None else np.empty(0)
    if len(missing):
        evidence += f"; of the test data's classes, {_listed(missing)} do not occur."
        advice = "split the data anew, stratified: sklearn.model_selection.train_test_split"
        return Finding("balance", "warning", evidence, advice)
    if ratio < IMBALANCED:
        return Finding("balance", "ok", f"{evidence}.")
    advice = "judge classes apart, or draw as many of each (accuracies favour the large ones)"
    return Finding("balance", "warning", f"{evidence}.", advice)


def size(train: Look, test: Look | None) -> Finding:
    """Whether there are data enough."""
    count, width = len(train.data), len(train.least)
    evidence = f"{count:,} training data of {width:,} elements."
    small = not train.images and count < width  # neighbouring pixels say much the same
    if count >= FEW and not small:
        return Finding("size", "ok", evidence)
    advice = "use more data if there are, else a small model: --latent-dim 2 --patience 5"
    return Finding("size", "warning" if small or count < VERY_FEW else "note", evidence, advice)


def leakage(train: Look, test: Look | None) -> Finding:
    """Test data that are also training data."""
    if test is None:
        return Finding("leakage", "ok", "there are no test data that could have leaked.")
    leaked = int(np.isin(test.digests, train.digests).sum())
    share = leaked / len(test.data)
    evidence = f"{leaked:,} of {len(test.data):,} test data ({share:.2%}) are also training data."
    if not leaked:
        return Finding("leakage", "ok", evidence)
    level = "note" if share < LEAKED else "warning" if share < TAINTED else "problem"
    return Finding("leakage", level, evidence, "remove them from the training data")


def splits(train: Look, test: Look | None) -> Finding:
    """Whether training and test data are of one kind."""
    if test is None:
        return Finding("splits", "ok", "there are no test data to compare with.")
    both = (train, test)
    if train.data.shape != test.data.shape or train.unit != test.unit:
        kinds = ["{} from {:g} to {:g}".format(one.data.shape, *one.bounds) for one in both]
        evidence = f"training data are {kinds[0]}, but test data {kinds[1]}."
        advice = "prepare both splits in the same way, and clip what then leaves [0, 1]"
        return Finding("splits", "problem", evidence, advice)
    means = [one.mean / (255 if one.bytes else 1) for one in both]
    deviation = train.deviation / (255 if train.bytes else 1)
    varied = deviation > 0
    apart = (means[1] - means[0])[varied] / deviation[varied]
    chance = 1 / len(train.data) + 1 / len(test.data)
    distance = math.sqrt(max(0.0, float((apart**2).mean()) - chance)) if len(apart) else 0.0
    evidence = (
        f"the means of training and test data differ by {distance:.2g} standard deviations of an "
        "element, what chance does taken off."
    )
    if distance < SHIFTED:
        return Finding("splits", "ok", evidence)
    advice = "shuffle all data before they are split, and prepare both splits in the same way"
    return Finding("splits", "warning", evidence, advice)


CHECKS: tuple[Callable[[Look, Look | None], Finding], ...] = (
    *(finite, value_range, scales, constant, blank),
    *(duplicates, balance, size, leakage, splits),
)
"""The checks of data, in the order they are told."""


def examine(train: Dataset, test: Dataset | None) -> list[Finding]:
    """See `vaelab.doctor.examine_data`."""
    floats = test is not None and (train.x.dtype == np.uint8) != (test.x.dtype == np.uint8)
    first = look(train, floats=floats)
    other = None if test is None else look(test, floats=floats)
    if any(one is not None and len(one.rows) == len(one.data) for one in (first, other)):
        return [finite(first, other)]  # nothing else can be told of the data
    return [check(first, other) for check in CHECKS]
