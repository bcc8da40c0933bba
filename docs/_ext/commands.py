"""The reference of the command line, from the commands themselves: `vaelab-commands`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from vaelab.cli import cli

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def plain(text: str) -> str:
    """The text as Markdown that shows each character as it is; options as code."""
    escaped = re.sub(r"([\\`*_<>\[\]$|#])", r"\\\1", " ".join(text.split()))
    return re.sub(r"(?<![\w`])(--[a-z][a-z-]*[a-z])", r"`\1`", escaped)


def told(name: str, command: click.Command) -> Iterator[str]:
    """Lines of Markdown on a command: usage, what it does, an example, and its options."""
    ctx = click.Context(command, info_name=f"vaelab {name}")
    text, _, example = (command.help or "").partition("\b")
    yield from (f"## vaelab {name}", "", "```text")
    yield from (command.get_usage(ctx).removeprefix("Usage: "), "```", "")
    for paragraph in text.strip().split("\n\n"):
        yield from (plain(paragraph), "")
    yield from ("```sh", example.strip().removeprefix("Example:").strip(), "```", "")
    options = [p for p in command.get_params(ctx) if isinstance(p, click.Option)]
    for names, text in (r for option in options if (r := option.get_help_record(ctx))):
        if not names.startswith("--help"):
            yield from (f"`{names}`", f": {plain(text)}", "")


class Commands(SphinxDirective):
    """Every command, in the order of `vaelab --help`."""

    def run(self) -> list[nodes.Node]:
        """The sections, one for each command."""
        lines = [line for name, command in cli.commands.items() for line in told(name, command)]
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers the directive."""
    app.add_directive("vaelab-commands", Commands)
    return {"parallel_read_safe": True}
