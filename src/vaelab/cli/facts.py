"""Floor 13: the commands that tell what there is, and kl: recipes, models, datasets."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vaelab import checks
from vaelab.cli import completion
from vaelab.cli.group import json_option, more_figure_options, numbers
from vaelab.cli.shared import deliver, note

if TYPE_CHECKING:
    from vaelab.data import Listing


@click.command()
@click.option(
    "--p",
    "p",
    callback=numbers,
    required=True,
    metavar="MEAN,SCALE",
    help="Mean and standard deviation.",
)
@click.option("--q", "q", callback=numbers, required=True, metavar="MEAN,SCALE", help="Likewise.")
@click.option("--draws", type=int, default=100_000, show_default=True, help="Draws of Monte Carlo.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of these draws.")
@json_option
@more_figure_options
def kl(
    p: tuple[float, ...],
    q: tuple[float, ...],
    draws: int,
    seed: int,
    as_json: bool,
    save: Path | None,
    show: bool,
) -> None:
    """Print the KL divergence of two Gaussians.

    KL(p ‖ q) in nats, by the closed form, by quadrature and by Monte Carlo.

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

        deliver({"kl": plots.kl_densities((p[0], p[1]), (q[0], q[1]), kl=closed)}, save, show)


@click.command(name="recipes")
def list_recipes() -> None:
    """List the recipes and their options.

    \b
    Example:  vaelab recipes
    """
    from vaelab.recipes import RECIPES, options

    for name, recipe in RECIPES.items():
        summary = (recipe.__doc__ or "").strip().splitlines()[0]
        settings = ", ".join(f"{key}={value:g}" for key, value in options(name).items())
        click.echo(f"{name:<16}{summary}\n{'':<16}options: {settings}")


@click.command(name="models")
@click.argument("what", required=False, metavar="[NAME|FOLDER]", shell_complete=completion.cards)
@json_option
def list_models(what: str | None, as_json: bool) -> None:
    """List the models that ship, and those below a folder.

    With the name of a model that ships, print its card; with a folder, list the models below it
    alone. Figures are of test data, with standard errors; --json has more of them.

    \b
    Example:  vaelab models mnist-vae
    """
    from vaelab import shipped

    if what in shipped.names():
        click.echo(_json(shipped.facts(what)) if as_json else shipped.card(what), nl=as_json)
        return
    if what is not None and not Path(what).is_dir():
        known = checks.unknown("it", what, shipped.names())
        raise checks.ArgumentError(f"{what} is neither a folder nor a model that ships: {known}")
    rows = [] if what is not None else list(map(_shipped_row, shipped.names()))
    for path in completion.folders(what or "."):
        try:
            rows.append(_found_row(path))
        except checks.StorageError as error:
            note(f"note: {error}")
    if as_json:
        click.echo(_json(rows))
        return
    if rows:
        click.echo(_table(rows))
    else:
        note(f"no models in {what or '.'}; 'vaelab train' and 'vaelab compare' make some.")


def _json(document: object) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False)


KEPT = ("elbo", "log_likelihood", "knn_accuracy")
"""Figures that a list of models shows, each with its standard error."""


def _shipped_row(name: str) -> dict[str, Any]:
    """A model that ships, in plain values."""
    from vaelab.shipped import facts

    known = facts(name)
    about = {"name": name, "recipe": known["recipe"], "data": known["data"]["name"]}
    latent_dim = len(known["figures"]["kl_per_dimension"])
    return {**about, "latent_dim": latent_dim, **_kept(known["figures"]), "bytes": known["bytes"]}


def _found_row(path: str) -> dict[str, Any]:
    """A model of the person's own, in plain values."""
    from vaelab.storage import load

    saved = load(path)
    about = {"name": path, "recipe": saved.recipe, "data": saved.data["name"]}
    size = sum(part.stat().st_size for part in Path(path).iterdir() if part.is_file())
    latent_dim = saved.model.latent_dim
    return {**about, "latent_dim": latent_dim, **_kept(saved.figures), "bytes": size}


def _kept(figures: Mapping[str, Any]) -> dict[str, Any]:
    names = [name for kept in KEPT for name in (kept, f"{kept}_se")]
    return {name: figures[name] for name in names if figures.get(name) is not None}


COLUMNS = ("name", "data", "recipe", "ELBO in nats", "kNN", "size")


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The list, a line a model below the names of columns; figures stand to the right."""
    lines = [COLUMNS, *map(_told, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            text.ljust(width) if place < 3 else text.rjust(width)
            for place, (text, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def _told(row: Mapping[str, Any]) -> tuple[str, ...]:
    """A row of the list in words."""
    texts = [row["name"], row["data"], row["recipe"]]
    for name, digits in (("elbo", 2), ("knn_accuracy", 3)):
        value, error = row.get(name), row.get(f"{name}_se")
        told = "" if value is None else f"{value:.{digits}f}"
        texts.append(told if error is None else f"{told} ± {error:.{digits}f}")
    return (*map(str, texts), _bytes(row["bytes"]))


@click.command(name="datasets")
@click.option("--clean", is_flag=True, help="Remove what was converted of your own data.")
def list_datasets(clean: bool) -> None:
    """List the data sets and where they are.

    Folders of images and Hugging Face data sets of yours are converted once, into a cache; it is
    told how much that takes, and --clean removes it. Your files and downloads stay.

    \b
    Example:  vaelab datasets --clean
    """
    from vaelab import data

    if clean:
        removed = data.clean()
        for one in removed:
            click.echo(f"removed {_bytes(one.size)} converted from {one.source}")
        click.echo(f"{_bytes(sum(one.size for one in removed))} are free again.")
        return
    for row in data.describe():
        shape = " × ".join(str(size) for size in row.shape)
        click.echo(
            f"{row.name:<16}{row.train:,} + {row.test:,} of {shape}, {row.licence}, {_where(row)}"
        )
    kept = data.converted()
    for one in kept:
        click.echo(f"{_bytes(one.size):<16}converted from {one.source}")
    if kept:
        note("'vaelab datasets --clean' removes what was converted; your own files stay.")


def _where(row: Listing) -> str:
    """Where a data set is, or how it can be had."""
    if row.place == "nowhere":
        return f"not here; put its files in {row.path}"
    if row.place == "download":
        return "not here; would be downloaded" + (f" (offline: {row.offline})" * bool(row.offline))
    return f"from {row.place}"


def _bytes(count: int) -> str:
    """A number of bytes in words: `"1.5 MB"`."""
    size, unit = float(count), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"
