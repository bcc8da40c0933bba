"""The rate of the training step's matrix products against the bare products' rate."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

import vaelab
from common import (
    OWN_BATCH,
    Goal,
    Row,
    Settings,
    digits,
    epoch_of_vaelab,
    ratios,
    seconds,
    without_validation,
)

Shape = tuple[int, int]


def run(settings: Settings) -> list[Row]:
    """FLOP/s of the recipe `vae` in training and of bare products of the same shapes."""
    data = digits(6_000 if settings.quick else None)
    recipe = without_validation("vae", data.shape)
    dtype = computing_type(recipe, data.train)
    shapes = linear_shapes(recipe.model())
    products = list(bare_products(shapes, dtype))
    steps = len(data.x) // OWN_BATCH
    _multiply(products, 20)
    ours, bare = [], []
    for _ in range(2 if settings.quick else 25):
        loop, _ = epoch_of_vaelab(recipe, data.train)
        ours.append(flops(shapes, len(data.x)) / loop / 1e9)
        taken = seconds(lambda: _multiply(products, steps))
        bare.append(flops(shapes, steps * OWN_BATCH) / taken / 1e9)
    each = flops(shapes, OWN_BATCH) / 1e6
    kind = str(dtype).removeprefix("torch.")
    return [
        Row("vaelab vae: a training step", tuple(ours), "GFLOP/s", note=f"{each:.0f} MFLOP"),
        Row(f"bare products, {kind}", tuple(bare), "GFLOP/s"),
        Row("vaelab / bare products", ratios(ours, bare), "×", Goal(0.7, at_least=True)),
    ]


def linear_shapes(model: vaelab.Model) -> list[Shape]:
    """(in, out) of every linear layer, in the order in which a step reaches them."""
    halves = (model.parts["posterior"], model.parts["likelihood"])
    found = [m for half in halves for m in half.modules() if isinstance(m, nn.Linear)]
    return [(layer.in_features, layer.out_features) for layer in found]


def flops(shapes: list[Shape], images: int) -> int:
    """Of all matrix products for so many images.

    Forward, weights' gradients, and inputs' gradients but for those of the first layer, whose
    inputs are data.
    """
    sizes = [inputs * outputs for inputs, outputs in shapes]
    return 2 * images * (3 * sum(sizes) - sizes[0])


def bare_products(shapes: list[Shape], dtype: torch.dtype) -> Iterator[Callable[[], Tensor]]:
    """All products of a training step as calls, in a step's order, each into its own memory."""

    def product(a: Tensor, b: Tensor) -> Callable[[], Tensor]:
        out = torch.empty(a.shape[0], b.shape[1], dtype=dtype)
        return lambda: torch.mm(a, b, out=out)

    def draw(rows: int, columns: int) -> Tensor:
        return torch.randn(rows, columns).to(dtype)

    layers = [(draw(OWN_BATCH, i), draw(o, i), draw(OWN_BATCH, o)) for i, o in shapes]
    for x, weight, _ in layers:
        yield product(x, weight.T)
    for position, (x, weight, gradient) in reversed(list(enumerate(layers))):
        if position:
            yield product(gradient, weight)
        yield product(gradient.T, x)


def _multiply(products: list[Callable[[], Tensor]], steps: int) -> None:
    for _ in range(steps):
        for product in products:
            product()


def computing_type(recipe: vaelab.Recipe, train: vaelab.Dataset) -> torch.dtype:
    """The type in which training computes linear layers, seen from inside one."""
    seen: list[torch.dtype] = []
    layers = [m for m in recipe.posterior.modules() if isinstance(m, nn.Linear)]
    hook = layers[0].register_forward_hook(lambda *args: seen.append(args[-1].dtype))
    vaelab.VAE(recipe, epochs=1, batch_size=OWN_BATCH).fit(train.limited(256))
    hook.remove()
    return seen[0] if seen else layers[0].weight.dtype
