"""Floor 10: several recipes trained on the same data, and judged alike."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vaelab import checks, files, machine, storage
from vaelab.comparison._jobs import STOP, Job, Progress, run
from vaelab.comparison._judging import PARTICLES, evaluate
from vaelab.estimator import VAE, load
from vaelab.recipes import Recipe
from vaelab.records import Dataset

__all__ = ["METRICS", "Comparison", "compare", "evaluate", "read", "table"]

METRICS = "metrics.json"


@dataclass(frozen=True, eq=False)
class Comparison:
    """Trained models side by side.

    Attributes:
        models: The fitted estimators by recipe, in the order asked for.
        figures: What `evaluate` returned for each, and `seconds` of training.
        dataset: What is known of the data.
        seed: The seed of all.
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
    latents: Mapping[str, np.ndarray] = field(default_factory=dict)
    machine: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """What `metrics.json` holds."""
        return {
            "dataset": dict(self.dataset),
            "seed": self.seed,
            "machine": self.machine,
            "versions": dict(self.versions),
            "models": {name: dict(figures) for name, figures in self.figures.items()},
        }

    def __str__(self) -> str:
        return table(self.figures)


def table(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """Figures of models as lines of text, a row a model; columns without any figure are left out.

    >>> print(table({"vae": {"elbo": -143.21, "elbo_se": 0.31}, "conv": {"seconds": 30.0}}))
    model  ELBO (nats)     seconds
    vae    -143.21 ± 0.31  -
    conv   -               30.0
    """
    named = [{"model": name, **row} for name, row in figures.items()]
    columns = [[title, *map(cell, named)] for title, cell in COLUMNS]
    columns = [column for column in columns if set(column[1:]) != {"-"}]
    padded = [[text.ljust(max(map(len, column))) for text in column] for column in columns]
    return "\n".join("  ".join(row).rstrip() for row in zip(*padded, strict=True))


def _cell(name: str, form: str, error: bool = False) -> Callable[[Mapping[str, Any]], str]:
    def cell(figures: Mapping[str, Any]) -> str:
        value = figures.get(name)
        if value is None:
            return "-"
        text = format(value, form)
        return f"{text} ± {figures[f'{name}_se']:.2f}" if error else text

    return cell


COLUMNS: tuple[tuple[str, Callable[[Mapping[str, Any]], str]], ...] = (
    ("model", _cell("model", "s")),
    ("ELBO (nats)", _cell("elbo", ".2f", error=True)),
    ("rate", _cell("rate", ".2f", error=True)),
    ("distortion", _cell("distortion", ".2f", error=True)),
    ("log p(x)", _cell("log_likelihood", ".2f", error=True)),
    ("kNN", _cell("knn_accuracy", ".3f")),
    ("kNN sampled", _cell("knn_accuracy_sampled", ".3f")),
    ("parameters", _cell("parameters", ",d")),
    ("seconds", _cell("seconds", ".1f")),
)


def compare(
    recipes: Sequence[str | Recipe],
    train: Dataset,
    test: Dataset,
    *,
    out: str | os.PathLike[str] | None = None,
    latent_dim: int = 2,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    seed: int = 0,
    objective: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    jobs: int = 1,
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
        latent_dim, epochs, batch_size, learning_rate, seed, objective, training: As for `VAE`.
        jobs: How many recipes are trained side by side, in processes of their own; each has
            its share of the processor's cores. Results are the same bits for the same `jobs`.
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
    vaes = plan(
        recipes,
        train.shape,
        latent_dim=latent_dim,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        objective=objective,
        training=training,
    )
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
    )
    if folder is not None:
        (folder / STOP).unlink(missing_ok=True)  # left by a process that was killed
    dataset = _dataset_record(train, test)  # now: the fingerprints travel with the data
    results = run(job, vaes, jobs)
    comparison = Comparison(
        models={name: result.vae for name, result in results.items()},
        figures={name: result.figures for name, result in results.items()},
        dataset=dataset,
        seed=seed,
        latents={name: result.latents for name, result in results.items()},
        machine=machine.name(),
        versions=storage.versions(),
    )
    if folder is not None:
        files.write_json(folder / METRICS, comparison.document())
    return comparison


def plan(
    recipes: Sequence[str | Recipe], shape: tuple[int, ...], **settings: Any
) -> dict[str, VAE]:
    """The estimators of a comparison by name, refused here if one of them cannot be made.

    Arguments:
        recipes: As for `compare`.
        shape: Shape of a datum.
        settings: Keywords of `VAE`.
    """
    names = [recipe if isinstance(recipe, str) else recipe.name for recipe in recipes]
    if not names or len(set(names)) < len(names):
        raise checks.ArgumentError(
            f"recipes = {names!r}, but different ones are needed, at least 1."
        )
    vaes = {name: VAE(recipe, **settings) for name, recipe in zip(names, recipes, strict=True)}
    for vae in vaes.values():
        vae.resolved(shape)
    return vaes


def read(folder: str | os.PathLike[str]) -> Comparison:
    """The comparison that a folder holds, as `compare` wrote it.

    Raises:
        checks.StorageError: Not such a folder, or one of its files is damaged or missing.
    """
    path = Path(folder) / METRICS
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return Comparison(
            models={name: load(Path(folder) / name) for name in document["models"]},
            figures=document["models"],
            dataset=document["dataset"],
            seed=document["seed"],
            machine=document["machine"],
            versions=document["versions"],
        )
    except FileNotFoundError:
        raise checks.StorageError(
            f"{folder} holds no comparison: {METRICS} is missing; give a folder that "
            "'vaelab compare' wrote."
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
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
