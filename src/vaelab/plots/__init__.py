"""Floor 1: arrays to figures; the only importer of matplotlib.

Every function takes plain arrays and returns a `matplotlib.figure.Figure` that belongs to no
window: nothing is shown, no global setting is changed, and the same arrays give the same bytes.
A mapping gives one entry a model; its order is the order of panels, columns, rows and colours, so
that a model has one colour in all figures drawn from the same names. Images are floats in [0, 1],
`(..., C, H, W)`, grey where C is 1 and in colour where C is 3; what lies outside is clipped.
Energies are in nats.

Arguments that do not fit raise `vaelab.checks.ArgumentError`, in one line that names the argument,
what was found and what is wanted.
"""

from vaelab.plots._canvas import model_colours, png_bytes, save, show
from vaelab.plots._curves import history, kl_comparison, kl_densities
from vaelab.plots._images import decoded, image_grid, interpolation, manifold, reconstructions
from vaelab.plots._latent import latent_map
from vaelab.plots._scores import scores

__all__ = [
    "decoded",
    "history",
    "image_grid",
    "interpolation",
    "kl_comparison",
    "kl_densities",
    "latent_map",
    "manifold",
    "model_colours",
    "png_bytes",
    "reconstructions",
    "save",
    "scores",
    "show",
]
