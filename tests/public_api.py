"""What is public, as text: `python tests/public_api.py` writes `docs/public-api.txt`.

Public are the names that the pages of `docs/reference` show; each line is one of them with its
signature. `test_public_api.py` compares.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from pkgutil import resolve_name

import click

DOCS = Path(__file__).parents[1] / "docs"
LISTING = DOCS / "public-api.txt"
SHOWN = re.compile(r"^\.\. auto(module|class|function):: (\S+)\n((?:   :.*\n)*)", re.MULTILINE)


def names() -> Iterator[str]:
    """The public names, as the pages of the reference say."""
    for page in sorted((DOCS / "reference").glob("*.md")):
        for kind, name, options in SHOWN.findall(page.read_text(encoding="utf-8")):
            if kind != "module":
                yield name
                continue
            given = dict(re.findall(r":([\w-]+): ?(.*)\n", options))
            every = given.get("members") or ", ".join(importlib.import_module(name).__all__)
            left_out = given.get("exclude-members", "").split(", ")
            yield from (f"{name}.{own}" for own in every.split(", ") if own not in left_out)


def lines() -> list[str]:
    """A line for each public name, method and option of a command."""
    found = {line for name in names() for line in described(name, resolve_name(name))}
    return sorted(found) + list(commands())


def described(name: str, thing: object) -> Iterator[str]:
    """A name with its signature; a class with its own public methods, too."""
    if not inspect.isclass(thing):
        yield f"{name}{signature(thing)}" if inspect.isfunction(thing) else name
        return
    yield f"class {name}{signature(thing)}" if constructor_is_ours(thing) else f"class {name}"
    ours = [cls for cls in thing.__mro__ if cls.__module__.startswith("vaelab.")]
    for own in sorted({own for cls in ours for own in vars(cls) if not own.startswith("_")}):
        value = inspect.getattr_static(thing, own)
        value = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
        if inspect.isfunction(value):
            yield f"{name}.{own}{signature(value)}"
        elif isinstance(value, property) or not callable(value):
            yield f"{name}.{own}"


def constructor_is_ours(cls: type) -> bool:
    """Whether what is called is not that of another package, whose versions differ."""
    owner = next(base for base in cls.__mro__ if {"__init__", "__new__"} & vars(base).keys())
    return owner.__module__.startswith("vaelab.") or owner is object


def signature(thing: object) -> str:
    """Parameters with their types as they are written, and what is returned."""
    text = str(inspect.signature(thing))  # type: ignore[arg-type]
    return re.sub(r"<factory>|<[^<>]* at 0x\w+>", "...", text).replace("'", "")


def commands() -> Iterator[str]:
    """A line for each command, and for each of its options."""
    from vaelab.cli import cli

    for name, command in cli.commands.items():
        ctx = click.Context(command, info_name=f"vaelab {name}")
        yield command.get_usage(ctx).removeprefix("Usage: ")
        for option in command.params:
            if isinstance(option, click.Option):
                yield f"vaelab {name} {'/'.join([*option.opts, *option.secondary_opts])}"


if __name__ == "__main__":
    LISTING.write_text("\n".join(lines()) + "\n", encoding="utf-8")
