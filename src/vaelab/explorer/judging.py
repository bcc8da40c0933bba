"""Figures of each datum, and ranks of pictures among data; each is worked out once, when asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from vaelab import checks, importance, metrics
from vaelab.estimator import VAE
from vaelab.explorer.rows import Rows, pieces
from vaelab.objectives import ELBO
from vaelab.tensors import STATIC_SEED, as_tensor, binarized

__all__ = ["FIGURES", "Judge", "Ranked"]

FIGURES = ("elbo", "rate", "distortion")

BLOCK, PIECE = 256, 32
"""How many data are judged, and are made a reference, at once: a small part of a second, between
which other requests have their turn."""
REFERENCE, PARTICLES = 512, 100
"""How many test data pictures are ranked among, and the particles of log p(x)."""


class Ranked(NamedTuple):
    """Figures of a picture in nats, and the shares of the reference that are lower, in [0, 1].

    `reference` is log p(x) of the reference in nats, in order.
    """

    elbo: float
    rate: float
    distortion: float
    log_p: float
    elbo_rank: float
    log_p_rank: float
    reference: np.ndarray


class Judge:
    """What models make of data, in nats. One thread at a time may use it.

    A model that was trained on bits is judged on bits, drawn with the grey levels by fixed seeds.
    Each block of 256 data has a seed of its own, that of its number: the figures do not depend on
    what is asked for first. They take 8 bytes for each datum and model.

    Arguments:
        models: Fitted models.
        rows: The data.
        references: What pictures are ranked among, by model, where that is known: ELBO and log
            p(x), each in order, `(2, R)`.
    """

    def __init__(
        self, models: Sequence[VAE], rows: Rows, references: Sequence[np.ndarray] = ()
    ) -> None:
        self.models, self.rows = list(models), rows
        self._blocks = pieces(rows.count, BLOCK)
        self._terms = [np.zeros((2, rows.count), np.float32) for _ in models]
        self._known = [np.zeros(len(self._blocks), bool) for _ in models]
        self._references = dict(enumerate(references))

    def terms(self, model: int, index: int) -> tuple[float, float]:
        """Rate and distortion of a datum."""
        self._judge(model, index // BLOCK)
        rate, distortion = self._terms[model][:, index].tolist()
        return rate, distortion

    def figure(self, model: int, name: str) -> np.ndarray:
        """One of `FIGURES` of all data: `(N,)`, `float32`."""
        checks.choice("name", name, FIGURES)
        for _ in self.figure_steps(model):
            pass
        rate, distortion = self._terms[model]
        return {"elbo": -(rate + distortion), "rate": rate, "distortion": distortion}[name]

    def figure_steps(self, model: int) -> Iterator[None]:
        """Works out the figures of all data in small steps, between which it yields."""
        for block in np.flatnonzero(~self._known[model]).tolist():
            self._judge(model, block)
            yield

    def rank_steps(self) -> Iterator[None]:
        """Works out in small steps what pictures are ranked among: a fixed sample of test data."""
        if len(self._references) == len(self.models):
            return
        sample = as_tensor(self.rows.sets[-1].limited(REFERENCE).x)
        for model in range(len(self.models)):
            if model in self._references:
                continue
            known = []
            for number, rows in enumerate(pieces(len(sample), PIECE)):
                terms, log_p = self._weighed(model, sample[rows], number)
                known.append(np.stack([terms.elbo, log_p]))
                yield
            self._references[model] = np.sort(np.concatenate(known, 1), 1)

    def reference(self, model: int) -> np.ndarray:
        """What pictures are ranked among: ELBO and log p(x) of test data, each in order."""
        for _ in self.rank_steps():
            pass
        return self._references[model]

    def ranked(self, model: int, x: Tensor) -> Ranked:
        """The figures of a single datum at rest, `(1, *shape)`, and its ranks."""
        lower = self.reference(model)
        terms, weighed = self._weighed(model, x)
        elbo, log_p = float(terms.elbo[0]), float(weighed[0])
        return Ranked(
            elbo=elbo,
            rate=float(terms.rate[0]),
            distortion=float(terms.distortion[0]),
            log_p=log_p,
            elbo_rank=float(np.searchsorted(lower[0], elbo)) / lower.shape[1],
            log_p_rank=float(np.searchsorted(lower[1], log_p)) / lower.shape[1],
            reference=lower[1].astype(np.float32),
        )

    def _judge(self, model: int, block: int) -> None:
        if self._known[model][block]:
            return
        rows = self._blocks[block]
        x = self._shown(model, self.rows.at(np.arange(rows.start, rows.stop)), block)
        found = metrics.per_datum(self.models[model].model_, ELBO(), x, seed=block)
        self._terms[model][:, rows] = found.rate, found.distortion
        self._known[model][block] = True

    def _weighed(self, model: int, x: Tensor, seed: int = 0) -> tuple[metrics.PerDatum, np.ndarray]:
        """The ELBO's terms and log p(x) of data at rest."""
        x, network = self._shown(model, x, seed), self.models[model].model_
        terms = metrics.per_datum(network, ELBO(), x, seed=seed)
        return terms, importance.weigh(network, x, particles=PARTICLES).log_likelihood

    def _shown(self, model: int, x: Tensor, seed: int) -> Tensor:
        bits = self.models[model].training_.binarize != "none"
        return binarized(x, STATIC_SEED + seed) if bits else x
