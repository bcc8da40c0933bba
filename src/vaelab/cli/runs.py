"""Floor 13: the commands that train and report: compare, train, report."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vaelab import checks, files, machine
from vaelab.cli.group import ends_options, names, point_option, training_options
from vaelab.cli.shared import (
    both_ends,
    load_data,
    note,
    print_figures,
    setting,
    show_all,
)

if TYPE_CHECKING:
    from vaelab.records import Dataset

RUN = "run.json"


@click.command()
@click.argument("data", default="mnist")
@click.option(
    "--recipes",
    callback=names,
    default="vae,fixed-variance,conv",
    show_default=True,
    help="Which to train.",
)
@training_options
@click.option("--jobs", type=int, help="Recipes trained side by side. [default: a core each]")
@click.option("--particles", type=int, default=64, show_default=True, help="Of log p(x).")
@point_option
@ends_options
@click.option("--out", type=click.Path(path_type=Path), help="Folder. [default: runs/DATA]")
@click.option("--overwrite", is_flag=True, help="Replace the run that is in the folder.")
@click.option("--show", is_flag=True, help="Open the figures in a window.")
@click.option("--json", "as_json", is_flag=True, help="Print metrics.json instead of the table.")
def compare(data: str, out: Path | None, overwrite: bool, **options: Any) -> None:
    """Train recipes on the same data, and write a report.

    \b
    Example:  vaelab compare mnist --recipes vae,conv --epochs 5 --out runs/first
    """
    folder = out or Path("runs") / data
    train, test = load_data(data, options["limit"])
    aside = _make_room(folder, overwrite)
    try:
        page = _compare(folder, train, test, options)
    except BaseException:
        if aside is not None:
            shutil.rmtree(folder, ignore_errors=True)
            aside.rename(folder)
        raise
    if aside is not None:
        shutil.rmtree(aside, ignore_errors=True)
    note(f"report: {page}")


def _make_room(folder: Path, overwrite: bool) -> Path | None:
    """Refuses a folder that holds something, or moves an old run aside; returns where to."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    if not folder.is_dir() or not (folder / RUN).is_file():
        raise checks.StorageError(
            f"{folder} exists and is no run of vaelab; choose another folder with --out."
        )
    if not overwrite:
        raise checks.StorageError(
            f"{folder} holds another run; choose another folder with --out, or replace it with "
            "--overwrite."
        )
    aside = folder.with_name(f".{folder.name}.old")
    if aside.exists():
        raise checks.StorageError(
            f"{aside} holds a run that an interrupted --overwrite moved there; move it away first."
        )
    return folder.rename(aside)


def _compare(folder: Path, train: Dataset, test: Dataset, options: Mapping[str, Any]) -> Path:
    from vaelab import comparison, report
    from vaelab.exhibits import Exhibits, check_point
    from vaelab.progress import TrainingBar

    recipes = options["recipes"]
    jobs = options["jobs"]
    if jobs is None:
        jobs = max(1, min(len(recipes), machine.cores()))
    shown = {
        "point": options["point"],
        "ends": both_ends(options["start"], options["end"]),
        "steps": checks.integer("steps", options["steps"], least=2),
    }
    for name in ("point", "start", "end"):  # refused now, not after training
        if options[name] is not None:
            check_point(name, options[name], options["latent_dim"], "there are")
    names = ("latent_dim", "epochs", "batch_size", "learning_rate", "seed")
    settings = {name: options[name] for name in names}
    comparison.plan(recipes, train.shape, **settings)
    for name, value in (("jobs", jobs), ("particles", options["particles"])):
        checks.integer(name, value)
    command = "vaelab " + shlex.join(click.get_current_context().find_root().obj)
    files.write_json(
        folder / RUN, {"command": command, "data": train.name, "limit": options["limit"], **shown}
    )
    result = comparison.compare(
        recipes,
        train,
        test,
        out=folder,
        jobs=jobs,
        particles=options["particles"],
        progress=TrainingBar,
        **settings,
    )
    click.echo(json.dumps(result.document(), indent=2) if options["as_json"] else str(result))
    exhibits = Exhibits(result.models, train, test, latents=result.latents, **shown)
    figures = report.draw(exhibits)
    page = report.write(folder, result, exhibits, command=command, figures=figures)
    if options["show"]:
        show_all(list(figures.values()))
    return page


@click.command()
@click.argument("recipe")
@click.argument("data", default="mnist")
@training_options
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Recipe's option.")
@click.option("--out", type=click.Path(path_type=Path), help="[default: runs/DATA-RECIPE]")
def train(
    recipe: str,
    data: str,
    limit: int | None,
    settings: tuple[str, ...],
    out: Path | None,
    **options: Any,
) -> None:
    """Train one model and write its folder.

    \b
    Example:  vaelab train beta mnist --set beta=2 --epochs 5 --out runs/beta2
    """
    from vaelab.comparison import evaluate
    from vaelab.estimator import VAE
    from vaelab.progress import TrainingBar

    folder = out or Path("runs") / f"{data}-{recipe}"
    if folder.exists() and (folder.is_file() or any(folder.iterdir())):
        raise checks.StorageError(f"{folder} exists; choose another folder with --out.")
    given = dict(setting(text) for text in settings)
    training_data, test = load_data(data, limit)
    vae = VAE(recipe, options=given, callback=TrainingBar(recipe), **options)
    vae.resolved(training_data.shape)  # what cannot be made or written is refused before training
    files.check_writable(folder)
    vae.fit(training_data)
    figures = evaluate(vae, test, training_data)
    vae.save(folder, figures=figures)
    print_figures(recipe, figures)
    note(f"model: {folder}")


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
def report(run: Path) -> None:
    """Write the report of a comparison again.

    \b
    Example:  vaelab report runs/mnist
    """
    from vaelab import comparison
    from vaelab import report as reports
    from vaelab.exhibits import Exhibits

    result = comparison.read(run)
    recorded = _run_record(run)
    train, test = load_data(recorded["data"], recorded["limit"])
    for part, key in ((train, "train_fingerprint"), (test, "test_fingerprint")):
        if part.fingerprint != result.dataset[key]:
            raise checks.DataError(
                f"{part.name}: the {part.split} data here are not those of {run} (SHA-256 "
                f"{part.fingerprint[:8]}…, not {result.dataset[key][:8]}…); set VAELAB_DATA."
            )
    shown = {name: recorded[name] for name in ("point", "ends", "steps")}
    exhibits = Exhibits(result.models, train, test, **shown)
    note(f"report: {reports.write(run, result, exhibits, command=recorded['command'])}")


def _run_record(run: Path) -> dict[str, Any]:
    try:
        recorded: dict[str, Any] = json.loads((run / RUN).read_text(encoding="utf-8"))
        return {
            name: recorded[name] for name in ("command", "data", "limit", "point", "ends", "steps")
        }
    except FileNotFoundError:
        raise checks.StorageError(
            f"{run / RUN} is missing; give a folder that 'vaelab compare' wrote."
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise checks.StorageError(f"{run / RUN} is damaged: {error!r}.") from error
