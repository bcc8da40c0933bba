"""The commands that are advised, such that they work as they are printed for the model at hand."""

from __future__ import annotations

import shlex
import tomllib
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

from vaelab import files
from vaelab.doctor._data import word as known
from vaelab.estimator import VAE
from vaelab.recipes import RECIPES
from vaelab.records import Dataset
from vaelab.storage import CHECKPOINTS

__all__ = ["anew", "longer"]


def anew(
    vae: VAE, data: Dataset, name: str, change: str, *, recipe: str = "", latent_dim: int = 0
) -> str:
    """The command that trains such a model with a change, into a folder of its own.

    Where the model's folder tells the options that it was trained with, they are kept; else those
    that are not in the command are the recipe's.

    Arguments:
        vae: The model.
        data: The data at hand, for a model that does not know where its own came from.
        name: What the new folder is called after, beside the model.
        change: Options of `vaelab train`.
        recipe, latent_dim: Others than the model's.
    """
    config = _options(vae)
    keeps = config and recipe in ("", vae.recipe_.name) and not _in_steps(vae)
    kept = ["--config", config] if keeps else []
    out = _free(_home(vae), name)
    return _command(vae, data, recipe, kept, latent_dim, [*change.split(), "--out", out])


def longer(vae: VAE, data: Dataset) -> str:
    """The command that trains the model for twice as long: on from where it is, where it can."""
    done, config = max(1, len(vae.history_)), _options(vae)
    if not config or _in_steps(vae) or not _checkpointed(str(vae.folder_)):
        return anew(vae, data, "longer", f"--epochs {2 * done}")
    epochs = 2 * max(done, vae.training_.epochs or 0)
    rest = ["--epochs", str(epochs), "--resume", "--out", str(vae.folder_)]
    return _command(vae, data, "", ["--config", config], 0, rest)


def _command(
    vae: VAE, data: Dataset, recipe: str, kept: list[str], latent_dim: int, rest: list[str]
) -> str:
    own = vae.recipe_.name if vae.recipe_.name in RECIPES else "RECIPE"
    size = ["--latent-dim", str(latent_dim or vae.model_.latent_dim)]
    return shlex.join(
        ["vaelab", "train", recipe or own, *_data_words(vae, data), *kept, *size, *rest]
    )


def _data_words(vae: VAE, data: Dataset) -> list[str]:
    """What a command calls the model's data: their name or path, and how they are read."""
    loaded: Mapping[str, Any] = vae.data_.get("loaded") or data.loaded
    if not loaded:
        return [known(str(vae.data_.get("name", "")))]
    given = {name: value for name, value in loaded.items() if name != "name" and value is not None}
    read = [word for name, value in given.items() for word in ("--read", f"{name}={_text(value)}")]
    return [str(loaded["name"]), *read]


def _text(value: object) -> str:
    """A value as `--read` takes it: a size of two sides is `64,48`."""
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _options(vae: VAE) -> str:
    """The file with the options of the `vaelab train` that made the model; empty without one.

    A model of a comparison has none: its folder is that comparison's.
    """
    path = Path(vae.folder_ or "") / files.OPTIONS
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8")) if vae.folder_ else {}
    except (OSError, ValueError):  # what is not there, and what is no TOML
        return ""
    return str(path) if told.get("recipe") == vae.recipe_.name else ""


def _in_steps(vae: VAE) -> bool:
    """Whether it was trained for steps or minutes, beside which epochs mean nothing."""
    return vae.training_.steps is not None or vae.training_.minutes is not None


def _checkpointed(folder: str) -> bool:
    return next((Path(folder) / CHECKPOINTS).glob("step-*"), None) is not None


def _home(vae: VAE) -> Path:
    """Where the model lies, or would, were it in a folder of the user's."""
    if vae.folder_ is None:
        return Path("runs") / (vae.shipped_ or vae.recipe_.name)
    home = Path(vae.folder_)
    return home if files.is_plain(home.name) else home.resolve()


def _free(home: Path, name: str) -> str:
    """The first of `HOME-NAME`, `HOME-NAME-2` and so on that is not there."""
    first = home.with_name(f"{home.name}-{name}")
    others = (first.with_name(f"{first.name}-{number}") for number in count(2))
    return str(first if not first.exists() else next(path for path in others if not path.exists()))
