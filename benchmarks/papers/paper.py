"""What the scripts of this folder share: a published figure, and ours beside it.

Each script states one figure of a paper and the recipe that answers it; run, it trains, judges and
keeps the result in `results/`, from which `RESULTS.md` is written anew.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import vaelab
from vaelab import machine, storage
from vaelab.comparison import evaluate
from vaelab.files import write_atomically, write_json

HERE = Path(__file__).parent
RESULTS = HERE / "results"


@dataclass(frozen=True)
class Figure:
    """A published figure.

    Attributes:
        name: Of the script and of its result.
        paper: Authors, year and title.
        address: Where it is published.
        what: What was measured: model, data and how.
        published: Its value by the name of ours in `vaelab.evaluate`, in nats.
        recipe: Makes ours from the shape of a datum, training settings included.
        ours: What differs from the paper.
    """

    name: str
    paper: str
    address: str
    what: str
    published: Mapping[str, float]
    recipe: Callable[[tuple[int, ...]], vaelab.Recipe]
    ours: str


def main(figure: Figure) -> None:
    """Reads the command line, trains, judges, and keeps the result."""
    parser = argparse.ArgumentParser(description=f"{figure.paper}: {figure.what}")
    parser.add_argument("--seeds", type=int, default=1, help="how many trainings")
    parser.add_argument("--epochs", type=int, help="instead of the recipe's")
    parser.add_argument("--particles", type=int, default=5_000, help="of log p(x)")
    parser.add_argument("--images", type=int, default=10_000, help="of the test set, for log p(x)")
    parser.add_argument("--again", action="store_true", help="judge what was trained before")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    with machine.threads(given.threads):
        runs = [_run(figure, seed, given) for seed in range(given.seeds)]
    document = {
        "paper": figure.paper,
        "address": figure.address,
        "what": figure.what,
        "ours": figure.ours,
        "published": dict(figure.published),
        "runs": runs,
        "particles": given.particles,
        "images": given.images,
        "machine": machine.name(),
        "threads": given.threads,
        "versions": storage.versions(),
        "date": time.strftime("%Y-%m-%d"),
    }
    write_json(RESULTS / f"{figure.name}.json", document)
    print(json.dumps(document, indent=2))
    write_table()


def _run(figure: Figure, seed: int, given: argparse.Namespace) -> dict[str, Any]:
    train, test = vaelab.data.load("mnist")
    recipe = figure.recipe(train.shape)
    if given.epochs is not None:
        recipe = replace(recipe, training=replace(recipe.training, epochs=given.epochs))
    folder = HERE / "models" / f"{figure.name}-{seed}"
    if given.again:
        vae = vaelab.load(folder)
    else:
        vae = vaelab.VAE(recipe, seed=seed).fit(train)
        vae.save(folder)
    began = time.perf_counter()
    figures = evaluate(vae, test, particles=given.particles, most=given.images, seed=0)
    return {
        "seed": seed,
        "epochs": len(vae.history_),
        "training_seconds": vae.history_[-1]["seconds"],
        "judging_seconds": time.perf_counter() - began,
        **{k: v for k, v in figures.items() if isinstance(v, float | int | str)},
    }


HEAD = """\
# Published figures, and ours

Written by the scripts of this folder, one for each figure; nats per datum on MNIST's test set, with
the standard error over data (for several seeds, the standard deviation over them instead). Seconds
of training are the least over seeds: some ran beside other work.

| paper, what | figure | published | ours | ours − published | seconds of training | date, machine |
|---|---|---|---|---|---|---|
"""


def write_table() -> None:
    """Writes `RESULTS.md`: a row for each figure of each script, run or not."""
    rows, notes = [], []
    for figure in _figures():
        path = RESULTS / f"{figure.name}.json"
        found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
        for name, published in figure.published.items():
            cells = [f"[{figure.paper}]({figure.address}): {figure.what}", f"`{name}`"]
            cells += [f"{published:.2f}", *(_cells(found, name, published) if found else NOT_RUN)]
            rows.append("| " + " | ".join(cells) + " |")
        notes.append(_note(figure, found))
    text = HEAD + "\n".join(rows) + "\n\n## What differs\n\n" + "\n".join(notes) + "\n"
    write_atomically(HERE / "RESULTS.md", text)


NOT_RUN = ["not run", "–", "–", "–"]


def _figures() -> list[Figure]:
    """Those of the scripts that lie here."""
    names = sorted(path.stem for path in HERE.glob("*.py") if path.stem != Path(__file__).stem)
    return [import_module(name).FIGURE for name in names]


def _cells(found: Mapping[str, Any], name: str, published: float) -> list[str]:
    runs = found["runs"]
    values = [run[name] for run in runs]
    spread = stdev(values) if len(values) > 1 else runs[0][f"{name}_se"]
    return [
        f"{mean(values):.2f} ± {spread:.2f}, {len(values)} seed{'s'[: len(values) > 1]}",
        f"{mean(values) - published:+.2f}",
        f"{min(run['training_seconds'] for run in runs):,.0f}",
        f"{found['date']}, {found['machine']}",
    ]


def _note(figure: Figure, found: Mapping[str, Any] | None) -> str:
    command = f"python benchmarks/papers/{figure.name}.py"
    if found is None:
        return f"- `{command}` (not run: it takes hours without a GPU): {figure.ours}."
    runs = found["runs"]
    asked = f"--seeds {len(runs)} --particles {found['particles']} --images {found['images']}"
    return (
        f"- `{command} {asked}`: {figure.ours}. For {runs[0]['unreliable']:.0%} of the images the "
        "weights behind `log_likelihood` have a heavy tail (see `vaelab.importance.unreliable`)."
    )
