"""Floor 3: networks that are given the class of a datum beside their input."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from vaelab import checks
from vaelab.networks import Network

__all__ = ["Conditioned", "bound", "class_weights"]

Module = TypeVar("Module", bound=nn.Module)


class Conditioned(Network):
    r"""A network whose input has the class of the datum appended to it.

    The input is flattened, and C numbers follow: √C for the datum's class and 0 for the others, so
    that over equal classes they have a mean square of 1, as the other inputs have. In posterior
    and likelihood it makes a model of p(x|y) = ∫ p(z) p(x|z, y) dz with q(z|x, y), whose code need
    not hold the class.

    It computes only with labels bound to it, which `bound` does; a model's `given` does so for all
    of its networks.

    References: K. Sohn, H. Lee and X. Yan, Learning Structured Output Representation using Deep
    Conditional Generative Models (2015), https://papers.nips.cc/paper/5775; D. P. Kingma et al.,
    Semi-supervised Learning with Deep Generative Models (2014), the supervised part of model M2,
    https://arxiv.org/abs/1406.5298

    Arguments:
        network: Reads vectors of as many elements as an input has and C more.
        in_shape: Shape of one input, without the class.
        classes: C, at least 1.

    Attributes:
        labels: Weights of the classes, `(N, C)`, or `None` where no labels are bound.

    Raises:
        checks.ArgumentError: The network reads another shape.

    >>> from vaelab.networks import MLP
    >>> network = Conditioned(MLP((3 + 10,), (2, 1), widths=(8,)), (3,), 10)
    >>> bound(network, class_weights(torch.tensor([7, 0]), 10))(torch.zeros(5, 2, 3)).shape
    torch.Size([5, 2, 2, 1])
    """

    labels: Tensor | None

    def __init__(self, network: Network, in_shape: Sequence[int], classes: int) -> None:
        super().__init__(in_shape, network.out_shape)
        self.network = network
        self.classes = checks.integer("classes", classes)
        self.labels = None
        wanted = math.prod(self.in_shape) + self.classes
        if network.in_shape != (wanted,):
            raise checks.ArgumentError(
                f"network reads {network.in_shape}, but with inputs {self.in_shape} and "
                f"{self.classes} classes it must read ({wanted},)."
            )

    def compute(self, x: Tensor) -> Tensor:
        """Maps `(K N, *in_shape)`, K inputs for each of the N labels in turn, to as many outputs.

        Raises:
            checks.ArgumentError: No labels are bound, or another number of them.
        """
        if self.labels is None:
            raise checks.ArgumentError(
                "labels = None, but the model is conditional; bind labels: model.given(y)."
            )
        count = len(self.labels)
        if len(x) % count:
            raise checks.ArgumentError(
                f"{count} labels are bound for {len(x)} inputs; bind one for each."
            )
        labels = math.sqrt(self.classes) * self.labels.repeat(len(x) // count, 1)
        out: Tensor = self.network(torch.cat([x.flatten(1), labels], 1))
        return out


def class_weights(y: Tensor, classes: int) -> Tensor:
    """Numbers of classes `(N,)`, each in [0, classes), as weights of the classes: `(N, classes)`.

    >>> class_weights(torch.tensor([2, 0]), 3)
    tensor([[0., 0., 1.],
            [1., 0., 0.]])
    """
    return (y[:, None] == torch.arange(classes, device=y.device)).float()


def bound(module: Module, labels: Tensor) -> Module:
    """A module with labels bound to each `Conditioned` in it; the original stays without.

    It shares the weights and all else with the original, so it costs next to nothing.

    Arguments:
        module: A network, a part or a model.
        labels: Weights of the classes, `(N, C)`, on its device: one row for each of N inputs, or a
            single one for any number.
    """
    if not isinstance(module, Conditioned) and not module._modules:
        return module
    twin = copy.copy(module)
    if isinstance(twin, Conditioned):
        twin.labels = labels
    else:
        children = {name: child and bound(child, labels) for name, child in module._modules.items()}
        twin.__dict__["_modules"] = children
    return twin
