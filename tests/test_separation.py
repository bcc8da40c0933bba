"""The term that keeps neighbours together: its formula, what it does to a map, and to training."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import curve_fit

import vaelab
from vaelab import checks, graphs, metrics, recipes, storage
from vaelab.graphs import neighbour_graph
from vaelab.objectives import ELBO
from vaelab.parts import describe
from vaelab.records import Checkpoints, Dataset, Terms, Training
from vaelab.separation import FALL, NEAR, REPULSION, Separation
from vaelab.training import resolve, train


def clusters(count: int = 600, size: int = 30, classes: int = 6, seed: int = 0) -> Dataset:
    """Grey levels in clusters, each a curved line through its own part of the cube."""
    generator = np.random.default_rng(seed)
    y = np.arange(count) % classes
    centres, ways = np.random.default_rng(9).normal(size=(2, classes, size))
    along = generator.uniform(-1, 1, count)[:, None]
    logits = centres[y] + along * ways[y] + 0.3 * generator.normal(size=(count, size))
    return Dataset(x=(1 / (1 + np.exp(-logits))).astype(np.float32), y=y, name="clusters")


def by_hand(u: np.ndarray, v: np.ndarray, scale: float) -> list[float]:
    def q(one: np.ndarray, other: np.ndarray) -> float:
        return 1 / (1 + NEAR * math.dist(scale * one, scale * other) ** (2 * FALL))

    terms = []
    for i in range(len(u)):
        others = [-math.log(1 - q(u[i], v[j])) for j in range(len(u)) if j != i]
        terms.append(-math.log(q(u[i], v[i])) + REPULSION * float(np.mean(others)))
    return terms


class TestFormula:
    @pytest.mark.parametrize(("count", "size", "scale"), [(2, 2, 3.0), (7, 2, 1.0), (5, 3, 0.5)])
    def test_it_is_what_it_says(self, count: int, size: int, scale: float) -> None:
        u, v = np.random.default_rng(0).normal(size=(2, count, size))
        separation = Separation(scale=scale)
        found = separation(torch.tensor(u), torch.tensor(v)).tolist()
        assert found == pytest.approx(by_hand(u, v, scale), rel=1e-4)

    def test_its_curve_is_that_of_umap(self) -> None:
        """min_dist 0.1, spread 1: the curve nearest to 1 up to 0.1, then exp(−(d − 0.1))."""
        far = np.linspace(0, 3, 300)
        wanted = np.where(far < 0.1, 1.0, np.exp(-(far - 0.1)))
        (a, b), _ = curve_fit(lambda d, a, b: 1 / (1 + a * d ** (2 * b)), far, wanted)
        assert pytest.approx((a, b), abs=1e-4) == (NEAR, FALL)

    def test_pairs_attract_and_others_repel(self) -> None:
        u = torch.tensor([[0.0, 0.0], [1.0, 0.0]], requires_grad=True)
        v = torch.tensor([[0.0, 0.5], [1.0, 0.5]])
        Separation()(u, v)[0].backward()
        assert u.grad is not None
        to_own, to_other = u.grad[0, 1], u.grad[0, 0]
        assert to_own < 0  # descent moves it up, towards its neighbour
        assert to_other > 0  # and left, away from the other's

    def test_it_depends_on_distances_alone(self) -> None:
        u, v = torch.randn(2, 20, 2, generator=torch.Generator().manual_seed(0))
        turn = torch.tensor([[0.6, -0.8], [0.8, 0.6]])
        separation = Separation()
        moved = separation(u @ turn.T + 4, v @ turn.T + 4)
        assert torch.allclose(separation(u, v), moved, rtol=1e-3)
        assert torch.allclose(Separation(scale=6.0)(u / 2, v / 2), separation(u, v), rtol=1e-3)

    def test_points_that_coincide_have_a_finite_value_and_gradient(self) -> None:
        u = torch.zeros(6, 2, requires_grad=True)
        value = Separation()(u, torch.zeros(6, 2)).sum()
        value.backward()
        assert torch.isfinite(value)
        assert u.grad is not None
        assert torch.isfinite(u.grad).all()

    def test_points_far_away_have_too(self) -> None:
        u = torch.tensor([[0.0, 0.0], [1e6, 0.0]], requires_grad=True)
        value = Separation()(u, u.flip(0)).sum()
        value.backward()
        assert u.grad is not None
        assert torch.isfinite(u.grad).all()

    def test_a_single_datum_has_no_others(self) -> None:
        u, v = torch.zeros(1, 2), torch.ones(1, 2)
        wanted = -math.log(1 / (1 + NEAR * (9 * 2) ** FALL))
        assert Separation()(u, v).tolist() == pytest.approx([wanted], rel=1e-5)

    @pytest.mark.parametrize(
        ("settings", "told"),
        [
            ({"weight": -1}, "separation = -1, but it must be a finite number of at least 0."),
            ({"neighbours": 1}, "neighbours = 1, but it must be a whole number of at least 2."),
            ({"scale": 0}, "scale = 0, but it must be a finite number above 0."),
        ],
    )
    def test_bad_settings_are_refused(self, settings: dict[str, float], told: str) -> None:
        with pytest.raises(checks.ArgumentError) as caught:
            Separation(**settings)  # type: ignore[arg-type]
        assert str(caught.value) == told


QUICK = Training(epochs=3, batch_size=64)


class TestTraining:
    recipe = recipes.vae((30,))
    x = torch.from_numpy(clusters().x)

    def run(self, separation: Separation | None, **given: object) -> vaelab.training.Trained:
        what = {"settings": QUICK, **given}
        return train(self.recipe.model(), ELBO(), self.x, separation=separation, **what)  # type: ignore[arg-type]

    def test_weight_zero_is_as_without_it(self) -> None:
        without, zero = self.run(None), self.run(Separation(weight=0))
        for name, tensor in without.model.state_dict().items():
            assert torch.equal(tensor, zero.model.state_dict()[name]), name
        assert "train_separation" not in zero.history[0]

    def test_same_seed_same_bits(self) -> None:
        one, other = self.run(Separation()), self.run(Separation())
        for name, tensor in one.model.state_dict().items():
            assert torch.equal(tensor, other.model.state_dict()[name]), name

    def test_it_is_told_beside_the_elbo_and_not_in_it(self) -> None:
        record = self.run(Separation()).history[-1]
        assert record["train_elbo"] == pytest.approx(
            -(record["train_rate"] + record["train_distortion"])
        )
        assert record["train_separation"] > 0
        assert "valid_separation" not in record

    def test_it_falls_and_neighbours_stay_together(self) -> None:
        history = self.run(Separation(), settings=replace(QUICK, epochs=12)).history
        told = [record["train_separation"] for record in history]
        assert told[-1] < 0.8 * told[0]

    def test_a_callback_hears_of_the_graph_and_of_the_term(self) -> None:
        heard: list[tuple[str, dict[str, float]]] = []
        self.run(Separation(), callback=lambda event, values: heard.append((event, dict(values))))
        assert heard[0] == ("graph", {"done": 600, "total": 600})
        steps = [values for event, values in heard if event == "step"]
        assert all(values["separation"] > 0 for values in steps)

    def test_it_resumes_to_the_same_bits(self, tmp_path: Path) -> None:
        class StopError(Exception):
            pass

        def stop(event: str, values: object) -> None:
            if event == "step" and values["step"] == 13:  # type: ignore[index]
                raise StopError

        whole, folder = self.run(Separation()), tmp_path / "kept"
        with pytest.raises(StopError):
            self.run(Separation(), checkpoints=Checkpoints(folder), callback=stop)
        after = self.run(Separation(), checkpoints=Checkpoints(folder, resume=True))
        for name, tensor in whole.model.state_dict().items():
            assert torch.equal(tensor, after.model.state_dict()[name]), name

    def test_it_does_not_resume_with_another(self, tmp_path: Path) -> None:
        self.run(Separation(), checkpoints=Checkpoints(tmp_path / "kept"))
        again = Checkpoints(tmp_path / "kept", resume=True)
        with pytest.raises(checks.StorageError, match=r"separation\.weight was 0\.5 and is now 2"):
            self.run(Separation(weight=2.0), checkpoints=again)
        with pytest.raises(checks.StorageError, match=r"separation was .* and is now None"):
            self.run(None, checkpoints=again)

    def test_pairs_are_edges_and_each_datum_is_given_its_own_class(self) -> None:
        """Known by their codes, in an epoch that leaves the weights as they are."""
        pairs: list[tuple[torch.Tensor, torch.Tensor]] = []

        class Spy(Separation):
            def __call__(self, u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
                pairs.append((u.detach(), v.detach()))
                return super().__call__(u, v)

        y = torch.randint(6, (600,), generator=torch.Generator().manual_seed(3))
        model = recipes.conditional((30,), classes=6).model()
        still = Training(epochs=1, batch_size=64, learning_rate=1e-12, validation_fraction=0.5)
        trained = train(model, ELBO(), self.x, y=y, settings=still, separation=Spy())
        codes = trained.model.given(y).encode(self.x).mean.detach()
        rows, near = (
            [torch.cdist(end, codes).min(1) for end in ends] for ends in zip(*pairs, strict=True)
        )
        assert max(float(found.values.max()) for found in (*rows, *near)) < 1e-4
        start, end = (torch.cat([found.indices for found in ends]).numpy() for ends in (rows, near))
        assert len(set(start)) == len(start) == 300, "each datum that is trained on, once"
        assert set(end) <= set(start), "those held out are nobody's neighbours"
        graph = neighbour_graph(self.x)
        edges = set(zip(graph.rows.tolist(), graph.columns.tolist(), strict=True))
        drawn = {(int(min(pair)), int(max(pair))) for pair in zip(start, end, strict=True)}
        assert drawn <= edges | {(i, i) for i in range(600)}
        assert np.mean(start == end) < 0.1, "alone is only who has no neighbour"

    def test_the_graph_is_of_the_settings_and_in_the_posteriors_units(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[dict[str, Any]] = []

        def noted(x: torch.Tensor, **given: Any) -> graphs.Graph:
            asked.append(given)
            return neighbour_graph(x, **given)

        monkeypatch.setattr("vaelab.training.kept_graph", noted)
        x = self.x * torch.linspace(0.1, 1, 30)
        model, settings = recipes.gaussian((30,)).model(), Training(steps=1)
        trained = train(model, ELBO(), x, settings=settings, separation=Separation(neighbours=7))
        [given] = asked
        assert given["neighbours"] == 7
        unit = trained.model.parts["posterior"].unit
        assert len(unit.unique()) == 30, "each column has its own"
        assert torch.equal(given["unit"], unit)

    @pytest.mark.parametrize("weight", [0.1, 0.5, 2.0])
    def test_with_it_data_are_seen_more_often_and_gradients_may_be_larger(
        self, weight: float
    ) -> None:
        many, few = torch.zeros(60_000, 3), torch.zeros(500, 3)
        plain, pairs = (resolve(Training(), many, how) for how in (None, Separation(weight)))
        assert (plain.epochs, pairs.epochs) == (10, 20)
        assert pairs.clip_norm == pytest.approx(plain.clip_norm * (1 + 10 * weight))
        assert replace(pairs, epochs=10, clip_norm=plain.clip_norm) == plain
        told = [resolve(Training(), few, how).epochs for how in (None, Separation(weight))]
        assert told == [21, 21], "the most there are"
        given = Training(epochs=3, clip_norm=5.0)
        asked = resolve(given, many, Separation(weight))
        assert (asked.epochs, asked.clip_norm) == (3, 5.0)

    @pytest.mark.parametrize("weight", [0.25, 3.0])
    def test_it_counts_by_its_weight_for_each_element_of_a_datum(self, weight: float) -> None:
        """Known by the gradient of a term that needs no neighbour, beside an objective of 0."""

        class Plain(Separation):
            def __call__(self, u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
                return u.square().sum(1)

        class Nothing(ELBO):
            def __call__(self, *given: Any, **named: Any) -> Terms:
                terms = super().__call__(*given, **named)
                return replace(terms, loss=0 * terms.loss)

        still = {"learning_rate": 1e-12, "validation_fraction": 0.0, "clip_norm": 1e9}
        settings = Training(epochs=1, batch_size=600, **still)  # type: ignore[arg-type]
        model = self.recipe.model()
        trained = train(model, Nothing(), self.x, settings=settings, separation=Plain(weight))
        posterior = trained.model.parts["posterior"]
        value = weight * 30 * trained.model.encode(self.x).mean.square().sum(1).mean()
        gradients = torch.autograd.grad(value, posterior.parameters())
        wanted = float(torch.nn.utils.get_total_norm(gradients))
        assert trained.history[0]["gradient_norm"] == pytest.approx(wanted, rel=1e-4)

    def test_bits_are_drawn_of_neighbours_too(self) -> None:
        trained = self.run(Separation(), settings=replace(QUICK, binarize="dynamic"))
        assert math.isfinite(trained.history[-1]["train_separation"])


def accuracy(vae: vaelab.VAE, train: Dataset, test: Dataset) -> float:
    assert train.y is not None
    assert test.y is not None
    among, codes = vae.encode(train), vae.encode(test)
    return metrics.knn_accuracy(among.loc, train.y, codes.loc, test.y)


def test_classes_lie_apart_with_it_and_the_elbo_stays_near() -> None:
    known, others = clusters(900, classes=9), clusters(500, classes=9, seed=1)
    plain = vaelab.VAE("vae", epochs=12, batch_size=64).fit(known)
    apart = vaelab.VAE("neighbours", epochs=12, batch_size=64).fit(known)
    assert accuracy(apart, known, others) > accuracy(plain, known, others) + 0.02
    assert apart.terms(others).elbo.mean() > plain.terms(others).elbo.mean() - 3


def test_images_are_read_by_the_networks_of_conv() -> None:
    plain, images, pairs = (
        recipes.build(name, (1, 12, 12)) for name in ("neighbours", "conv", "conv-neighbours")
    )
    for part in ("posterior", "likelihood"):
        assert describe(getattr(pairs, part)) == describe(getattr(images, part))
        assert describe(getattr(pairs, part)) != describe(getattr(plain, part))
    assert describe(pairs.prior) == describe(plain.prior)
    assert pairs.separation == plain.separation == Separation()


class TestEstimator:
    data = clusters(300)

    def test_the_knob_reaches_any_recipe(self) -> None:
        vae = vaelab.VAE("gaussian", separation=0.5, epochs=1).fit(self.data)
        assert vae.recipe_.separation == Separation(weight=0.5)
        assert vae.history_[0]["train_separation"] > 0

    def test_zero_takes_it_away(self) -> None:
        vae = vaelab.VAE("neighbours", separation=0, epochs=1).fit(self.data)
        assert vae.recipe_.separation is None

    def test_options_of_the_recipe(self) -> None:
        vae = vaelab.VAE("neighbours", options={"neighbours": 5, "components": 7}, separation=2)
        recipe = vae.resolved((30,))
        assert recipe.separation == Separation(weight=2, neighbours=5)
        assert recipe.prior.settings()["components"] == 7

    def test_a_negative_one_is_refused(self) -> None:
        with pytest.raises(checks.ArgumentError) as caught:
            vaelab.VAE(separation=-1).fit(self.data)
        assert str(caught.value) == (
            "separation = -1, but it must be a finite number of at least 0."
        )

    def test_a_folder_keeps_it(self, tmp_path: Path) -> None:
        vae = vaelab.VAE("vae", separation=0.5, epochs=1).fit(self.data)
        loaded = vaelab.load(vae.save(tmp_path / "m"))
        assert loaded.recipe_.separation == vae.recipe_.separation
        assert np.array_equal(loaded.transform(self.data), vae.transform(self.data))

    def test_folders_of_before_have_none(self, tmp_path: Path) -> None:
        folder = vaelab.VAE("vae", epochs=1).fit(self.data).save(tmp_path / "m")
        config = json.loads((folder / "config.json").read_text())
        assert config.pop("separation") is None
        (folder / "config.json").write_text(json.dumps(config | {"format": 4}))
        assert storage.load(folder).separation is None
        (folder / "config.json").write_text(json.dumps(config))
        with pytest.raises(checks.StorageError, match="missing fields"):
            storage.load(folder)

    def test_a_damaged_one_is_told(self, tmp_path: Path) -> None:
        folder = vaelab.VAE("vae", separation=1, epochs=1).fit(self.data).save(tmp_path / "m")
        config = json.loads((folder / "config.json").read_text())
        config["separation"]["scale"] = -1
        (folder / "config.json").write_text(json.dumps(config))
        with pytest.raises(checks.StorageError, match=r"config\.json is damaged: scale = -1"):
            storage.load(folder)

    def test_it_goes_on_with_partial_fit(self) -> None:
        vae = vaelab.VAE("neighbours", epochs=1).fit(self.data).partial_fit(self.data)
        assert vae.history_[-1]["train_separation"] > 0
