"""Floor 1: what every part of a model has in common.

A part is a `torch.nn.Module` that follows scikit-learn's convention: its constructor stores each
argument under the argument's own name. A part can therefore be described in plain JSON and built
again from that description, so that nothing is ever pickled.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from torch import Tensor, nn

from vaelab import checks

__all__ = ["Part", "build", "describe", "fresh"]

Module = TypeVar("Module", bound=nn.Module)


class Part(nn.Module):
    """Base of posteriors, priors, likelihoods and networks."""

    def settings(self) -> dict[str, Any]:
        """The constructor's arguments by name; parts among them are given as they are."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def start(self, x: Tensor) -> None:
        """A hook, called once before training with data `(N, *shape)` in `float32`.

        A part whose weights should start from the data sets them here; most do nothing.
        """


def fresh(module: Module) -> Module:
    """A copy with new weights, drawn from torch's global random state; the original is untouched.

    Every sub-module that has torch's customary `reset_parameters` is reset, children first.
    """
    new = copy.deepcopy(module)

    def reset(child: nn.Module) -> None:
        method = getattr(child, "reset_parameters", None)
        if callable(method):
            method()

    return new.apply(reset)


def describe(part: object) -> dict[str, Any]:
    """A part as plain JSON values: its class and its settings, parts among them likewise.

    Raises:
        checks.StorageError: A plain `nn.Module` stands inside, which cannot be described.

    >>> from vaelab.priors import StandardNormal
    >>> describe(StandardNormal(2))
    {'part': 'StandardNormal', 'latent_dim': 2}
    """
    if not isinstance(part, Part):
        raise checks.StorageError(
            f"{type(part).__name__} cannot be saved, because only a vaelab Part can be described; "
            "derive its class from vaelab.parts.Part, or save its state_dict() yourself."
        )
    described: dict[str, Any] = {"part": type(part).__name__}
    for name, value in part.settings().items():
        if isinstance(value, nn.Module):
            described[name] = describe(value)
        else:
            described[name] = list(value) if isinstance(value, tuple) else value
    return described


def build(description: Mapping[str, Any], known: Iterable[type[Part]]) -> Part:
    """The part that `describe` described, with fresh weights.

    Arguments:
        description: What `describe` returned, perhaps read back from JSON.
        known: The classes that may be built; no other code is ever run.

    Raises:
        checks.StorageError: An unknown class, or settings that do not fit it.
    """
    classes = {cls.__name__: cls for cls in known}
    name = description.get("part")
    if not isinstance(name, str) or name not in classes:
        raise checks.StorageError(
            f"part {name!r} is not known here; if you wrote it, pass its class: "
            "vaelab.load(folder, parts=[...])."
        )
    wanted = set(inspect.signature(classes[name]).parameters)
    given = set(description) - {"part"}
    if given != wanted:
        raise checks.StorageError(
            f"part {name}: settings {sorted(given)} were found, but it has {sorted(wanted)}."
        )
    settings = {
        key: build(value, classes.values())
        if isinstance(value, Mapping)
        else (tuple(value) if isinstance(value, list) else value)
        for key, value in description.items()
        if key != "part"
    }
    try:
        return classes[name](**settings)
    except (TypeError, ValueError, RuntimeError) as error:
        raise checks.StorageError(f"part {name} cannot be built: {error}") from error
