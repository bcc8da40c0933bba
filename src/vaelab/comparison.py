"""Floor 10: several recipes trained on the same data, and judged alike."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from vaelab import checks, files, machine, metrics, storage
from vaelab.distributions import seeded
from vaelab.estimator import VAE, load
from vaelab.latent import Codes
from vaelab.objectives import ELBO
from vaelab.recipes import Recipe
from vaelab.records import Dataset
from vaelab.training import Callback

__all__ = ["METRICS", "Comparison", "compare", "evaluate", "read", "table"]

METRICS = "metrics.json"
PARTICLES = 64
JUDGED = 2_000
"""How many test data the importance-weighted log p(x) is estimated on, unless told otherwise."""

Progress = Callable[[str, int], Callback]


def evaluate(
    vae: VAE,
    test: Dataset,
    train: Dataset | None = None,
    *,
    particles: int = PARTICLES,
    most: int | None = JUDGED,
    seed: int = 0,
) -> dict[str, float | int | None]:
    """Figures of a trained model on data that it was not trained on.

    Arguments:
        vae: A fitted model.
        test: The data to judge it on.
        train: Labelled data among which the nearest neighbours are looked for; without them, or
            without labels, the accuracies are `None`.
        particles: K, of the importance-weighted log-likelihood.
        most: On how many of the test data the log-likelihood is estimated (the same random ones
            each time); `None` takes all.
        seed: Where every draw starts.

    Returns:
        In nats per datum, with standard errors over data (`..._se`): `elbo`, `rate`,
        `distortion`, `log_likelihood`. Also `particles`, `log_likelihood_count`,
        `active_units`, `knn_accuracy` (15 neighbours, posterior means), `knn_accuracy_sampled`
        (the same on one draw of z a datum), and `parameters`.
    """
    among = None if train is None else vae.encode(train)
    return _evaluate(vae, test, vae.encode(test), train, among, particles, most, seed)


def _evaluate(
    vae: VAE,
    test: Dataset,
    codes: Codes,
    train: Dataset | None,
    among: Codes | None,
    particles: int,
    most: int | None,
    seed: int,
) -> dict[str, float | int | None]:
    """`evaluate`, with the posteriors of the test and training data at hand."""
    terms = metrics.per_datum(vae.model_, ELBO(), vae.checked(test), seed=seed)
    judged = test.limited(most)
    log_p = vae.score_samples(judged, particles=particles, seed=seed)
    figures: dict[str, float | int | None] = {}
    for name, values in (
        ("elbo", terms.elbo),
        ("rate", terms.rate),
        ("distortion", terms.distortion),
        ("log_likelihood", log_p),
    ):
        figures[name], figures[f"{name}_se"] = metrics.mean_and_error(values)
    figures |= {"particles": particles, "log_likelihood_count": len(judged)}
    figures["active_units"] = metrics.active_units(codes)
    figures |= _neighbours(codes, test, among, train, seed)
    figures["parameters"] = sum(p.numel() for p in vae.model_.parameters())
    return figures


def _neighbours(
    codes: Codes, test: Dataset, among: Codes | None, train: Dataset | None, seed: int
) -> dict[str, float | None]:
    if among is None or train is None or train.y is None or test.y is None:
        return {"knn_accuracy": None, "knn_accuracy_sampled": None}
    return {
        "knn_accuracy": metrics.knn_accuracy(among.loc, train.y, codes.loc, test.y),
        "knn_accuracy_sampled": metrics.knn_accuracy(
            among.sample(seed), train.y, codes.sample((seed + 1) % 2**32), test.y
        ),
    }


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
    jobs: int = 1,
    particles: int = PARTICLES,
    progress: Progress | None = None,
) -> Comparison:
    """Trains recipes on the same data with the same seed, and judges them on the same test data.

    Arguments:
        recipes: Names in `vaelab.recipes.RECIPES`, or recipes of your own, with different names.
        train: The data to train on (a part is held out for validation) and to look for
            neighbours among.
        test: The data to judge on.
        out: A folder for `metrics.json` and a model folder for each recipe; `None` writes nothing.
        latent_dim, epochs, batch_size, learning_rate, seed: As for `VAE`.
        jobs: How many recipes are trained side by side, in processes of their own; each has
            its share of the processor's cores. Results are the same bits for the same `jobs`.
        particles: K, of the importance-weighted log-likelihood.
        progress: Makes a callback from a recipe's name and its position among the jobs.

    Returns:
        The models and their figures.

    Raises:
        checks.VaelabError: As for `VAE.fit` and `VAE.save`, or names that occur twice.
    """
    vaes = plan(
        recipes,
        train.shape,
        latent_dim=latent_dim,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
    )
    checks.integer("particles", particles)
    folder = None if out is None else Path(out)
    job = _Job(
        train,
        test,
        folder,
        particles,
        progress,
        machine.share_of_cores(checks.integer("jobs", jobs)),
    )
    dataset = _dataset_record(train, test)  # now: the fingerprints travel with the data
    results = _run(job, vaes, jobs)
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


class _Result(NamedTuple):
    vae: VAE
    figures: dict[str, Any]
    latents: np.ndarray


@dataclass(frozen=True, eq=False)
class _Job:
    """What every recipe of a comparison shares."""

    train: Dataset
    test: Dataset
    folder: Path | None
    particles: int
    progress: Progress | None
    threads: int

    def __call__(self, name: str, vae: VAE, position: int) -> _Result:
        with machine.torch_threads(self.threads):
            if self.progress is not None:
                vae.set_params(callback=self.progress(name, position))
            started = time.perf_counter()
            vae.fit(self.train)
            seconds = time.perf_counter() - started
            vae.set_params(callback=None)
            among, codes = vae.encode(self.train), vae.encode(self.test)
            figures: dict[str, Any] = _evaluate(
                vae, self.test, codes, self.train, among, self.particles, JUDGED, seed=0
            )
            figures |= {"seconds": seconds, "threads": self.threads}
            if self.folder is not None:
                vae.save(self.folder / name, figures=figures)
        return _Result(vae, figures, np.concatenate([among.loc, codes.loc]))


def _run(job: _Job, vaes: Mapping[str, VAE], jobs: int) -> dict[str, _Result]:
    """The results by name; side by side, the longest job is begun first."""
    if jobs == 1 or len(vaes) == 1:
        return {name: job(name, vae, 0) for name, vae in vaes.items()}
    from loky import ProcessPoolExecutor

    order = sorted(vaes, key=lambda name: -_work(vaes[name], job.train.shape))
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(job.threads))
    executor = ProcessPoolExecutor(max_workers=min(jobs, len(vaes)), env=threads)
    try:
        with machine.interrupts_ignored():  # by the workers: Ctrl-C ends us, and we end them
            futures = {
                name: executor.submit(job, name, vaes[name], i) for i, name in enumerate(order)
            }
        for future in as_completed(futures.values()):
            future.result()  # the first failure ends the comparison
        return {name: futures[name].result() for name in vaes}
    except BrokenProcessPool as error:
        raise checks.TrainingError(
            "a process that trained a recipe died, perhaps for want of memory; train fewer side by "
            "side (--jobs 1) or on fewer data (--limit)."
        ) from error
    finally:
        executor.shutdown(wait=True, kill_workers=True)


def _work(vae: VAE, shape: tuple[int, ...]) -> float:
    """Seconds that a small batch takes, to begin with the longest job; no result depends on it."""
    recipe = vae.resolved(shape)
    model, x = recipe.model(), torch.zeros(64, *shape)
    seconds = []
    with seeded(0):
        for _ in range(3):
            started = time.perf_counter()
            recipe.objective(model, x).loss.mean().backward()  # type: ignore[no-untyped-call]
            seconds.append(time.perf_counter() - started)
    return min(seconds)


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
