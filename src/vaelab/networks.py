"""Floor 2: networks that map tensors of one shape to tensors of another.

A network maps `(..., *in_shape)` to `(..., *out_shape)`. None uses batch statistics, so what is
computed for a datum does not depend on its batch-mates.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vaelab import checks
from vaelab.parts import Part

__all__ = [
    "ACTIVATIONS",
    "MLP",
    "NETWORKS",
    "ConvDecoder",
    "ConvEncoder",
    "Network",
    "Wrapped",
    "soft_bound",
    "unbound",
]


GAIN, MIX_GAIN, LAST_GAIN = 1.4, 0.7, 0.3
FIRST_PATCH = 4
LARGEST_GRID = 8
ACTIVATIONS: dict[str, type[nn.Module]] = {
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}
"""What may stand between layers, by name."""

MAX_LOG_SCALE = 10.0
"""Bound on the log-scales of posteriors and likelihoods, for `soft_bound`."""


def soft_bound(raw: Tensor, bound: float) -> Tensor:
    """bound · tanh(raw / bound): close to `raw` near 0, within [−bound, bound] everywhere."""
    return bound * torch.tanh(raw / bound)


def unbound(value: Tensor, bound: float) -> Tensor:
    """The inverse of `soft_bound`, for values brought within 99 % of the bound.

    >>> unbound(soft_bound(torch.tensor(3.0), 10.0), 10.0)
    tensor(3.)
    """
    return bound * torch.atanh((value / bound).clamp(-0.99, 0.99))


class Network(Part):
    """Base of networks.

    Inputs are shifted before anything else is done to them: by zero, until `start` sets the shift
    to the mean of the data, as it does for a network that reads data.

    Attributes:
        in_shape: Shape of one input.
        out_shape: Shape of one output.
    """

    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    shift: Tensor

    def __init__(self, in_shape: Sequence[int], out_shape: Sequence[int]) -> None:
        super().__init__()
        self.in_shape = _shape("in_shape", in_shape)
        self.out_shape = _shape("out_shape", out_shape)
        self.register_buffer("shift", torch.zeros(self.in_shape))

    @abstractmethod
    def compute(self, x: Tensor) -> Tensor:
        """Maps `(N, *in_shape)` to N outputs of any shape that holds `out_shape`'s elements."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps `(..., *in_shape)` to `(..., *out_shape)`."""
        batch = x.shape[: max(0, x.dim() - len(self.in_shape))]
        if x.shape[len(batch) :] != self.in_shape:
            raise checks.ArgumentError(
                f"the network reads {self.in_shape}, but was given {tuple(x.shape)}."
            )
        flat = x.reshape(math.prod(batch), *self.in_shape) - self.shift
        return self.compute(flat).reshape(*batch, *self.out_shape)

    @torch.no_grad()
    def start(self, x: Tensor) -> None:
        """Sets the shift to the mean of data `(N, *in_shape)`."""
        self.shift.copy_(x.mean(0))

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draws the weights: variance gain² / fan-in, biases zero, the last layer's small.

        The gain keeps the size of activations through the layers, and small outputs at the start
        keep the first log-scales and logits near zero.
        """
        self.shift.zero_()
        layers = [m for m in self.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
        for layer in layers:
            gain = MIX_GAIN if isinstance(layer, nn.Conv2d) else GAIN
            gain = LAST_GAIN if layer is layers[-1] else gain
            nn.init.normal_(layer.weight, std=gain / math.sqrt(layer.weight[0].numel()))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class MLP(Network):
    """Dense layers with activations between them.

    Arguments:
        in_shape: Shape of one input; it is flattened.
        out_shape: Shape of one output.
        widths: Units of each hidden layer; none makes the network linear.
        activation: A name in `ACTIVATIONS`.

    >>> MLP((1, 28, 28), (2, 3), widths=(16,))(torch.zeros(5, 1, 28, 28)).shape
    torch.Size([5, 2, 3])
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        out_shape: Sequence[int],
        widths: Sequence[int] = (),
        activation: str = "silu",
    ) -> None:
        super().__init__(in_shape, out_shape)
        self.widths = _widths(widths)
        self.activation = checks.choice("activation", activation, ACTIVATIONS)
        sizes = (math.prod(self.in_shape), *self.widths, math.prod(self.out_shape))
        self.layers = _dense(sizes, ACTIVATIONS[activation])
        self.reset_parameters()

    def compute(self, x: Tensor) -> Tensor:
        """Maps `(N, *in_shape)` to `(N, outputs)`."""
        features: Tensor = self.layers(x.flatten(1))
        return features


class ConvEncoder(Network):
    """Patches, 3 × 3 convolutions between them, then dense layers; for images of any size.

    Each stage cuts the image into square patches, maps every patch to `channels` features by the
    same weights, and mixes neighbouring patches with a 3 × 3 convolution. Patches do not overlap,
    so cutting them is a matrix product, and the convolutions work on few places. The first patches
    are 4 × 4, later ones 2 × 2 with twice the channels, until at most 8 × 8 are left. Images are
    padded with zeros to whole patches.

    Arguments:
        in_shape: `(C, H, W)`.
        out_shape: Shape of one output.
        channels: Features of a patch in the first stage; by default 16 for grey images, else 32.
        widths: Units of each dense hidden layer.
        activation: A name in `ACTIVATIONS`.

    >>> ConvEncoder((3, 37, 50), (2, 3), channels=4, widths=(8,))(torch.zeros(5, 3, 37, 50)).shape
    torch.Size([5, 2, 3])
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        out_shape: Sequence[int],
        channels: int | None = None,
        widths: Sequence[int] = (256, 128, 128),
        activation: str = "silu",
    ) -> None:
        super().__init__(in_shape, out_shape)
        self.activation = checks.choice("activation", activation, ACTIVATIONS)
        act = ACTIVATIONS[activation]
        self.channels = _channels(channels, self.in_shape)
        self.widths = _widths(widths)
        self.plan = _plan("in_shape", self.in_shape, self.channels)
        stages: list[nn.Module] = []
        for size, before, after in self.plan.stages:
            linear = nn.Linear(size * size * before, after)
            stages += [_Cut(size), linear, act(), _Mix(after, act)]
        self.stages = nn.Sequential(*stages)
        self.dense = _dense((self.plan.features, *self.widths, math.prod(self.out_shape)), act)
        self.reset_parameters()

    def compute(self, x: Tensor) -> Tensor:
        """Maps images `(N, C, H, W)` to `(N, outputs)`."""
        down, right = self.plan.padding
        padded = nn.functional.pad(x, (0, right, 0, down)) if down or right else x
        features: Tensor = self.dense(self.stages(padded.permute(0, 2, 3, 1)).flatten(1))
        return features


class ConvDecoder(Network):
    """The mirror image of `ConvEncoder`: dense layers, then patches that are laid out and joined.

    Arguments:
        in_shape: Shape of one input, `(D,)`.
        out_shape: `(C, H, W)`.
        channels: Features of a patch in the last stage; by default 16 for grey images, else 32.
        widths: Units of each dense hidden layer.
        activation: A name in `ACTIVATIONS`.

    >>> ConvDecoder((2,), (3, 37, 50), channels=4, widths=(8,))(torch.zeros(5, 2)).shape
    torch.Size([5, 3, 37, 50])
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        out_shape: Sequence[int],
        channels: int | None = None,
        widths: Sequence[int] = (128, 128, 128, 256),
        activation: str = "silu",
    ) -> None:
        super().__init__(in_shape, out_shape)
        self.activation = checks.choice("activation", activation, ACTIVATIONS)
        act = ACTIVATIONS[activation]
        self.channels = _channels(channels, self.out_shape)
        self.widths = _widths(widths)
        self.plan = _plan("out_shape", self.out_shape, self.channels)
        self.dense = _dense((math.prod(self.in_shape), *self.widths, self.plan.features), act)
        stages: list[nn.Module] = []
        for size, after, before in reversed(self.plan.stages):
            linear = nn.Linear(before, size * size * after)
            stages += [act(), _Mix(before, act), linear, _Join(size)]
        self.stages = nn.Sequential(*stages)
        self.reset_parameters()

    def compute(self, x: Tensor) -> Tensor:
        """Maps `(N, *in_shape)` to images `(N, C, H, W)`."""
        rows, columns, channels = self.plan.grid
        features = self.dense(x.flatten(1)).view(-1, rows, columns, channels)
        _, height, width = self.out_shape
        image: Tensor = self.stages(features)[:, :height, :width].permute(0, 3, 1, 2)
        return image


class Wrapped(Network):
    """Any `torch.nn.Module` as a network; it works everywhere, but cannot be saved to a folder.

    Arguments:
        module: Maps `(N, *in_shape)` to N outputs that hold `out_shape`'s elements.
        in_shape: Shape of one input.
        out_shape: Shape of one output.
    """

    def __init__(
        self, module: nn.Module, in_shape: Sequence[int], out_shape: Sequence[int]
    ) -> None:
        super().__init__(in_shape, out_shape)
        self.module = module

    def compute(self, x: Tensor) -> Tensor:
        """Maps `(N, *in_shape)` to what the module gives."""
        out: Tensor = self.module(x)
        return out


def _channels(channels: int | None, shape: tuple[int, ...]) -> int:
    return checks.integer("channels", 16 * min(2, shape[0]) if channels is None else channels)


class _Plan(NamedTuple):
    """How images are cut: a stage is (patch size, channels before, channels after)."""

    stages: tuple[tuple[int, int, int], ...]
    grid: tuple[int, int, int]
    padding: tuple[int, int]

    @property
    def features(self) -> int:
        return math.prod(self.grid)


def _plan(name: str, shape: tuple[int, ...], channels: int) -> _Plan:
    if len(shape) != 3:
        raise checks.ArgumentError(
            f"{name} = {shape}, but a convolutional network needs images (C, H, W); "
            "use a recipe with dense networks for vectors, 'vae' say."
        )
    before, height, width = shape
    stages = [(FIRST_PATCH, before, channels)]
    total = FIRST_PATCH
    while max(height, width) > LARGEST_GRID * total:
        stages.append((2, channels, 2 * channels))
        channels, total = 2 * channels, 2 * total
    rows, columns = math.ceil(height / total), math.ceil(width / total)
    padding = (rows * total - height, columns * total - width)
    return _Plan(tuple(stages), (rows, columns, channels), padding)


class _Cut(nn.Module):
    """Cuts `(N, H, W, C)` into patches: `(N, H / size, W / size, size² C)`."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        count, height, width, channels = x.shape
        rows, columns = height // self.size, width // self.size
        cut = x.reshape(count, rows, self.size, columns, self.size, channels)
        return cut.transpose(2, 3).reshape(count, rows, columns, -1)


class _Join(nn.Module):
    """The inverse of `_Cut`."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        count, rows, columns, _ = x.shape
        cut = x.reshape(count, rows, columns, self.size, self.size, -1).transpose(2, 3)
        return cut.reshape(count, rows * self.size, columns * self.size, -1)


class _Mix(nn.Module):
    """Adds to `(N, H, W, C)` what a 3 × 3 convolution and an activation make of it."""

    def __init__(self, channels: int, activation: type[nn.Module]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.activation = activation()

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        activated: Tensor = self.activation(mixed)
        return x + activated


def _dense(sizes: Sequence[int], activation: type[nn.Module]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), activation()]
    return nn.Sequential(*layers[:-1])


def _widths(widths: Sequence[int]) -> tuple[int, ...]:
    return tuple(checks.integer("widths", width) for width in widths)


def _shape(name: str, shape: Sequence[int]) -> tuple[int, ...]:
    if not shape:
        raise checks.ArgumentError(f"{name} is empty, but at least one dimension is needed.")
    return tuple(checks.integer(name, size) for size in shape)


NETWORKS: dict[str, type[Network]] = {
    "mlp": MLP,
    "conv-encoder": ConvEncoder,
    "conv-decoder": ConvDecoder,
}
"""The networks by name."""
