"""Floor 13: what the commands share: loading, showing, saving, and telling."""

from __future__ import annotations

import math
import os
import shlex
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from vaelab import checks, ranks
from vaelab.cli.named import load_models
from vaelab.progress import QUIET

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vaelab.data import Shards
    from vaelab.estimator import VAE
    from vaelab.exhibits import Exhibits
    from vaelab.records import Callback, Dataset


def load_data(wanted: Mapping[str, Any], limit: int | None = None) -> tuple[Dataset, Dataset]:
    """The training and test data that keywords of `vaelab.data.load` name, with a progress bar."""
    from vaelab.data import load
    from vaelab.progress import Download

    train, test = load(**wanted, progress=Download())
    return train.limited(limit), test.limited(limit)


def load_shards(wanted: Mapping[str, Any], limit: int | None = None) -> tuple[Shards, Shards]:
    """The training and test shards of the data that keywords name."""
    from vaelab.data import shards
    from vaelab.data.sources import Options

    known = ("labels", "scale", "size", "fit")
    for name in wanted:
        if name not in ("name", "test_fraction", "seed", *known):
            raise checks.ArgumentError(
                f"--read {name}={wanted[name]}, but it means nothing for data in shards; leave it "
                "out."
            )
    if limit is not None:
        raise checks.ArgumentError(
            f"--limit {limit}, but data in shards are taken as they are; leave it out."
        )
    given = {name: wanted[name] for name in known if name in wanted}
    split = Options(**{k: wanted[k] for k in ("test_fraction", "seed") if k in wanted})
    return shards(wanted["name"], **given).split(split.test_fraction, split.seed)


def in_shards(wanted: Mapping[str, Any]) -> bool:
    """Whether keywords of `vaelab.data.load` name data that lie in shards."""
    from vaelab.data import names
    from vaelab.data.shards import meant

    return wanted["name"] not in names() and meant(wanted["name"])


def wanted(data: str | None, texts: Sequence[str], vae: VAE | None = None) -> dict[str, Any]:
    """Keywords of `vaelab.data.load` from the command line.

    Without `data`, or with the path of the same, those of a model's training data.
    """
    from vaelab.data.sources import Options

    given = dict(map(setting, texts))
    known = [option.name for option in fields(Options)]
    for name in given:
        checks.choice("--read", name, known)
    if isinstance(given.get("size"), str):
        given["size"] = _size(str(given["size"]))
    for name in ("labels", "column"):
        if name in given:
            given[name] = str(given[name])
    own: dict[str, Any] = {}
    if vae is not None:
        own = _known_data(vae, known)
    same = own and data is not None and str(Path(data).expanduser().resolve()) == own["name"]
    return {**own, **given} if data is None or same else {"name": data, **given}


def _known_data(vae: VAE, known: Sequence[str]) -> dict[str, Any]:
    """Keywords of `vaelab.data.load` that a model folder tells, which anyone may have written."""
    own = vae.data_.get("loaded") or {"name": vae.data_.get("name")}
    if (
        not isinstance(own, dict)
        or not set(own) <= {"name", *known}
        or not isinstance(own.get("name"), str)
    ):
        raise checks.StorageError(
            "config.json of the model is damaged: it does not tell its data; name them."
        )
    return dict(own)


def _size(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(side) for side in text.split(","))
    except ValueError:
        raise checks.ArgumentError(
            f"--read size={text}, but it must be a whole number, or height and width: size=64,48."
        ) from None


def called(data: str) -> str:
    """A short name of data, for the folder of what is made of them: `faces` for `../faces/`."""
    from vaelab.data import names, sources
    from vaelab.data.shards import called as called_shards

    if data in names():
        return data
    return called_shards(data) if "://" in data else sources.called(data)


def exhibits(
    models: Sequence[str],
    data: str | bool | None,
    read: Sequence[str] = (),
    *,
    codes_alone: bool = False,
    **shown: Any,
) -> Exhibits:
    """What is shown of models; `data` is a name, `None` for the first model's, `False` for none.

    With `codes_alone`, maps that ship with models take the place of data that are not at hand.
    """
    from vaelab import shipped
    from vaelab.exhibits import Exhibits

    loaded = load_models(models)
    without = Exhibits(loaded, **shown)  # refuses points before data are looked for
    if isinstance(data, bool):
        return without
    if codes_alone and data is None and not read:
        known = shipped.maps(vae.shipped_ for vae in loaded.values())
        if known is not None:
            latents = {name: one.codes.loc for name, one in zip(loaded, known, strict=True)}
            return Exhibits(loaded, known[0].train, known[0].test, latents=latents, **shown)
    train, test = load_data(wanted(data, read, next(iter(loaded.values()))))
    return Exhibits(loaded, train, test, **shown)


def without_data(models: Mapping[str, VAE]) -> bool:
    """Whether models are shown by the maps that ship with them, since their data are not here."""
    from vaelab import shipped

    return shipped.maps(vae.shipped_ for vae in models.values()) is not None


def deliver(
    figures: Mapping[str, Figure], save: Path | None, show: bool, *, quiet: bool = False
) -> None:
    """Saves figures, or shows them, or both; with neither asked for, saves them.

    Their paths are printed, on standard error if `quiet`.
    """
    from vaelab import plots

    if save is not None or not show:
        for name, figure in figures.items():
            path = plots.save(figure, (save or Path("figures")) / f"{name}.png")
            click.echo(path, err=quiet)
    if show:
        show_all(list(figures.values()))


def show_all(figures: Sequence[Figure]) -> None:
    """Opens figures in windows, and waits until they are closed."""
    from vaelab import plots

    plots.show(figures)


def both_ends(
    start: tuple[float, ...] | None, end: tuple[float, ...] | None
) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Both ends of an interpolation, or none; one alone is refused."""
    if start is None and end is None:
        return None
    if start is None or end is None:
        missing = "--start" if start is None else "--end"
        raise checks.ArgumentError(f"{missing} is missing; give both ends, or neither.")
    return start, end


def setting(text: str) -> tuple[str, Any]:
    """Reads `NAME=VALUE`: a number (whole ones without a point stay whole), true, false or text."""
    name, sign, value = text.partition("=")
    if not name or not sign or not value:
        raise checks.ArgumentError(f"--set {text}, but it must be NAME=VALUE, such as beta=2.")
    for read in (int, float, {"true": True, "false": False}.__getitem__):
        with suppress(ValueError, KeyError):
            return name, read(value)
    return name, value


def trained_with(options: Mapping[str, Any]) -> dict[str, Any]:
    """Keywords of `VAE` from the options of the command line that concern training."""
    named = ("latent_dim", "likelihood", "epochs", "batch_size", "learning_rate", "separation")
    groups: dict[str, dict[str, Any]] = {"training": {}, "objective": {}, "options": {}}
    for name, value in map(setting, options["texts"]):
        group, dot, rest = name.partition(".")
        if dot:
            groups[checks.choice("--set", group, ("training", "objective"))][rest] = value
        else:
            groups["options"][name] = value
    for name, value in (
        ("patience", options["patience"]),
        ("device", options["device"]),
        ("precision", options["precision"]),
        ("compile", options["compile_"]),
        ("binarize", options["binarize"]),
        ("steps", options["steps_in_all"]),
        ("minutes", options["minutes"]),
    ):
        if value is not None:
            groups["training"][name] = value
    return {**{name: options[name] for name in (*named, "seed")}, **groups}


def check_settings(vaes: Iterable[VAE]) -> None:
    """Refuses settings that suit no data, before any are looked for; images stand in for them."""
    import torch

    for vae in vaes:
        asked = (vae.options or {}).get("latent_dim", vae.latent_dim)
        side = max(28, math.isqrt(checks.integer("latent_dim", asked)) + 1)
        with torch.device("meta"):  # nothing is computed
            vae.resolved((1, side, side))


def progress(name: str, position: int, *, track: str | None, folder: Path) -> Callback:
    """The progress bar of what is trained into a folder, and a tracker if one was asked for."""
    from vaelab.progress import TrainingBar

    bar = TrainingBar(name, position)
    if track is None:
        return bar
    from vaelab import trackers

    return trackers.combined(bar, trackers.make(track, folder, name))


def sampled_labels(vae: VAE, label: str | None, count: int) -> object:
    """The label, or labels, of samples of a conditional model; `None` for any other.

    A class is called by its label or its name; without one, all classes are equally frequent.
    """
    import numpy as np

    if not vae.model_.classes:
        if label is not None:
            raise checks.ArgumentError(
                f"--label {label}, but recipe {vae.recipe_.name!r} takes no labels; leave it out."
            )
        return None
    if label is None:
        return np.sort(np.resize(vae.classes_, count))
    classes = vae.classes_.tolist()
    known = dict(zip(vae.data_["class_names"], classes, strict=True))
    known = {str(one): one for one in classes} | known
    return known[checks.choice("--label", label, known)]


def tell_anew(folder: Path, begun: Path) -> None:
    """Tells that a folder is to be resumed in which nothing was begun, as `begun` would show."""
    if not any(begun.parent.glob(begun.name)):
        note(f"nothing to resume in {folder}: starting anew")


def is_empty(folder: Path) -> bool:
    """Whether a folder holds nothing that was put there to be kept."""
    return folder.is_dir() and all(path.name == ".lock" for path in folder.iterdir())


@contextmanager
def resumable() -> Iterator[None]:
    """Whatever interrupts this is told with the command that goes on with it."""
    from vaelab.data.shards import ShardError

    try:
        yield
    except KeyboardInterrupt as error:
        told = error if isinstance(error, checks.Interrupted) else checks.Interrupted()
        raise checks.Interrupted(
            f"{told}; continue with: {command(resume=True)}", told.signal
        ) from error
    except ShardError as error:
        raise ShardError(f"{error} Continue with: {command(resume=True)}") from error


def command(*, resume: bool = False) -> str:
    """The command line that began this run, or the one that resumes it."""
    given: list[str] = list(click.get_current_context().find_root().obj)
    given = [word for word in given if word != "--resume"]
    if resume:
        given = [word for word in given if word != "--overwrite"] + ["--resume"]
    return "vaelab " + shlex.join(given)


def print_figures(name: str, figures: Mapping[str, Any]) -> None:
    """Prints the figures of one model as a table."""
    from vaelab.comparison import table

    click.echo(table({name: figures}))


def tell_likelihood(vae: VAE) -> None:
    """Tells which likelihood was taken, where it is not the one that the recipe has by itself."""
    from vaelab.recipes import RECIPES, build, own

    if vae.recipe_.name not in RECIPES:
        return
    if own(vae.recipe_) != own(build(vae.recipe_.name, vae.model_.shape)):
        note(f"note: {vae.recipe_.name}: likelihood is {vae.likelihood_}.")


def note(line: str) -> None:
    """Tells something on standard error, in a line, unless it is to be quiet."""
    if not os.environ.get(QUIET):
        click.echo(line, err=True)


def warn(message: Warning | str, *_: object, **__: object) -> None:
    """Stands in for `warnings.showwarning`: a warning is told in one line."""
    click.echo(f"note: {message}", err=True)


def hush() -> None:
    """From now on this process, one of several that train a model, tells nothing but errors."""
    os.environ[QUIET] = "1"
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    warnings.showwarning = lambda *_, **__: None


def fail(line: str, code: int) -> NoReturn:
    """Tells an error in one line and ends the process; of several, one on each machine tells."""
    if ranks.local_rank() == 0:
        click.echo("error: " + " ".join(line.split()), err=True)
    sys.exit(code)
