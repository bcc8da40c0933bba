"""Floor 13: models as they are named: folders, those that ship, comparisons of several."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from vaelab import checks, files
from vaelab.cli import completion

if TYPE_CHECKING:
    from vaelab.estimator import VAE

__all__ = ["is_comparison", "load_model", "load_models", "located"]

NAMED = 3
"""How many models an error names."""


def load_models(folders: Sequence[str]) -> dict[str, VAE]:
    """Models by their folder's name, that of one that ships, or by path where two have one.

    The folder of a comparison stands for all its models.
    """
    from vaelab.estimator import load

    folders = [path for folder in folders for path in _inside(folder) or [folder]]
    names = [Path(folder).resolve().name for folder in folders]
    unique = len(set(names)) == len(names)
    named = dict(zip(names if unique else folders, folders, strict=True))
    if len(named) < len(folders):
        raise checks.ArgumentError(f"models = {', '.join(folders)}, but each can be given once.")
    return {name: load(located(folder)) for name, folder in named.items()}


def load_model(folder: str) -> tuple[str, VAE]:
    """One model and its name."""
    located(folder)
    (named,) = load_models([folder]).items()
    return named


def located(model: str) -> str:
    """Returns a name or folder of a model; refuses one that is none, with the models there are."""
    from vaelab import shipped

    if several := _inside(model):
        raise checks.StorageError(
            f"{model} is a comparison; give one of its models: {_listed(iter(several))}."
        )
    if model in shipped.names() or Path(model).exists():
        return model
    there = _listed(completion.folders("runs"))
    if not there:
        shipped.located(model)
    elif "/" not in model:
        try:
            shipped.located(model)
        except checks.StorageError as error:
            raise checks.StorageError(f"{error} Or one of yours, such as {there}.") from None
    raise checks.StorageError(
        f"{model} is not there; there are {there}; 'vaelab models' lists all."
    )


def is_comparison(folder: str) -> bool:
    """Whether a folder is that of a comparison with models."""
    return bool(_inside(folder))


def _listed(paths: Iterator[str]) -> str:
    """The first few of several paths."""
    first = list(islice(paths, NAMED + 1))
    return ", ".join(first[:NAMED]) + (", ..." if len(first) > NAMED else "")


def _inside(folder: str) -> list[str]:
    """The models of a comparison, in its order; none if a folder holds none, or is no such one."""
    from vaelab import shipped

    path = Path(folder)
    if folder in shipped.names() or (path / completion.MODEL[0]).exists():
        return []
    try:
        names = list(json.loads((path / completion.RUN[1]).read_text(encoding="utf-8"))["models"])
    except (OSError, ValueError, LookupError, TypeError):
        return []
    plain = [name for name in names if isinstance(name, str) and files.is_plain(name)]
    return [str(path / name) for name in plain if (path / name / completion.MODEL[0]).is_file()]
