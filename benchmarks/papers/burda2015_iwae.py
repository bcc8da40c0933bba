"""Burda et al. (2015), table 1: IWAE with one stochastic layer, k = 50, on MNIST: NLL 84.78."""

from __future__ import annotations

from dataclasses import replace

import burda2015
from paper import Figure, main

import vaelab
from vaelab.objectives import ImportanceWeighted


def recipe(shape: tuple[int, ...]) -> vaelab.Recipe:
    """That of `burda2015`, trained on the importance-weighted bound of 50 particles."""
    same = burda2015.recipe(shape)
    return replace(same, name="burda2015_iwae", objective=ImportanceWeighted(50))


FIGURE = Figure(
    name="burda2015_iwae",
    paper=burda2015.FIGURE.paper,
    address=burda2015.FIGURE.address,
    what="IWAE, k = 50, one layer of 50 latent units, 2 × 200 tanh, dynamic binarisation; "
    "log p(x) with 5,000 particles",
    published={"log_likelihood": -84.78},
    recipe=recipe,
    ours=burda2015.FIGURE.ours,
)

if __name__ == "__main__":
    main(FIGURE)
