"""Davidson et al. (2018), table 1: Gaussian VAE with two latent dimensions on dynamic MNIST."""

from __future__ import annotations

from dataclasses import replace

from paper import Figure, main

import vaelab


def recipe(shape: tuple[int, ...]) -> vaelab.Recipe:
    """The recipe `vae`, trained for longer, on bits."""
    ours = vaelab.recipes.vae(shape)
    return replace(ours, training=replace(ours.training, epochs=60, binarize="dynamic"))


FIGURE = Figure(
    name="davidson2018",
    paper="Davidson, Falorsi, De Cao, Kipf and Tomczak (2018), Hyperspherical Variational "
    "Auto-Encoders, table 1",
    address="https://arxiv.org/abs/1804.00891",
    what="VAE with a normal posterior, d = 2, dynamic binarisation",
    published={"elbo": -137.08, "log_likelihood": -135.73},
    recipe=recipe,
    ours="our networks (256-128-128 and 128-128-128-256, SiLU), 60 epochs of batches of 512",
)

if __name__ == "__main__":
    main(FIGURE)
