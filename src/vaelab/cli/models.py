"""Floor 13: the commands that use trained models."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from vaelab import checks
from vaelab.cli import completion, values
from vaelab.cli.group import (
    Choice,
    data_option,
    ends_options,
    engine_option,
    figure_options,
    json_option,
    limit_option,
    model_argument,
    models_argument,
    more_figure_options,
    point_option,
    quiet_option,
    read_option,
)
from vaelab.cli.named import is_comparison, load_model, located
from vaelab.cli.shared import (
    both_ends,
    command,
    deliver,
    exhibits,
    in_shards,
    load_data,
    load_shards,
    sampled_labels,
    wanted,
)
from vaelab.records import BINARIZE

FIGURES = ("latent", "reconstructions", "decode", "interpolation", "paths", "manifold", "history")
WITHOUT_DATA = ("decode", "manifold", "history")


@click.command()
@model_argument
@click.argument("data", required=False, shell_complete=completion.data)
@click.option(
    "--particles", type=int, default=64, show_default=True, help="Draws of z a datum, for log p(x)."
)
@click.option("--on", type=int, default=2000, show_default=True, help="Test data for log p(x).")
@click.option(
    "--samples",
    type=int,
    default=5000,
    show_default=True,
    help="Samples that are judged; 0 for none.",
)
@click.option(
    "--annealed",
    type=int,
    default=0,
    show_default=True,
    help="Test data to check log p(x) on; 0 for none.",
)
@click.option("--fid", is_flag=True, help="Judge samples by FID too (needs 'vaelab[fid]').")
@click.option("--seed", type=int, default=0, show_default=True, help="Of all draws.")
@click.option(
    "--binarize",
    type=Choice(BINARIZE),
    help="Judge on bits.  [default: what it was trained on]",
)
@limit_option
@json_option
@read_option
@quiet_option
@more_figure_options
def evaluate(
    model: str,
    data: str | None,
    on: int,
    read: tuple[str, ...],
    limit: int | None,
    as_json: bool,
    save: Path | None,
    show: bool,
    **options: Any,
) -> None:
    """Print the figures of a model on test data, and draw them.

    \b
    Example:  vaelab evaluate runs/mnist/vae --particles 500 --save figures
    """
    from vaelab.comparison import details
    from vaelab.comparison import evaluate as judge
    from vaelab.plots import scores
    from vaelab.progress import Counter

    most = checks.integer("on", on)
    checks.integer("particles", options["particles"])
    name, vae = load_model(model)
    training_data, test = load_data(wanted(data, read, vae), limit)
    progress = Counter("log p(x)")
    figures = judge(vae, test, training_data, most=most, progress=progress, **options)
    click.echo(json.dumps(figures, indent=2) if as_json else details(figures))
    if save is not None or show:
        deliver({"scores": scores({name: figures})}, save, show, quiet=as_json)


@click.command()
@model_argument
@click.argument("data", shell_complete=completion.data)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="File: .npz, .csv or .parquet; or a folder, for data in shards.",
)
@engine_option
@click.option("--workers", type=int, help="Shards encoded at once.  [default: a core each]")
@click.option(
    "--device",
    type=Choice(("auto", "cpu", "cuda")),
    default="auto",
    show_default=True,
    help="Where to encode shards.",
)
@limit_option
@read_option
@quiet_option
def encode(
    model: str, data: str, out: Path, limit: int | None, read: tuple[str, ...], **spread: Any
) -> None:
    """Write the latent means and scales of data to a file.

    With a folder as --out, DATA are shards: a folder, or an address such as s3://bucket/faces, of
    .npy or .parquet files, or of folders of pictures. Each becomes a Parquet file, with ELBO, rate
    and distortion too; the same command goes on where it was interrupted. With --engine ray, all
    machines must see MODEL, DATA and --out.

    \b
    Example:  vaelab encode runs/mnist/vae mnist --out mnist-codes.npz
    """
    if not out.suffix or out.is_dir():
        _encode_shards(model, data, out, limit, read, **spread)
        return
    from vaelab.encoding import check_out, write_codes

    check_out(out)
    for name, usual in (("engine", "local"), ("workers", None), ("device", "auto")):
        if spread[name] != usual:
            raise checks.ArgumentError(
                f"--{name} {spread[name]} is for data in shards, but --out {out} is a file; give a "
                "folder, a name without an ending."
            )
    _, vae = load_model(model)
    asked = wanted(data, read, vae)
    load = load_shards if in_shards(asked) else load_data
    click.echo(write_codes(out, vae, load(asked, limit)))


def _encode_shards(
    model: str, data: str, out: Path, limit: int | None, read: tuple[str, ...], **spread: Any
) -> None:
    from vaelab import shipped
    from vaelab.data import shards
    from vaelab.encoding import write_shards
    from vaelab.progress import Counter

    if limit is not None:
        raise checks.ArgumentError(
            f"--limit {limit} is for data that are read whole; give a pattern of the shards, such "
            "as 'faces/train-*.parquet'."
        )
    given = wanted(data, read)
    location = given.pop("name")
    for name in given:
        checks.choice("--read", name, ("scale", "size", "fit"))
    try:
        click.echo(
            write_shards(
                out,
                shipped.located(located(model)),
                shards(location, **given),
                progress=Counter("codes"),
                **spread,
            )
        )
    except KeyboardInterrupt as error:
        raise checks.Interrupted(
            f"interrupted; what was encoded is kept; continue with: {command()}"
        ) from error


@click.command()
@model_argument
@click.option("--onnx", type=click.Path(path_type=Path), required=True, help="Folder to write to.")
def export(model: str, onnx: Path) -> None:
    """Write encoder and decoder as ONNX files.

    \b
    Example:  vaelab export runs/mnist/vae --onnx exported
    """
    from vaelab.export import export_onnx

    _, vae = load_model(model)
    for path in export_onnx(vae, onnx):
        click.echo(path)


@click.command()
@models_argument
@point_option
@figure_options
def decode(models: tuple[str, ...], point: tuple[float, ...] | None, **out: Any) -> None:
    """Decode a latent point, models side by side.

    Rows of a table are printed as CSV, in the units of the data; images are drawn.

    \b
    Example:  vaelab decode runs/mnist/vae runs/mnist/conv --at -0.5,0.2
    """
    _draw("decode", models, None, point=point, printed=True, **out)


@click.command()
@models_argument
@ends_options
@data_option
@figure_options
def interpolate(
    models: tuple[str, ...],
    start: tuple[float, ...] | None,
    end: tuple[float, ...] | None,
    steps: int,
    data: str | None,
    read: tuple[str, ...],
    **out: Any,
) -> None:
    """Decode the path between two latent points, a row a model.

    Rows of a table are printed as CSV, as by 'decode'.

    \b
    Example:  vaelab interpolate runs/mnist/vae --start -1,0 --end 1.5,0.5
    """
    shown: dict[str, Any] = {"ends": both_ends(start, end), "steps": steps}
    _draw("interpolation", models, data, read, printed=True, **shown, **out)


@click.command()
@click.argument("figure", type=Choice(FIGURES), metavar="FIGURE")
@models_argument
@point_option
@ends_options
@data_option
@figure_options
def plot(
    figure: str,
    models: tuple[str, ...],
    point: tuple[float, ...] | None,
    start: tuple[float, ...] | None,
    end: tuple[float, ...] | None,
    steps: int,
    data: str | None,
    read: tuple[str, ...],
    save: Path | None,
    show: bool,
) -> None:
    """Draw one figure, a column or row a model.

    FIGURE is latent, reconstructions, decode, interpolation, paths, manifold or history.

    \b
    Example:  vaelab plot latent runs/mnist/vae runs/mnist/conv --save figures
    """
    ends = both_ends(start, end)
    _draw(figure, models, data, read, point=point, ends=ends, steps=steps, save=save, show=show)


def _draw(
    figure: str,
    models: Sequence[str],
    data: str | None,
    read: Sequence[str] = (),
    *,
    save: Path | None,
    show: bool,
    printed: bool = False,
    **shown: Any,
) -> None:
    """Draws one of the report's figures; data are read only where it shows some.

    What models decode to is instead `printed`, if that is asked for and it is no images.
    """
    between_points = figure == "interpolation" and shown["ends"] is not None and data is None
    needless = figure in WITHOUT_DATA or between_points
    on_map = figure == "latent" or (figure == "paths" and shown["ends"] is not None)
    drawn = exhibits(models, False if needless else data, read, codes_alone=on_map, **shown)
    if printed and values.vectors(drawn.models, save, show):
        values.of_figure(figure, drawn)
        return
    from vaelab import report

    deliver({figure: report.FIGURES[figure](drawn)}, save, show)


@click.command()
@model_argument
@click.option("-n", "--count", type=int, default=64, show_default=True, help="Samples to draw.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of all draws.")
@click.option("--label", help="Class, of a conditional model.  [default: each equally often]")
@figure_options
def sample(
    model: str, count: int, seed: int, label: str | None, save: Path | None, show: bool
) -> None:
    """Draw latent points from the prior and decode them.

    Rows of a table are printed as CSV, in the units of the data; images are drawn.

    \b
    Example:  vaelab sample runs/mnist/vae -n 100 --seed 1 --save figures
    """
    from vaelab import latent, plots

    name, vae = load_model(model)
    y = sampled_labels(vae, label, count)
    z = latent.draw(vae.model_, count, seed)
    if values.vectors({name: vae}, save, show):
        values.of_samples(vae, vae.decode(z, y), y)
        return
    deliver({"samples": plots.image_grid(vae.decode(z, y))}, save, show)


@click.command()
@click.argument("target", metavar="DATA|MODEL", shell_complete=completion.data_or_models)
@click.argument("data", required=False, shell_complete=completion.data)
@click.option(
    "--particles", type=int, default=64, show_default=True, help="Draws of z a datum, for log p(x)."
)
@limit_option
@json_option
@read_option
def doctor(
    target: str,
    data: str | None,
    particles: int,
    limit: int | None,
    as_json: bool,
    read: tuple[str, ...],
) -> None:
    """Tell what looks wrong with data or a model.

    \b
    Example:  vaelab doctor runs/mnist/vae
    """
    from dataclasses import asdict

    from vaelab import shipped
    from vaelab.doctor import examine_data, examine_model, report
    from vaelab.storage import is_model

    if is_model(Path(target)) or target in shipped.names() or is_comparison(target):
        _, vae = load_model(target)
        train, test = load_data(wanted(data, read, vae), limit)
        findings = examine_model(vae, train, test, particles=particles)
    else:
        findings = examine_data(*load_data(wanted(target, read), limit))
    found = [asdict(finding) for finding in findings]
    click.echo(json.dumps(found, indent=2) if as_json else report(findings))
