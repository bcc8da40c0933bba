"""Floor 13: the command that serves the explorer."""

from __future__ import annotations

from pathlib import Path

import click

from vaelab.cli.group import data_option, limit_option, models_argument, quiet_option
from vaelab.cli.named import load_models
from vaelab.cli.shared import load_data, wanted, without_data


@click.command()
@models_argument
@data_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=int, help="Port to listen on. [default: a free one]")
@click.option("--no-open", is_flag=True, help="Do not open the page in a browser.")
@click.option(
    "--save",
    type=click.Path(path_type=Path),
    help="HTML file to write instead.  [default: none]",
)
@limit_option
@quiet_option
def explore(
    models: tuple[str, ...],
    data: str | None,
    read: tuple[str, ...],
    host: str,
    port: int | None,
    no_open: bool,
    save: Path | None,
    limit: int | None,
) -> None:
    """Explore latent maps in a browser, or write that page.

    Moving over a map decodes the point under the cursor; the README lists what else there is.

    The page is for this machine alone, and needs no network. Ctrl-C ends it. A saved page needs no
    server: it decodes in the browser, and can be sent to others.

    Models that ship with vaelab are shown without data where these are not at hand.

    \b
    Example:  vaelab explore mnist-vae,mnist-conv
    """
    from vaelab.explorer import serve
    from vaelab.progress import Counter

    loaded = load_models(models)
    sets = None
    if (data, read, limit, save) != (None, (), None, None) or not without_data(loaded):
        sets = load_data(wanted(data, read, next(iter(loaded.values()))), limit)
    if save is not None and sets is not None:
        from vaelab.explorer import portable

        click.echo(portable.save(save, loaded, sets))
        return
    serve(
        loaded,
        sets,
        host=host,
        port=port,
        open_browser=not no_open,
        progress=Counter("codes"),
        ready=lambda url: click.echo(f"exploring at {url} (Ctrl-C ends it)"),
    )
