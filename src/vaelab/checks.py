"""Floor 0: argument checks, and the wording of errors.

Every error that a person can cause is a `VaelabError` whose message is one line: it names the
argument or file, what was found, what is allowed, and what to do. The command line prints that
line; Python callers can also catch the built-in class (`ValueError`) that each one derives from.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from importlib.util import find_spec
from numbers import Integral, Real

__all__ = [
    "ArgumentError",
    "DataError",
    "Interrupted",
    "StorageError",
    "TrainingError",
    "VaelabError",
    "VaelabWarning",
    "choice",
    "integer",
    "needs",
    "number",
    "seed",
    "unknown",
]


class VaelabError(Exception):
    """An error told to the person who reads it in one line."""


class ArgumentError(VaelabError, ValueError):
    """An argument or option has a value that is not allowed."""


class DataError(VaelabError, ValueError):
    """A data set is missing, damaged, or not what the model needs."""


class StorageError(VaelabError, ValueError):
    """A model folder or a results folder cannot be read or written."""


class TrainingError(VaelabError, RuntimeError):
    """Training cannot go on."""


class Interrupted(KeyboardInterrupt):
    """Training was asked to stop, and has kept what is needed to go on.

    Like `KeyboardInterrupt` it is no `Exception`, so that nothing takes it for a failure.

    Arguments:
        message: Where training stood, in one line.
        signal: Number of the signal that asked for it: 2 for Ctrl-C, 15 for SIGTERM.
    """

    def __init__(self, message: str = "interrupted", signal: int = 2) -> None:
        super().__init__(message, signal)
        self.message, self.signal = message, signal

    def __str__(self) -> str:
        return self.message


class VaelabWarning(UserWarning):
    """Something the person should know, though the work goes on."""


def integer(name: str, value: object, *, least: int = 1, most: int | None = None) -> int:
    """Returns `value` as an `int` within [least, most].

    >>> integer("epochs", 3)
    3
    >>> integer("epochs", 0)
    Traceback (most recent call last):
    ...
    vaelab.checks.ArgumentError: epochs = 0, but it must be a whole number of at least 1.
    """
    allowed = f"a whole number of at least {least}"
    if most is not None:
        allowed = f"a whole number from {least} to {most}"
    whole: int | None = None
    if not isinstance(value, bool) and isinstance(value, Integral):
        whole = int(value)
    if whole is None or whole < least or (most is not None and whole > most):
        raise ArgumentError(f"{name} = {value!r}, but it must be {allowed}.")
    return whole


def number(
    name: str,
    value: object,
    *,
    above: float | None = None,
    least: float | None = None,
    most: float | None = None,
) -> float:
    """Returns `value` as a finite `float`, greater than `above`, within [least, most].

    >>> number("beta", 4)
    4.0
    >>> number("learning_rate", -1, above=0)
    Traceback (most recent call last):
    ...
    vaelab.checks.ArgumentError: learning_rate = -1, but it must be a finite number above 0.
    """
    limits = [
        words
        for bound, words in (
            (above, f"above {above}"),
            (least, f"of at least {least}"),
            (most, f"at most {most}"),
        )
        if bound is not None
    ]
    real = math.nan
    if not isinstance(value, bool) and isinstance(value, Real):
        real = float(value)
    if (
        not math.isfinite(real)
        or (above is not None and real <= above)
        or (least is not None and real < least)
        or (most is not None and real > most)
    ):
        allowed = " ".join(["a finite number", " and ".join(limits)]).strip()
        raise ArgumentError(f"{name} = {value!r}, but it must be {allowed}.")
    return real


def needs(what: str, *packages: str, extra: str, otherwise: str = "") -> None:
    """Refuses `what` where one of the packages it is done with is not installed; imports none.

    Arguments:
        what: What needs them, as the error begins.
        packages: Names by which they are imported.
        extra: The extra of vaelab that brings them.
        otherwise: What can be done without them, if anything can.

    >>> needs("out = c.parquet", "json", extra="parquet")
    >>> needs("out = c.parquet", "jsonn", extra="parquet", otherwise="write .csv")
    Traceback (most recent call last):
    ...
    vaelab.checks.ArgumentError: out = c.parquet needs the package jsonn, which is not installed; \
install it with: pip install 'vaelab[parquet]', or write .csv.
    """
    for package in packages:
        if find_spec(package) is None:
            instead = f", or {otherwise}" if otherwise else ""
            raise ArgumentError(
                f"{what} needs the package {package}, which is not installed; install it with: "
                f"pip install 'vaelab[{extra}]'{instead}."
            )


def seed(value: object) -> int:
    """Returns a seed: a whole number from 0 to 2³² − 1."""
    return integer("seed", value, least=0, most=2**32 - 1)


def choice(name: str, value: object, allowed: Iterable[str]) -> str:
    """Returns `value` if it is one of `allowed`; otherwise says which ones there are.

    >>> choice("recipe", "vea", ["vae", "conv"])
    Traceback (most recent call last):
    ...
    vaelab.checks.ArgumentError: recipe = 'vea' is not known; did you mean 'vae'? Known: vae, conv.
    """
    known = list(allowed)
    if isinstance(value, str) and value in known:
        return value
    raise ArgumentError(unknown(f"{name} = {value!r}", str(value), known))


def unknown(words: str, value: str, known: Iterable[str], *, why: str = " is not known") -> str:
    """What to say of a `value`, told in `words`, that is none of those known.

    >>> unknown("'vea'", "vea", ["vae", "conv"])
    "'vea' is not known; did you mean 'vae'? Known: vae, conv."
    >>> unknown("there is no command 'trian'", "trian", ["train", "kl"], why="")
    "there is no command 'trian'; did you mean 'train'? Known: train, kl."
    """
    known = list(known)
    near = difflib.get_close_matches(str(value), known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return f"{words}{why}{hint} Known: {', '.join(known)}."
