"""The explorer in a file, or in part of a page: it needs no server, and nothing beside it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from vaelab import files
from vaelab.estimator import VAE
from vaelab.explorer import assets, still
from vaelab.explorer.judging import FIGURES
from vaelab.explorer.scene import Scene
from vaelab.metrics import PerDatum
from vaelab.records import Dataset

__all__ = ["part", "save"]

PART = """<style>{style}</style>
<div id="explorer"></div>
{carried}
<script type="importmap">{imports}</script>
<script type="module">
import {{ start }} from "vaelab/start.js";
import {{ Still }} from "vaelab/still.js";
start(() => Still.open(document));
</script>"""


def part(
    models: Mapping[str, VAE],
    sets: Sequence[Dataset],
    *,
    lines: bool = True,
    budget: int = still.BUDGET,
) -> str:
    """The explorer as HTML that can stand once in the body of any page.

    Arguments:
        models: Fitted models by name.
        sets: The training data and, where there are any, the test data.
        lines, budget: Whether neighbours can be joined, and at most how many characters data and
            models may take; see `still.embedded`.

    Raises:
        checks.ArgumentError: A budget too small.
        checks.DataError: Data that a model cannot take.
    """
    scene = Scene(models, *sets)
    figures = {}
    for place, name in enumerate(models):
        elbo, rate, distortion = (scene.judge.figure(place, figure) for figure in FIGURES)
        figures[name] = PerDatum(-elbo, rate, distortion)
    codes = dict(zip(models, scene.codes, strict=True))
    return PART.format(
        style=assets.files()["style.css"],
        carried=still.embedded(
            models, *sets, latents=codes, figures=figures, lines=lines, budget=budget
        ),
        imports=assets.import_map(inline=True),
    )


def save(path: str | os.PathLike[str], models: Mapping[str, VAE], sets: Sequence[Dataset]) -> Path:
    """Writes the explorer to an HTML file that needs no server and no network.

    Arguments:
        path: Of the file.
        models: Fitted models by name.
        sets: The training data and, where there are any, the test data.

    Raises:
        checks.DataError: Data that a model cannot take.
        OSError: The file cannot be written.
    """
    title = f"{sets[0].name}: {', '.join(models)}"
    return files.write_atomically(Path(path), assets.document(title, part(models, sets)))
