"""Floor 7: the trained models that ship with the package, by name.

Each is a model folder here, with weights in 16 bits, and beside the files of any model folder
`map.safetensors`, the codes of all its data; `origin.json`, how it came to be; and `card.md`, which
is made of the recorded facts. A name comes before a path: `./mnist-vae` is a folder of yours.

To list names takes neither torch nor NumPy.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vaelab import checks, files
from vaelab.shipped._cards import card_of
from vaelab.shipped._maps import MAP, Map, read_map, write_map

__all__ = [
    "CARD",
    "MAP",
    "Map",
    "card",
    "facts",
    "located",
    "maps",
    "names",
    "write_extras",
    "write_map",
]

ROOT = Path(__file__).parent
CONFIG, ORIGIN, CARD = "config.json", "origin.json", "card.md"


def names() -> list[str]:
    """The models that ship, in order."""
    return sorted(path.parent.name for path in ROOT.glob(f"*/{CONFIG}"))


def located(model: str | os.PathLike[str]) -> Path:
    """The folder of a model: where `model` is the name of one that ships, else the path itself.

    Raises:
        checks.StorageError: It is neither a name nor a path of anything.

    >>> located(Path("src")).name
    'src'
    """
    if isinstance(model, str) and model in names():
        if (Path(model) / CONFIG).is_file():
            warnings.warn(
                f"{model} is taken for the model that ships with vaelab; your folder is ./{model}.",
                checks.VaelabWarning,
                stacklevel=3,
            )
        return ROOT / model
    known = names()
    if isinstance(model, str) and known and not Path(model).exists():
        what = f"{model} is not there, and as the name of a model that ships it"
        raise checks.StorageError(checks.unknown(what, model, known))
    return Path(model)


def facts(name: str) -> dict[str, Any]:
    """What is recorded of a model that ships: its `config.json`, and beside it `name`, `origin`
    and `bytes`, the size of its files.
    """
    folder = ROOT / checks.choice("model", name, names())
    config: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    config["origin"] = json.loads((folder / ORIGIN).read_text(encoding="utf-8"))
    config["name"] = name
    config["bytes"] = sum(path.stat().st_size for path in folder.iterdir())
    return config


def card(name: str) -> str:
    """The model card, in Markdown."""
    return (ROOT / checks.choice("model", name, names()) / CARD).read_text(encoding="utf-8")


def write_extras(folder: Path, origin: dict[str, Any]) -> None:
    """Adds to a model folder how it came to be, and the card that follows from all that is there.

    Arguments:
        folder: A model folder, which is called as the model will be.
        origin: `command`, `date`, `machine`, the data's `licence`, the type of the `weights`, what
            their rounding changed the test ELBO by (`rounding`, `rounding_se`), `held_out`, how
            many data were chosen by, and `valid_elbo` on them.
    """
    files.write_json(folder / ORIGIN, origin)
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    files.write_atomically(folder / CARD, card_of({**config, "name": folder.name}, origin))


def maps(models: Iterable[str | None]) -> list[Map] | None:
    """What can be shown of models that ship without their data; `None` where the data are needed.

    They are where a model is none that ships, `None`, and they are taken where they are at hand.

    Raises:
        checks.DataError: The models were trained on different data.
    """
    from vaelab.data import describe

    given = list(models)
    shipped = [name for name in given if name is not None]
    if not shipped or len(shipped) < len(given):
        return None
    data = facts(shipped[0])["data"]["name"]
    if data not in {row.name for row in describe() if row.place == "download"}:
        return None
    found = [read_map(ROOT / name) for name in shipped]
    for name, one in zip(shipped, found, strict=True):
        if one.fingerprint != found[0].fingerprint:
            raise checks.DataError(
                f"{shipped[0]} was trained on {found[0].train.name}, but {name} on "
                f"{one.train.name}; give the data to show both on (--data)."
            )
    return found
