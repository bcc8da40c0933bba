"""Floor 13: the command line. Each command calls a public function; torch is loaded when needed."""

from __future__ import annotations

import errno
import json
import os
import shlex
import shutil
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

import vaelab
from vaelab import checks, files

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vaelab.estimator import VAE
    from vaelab.exhibits import Exhibits
    from vaelab.records import Dataset

__all__ = ["main"]

Command = TypeVar("Command", bound=Callable[..., Any])

RUN = "run.json"
FIGURES = ("latent", "reconstructions", "decode", "interpolation", "paths", "manifold", "history")


class _Numbers(click.ParamType[tuple[float, ...]]):
    """Numbers separated by commas, negative ones included: `-0.5,0.2`."""

    name = "numbers"

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> tuple[float, ...]:
        if not isinstance(value, str):
            return tuple(value)
        try:
            return tuple(float(part) for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not numbers separated by commas, such as 0.5,-0.2", param, ctx)


class _Names(click.ParamType[list[str]]):
    """Names separated by commas."""

    name = "names"

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> list[str]:
        if not isinstance(value, str):
            return list(value)
        return [name.strip() for name in value.split(",") if name.strip()]


NUMBERS, NAMES = _Numbers(), _Names()


class _Group(click.Group):
    """Commands in the order they are written, with a hint for a mistyped one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            checks.choice("command", args[0], [*self.commands])
        except checks.ArgumentError as error:
            if not args[0].startswith("-"):
                raise click.UsageError(str(error), ctx) from None
        return super().resolve_command(ctx, args)


def _options(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several options as one decorator, in the order they are shown."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


_training = _options(
    click.option("--latent-dim", type=int, default=2, show_default=True, help="Latent dimensions."),
    click.option("--epochs", type=int, help="Passes over the data. [default: by their number]"),
    click.option("--batch-size", type=int, help="Data a step. [default: by their number]"),
    click.option("--learning-rate", type=float, help="Adam's largest. [default: the recipe's]"),
    click.option("--seed", type=int, default=0, show_default=True, help="Of all that is random."),
    click.option("--limit", type=int, help="Use at most this many training and test data each."),
)
_figures = _options(
    click.option("--save", type=click.Path(path_type=Path), help="Folder for the figures."),
    click.option("--show", is_flag=True, help="Open the figures in a window."),
)
_data = click.option("--data", help="Data set. [default: the one the first model was trained on]")
_models = click.argument("models", nargs=-1, required=True, metavar="MODEL...")


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(vaelab.__version__, prog_name="vaelab")
def cli() -> None:
    """Train variational autoencoders side by side, look at them, and trust their numbers.

    DATA is the name of a data set ('vaelab datasets'); MODEL is a model folder. Lists and points
    are separated by commas, without spaces. All energies are in nats per datum.
    """


@cli.command()
@click.argument("data", default="mnist")
@click.option("--recipes", type=NAMES, default="vae,fixed-variance,conv", show_default=True)
@_training
@click.option("--jobs", type=int, help="Recipes trained side by side. [default: a core each]")
@click.option("--particles", type=int, default=64, show_default=True, help="Of log p(x).")
@click.option("--at", "point", type=NUMBERS, help="Latent point to decode. [default: 0.5,0.2]")
@click.option("--start", type=NUMBERS, help="Latent point to interpolate from.")
@click.option("--end", type=NUMBERS, help="Latent point to interpolate to.")
@click.option("--steps", type=int, default=11, show_default=True, help="Of the interpolation.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder. [default: runs/DATA]")
@click.option("--overwrite", is_flag=True, help="Replace the run that is in the folder.")
@click.option("--show", is_flag=True, help="Open the figures in a window.")
@click.option("--json", "as_json", is_flag=True, help="Print metrics.json instead of the table.")
def compare(data: str, out: Path | None, overwrite: bool, **options: Any) -> None:
    """Train recipes on the same data and write a report (the main job).

    \b
    Example:  vaelab compare mnist --recipes vae,conv --epochs 5 --out runs/first
    """
    folder = out or Path("runs") / data
    train, test = _load(data, options["limit"])
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
    _note(f"report: {page}")


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
    from vaelab.exhibits import Exhibits

    recipes = options["recipes"]
    jobs = options["jobs"] or min(len(recipes), comparison.cores())
    shown = {
        "point": options["point"],
        "ends": _ends(options["start"], options["end"]),
        "steps": checks.integer("steps", options["steps"], least=2),
    }
    for name in ("point", "start", "end"):  # refused now, not after training
        _check_length(name, options[name], options["latent_dim"])
    command = "vaelab " + shlex.join(sys.argv[1:])
    files.write_json(
        folder / RUN, {"command": command, "data": train.name, "limit": options["limit"], **shown}
    )
    names = ("latent_dim", "epochs", "batch_size", "learning_rate", "seed", "particles")
    result = comparison.compare(
        recipes,
        train,
        test,
        out=folder,
        jobs=jobs,
        progress=_bars(),
        **{name: options[name] for name in names},
    )
    click.echo(json.dumps(result.document(), indent=2) if options["as_json"] else str(result))
    exhibits = Exhibits(result.models, train, test, latents=result.latents, **shown)
    page = report.write(folder, result, exhibits, command=command)
    if options["show"]:
        _show(list(report.draw(exhibits).values()))
    return page


@cli.command()
@click.argument("recipe")
@click.argument("data", default="mnist")
@_training
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

    folder = out or Path("runs") / f"{data}-{recipe}"
    if folder.exists() and (folder.is_file() or any(folder.iterdir())):
        raise checks.StorageError(f"{folder} exists; choose another folder with --out.")
    given = dict(_setting(text) for text in settings)
    training_data, test = _load(data, limit)
    vae = VAE(recipe, options=given, callback=_bars()(recipe, 0), **options)
    vae.fit(training_data)
    figures = evaluate(vae, test, training_data)
    vae.save(folder, figures=figures)
    _print_figures(recipe, figures)
    _note(f"model: {folder}")


@cli.command()
@click.argument("model")
@click.argument("data", required=False)
@click.option("--particles", type=int, default=64, show_default=True, help="Of log p(x).")
@click.option("--limit", type=int, help="Use at most this many training and test data each.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def evaluate(
    model: str, data: str | None, particles: int, limit: int | None, as_json: bool
) -> None:
    """Print a model's figures on the test data, with standard errors.

    \b
    Example:  vaelab evaluate runs/mnist/vae --particles 500
    """
    from vaelab.comparison import evaluate as judge

    (name, vae), *_ = _load_models([model]).items()
    training_data, test = _load(data or vae.data_["name"], limit)
    figures = judge(vae, test, training_data, particles=particles)
    if as_json:
        click.echo(json.dumps(figures, indent=2))
    else:
        _print_figures(name, figures)


@cli.command()
@click.argument("model")
@click.argument("data")
@click.option("--out", type=click.Path(path_type=Path), required=True, help=".npz or .csv file.")
@click.option("--limit", type=int, help="Use at most this many training and test data each.")
def encode(model: str, data: str, out: Path, limit: int | None) -> None:
    """Write the latent means and scales of all data, training then test, to a file.

    \b
    Example:  vaelab encode runs/mnist/vae mnist --out mnist-codes.npz
    """
    from vaelab.encoding import write_codes

    ((_, vae),) = _load_models([model]).items()
    click.echo(write_codes(out, vae, _load(data, limit)))


@cli.command()
@_models
@click.option("--at", "point", type=NUMBERS, help="Latent point. [default: 0.5,0.2]")
@_figures
def decode(models: tuple[str, ...], point: tuple[float, ...] | None, **out: Any) -> None:
    """Decode a latent point, models side by side.

    \b
    Example:  vaelab decode runs/mnist/vae runs/mnist/conv --at -0.5,0.2 --save figures
    """
    _plot("decode", _exhibits(models, None, point=point), **out)


@cli.command()
@_models
@click.option("--start", type=NUMBERS, help="Latent point. [default: the mean of a test datum]")
@click.option("--end", type=NUMBERS, help="Latent point. [default: of one of another class]")
@click.option("--steps", type=int, default=11, show_default=True, help="Images in a row.")
@_data
@_figures
def interpolate(
    models: tuple[str, ...],
    start: tuple[float, ...] | None,
    end: tuple[float, ...] | None,
    steps: int,
    data: str | None,
    **out: Any,
) -> None:
    """Decode the path between two latent points, a row a model.

    \b
    Example:  vaelab interpolate runs/mnist/vae --start -1,0 --end 1.5,0.5 --steps 15
    """
    ends = _ends(start, end)
    named = data if ends is None or data is not None else False
    _plot("interpolation", _exhibits(models, named, ends=ends, steps=steps), **out)


@cli.command()
@click.argument("figure", type=click.Choice(FIGURES))
@_models
@click.option("--at", "point", type=NUMBERS, help="Latent point. [default: 0.5,0.2]")
@click.option("--start", type=NUMBERS, help="Latent point to interpolate from.")
@click.option("--end", type=NUMBERS, help="Latent point to interpolate to.")
@_data
@_figures
def plot(
    figure: str,
    models: tuple[str, ...],
    point: tuple[float, ...] | None,
    start: tuple[float, ...] | None,
    end: tuple[float, ...] | None,
    data: str | None,
    save: Path | None,
    show: bool,
) -> None:
    """Draw one figure, a column or row a model.

    \b
    Example:  vaelab plot latent runs/mnist/vae runs/mnist/conv --save figures
    """
    without = figure in ("decode", "manifold", "history")
    exhibits = _exhibits(models, False if without else data, point=point, ends=_ends(start, end))
    _plot(figure, exhibits, save=save, show=show)


@cli.command()
@click.argument("model")
@click.option("-n", "--count", type=int, default=64, show_default=True, help="How many.")
@click.option("--seed", type=int, default=0, show_default=True)
@_figures
def sample(model: str, count: int, seed: int, save: Path | None, show: bool) -> None:
    """Draw latent points from the prior and decode them.

    \b
    Example:  vaelab sample runs/mnist/vae -n 100 --seed 1 --save figures
    """
    from vaelab import plots

    ((_, vae),) = _load_models([model]).items()
    _deliver({"samples": plots.image_grid(vae.sample(count, seed=seed))}, save, show)


@cli.command()
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
    train, test = _load(recorded["data"], recorded["limit"])
    for part, key in ((train, "train_fingerprint"), (test, "test_fingerprint")):
        if part.fingerprint != result.dataset[key]:
            raise checks.DataError(
                f"{part.name}: the {part.split} data here are not those of {run} (SHA-256 "
                f"{part.fingerprint[:8]}…, not {result.dataset[key][:8]}…); set VAELAB_DATA."
            )
    shown = {name: recorded[name] for name in ("point", "ends", "steps")}
    exhibits = Exhibits(result.models, train, test, **shown)
    _note(f"report: {reports.write(run, result, exhibits, command=recorded['command'])}")


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


@cli.command()
@click.option("--p", "p", type=NUMBERS, required=True, metavar="MEAN,SCALE")
@click.option("--q", "q", type=NUMBERS, required=True, metavar="MEAN,SCALE")
@click.option("--draws", type=int, default=100_000, show_default=True, help="Of Monte Carlo.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of Monte Carlo.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@_figures
def kl(
    p: tuple[float, ...],
    q: tuple[float, ...],
    draws: int,
    seed: int,
    as_json: bool,
    save: Path | None,
    show: bool,
) -> None:
    """Print KL(N(mean, scale²) of p ‖ of q): closed form, quadrature and Monte Carlo, in nats.

    \b
    Example:  vaelab kl --p 0,1 --q 1,2
    """
    from vaelab.divergences import kl_normal, kl_normal_monte_carlo, kl_normal_quadrature

    for name, value in (("p", p), ("q", q)):
        if len(value) != 2:
            raise checks.ArgumentError(
                f"--{name} has {len(value)} numbers, but it must be MEAN,SCALE, such as 0,1."
            )
    closed = kl_normal(*p, *q)
    quadrature = kl_normal_quadrature(*p, *q)
    monte_carlo = kl_normal_monte_carlo(*p, *q, draws=draws, seed=seed)
    if as_json:
        document = {
            "p": {"mean": p[0], "scale": p[1]},
            "q": {"mean": q[0], "scale": q[1]},
            "closed_form": closed,
            "quadrature": quadrature.value,
            "quadrature_error": quadrature.error,
            "monte_carlo": monte_carlo.value,
            "monte_carlo_se": monte_carlo.error,
            "draws": draws,
            "seed": seed,
        }
        click.echo(json.dumps(document, indent=2))
    else:
        click.echo(f"KL(N({p[0]:g}, {p[1]:g}²) ‖ N({q[0]:g}, {q[1]:g}²)), in nats")
        click.echo(f"closed form   {closed:.10g}")
        click.echo(f"quadrature    {quadrature.value:.10g}  (error at most {quadrature.error:.1e})")
        click.echo(
            f"Monte Carlo   {monte_carlo.value:.10g}  (standard error {monte_carlo.error:.1e}, "
            f"{draws:,} draws, seed {seed})"
        )
    if save is not None or show:
        from vaelab import plots

        _deliver({"kl": plots.kl_densities((p[0], p[1]), (q[0], q[1]), kl=closed)}, save, show)


@cli.command(name="recipes")
def list_recipes() -> None:
    """List the recipes and their options."""
    from vaelab.recipes import RECIPES, options

    for name, recipe in RECIPES.items():
        summary = (recipe.__doc__ or "").strip().splitlines()[0]
        settings = ", ".join(f"{key}={value:g}" for key, value in options(name).items())
        click.echo(f"{name:<16}{summary}\n{'':<16}options: {settings}")


@cli.command(name="datasets")
def list_datasets() -> None:
    """List the data sets, and where each would be read from."""
    from vaelab.data import describe

    for row in describe():
        shape = " × ".join(str(size) for size in row.shape)
        click.echo(
            f"{row.name:<16}{row.train:,} + {row.test:,} of {shape}, {row.licence}, "
            f"from {row.place}"
        )


def _load(data: str, limit: int | None) -> tuple[Dataset, Dataset]:
    from vaelab.data import load
    from vaelab.progress import Download

    train, test = load(data, progress=Download())
    return train.limited(limit), test.limited(limit)


def _load_models(folders: Sequence[str]) -> dict[str, VAE]:
    """Models by the folder's name, or by its path where two have the same name."""
    from vaelab.estimator import load

    names = [Path(folder).resolve().name for folder in folders]
    unique = len(set(names)) == len(names)
    named = dict(zip(names if unique else folders, folders, strict=True))
    if len(named) < len(folders):
        raise checks.ArgumentError(f"models = {', '.join(folders)}, but each can be given once.")
    return {name: load(folder) for name, folder in named.items()}


def _exhibits(models: Sequence[str], data: str | bool | None, **shown: Any) -> Exhibits:
    """What is shown of models; `data` is a name, `None` for the first model's, `False` for none."""
    from vaelab.exhibits import Exhibits

    loaded = _load_models(models)
    if data is False:
        return Exhibits(loaded, **shown)
    first = next(iter(loaded.values()))
    train, test = _load(str(data or first.data_["name"]), None)
    return Exhibits(loaded, train, test, **shown)


def _plot(name: str, exhibits: Exhibits, *, save: Path | None, show: bool) -> None:
    from vaelab import report

    _deliver({name: report.FIGURES[name](exhibits)}, save, show)


def _deliver(figures: Mapping[str, Figure], save: Path | None, show: bool) -> None:
    """Saves figures, or shows them, or both; with neither asked for, saves them."""
    from vaelab import plots

    if save is not None or not show:
        for name, figure in figures.items():
            click.echo(plots.save(figure, (save or Path("figures")) / f"{name}.png"))
    if show:
        _show(list(figures.values()))


def _show(figures: Sequence[Figure]) -> None:
    from vaelab import plots

    plots.show(figures)


def _ends(
    start: tuple[float, ...] | None, end: tuple[float, ...] | None
) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    if start is None and end is None:
        return None
    if start is None or end is None:
        missing = "--start" if start is None else "--end"
        raise checks.ArgumentError(f"{missing} is missing; give both ends, or neither.")
    return start, end


def _check_length(name: str, point: tuple[float, ...] | None, latent_dim: int) -> None:
    if point is not None and len(point) != latent_dim:
        raise checks.ArgumentError(
            f"{name} has {len(point)} coordinates, but there are {latent_dim} latent dimensions; "
            f"give {latent_dim} numbers."
        )


def _setting(text: str) -> tuple[str, float]:
    name, equals, value = text.partition("=")
    try:
        if equals:
            number = float(value)
            return name, int(number) if number.is_integer() and "." not in value else number
    except ValueError:
        pass
    raise checks.ArgumentError(f"--set {text}, but it must be NAME=NUMBER, such as beta=2.")


def _bars() -> Callable[[str, int], Any]:
    from vaelab.progress import TrainingBar

    return TrainingBar


def _print_figures(name: str, figures: Mapping[str, Any]) -> None:
    from vaelab.comparison import table

    click.echo(table({name: figures}))


def _note(line: str) -> None:
    click.echo(line, err=True)


def _warn(message: Warning | str, *_: object, **__: object) -> None:
    _note(f"note: {message}")


def _fail(line: str, code: int) -> NoReturn:
    _note("error: " + " ".join(line.split()))
    sys.exit(code)


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line; ends the process with 0, 1, 2 or 130."""
    warnings.showwarning = _warn  # this process is ours: a warning is told in one line
    try:
        code = cli.main(args=list(args) if args is not None else None, standalone_mode=False)
    except click.exceptions.Abort:
        _fail("interrupted.", 130)
    except click.ClickException as error:
        _fail(error.format_message(), error.exit_code)
    except checks.VaelabError as error:
        _fail(str(error), 1)
    except MemoryError:
        _fail("out of memory; use fewer data (--limit) or smaller batches (--batch-size).", 1)
    except OSError as error:
        if error.errno == errno.EPIPE:  # the reader of our output has left
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{error.strerror or error}.", 1)
    sys.exit(code if isinstance(code, int) else 0)
