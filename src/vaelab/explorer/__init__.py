"""Floor 11: a page on which to look at models and data: move over the map, and see what decodes.

The page is plain HTML and JavaScript, in `page`. `scene` has what it shows, as arrays; `server`
serves both to a browser on this machine.
"""

from __future__ import annotations

import html
import os
import sys
import threading
import webbrowser
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vaelab import checks, shipped
from vaelab.records import Dataset

if TYPE_CHECKING:
    from socket import socket

    from vaelab.estimator import VAE
    from vaelab.explorer.scene import Scene

__all__ = ["Explorer", "explore", "serve"]

HEIGHT = 560
"""Pixels of the page in a notebook."""

PATIENCE = 5.0
"""At most how many seconds an end takes."""


class Explorer:
    """A page that is being served, until it is closed or the program ends.

    In a notebook it shows itself. While the page computes figures, nothing should train in the
    same program: both draw from torch's global random state.

    Arguments:
        scene: What is shown.
        listening: A socket that listens.
        host: The name that it listens on.

    Attributes:
        url: The page's address.
        scene: What is shown.
    """

    def __init__(self, scene: Scene, listening: socket, host: str) -> None:
        import uvicorn

        from vaelab.explorer.server import MOST_ASKED, Site

        self.scene, self._site = scene, Site(scene, host)
        self.url = address(host, listening.getsockname()[1])
        config = uvicorn.Config(
            self._site,
            ws="websockets-sansio",
            ws_max_size=MOST_ASKED,
            ws_per_message_deflate=False,  # to one's own machine it costs more than it saves
            lifespan="off",
            log_config=None,
            log_level="critical",
            access_log=False,
            server_header=False,
            limit_concurrency=100,
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._serve, args=(listening,), name="vaelab-explorer", daemon=True
        )
        self._thread.start()

    def _serve(self, listening: socket) -> None:
        with listening:  # uvicorn before 0.44 leaves it open when it is to end as it starts
            self._server.run([listening])

    def wait(self) -> None:
        """Returns when the page is no longer served; Ctrl-C interrupts."""
        while self._thread.is_alive():
            self._thread.join(0.5)

    def close(self) -> None:
        """Ends the serving, open pages too."""
        self._server.should_exit = True
        self._thread.join(PATIENCE)
        self._site.close()

    def __enter__(self) -> Explorer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Explorer({self.url!r})"

    def _repr_html_(self) -> str:
        """The page in a frame, for notebooks."""
        return (
            f'<iframe src="{html.escape(self.url)}" title="vaelab explorer" width="100%" '
            f'height="{HEIGHT}" style="border: 0"></iframe>'
        )


def explore(
    models: VAE | Mapping[str, VAE] | Sequence[VAE],
    data: Any = None,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    open_browser: bool = True,
) -> Explorer:
    """Serves a page on which to look at models and data, and goes on.

    The page shows the latent map of all data; moving over it decodes the point under the cursor.
    It is at `Explorer.url`, for browsers on this machine; the data stay here.

    Needs `pip install 'vaelab[explorer]'`.

    Arguments:
        models: A fitted model, several, or several by name.
        data: A `Dataset`, a pair of them (training and test), or an array of data; by default
            what the first model was trained on. Where that is not at hand, models that ship with
            vaelab are shown with the maps that ship with them, and no data.
        host: The address to listen on; any other than this machine's own lets others see the page.
        port: 1 to 65535; by default one that is free.
        open_browser: Whether to open the page; a notebook shows it in itself instead.

    Raises:
        checks.ArgumentError: No model, a package is missing, or the port cannot be had.
        checks.DataError: The data are not such as the models take.

    >>> import numpy as np
    >>> from vaelab import VAE
    >>> x = np.random.default_rng(0).random((64, 6), dtype=np.float32)
    >>> with explore(VAE(epochs=1).fit(x), x, open_browser=False) as explorer:
    ...     print(explorer.url)
    http://127.0.0.1:...
    """
    explorer = _started(_by_name(models), data, host, port)
    if "ipykernel" not in sys.modules:
        show(explorer.url, wanted=open_browser)
    return explorer


def serve(
    models: Mapping[str, VAE],
    data: Any,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    open_browser: bool = True,
    progress: Callable[[int, int], object] | None = None,
    ready: Callable[[str], object] | None = None,
) -> None:
    """As `explore`, but returns only after Ctrl-C.

    Arguments:
        models, data, host, port, open_browser: As for `explore`.
        progress: Called while data are encoded, with how many are, and how many are to be.
        ready: Called with the address, once the page is there.

    Raises:
        checks.ArgumentError, checks.DataError: As for `explore`.
    """
    with _started(_by_name(models), data, host, port, progress) as explorer:
        if ready is not None:
            ready(explorer.url)
        show(explorer.url, wanted=open_browser)
        try:
            explorer.wait()
        except checks.Interrupted:
            raise
        except KeyboardInterrupt:  # the usual way to end it
            return


def _started(
    models: Mapping[str, VAE],
    data: Any,
    host: str,
    port: int | None,
    progress: Callable[[int, int], object] | None = None,
) -> Explorer:
    checks.needs("the explorer", "starlette", "uvicorn", "websockets", extra="explorer")
    from vaelab.explorer.server import bind

    listening = bind(host, port)  # first, for what follows may take a while
    try:
        from vaelab.explorer.scene import Scene

        known = None if data is not None else shipped.maps(v.shipped_ for v in models.values())
        if known:
            scene = Scene(
                models,
                known[0].train,
                known[0].test,
                codes={name: one.codes for name, one in zip(models, known, strict=True)},
                references=[one.reference for one in known],
                at_hand=False,
            )
        else:
            scene = Scene(models, *_data(models, data), progress=progress)
        return Explorer(scene, listening, host)
    except BaseException:
        listening.close()
        raise


def _by_name(models: VAE | Mapping[str, VAE] | Sequence[VAE]) -> dict[str, VAE]:
    """Models by name: that of the recipe, with a number where several have the same."""
    if isinstance(models, Mapping):
        return dict(models)
    named: dict[str, VAE] = {}
    for vae in models if isinstance(models, Sequence) else [models]:
        name = vae.recipe_.name
        same = sum(other.recipe_.name == name for other in named.values())
        named[f"{name}-{same + 1}" if same else name] = vae
    return named


def _data(models: Mapping[str, VAE], data: Any) -> tuple[Dataset, Dataset | None]:
    """Training and test data, from what a person gives as data."""
    if data is None and models:
        from vaelab.data import load

        name, vae = next(iter(models.items()))
        if not vae.data_.get("loaded"):
            raise checks.ArgumentError(
                f"data = None, but model {name!r} was trained on data from memory; give the data."
            )
        return load(**vae.data_["loaded"])
    if isinstance(data, Dataset):
        return data, None
    if isinstance(data, tuple) and all(isinstance(part, Dataset) for part in data):
        train, test = data
        return train, test
    from vaelab import inputs

    return Dataset(inputs.read(data).x.cpu().numpy(), None, "data"), None


def address(host: str, port: int) -> str:
    """The address of a page for this machine's browser.

    >>> address("::1", 80), address("0.0.0.0", 8000)
    ('http://[::1]:80/', 'http://127.0.0.1:8000/')
    """
    name = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{name}]:{port}/" if ":" in name else f"http://{name}:{port}/"


def show(url: str, *, wanted: bool) -> None:
    """Opens a page in the browser, if that is wanted and there is a screen for one."""
    screen = sys.platform in ("win32", "darwin") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    if wanted and screen:
        webbrowser.open(url)
