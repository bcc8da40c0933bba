"""Floor 13: what the shell may complete: names of data, recipes and model folders.

A person who presses TAB waits for the answer, so nothing here imports torch or NumPy, or looks
far into folders.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import click
from click.shell_completion import CompletionItem

__all__ = ["cards", "data", "data_or_models", "folders", "models", "recipes", "runs"]

DEPTH, MOST = 3, 100
"""How far below a folder models are looked for, and how many of them are offered."""

MODEL = ("config.json", "model.safetensors")
RUN = ("run.json", "metrics.json")
"""Files by which a model folder and the folder of a comparison are known."""


def data(ctx: click.Context, param: click.Parameter, given: str) -> list[CompletionItem]:
    """Names of data sets, then files."""
    from vaelab.data import names

    named = [CompletionItem(name) for name in names() if name.startswith(given)]
    return [*named, CompletionItem(given, type="file")]


def recipes(ctx: click.Context, param: click.Parameter, given: str) -> list[CompletionItem]:
    """Names of recipes; of several, separated by commas, the last."""
    before, comma, last = given.rpartition(",")
    used = before.split(",")
    return [
        CompletionItem(f"{before}{comma}{name}")
        for name in _recipe_names()
        if name.startswith(last) and name not in used
    ]


def models(ctx: click.Context, param: click.Parameter, given: str) -> list[CompletionItem]:
    """Models that ship, by name, model folders below the path that was begun, then any folders;
    of several models, separated by commas, the last.
    """
    before, comma, last = given.rpartition(",")
    if comma:
        used = before.split(",")
        names = [item.value for item in (*_shipped(last), *_folders(last, MODEL))]
        return [CompletionItem(f"{before},{name}") for name in names if name not in used]
    return [*_shipped(given), *_folders(given, MODEL), CompletionItem(given, type="dir")]


def runs(ctx: click.Context, param: click.Parameter, given: str) -> list[CompletionItem]:
    """Folders of comparisons below the path that was begun, then any folders."""
    return [*_folders(given, RUN), CompletionItem(given, type="dir")]


def data_or_models(ctx: click.Context, param: click.Parameter, given: str) -> list[CompletionItem]:
    """What `data` and `models` offer."""
    return [*_shipped(given), *_folders(given, MODEL), *data(ctx, param, given)]


def cards(ctx: click.Context, param: click.Parameter, given: str) -> list[CompletionItem]:
    """Models that ship, by name, then what `runs` offers."""
    return [*_shipped(given), *runs(ctx, param, given)]


def _shipped(given: str) -> list[CompletionItem]:
    """Names of models that ship and begin so."""
    from vaelab.shipped import names

    return [CompletionItem(name) for name in names() if name.startswith(given)]


def _recipe_names() -> list[str]:
    """The keys of `vaelab.recipes.RECIPES`, read from its source: to import it takes seconds."""
    spec = find_spec("vaelab.recipes")
    if spec is None or spec.origin is None:
        return []
    for node in ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Dict):
            keys = [key.value for key in node.value.keys if isinstance(key, ast.Constant)]
            if isinstance(node.target, ast.Name) and node.target.id == "RECIPES":
                return list(map(str, keys))
    return []


def _folders(given: str, files: Sequence[str]) -> list[CompletionItem]:
    """Folders with certain files, whose paths begin as the given one."""
    begun = given.rpartition("/")
    found = _below("".join(begun[:2]), begun[2], files, DEPTH)
    return [CompletionItem(path) for path in islice(found, MOST)]


def folders(parent: str) -> Iterator[str]:
    """Model folders below a folder, at most three levels deep, in order."""
    return _below("" if parent == "." else f"{parent.rstrip('/')}/", "", MODEL, DEPTH)


def _below(parent: str, start: str, files: Sequence[str], depth: int) -> Iterator[str]:
    try:
        inner = sorted(
            entry.name
            for entry in os.scandir(parent or ".")
            if entry.name.startswith(start) and entry.is_dir()
        )
    except OSError:
        return
    for name in inner:
        if name.startswith(".") and not start.startswith("."):
            continue
        path = f"{parent}{name}"
        if all((Path(path) / file).is_file() for file in files):
            yield path
        if depth > 1:
            yield from _below(f"{path}/", "", files, depth - 1)
