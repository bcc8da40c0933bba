"""The training loop: same seed, same bits; nothing left behind; and an optimum that is known."""

from __future__ import annotations

import copy
from dataclasses import replace
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from conftest import blobs
from vaelab import checks, metrics, recipes
from vaelab.objectives import ELBO
from vaelab.records import Dataset, Training
from vaelab.tensors import as_tensor
from vaelab.training import Trained, _optimizer, resolve, train
from vaelab.training._loop import Loop

QUICK = Training(epochs=2, batch_size=64)


def labels(name: str, count: int) -> torch.Tensor | None:
    """Those of `train`, for the recipe that needs labels."""
    return torch.from_numpy(blobs(count).y) if name == "conditional" else None


def run(name: str, x: torch.Tensor, settings: Training = QUICK, seed: int = 0) -> Trained:
    recipe, y = recipes.build(name, tuple(x.shape[1:])), labels(name, len(x))
    return train(recipe.model(), recipe.objective, x, y=y, settings=settings, seed=seed)


@pytest.fixture(scope="module")
def x(train: Dataset) -> torch.Tensor:
    return as_tensor(train.x)


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_same_seed_same_bits(name: str, x: torch.Tensor) -> None:
    first, second = run(name, x), run(name, x)
    for key, tensor in first.model.state_dict().items():
        assert torch.equal(tensor, second.model.state_dict()[key]), key
    ignoring_time = [{k: v for k, v in r.items() if k != "seconds"} for r in first.history]
    assert ignoring_time == [{k: v for k, v in r.items() if k != "seconds"} for r in second.history]


@pytest.mark.parametrize("known", [True, False], ids=["kernel", "no kernel"])
def test_a_step_has_the_bits_of_torchs_own(known: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_optimizer, "_kernel_is_known", lambda: known)
    torch.manual_seed(0)
    ours = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Linear(7, 2))
    theirs = copy.deepcopy(ours)
    first, other = (_optimizer.adamw(network, 0.1) for network in (ours, theirs))
    public = Mock(wraps=first.step)
    monkeypatch.setattr(first, "step", public)
    for step in range(6):
        x = torch.randn(4, 5)
        for network, optimizer in ((ours, first), (theirs, other)):
            network.zero_grad()
            hidden = network[0](x)  # the second layer has no gradient at first, and none once more
            (network[1](hidden) if step in (2, 3, 5) else hidden).square().sum().backward()
            for group in optimizer.param_groups:
                group["lr"] = 0.1 / (1 + step)
        _optimizer.take_step(first)
        other.step()
    for mine, its in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, its)
        taken = first.state[mine]["step"], other.state[its]["step"]
        assert taken == ((6, 6) if len(mine) == 7 else (3, 3))
    assert public.call_count == (2 if known else 6)  # the two steps that make states


@pytest.mark.parametrize("frozen", ["weight", "bias"])
def test_a_step_changes_what_is_not_frozen(frozen: str) -> None:
    layer = torch.nn.Linear(2, 2)
    layer.get_parameter(frozen).requires_grad_(False)
    before = {name: p.clone() for name, p in layer.named_parameters()}
    optimizer = _optimizer.adamw(layer, 0.1)
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    for _ in range(3):  # the first makes states, the others are the kernel's
        layer(torch.ones(2)).sum().backward()
        _optimizer.take_step(optimizer)
    same = {name for name, p in layer.named_parameters() if torch.equal(p, before[name])}
    assert same == {frozen}
    layer.zero_grad()
    _optimizer.take_step(optimizer)  # nothing has a gradient


def test_the_kernel_of_this_torch_is_known() -> None:
    assert _optimizer._kernel_is_known()


@pytest.mark.parametrize("error", [TypeError, RuntimeError])
def test_a_kernel_of_another_form_is_not_known(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "_fused_adamw_", Mock(side_effect=error("no such argument")))
    assert not _optimizer._kernel_is_known.__wrapped__()
    monkeypatch.delattr(torch, "_fused_adamw_")
    assert not _optimizer._kernel_is_known.__wrapped__()


@pytest.mark.parametrize(("largest", "factor"), [(2.0, 2 / 13), (20.0, 1.0)])
def test_gradients_are_scaled_down_together(largest: float, factor: float) -> None:
    parameters = [torch.nn.Parameter(torch.zeros(n)) for n in (2, 1, 3)]
    gradients = [torch.tensor([3.0, 4.0]), None, torch.tensor([0.0, 12.0, 0.0])]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = None if gradient is None else gradient.clone()
    here = SimpleNamespace(parameters=parameters, device=torch.device("cpu"), clip_norm=largest)
    assert Loop._clip(here).item() == 13
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is None:
            assert parameter.grad is None
        else:
            torch.testing.assert_close(parameter.grad, factor * gradient)


def test_another_seed_other_bits(x: torch.Tensor) -> None:
    first, other = run("vae", x, seed=0), run("vae", x, seed=1)
    assert any(
        not torch.equal(t, other.model.state_dict()[k]) for k, t in first.model.state_dict().items()
    )


def test_results_do_not_depend_on_the_global_random_state_nor_change_it(x: torch.Tensor) -> None:
    torch.manual_seed(1)
    first = run("vae", x)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    second = run("vae", x)
    assert torch.equal(before, torch.get_rng_state())
    for key, tensor in first.model.state_dict().items():
        assert torch.equal(tensor, second.model.state_dict()[key])


def test_the_given_model_is_not_changed(x: torch.Tensor) -> None:
    recipe = recipes.build("vae", tuple(x.shape[1:]))
    model = recipe.model()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    train(model, recipe.objective, x, settings=QUICK)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_training_improves_the_elbo_on_data_held_out(name: str, x: torch.Tensor) -> None:
    history = run(name, x, Training(epochs=8, batch_size=32)).history
    assert history[-1]["valid_elbo"] > history[0]["valid_elbo"]
    assert [record["epoch"] for record in history] == list(range(1, 9))


def test_history_reports_the_objective_under_its_own_name(x: torch.Tensor) -> None:
    record = run("beta", x).history[-1]
    assert record["train_elbo"] == pytest.approx(
        -(record["train_rate"] + record["train_distortion"]), rel=1e-5
    )
    assert record["train_elbo_beta4"] == pytest.approx(
        -(4 * record["train_rate"] + record["train_distortion"]), rel=1e-5
    )
    assert record["valid_elbo_beta4"] < record["valid_elbo"]


def test_every_datum_is_seen_once_an_epoch_whatever_the_remainder() -> None:
    x = torch.arange(103, dtype=torch.float32)[:, None].expand(103, 4) / 103
    seen: list[float] = []

    class Spy(ELBO):
        def __call__(self, model, x, **kwargs):  # type: ignore[no-untyped-def]
            seen.extend(x[:, 0].tolist())
            return super().__call__(model, x, **kwargs)

    settings = Training(epochs=2, batch_size=16, validation_fraction=0.0)
    train(recipes.build("gaussian", (4,)).model(), Spy(), x.contiguous(), settings=settings)
    first, second = seen[:103], seen[103:]
    assert sorted(first) == sorted(second) == x[:, 0].tolist()
    assert first != x[:, 0].tolist(), "the order must be shuffled"
    assert first != second, "each epoch has an order of its own"


def test_every_model_sees_the_data_in_the_same_order() -> None:
    x = torch.arange(50, dtype=torch.float32)[:, None].expand(50, 4).contiguous() / 50
    orders: list[list[float]] = []

    class Spy(ELBO):
        def __call__(self, model, x, **kwargs):  # type: ignore[no-untyped-def]
            orders[-1].extend(x[:, 0].tolist())
            return super().__call__(model, x, **kwargs)

    for name in ("vae", "linear", "vamp"):
        orders.append([])
        settings = Training(epochs=2, batch_size=8)
        train(recipes.build(name, (4,)).model(), Spy(), x, settings=settings, seed=3)
    assert orders[0] == orders[1] == orders[2]


def test_validation_data_are_not_trained_on() -> None:
    x = torch.arange(100, dtype=torch.float32)[:, None].expand(100, 3) / 100
    phases: dict[bool, set[float]] = {True: set(), False: set()}

    class Spy(ELBO):
        def __call__(self, model, x, **kwargs):  # type: ignore[no-untyped-def]
            phases[torch.is_grad_enabled()].update(x[:, 0].tolist())
            return super().__call__(model, x, **kwargs)

    settings = Training(epochs=2, batch_size=16, validation_fraction=0.2)
    train(recipes.build("gaussian", (3,)).model(), Spy(), x.contiguous(), settings=settings)
    assert len(phases[True]) == 80
    assert len(phases[False]) == 20
    assert not phases[True] & phases[False]


def test_callback_hears_of_every_step_and_epoch(x: torch.Tensor) -> None:
    heard: list[tuple[str, dict[str, float]]] = []
    recipe = recipes.build("vae", tuple(x.shape[1:]))
    trained = train(
        recipe.model(),
        recipe.objective,
        x,
        settings=QUICK,
        callback=lambda e, v: heard.append((e, v)),
    )
    steps = [values for event, values in heard if event == "step"]
    epochs = [values for event, values in heard if event == "epoch"]
    assert [s["step"] for s in steps] == list(range(1, int(steps[-1]["steps"]) + 1))
    assert sum(s["images"] for s in steps) == 2 * 570
    assert epochs == trained.history


def test_linear_recipe_reaches_probabilistic_pca() -> None:
    """The optimum of the linear VAE is probabilistic PCA (Lucas et al., 2019)."""
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(3, 8))
    x = (rng.normal(size=(3000, 3)) * [3.0, 2.0, 1.0]) @ mixing + rng.normal(size=(3000, 8)) + 5
    x = x.astype(np.float32)
    settings = Training(
        epochs=40, batch_size=100, learning_rate=0.02, weight_decay=0.0, validation_fraction=0.0
    )
    recipe = recipes.build("linear", (8,), {"latent_dim": 3})
    model = train(recipe.model(), recipe.objective, as_tensor(x), settings=settings).model
    exact = PCA(n_components=3).fit(x).score(x)
    elbo = metrics.per_datum(model, ELBO(particles=64), as_tensor(x)).elbo.mean()
    assert elbo == pytest.approx(exact, abs=0.05)
    assert elbo < exact + 0.01, "a bound cannot pass what it bounds"


def test_training_stops_on_a_loss_that_is_not_finite() -> None:
    x = as_tensor(np.full((64, 4), 1e30, np.float32) * np.arange(64)[:, None])
    with pytest.raises(
        checks.TrainingError, match=r"is not finite at step 1; the data reach 6.3e\+31: standardise"
    ):
        run("gaussian", x)


def test_few_data_work(x: torch.Tensor) -> None:
    for count in (1, 2, 3, 7):
        trained = run("vae", x[:count], Training(epochs=1))
        assert len(trained.history) == 1
        assert torch.isfinite(metrics_of(trained, x[:count])).all()


def metrics_of(trained: Trained, x: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(metrics.per_datum(trained.model, ELBO(), x).elbo)


def test_settings_that_are_left_open_follow_the_number_of_data() -> None:
    many, few = resolve(Training(), zeros(60_000)), resolve(Training(), zeros(4_000))
    assert many.epochs is not None
    assert few.epochs is not None
    assert few.epochs > many.epochs
    assert few.batch_size <= many.batch_size
    given = resolve(Training(epochs=3, batch_size=17), zeros(60_000))
    assert (given.epochs, given.batch_size) == (3, 17)
    assert resolve(Training(), zeros(5)).batch_size == 4, "one is held out"
    assert resolve(Training(validation_fraction=0.9), zeros(60)).batch_size == 6


def zeros(count: int) -> torch.Tensor:
    return torch.zeros(1, 4, dtype=torch.uint8).expand(count, 4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs = 0, but it must be a whole number of at least 1."),
        ({"batch_size": 2.5}, "batch_size = 2.5, but it must be a whole number"),
        ({"learning_rate": 0}, "learning_rate = 0, but it must be a finite number above 0."),
        ({"validation_fraction": 1.0}, "validation_fraction = 1.0, but it must be a finite number"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(checks.ArgumentError, match=message):
        replace(Training(), **settings)
