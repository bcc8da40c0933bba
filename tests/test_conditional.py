"""Conditional models: exact on a linear-Gaussian one, told apart by labels, and refused without."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from torch.distributions import MultivariateNormal

from conftest import blobs
from vaelab import VAE, checks, compare, evaluate, importance, inputs, load, metrics, recipes
from vaelab.cli import main
from vaelab.conditioning import Conditioned, bound, class_weights
from vaelab.distributions import seeded
from vaelab.doctor import examine_model
from vaelab.encoding import write_codes
from vaelab.exhibits import Exhibits
from vaelab.export import export_onnx
from vaelab.likelihoods import Gaussian
from vaelab.model import Model, class_by_class
from vaelab.networks import MAX_LOG_SCALE, MLP, unbound
from vaelab.objectives import ELBO, ImportanceWeighted
from vaelab.posteriors import DiagonalGaussian
from vaelab.priors import StandardNormal, Vamp
from vaelab.records import Checkpoints, Dataset, Training
from vaelab.tensors import as_tensor
from vaelab.testing import check_part
from vaelab.training import Trained, train

pytestmark = pytest.mark.filterwarnings("ignore:log p:vaelab.checks.VaelabWarning")

FEATURES, LATENT, CLASSES, NOISE = 5, 2, 3, 0.7
NAMES = np.array(["left", "right", "top"])
Run = Callable[..., tuple[int, str, str]]


def linear(width: float = 1.0) -> tuple[Model, Callable[[torch.Tensor], MultivariateNormal]]:
    """x = W z + B y + noise, and its exact p(x|y); q is p(z|x, y), but for scales times `width`."""
    with seeded(1):
        square, offsets = torch.randn(FEATURES, FEATURES), 2 * torch.randn(FEATURES, CLASSES)
        weights = torch.linalg.qr(square).Q[:, :LATENT] * torch.tensor([1.5, 0.8])
        reader = MLP((FEATURES + CLASSES,), (2, LATENT))
        writer = MLP((LATENT + CLASSES,), (FEATURES,))
        model = Model(
            DiagonalGaussian(Conditioned(reader, (FEATURES,), CLASSES)),
            StandardNormal(LATENT),
            Gaussian(Conditioned(writer, (LATENT,), CLASSES), scale=NOISE),
        ).eval()
    spread = 1 / (1 + weights.square().sum(0) / NOISE**2)
    project, root = spread[:, None] * weights.T / NOISE**2, math.sqrt(CLASSES)
    with torch.no_grad():
        writer.layers[-1].weight.copy_(torch.cat([weights, offsets / root], 1))
        writer.layers[-1].bias.zero_()
        means = torch.cat([project, -project @ offsets / root], 1)
        reader.layers[-1].weight.copy_(torch.cat([means, torch.zeros_like(means)]))
        scales = unbound((width * spread.sqrt()).log(), MAX_LOG_SCALE)
        reader.layers[-1].bias.copy_(torch.cat([torch.zeros(LATENT), scales]))
    covariance = weights @ weights.T + NOISE**2 * torch.eye(FEATURES)
    return model, lambda y: MultivariateNormal(offsets.T[y], covariance)


def drawn(count: int) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """Data of the linear model, their labels, and their exact log p(x|y)."""
    y = torch.arange(count) % CLASSES
    p = linear()[1](y)
    x = p.sample()
    return x, y, p.log_prob(x).double().numpy()


def test_the_true_posterior_gives_the_exact_value() -> None:
    x, y, exact = drawn(20)
    model = linear()[0]

    def weigh(given: Model, rows: np.ndarray, _: int) -> importance.Weighed:
        return importance.weigh(given, x[rows], particles=3)

    value, effective, _ = class_by_class(model, y.numpy(), weigh)
    np.testing.assert_allclose(value, exact, atol=2e-5)
    np.testing.assert_allclose(effective, 3, rtol=1e-5)
    wrong = (y + 1) % CLASSES
    value, *_ = class_by_class(model, wrong.numpy(), weigh)
    np.testing.assert_allclose(value, linear()[1](wrong).log_prob(x), atol=2e-4)
    assert (exact - value).mean() > 3, "another label is another density"


@pytest.mark.parametrize("width", [1.5, 0.7])
def test_the_elbo_is_below_the_weighted_bound_and_that_below_the_truth(width: float) -> None:
    x, y, exact = drawn(3000)
    model = linear(width)[0]
    objectives = (ELBO(particles=30), ImportanceWeighted(5), ImportanceWeighted(200))
    values = [-metrics.per_datum_given(model, o, x, y.numpy()).loss for o in objectives]
    for low, high in zip(values, [*values[1:], exact], strict=True):
        gap = high - low
        assert gap.mean() > -3 * gap.std() / math.sqrt(len(gap))
    assert exact.mean() - values[0].mean() > 0.1
    assert abs(exact.mean() - values[2].mean()) < 0.01


def test_the_elbo_with_all_labels_bound_is_that_of_one_class_at_a_time() -> None:
    x, y, _ = drawn(3000)
    model = linear(1.3)[0]
    with torch.no_grad():
        together = ELBO(particles=50)(model.given(y), x).elbo.double().numpy()
    apart = metrics.per_datum_given(model, ELBO(particles=50), x, y.numpy()).elbo
    gap = together - apart
    assert abs(gap.mean()) < 4 * gap.std() / math.sqrt(len(gap))
    assert np.corrcoef(together, apart)[0, 1] > 0.95


def test_each_row_has_its_label_whatever_the_leading_dimensions() -> None:
    model = linear()[0]
    y, z = torch.tensor([2, 0, 1, 1]), torch.randn(7, 4, LATENT)
    decoded = model.given(y).decode(z).mean
    for k in range(7):
        for n in range(4):
            alone = model.given(y[n : n + 1]).decode(z[k, n]).mean
            torch.testing.assert_close(decoded[k, n], alone)
    halves = model.given(torch.tensor([[0.5, 0.5, 0.0]])).decode(z[0]).mean
    ends = [model.given(torch.tensor([k])).decode(z[0]).mean for k in (0, 1)]
    torch.testing.assert_close(halves, (ends[0] + ends[1]) / 2)  # the network is linear


def test_binding_leaves_the_model_and_shares_its_weights() -> None:
    model = linear()[0]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    one, other = (model.given(torch.tensor([k])) for k in (0, 1))
    z = torch.randn(3, LATENT)
    assert not torch.equal(one.decode(z).mean, other.decode(z).mean)
    pairs = zip(one.parameters(), model.parameters(), strict=True)
    assert all(a is b for a, b in pairs)
    one.decode(z).mean.sum().backward()
    assert model.parts["likelihood"].network.network.layers[-1].weight.grad is not None
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    with pytest.raises(checks.ArgumentError) as error:
        model.decode(z)
    assert str(error.value) == (
        "labels = None, but the model is conditional; bind labels: model.given(y)."
    )


def test_rows_come_back_in_their_order_with_seeds_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("vaelab.model.BLOCK", 7)
    y, seeds = np.random.default_rng(0).integers(0, 3, 40), []

    def compute(given: Model, rows: np.ndarray, seed: int) -> list[np.ndarray]:
        (labels,) = {int(m.labels.argmax()) for m in given.modules() if isinstance(m, Conditioned)}
        seeds.append(seed)
        return [rows, np.full(len(rows), labels)]

    rows, labels = class_by_class(linear()[0], y, compute, seed=3)
    assert rows.tolist() == list(range(40))
    assert labels.tolist() == y.tolist()
    first = list(seeds)
    assert len(set(first)) == len(first) > 12
    class_by_class(linear()[0], y, compute, seed=3)
    assert seeds[len(first) :] == first
    class_by_class(linear()[0], y, compute, seed=4)
    assert not set(first) & set(seeds[2 * len(first) :])


def test_the_part_keeps_its_contract_and_refuses_what_does_not_fit() -> None:
    network = MLP((12 + 4,), (2, 2), (8,))
    part = Conditioned(network, (1, 3, 4), 4)
    check_part(part)
    x = torch.rand(6, 1, 3, 4)
    part.start(x)
    torch.testing.assert_close(part.shift, x.mean(0))
    labels = class_weights(torch.tensor([0, 3, 1]), 4)
    assert bound(part, labels)(x).shape == (6, 2, 2)
    with pytest.raises(checks.ArgumentError, match=r"^4 labels are bound for 6 inputs; bind one"):
        bound(part, torch.eye(4))(x)
    with pytest.raises(checks.ArgumentError, match=r"^network reads \(16,\), but with inputs \(1,"):
        Conditioned(network, (1, 3, 4), 5)
    with pytest.raises(checks.ArgumentError, match=r"^labels = None, but the model is conditional"):
        replace(recipes.conditional((4,)), prior=Vamp((4,), 5)).model()
    two = recipes.conditional((4,), classes=2)
    with pytest.raises(checks.ArgumentError, match=r"^networks are given 2 and 3 classes;"):
        replace(two, posterior=recipes.conditional((4,), classes=3).posterior).model()
    model = two.model()
    with pytest.raises(checks.ArgumentError) as error:
        model.given(torch.tensor([0, 2]))
    assert str(error.value) == "y ranges from 0 to 2, but the model knows the classes 0 to 1."
    with pytest.raises(checks.ArgumentError, match=r"^y ranges from -1 to 0, but the model knows"):
        model.given(torch.tensor([0, -1]))
    with pytest.raises(checks.ArgumentError) as error:
        recipes.vae((4,)).model().given(torch.tensor([0]))
    assert str(error.value) == "y is given, but the model takes no labels; leave it out."


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The classifier that samples are judged by need not be good here."""
    monkeypatch.setattr("vaelab.generation.STEPS", 60)


@pytest.fixture(scope="module")
def few() -> Dataset:
    return blobs(150)


@pytest.fixture(scope="module")
def vae(train: Dataset) -> VAE:
    return VAE("conditional", epochs=25, batch_size=32, seed=0).fit(train)


@pytest.fixture(scope="module")
def plain(train: Dataset) -> VAE:
    return VAE("vae", epochs=25, batch_size=32, seed=0).fit(train)


def places(images: np.ndarray) -> np.ndarray:
    """The class of blobs by where their centre of mass is."""
    rows, columns = np.mgrid[:12, :12]
    mass = images.reshape(len(images), -1) ** 3
    centres = np.stack([(mass * axis.ravel()).sum(1) / mass.sum(1) for axis in (rows, columns)], 1)
    known = np.array([[3, 3], [8, 4], [5, 9]])
    return ((centres[:, None] - known) ** 2).sum(-1).argmin(1)


def test_labels_are_used(vae: VAE, plain: VAE, test: Dataset) -> None:
    wrong = (test.y + 1) % 3
    assert vae.score(test) > plain.score(test) + 0.5
    assert vae.score(test) > vae.score(test.x, wrong) + 5
    assert abs(vae.score_samples(test, particles=50).mean() - vae.score(test)) < 0.3
    assert vae.terms(test).rate.mean() < plain.terms(test).rate.mean(), "the code needs no class"
    accuracies = [
        metrics.knn_accuracy(m.transform(d), d.y, m.transform(test), test.y)
        for m, d in ((vae, blobs(600)), (plain, blobs(600)))
    ]
    assert accuracies[0] < 0.6 < 0.9 < accuracies[1], "and does not hold it"


def test_what_is_decoded_looks_like_its_label(vae: VAE, test: Dataset) -> None:
    for label in range(3):
        samples = vae.sample(100, label, seed=1)
        assert (places(samples) == label).mean() > 0.95
    each = np.arange(100) % 3
    assert (places(vae.sample(100, each, seed=1)) == each).mean() > 0.95
    assert (places(vae.reconstruct(test)) == test.y).mean() > 0.95
    moved = vae.inverse_transform(vae.transform(test), (test.y + 1) % 3)
    assert (places(moved) == (test.y + 1) % 3).mean() > 0.95, (
        "the code of one, the label of another"
    )
    two = [0, int((test.y != test.y[0]).argmax())]
    strip = vae.interpolate(*test.x[two], test.y[two], steps=5)
    np.testing.assert_allclose(strip[[0, -1]], vae.reconstruct(test)[two], atol=1e-5)
    within = vae.interpolate(test.x[0], test.x[1], 1, steps=4)
    expected = vae.inverse_transform(vae.transform(test.x[:2], 1), 1)
    np.testing.assert_allclose(within[[0, -1]], expected, atol=1e-5)


def test_all_kinds_of_labels_are_the_same(vae: VAE, few: Dataset, test: Dataset) -> None:
    z, names = vae.transform(test), NAMES[test.y]
    short = {"epochs": 1, "batch_size": 75}
    known = VAE("conditional", **short).fit(few)
    for y in (
        few.y, few.y.tolist(), torch.from_numpy(few.y), pd.Series(few.y), 2 * few.y - 7,
        NAMES[few.y], NAMES[few.y].tolist(), pd.Series(NAMES[few.y]), few.y.astype(object),
        pd.Categorical(NAMES[few.y]), few.y.astype(np.uint8),
    ):  # fmt: skip
        same = VAE("conditional", **short).fit(few.x, y)
        assert np.array_equal(same.transform(few.x, y), known.transform(few)), type(y)
    named = VAE("conditional", **short).fit(few.x, NAMES[few.y])
    assert named.classes_.tolist() == ["left", "right", "top"] == vae.data_["class_names"]
    assert vae.classes_.tolist() == [0, 1, 2] == vae.data_["classes"]
    assert named.score(test.x, names) == known.score(test)
    assert np.array_equal(named.sample(3, "top"), named.sample(3, ["top"] * 3))
    assert np.array_equal(vae.transform(test.x, test.y), z)
    assert vae.posterior(test).batch_shape == (200,)
    np.testing.assert_allclose(vae.posterior(test).mean.numpy(), z, atol=1e-5)
    flags = VAE("conditional", **short).fit(few.x, few.y > 0)
    assert flags.classes_.tolist() == [0, 1]
    assert flags.score(test.x, test.y > 0) == flags.score(test.x, (test.y > 0).astype(int))
    assert not hasattr(VAE(**short).fit(few), "classes_")


def unlabelled(data: Dataset) -> Dataset:
    return replace(data, y=None, class_names=())


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (
            None,
            "recipe 'conditional' needs labels, but y = None; give the class of each datum, or use "
            "another recipe.",
        ),
        (
            np.zeros(600),
            "y has type float64, but labels must be whole numbers or strings; convert them, by "
            "y.astype(int) say.",
        ),
        (
            np.array([None, "a"] * 300),
            "y has type object, but labels must be whole numbers or strings; convert them, by "
            "y.astype(int) say.",
        ),
        (
            [1, 2],
            "y has shape (2,), but one label for each of 600 data is needed: (600,).",
        ),
        (
            np.zeros((600, 1), int),
            "y has shape (600, 1), but one label for each of 600 data is needed: (600,).",
        ),
    ],
)
def test_bad_labels_are_told_before_training(y: object, message: str, train: Dataset) -> None:
    with pytest.raises(checks.DataError) as error:
        VAE("conditional", callback=lambda *_: pytest.fail("trained")).fit(train.x, y)
    assert str(error.value) == message


def test_labels_are_told_when_they_are_missing_or_unknown(vae: VAE, test: Dataset) -> None:
    x, y = test.x[:4], test.y[:4]
    needs = r"^recipe 'conditional' needs labels, but y = None; give the class of each datum"
    calls: list[Callable[[Any], object]] = [
        lambda y: vae.transform(x, y), lambda y: vae.encode(x, y), lambda y: vae.posterior(x, y),
        lambda y: vae.reconstruct(x, y), lambda y: vae.score(x, y), lambda y: vae.sample(4, y),
        lambda y: vae.score_samples(x, y), lambda y: vae.inverse_transform(np.zeros((4, 2)), y),
        lambda y: vae.interpolate(x[0], x[1], None if y is None else y[:2]),
    ]  # fmt: skip
    for call in calls:
        call(y)
        with pytest.raises(checks.DataError, match=needs):
            call(None)
        with pytest.raises(checks.DataError) as error:
            call([0, 7, 1, 1])
        assert str(error.value) == (
            "label 7 is not one of the 3 classes of the training data: 0, 1, 2."
        )
    with pytest.raises(checks.DataError, match=r"^label '1' is not one of the 3 classes of"):
        vae.transform(x, ["1", "1", "0", "0"])
    with pytest.raises(checks.DataError, match=r"^label '1' is not one of the 30 classes of"):
        inputs.numbered(np.array(["1"]), np.arange(30))
    with pytest.raises(checks.DataError) as error:
        vae.transform(unlabelled(test))
    assert str(error.value) == (
        "recipe 'conditional' needs labels, but blobs has none; give the class of each datum, or "
        "use another recipe."
    )
    with pytest.raises(checks.DataError) as error:
        VAE("conditional", options={"classes": 4}).fit(test)
    assert str(error.value) == (
        "y has 3 classes, but recipe 'conditional' was made for 4; give it as many classes as "
        "there are."
    )
    with pytest.raises(checks.ArgumentError, match=r"^classes = 0, but it must be a whole number"):
        VAE("conditional", options={"classes": 0}).fit(test)


def test_a_model_folder_keeps_the_labels(few: Dataset, test: Dataset, tmp_path: Path) -> None:
    for y, folder in ((few.y, "numbers"), (NAMES[few.y], "names")):
        vae = VAE("conditional", epochs=1, seed=2).fit(few.x, y)
        same = load(vae.save(tmp_path / folder))
        assert same.classes_.tolist() == vae.classes_.tolist()
        assert same.classes_.dtype == vae.classes_.dtype
        assert np.array_equal(same.transform(few.x, y), vae.transform(few.x, y))
        assert np.array_equal(same.sample(3, y[:3], seed=1), vae.sample(3, y[:3], seed=1))
        assert same.score(few.x, y) == vae.score(few.x, y)
        same.partial_fit(test.x, y[np.argmax(few.y == test.y[:, None], 1)])
    path = tmp_path / "names" / "config.json"
    config = json.loads(path.read_text())
    for bad in (["left"], [], "left"):
        config["data"]["classes"] = bad
        path.write_text(json.dumps(config))
        with pytest.raises(checks.StorageError, match=r"config\.json has . classes of 3\.$"):
            load(path.parent)


def spy(seen: list[tuple[list[int], list[int]]]) -> ELBO:
    """An ELBO that notes the first element of the data it sees, and the labels bound to them."""

    class Spy(ELBO):
        def __call__(self, model: Model, x: torch.Tensor, **given: Any) -> Any:
            bound_to = [m.labels.argmax(1).tolist() for m in model.modules() if is_bound(m)]
            assert bound_to == bound_to[:1] * len(bound_to)
            rows = (50 * x[:, 0]).round().int().tolist()
            seen.append((rows, bound_to[0] if bound_to else []))
            return super().__call__(model, x, **given)

    return Spy()


def is_bound(module: torch.nn.Module) -> bool:
    return isinstance(module, Conditioned) and module.labels is not None


@pytest.mark.parametrize("window", [50, 7])
def test_labels_travel_with_their_data_in_the_order_of_all_recipes(
    window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vaelab.shuffling.BLOCK_BYTES", 32)
    x = torch.arange(50.0)[:, None].expand(50, 4).contiguous() / 50
    y = (torch.arange(50) ** 2) % 7 % 3
    settings = Training(epochs=2, batch_size=8, window=window, validation_fraction=0.2)
    orders: list[list[tuple[list[int], list[int]]]] = []
    for name in ("vae", "conditional"):
        orders.append([])
        labels = y if name == "conditional" else None
        model = recipes.build(name, (4,)).model()
        train(model, spy(orders[-1]), x, y=labels, settings=settings)
    for rows, labels in orders[1]:
        wanted = y[torch.tensor(rows)].tolist()
        assert labels in (wanted, wanted[:1]), "one each in training, one for all in validation"
    trained = [
        [rows for rows, labels in order if len(rows) == 8 and (len(labels) != 1)]
        for order in orders
    ]
    assert trained[0][:5] == trained[1][:5]
    assert len(orders[1]) > len(trained[1]), "the data held out are seen class by class"


def run(x: torch.Tensor, y: torch.Tensor, window: int = 10_000, **given: Any) -> Trained:
    settings = Training(epochs=3, batch_size=64, window=window)
    recipe = recipes.conditional((1, 12, 12), classes=3)
    return train(recipe.model(), recipe.objective, x, y=y, settings=settings, **given)


def stop_at(step: int) -> Callable[[str, Mapping[str, float]], None]:
    def callback(event: str, values: Mapping[str, float]) -> None:
        if event == "step" and values["step"] == step:
            raise InterruptedError

    return callback


@pytest.mark.parametrize("window", [10_000, 100])
def test_a_run_goes_on_to_the_same_bits(window: int, train: Dataset, tmp_path: Path) -> None:
    x, y = as_tensor(train.x), torch.from_numpy(train.y)
    whole = run(x, y, window)
    state = Checkpoints(tmp_path, resume=True)
    for step in (5, 14):
        with pytest.raises(InterruptedError):
            run(x, y, window, checkpoints=state, callback=stop_at(step))
    with pytest.raises(checks.StorageError, match="holds a run with other settings or data: data"):
        run(x, (y + 1) % 3, window, checkpoints=state)
    resumed = run(x, y, window, checkpoints=state)
    for key, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[key]), key
    valid = [record["valid_elbo"] for record in whole.history]
    assert valid == [record["valid_elbo"] for record in resumed.history]


def test_other_labels_are_other_data(few: Dataset, tmp_path: Path) -> None:
    def fit(y: np.ndarray | None, given: Any) -> VAE:
        return VAE("conditional", epochs=1, checkpoints=Checkpoints(tmp_path, resume=True)).fit(
            given, y
        )

    whole = fit(few.y, few.x).data_["fingerprint"]
    with pytest.raises(checks.StorageError, match="other settings or data: data was"):
        fit((few.y + 1) % 3, few.x)
    with pytest.raises(checks.StorageError, match="other settings or data: data was"):
        fit((few.y + 1) % 3, few)
    assert VAE("conditional", epochs=1).fit(few).data_["fingerprint"] == few.fingerprint
    assert VAE("vae", epochs=1).fit(few.x, few.y).data_["fingerprint"] != whole


def test_training_refuses_labels_that_do_not_suit_the_model(train: Dataset) -> None:
    x, y = as_tensor(train.x), torch.from_numpy(train.y)
    with pytest.raises(checks.ArgumentError) as error:
        run(x, None)  # type: ignore[arg-type]
    assert str(error.value) == (
        "y = None, but the model is conditional; give the class of each datum, (600,)."
    )
    with pytest.raises(checks.ArgumentError, match=r"^y has shape \(5,\), but it must be \(600,\)"):
        run(x, y[:5])
    with pytest.raises(checks.ArgumentError, match=r"^y ranges from 0 to 3, but the model knows"):
        run(x, y.clamp(0, 1) * 3)


@pytest.mark.parametrize(
    "settings",
    [
        {"training": {"binarize": "dynamic"}}, {"training": {"binarize": "static"}},
        {"training": {"patience": 1}}, {"training": {"validation_fraction": 0.0}},
        {"likelihood": "gaussian"}, {"objective": {"warmup_epochs": 1, "free_bits": 0.1}},
        {"options": {"classes": 3}}, {"training": {"steps": 7}},
    ],
)  # fmt: skip
def test_settings_of_training_hold(settings: dict[str, Any], few: Dataset, test: Dataset) -> None:
    fits = [VAE("conditional", epochs=2, seed=5, **settings).fit(few) for _ in range(2)]
    assert fits[0].score(test) == fits[1].score(test), "the same seed, the same bits"
    assert fits[0].score(test) != VAE("conditional", epochs=2, **settings).fit(few).score(test)


def test_conditional_models_are_combined_like_others(few: Dataset, test: Dataset) -> None:
    mine = recipes.conditional((1, 12, 12), latent_dim=3, classes=3)
    mine = replace(mine, name="mine", objective=ImportanceWeighted(4))
    vae = VAE(mine, epochs=2).fit(few)
    assert vae.transform(test).shape == (200, 3)
    with pytest.raises(checks.DataError, match=r"^recipe 'mine' needs labels, but y = None;"):
        vae.transform(test.x)
    with pytest.raises(checks.DataError, match=r"^y has 2 classes, but recipe 'mine' was made for"):
        VAE(mine).fit(few.x, few.y > 0)


def test_scikit_learn_passes_labels(train: Dataset) -> None:
    x, y = train.x.reshape(600, -1)[:300] / 255.0, NAMES[train.y[:300]]
    pipeline = make_pipeline(MinMaxScaler(), VAE("conditional", epochs=2)).fit(x, y)
    assert math.isfinite(pipeline.score(x, y))
    weighted = pipeline.score(x, y, sample_weight=np.arange(300))
    assert weighted != pipeline.score(x, y)
    vae = VAE("conditional", epochs=2)
    assert np.array_equal(vae.fit_transform(x, y), vae.transform(x, y))
    frame = VAE("conditional", epochs=1).set_output(transform="pandas").fit_transform(x, y)
    assert frame.columns.tolist() == ["vae0", "vae1"]
    assert len(cross_val_score(vae, x, y, cv=2)) == 2
    search = GridSearchCV(vae, {"latent_dim": [1, 2]}, cv=2).fit(x, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_partial_fit_goes_on_with_the_labels_of_the_first_call(few: Dataset) -> None:
    vae, scores = VAE("conditional"), []
    for _ in range(3):
        vae.partial_fit(few)
        scores.append(vae.score(few))
    assert scores[2] > scores[0]
    before = [p.clone() for p in vae.model_.parameters()]
    with pytest.raises(checks.DataError, match=r"^label 9 is not one of the 3 classes of"):
        vae.partial_fit(few.x, 9)
    with pytest.raises(checks.DataError, match="needs labels"):
        vae.partial_fit(few.x)
    assert all(map(torch.equal, before, vae.model_.parameters()))
    vae.partial_fit(few.x[few.y == 1], 1)
    assert vae.classes_.tolist() == [0, 1, 2]


def test_a_weighted_score_is_the_weighted_mean(plain: VAE, vae: VAE, test: Dataset) -> None:
    rng = np.random.default_rng(0)
    for model in (plain, vae):
        elbo, score = model.terms(test).elbo, model.score(test)
        weights = rng.integers(0, 4, 200)
        repeated = np.repeat(elbo, weights).mean()
        assert model.score(test, sample_weight=weights) == pytest.approx(repeated, rel=1e-12)
        assert model.score(test, None, 1e-300 * weights) == pytest.approx(repeated, rel=1e-9)
        assert model.score(test, None, 1e308 * (weights > 0)) == pytest.approx(
            elbo[weights > 0].mean(), rel=1e-12
        )
        assert model.score(test, sample_weight=np.full(200, 7)) == pytest.approx(score, rel=1e-12)
        one = np.eye(200)[17]
        assert model.score(test, sample_weight=one.tolist()) == elbo[17]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0], "sample_weight has shape (1,), but one weight for each of 200 data is needed: "),
        (np.ones((200, 1)), "sample_weight has shape (200, 1), but one weight for each of 200"),
        (
            np.where(np.arange(200) == 3, -1, 1),
            "sample_weight is -1 for datum 3, but weights must be finite and at least 0.",
        ),
        (np.where(np.arange(200) == 9, np.nan, 1), "sample_weight is nan for datum 9, but weights"),
        (np.where(np.arange(200) == 0, np.inf, 1), "sample_weight is inf for datum 0, but weights"),
        (np.zeros(200), "sample_weight is 0 for all data; give one of them a weight."),
        (["a"] * 200, "sample_weight holds no numbers: could not convert string to float: 'a'."),
    ],
)
def test_bad_weights_are_told(weights: Any, message: str, plain: VAE, test: Dataset) -> None:
    with pytest.raises(checks.DataError) as error:
        plain.score(test, sample_weight=weights)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_evaluation_uses_the_labels_of_the_data(
    vae: VAE, train: Dataset, test: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = partial(importance.annealed, steps=60)
    monkeypatch.setattr("vaelab.importance.annealed", quick)
    figures = evaluate(vae, test, train, particles=30, annealed=20)
    assert figures["elbo"] == vae.terms(test, draws=50).elbo.mean()
    assert abs(figures["log_likelihood"] - figures["elbo"]) < 0.3
    assert abs(figures["annealed_difference"]) < 0.5
    assert figures["knn_accuracy"] < 0.6
    assert figures["class_entropy"] == pytest.approx(math.log(3), abs=0.05), "samples of all"
    assert figures["recall"] > 0.3
    with pytest.raises(checks.DataError, match="needs labels, but blobs has none"):
        evaluate(vae, unlabelled(test), train)


def test_the_doctor_and_the_codes_use_the_labels(
    vae: VAE, train: Dataset, test: Dataset, tmp_path: Path
) -> None:
    levels = {f.check: f.level for f in examine_model(vae, train, test, particles=30)}
    assert levels["posterior-collapse"] == levels["data"] == "ok"
    means = [vae.transform(data) for data in (train, test)]
    with np.load(write_codes(tmp_path / "codes.npz", vae, (train, test))) as codes:
        assert np.array_equal(codes["mean"], np.concatenate(means))
    with pytest.raises(checks.ArgumentError) as error:
        export_onnx(vae, tmp_path / "onnx")
    assert str(error.value) == (
        "recipe 'conditional' is conditional, but only models without labels become ONNX files; "
        "use another recipe."
    )
    assert not (tmp_path / "onnx").exists()


def test_figures_show_every_class(vae: VAE, plain: VAE, train: Dataset, test: Dataset) -> None:
    shown = Exhibits({"vae": plain, "cvae": vae}, train, test)
    assert list(shown.decoded) == ["vae", "cvae: left", "cvae: right", "cvae: top"]
    images = np.stack(list(shown.decoded.values())[1:])
    assert places(images).tolist() == [0, 1, 2]
    assert places(shown.reconstructed["cvae"]).tolist() == [0, 1, 2]
    strip = shown.strips.images["cvae"]
    first = [0, int((test.y != test.y[0]).argmax())]
    np.testing.assert_allclose(strip[[0, -1]], vae.reconstruct(test)[first], atol=1e-5)
    assert list(shown.manifolds) == ["vae", "cvae: left"]
    assert (places(shown.manifolds["cvae: left"].reshape(400, 1, 12, 12)) == 0).mean() > 0.9
    between = Exhibits({"cvae": vae}, ends=((0.0, 0.0), (1.0, 1.0)), steps=3).strips.images["cvae"]
    assert places(between).tolist() == [0, 0, 0]


def test_compare_trains_it_beside_others(
    few: Dataset, test: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vaelab.generation.MOST_EPOCHS", 2)  # as conftest.brief_classifier
    given: dict[str, Any] = {"out": tmp_path / "a", "epochs": 2, "particles": 4}
    result = compare(["vae", "conditional"], few, test, **given)
    assert set(result.figures) == {"vae", "conditional"}
    assert result.differences[0]["models"] == ["conditional", "vae"]
    again = compare(["vae", "conditional"], few, test, resume=True, **given)
    assert again.figures == result.figures, "it is not trained again"


@pytest.mark.parametrize("which", [0, 1])
def test_compare_refuses_before_training(which: int, train: Dataset, test: Dataset) -> None:
    parts = [train, test]
    parts[which] = unlabelled(parts[which])
    never = {"progress": lambda *_: pytest.fail("trained")}
    with pytest.raises(checks.DataError, match=r"^recipe 'conditional' needs labels, but"):
        compare(["vae", "conditional"], *parts, **never)
    parts[which] = replace(test, y=test.y + (7 if which else 0))
    with pytest.raises(checks.DataError, match="is not one of the 3 classes of the training data"):
        compare(["vae", "conditional"], train, replace(test, y=test.y + 7), **never)


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """The command line in a new folder, where `blobs` and, without labels, `bare` are data."""
    sets = {"blobs": (blobs(600), blobs(200, 1))}
    sets["bare"] = tuple(map(unlabelled, sets["blobs"]))
    monkeypatch.setattr("vaelab.data.load", lambda name, **_: sets[name])
    monkeypatch.chdir(tmp_path)

    def call(*args: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([str(arg) for arg in args])
        return int(ended.value.code or 0), *capfd.readouterr()

    return call


def test_the_command_line_trains_and_samples(cli: Run) -> None:
    code, out, err = cli("train", "conditional", "blobs", "--epochs", 1, "--out", "m")
    assert (code, err) == (0, "model: m\n")
    assert out.splitlines()[1].split()[0] == "conditional"
    for args in ((), ("--label", 2), ("--label", "top"), ("--label", "left")):
        code, out, _ = cli(
            "sample", "m", "-n", 9, *args, "--save", "/".join(map(str, ("f", *args)))
        )
        assert code == 0
    pictures = [Path("f", *name, "samples.png").read_bytes() for name in
                ((), ("--label", "2"), ("--label", "top"), ("--label", "left"))]  # fmt: skip
    assert pictures[1] == pictures[2], "a class is called by its label or its name"
    assert len(set(pictures)) == 3
    code, _, err = cli("sample", "m", "--label", "topp")
    assert (code, err) == (
        1,
        "error: --label = 'topp' is not known; did you mean 'top'? Known: 0, 1, 2, left, right, "
        "top.\n",
    )
    for args in (("evaluate", "m"), ("doctor", "m"), ("encode", "m", "blobs", "--out", "c.csv"),
                 ("plot", "latent", "m"), ("decode", "m")):  # fmt: skip
        assert cli(*args)[0] == 0, args
    assert cli("export", "m", "--onnx", "o")[0] == 1


def test_the_command_line_refuses_before_training(cli: Run, tmp_path: Path) -> None:
    needs = (
        "error: recipe 'conditional' needs labels, but blobs has none; give the class of each "
        "datum, or use another recipe.\n"
    )
    for args in (("train", "conditional", "bare"), ("compare", "bare", "--recipes", "conditional")):
        code, _, err = cli(*args, "--epochs", 1)
        assert (code, err) == (1, needs)
        assert list(tmp_path.iterdir()) == []
    code, _, err = cli("train", "vae", "blobs", "--epochs", 1, "--out", "v")
    assert code == 0
    code, _, err = cli("sample", "v", "--label", 3)
    assert (code, err) == (1, "error: --label 3, but recipe 'vae' takes no labels; leave it out.\n")
