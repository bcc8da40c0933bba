"""Budgets: so many steps or minutes, instead of epochs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vaelab import VAE, checks, compare
from vaelab.records import Checkpoints, Dataset, Training
from vaelab.training import _budget, resolve

pytestmark = [
    pytest.mark.filterwarnings("ignore:log p:vaelab.checks.VaelabWarning"),
    pytest.mark.usefixtures("brief_classifier"),
]

SHORT = {"minutes": 0.03, "validation_fraction": 0.1}


class Clock:
    """Tells the time of a run whose steps and validations take as long as is said."""

    def __init__(self, step: float, validation: float, each: int) -> None:
        self.now, self.step, self.validation = 0.0, step, validation
        self.batches = type("Batches", (), {"steps": each})
        self.total, self.steps, self.stopped = 10**9, 0, ""

    def __call__(self) -> float:
        return self.now

    def run(self, after_step) -> None:
        while not self.stopped and self.steps < self.total:
            for _ in range(self.batches.steps):
                self.now += self.step * (20 if self.steps < 5 else 1)  # warming up
                self.steps += 1
                after_step()
                if self.steps == self.total:
                    break
            self.now += self.validation


@pytest.mark.parametrize(("step", "each"), [(0.001, 100), (0.02, 400), (0.02, 7), (3.0, 50)])
def test_the_steps_fill_the_minutes(
    monkeypatch: pytest.MonkeyPatch, step: float, each: int
) -> None:
    clock = Clock(step, validation=5 * step, each=each)
    monkeypatch.setattr(_budget, "time", SimpleNamespace(perf_counter=clock))
    steps = _budget.steps_within(30, lambda: clock)
    look = clock.now
    assert look < 300 * step + 2
    assert look + steps * step + steps / each * 5 * step == pytest.approx(1800, rel=0.01)
    clock.stopped, clock.total = "", 10**9
    assert _budget.steps_within(1e-9, lambda: clock) == 1


def weights(vae: VAE) -> list[torch.Tensor]:
    return list(vae.model_.state_dict().values())


def same(mine: VAE, theirs: VAE) -> bool:
    return all(map(torch.equal, weights(mine), weights(theirs)))


def test_minutes_become_steps_that_repeat_the_run(train: Dataset) -> None:
    state = torch.get_rng_state()
    vae = VAE("vae", training=SHORT).fit(train)
    assert torch.equal(state, torch.get_rng_state())
    settings = vae.training_
    assert settings.steps is not None
    assert settings.minutes == 0.03
    assert vae.history_[-1]["steps"] == settings.steps
    again = VAE("vae", training={**SHORT, "steps": settings.steps}).fit(train)
    assert again.training_ == settings
    assert same(vae, again)
    plain = VAE("vae", training={"steps": settings.steps, "validation_fraction": 0.1}).fit(train)
    assert same(vae, plain), "the look at the speed leaves no trace"


def test_a_run_of_minutes_resumes_with_the_steps_it_began_with(
    train: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(event: str, values: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        VAE("vae", training=SHORT, checkpoints=tmp_path, callback=stop).fit(train)
    monkeypatch.setattr("vaelab.training.steps_within", None)  # it is not measured again
    resumed = Checkpoints(tmp_path, resume=True)
    again = VAE("vae", training=SHORT, checkpoints=resumed).fit(train)
    assert again.history_[-1]["steps"] == again.training_.steps
    whole = VAE("vae", training={**SHORT, "steps": again.training_.steps}).fit(train)
    assert same(whole, again)
    monkeypatch.undo()
    with pytest.raises(checks.StorageError, match=r"a finished run of 0\.03 minutes"):
        VAE("vae", training={**SHORT, "minutes": 0.02}, checkpoints=resumed).fit(train)


def test_a_run_interrupted_after_its_last_step_ends_there(train: Dataset, tmp_path: Path) -> None:
    def stop(event: str, values: object) -> None:
        raise KeyboardInterrupt

    short = {"steps": 1, "validation_fraction": 0.1}
    with pytest.raises(KeyboardInterrupt):
        VAE("vae", training=short, checkpoints=tmp_path, callback=stop).fit(train)
    again = VAE("vae", training=short, checkpoints=Checkpoints(tmp_path, resume=True)).fit(train)
    assert again.history_[-1]["steps"] == 1
    assert same(again, VAE("vae", training=short).fit(train))


def test_a_comparison_of_minutes_leaves_finished_recipes_untouched(
    train: Dataset, test: Dataset, tmp_path: Path
) -> None:
    settings = {"out": tmp_path / "run", "training": SHORT}
    first = compare(["vae"], train, test, **settings)
    written = (tmp_path / "run" / "vae" / "model.safetensors").stat().st_mtime_ns
    again = compare(["vae"], train, test, resume=True, **settings)
    assert (tmp_path / "run" / "vae" / "model.safetensors").stat().st_mtime_ns == written
    assert first.figures["vae"]["elbo"] == again.figures["vae"]["elbo"]


@pytest.mark.parametrize("minutes", [0, -1, float("nan"), "1"])
def test_minutes_must_be_a_number_above_zero(minutes: object) -> None:
    with pytest.raises(checks.ArgumentError, match=r"^minutes = .*a finite number above 0\.$"):
        Training(minutes=minutes)  # type: ignore[arg-type]


def test_a_budget_of_steps_is_kept_to_the_step(train: Dataset) -> None:
    vae = VAE("vae", batch_size=100, training={"steps": 16, "validation_fraction": 0.0}).fit(train)
    assert [record["steps"] for record in vae.history_] == [6, 12, 16]
    assert vae.training_.epochs == 3
    rates = []
    VAE(
        "vae",
        batch_size=100,
        training={"steps": 16, "validation_fraction": 0.0},
        callback=lambda event, values: rates.append(values.get("learning_rate")),
    ).fit(train)
    assert min(rate for rate in rates if rate is not None) < 0.02 * 4e-3, "the schedule ends there"


def test_the_means_of_a_short_last_epoch_are_those_of_its_data(train: Dataset) -> None:
    settings = {"validation_fraction": 0.0, "warmup_fraction": 0.0}
    tiny = {"learning_rate": 1e-12, "batch_size": 100, "seed": 1}
    short = VAE("vae", training={"steps": 8, **settings}, **tiny).fit(train).history_
    assert short[1]["train_elbo"] == pytest.approx(short[0]["train_elbo"], rel=0.05)


def test_steps_stand_above_epochs() -> None:
    settings = resolve(Training(epochs=7, steps=10, batch_size=5), torch.zeros(100, 3))
    assert (settings.epochs, settings.steps) == (1, 10)
    assert np.isclose(settings.learning_rate or 0, 4e-3)
