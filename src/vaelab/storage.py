"""Floor 8: model folders, written whole and read with suspicion.

A model folder holds `config.json` (what the model is and how it came to be), `model.safetensors`
(its weights) and `history.jsonl` (a line an epoch). What else lies there, such as `checkpoints/`
of training, is kept when the model is replaced. Nothing is ever pickled. On reading, every name,
shape and type is compared with what the description calls for before memory is taken.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import platform
import secrets
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise

from vaelab import checks, files, objectives
from vaelab.conditioning import Conditioned
from vaelab.distributions import seeded
from vaelab.likelihoods import LIKELIHOODS
from vaelab.model import Model
from vaelab.networks import NETWORKS
from vaelab.objectives import ELBO, Objective
from vaelab.parts import Part, build, describe
from vaelab.posteriors import POSTERIORS
from vaelab.priors import PRIORS
from vaelab.records import Training
from vaelab.separation import Separation

__all__ = [
    "CHECKPOINTS",
    "FORMAT",
    "Saved",
    "is_model",
    "load",
    "may_become_model",
    "rounded",
    "save",
    "versions",
]

FORMAT = 6
"""Format 2 added settings of training (format 1 is read with their defaults), 3 the activation of
networks, which was GELU, 4 the units of parts, which were those of the data, 5 the separation, of
which there was none, 6 weights in 16 bits."""

STORED = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
"""Types in which weights of 32 bits may lie in a file; they are always loaded as `float32`."""

CONFIG, WEIGHTS, HISTORY = "config.json", "model.safetensors", "history.jsonl"
CHECKPOINTS = "checkpoints"
OWN = {CONFIG, WEIGHTS, HISTORY, CHECKPOINTS, "tensorboard", files.OPTIONS}
"""What vaelab puts into a model folder, also before there is a model."""

LARGEST_TEXT = 64 * 2**20


@dataclass(frozen=True, eq=False)
class Saved:
    """A trained model with all that a model folder tells of it.

    Attributes:
        model: The model.
        recipe: Name of its recipe.
        objective: What was minimised.
        separation: The term that kept neighbours together, if there was one.
        training: The settings, with every choice made.
        seed: The seed.
        history: A record an epoch.
        data: The training data: name, number, shape, type, range, fingerprint.
        figures: Named figures, test figures say.
        versions: Of Python and the packages it was trained with.
    """

    model: Model
    recipe: str
    objective: Objective = field(default_factory=ELBO)
    separation: Separation | None = None
    training: Training = field(default_factory=Training)
    seed: int = 0
    history: Sequence[Mapping[str, float]] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=lambda: versions())


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a result."""
    packages = {name: version(name) for name in ("vaelab", "torch", "numpy")}
    return {"python": platform.python_version(), **packages}


def is_model(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder looks like a model folder."""
    return (Path(folder) / CONFIG).is_file()


def may_become_model(folder: Path) -> bool:
    """Whether `save` may write here: nothing is there, or only what vaelab put there."""
    if not folder.exists() or is_model(folder):
        return True
    return folder.is_dir() and {path.name for path in folder.iterdir()} <= OWN


def rounded(model: Model, weights: str) -> Model:
    """A copy of a model whose weights are such as a type in `STORED` holds, in `float32`.

    Raises:
        checks.ArgumentError: An unknown type, or a weight that is too large for it.
    """
    kind, copied = STORED[checks.choice("weights", weights, STORED)], copy.deepcopy(model)
    for name, value in copied.state_dict().items():
        if value.dtype == torch.float32:
            value.copy_(value.to(kind))  # the tensors of a state are the model's own
            if not torch.isfinite(value).all():
                raise checks.ArgumentError(
                    f"weights = {weights!r} cannot hold tensor {name!r}; take 'bfloat16'."
                )
    return copied


def save(saved: Saved, folder: str | os.PathLike[str], *, weights: str = "float32") -> Path:
    """Writes a model folder, whole or not at all; a model folder that is there is replaced.

    Arguments:
        saved: What is written.
        folder: Where to.
        weights: The type in which weights lie in the file. One of 16 bits halves it, and is for
            models that `rounded` gave: what is loaded has the same bits, whatever the type.

    Raises:
        checks.ArgumentError: The type is unknown, or cannot hold the weights as they are.
        checks.StorageError: The folder exists and holds something else.
        OSError: The folder cannot be written, or the disk is full; what was there is still there.
    """
    folder = Path(folder)
    if not may_become_model(folder):
        raise checks.StorageError(
            f"{folder} exists and is not a model folder; choose another, or remove it."
        )
    stored = _stored(saved.model, weights)
    parts = {name: describe(part) for name, part in saved.model.parts.items()}
    config = {
        "format": FORMAT,
        "recipe": saved.recipe,
        "parts": parts,
        "objective": {"objective": type(saved.objective).__name__, **asdict(saved.objective)},  # type: ignore[call-overload]
        "separation": saved.separation and asdict(saved.separation),
        "training": asdict(saved.training),
        "seed": saved.seed,
        **{name: dict(getattr(saved, name)) for name in ("data", "figures", "versions")},
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.part")
    work.mkdir()
    try:
        files.write_json(work / CONFIG, config)
        lines = (json.dumps(dict(record), allow_nan=False) + "\n" for record in saved.history)
        files.write_atomically(work / HISTORY, "".join(lines))
        belongs = {HISTORY: _digest(saved.history)}
        files.write_atomically(work / WEIGHTS, serialise(stored, metadata=belongs))
        _replace(work, folder)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder


def _stored(model: Model, weights: str) -> dict[str, torch.Tensor]:
    """A model's tensors as they lie in a file."""
    kind = STORED[checks.choice("weights", weights, STORED)]
    own = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    stored = {k: v.to(kind) if v.dtype == torch.float32 else v for k, v in own.items()}
    for name, value in own.items():
        if not torch.equal(stored[name].to(value.dtype), value):
            raise checks.ArgumentError(
                f"weights = {weights!r} would round tensor {name!r}; give a model that "
                "storage.rounded gave."
            )
    return stored


def _replace(work: Path, folder: Path) -> None:
    """Puts the files of `work` into `folder`, so that no reader sees a part of a model there."""
    if not folder.exists():
        work.rename(folder)
    elif not is_model(folder):  # it becomes one with its last file
        for name in (WEIGHTS, HISTORY, CONFIG):
            (work / name).replace(folder / name)
    else:
        _exchange(work, folder)


def _exchange(work: Path, folder: Path) -> None:
    """Puts `work` in the place of a model, with the old one aside until the new one is there."""
    for path in folder.rglob("*"):
        copy = work / path.relative_to(folder)
        if path.is_file() and not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(path, copy)  # the same file under both names: a lock on it holds on
            except OSError:  # a file system without links
                shutil.copy2(path, copy)
    aside = work.with_suffix(".old")
    folder.rename(aside)
    try:
        work.rename(folder)
    except OSError:
        aside.rename(folder)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def load(folder: str | os.PathLike[str], *, parts: Iterable[type[Part | Objective]] = ()) -> Saved:
    """Reads a model folder.

    Arguments:
        folder: The folder.
        parts: Classes of parts and objectives that are not vaelab's own and may occur in it.

    Raises:
        checks.StorageError: The folder is not there, not a model folder, damaged, or of a newer
            format; the message names the file.
    """
    folder = Path(folder)
    if not is_model(folder):
        what = "is not a model folder: it has no config.json" if folder.exists() else "is not there"
        raise checks.StorageError(f"{folder} {what}; give a folder that vaelab wrote.")
    config = _config(folder / CONFIG)
    try:
        saved = _from_config(config, tuple(parts), folder)
    except (KeyError, TypeError, AttributeError) as error:
        raise checks.StorageError(f"{folder / CONFIG} is damaged: {error!r}.") from error
    except checks.ArgumentError as error:
        raise checks.StorageError(f"{folder / CONFIG} is damaged: {error}") from error
    return saved


def _from_config(config: dict[str, Any], own: tuple[type, ...], folder: Path) -> Saved:
    tables = (POSTERIORS, PRIORS, LIKELIHOODS, NETWORKS)
    parts = [Conditioned, *(cls for table in tables for cls in table.values()), *own]
    known = [cls for cls in parts if issubclass(cls, Part)]

    def make() -> tuple[Model, Objective]:
        try:
            built = {name: build(config["parts"][name], known) for name in _PARTS}
            objective = objectives.build(config["objective"], own)
        except checks.StorageError as error:
            raise checks.StorageError(f"{folder / CONFIG}: {error}") from error
        return Model(**built), objective  # type: ignore[arg-type]

    with torch.device("meta"):  # takes no memory, whatever sizes the description claims
        expected = {k: (tuple(v.shape), v.dtype) for k, v in make()[0].state_dict().items()}
    weights, history = _weights(folder / WEIGHTS, expected), _history(folder / HISTORY)
    _check_same_training(folder, history)
    if not files.is_plain(config["recipe"]):
        raise checks.StorageError(
            f"{folder / CONFIG} is damaged: recipe {config['recipe']!r} is no plain name."
        )
    with seeded(0):
        model, objective = make()
    model.load_state_dict(weights)
    separation = config["separation"]
    return Saved(
        model=model.eval(),
        recipe=config["recipe"],
        objective=objective,
        separation=None if separation is None else Separation(**separation),
        training=Training(**config["training"]),
        seed=checks.seed(config["seed"]),
        history=history,
        data=dict(config["data"]),
        figures=dict(config["figures"]),
        versions=dict(config["versions"]),
    )


_PARTS = ("posterior", "prior", "likelihood")
WITH_UNITS = ("DiagonalGaussian", "FixedGaussian", "Gaussian", "Vamp")


def _text(path: Path) -> str:
    try:
        size = path.stat().st_size
        if size > LARGEST_TEXT:
            raise checks.StorageError(f"{path} has {size} bytes, more than any that vaelab writes.")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise checks.StorageError(f"{path} is missing; the model folder is incomplete.") from None
    except UnicodeDecodeError as error:
        raise checks.StorageError(f"{path} is damaged: it is not UTF-8 text.") from error


def _config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise checks.StorageError(f"{path} is damaged: it is not JSON ({error}).") from error
    if not isinstance(config, dict) or not isinstance(config.get("format"), int):
        raise checks.StorageError(f"{path} is damaged: it has no format number.")
    if config["format"] > FORMAT:
        raise checks.StorageError(
            f"{path} has format {config['format']}, but this version of vaelab reads up to "
            f"{FORMAT}; install a newer vaelab."
        )
    if config["format"] < 5:
        config.setdefault("separation", None)
    expected = {"format", *(f.name for f in fields(Saved)), "parts"} - {"model", "history"}
    if set(config) != expected:
        odd = sorted(set(config) ^ expected)
        raise checks.StorageError(f"{path} is damaged: unknown or missing fields {odd}.")
    if config["format"] < 3:
        _add(config["parts"], ("MLP", "ConvEncoder", "ConvDecoder"), "activation", "gelu")
    if config["format"] < 4:
        _add(config["parts"], WITH_UNITS, "units", "none")
    return config


def _add(parts: object, names: tuple[str, ...], setting: str, value: str) -> None:
    """Writes into parts described in an older format a setting that they had without saying."""
    if isinstance(parts, dict):
        if parts.get("part") in names:
            parts.setdefault(setting, value)
        for inner in parts.values():
            _add(inner, names, setting, value)


def _weights(path: Path, expected: Mapping[str, tuple[Any, ...]]) -> dict[str, torch.Tensor]:
    """The tensors of a file, once their names, shapes and types are what was expected."""
    try:
        with safe_open(path, framework="pt") as file:
            names = set(file.keys())
            if names != set(expected):
                odd = sorted(names ^ set(expected))
                raise checks.StorageError(
                    f"{path} does not belong to config.json: {len(odd)} tensors are unknown or "
                    f"missing, first {odd[0]!r}."
                )
            for name, (shape, _) in expected.items():
                found = tuple(file.get_slice(name).get_shape())
                if found != shape:
                    raise checks.StorageError(
                        f"{path} does not belong to config.json: tensor {name!r} has shape "
                        f"{found}, but {shape} is needed."
                    )
            weights = {name: file.get_tensor(name) for name in expected}
    except FileNotFoundError:
        raise checks.StorageError(f"{path} is missing; the model folder is incomplete.") from None
    except SafetensorError as error:
        raise checks.StorageError(f"{path} is damaged: {error}.") from error
    for name, (_, dtype) in expected.items():
        if dtype == torch.float32 and weights[name].dtype in STORED.values():
            weights[name] = weights[name].float()
        if weights[name].dtype != dtype:
            raise checks.StorageError(
                f"{path} does not belong to config.json: tensor {name!r} has type "
                f"{weights[name].dtype}, but {dtype} is needed."
            )
        if not torch.isfinite(weights[name]).all():
            raise checks.StorageError(f"{path} is damaged: tensor {name!r} holds NaN or infinity.")
    return weights


def _history(path: Path) -> list[dict[str, float]]:
    try:
        return [dict(json.loads(line)) for line in _text(path).splitlines()]
    except (json.JSONDecodeError, TypeError, ValueError) as error:
        if isinstance(error, checks.StorageError):
            raise
        raise checks.StorageError(f"{path} is damaged: {error}.") from error


def _digest(history: Iterable[Mapping[str, float]]) -> str:
    """What tells one training from another by its history, all but the time."""
    timeless = [{k: v for k, v in record.items() if k != "seconds"} for record in history]
    return hashlib.sha256(json.dumps(timeless, sort_keys=True).encode()).hexdigest()


def _check_same_training(folder: Path, history: Iterable[Mapping[str, float]]) -> None:
    """Refuses weights that are there in the place of others; older files do not say whose."""
    with safe_open(folder / WEIGHTS, framework="pt") as file:
        known = (file.metadata() or {}).get(HISTORY)
    if known not in (None, _digest(history)):
        raise checks.StorageError(
            f"{folder / WEIGHTS} does not belong to {HISTORY}: the weights are those of another "
            "training; put back the file that was saved with it."
        )
