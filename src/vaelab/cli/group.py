"""Floor 13: the group of commands, and the options that several of them share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from vaelab import checks
from vaelab.cli import completion
from vaelab.cli.config import config_option
from vaelab.cluster import ENGINES
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
            f"{value!r} is not numbers separated by commas without spaces, such as 0.5,-0.2."
        ) from None


def names(ctx: click.Context, param: click.Parameter, value: str) -> list[str]:
    """Reads names separated by commas."""
    if len(value) > 1 and value.endswith(","):  # the shell took the rest for another argument
        raise click.BadParameter(
            f"{value!r} ends with a comma; lists have commas and no spaces: vae,conv."
        )
    return [name.strip() for name in value.split(",") if name.strip()]


def listed(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    """Reads models as words, or as lists of them separated by commas, which no path has."""
    words = [[word] if Path(word).exists() else word.split(",") for word in value]
    return tuple(name for some in words for name in some if name)


class Choice(click.Choice[str]):
    """One of several words, with a hint for a mistyped one."""

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        """What was given, the nearest word and all words."""
        return checks.unknown(repr(value), str(value), map(str, self.choices))


class Group(click.Group):
    """Commands from the main job to the small ones, with a hint for a mistyped name."""

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Usage, what this is, and the commands, so that all fits a screen of 24 lines."""
        self.format_usage(ctx, formatter)
        self.format_help_text(ctx, formatter)
        self.format_commands(ctx, formatter)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names in the order of the table."""
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, but an unknown name is answered with the nearest one."""
        name, known = args[0], self.list_commands(ctx)
        if name not in known and not name.startswith("-"):
            what = f"there is no command {name!r}"
            raise click.UsageError(checks.unknown(what, name, known, why=""), ctx)
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
limit_option = click.option(
    "--limit", type=int, help="Most training and test data, each.  [default: all]"
)
engine_option = click.option(
    "--engine",
    type=Choice(ENGINES),
    default="local",
    show_default=True,
    help="Where: this machine, or the Ray cluster of RAY_ADDRESS.",
)
read_option = click.option(
    "--read",
    "read",
    multiple=True,
    metavar="NAME=VALUE",
    help="How own data are read: size=64, fit=pad, labels=COLUMN, scale=255, test_fraction=0.2.",
)
training_options = options(
    config_option,
    read_option,
    click.option(
        "--latent-dim",
        type=int,
        default=2,
        show_default=True,
        help="Latent dimensions, at most the elements of a datum.",
    ),
    click.option(
        "--likelihood",
        type=Choice(("auto", "bernoulli", "gaussian")),
        default="auto",
        show_default=True,
        help="Of the data; auto goes by their range.",
    ),
    click.option("--epochs", type=int, help="Passes over the data.  [default: by their number]"),
    click.option(
        "--budget-steps",
        "steps_in_all",
        type=int,
        help="Steps in all, instead of epochs.  [default: none]",
    ),
    click.option(
        "--budget-minutes",
        "minutes",
        type=float,
        help="Minutes in all, instead of epochs.  [default: none]",
    ),
    click.option("--batch-size", type=int, help="Data a step.  [default: by their number]"),
    click.option(
        "--learning-rate", type=float, help="Adam's largest, a step.  [default: the recipe's]"
    ),
    click.option(
        "--separation",
        type=float,
        help="Keeps neighbours in the data together, 0 and up.  [default: the recipe's]",
    ),
    click.option("--seed", type=int, default=0, show_default=True, help="Of all that is random."),
    limit_option,
    click.option(
        "--patience",
        type=int,
        help="Epochs without improvement that end training.  [default: never]",
    ),
    click.option("--device", help="cpu, cuda, cuda:1, mps.  [default: cuda if there is one]"),
    click.option(
        "--binarize",
        type=Choice(BINARIZE),
        help="Train and judge on bits drawn with the grey levels.  [default: none]",
    ),
    click.option("--precision", help="float32 or bfloat16.  [default: float32]"),
    click.option(
        "--compile/--no-compile",
        "compile_",
        default=None,
        help="Compile the objective.  [default: no-compile]",
    ),
    click.option(
        "--set",
        "texts",
        multiple=True,
        metavar="NAME=VALUE",
        help="Any other setting: training.clip_norm=10, objective.warmup_epochs=2.",
    ),
    click.option(
        "--track",
        type=Choice(("tensorboard", "mlflow")),
        help="Write curves to it.  [default: none]",
    ),
    click.option(
        "--checkpoint-seconds",
        type=float,
        default=60.0,
        show_default=True,
        help="Longest time between checkpoints, in seconds.",
    ),
    click.option("--resume", is_flag=True, help="Continue an interrupted run, to the same bits."),
    quiet_option,
)


def _figures(otherwise: str) -> Callable[[Command], Command]:
    """Where figures go; `otherwise` says what is done without."""
    return options(
        click.option(
            "--save",
            type=click.Path(path_type=Path),
            help=f"Folder for the figures.  [default: {otherwise}]",
        ),
        click.option("--show", is_flag=True, help="Open the figures in a window."),
    )


figure_options = _figures("figures")
more_figure_options = _figures("none are saved")
point_option = click.option(
    "--at",
    "point",
    callback=numbers,
    metavar="Z1,Z2",
    help="Latent point to decode.  [default: 0.5,0.2]",
)
ends_options = options(
    click.option(
        "--start",
        callback=numbers,
        metavar="Z1,Z2",
        help="Latent point to interpolate from.  [default: a test datum's mean]",
    ),
    click.option(
        "--end",
        callback=numbers,
        metavar="Z1,Z2",
        help="Latent point to interpolate to.  [default: that of one of another class]",
    ),
    click.option(
        "--steps",
        type=int,
        default=11,
        show_default=True,
        help="Points of the interpolation, both ends included.",
    ),
)
data_option = options(
    click.option(
        "--data",
        shell_complete=completion.data,
        help="Name or path.  [default: those the first model was trained on]",
    ),
    read_option,
)
models_argument = click.argument(
    "models",
    nargs=-1,
    required=True,
    callback=listed,
    metavar="MODEL...",
    shell_complete=completion.models,
)
model_argument = click.argument("model", shell_complete=completion.models)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
