"""The doctor: each disease is found, with its level, and the healthy are not troubled."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import blobs
from vaelab import VAE, checks
from vaelab.comparison import evaluate
from vaelab.doctor import (
    LEVELS,
    Finding,
    _data,
    _model,
    _patient,
    examine_data,
    examine_model,
    report,
    worst,
)
from vaelab.recipes import RECIPES
from vaelab.records import Dataset
from vaelab.separation import Separation

Damage = Callable[[Dataset], Dataset]


def found(findings: list[Finding], check: str) -> Finding:
    (finding,) = [finding for finding in findings if finding.check == check]
    return finding


def levels(findings: list[Finding]) -> dict[str, str]:
    return {finding.check: finding.level for finding in findings}


@pytest.fixture(scope="module")
def images() -> tuple[Dataset, Dataset]:
    return blobs(1200, seed=0), blobs(300, seed=1)


def columns(count: int = 1500, seed: int = 0) -> Dataset:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 6)).astype(np.float32)
    return Dataset(x=x, y=rng.integers(0, 2, count), name="columns")


def changed(data: Dataset, rows: Any, values: Any) -> Dataset:
    x = data.x.copy()
    x[rows] = values
    return replace(data, x=x)


def test_healthy_data_are_not_troubled(images: tuple[Dataset, Dataset]) -> None:
    assert set(levels(examine_data(*images)).values()) == {"ok"}
    grey, other = (replace(d, x=np.float32(d.x / 255)) for d in images)
    assert set(levels(examine_data(grey, other)).values()) == {"ok"}
    assert set(levels(examine_data(grey, images[1])).values()) == {"ok"}, "uint8 is scored alike"
    vectors = levels(examine_data(columns(), columns(400, seed=1)))
    assert set(vectors.values()) == {"ok"}
    assert len(vectors) == len(_data.CHECKS)


UNEVEN = np.repeat([0, 1, 2], [60, 340, 800])

DISEASES: dict[str, tuple[str, str, str, Damage]] = {
    "nan": ("finite", "problem", "rows 7;", lambda d: changed(as_float(d), (7, 0, 2, 3), np.nan)),
    "infinity": ("finite", "problem", "27", lambda d: changed(as_float(d), (7, 0, 2, 3), np.inf)),
    "real": ("range", "note", "a Gaussian", lambda d: replace(d, x=as_float(d).x * 2 - 1)),
    "to 255": ("range", "warning", "0 to 255", lambda d: replace(d, x=d.x.astype(np.float32))),
    "bits in uint8": ("range", "problem", "0.0039", lambda d: replace(d, x=d.x // 255)),
    "16 levels": ("range", "warning", "0.063", lambda d: replace(d, x=d.x // 16 + d.x // 255)),
    "alike": ("constant", "problem", "144 of 144", lambda d: changed(d, slice(None), d.x[0])),
    "blank": ("blank", "warning", "30 of 1,200", lambda d: changed(d, slice(30), 0)),
    "a blank": ("blank", "note", "1 of 1,200", lambda d: changed(d, 5, 9)),
    "repeats": ("duplicates", "warning", "99 of", lambda d: changed(d, slice(99), d.x[100:199])),
    "a repeat": ("duplicates", "note", "1 of 1,200", lambda d: changed(d, 3, d.x[1100])),
    "imbalance": ("balance", "warning", "60 to 800", lambda d: replace(d, y=UNEVEN)),
    "few": ("size", "note", "900 ", lambda d: d.limited(900)),
    "very few": ("size", "warning", "90 ", lambda d: d.limited(90)),
    "of another range": ("splits", "problem", "-1", lambda d: replace(d, x=as_float(d).x * 2 - 1)),
    "of another shape": ("splits", "problem", "(1, 12, 6)", lambda d: replace(d, x=d.x[..., :6])),
    "shifted": ("splits", "warning", "differ by", lambda d: replace(d, x=255 - d.x)),
}


def as_float(data: Dataset) -> Dataset:
    return replace(data, x=np.float32(data.x / 255))


@pytest.mark.parametrize("disease", DISEASES)
def test_diseases_of_images_are_found(disease: str, images: tuple[Dataset, Dataset]) -> None:
    check, level, evidence, damage = DISEASES[disease]
    train, test = images
    finding = found(examine_data(damage(train), test), check)
    assert finding.level == level
    assert evidence in finding.evidence
    assert finding.advice


def test_binary_data_are_told_from_grey_ones(images: tuple[Dataset, Dataset]) -> None:
    bits = replace(images[0], x=np.where(images[0].x > 127, 255, 0).astype(np.uint8))
    assert "look binary" in found(examine_data(bits), "range").evidence
    assert "grey levels" in found(examine_data(images[0]), "range").evidence


def test_diseases_of_vectors_are_found() -> None:
    healthy = columns()
    assert found(examine_data(healthy), "range").level == "ok"
    unequal = replace(healthy, x=healthy.x * np.float32([1, 1, 1, 1, 1, 3e4]))
    assert found(examine_data(unequal), "scales").level == "ok", "each has a unit of its own"
    far = replace(healthy, x=healthy.x + np.float32([0, 0, 0, 1e7, 0, 0]))
    finding = found(examine_data(far), "scales")
    assert finding.level == "warning"
    assert "Columns 3 vary" in finding.evidence
    still = changed(healthy, (slice(None), 4), 2.5)
    finding = found(examine_data(still), "constant")
    assert finding.level == "warning"
    assert "columns 4" in finding.evidence
    wide = replace(healthy, x=np.random.default_rng(0).random((1500, 1600), dtype=np.float32))
    assert found(examine_data(wide), "size").level == "warning"
    nothing = changed(healthy, (slice(None), 2), np.nan)
    (finding,) = examine_data(nothing)
    assert (finding.check, finding.level) == ("finite", "problem")
    assert "columns 2" in finding.evidence


@pytest.mark.parametrize(("leaked", "level"), [(0, "ok"), (1, "warning"), (30, "problem")])
def test_leaks_are_counted(leaked: int, level: str, images: tuple[Dataset, Dataset]) -> None:
    train, test = images
    leaky = changed(train, slice(leaked), test.x[:leaked])
    finding = found(examine_data(leaky, test), "leakage")
    assert finding.level == level
    assert finding.evidence.startswith(f"{leaked} of 300")
    grey = replace(leaky, x=np.float32(leaky.x) / 255)
    assert found(examine_data(grey, test), "leakage") == finding, "as float they leak as well"


def test_classes_that_training_lacks_are_named(images: tuple[Dataset, Dataset]) -> None:
    train, test = images
    without = replace(train, y=np.where(train.y == 2, 0, train.y))
    finding = found(examine_data(without, test), "balance")
    assert finding.level == "warning"
    assert "2 do not occur" in finding.evidence
    assert found(examine_data(replace(train, y=None), test), "balance").level == "ok"


def test_maps_are_read_in_blocks_to_the_same_findings(
    images: tuple[Dataset, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "x.npy", images[0].x)
    mapped = replace(images[0], x=np.load(tmp_path / "x.npy", mmap_mode="r"))
    whole = examine_data(*images)
    look = _data.look(images[0], floats=False)
    np.testing.assert_allclose(look.mean, images[0].x.reshape(1200, -1).mean(0), rtol=1e-9)
    monkeypatch.setattr(_data, "BLOCK", 1000)
    assert examine_data(mapped, images[1]) == whole
    parts = _data.look(mapped, floats=False)
    np.testing.assert_allclose(parts.deviation, images[0].x.reshape(1200, -1).std(0), atol=1e-9)
    np.testing.assert_array_equal(parts.digests, look.digests)


def test_rows_of_later_blocks_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_data, "BLOCK", 60)
    wrong = changed(columns(), ([25, 1333], [1, 4]), np.nan)
    finding = found(examine_data(columns(), wrong), "finite")
    assert "2 of 1,500 train data" in finding.evidence
    assert "(rows 25, 1333; columns 1, 4)" in finding.evidence


def test_few_data_differ_by_chance() -> None:
    rng = np.random.default_rng(0)
    few, fewer = (
        Dataset(x=rng.normal(size=(n, 300)).astype(np.float32), y=None, name="noise")
        for n in (40, 10)
    )
    assert found(examine_data(few, fewer), "splits").level == "ok"
    away = replace(fewer, x=fewer.x + np.float32(0.5))
    assert found(examine_data(few, away), "splits").level == "warning"


def test_what_is_no_data_is_refused() -> None:
    for x in (np.zeros((0, 3)), np.zeros(4), np.array([["a"]])):
        with pytest.raises(checks.DataError, match="real numbers with at least one datum"):
            examine_data(Dataset(x=x, y=None, name="none"))


@pytest.fixture(scope="module")
def healthy(train: Dataset) -> VAE:
    return VAE("vae", epochs=12).fit(train)


def altered(vae: VAE, change: Callable[[torch.nn.Module], object]) -> VAE:
    other = copy.deepcopy(vae)
    with torch.no_grad():
        change(other.model_.parts)
    return other


def posterior_bias(parts: Any) -> torch.Tensor:
    bias: torch.Tensor = parts["posterior"].network.layers[-1].bias
    return bias


def test_a_healthy_model_is_not_troubled(healthy: VAE, train: Dataset, test: Dataset) -> None:
    state = torch.get_rng_state()
    findings = examine_model(healthy, train, test)
    assert set(levels(findings).values()) == {"ok"}, report(findings)
    assert len(findings) == len(_model.CHECKS)
    assert examine_model(healthy, train, test) == findings
    assert torch.equal(torch.get_rng_state(), state)


def test_a_collapsed_model_is_found(train: Dataset, test: Dataset) -> None:
    vae = VAE("beta", options={"beta": 1000.0}, epochs=2).fit(train)
    findings = examine_model(vae, train, test)
    finding = found(findings, "posterior-collapse")
    assert finding.level == "problem"
    assert "--set objective.warmup_epochs=2 --set objective.beta=1" in finding.advice
    assert found(findings, "unused-dimensions").level == "warning"
    assert found(findings, "under-fitting").level == "note"
    assert found(findings, "prior-holes").level == "ok"


def test_a_constant_posterior_is_collapse_whatever_its_rate(train: Dataset, test: Dataset) -> None:
    vae = VAE("fixed-variance", options={"scale": 0.3}, epochs=1).fit(train)
    still = altered(vae, lambda parts: parts["posterior"].network.layers[-1].weight.zero_())
    findings = examine_model(still, train, test)
    assert found(findings, "posterior-collapse").level == "problem"


def test_unused_dimensions_are_counted(healthy: VAE, train: Dataset, test: Dataset) -> None:
    def idle(parts: Any) -> None:  # the second dimension is the prior, whatever x is
        layer = parts["posterior"].network.layers[-1]
        layer.weight[[1, 3]] = 0
        layer.bias[[1, 3]] = 0

    finding = found(examine_model(altered(healthy, idle), train, test), "unused-dimensions")
    assert finding.level == "warning"
    assert finding.evidence.startswith("1 of 2 ")
    assert "--latent-dim 1" in finding.advice

    def shrink(parts: Any) -> None:  # means vary by less than 0.01, yet far above their noise
        layer = parts["posterior"].network.layers[-1]
        layer.weight[:2] *= 0.05
        layer.bias[:2] *= 0.05
        layer.bias[2:] -= 4

    finding = found(examine_model(altered(healthy, shrink), train, test), "unused-dimensions")
    assert finding.evidence.startswith("0 of 2 ")
    assert "to 0.00" in finding.evidence


def test_holes_in_the_prior_are_found(train: Dataset, test: Dataset) -> None:
    vae = VAE("fixed-variance", options={"scale": 0.01}, epochs=4).fit(train)
    findings = examine_model(vae, train, test)
    finding = found(findings, "prior-holes")
    assert finding.level == "warning"
    assert "vaelab train vamp DATA" in finding.advice
    assert found(findings, "unused-dimensions").level == "ok", "narrow codes tell much"


def test_the_divergence_to_the_prior_is_that_of_evaluate_on_the_same_data(
    healthy: VAE, train: Dataset, test: Dataset
) -> None:
    evidence = found(examine_model(healthy, train, test), "prior-holes").evidence
    known = evaluate(healthy, train, particles=1, samples=0)["marginal_kl"]
    start = f"all codes of 600 training data together are {known:.2g} nats from the prior"
    assert evidence.startswith(start)


def test_over_fitting_is_found() -> None:
    rng = np.random.default_rng(0)
    train, test = (
        Dataset(x=rng.integers(0, 2, (n, 60)).astype(np.float32), y=None, name="noise")
        for n in (40, 200)
    )
    vae = VAE("vae", latent_dim=8, epochs=80, training={"weight_decay": 0.0}).fit(train)
    findings = examine_model(vae, train, test)
    finding = found(findings, "over-fitting")
    assert finding.level == "warning", finding.evidence
    assert found(findings, "under-fitting").level == "ok", "more epochs would not help"
    assert "--patience 3" in finding.advice
    assert "--epochs 40" in finding.advice


def test_under_fitting_is_found(train: Dataset, test: Dataset) -> None:
    vae = VAE("vae", epochs=4, learning_rate=1e-3).fit(train)
    finding = found(examine_model(vae, train, test), "under-fitting")
    assert finding.level == "warning", finding.evidence
    advised = "vaelab train vae DATA --latent-dim 2 --epochs 8 --out runs/vae-longer"
    assert finding.advice == advised, "what was never in a folder cannot be resumed"


@pytest.mark.parametrize(("what", "shift"), [("narrow", -4.0), ("elsewhere", 2.0)])
def test_an_unreliable_log_likelihood_is_found(
    what: str, shift: float, healthy: VAE, train: Dataset, test: Dataset
) -> None:
    rows = slice(2, 4) if what == "narrow" else slice(0, 2)
    wrong = altered(healthy, lambda parts: posterior_bias(parts)[rows].add_(shift))
    finding = found(examine_model(wrong, train, test), "log-likelihood")
    assert finding.level == "warning", finding.evidence
    assert "--particles 1024" in finding.advice


def test_saturated_scales_are_found(healthy: VAE, train: Dataset, test: Dataset) -> None:
    wrong = altered(healthy, lambda parts: posterior_bias(parts)[2:].fill_(-60))
    finding = found(examine_model(wrong, train, test), "saturated-scales")
    assert finding.level == "warning"
    assert finding.evidence.startswith("100.0% ")


def test_a_tiny_scale_of_the_likelihood_is_found() -> None:
    train, test = columns(300), columns(100, seed=1)
    vae = VAE("linear", epochs=1).fit(train)
    assert found(examine_model(vae, train, test), "saturated-scales").level == "ok"
    tiny = altered(vae, lambda parts: parts["likelihood"].raw_log_scale.fill_(-9))
    finding = found(examine_model(tiny, train, test), "saturated-scales")
    assert finding.level == "warning"
    assert "the likelihood's least scale is 0.00078 of its element's" in finding.evidence


def test_a_scale_is_measured_by_the_deviation_of_its_own_element() -> None:
    """Columns of 20,000, of 0.001, and one that is still."""
    told = []
    for units in ([1, 1, 1, 1, 1, 0], [2e4, 1, 1, 1, 1e-3, 0]):
        parts = [replace(d, x=d.x * np.float32(units)) for d in (columns(300), columns(100, 1))]
        vae = VAE("linear", epochs=1).fit(parts[0])
        finding = found(examine_model(vae, *parts), "saturated-scales")
        assert finding.level == "ok", finding
        told.append(finding.evidence.partition(";")[2])
    assert told[0] == told[1], "whatever their units"


def test_other_data_and_recoveries_are_told(healthy: VAE, train: Dataset, test: Dataset) -> None:
    other = found(examine_model(healthy, blobs(300, seed=2), test), "data")
    assert other.level == "note"
    assert healthy.data_["fingerprint"][:8] in other.evidence
    scaled = replace(train, x=np.float32(train.x / 255))
    assert found(examine_model(healthy, scaled, test), "data").level == "warning"
    ill = copy.deepcopy(healthy)
    ill.history_[-1]["recoveries"] = 2.0
    finding = found(examine_model(ill, train, test), "recoveries")
    assert finding.level == "warning"
    assert "--learning-rate 0.00036" in finding.advice


@pytest.fixture(scope="module")
def apart(train: Dataset) -> VAE:
    return VAE("neighbours", epochs=12).fit(train)


@pytest.fixture(scope="module")
def fought(train: Dataset) -> VAE:
    return VAE("vae", separation=20, epochs=12).fit(train)


def test_a_separation_that_the_prior_follows_is_sound(
    apart: VAE, train: Dataset, test: Dataset
) -> None:
    finding = found(examine_model(apart, train, test), "separation")
    assert finding.level == "ok", finding
    assert finding.evidence.startswith(f"at weight {Separation().weight:g} the term adds ")


def test_a_separation_that_fights_the_prior_is_found(
    fought: VAE, train: Dataset, test: Dataset
) -> None:
    finding = found(examine_model(fought, train, test), "separation")
    assert finding.level == "warning", finding
    bending, _, less = finding.advice.partition("; or a smaller weight: ")
    assert bending == "vaelab train neighbours DATA --latent-dim 2 --out runs/vae-neighbours"
    start, weight, out = less.rsplit(" ", 3)[0], less.split()[-3], less.split()[-1]
    assert start == "vaelab train vae DATA --latent-dim 2 --separation"
    assert out == "runs/vae-separation"
    record = fought.history_[-1]
    wanted = 3 * record["train_rate"] / (record["train_separation"] * 144)
    assert float(weight) == pytest.approx(wanted, rel=0.05)
    convolved = copy.deepcopy(fought)
    convolved.recipe_ = replace(fought.recipe_, name="conv")
    finding = found(examine_model(convolved, train, test), "separation")
    assert finding.advice.startswith("vaelab train conv-neighbours DATA")


def test_a_separation_that_hardly_counts_is_told(train: Dataset, test: Dataset) -> None:
    vae = VAE("vae", separation=5e-4, epochs=3).fit(train)
    finding = found(examine_model(vae, train, test), "separation")
    assert finding.level == "note", finding
    assert "it hardly counts" in finding.evidence
    assert finding.advice == (
        f"vaelab train vae DATA --latent-dim 2 --separation {Separation().weight:g} "
        "--out runs/vae-separation"
    )


def test_what_has_no_separation_is_not_troubled(
    healthy: VAE, fought: VAE, train: Dataset, test: Dataset
) -> None:
    none = copy.deepcopy(fought)
    none.recipe_ = replace(fought.recipe_, separation=Separation(weight=0.0))
    for vae in (healthy, none):
        finding = found(examine_model(vae, train, test), "separation")
        assert (finding.level, finding.evidence) == ("ok", "none was asked for.")


@pytest.mark.parametrize(
    ("share", "least", "level"),
    [(0.11, 0.26, "warning"), (0.09, 0.26, "ok"), (0.11, 0.24, "ok")],
)
def test_a_separation_is_judged_by_nats_and_share(
    share: float, least: float, level: str, fought: VAE, train: Dataset, test: Dataset
) -> None:
    """`share` of the rate, where that is `least` nats."""
    patient = _patient.admitted(fought, train, test, 4, 0)
    vae = copy.deepcopy(fought)
    vae.history_[-1]["train_rate"] = least / share
    told = patient.information._replace(marginal_kl=least)
    assert _model.separation(replace(patient, vae=vae, information=told)).level == level


def test_a_prior_that_bends_already_is_not_advised(
    apart: VAE, train: Dataset, test: Dataset
) -> None:
    patient = _patient.admitted(apart, train, test, 4, 0)
    far = patient.information._replace(marginal_kl=2.0)
    finding = _model.separation(replace(patient, information=far))
    assert finding.level == "warning"
    assert finding.advice.startswith("vaelab train neighbours DATA --latent-dim 2 --separation 0.")
    few = far._replace(mutual_information=far.ceiling)
    finding = _model.separation(replace(patient, information=few))
    assert finding.level == "ok"
    assert "too few to tell" in finding.evidence
    conditional = VAE("conditional", separation=1, epochs=1).fit(train)
    patient = _patient.admitted(conditional, train, test, 4, 0)
    finding = _model.separation(replace(patient, information=far))
    assert finding.advice.startswith("vaelab train conditional DATA"), "which has no VampPrior"


def test_models_of_bits_and_other_priors_can_be_examined(train: Dataset, test: Dataset) -> None:
    vae = VAE("vamp", epochs=1, options={"components": 20}, training={"binarize": "dynamic"})
    own = replace(vae.fit(train).recipe_, name="mine")
    vae.recipe_ = own
    findings = examine_model(vae, train, test, particles=8)
    assert found(findings, "data").level == "ok"
    assert "vaelab train RECIPE DATA" in found(findings, "under-fitting").advice


def test_recipes_that_are_advised_exist() -> None:
    assert {"vamp", "vae", "neighbours", "conv-neighbours"} <= set(RECIPES)


def test_the_report_tells_the_worst_first(healthy: VAE, train: Dataset, test: Dataset) -> None:
    findings = [
        Finding("a", "ok", "Fine."),
        Finding("b", "note", "So.", "do"),
        Finding("c", "problem", "Bad.", "do"),
        Finding("d", "warning", "Poor.", "do"),
        Finding("e", "problem", "Worse.", "do"),
    ]
    lines = report(findings).splitlines()
    assert [line.split()[1] for line in lines if "->" not in line][:-1] == [
        "c:", "e:", "d:", "b:", "a:"
    ]  # fmt: skip
    assert lines[-1] == "2 problems, 1 warning, 1 note, 1 ok"
    for count, level in ((1, "ok"), (2, "note"), (4, "problem")):
        assert worst(findings[:count]) == level
    assert worst([]) == "ok"
    assert LEVELS[0] == "ok"
    with pytest.raises(checks.ArgumentError, match="level = 'bad'"):
        Finding("a", "bad", "x")
    with pytest.raises(checks.ArgumentError, match="give advice"):
        Finding("a", "note", "x")
