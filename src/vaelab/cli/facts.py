"""Floor 13: the commands that tell what there is, and kl: recipes, models, datasets."""

from __future__ import annotations

import json
from pathlib import Path

import click

from vaelab import checks
from vaelab.cli import completion
from vaelab.cli.group import json_option, more_figure_options, numbers
from vaelab.cli.shared import deliver, note


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
@click.argument("folder", default=".", type=click.Path(), shell_complete=completion.runs)
def list_models(folder: str) -> None:
    """List the models below a folder, with their test ELBO.

    \b
    Example:  vaelab models runs
    """
    from vaelab.storage import load

    if not Path(folder).is_dir():
        raise checks.ArgumentError(f"folder = {folder}, but there is no such folder; name another.")
    found = list(completion.folders(folder))
    for path in found:
        try:
            saved = load(path)
        except checks.StorageError as error:
            note(f"note: {error}")
            continue
        figures = saved.figures
        elbo = f", ELBO {figures['elbo']:.2f} nats" if "elbo" in figures else ""
        click.echo(
            f"{path}: {saved.recipe}, {saved.model.latent_dim} latent dimensions, "
            f"{saved.data['name']}{elbo}"
        )
    if not found:
        note(f"no models in {folder}; 'vaelab train' and 'vaelab compare' make some.")


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
            f"{row.name:<16}{row.train:,} + {row.test:,} of {shape}, {row.licence}, "
            f"from {row.place}"
        )
    kept = data.converted()
    for one in kept:
        click.echo(f"{_bytes(one.size):<16}converted from {one.source}")
    if kept:
        note("'vaelab datasets --clean' removes what was converted; your own files stay.")


def _bytes(count: int) -> str:
    """A number of bytes in words: `"1.5 MB"`."""
    size, unit = float(count), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"
