"""Floor 13: the commands that train and report: compare, train, report."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vaelab import checks, cluster, files, machine, ranks
from vaelab.cli import completion
from vaelab.cli.config import write_config
from vaelab.cli.group import ends_options, engine_option, names, point_option, training_options
from vaelab.cli.shared import (
    both_ends,
    called,
    check_settings,
    command,
    in_shards,
    is_empty,
    load_data,
    load_shards,
    note,
    print_figures,
    progress,
    resumable,
    show_all,
    tell_anew,
    tell_likelihood,
    trained_with,
    wanted,
)

if TYPE_CHECKING:
    from vaelab.data import Shards
    from vaelab.estimator import VAE
    from vaelab.records import Callback, Dataset

RUN, METRICS = completion.RUN
RECORDED = (
    *("recipes", "settings", "jobs", "particles", "point", "ends", "steps"),
    *("command", "data", "loaded", "limit"),
)
"""What `run.json` tells."""


@click.command()
@click.argument("data", default="mnist", shell_complete=completion.data)
@click.option(
    "--recipes",
    callback=names,
    default="vae,fixed-variance,conv",
    show_default=True,
    shell_complete=completion.recipes,
    help="Which to train.",
)
@training_options
@click.option("--seeds", type=int, default=1, show_default=True, help="Trainings of each recipe.")
@click.option("--jobs", type=int, help="Recipes trained side by side.  [default: a core each]")
@engine_option
@click.option(
    "--particles", type=int, default=64, show_default=True, help="Draws of z a datum, for log p(x)."
)
@point_option
@ends_options
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder to write.  [default: runs/DATA]"
)
@click.option("--overwrite", is_flag=True, help="Replace the run that is in the folder.")
@click.option("--show", is_flag=True, help="Open the figures in a window.")
@click.option("--json", "as_json", is_flag=True, help="Print metrics.json instead of the table.")
def compare(data: str, out: Path | None, overwrite: bool, **options: Any) -> None:
    """Train recipes on the same data, and write a report.

    With --engine ray, each recipe and seed is a task of a Ray cluster, whose machines must all see
    the folder.

    \b
    Example:  vaelab compare mnist --recipes vae,conv --epochs 5 --out runs/first
    """
    if ranks.launched():
        raise checks.ArgumentError(
            "compare runs recipes side by side; start it without torchrun, or start train with it."
        )
    from vaelab import comparison
    from vaelab.checkpoints import locked

    cluster.check(options["engine"])
    folder = out or Path("runs") / called(data)
    plan = _plan(options)
    check_settings(comparison.estimators(plan["recipes"], **plan["settings"]).values())
    _check_room(folder, overwrite=overwrite, resume=options["resume"])
    train, test = load_data(wanted(data, options["read"]), options["limit"])
    _check(train, test, plan)
    data_record = {"data": train.name, "loaded": dict(train.loaded), "limit": options["limit"]}
    record = plan | {"command": command(), **data_record}
    if options["resume"]:
        tell_anew(folder, folder / RUN)
        _check_same(folder, record)
    missing = files.missing_parents(folder)
    aside = _make_room(folder, resume=options["resume"])
    with locked(folder):
        try:
            with resumable():
                files.write_json(folder / RUN, record)
                write_config(folder)
                page = _compare(folder, train, test, options, plan)
        except BaseException:
            _put_back(aside, folder, new=not options["resume"])
            files.remove_empty(missing)
            raise
    shutil.rmtree(aside, ignore_errors=True)
    note(f"report: {page}")


def _put_back(aside: Path, folder: Path, *, new: bool) -> None:
    """After a failure: the old run, unless there is work in the new one that can be resumed."""
    worked = next(folder.glob("*/*/step-*"), None) is not None
    if not worked and (new or aside.exists()):
        shutil.rmtree(folder, ignore_errors=True)
    if not aside.exists():
        return
    if not worked:
        aside.rename(folder)
    else:
        note(f"note: the run that was in {folder} stays in {aside} until this one is finished.")


def _plan(options: Mapping[str, Any]) -> dict[str, Any]:
    """What is to be trained and shown, as plain values; what is not allowed is refused."""
    recipes, jobs, seeds = options["recipes"], options["jobs"], options["seeds"]
    checks.integer("seeds", seeds)
    if jobs is None:
        jobs = max(1, min(len(recipes) * seeds, machine.cores()))
    given = trained_with(options)
    if given.pop("options"):
        raise checks.ArgumentError(
            "--set NAME=VALUE is an option of one recipe, for 'vaelab train'; here it can be "
            "training.NAME=VALUE or objective.NAME=VALUE."
        )
    return {
        "recipes": recipes,
        "settings": given | ({"seeds": seeds} if seeds > 1 else {}),
        "jobs": checks.integer("jobs", jobs),
        "particles": checks.integer("particles", options["particles"]),
        "point": options["point"],
        "ends": both_ends(options["start"], options["end"]),
        "steps": checks.integer("steps", options["steps"], least=2),
    }


def _check(train: Dataset, test: Dataset, plan: Mapping[str, Any]) -> None:
    """Refuses now, not after training, what cannot be made or shown."""
    from vaelab import comparison
    from vaelab.exhibits import check_point

    settings = plan["settings"]
    ends = plan["ends"] or (None, None)
    for name, point in zip(("point", "start", "end"), (plan["point"], *ends), strict=True):
        if point is not None:
            check_point(name, point, settings["latent_dim"], "there are")
    comparison.plan(plan["recipes"], train, test, **settings)


def _check_same(folder: Path, record: Mapping[str, Any]) -> None:
    """Refuses to resume a run with other recipes, data or settings; more epochs are allowed."""
    from vaelab.training import difference

    if not (folder / RUN).is_file():
        return
    there = _run_record(folder)
    shown = ("command", "point", "ends", "steps", "jobs", "loaded")
    was, now = ({k: v for k, v in r.items() if k not in shown} for r in (there, record))
    epochs = {"epochs": was["settings"].get("epochs")}  # each recipe's are checked by training
    found = difference(was, {**now, "settings": now["settings"] | epochs})
    if found is not None:
        raise checks.StorageError(
            f"{folder} holds a run with other settings: {found}; resume it with those it was begun "
            "with, or choose another folder with --out."
        )


def _check_room(folder: Path, *, overwrite: bool, resume: bool) -> None:
    """Refuses a folder that holds something that is not to be resumed or replaced."""
    if not folder.exists() or is_empty(folder):
        return
    if not (folder / RUN).is_file():
        raise checks.StorageError(
            f"{folder} exists and is no run of vaelab; choose another folder with --out."
        )
    if not (resume or overwrite):
        raise checks.StorageError(
            f"{folder} holds another run; continue it with --resume, replace it with --overwrite, "
            "or choose another folder with --out."
        )


def _make_room(folder: Path, *, resume: bool) -> Path:
    """Moves an old run aside that is not to be resumed; returns where to."""
    from vaelab.checkpoints import locked

    aside = folder.with_name(f".{folder.name}.old")
    if resume or not folder.exists() or is_empty(folder):
        return aside
    with locked(folder):  # refuses the folder of a run that goes on
        pass
    if not aside.exists():
        folder.rename(aside)
    elif (folder / METRICS).exists():  # a finished run; what is aside is older
        shutil.rmtree(aside)
        folder.rename(aside)
    else:  # a run that was begun to replace what is aside
        shutil.rmtree(folder)
    return aside


def _compare(
    folder: Path,
    train: Dataset,
    test: Dataset,
    options: Mapping[str, Any],
    plan: Mapping[str, Any],
) -> Path:
    from vaelab import comparison, report
    from vaelab.exhibits import Exhibits

    track = options["track"]

    def heard(name: str, position: int) -> Callback:
        return progress(name, position, track=track, folder=folder / name)

    result = comparison.compare(
        plan["recipes"],
        train,
        test,
        out=folder,
        jobs=plan["jobs"],
        engine=options["engine"],
        particles=plan["particles"],
        progress=heard,
        resume=options["resume"],
        checkpoint_seconds=options["checkpoint_seconds"],
        **plan["settings"],
    )
    for vae in result.models.values():
        tell_likelihood(vae)
    click.echo(json.dumps(result.document(), indent=2) if options["as_json"] else str(result))
    shown = {name: plan[name] for name in ("point", "ends", "steps")}
    exhibits = Exhibits(result.models, train, test, latents=result.latents, **shown)
    figures = report.draw(exhibits, result)
    page = report.write(folder, result, exhibits, command=command(), figures=figures)
    if options["show"]:
        show_all(list(figures.values()))
    return page


@click.command()
@click.argument("recipe", shell_complete=completion.recipes)
@click.argument("data", default="mnist", shell_complete=completion.data)
@training_options
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder to write.  [default: runs/DATA-RECIPE]"
)
def train(recipe: str, data: str, out: Path | None, **options: Any) -> None:
    """Train one model and write its folder.

    DATA may be a folder or address of shards: .npy or Parquet files, or folders of pictures.
    Started by torchrun, several processes train it together.

    \b
    Example:  vaelab train beta mnist --set beta=2 --epochs 5 --out runs/beta2
    """
    from vaelab.comparison import evaluate

    folder = out or Path("runs") / f"{called(data)}-{recipe}"
    with ranks.joined(options["device"]) as place:
        vae, training_data, test = _trained(recipe, data, folder, options, place)
    if place.rank > 0:
        return
    with resumable():
        figures = evaluate(vae, test, training_data)
        vae.save(folder, figures=figures)
        write_config(folder)
    tell_likelihood(vae)
    print_figures(recipe, figures)
    note(f"model: {folder}")


def _trained(
    recipe: str, data: str, folder: Path, options: Mapping[str, Any], place: ranks.Ranks
) -> tuple[VAE, Dataset, Dataset]:
    """The model, trained by all processes, and its data."""
    from vaelab.comparison import check
    from vaelab.data.shards import Shards
    from vaelab.estimator import VAE
    from vaelab.records import Checkpoints
    from vaelab.storage import CHECKPOINTS
    from vaelab.streaming import sampled

    read = wanted(data, options["read"])
    train: Dataset | Shards
    resume = place.any(options["resume"] or ranks.restarted())
    place.agreed(lambda: _refuse_used(folder, resume=resume))
    given = trained_with(options)
    check_settings([VAE(recipe, **given)])
    for turn in (True, False):  # one process a machine downloads and converts; the others wait
        if turn == (ranks.local_rank() == 0):
            train, test = _opened(read, options["limit"])
        place.any(False)
    if options["resume"] and place.rank == 0:
        tell_anew(folder, folder / CHECKPOINTS / "step-*")
    state = Checkpoints(folder / CHECKPOINTS, options["checkpoint_seconds"], resume)
    callback = None
    if place.rank == 0:
        callback = progress(recipe, 0, track=options["track"], folder=folder)
    vae = VAE(recipe, checkpoints=state, callback=callback, **given)
    if not isinstance(train, Shards):  # what cannot be made or written is refused before training
        check(vae, train, test)
    place.agreed(lambda: files.check_writable(folder))
    with resumable():
        vae.fit(train)
        return vae, sampled(train) if isinstance(train, Shards) else train, test


def _opened(
    read: Mapping[str, Any], limit: int | None
) -> tuple[Dataset, Dataset] | tuple[Shards, Dataset]:
    """Training data, in memory or in shards, and data in memory to judge the model on."""
    if not in_shards(read):
        return load_data(read, limit)
    from vaelab.streaming import sampled

    train, test = load_shards(read, limit)
    return train, sampled(test, "test")


def _refuse_used(folder: Path, *, resume: bool) -> None:
    """Refuses a folder that holds something, unless it is a run that is to be resumed."""
    from vaelab.storage import CHECKPOINTS, may_become_model

    if not folder.exists() or is_empty(folder):
        return
    if resume and may_become_model(folder):
        return
    way = "choose another folder with --out."
    if (folder / CHECKPOINTS).is_dir():
        raise checks.StorageError(
            f"{folder} holds another run; continue it with --resume, or {way}"
        )
    raise checks.StorageError(f"{folder} exists; {way}")


@click.command()
@click.argument("run", type=click.Path(path_type=Path), shell_complete=completion.runs)
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
    train, test = load_data(recorded["loaded"] or {"name": recorded["data"]}, recorded["limit"])
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
        recorded.setdefault("loaded", {})  # runs of older versions are of data with names
        return {name: recorded[name] for name in RECORDED}
    except FileNotFoundError:
        raise checks.StorageError(
            f"{run / RUN} is missing; give a folder that 'vaelab compare' wrote."
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise checks.StorageError(f"{run / RUN} is damaged: {error!r}.") from error
