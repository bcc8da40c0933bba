"""Floor 13: the command line. Each command calls public functions; torch is loaded when needed."""

from __future__ import annotations

import errno
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from typing import NoReturn

import click

from vaelab import __version__, checks, ranks
from vaelab.cli import explore, facts, models, runs
from vaelab.cli.group import Group
from vaelab.cli.shared import fail, hush, warn

__all__ = ["cli", "main"]

COMMANDS = (
    runs.compare,
    runs.train,
    models.evaluate,
    models.encode,
    models.decode,
    models.interpolate,
    models.plot,
    models.sample,
    explore.explore,
    models.export,
    models.doctor,
    runs.report,
    facts.kl,
    facts.list_recipes,
    facts.list_models,
    facts.list_datasets,
)


@click.group(
    cls=Group,
    commands=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
    options_metavar="[--version]",
    subcommand_metavar="COMMAND [--help] [ARGS]...",
)
@click.version_option(__version__, prog_name="vaelab")
def cli() -> None:
    """Train VAEs side by side, look at them, and trust their numbers. DATA is a name ('vaelab
    datasets') or a path of yours, MODEL one of 'vaelab models' or a folder. Lists and points have
    commas, no spaces. Energies: nats per datum.
    """


def _terminate(number: int, frame: object) -> NoReturn:
    raise checks.Interrupted("terminated", number)


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line; ends the process with 0, 1, 2, 130 or 143."""
    given = list(sys.argv[1:] if args is None else args)
    warnings.showwarning = warn  # this process is ours: a warning is told in one line
    signal.signal(signal.SIGTERM, _terminate)
    if ranks.launched() and os.environ["RANK"] != "0":
        hush()
    try:
        code = cli.main(args=given, obj=given, standalone_mode=False)
    except click.exceptions.Abort as error:
        interrupted = error.__cause__
        if isinstance(interrupted, checks.Interrupted):
            fail(str(interrupted), 128 + interrupted.signal)
        fail("interrupted.", 130)
    except click.ClickException as error:
        fail(error.format_message(), error.exit_code)
    except checks.VaelabError as error:
        fail(str(error), 1)
    except MemoryError:
        fail("out of memory; use fewer data (--limit) or smaller batches (--batch-size).", 1)
    except OSError as error:
        if error.errno == errno.EPIPE:  # the reader of our output has left
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        where = f"{error.filename}: " if error.filename else ""
        fail(f"{where}{error.strerror or error}.", 1)
    sys.exit(code if isinstance(code, int) else 0)
