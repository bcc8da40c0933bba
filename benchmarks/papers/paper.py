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
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    with machine.torch_threads(given.threads):
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
    vae = vaelab.VAE(recipe, seed=seed).fit(train)
    vae.save(HERE / "models" / f"{figure.name}-{seed}")
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
the standard error over data (for several seeds, the standard deviation over them instead).

| paper, what | figure | published | ours | ours − published | seconds of training | date, machine |
|---|---|---|---|---|---|---|
"""


def write_table() -> None:
    """Writes `RESULTS.md` from what is kept in `results/`."""
    rows, notes = [], []
    for path in sorted(RESULTS.glob("*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        runs = found["runs"]
        seconds = mean(run["training_seconds"] for run in runs)
        for name, published in found["published"].items():
            values = [run[name] for run in runs]
            spread = stdev(values) if len(values) > 1 else runs[0][f"{name}_se"]
            ours = f"{mean(values):.2f} ± {spread:.2f}, {len(values)} seed{'s'[: len(values) > 1]}"
            difference = f"{mean(values) - published:+.2f}"
            cells = [f"[{found['paper']}]({found['address']}): {found['what']}", f"`{name}`"]
            cells += [f"{published:.2f}", ours, difference, f"{seconds:,.0f}"]
            rows.append("| " + " | ".join([*cells, f"{found['date']}, {found['machine']}"]) + " |")
        asked = f"--seeds {len(runs)} --particles {found['particles']} --images {found['images']}"
        notes.append(
            f"- `python benchmarks/papers/{path.stem}.py {asked}`: {found['ours']}. For "
            f"{runs[0]['unreliable']:.0%} of the images the weights behind `log_likelihood` have a "
            "heavy tail (see `vaelab.importance.unreliable`)."
        )
    text = HEAD + "\n".join(rows) + "\n\n## What differs\n\n" + "\n".join(notes) + "\n"
    write_atomically(HERE / "RESULTS.md", text)
