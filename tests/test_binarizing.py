"""Bits from grey levels: what is drawn, when, and what it is worth."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.functional import binary_cross_entropy

from vaelab import VAE, checks, load
from vaelab.comparison import evaluate
from vaelab.objectives import ELBO
from vaelab.recipes import build
from vaelab.records import Checkpoints, Dataset, Training
from vaelab.tensors import binarized
from vaelab.training import train

pytestmark = pytest.mark.usefixtures("brief_classifier")


def test_bits_have_the_grey_levels_as_their_means() -> None:
    levels = torch.tensor([0, 51, 128, 204, 255], dtype=torch.uint8)
    bits = binarized(levels.expand(20_000, 5), seed=3)
    assert bits.dtype == torch.uint8
    assert set(bits.unique().tolist()) == {0, 255}
    means, expected = bits.double().mean(0) / 255, levels.double() / 255
    assert torch.allclose(means, expected, atol=5 * 0.5 / 20_000**0.5)
    assert torch.equal(means[[0, 4]], torch.tensor([0.0, 1.0], dtype=torch.float64))


def test_bits_follow_the_seed_and_are_alike_for_both_types_of_data() -> None:
    levels = torch.randint(0, 256, (5000, 3), dtype=torch.uint8)
    state = torch.get_rng_state()
    same = [binarized(x, seed=1) for x in (levels, levels.float().div(255))]
    assert torch.equal(*same)
    assert not torch.equal(same[0], binarized(levels, seed=2))
    assert torch.equal(state, torch.get_rng_state())


def test_values_that_are_no_probabilities_are_refused() -> None:
    with pytest.raises(checks.DataError, match=r"range from 0 to 2"):
        binarized(torch.tensor([[0.0, 2.0]]), seed=0)
    with pytest.raises(checks.DataError, match="Gaussian"):
        VAE("gaussian", epochs=1, training={"binarize": "dynamic"}).fit([[0.0, 2.0], [1.0, 1.0]])
    settings = Training(epochs=1, binarize="dynamic", validation_fraction=0.0)
    model = build("linear", (2,)).model()
    with pytest.raises(checks.DataError, match=r"range from 0 to 2"):
        train(model, ELBO(), torch.tensor([[0.0, 2.0], [1.0, 1.0]]), settings=settings)


@pytest.mark.parametrize(("binarize", "seen"), [("none", 1), ("static", 1), ("dynamic", 3)])
def test_dynamic_bits_are_drawn_anew_and_static_ones_once(
    binarize: str, seen: int, train: Dataset
) -> None:
    """One datum, seen in three epochs: how many different tensors reach the posterior?"""
    one = train.x[:1]
    inputs = []
    vae = VAE("vae", epochs=3, training={"binarize": binarize, "validation_fraction": 0.0})
    recipe = vae.resolved(train.shape)
    recipe.posterior.register_forward_pre_hook(lambda _, given: inputs.append(given[0].clone()))
    vae.set_params(recipe=recipe).fit(one)
    assert len({x.numpy().tobytes() for x in inputs}) == seen
    levels = {float(value) for x in inputs for value in x.unique()}
    assert (levels <= {0.0, 1.0}) == (binarize != "none")
    if binarize == "static":
        assert torch.equal(inputs[0], binarized(torch.from_numpy(one), seed=0).float() / 255)


def test_bits_with_grey_levels_as_means_have_the_grey_cross_entropy() -> None:
    """E[ln p(bits)] is the customary cross-entropy of the grey levels."""
    grey, means = torch.rand(1, 50), torch.rand(50).clamp(0.1, 0.9)
    bits = binarized(grey.expand(20_000, 50), seed=0).float() / 255
    each = -binary_cross_entropy(means.expand_as(bits), bits, reduction="none").sum(1)
    expected = -binary_cross_entropy(means[None], grey, reduction="sum")
    assert float(each.mean()) == pytest.approx(float(expected), abs=5 * float(each.std()) / 141)


@pytest.mark.parametrize("binarize", ["none", "dynamic", "static"])
def test_figures_say_which_bits_they_are_of(
    binarize: str, train: Dataset, test: Dataset, tmp_path: Path
) -> None:
    vae = VAE("vae", epochs=2, training={"binarize": binarize}).fit(train)
    same = load(vae.save(tmp_path / "model"))
    figures = evaluate(same, test, train, particles=2)
    assert figures["binarize"] == binarize
    assert figures == evaluate(same, test, train, particles=2), "the same seed, the same figures"
    bits = binarized(torch.from_numpy(test.x), seed=0)
    shown = torch.from_numpy(test.x) if binarize == "none" else bits
    assert figures["elbo"] == pytest.approx(vae.terms(shown, draws=50).elbo.mean(), abs=1e-6)


def test_dynamic_bits_resume_exactly(train: Dataset, tmp_path: Path) -> None:
    settings = {"binarize": "dynamic"}
    whole = VAE("vae", epochs=3, training=settings).fit(train)

    def stop(event: str, values: object) -> None:
        stop.told += event == "step"  # type: ignore[attr-defined]
        if stop.told == 14:  # type: ignore[attr-defined]
            raise KeyboardInterrupt

    stop.told = 0  # type: ignore[attr-defined]
    with pytest.raises(KeyboardInterrupt):
        VAE("vae", epochs=3, training=settings, checkpoints=tmp_path, callback=stop).fit(train)
    again = VAE("vae", epochs=3, training=settings, checkpoints=Checkpoints(tmp_path, resume=True))
    again.fit(train)
    for mine, theirs in zip(
        whole.model_.state_dict().values(), again.model_.state_dict().values(), strict=True
    ):
        assert torch.equal(mine, theirs)
