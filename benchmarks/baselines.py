"""Plain PyTorch: what somebody who knows it well writes without a library, and lean.

The data are one float tensor in memory; a batch is `index_select` of a permutation, which takes
less than half the time of `x[rows]`; there is no loader, history, progress bar or clipping,
and the optimiser is the fused one.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, silu

import vaelab
from common import BATCH, Digits, elbo


class Plain(nn.Module):
    """Encoder and decoder; the encoder gives two means, then two log-variances."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, x: Tensor) -> Tensor:
        """The negative ELBO, mean over the batch, with the closed-form KL divergence."""
        loc, log_variance = self.encoder(x).chunk(2, 1)
        z = loc + (0.5 * log_variance).exp() * torch.randn_like(loc)
        logits = self.decoder(z)
        distortion = binary_cross_entropy_with_logits(logits, x, reduction="sum")
        rate = 0.5 * (loc.square() + log_variance.exp() - 1 - log_variance).sum()
        loss: Tensor = (distortion + rate) / len(x)
        return loss

    def codes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Means and standard deviations of q(z|x)."""
        loc, log_variance = self.encoder(x).chunk(2, 1)
        return loc, (0.5 * log_variance).exp()

    def test_elbo(self, data: Digits) -> float:
        """Mean ELBO on the test digits."""
        return elbo(self.codes, self.decoder, data)


def classic() -> Plain:
    """The classic network: 784-512-2-512-784 with ReLU."""
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 4))
    decoder = nn.Sequential(nn.Linear(2, 512), nn.ReLU(), nn.Linear(512, 784))
    return Plain(encoder, nn.Sequential(*decoder, nn.Unflatten(1, (1, 28, 28))))


def tutorial() -> Plain:
    """The convolutional network of most tutorials: 3 × 3, stride 2, 32 and 64 channels.

    In the memory layout in which it is quickest on a processor, which tutorials seldom take.
    """
    encoder = nn.Sequential(
        nn.Conv2d(1, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(7 * 7 * 64, 4),
    )
    decoder = nn.Sequential(
        nn.Linear(2, 7 * 7 * 64),
        nn.ReLU(),
        nn.Unflatten(1, (64, 7, 7)),
        nn.ConvTranspose2d(64, 64, 3, stride=2, padding=1, output_padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(64, 32, 3, stride=2, padding=1, output_padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(32, 1, 3, padding=1),
    )
    network: Plain = Plain(encoder, decoder).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


class Shift(nn.Module):
    """Adds one tensor to each datum: a constant, or a learnt one."""

    def __init__(self, shape: tuple[int, ...], *, learnt: bool) -> None:
        super().__init__()
        self.amount = nn.Parameter(torch.zeros(shape), requires_grad=learnt)

    def forward(self, x: Tensor) -> Tensor:
        """Data `(N, *shape)` to data."""
        return x + self.amount


def twin(recipe: vaelab.Recipe, encoder: nn.Module, decoder: nn.Module) -> Plain:
    """A plain network that computes what a recipe does, centred inputs and learnt offset too."""
    shape = recipe.posterior.shape
    return Plain(
        nn.Sequential(Shift(shape, learnt=False), encoder),
        nn.Sequential(decoder, Shift(shape, learnt=True)),
    )


def dense_twin(recipe: vaelab.Recipe) -> Plain:
    """The layers of a dense recipe, new and in a plain sequence."""
    halves = [leaves(part.network) for part in (recipe.posterior, recipe.likelihood)]
    decoder = nn.Sequential(*halves[1], nn.Unflatten(1, recipe.posterior.shape))
    return twin(recipe, nn.Sequential(nn.Flatten(), *halves[0]), decoder)


def leaves(network: nn.Module) -> list[nn.Module]:
    """New layers like those of a network, in order; only linear layers and activations."""
    layers: list[nn.Module] = []
    for module in network.modules():
        if isinstance(module, nn.Linear):
            layers.append(nn.Linear(module.in_features, module.out_features))
        elif not list(module.children()):
            if list(module.parameters()):
                raise TypeError(f"{type(module).__name__} has no plain twin here; write one.")
            layers.append(type(module)())
    return layers


class Mix(nn.Module):
    """x + SiLU(3 × 3 convolution of x)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Images `(N, C, H, W)` to images."""
        return x + silu(self.convolution(x))


def conv_twin(recipe: vaelab.Recipe) -> Plain:
    """The recipe `conv` for digits, in the plain layers that most would write it in.

    Cutting into patches is a convolution whose stride is its size, joining them the transposed
    one. If the recipe has changed since, the numbers of weights differ, and that is an error.
    """
    networks = (recipe.posterior.network, recipe.likelihood.network)
    reader, writer = (leaves(cast("nn.Module", network.dense)) for network in networks)
    channels = cast("nn.Linear", reader[0]).in_features // 49
    patches = nn.Conv2d(1, channels, 4, stride=4)
    encoder = nn.Sequential(patches, nn.SiLU(), Mix(channels), nn.Flatten(), *reader)
    joined = nn.ConvTranspose2d(channels, 1, 4, stride=4)
    grid = nn.Unflatten(1, (channels, 7, 7))
    decoder = nn.Sequential(*writer, grid, nn.SiLU(), Mix(channels), joined)
    biases = 4 * 4 - 1  # vaelab has one for each pixel of a patch, a convolution one for all
    for mine, theirs, more in zip((encoder, decoder), networks, (0, biases), strict=True):
        ours, wanted = (sum(p.numel() for p in half.parameters()) for half in (mine, theirs))
        if wanted != ours + more:
            raise ValueError(f"the recipe has {wanted} weights where its twin has {ours}.")
    return twin(recipe, encoder, decoder)


def epoch(
    network: Plain, optimizer: torch.optim.Optimizer, x: Tensor, batch_size: int = BATCH
) -> None:
    """One pass over the data in a new order."""
    for rows in torch.split(torch.randperm(len(x)), batch_size):
        loss = network(x.index_select(0, rows))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def adam(network: Plain) -> torch.optim.Optimizer:
    """The tutorials' optimiser, in torch's quickest form."""
    return torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)


def adamw(network: Plain) -> torch.optim.Optimizer:
    """The optimiser that vaelab trains with."""
    return torch.optim.AdamW(
        [weight for weight in network.parameters() if weight.requires_grad],
        lr=1e-3,
        betas=(0.9, 0.99),
        weight_decay=0.1,
        fused=True,
    )
