"""Floor 13: options from a file, and back into one.

A file is TOML. Its keys are the names of a command's options and arguments: `epochs = 5`,
`recipes = ["vae", "conv"]`, `at = [0.5, 0.2]`. Settings that `--set` takes may stand in tables:
`[training]` with `clip_norm = 10.0`, `[objective]` with `warmup_epochs = 2`.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import click

from vaelab import checks, files

__all__ = ["config_option", "write_config"]

TABLES = ("training", "objective")
"""Tables whose entries become `--set TABLE.NAME=VALUE`."""

PASSING = ("config", "resume", "overwrite", "show", "json", "quiet", "out", "help")
"""Options that say what to do now, not what the result is: they are not kept."""


def _read(ctx: click.Context, param: click.Parameter, path: Path | None) -> None:
    """Makes what a file says the defaults of the command, so that the command line wins."""
    if path is None:
        return
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise checks.ArgumentError(f"--config {path}: there is no such file.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise checks.ArgumentError(f"--config {path} is not TOML: {error}.") from error
    params = _named(ctx.command)
    texts = [str(text) for text in document.pop("set", [])]
    for table in TABLES:
        entries = document.pop(table, {})
        texts += [f"{table}.{name}={_text(value)}" for name, value in entries.items()]
    defaults: dict[str, Any] = {"texts": texts} if texts else {}
    for key, value in document.items():
        name = checks.choice(f"--config {path}: key", key.replace("_", "-"), params)
        defaults[str(params[name].name)] = _text(value) if isinstance(value, list) else value
    ctx.default_map = defaults


def _named(command: click.Command) -> dict[str, click.Parameter]:
    """A command's options and arguments by the names that a file calls them."""
    named = {}
    for param in command.params:
        long = [name for name in param.opts if name.startswith("--")]
        named[long[0].removeprefix("--") if long else str(param.name)] = param
    return named


def _text(value: object) -> str:
    """A value as it is written on the command line."""
    if isinstance(value, list):
        return ",".join(map(_text, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


config_option = click.option(
    "--config",
    type=click.Path(path_type=Path),
    is_eager=True,
    expose_value=False,
    callback=_read,
    help="TOML file with options; the command line wins.",
)


def write_config(folder: Path) -> Path:
    """Writes the options of the command that runs, defaults included, for `--config` to read."""
    ctx = click.get_current_context()
    lines = [f"# {ctx.command_path}, with the options that were given and the defaults"]
    for name, param in _named(ctx.command).items():
        value = ctx.params.get(str(param.name))
        if name not in PASSING and value is not None and value != ():
            plain = list(value) if isinstance(value, tuple) else value
            lines.append(f"{name} = {json.dumps(plain, ensure_ascii=False)}")
    return files.write_atomically(folder / files.OPTIONS, "\n".join(lines) + "\n")
