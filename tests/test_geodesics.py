"""Shortest paths: straight where space is flat, round what is in the way, and never longer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vaelab import checks, geodesics, latent, recipes
from vaelab.geodesics import shortest
from vaelab.likelihoods import Gaussian
from vaelab.model import Model
from vaelab.networks import MLP, Wrapped
from vaelab.posteriors import DiagonalGaussian
from vaelab.priors import StandardNormal

START, END = np.array([-1.5, 0.1], np.float32), np.array([1.5, -0.2], np.float32)


class Embedding(nn.Module):
    """A decoder whose image is known: a surface in space."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, z: Tensor) -> Tensor:
        return self.function(z)


def model_of(function: Callable[[Tensor], Tensor], latent_dim: int, outputs: int) -> Model:
    network = Wrapped(Embedding(function), (latent_dim,), (outputs,))
    posterior = DiagonalGaussian(MLP((outputs,), (2, latent_dim)))
    return Model(posterior, StandardNormal(latent_dim), Gaussian(network))


def hill(z: Tensor) -> Tensor:
    """A plane with a high hill around 0: it is shorter to go round it than over it."""
    return torch.stack([z[:, 0], z[:, 1], 6 * torch.exp(-2 * z.square().sum(1))], 1)


def wall(z: Tensor) -> Tensor:
    """A plane with a high wall along the second axis, but for a gap around (0, 2)."""
    gap = torch.sigmoid(8 * (z[:, 1] - 1.5))
    height = 8 * torch.exp(-10 * z[:, 0].square()) * (1 - gap)
    return torch.stack([z[:, 0], z[:, 1], height], 1)


def codes(count: int = 400, latent_dim: int = 2, seed: int = 0) -> np.ndarray:
    draws = np.random.default_rng(seed).uniform(-2.5, 2.5, (count, latent_dim))
    return draws.astype(np.float32)


def decoded_length(model: Model, points: np.ndarray, pieces: int = 400) -> float:
    """Length of the image of a line through points, by a plain sum."""
    knots = np.linspace(0, len(points) - 1, pieces + 1)
    fine = np.stack([np.interp(knots, range(len(points)), c) for c in points.T], 1)
    image = latent.decode(model, fine)
    return float(np.linalg.norm(np.diff(image, axis=0), axis=1).sum())


@pytest.mark.parametrize("latent_dim", [1, 2, 50])
def test_a_linear_decoder_makes_the_straight_line_shortest(latent_dim: int) -> None:
    torch.manual_seed(1)
    model = recipes.linear((60,), latent_dim).model()
    start, end = codes(2, latent_dim, seed=1)
    path = shortest(model, start, end, codes(300, latent_dim), steps=7)
    np.testing.assert_allclose(path.points, latent.path(start, end, 7), atol=1e-5)
    image = latent.decode(model, np.stack([start, end]))
    assert path.length == path.straight == pytest.approx(np.linalg.norm(image[1] - image[0]), 1e-4)


def test_a_path_goes_round_a_hill() -> None:
    model = model_of(hill, 2, 3)
    path = shortest(model, START, END, codes(), steps=15)
    assert path.straight > 9  # over the hill
    assert path.length < 4.5  # near the length of the way round in the plane, 3.4 or so
    assert np.linalg.norm(path.points, axis=1).min() > 0.8
    assert path.length == pytest.approx(decoded_length(model, path.points), rel=0.02)
    assert path.straight == pytest.approx(decoded_length(model, np.stack([START, END])), rel=0.01)


def test_a_path_finds_the_gap_in_a_wall() -> None:
    model = model_of(wall, 2, 3)
    path = shortest(model, START, END, codes(), steps=21)
    crossing = np.interp(0, path.points[:, 0], path.points[:, 1])
    assert crossing > 1.5
    assert path.length < 0.6 * path.straight
    assert path.length == pytest.approx(decoded_length(model, path.points), rel=0.02)


def test_without_the_codes_of_the_gap_the_path_stays_where_data_are() -> None:
    near = codes(600)
    near = near[near[:, 1] < 0.5]
    path = shortest(model_of(wall, 2, 3), START, END, near, steps=21)
    assert path.length > 2.5 * shortest(model_of(wall, 2, 3), START, END, codes()).length


def test_a_detour_that_hardly_saves_anything_is_not_taken() -> None:
    model = model_of(lambda z: hill(z) * torch.tensor([1, 1, 0.01]), 2, 3)
    path = shortest(model, START, END, codes())
    assert path.length == path.straight > 3.01
    np.testing.assert_allclose(path.points, latent.path(START, END, 11), atol=0.01)


def test_it_is_a_great_circle_on_a_sphere() -> None:
    def sphere(z: Tensor) -> Tensor:
        along, up = z[:, 0], z[:, 1]
        return torch.stack([along.cos() * up.cos(), along.sin() * up.cos(), up.sin()], 1)

    model = model_of(sphere, 2, 3)
    start, end = np.array([-1.2, 0.9], np.float32), np.array([1.2, 0.9], np.float32)
    path = shortest(model, start, end, codes(900) * [0.6, 0.55], steps=9)
    image = latent.decode(model, path.points)
    angle = np.arccos(image[0] @ image[-1])
    assert path.length == pytest.approx(angle, rel=5e-3)
    assert path.straight > 1.05 * angle  # the circle of latitude
    normal = np.cross(image[0], image[-1])
    assert np.abs(image @ normal).max() < 0.05


@pytest.mark.parametrize("function", [hill, wall])
def test_the_laws_of_a_path(function: Callable[[Tensor], Tensor]) -> None:
    model = model_of(function, 2, 3)
    path = shortest(model, START, END, codes(), steps=12, seed=3)
    assert path.points.shape == (12, 2)
    assert path.points.dtype == np.float32
    assert (path.points[0] == START).all()
    assert (path.points[-1] == END).all()
    ends = latent.decode(model, np.stack([START, END]))
    assert np.linalg.norm(ends[1] - ends[0]) <= path.length <= path.straight
    again = shortest(model, START, END, codes(), steps=12, seed=3)
    assert (again.points == path.points).all()
    back = shortest(model, END, START, codes(), steps=12, seed=3)
    assert (back.points[::-1] == path.points).all()
    assert back[1:] == path[1:]
    many = shortest(model, START, END, codes(), steps=111, seed=3).points
    np.testing.assert_allclose(many[::10], path.points, atol=1e-6)
    spaced = np.linalg.norm(np.diff(latent.decode(model, many), axis=0), axis=1)
    assert spaced.std() < 0.02 * spaced.mean()


def test_the_straight_line_is_spaced_by_what_it_decodes_to() -> None:
    model = model_of(lambda z: torch.cat([z.exp(), z * 0], 1), 1, 2)
    path = shortest(model, np.zeros(1), np.full(1, 2.0), np.zeros((1, 1)), steps=3)
    middle = np.log((1 + np.exp(2)) / 2)
    np.testing.assert_allclose(path.points[:, 0], [0, middle, 2], atol=1e-3)
    assert path.length == path.straight == pytest.approx(np.exp(2) - 1, rel=1e-4)


def test_equal_ends_and_a_decoder_that_tells_nothing_apart() -> None:
    model = model_of(hill, 2, 3)
    path = shortest(model, START, START, codes(), steps=4)
    assert (path.points == START).all()
    assert path.length == path.straight == 0
    flat = model_of(lambda z: 0 * z, 2, 2)
    path = shortest(flat, START, END, np.zeros((30, 2)), steps=5)
    np.testing.assert_allclose(path.points, latent.path(START, END, 5), atol=1e-6)
    assert path.length == 0


def test_nothing_is_changed_and_other_codes_are_other_samples() -> None:
    torch.manual_seed(0)
    model = recipes.vae((1, 4, 4)).model()
    before = [p.clone() for p in model.parameters()]
    state, given = torch.get_rng_state(), codes(3000)
    kept = given.copy()
    many = shortest(model, START, END, given)
    assert all(map(torch.equal, before, model.parameters()))
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert torch.equal(state, torch.get_rng_state())
    assert (given == kept).all()
    assert np.isfinite(many.points).all()
    one, two = (shortest(model_of(wall, 2, 3), START, END, given, seed=s) for s in (0, 1))
    assert (one.points != two.points).any()


def test_large_data_make_a_coarser_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    decode = latent.decode

    def counted(model: Model, z: np.ndarray) -> np.ndarray:
        asked.append(len(z))
        return decode(model, z)

    monkeypatch.setattr(latent, "decode", counted)
    monkeypatch.setattr(geodesics, "KEPT", 4 * 1024**2)
    model = model_of(lambda z: z.repeat(1, 10_000), 2, 20_000)
    shortest(model, START, END, codes(1000))
    assert max(asked) <= 14
    assert sum(asked) < 1500


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"start": np.zeros(3)},
            "start has shape (3,), but the model has latent_dim = 2: give 2 finite numbers.",
        ),
        (
            {"end": np.array([0.0, np.nan])},
            "end has shape (2,), but the model has latent_dim = 2: give 2 finite numbers.",
        ),
        (
            {"codes": np.zeros((5, 3))},
            "codes have shape (5, 3), but the model has latent_dim = 2: "
            "give (N, 2) with at least one datum.",
        ),
        (
            {"codes": np.zeros((0, 2))},
            "codes have shape (0, 2), but the model has latent_dim = 2: "
            "give (N, 2) with at least one datum.",
        ),
        (
            {"codes": np.full((5, 2), np.inf)},
            "codes hold NaN or infinity; give finite numbers.",
        ),
        ({"steps": 1}, "steps = 1, but it must be a whole number of at least 2."),
        ({"seed": -1}, "seed = -1, but it must be a whole number from 0 to 4294967295."),
    ],
)
def test_errors_are_told_in_one_line(change: dict[str, object], message: str) -> None:
    given: dict[str, object] = {"start": START, "end": END, "codes": codes(), **change}
    model = model_of(hill, 2, 3)
    with pytest.raises(checks.ArgumentError) as told:
        shortest(model, **given)  # type: ignore[arg-type]
    assert str(told.value) == message
