"""Floor 2: the distributions that the parts return, and the divergence between any two.

`torch.distributions` supplies nearly all. What stands here carries a convention that torch's own
classes lack: `DiagonalNormal` uses vaelab's closed-form KL divergence, `GreyBernoulli` accepts grey
levels. Nothing of torch's own is changed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Independent, Normal
from torch.distributions.kl import kl_divergence, register_kl

from vaelab.divergences import normal_formula

__all__ = [
    "DiagonalNormal",
    "GreyBernoulli",
    "Share",
    "SharedNormal",
    "isolated",
    "kl",
    "kl_per_dimension",
    "seeded",
]


class DiagonalNormal(Independent):  # type: ignore[type-arg]
    """Normal distribution over vectors with independent coordinates: event `(D,)`.

    Arguments:
        loc: Means `(..., D)`.
        scale: Standard deviations `(..., D)`, above 0; not checked, for speed: the parts that
            build one guarantee it.

    >>> q = DiagonalNormal(torch.zeros(3, 2), torch.ones(3, 2))
    >>> q.batch_shape, q.event_shape
    (torch.Size([3]), torch.Size([2]))
    """

    def __init__(self, loc: Tensor, scale: Tensor) -> None:
        super().__init__(_normal(loc, scale), 1, validate_args=False)

    def expand(self, batch_shape: Sequence[int], _instance: object = None) -> DiagonalNormal:
        """The same distribution with a larger batch shape."""
        shape = (*batch_shape, *self.event_shape)
        return DiagonalNormal(self.loc.expand(shape), self.scale.expand(shape))

    @property
    def loc(self) -> Tensor:
        """Means `(..., D)`."""
        loc: Tensor = self.base_dist.loc
        return loc

    @property
    def scale(self) -> Tensor:
        """Standard deviations `(..., D)`."""
        scale: Tensor = self.base_dist.scale
        return scale


def _normal(loc: Tensor, scale: Tensor) -> Normal:
    """N(loc, scale²), unchecked; tensors of one shape are not broadcast, which takes as long as a
    small layer does and adds to what gradients have to go through.
    """
    if loc.shape != scale.shape:
        return Normal(loc, scale, validate_args=False)
    normal = Normal.__new__(Normal)
    normal.loc, normal.scale = loc, scale
    Distribution.__init__(normal, loc.shape, validate_args=False)
    return normal


class Share(NamedTuple):
    """Which of a batch's rows are here, where several processes share it.

    Attributes:
        generator: Where the draws of the whole batch come from, in the same state on each process.
        start, stop: The rows [start, stop) are here.
        total: Rows of the whole batch.
    """

    generator: torch.Generator
    start: int
    stop: int
    total: int

    def bits(self, x: Tensor) -> Tensor:
        """Bits drawn with the probabilities `x`, `(stop - start, *shape)`: those that the rows
        would get in a draw of the whole batch.

        >>> ones = torch.ones(1, 2)
        >>> Share(torch.Generator(), 1, 2, 3).bits(ones)
        tensor([[1., 1.]])
        """
        whole = x.new_zeros(self.total, *x.shape[1:])
        whole[self.start : self.stop] = x
        return torch.bernoulli(whole, generator=self.generator)[self.start : self.stop]


class SharedNormal(DiagonalNormal):
    """A `DiagonalNormal` of a share of a batch, whose draws are those of the whole batch's.

    Noise is drawn for all rows and that of the others is left out, so a datum has the noise that
    it would have in one process, however many processes share its batch.

    Arguments:
        loc: Means `(N, D)` of the rows that are here.
        scale: Standard deviations `(N, D)`, above 0.
        share: Which rows they are.

    >>> halves = [Share(torch.Generator().manual_seed(0), n, n + 1, 2) for n in range(2)]
    >>> draws = [SharedNormal(torch.zeros(1, 3), torch.ones(1, 3), h).rsample() for h in halves]
    >>> whole = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    >>> torch.equal(torch.cat(draws), whole)
    True
    """

    def __init__(self, loc: Tensor, scale: Tensor, share: Share) -> None:
        super().__init__(loc, scale)
        self.share = share

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws `(*sample_shape, N, D)` that carry gradients."""
        share, loc = self.share, self.loc
        whole = loc.new_empty(*sample_shape, share.total, loc.shape[-1])
        noise = whole.normal_(generator=share.generator)
        return loc + noise[..., share.start : share.stop, :] * self.scale


class GreyBernoulli(Independent):  # type: ignore[type-arg]
    """Bernoulli distribution over bits that also scores grey levels.

    For a bit x, log p(x) = x ln μ + (1 − x) ln(1 − μ). For a grey level x in [0, 1] the same
    expression is used: it is the expected log-probability of a bit drawn with probability x, not
    the log-density of x, and does not integrate to one over [0, 1]. Values on grey levels compare
    with each other but not with values on bits.

    Arguments:
        logits: ln(μ / (1 − μ)), of shape `(..., *shape)`.
        event_dims: How many of the last dimensions are the event.
    """

    def __init__(self, logits: Tensor, event_dims: int) -> None:
        super().__init__(
            Bernoulli(logits=logits, validate_args=False), event_dims, validate_args=False
        )

    def expand(self, batch_shape: Sequence[int], _instance: object = None) -> GreyBernoulli:
        """The same distribution with a larger batch shape."""
        shape = (*batch_shape, *self.event_shape)
        return GreyBernoulli(self.logits.expand(shape), len(self.event_shape))

    @property
    def logits(self) -> Tensor:
        """ln(μ / (1 − μ)), `(..., *shape)`."""
        logits: Tensor = self.base_dist.logits
        return logits

    def log_prob(self, value: Tensor) -> Tensor:
        """Σ x ln μ + (1 − x) ln(1 − μ) of grey levels `(..., *shape)`: `(...)`, in nats."""
        both = torch.broadcast_tensors(self.logits, value)  # type: ignore[no-untyped-call]
        flat = (*both[0].shape[: both[0].dim() - len(self.event_shape)], self.event_shape.numel())
        logits, x = (tensor.reshape(flat) for tensor in both)
        score: Tensor = _BernoulliScore.apply(logits, x)  # type: ignore[no-untyped-call]
        return score


class _BernoulliScore(torch.autograd.Function):
    r"""Σ x l − ln(1 + eˡ) over the last dimension, of logits l and grey levels x `(..., D)`.

    With μ = 1 / (1 + e⁻ˡ), ln(1 + eˡ) = max(l, 0) − ln max(μ, 1 − μ), and ∂/∂l = x − μ: the one
    exponential of the value serves the gradient too. Σ ln max(μ, 1 − μ) is taken as logarithms of
    products of at most 64 factors, each at least ½, which cannot underflow: one half of the factors
    times the other, as long as they can be halved, which takes a third of the time of `prod`.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, x: Tensor) -> Tensor:
        mean = logits.sigmoid()
        work = torch.rsub(mean, 1)
        factors = torch.maximum(work, mean, out=work)
        for _ in range(int(math.log2(math.gcd(factors.shape[-1], 64)))):
            half, other = factors.chunk(2, -1)
            factors = half.mul_(other)
        certainty = factors.log().sum(-1)
        torch.clamp_min(logits, 0, out=work)  # memory in the cache is quicker than new memory
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(logits, x, torch.sub(x, mean, out=mean))
        return certainty.sub_(work.addcmul_(x, logits, value=-1).sum(-1))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        logits, x, slope = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient is itself to be differentiated
            slope = x - logits.sigmoid()
        by_logits, by_x = ctx.needs_input_grad
        grad = grad.unsqueeze(-1)
        return slope * grad if by_logits else None, logits * grad if by_x else None


@register_kl(DiagonalNormal, DiagonalNormal)  # type: ignore[no-untyped-call, untyped-decorator]
def _kl_diagonal_normal(p: DiagonalNormal, q: DiagonalNormal) -> Tensor:
    return kl_per_dimension(p, q).sum(-1)


def kl_per_dimension(p: DiagonalNormal, q: DiagonalNormal) -> Tensor:
    """KL(p ‖ q) of each coordinate, `(..., D)`, in nats; see `vaelab.kl_normal`."""
    result: Tensor = normal_formula(p.loc, p.scale, q.loc, q.scale, log=torch.log)
    return result


def kl(p: Distribution, q: Distribution, z: Tensor) -> Tensor:
    """KL(p ‖ q) in nats: the closed form if there is one, else an estimate from draws of p.

    Arguments:
        p, q: Distributions over z with batch shape `(N,)` or `()` and event `(D,)`.
        z: Draws from p, `(K, N, D)`; used only where no closed form is registered.

    Returns:
        `(N,)`: the mean over the K draws of ln p(z) − ln q(z) where it is an estimate.
    """
    try:
        return kl_divergence(p, q)
    except NotImplementedError:
        return (p.log_prob(z) - q.log_prob(z)).mean(0)


@contextmanager
def isolated(generator: torch.Generator | None) -> Iterator[None]:
    """Draws inside come from `generator`, which moves on; the global random state stays.

    `torch.distributions` can only draw from the global state; this lends it a generator's.
    With `None` the draws come from the global state, as everywhere in torch.
    """
    if generator is None:
        yield
        return
    devices = [generator.device] if generator.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        if devices:
            torch.cuda.set_rng_state(generator.get_state(), generator.device)
        else:
            torch.set_rng_state(generator.get_state())
        try:
            yield
        finally:
            state = torch.cuda.get_rng_state(generator.device) if devices else torch.get_rng_state()
            generator.set_state(state)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draws inside start from `seed`; the global random state is put back afterwards.

    >>> before = torch.get_rng_state()
    >>> with seeded(0):
    ...     a = torch.randn(3)
    >>> with seeded(0):
    ...     b = torch.randn(3)
    >>> torch.equal(a, b), torch.equal(before, torch.get_rng_state())
    (True, True)
    """
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
