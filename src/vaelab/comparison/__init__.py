"""Floor 10: several recipes trained on the same data, and judged alike."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vaelab import checks, cluster, files, machine, storage
from vaelab.comparison._evidence import PARTICLES, shown
from vaelab.comparison._jobs import STOP, Job, Progress, run
from vaelab.comparison._judging import DOUBTED, check, evaluate, features_of
from vaelab.comparison._seeds import differences, over_seeds, run_names
from vaelab.comparison._tables import details, rows, table
from vaelab.estimator import VAE, load
from vaelab.recipes import Recipe
from vaelab.records import Dataset

__all__ = [
    "DOUBTED",
    "METRICS",
    "Comparison",
    "check",
    "compare",
    "details",
    "evaluate",
    "read",
    "rows",
    "shown",
    "table",
]

METRICS = "metrics.json"


@dataclass(frozen=True, eq=False)
class Comparison:
    """Trained models side by side.

    Attributes:
        models: The fitted estimators by recipe, in the order asked for.
        figures: What `evaluate` returned for each, and `seconds` of training.
        dataset: What is known of the data.
        seed: The seed of all of these.
        seeds: How many seeds each recipe was trained with, from `seed` on.
        over_seeds: For two seeds or more, `mean` and `sd` of each figure, by recipe and figure.
        differences: The ELBO of any two recipes with the same kind of likelihood, compared datum by
            datum, in nats: `models` (the first minus the second), `elbo`, `elbo_se` over data,
            `elbo_se_seeds` over seeds.
        latents: Posterior means of the training data followed by the test data, `(N, D)`, by
            recipe; empty where the comparison was read from a folder.
        machine: Processor, cores and system it was made on.
        versions: Of Python and the packages it was made with.

    `str(comparison)` is the table.
    """

    models: Mapping[str, VAE]
    figures: Mapping[str, Mapping[str, Any]]
    dataset: Mapping[str, Any]
    seed: int
    seeds: int = 1
    over_seeds: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)
    differences: Sequence[Mapping[str, Any]] = ()
    latents: Mapping[str, np.ndarray] = field(default_factory=dict)
    machine: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """What `metrics.json` holds."""
        return {
            "dataset": dict(self.dataset),
            "seed": self.seed,
            "seeds": self.seeds,
            "machine": self.machine,
            "versions": dict(self.versions),
            "models": {name: dict(figures) for name, figures in self.figures.items()},
            "over_seeds": {name: dict(figures) for name, figures in self.over_seeds.items()},
            "differences": [dict(record) for record in self.differences],
        }

    def __str__(self) -> str:
        lines = [table(self.figures)]
        if self.over_seeds:
            lines += ["", f"mean ± standard deviation over {self.seeds} seeds:"]
            lines += [table({name: _spread(row) for name, row in self.over_seeds.items()})]
        if self.differences:
            lines += ["", "differences in ELBO, paired (nats per datum):"]
            lines += [_told(record) for record in self.differences]
        return "\n".join(lines)


def _spread(row: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Means over seeds as figures, with the standard deviations in the place of their errors."""
    means = {name: value["mean"] for name, value in row.items()}
    return means | {f"{name}_se": value["sd"] for name, value in row.items()}


def _told(record: Mapping[str, Any]) -> str:
    first, second = record["models"]
    line = f"{first} − {second}: {record['elbo']:+.2f} ± {record['elbo_se']:.2f} over data"
    if "elbo_se_seeds" in record:
        line += f", ± {record['elbo_se_seeds']:.2f} over seeds"
    return line


def compare(
    recipes: Sequence[str | Recipe],
    train: Dataset,
    test: Dataset,
    *,
    out: str | os.PathLike[str] | None = None,
    latent_dim: int = 2,
    likelihood: str = "auto",
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    separation: float | None = None,
    seed: int = 0,
    seeds: int = 1,
    objective: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    jobs: int = 1,
    engine: str = "local",
    particles: int = PARTICLES,
    progress: Progress | None = None,
    resume: bool = False,
    checkpoint_seconds: float = 60.0,
) -> Comparison:
    """Trains recipes on the same data with the same seed, and judges them on the same test data.

    Arguments:
        recipes: Names in `vaelab.recipes.RECIPES`, or recipes of your own, with different names.
        train: The data to train on (a part is held out for validation) and to look for
            neighbours among.
        test: The data to judge on.
        out: A folder for `metrics.json` and a model folder for each recipe; `None` writes nothing.
        latent_dim, likelihood, epochs, batch_size, learning_rate, separation, seed: As for `VAE`.
        objective, training: Likewise.
        seeds: With how many seeds each recipe is trained: `seed`, `seed + 1` and so on. The models
            of the others lie in `out` as `<recipe>-seed<number>`.
        jobs: How many recipes are trained side by side, in processes of their own; each has
            its share of the processor's cores. Results are the same bits for the same `jobs`.
        engine: Where they are trained: `"local"`, on this machine; `"ray"`, as tasks on the Ray
            cluster that `RAY_ADDRESS` names or this process is connected to, else on one of this
            machine. A task takes the cores that one of `jobs` has here, at most those of a
            machine there, and a GPU or a share of one where there are some; as many run as there
            is room for. `out` must be a folder that all machines see: one whose worker dies goes
            on from its checkpoint there. Needs the extra `ray`.
        particles: K, of the importance-weighted log-likelihood.
        progress: Makes a callback from a recipe's name and its position among the jobs.
        resume: Whether to continue the comparison that `out` holds: recipes that are finished
            stay untouched, the others go on from their checkpoints.
        checkpoint_seconds: As `vaelab.Checkpoints.seconds`, in `out`.

    Returns:
        The models and their figures.

    Raises:
        checks.VaelabError: As for `VAE.fit` and `VAE.save`, or names that occur twice.
        checks.Interrupted: Ctrl-C or SIGTERM came; with `out`, every recipe's state was kept.
    """
    cluster.check(engine)
    vaes = plan(
        recipes,
        train,
        test,
        latent_dim=latent_dim,
        likelihood=likelihood,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        separation=separation,
        seed=seed,
        seeds=seeds,
        objective=objective,
        training=training,
    )
    names = _names(recipes)
    checks.integer("particles", particles)
    folder = None if out is None else Path(out)
    job = Job(
        train,
        test,
        folder,
        particles,
        progress,
        machine.share_of_cores(checks.integer("jobs", jobs)),
        resume,
        checkpoint_seconds,
        os.getpid(),
        features_of(train),
    )
    if folder is not None:
        (folder / STOP).unlink(missing_ok=True)  # left by a process that was killed
    dataset = _dataset_record(train, test)  # now: the fingerprints travel with the data
    results = run(job, vaes, jobs, engine)
    runs = run_names(names, seed, seeds)
    groups = {n: [results[run] for run, (name, _) in runs.items() if name == n] for n in names}
    several = groups if seeds > 1 else {}
    elbos = {name: [result.elbos for result in group] for name, group in groups.items()}
    kinds = {name: type(results[name].vae.recipe_.likelihood).__name__ for name in names}
    comparison = Comparison(
        models={name: results[name].vae for name in names},
        figures={name: results[name].figures for name in names},
        dataset=dataset,
        seed=seed,
        seeds=seeds,
        over_seeds={n: over_seeds([r.figures for r in group]) for n, group in several.items()},
        differences=differences(elbos, kinds),
        latents={name: results[name].latents for name in names},
        machine=machine.name(),
        versions=storage.versions(),
    )
    if folder is not None:
        files.write_json(folder / METRICS, comparison.document())
    return comparison


def plan(
    recipes: Sequence[str | Recipe],
    train: Dataset,
    test: Dataset,
    *,
    seed: int = 0,
    seeds: int = 1,
    **settings: Any,
) -> dict[str, VAE]:
    """The estimators of a comparison by name, refused here if one of them cannot be made.

    Arguments:
        recipes, train, test, seed, seeds: As for `compare`.
        settings: Other keywords of `VAE`.
    """
    vaes = estimators(recipes, seed=seed, seeds=seeds, **settings)
    for vae in vaes.values():
        check(vae, train, test)
    return vaes


def estimators(
    recipes: Sequence[str | Recipe], *, seed: int = 0, seeds: int = 1, **settings: Any
) -> dict[str, VAE]:
    """The estimators of a comparison by name, as `plan` gives them, before there are data."""
    checks.seed(seed)
    checks.integer("seeds", seeds)
    names = _names(recipes)
    if not names or len(set(names)) < len(names):
        raise checks.ArgumentError(
            f"recipes = {names!r}, but different ones are needed, at least 1."
        )
    by_name = dict(zip(names, recipes, strict=True))
    return {
        run: VAE(by_name[name], seed=number, **settings)
        for run, (name, number) in run_names(names, seed, seeds).items()
    }


def _names(recipes: Sequence[str | Recipe]) -> list[str]:
    return [recipe if isinstance(recipe, str) else recipe.name for recipe in recipes]


def read(folder: str | os.PathLike[str]) -> Comparison:
    """The comparison that a folder holds, as `compare` wrote it.

    Raises:
        checks.StorageError: Not such a folder, or one of its files is damaged or missing.
    """
    path = Path(folder) / METRICS
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if not all(map(files.is_plain, document["models"])):
            raise checks.StorageError(f"{path} is damaged: a model in it has no plain name.")
        return Comparison(
            models={name: load(Path(folder) / name) for name in document["models"]},
            figures=document["models"],
            dataset=document["dataset"],
            seed=document["seed"],
            seeds=document.get("seeds", 1),
            over_seeds=document.get("over_seeds", {}),
            differences=document.get("differences", ()),
            machine=document["machine"],
            versions=document["versions"],
        )
    except FileNotFoundError:
        raise checks.StorageError(
            f"{folder} holds no comparison: {METRICS} is missing; give a folder that "
            "'vaelab compare' wrote."
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError, LookupError, TypeError) as error:
        raise checks.StorageError(f"{path} is damaged: {error!r}.") from error


def _dataset_record(train: Dataset, test: Dataset) -> dict[str, Any]:
    return {
        "name": train.name,
        "source": train.source,
        "licence": train.licence,
        "train": len(train),
        "test": len(test),
        "shape": list(train.shape),
        "train_fingerprint": train.fingerprint,
        "test_fingerprint": test.fingerprint,
    }
