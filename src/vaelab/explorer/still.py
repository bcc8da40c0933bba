"""What a page without a server carries, as text within a budget: points, pictures, decoders, edges.

Numbers travel as base64: codes as whole numbers of 16 bits over their range, so they are within
1/131,070 of it; figures likewise; posterior scales by their logarithms in 8 bits. Weights of
decoders are in 16-bit floats where means stay within half a grey level of 255, else in 32 bits.
Pictures lie on WebP sheets, in the way that changes them least and fits.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor, nn

from vaelab import checks, latent
from vaelab.estimator import VAE
from vaelab.explorer import edges, sheets
from vaelab.explorer.blobs import Blobs
from vaelab.explorer.rows import NO_CLASS, pieces
from vaelab.explorer.scene import Scene
from vaelab.explorer.sheets import TEXT, Kind, Layout, sheet
from vaelab.latent import Codes
from vaelab.likelihoods import Bernoulli, Gaussian
from vaelab.metrics import PerDatum
from vaelab.model import Model
from vaelab.networks import ACTIVATIONS, MLP, ConvDecoder, _Join, _Mix
from vaelab.records import Dataset
from vaelab.tensors import to_float

__all__ = ["BUDGET", "embedded"]

BUDGET = 11_100_000
"""Characters that a page carries by default; figures as PNG come on top of them."""

PROBED = 512
"""Data of each split that are looked at to decide how all are carried."""
TOLERANCE = 0.5 / 255
"""By how much weights in 16 bits may change a mean, as a share of the range of the data."""
LATTICE, COMPONENTS = 48, 8
"""Points along a side of a lattice of decoded images, and principal components that are carried."""
BESIDE = 10_000
"""Characters beside arrays and what is said of data and models."""
NAMED = 254
"""At most so many classes fit in 8 bits, beside the number that stands for none."""
SPARE = 0.97
"""Share of the budget that is planned for: pictures are measured on a sample."""

Layer = dict[str, Any]


def embedded(
    models: Mapping[str, VAE],
    train: Dataset,
    test: Dataset | None = None,
    *,
    latents: Mapping[str, Codes] | None = None,
    figures: Mapping[str, PerDatum] | None = None,
    lines: bool = True,
    budget: int = BUDGET,
) -> str:
    """What the page needs to show models and data without a server, as HTML.

    A decoder of parts that the page knows travels with its weights, and decodes any point. Another,
    or one that takes more than its share of the budget, travels as a lattice of what it decodes to.
    Where not all data fit, a fixed random part of each split does. Vectors themselves stay away.

    Arguments:
        models: Fitted models by name.
        train: The training data.
        test: The test data, if there are any.
        latents: Posteriors of training, then test data, by model, where known.
        figures: ELBO, rate and distortion of each datum, in the same order, by model; without
            them the page shows none.
        lines: Whether the page can draw lines between neighbours in the data space, whose graph
            takes seconds to compute; where there are too many data, it cannot.
        budget: At most how many characters are returned.

    Returns:
        `<script>` elements that no browser runs: one of JSON, `vaelab-scene`, and the arrays it
        refers to, `vaelab-blob-0` and so on.

    Raises:
        checks.ArgumentError: A budget too small, or latents or figures of other data or models.
        checks.DataError: Data that a model cannot take.

    >>> x = np.random.default_rng(0).random((64, 6), dtype=np.float32)
    >>> html = embedded({"vae": VAE(epochs=1).fit(x)}, Dataset(x=x, y=None, name="mine"))
    >>> html[:54]
    '<script type="application/json" id="vaelab-scene">{"sc'
    """
    checks.integer("budget", budget)
    sets = [part for part in (train, test) if part is not None]
    total = sum(map(len, sets))
    for what, known in (("latents", latents), ("figures", figures)):
        _check_known(what, known, models, total, every=what == "figures")
    probe = Scene(models, *(part.limited(PROBED) for part in sets))
    blobs, share = Blobs(), SPARE * budget / (2 * len(models))
    decoders = [_decoder(probe, k, blobs, share) for k in range(len(models))]
    joined = lines and edges.possible(sets)
    each = 4 * len(models) * bool(figures) + edges.TAKEN * joined
    kind, count = _fitting(probe, total, SPARE * budget - blobs.size, beside=each)
    if count < 1:
        raise checks.ArgumentError(
            f"budget = {budget:,}, but the decoders alone take {blobs.size:,} characters; "
            f"give at least {2 * blobs.size + 100_000:,}."
        )
    kept = _kept(sets, count)
    rows = np.concatenate([part + k * len(train) for k, part in enumerate(kept)])
    scene = Scene(
        models,
        *(_part(data, some) for data, some in zip(sets, kept, strict=True)),
        codes={name: Codes(c.loc[rows], c.scale[rows]) for name, c in (latents or {}).items()},
    )
    document = {
        "scene": _facts(scene, decoders, every=len(rows) == total, figures=bool(figures)),
        "total": total,
        "labels": _labels(scene, blobs),
        "rows": None if len(rows) == total else blobs.add(np.concatenate(kept).astype(np.uint32)),
        "models": [
            _points(scene, k, blobs) | _figures(figures, name, rows, blobs) | decoder
            for k, (name, decoder) in enumerate(zip(models, decoders, strict=True))
        ],
        "images": None if kind is None else _sheets(_read(scene), len(rows), kind, blobs),
        "edges": _edges(scene, blobs) if joined else None,
    }
    return blobs.html(document)


def _check_known(
    what: str, known: Mapping[str, Any] | None, models: Iterable[str], total: int, *, every: bool
) -> None:
    names = list(models)
    for name, values in (known or {}).items():
        checks.choice(what, name, names)
        if any(len(part) != total for part in values):
            raise checks.ArgumentError(
                f"{what} of {name!r} are of {len(values[0]):,} data, but there are {total:,}; "
                "give them of the training data, then the test data."
            )
        if not all(np.isfinite(part).all() for part in values):
            raise checks.ArgumentError(f"{what} of {name!r} hold NaN or infinity; leave them out.")
    missing = [name for name in names if name not in (known or names)]
    if every and missing:
        raise checks.ArgumentError(
            f"{what} of {missing[0]!r} are missing; give them of all models."
        )


def _kept(sets: Sequence[Dataset], count: int) -> list[np.ndarray]:
    """The rows of each split that are carried, at least one: always the same, in their order."""
    share = min(1.0, count / sum(map(len, sets)))
    return [
        np.sort(np.random.RandomState(0).permutation(len(part))[: max(1, int(share * len(part)))])
        for part in sets
    ]


def _part(data: Dataset, rows: np.ndarray) -> Dataset:
    if len(rows) == len(data):
        return data
    y = None if data.y is None else data.y[rows]
    return replace(data, x=data.x[rows], y=y, factors=None, factor_names=())


def _fitting(probe: Scene, total: int, left: float, *, beside: int) -> tuple[Kind | None, int]:
    """How pictures are stored, if data are any, and how many data fit.

    `beside` is how many bytes a datum takes beside its picture, label, codes and scales.
    """
    dims = sum(vae.model_.latent_dim for vae in probe.models.values())
    label = 1 + (len(probe.rows.classes) > NAMED)
    each = TEXT * (label + 3 * dims + beside)
    left -= BESIDE + len(json.dumps(probe.facts))
    some = max(8, sheets.ELEMENTS // math.prod(probe.rows.shape))
    places = np.unique(np.linspace(0, probe.rows.count - 1, some).astype(int))
    for more in (each, each + 4 * TEXT):  # where not all fit, their rows are told too
        kind, count = None, min(total, int(left / more))
        if len(probe.rows.shape) == 3:
            kind, count = sheets.best(_read(probe)(places), total, left, each=more)
        if count == total:
            break
    return kind, count


def _read(scene: Scene) -> Callable[[np.ndarray], np.ndarray]:
    """What reads pictures of a scene by their indices."""
    return lambda rows: scene.rows.pixels(to_float(scene.rows.at(rows)).numpy())


def _facts(
    scene: Scene, decoders: Sequence[Mapping[str, Any]], *, every: bool, figures: bool
) -> dict[str, Any]:
    facts = scene.facts
    hover = "none" if len(scene.rows.shape) == 1 else "all" if every else "some"
    exact = all("layers" in decoder for decoder in decoders)
    can: dict[str, Any] = {"upload": False, "geodesic": False, "gif": False, "axes": True}
    can["edges"] = "none" if facts["can"]["edges"] == "none" else "some"
    can |= {"hover": hover, "decode": "exact" if exact else "lattice"}
    return facts | {"can": can, "figures": facts["figures"] if figures else []}


def _labels(scene: Scene, blobs: Blobs) -> dict[str, Any] | None:
    places = scene.labels()
    if places is None:
        return None
    if len(scene.rows.classes) > NAMED:
        return blobs.add(places)
    return blobs.add(np.where(places == NO_CLASS, 255, places).astype(np.uint8))


def _points(scene: Scene, model: int, blobs: Blobs) -> dict[str, Any]:
    """A model's codes, their scales, and the principal components of codes."""
    loc, scale = scene.codes[model]
    last = range(2, max(2, min(loc.shape[1], COMPONENTS)) + 1)
    views = [scene.view(model, ("pc1", f"pc{k}")) for k in last]
    rows = [views[0].basis[0], *(view.basis[1] for view in views)]
    return {
        "codes": blobs.quantised(loc, np.uint16),
        "scales": blobs.quantised(np.log(np.maximum(scale, 1e-30)), np.uint8),
        "origin": blobs.add(views[0].origin),
        "components": blobs.add(np.stack(rows)[: loc.shape[1]]),
    }


def _figures(
    figures: Mapping[str, PerDatum] | None, name: str, rows: np.ndarray, blobs: Blobs
) -> dict[str, Any]:
    """Rate and distortion; the ELBO follows from them."""
    if not figures:
        return {}
    known = figures[name]
    both = {"rate": known.rate, "distortion": known.distortion}
    return {k: blobs.quantised(v[rows, None], np.uint16) for k, v in both.items()}


def _edges(scene: Scene, blobs: Blobs) -> dict[str, Any]:
    """The strongest edges of each datum in the neighbour graph of the data that are carried."""
    parts = edges.packed(edges.graph_of(scene.rows))
    return {"each": edges.EACH, "parts": [blobs.add(part) for part in parts]}


def _decoder(probe: Scene, model: int, blobs: Blobs, most: float) -> dict[str, Any]:
    """A decoder's layers with their weights, or else a lattice of what it decodes to."""
    vae = list(probe.models.values())[model].model_
    try:
        layers = _layers(vae.parts["likelihood"])
    except _UnknownPart:
        return _lattice(probe, model, blobs, most)
    points = probe.codes[model].loc[: max(8, 2**24 // math.prod(vae.shape))]
    error = _rounding(vae, np.concatenate([points, 2 * points]), probe.rows.range)
    kind = np.float16 if error <= TOLERANCE else np.float32
    arrays = [
        {
            key: value.detach().cpu().numpy().astype(_type(key, kind))
            for key, value in layer.items()
            if isinstance(value, Tensor)
        }
        for layer in layers
    ]
    if TEXT * sum(array.nbytes for layer in arrays for array in layer.values()) > most:
        return _lattice(probe, model, blobs, most)
    found = [{key: blobs.add(array) for key, array in layer.items()} for layer in arrays]
    return {"layers": [layer | own for layer, own in zip(layers, found, strict=True)]}


def _lattice(probe: Scene, model: int, blobs: Blobs, most: float) -> dict[str, Any]:
    """What points of a lattice over the map decode to, the lowest row first.

    For D > 2 the map is that of the first two principal components, through the mean code.
    """
    vae = list(probe.models.values())[model].model_
    view = probe.view(model, ("z1", "z2") if vae.latent_dim < 3 else ("pc1", "pc2"))
    low, high = view.points.min(0), view.points.max(0)
    middle, half = (low + high) / 2, 0.6 * (high - low) + 1e-3
    drawn = len(vae.shape) == 3

    def decoded(side: int) -> np.ndarray:
        across, up = (np.linspace(m - h, m + h, side) for m, h in zip(middle, half, strict=True))
        u = np.stack(np.meshgrid(across, up), -1).reshape(-1, 2)
        return probe.rows.pixels(latent.decode(vae, view.origin + u @ view.basis))

    kind, side = None, min(LATTICE, math.isqrt(int(most / (4 * TEXT * math.prod(vae.shape)))))
    if drawn:
        kind, count = sheets.best(decoded(16), LATTICE**2, SPARE * most)
        side = math.isqrt(count)
    side = max(2, side)
    images = decoded(side)
    box = [float(value) for value in (*(middle - half), *(middle + half))]
    stored = (
        blobs.add(images)
        if kind is None
        else _sheets(lambda rows: images[rows], side**2, kind, blobs)
    )
    place = {"origin": blobs.add(view.origin), "basis": blobs.add(view.basis)}
    return {"lattice": {"side": side, "box": box, "images": stored, **place}}


def _sheets(
    read: Callable[[np.ndarray], np.ndarray], count: int, kind: Kind, blobs: Blobs
) -> dict[str, Any]:
    """Pictures on as many sheets as they need; `read` gives those of some indices."""
    layout = Layout.of(read(np.arange(1)).shape[1:], kind)
    files = (
        sheet(read(np.arange(rows.start, rows.stop)), kind) for rows in pieces(count, layout.whole)
    )
    return {**layout._asdict(), "sheets": [blobs.add(file) for file in files]}


def _type(name: str, kind: type[np.floating]) -> type[np.floating]:
    """Weights, by far the most numbers of a decoder, are of a type; others have 32 bits."""
    return kind if name == "weight" else np.float32


def _rounding(model: Model, points: np.ndarray, span: tuple[float, float]) -> float:
    """The most that weights in 16 bits change a mean by, as a share of the range of the data."""
    rounded = copy.deepcopy(model)
    for part in rounded.parts["likelihood"].modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            part.weight.data = part.weight.data.half().float()
    exact = latent.decode(model, points)
    change = abs(latent.decode(rounded, points) - exact)
    wide = span[1] - span[0] if exact.ndim == 4 else np.maximum(np.ptp(exact, axis=0), 1e-30)
    return float(np.nan_to_num((change / wide).max(), nan=math.inf))


class _UnknownPart(Exception):  # noqa: N818
    """A part of a decoder that the page cannot compute."""


def _layers(module: nn.Module) -> list[Layer]:
    """What a part computes, layer by layer, as page/decoder.js does it."""
    if type(module) not in _LAYERS:
        raise _UnknownPart
    return _LAYERS[type(module)](module)


def _activate(name: str) -> Callable[[Any], list[Layer]]:
    return lambda _: [{"do": "activate", "activation": name}]


def _mixed(m: _Mix) -> list[Layer]:
    (active,) = _layers(m.activation)
    weight = m.conv.weight.permute(0, 2, 3, 1)
    return [active | {"do": "mix", "weight": weight, "bias": m.conv.bias}]


def _gaussian(m: Gaussian) -> list[Layer]:
    units = [] if m.unit is None else [{"do": "times", "values": m.unit}]
    return [*_layers(m.network), {"do": "add", "values": m.offset}, *units]


_LAYERS: dict[type[nn.Module], Callable[[Any], list[Layer]]] = {
    **{part: _activate(name) for name, part in ACTIVATIONS.items()},
    nn.Sequential: lambda m: [layer for part in m for layer in _layers(part)],
    nn.Linear: lambda m: [{"do": "dense", "weight": m.weight, "bias": m.bias}],
    _Mix: _mixed,
    _Join: lambda m: [{"do": "join", "size": m.size}],
    MLP: lambda m: [{"do": "add", "values": -m.shift}, *_layers(m.layers)],
    ConvDecoder: lambda m: [
        {"do": "add", "values": -m.shift},
        *_layers(m.dense),
        {"do": "view", "shape": list(m.plan.grid)},
        *_layers(m.stages),
        {"do": "image", "shape": list(m.out_shape)},
    ],
    Bernoulli: lambda m: [
        *_layers(m.network),
        {"do": "add", "values": m.offset},
        {"do": "activate", "activation": "sigmoid"},
    ],
    Gaussian: _gaussian,
}
