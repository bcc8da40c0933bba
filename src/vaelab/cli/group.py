"""Floor 13: the group of commands, and the options that several of them share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from vaelab import checks
from vaelab.cli.config import config_option
from vaelab.progress import QUIET
from vaelab.records import BINARIZE

Command = TypeVar("Command", bound=Callable[..., Any])


def numbers(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> tuple[float, ...] | None:
    """Reads numbers separated by commas, negative ones included: `-0.5,0.2`."""
    try:
        return None if value is None else tuple(float(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter(
            f"{value!r} is not numbers separated by commas, such as 0.5,-0.2."
        ) from None


def names(ctx: click.Context, param: click.Parameter, value: str) -> list[str]:
    """Reads names separated by commas."""
    return [name.strip() for name in value.split(",") if name.strip()]


class Group(click.Group):
    """Commands from the main job to the small ones, with a hint for a mistyped name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names in the order of the table."""
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, but an unknown name is answered with the nearest one."""
        try:
            checks.choice("command", args[0], self.list_commands(ctx))
        except checks.ArgumentError as error:
            if not args[0].startswith("-"):
                raise click.UsageError(str(error), ctx) from None
        return super().resolve_command(ctx, args)


def options(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several options as one decorator, in the order they are shown."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def _hush(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    """Lets this process and those it starts draw no bars and tell no notices."""
    if value:
        os.environ[QUIET] = "1"


quiet_option = click.option(
    "--quiet",
    is_flag=True,
    expose_value=False,
    callback=_hush,
    help="No progress and no notices, only results, warnings and errors.",
)
read_option = click.option(
    "--read",
    "read",
    multiple=True,
    metavar="NAME=VALUE",
    help="How own data are read: size=64, fit=pad, labels=COLUMN, test_fraction=0.2.",
)
training_options = options(
    config_option,
    read_option,
    click.option("--latent-dim", type=int, default=2, show_default=True, help="Latent dimensions."),
    click.option(
        "--likelihood",
        type=click.Choice(("auto", "bernoulli", "gaussian")),
        default="auto",
        show_default=True,
        help="Of the data; auto goes by their range.",
    ),
    click.option("--epochs", type=int, help="Passes over the data. [default: by their number]"),
    click.option("--budget-steps", "steps_in_all", type=int, help="Steps, instead of epochs."),
    click.option("--budget-minutes", "minutes", type=float, help="Minutes, instead of epochs."),
    click.option("--batch-size", type=int, help="Data a step. [default: by their number]"),
    click.option("--learning-rate", type=float, help="Adam's largest. [default: the recipe's]"),
    click.option("--seed", type=int, default=0, show_default=True, help="Of all that is random."),
    click.option("--limit", type=int, help="Use at most this many training and test data each."),
    click.option("--patience", type=int, help="Epochs without improvement that end training."),
    click.option("--device", help="cpu, cuda, cuda:1, mps. [default: cuda if there is one]"),
    click.option(
        "--binarize",
        type=click.Choice(BINARIZE),
        help="Train and judge on bits drawn with the grey levels. [default: none]",
    ),
    click.option("--precision", help="float32 or bfloat16. [default: float32]"),
    click.option("--compile/--no-compile", "compile_", default=None, help="Compile the objective."),
    click.option(
        "--set",
        "texts",
        multiple=True,
        metavar="NAME=VALUE",
        help="Any other setting: training.clip_norm=10, objective.warmup_epochs=2.",
    ),
    click.option("--track", type=click.Choice(("tensorboard", "mlflow")), help="Write curves to."),
    click.option(
        "--checkpoint-seconds",
        type=float,
        default=60.0,
        show_default=True,
        help="Longest time between checkpoints.",
    ),
    click.option("--resume", is_flag=True, help="Continue an interrupted run, to the same bits."),
    quiet_option,
)
figure_options = options(
    click.option("--save", type=click.Path(path_type=Path), help="Folder for the figures."),
    click.option("--show", is_flag=True, help="Open the figures in a window."),
)
point_option = click.option(
    "--at",
    "point",
    callback=numbers,
    metavar="Z1,Z2",
    help="Latent point to decode. [default: 0.5,0.2]",
)
ends_options = options(
    click.option(
        "--start",
        callback=numbers,
        metavar="Z1,Z2",
        help="Latent point to interpolate from. [default: a test datum's mean]",
    ),
    click.option(
        "--end",
        callback=numbers,
        metavar="Z1,Z2",
        help="Latent point to interpolate to. [default: that of one of another class]",
    ),
    click.option("--steps", type=int, default=11, show_default=True, help="Of the interpolation."),
)
data_option = options(
    click.option("--data", help="Data. [default: those the first model was trained on]"),
    read_option,
)
models_argument = click.argument("models", nargs=-1, required=True, metavar="MODEL...")
