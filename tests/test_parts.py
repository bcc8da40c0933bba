"""Laws that hold for every member of every table of parts."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Independent, Normal

from vaelab import checks, testing
from vaelab.distributions import DiagonalNormal, GreyBernoulli, isolated, seeded
from vaelab.likelihoods import LIKELIHOODS, Bernoulli, Gaussian, Likelihood
from vaelab.model import Model
from vaelab.networks import MLP, NETWORKS, ConvDecoder, ConvEncoder, Network, Wrapped
from vaelab.parts import build, describe, fresh
from vaelab.posteriors import POSTERIORS, DiagonalGaussian, FixedGaussian, Posterior
from vaelab.priors import PRIORS, Prior, StandardNormal, Vamp
from vaelab.recipes import RECIPES

SHAPE = (1, 6, 5)


def posteriors() -> dict[str, Posterior]:
    return {
        "diagonal-gaussian": DiagonalGaussian(MLP(SHAPE, (2, 2), (16,))),
        "fixed-gaussian": FixedGaussian(MLP(SHAPE, (2,), (16,)), scale=0.7),
        "convolutional": DiagonalGaussian(ConvEncoder(SHAPE, (2, 2), channels=4, widths=(8,))),
    }


def priors() -> dict[str, Prior]:
    return {"standard-normal": StandardNormal(2), "vamp": Vamp(SHAPE, components=7)}


def likelihoods() -> dict[str, Likelihood]:
    network = MLP((2,), SHAPE, (16,))
    return {
        "bernoulli": Bernoulli(network),
        "gaussian": Gaussian(network),
        "gaussian per dimension": Gaussian(network, scale="per-dimension"),
        "gaussian fixed": Gaussian(network, scale=0.3),
        "convolutional": Bernoulli(ConvDecoder((2,), SHAPE, channels=4, widths=(8,))),
    }


def test_every_member_is_tested_here() -> None:
    assert {type(p) for p in posteriors().values()} == set(POSTERIORS.values())
    assert {type(p) for p in priors().values()} == set(PRIORS.values())
    assert {type(p) for p in likelihoods().values()} == set(LIKELIHOODS.values())


@pytest.mark.parametrize("name", posteriors())
def test_posteriors_keep_the_contract(name: str) -> None:
    testing.check_posterior(posteriors()[name])


@pytest.mark.parametrize("name", priors())
def test_priors_keep_the_contract(name: str) -> None:
    testing.check_prior(priors()[name], posteriors()["diagonal-gaussian"])


@pytest.mark.parametrize("name", likelihoods())
def test_likelihoods_keep_the_contract(name: str) -> None:
    testing.check_likelihood(likelihoods()[name])


@pytest.mark.parametrize("name", posteriors())
def test_posteriors_integrate_to_one(name: str) -> None:
    q = posteriors()[name](torch.rand(3, *SHAPE))
    torch.testing.assert_close(
        testing.mass_on_grid(q), torch.ones(3, dtype=torch.float64), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("name", priors())
def test_priors_integrate_to_one(name: str) -> None:
    posterior = posteriors()["diagonal-gaussian"]
    prior = priors()[name]
    prior.start(torch.rand(20, *SHAPE))
    assert testing.mass_on_grid(prior(posterior)).item() == pytest.approx(1, abs=1e-5)


def test_gaussian_likelihoods_integrate_to_one() -> None:
    for scale in ("shared", "per-dimension", 0.3):
        likelihood = Gaussian(MLP((2,), (2,), (8,)), scale=scale)
        p = likelihood(torch.randn(3, 2))
        torch.testing.assert_close(
            testing.mass_on_grid(p), torch.ones(3, dtype=torch.float64), rtol=0, atol=1e-5
        )


def test_distributions_expand_and_print() -> None:
    for d in (
        DiagonalNormal(torch.zeros(3, 2), torch.ones(3, 2)),
        GreyBernoulli(torch.randn(3, 2), 1),
    ):
        wide = d.expand((4, 3))
        assert type(wide) is type(d)
        assert wide.batch_shape == (4, 3)
        x = torch.rand(2)
        torch.testing.assert_close(wide.log_prob(x), d.log_prob(x).expand(4, 3))
        assert type(d).__name__ in repr(d)


@pytest.mark.parametrize("scales", [(3, 2), (2,)], ids=["one shape", "broadcast"])
def test_the_normal_is_torchs_own(scales: tuple[int, ...]) -> None:
    loc, scale = torch.randn(3, 2), torch.rand(scales) + 0.5
    ours, theirs = DiagonalNormal(loc, scale), Independent(Normal(loc, scale), 1)
    assert type(ours.base_dist) is Normal
    assert (ours.batch_shape, ours.event_shape) == (theirs.batch_shape, theirs.event_shape)
    for name in ("mean", "stddev", "mode"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name)), name
    with seeded(0):
        draws = ours.rsample((4,))
    with seeded(0):
        assert torch.equal(draws, theirs.rsample((4,)))
    assert torch.equal(ours.log_prob(draws), theirs.log_prob(draws))
    assert torch.equal(ours.entropy(), theirs.entropy())
    assert torch.equal(ours.base_dist.expand((5, 3, 2)).loc, theirs.base_dist.expand((5, 3, 2)).loc)
    assert repr(ours.base_dist) == repr(theirs.base_dist)


def test_bernoulli_sums_to_one_over_all_bits() -> None:
    p = GreyBernoulli(torch.randn(4, 3), 1)
    bits = torch.tensor([[i >> k & 1 for k in range(3)] for i in range(8)]).float()
    total = p.log_prob(bits[:, None]).exp().sum(0)
    torch.testing.assert_close(total, torch.ones(4))


def test_bernoulli_on_grey_levels_is_the_expectation_over_bits() -> None:
    p = GreyBernoulli(torch.randn(3), 1)
    grey = torch.rand(3)
    bits = torch.tensor([[i >> k & 1 for k in range(3)] for i in range(8)]).float()
    weights = torch.where(bits > 0, grey, 1 - grey).prod(-1)
    torch.testing.assert_close(p.log_prob(grey), (weights * p.log_prob(bits)).sum())


SHAPES = [  # of the logits, of x, event dimensions
    ((4, 28, 28), (4, 28, 28), 2),
    ((3, 4, 63), (4, 63), 1),
    ((5, 3), (2, 5, 3), 1),
    ((4, 3, 5), (5,), 2),
    ((2, 0), (2, 0), 1),
    ((), (3,), 0),
]


def plain_bernoulli(logits: torch.Tensor, event_dims: int) -> Independent:
    return Independent(
        torch.distributions.Bernoulli(logits=logits, validate_args=False),
        event_dims,
        validate_args=False,
    )


@pytest.mark.parametrize(("shape", "x_shape", "event_dims"), SHAPES)
def test_bernoulli_agrees_with_torch_in_value_and_gradient(
    shape: tuple[int, ...], x_shape: tuple[int, ...], event_dims: int
) -> None:
    logits = (8 * torch.randn(shape, dtype=torch.float64)).requires_grad_()
    x = torch.rand(x_shape, dtype=torch.float64, requires_grad=True)
    for dtype, tolerance in [(torch.float64, 1e-12), (torch.float32, 1e-5)]:
        ours = GreyBernoulli(logits.to(dtype), event_dims).log_prob(x.to(dtype))
        theirs = plain_bernoulli(logits, event_dims).log_prob(x)
        weights = torch.rand_like(theirs)
        assert ours.dtype == dtype
        torch.testing.assert_close(ours.double(), theirs, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(
            torch.autograd.grad((ours * weights).sum(), (logits, x)),
            torch.autograd.grad((theirs * weights).sum(), (logits, x)),
            rtol=tolerance,
            atol=tolerance,
        )


def test_bernoulli_can_be_differentiated_twice() -> None:
    logits = torch.randn(2, 3, 6, dtype=torch.float64, requires_grad=True)
    x = torch.rand(3, 6, dtype=torch.float64, requires_grad=True)

    def score(logits: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return GreyBernoulli(logits, 1).log_prob(x)

    assert torch.autograd.gradcheck(score, (logits, x))
    assert torch.autograd.gradgradcheck(score, (logits, x))


def test_bernoulli_stays_finite_at_extreme_logits() -> None:
    logits = torch.tensor([1e4, 1e4, -1e4, -1e4, 1e4, 0.0]).repeat(200, 1).requires_grad_()
    x = torch.tensor([1.0, 0.0, 1.0, 0.0, 0.25, 0.5]).expand(200, 6)
    score = GreyBernoulli(logits, 2).log_prob(x)
    score.backward()
    torch.testing.assert_close(score.item(), 200 * (-27_500 - math.log(2)), rtol=1e-6, atol=0)
    mean = torch.tensor([1.0, 1.0, 0.0, 0.0, 1.0, 0.5])
    assert torch.equal(logits.grad, x - mean)
    unsure = GreyBernoulli(torch.zeros(1024), 1).log_prob(torch.rand(1024))
    torch.testing.assert_close(unsure.item(), -1024 * math.log(2))
    assert GreyBernoulli(torch.full((64,), math.nan), 1).log_prob(torch.rand(64)).isnan()
    assert GreyBernoulli(torch.zeros(0, 7), 1).log_prob(torch.zeros(0, 7)).shape == (0,)


def test_fixed_gaussian_has_the_stated_rate() -> None:
    q = FixedGaussian(MLP((4,), (3,), (8,)), scale=0.5)(torch.randn(6, 4))
    p = StandardNormal(3)(lambda x: q)
    expected = 0.5 * q.loc.square().sum(-1) + 3 * (0.25 - 1 - math.log(0.25)) / 2
    torch.testing.assert_close(torch.distributions.kl_divergence(q, p), expected)
    unit = FixedGaussian(MLP((4,), (3,), (8,)))(torch.randn(6, 4))
    rate = torch.distributions.kl_divergence(unit, p)
    torch.testing.assert_close(rate, 0.5 * unit.loc.square().sum(-1))


def test_vamp_is_the_mean_of_the_posteriors_at_its_pseudo_inputs() -> None:
    posterior = posteriors()["diagonal-gaussian"]
    prior = Vamp(SHAPE, components=7)
    x = torch.rand(20, *SHAPE)
    prior.start(x)
    assert {tuple(u.flatten().tolist()) for u in prior.pseudo_inputs} <= {
        tuple(row.flatten().tolist()) for row in x
    }
    z = torch.randn(5, 2)
    each = posterior(prior.pseudo_inputs).log_prob(z[:, None])
    torch.testing.assert_close(prior(posterior).log_prob(z), each.exp().mean(1).log())


def test_gaussian_scales_are_what_they_are_said_to_be() -> None:
    network = MLP((2,), (3,), (4,))
    z, x = torch.randn(5, 2), torch.randn(4000, 3) * torch.tensor([0.1, 1.0, 5.0]) + 2
    fixed = Gaussian(network, scale=0.3)
    torch.testing.assert_close(fixed(z).stddev, torch.full((5, 3), 0.3))
    by_dimension = Gaussian(network, scale="per-dimension")
    by_dimension.start(x)
    torch.testing.assert_close(by_dimension(z).stddev[0], x.std(0), rtol=0.02, atol=0)
    shared = Gaussian(network, scale="shared")
    shared.start(x)
    expected = x.var(0).mean().sqrt().expand(5, 3)
    torch.testing.assert_close(shared(z).stddev, expected, rtol=0.02, atol=0)


def test_log_scales_cannot_overflow() -> None:
    posterior = DiagonalGaussian(MLP((3,), (2, 2), (8,)))
    with torch.no_grad():
        for parameter in posterior.parameters():
            parameter.mul_(1e6)
    q = posterior(torch.randn(5, 3) * 1e6)
    assert torch.isfinite(q.scale).all()
    assert (q.scale > 0).all()
    kl = torch.distributions.kl_divergence(
        DiagonalNormal(torch.zeros(5, 2), q.scale), DiagonalNormal(torch.zeros(2), torch.ones(2))
    )
    assert torch.isfinite(kl).all()


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 28, 28), (3, 5, 9), (2, 31, 17), (1, 65, 40)])
def test_convolutions_take_any_size(shape: tuple[int, ...]) -> None:
    encoder = ConvEncoder(shape, (2, 3), channels=4, widths=(8,))
    decoder = ConvDecoder((3,), shape, channels=4, widths=(8,))
    assert encoder(torch.rand(2, *shape)).shape == (2, 2, 3)
    assert decoder(torch.rand(5, 2, 3)).shape == (5, 2, *shape)
    assert max(encoder.plan.grid[:2]) <= 8


def test_convolutions_share_weights_over_places() -> None:
    """Moving a picture by a whole patch moves the features, away from the borders."""
    encoder = ConvEncoder((1, 32, 32), (2, 2), channels=4, widths=(8,))
    picture = torch.zeros(1, 32, 32, 1)
    picture[:, 8:16, 8:16] = torch.rand(8, 8, 1)
    moved = picture.roll((4, 8), (1, 2))
    features, shifted = encoder.stages(picture), encoder.stages(moved)
    torch.testing.assert_close(features.roll((1, 2), (1, 2)), shifted)


def test_cutting_and_joining_are_inverse() -> None:
    from vaelab.networks import _Cut, _Join

    x = torch.rand(2, 8, 12, 3)
    assert torch.equal(_Join(4)(_Cut(4)(x)), x)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_are_described_and_built_again(name: str) -> None:
    networks: dict[str, Network] = {
        "mlp": MLP(SHAPE, (2, 2), (4, 5)),
        "conv-encoder": ConvEncoder(SHAPE, (2, 2), channels=3, widths=(4,)),
        "conv-decoder": ConvDecoder((2,), SHAPE, channels=3, widths=(4,)),
    }
    testing.check_part(networks[name])


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_make_models(name: str) -> None:
    from vaelab import recipes

    model = recipes.build(name, (1, 10, 9), {"latent_dim": 3}).model()
    if model.classes:
        model = model.given(torch.tensor([9, 0, 3, 3]))
    x = torch.rand(4, 1, 10, 9)
    z = model.encode(x).rsample((2,))
    assert z.shape == (2, 4, 3)
    assert model.decode(z).log_prob(x).shape == (2, 4)
    assert model.prior().log_prob(z).shape == (2, 4)


def test_recipes_leave_the_global_random_state_alone() -> None:
    from vaelab import recipes

    before = torch.get_rng_state()
    recipes.build("conv", (1, 8, 8))
    assert torch.equal(before, torch.get_rng_state())


def test_fresh_weights_follow_the_seed_and_leave_the_original() -> None:
    network = MLP((4,), (2,), (8,))
    before = {k: v.clone() for k, v in network.state_dict().items()}
    with seeded(1):
        first = fresh(network)
    with seeded(1):
        second = fresh(network)
    with seeded(2):
        other = fresh(network)
    assert all(torch.equal(first.state_dict()[k], second.state_dict()[k]) for k in before)
    assert not torch.equal(first.layers[0].weight, other.layers[0].weight)
    assert all(torch.equal(network.state_dict()[k], before[k]) for k in before)


def test_wrapped_networks_work_but_are_not_described() -> None:
    network = Wrapped(torch.nn.Linear(4, 6), (4,), (2, 3))
    q = DiagonalGaussian(network)(torch.randn(5, 4))
    assert q.batch_shape == (5,)
    with pytest.raises(checks.StorageError, match="Linear cannot be saved"):
        describe(network)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DiagonalGaussian(MLP((4,), (3,))), r"network gives \(3,\), but DiagonalGaussian"),
        (lambda: FixedGaussian(MLP((4,), (2, 3))), r"network gives \(2, 3\), but FixedGaussian"),
        (lambda: FixedGaussian(MLP((4,), (3,)), scale=0), "scale = 0, but it must be a finite"),
        (lambda: Gaussian(MLP((2,), (3,)), scale="both"), "scale = 'both' is not known"),
        (lambda: ConvEncoder((4,), (2, 2)), r"in_shape = \(4,\), but a convolutional network"),
        (lambda: MLP((4,), (2,), widths=(0,)), "widths = 0, but it must be a whole number"),
        (lambda: MLP((), (2,)), "in_shape is empty"),
        (lambda: MLP((4,), (2,))(torch.zeros(3, 5)), r"the network reads \(4,\), but was given"),
        (lambda: Vamp((4,), components=0), "components = 0, but it must be a whole number"),
    ],
)
def test_bad_parts_are_refused_in_one_line(make: object, message: str) -> None:
    with pytest.raises(checks.ArgumentError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


def test_parts_that_do_not_fit_are_refused() -> None:
    posterior = DiagonalGaussian(MLP((4,), (2, 2)))
    fitting = Bernoulli(MLP((2,), (4,)))
    for prior, likelihood, message in [
        (StandardNormal(2), Bernoulli(MLP((2,), (5,))), "the likelihood gives"),
        (StandardNormal(2), Bernoulli(MLP((3,), (4,))), "give both the same latent_dim"),
        (StandardNormal(3), fitting, "the prior is over z of shape"),
    ]:
        with pytest.raises(checks.ArgumentError, match=message):
            Model(posterior, prior, likelihood)
    assert Model(posterior, StandardNormal(2), fitting).latent_dim == 2


def test_building_refuses_what_it_does_not_know() -> None:
    known = [MLP, StandardNormal]
    good = describe(StandardNormal(2))
    assert isinstance(build(good, known), StandardNormal)
    for bad, message in [
        ({"part": "os.system", "command": "x"}, "part 'os.system' is not known here"),
        ({**good, "scale": 2}, "settings"),
        ({"part": "StandardNormal", "latent_dim": -1}, "cannot be built"),
        ({"part": "StandardNormal", "latent_dim": "2"}, "cannot be built"),
    ]:
        with pytest.raises(checks.StorageError, match=message):
            build(bad, known)


def test_isolated_draws_come_from_the_generator_alone() -> None:
    generator = torch.Generator().manual_seed(5)
    before = torch.get_rng_state()
    with isolated(generator):
        first = torch.randn(3)
    with isolated(generator):
        second = torch.randn(3)
    assert torch.equal(before, torch.get_rng_state())
    again = torch.Generator().manual_seed(5)
    expected = torch.randn(6, generator=again)
    torch.testing.assert_close(torch.cat([first, second]), expected, rtol=0, atol=0)
