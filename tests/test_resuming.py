"""Nothing is lost: runs that are interrupted, or fail, go on to the bits of those that are not."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

import vaelab
from vaelab import checkpoints, checks, recipes
from vaelab.objectives import ELBO
from vaelab.records import Checkpoints, Dataset, Training
from vaelab.tensors import as_tensor
from vaelab.training import Trained, train

QUICK = Training(epochs=3, batch_size=64, window=10_000)
STEPS = 27


@pytest.fixture(scope="module")
def x(train: Dataset) -> torch.Tensor:
    return as_tensor(train.x)


class StoppedError(Exception):
    """Raised by the tests in the middle of a run."""


def no_step(event: str, values: Mapping[str, float]) -> None:
    assert event == "end", "it must not be trained again"


def stop_at(step: int) -> Callable[[str, Mapping[str, float]], None]:
    def callback(event: str, values: Mapping[str, float]) -> None:
        if event == "step" and values["step"] == step:
            raise StoppedError

    return callback


def run(
    x: torch.Tensor,
    settings: Training = QUICK,
    name: str = "vae",
    objective: ELBO | None = None,
    **given: object,
) -> Trained:
    recipe = recipes.build(name, tuple(x.shape[1:]))
    return train(recipe.model(), objective or recipe.objective, x, settings=settings, **given)  # type: ignore[arg-type]


def assert_same(first: Trained, second: Trained) -> None:
    """Bit-equal weights, and histories equal in all but the time."""
    for key, tensor in first.model.state_dict().items():
        assert torch.equal(tensor, second.model.state_dict()[key]), key
    histories = [without_seconds(trained.history) for trained in (first, second)]
    assert histories[0] == histories[1]


def without_seconds(history: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{k: v for k, v in record.items() if k != "seconds"} for record in history]


@pytest.mark.parametrize("window", [10_000, 100])
@pytest.mark.parametrize("step", [1, 2, 8, 9, 10, 18, 26, 27])
def test_a_run_goes_on_from_any_step_to_the_same_bits(
    step: int, window: int, x: torch.Tensor, tmp_path: Path
) -> None:
    settings = replace(QUICK, window=window)
    whole = run(x, settings)
    with pytest.raises(StoppedError):
        run(x, settings, checkpoints=Checkpoints(tmp_path), callback=stop_at(step))
    resumed = run(x, settings, checkpoints=Checkpoints(tmp_path, resume=True))
    assert_same(whole, resumed)
    assert resumed.history[-1]["steps"] == STEPS


@pytest.mark.parametrize("name", ["conv", "vamp", "iwae", "fixed-variance"])
def test_every_kind_of_model_goes_on_exactly(name: str, x: torch.Tensor, tmp_path: Path) -> None:
    whole = run(x, name=name)
    for step in (5, 14):
        state = Checkpoints(tmp_path, resume=True)
        with pytest.raises(StoppedError):
            run(x, name=name, checkpoints=state, callback=stop_at(step))
    assert_same(whole, run(x, name=name, checkpoints=Checkpoints(tmp_path, resume=True)))


def test_resuming_reads_only_what_is_left(x: torch.Tensor, tmp_path: Path) -> None:
    steps: list[float] = []
    with pytest.raises(StoppedError):
        run(x, checkpoints=Checkpoints(tmp_path), callback=stop_at(14))
    run(
        x,
        checkpoints=Checkpoints(tmp_path, resume=True),
        callback=lambda event, values: steps.append(values["step"]) if event == "step" else None,
    )
    assert steps == list(range(15, STEPS + 1))


def test_a_finished_run_is_not_trained_again(x: torch.Tensor, tmp_path: Path) -> None:
    first = run(x, checkpoints=Checkpoints(tmp_path))
    again = run(
        x,
        checkpoints=Checkpoints(tmp_path, resume=True),
        callback=no_step,
    )
    assert_same(first, again)
    assert first.history == again.history


def test_a_finished_run_can_be_extended_and_that_can_be_interrupted(
    x: torch.Tensor, tmp_path: Path
) -> None:
    more = replace(QUICK, epochs=5)
    run(x, checkpoints=Checkpoints(tmp_path / "a"))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    whole = run(x, more, checkpoints=Checkpoints(tmp_path / "a", resume=True))
    assert [record["epoch"] for record in whole.history] == [1, 2, 3, 4, 5]
    assert whole.history[3]["learning_rate"] > whole.history[4]["learning_rate"] > 0
    with pytest.raises(StoppedError):
        run(
            x,
            more,
            checkpoints=Checkpoints(tmp_path / "b", resume=True),
            callback=stop_at(STEPS + 4),
        )
    assert_same(whole, run(x, more, checkpoints=Checkpoints(tmp_path / "b", resume=True)))


def test_a_finished_run_is_not_shortened(x: torch.Tensor, tmp_path: Path) -> None:
    run(x, checkpoints=Checkpoints(tmp_path))
    message = (
        r"a finished run of 3 epochs, which can be extended to more epochs but not to fewer; give "
        r"at least 3, or choose another folder\.$"
    )
    with pytest.raises(checks.StorageError, match=message):
        run(x, replace(QUICK, epochs=2), checkpoints=Checkpoints(tmp_path, resume=True))


def test_an_empty_folder_begins_anew(x: torch.Tensor, tmp_path: Path) -> None:
    assert_same(run(x), run(x, checkpoints=Checkpoints(tmp_path / "new", resume=True)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": replace(QUICK, batch_size=32)}, "training.batch_size was 64 and is now 32"),
        ({"settings": replace(QUICK, epochs=2)}, "training.epochs was 3 and is now 2"),
        ({"settings": replace(QUICK, epochs=4)}, "training.epochs was 3 and is now 4"),
        ({"seed": 1}, "seed was 0 and is now 1"),
        ({"objective": ELBO(beta=2)}, "objective.objective was elbo and is now elbo_beta2"),
        ({"name": "fixed-variance"}, "model.posterior.part was DiagonalGaussian and is now Fixed"),
        ({"fingerprint": "other"}, "data was .* and is now other"),
    ],
)
def test_another_run_is_not_resumed(
    change: dict[str, object], message: str, x: torch.Tensor, tmp_path: Path
) -> None:
    with pytest.raises(StoppedError):
        run(x, checkpoints=Checkpoints(tmp_path), callback=stop_at(4))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(checks.StorageError, match=message):
        run(x, **{"checkpoints": Checkpoints(tmp_path, resume=True), **change})  # type: ignore[arg-type]
    assert sorted(tmp_path.iterdir()) == before


def test_other_data_are_not_resumed_with(x: torch.Tensor, tmp_path: Path) -> None:
    run(x, checkpoints=Checkpoints(tmp_path))
    other = x.clone()
    other[5, 0, 3, 3] += 1
    with pytest.raises(checks.StorageError, match="data was"):
        run(other, checkpoints=Checkpoints(tmp_path, resume=True))


def test_checkpoints_of_another_run_are_not_written_over(x: torch.Tensor, tmp_path: Path) -> None:
    run(x, checkpoints=Checkpoints(tmp_path))
    with pytest.raises(checks.StorageError, match="holds the checkpoints of another run"):
        run(x, checkpoints=Checkpoints(tmp_path))


def test_another_number_of_threads_is_told(x: torch.Tensor, tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        run(x, checkpoints=Checkpoints(tmp_path), callback=stop_at(4))
    torch.set_num_threads(2)  # put back by conftest
    with pytest.warns(checks.VaelabWarning, match="threads was 1 and is now 2; training continues"):
        run(x, checkpoints=Checkpoints(tmp_path, resume=True))


# ---------------------------------------------------------------- files


def snapshots(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.safetensors"))


def test_the_last_two_are_kept(x: torch.Tensor, tmp_path: Path) -> None:
    for step in (3, 5, 9, 12):
        with pytest.raises(StoppedError):
            run(x, checkpoints=Checkpoints(tmp_path, resume=True), callback=stop_at(step))
    assert [path.name[:14] for path in snapshots(tmp_path)] == ["step-000000009", "step-000000012"]


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty"])
def test_a_damaged_newest_is_told_and_the_one_before_is_used(
    damage: str, x: torch.Tensor, tmp_path: Path
) -> None:
    for step in (5, 12):
        with pytest.raises(StoppedError):
            run(x, checkpoints=Checkpoints(tmp_path, resume=True), callback=stop_at(step))
    newest = snapshots(tmp_path)[-1]
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes({"flip": content, "truncate": content[:-100], "empty": b""}[damage])
    with pytest.warns(checks.VaelabWarning, match="is damaged.*of step 5, is used") as told:
        resumed = run(x, checkpoints=Checkpoints(tmp_path, resume=True))
    assert len(told) == 1
    assert_same(run(x), resumed)
    assert newest not in snapshots(tmp_path), "what is damaged is not kept"


def test_when_all_are_damaged_nothing_is_begun(x: torch.Tensor, tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        run(x, checkpoints=Checkpoints(tmp_path), callback=stop_at(5))
    snapshots(tmp_path)[0].write_bytes(b"damaged")
    with pytest.raises(checks.StorageError, match="every checkpoint is damaged; remove the folder"):
        run(x, checkpoints=Checkpoints(tmp_path, resume=True))


def test_snapshots_are_bit_equal_when_read_again(tmp_path: Path) -> None:
    tensors = {
        "weights": torch.randn(7, 3),
        "step": torch.tensor(12.0),
        "state": torch.get_rng_state(),
        "order": torch.randperm(5),
        "nothing": torch.zeros(0, 4),
    }
    values = {"history": [{"elbo": -0.1 + 0.2}], "best": -float("inf"), "name": "ü"}
    checkpoints.write(tmp_path, 3, checkpoints.Snapshot(values, tensors))
    read = checkpoints.latest(tmp_path)
    assert read is not None
    assert read.values == values
    assert set(read.tensors) == set(tensors)
    for name, tensor in tensors.items():
        assert torch.equal(read.tensors[name], tensor)
        assert read.tensors[name].dtype == tensor.dtype


def test_parts_left_by_a_killed_process_are_removed(x: torch.Tensor, tmp_path: Path) -> None:
    (tmp_path / ".step-000000009-0000000000000000.safetensors.1234.part").write_bytes(b"half")
    run(x, checkpoints=Checkpoints(tmp_path, resume=True))
    assert not list(tmp_path.glob(".*.part"))


def test_a_failing_write_is_told_once_and_training_goes_on(
    x: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StoppedError):
        run(x, checkpoints=Checkpoints(tmp_path), callback=stop_at(5))
    before = {path: path.read_bytes() for path in snapshots(tmp_path)}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vaelab.files.write_atomically", full)
    monkeypatch.setattr("vaelab.training._keeper.GUESS", 0.0)  # a checkpoint at every step
    with pytest.warns(
        checks.VaelabWarning, match="No space left.*intact; training goes on"
    ) as told:
        resumed = run(x, checkpoints=Checkpoints(tmp_path, 0, resume=True))
    assert len(told) == 1
    assert_same(run(x), resumed)
    assert {path: path.read_bytes() for path in snapshots(tmp_path)} == before


def test_a_folder_that_is_removed_is_made_again(x: torch.Tensor, tmp_path: Path) -> None:
    def callback(event: str, values: Mapping[str, float]) -> None:
        if event == "step" and values["step"] == 5:
            shutil.rmtree(tmp_path / "run")

    with pytest.warns(checks.VaelabWarning, match="was removed during the run; it is made again"):
        trained = run(x, checkpoints=Checkpoints(tmp_path / "run"), callback=callback)
    assert_same(trained, run(x, checkpoints=Checkpoints(tmp_path / "run", resume=True)))


def test_a_folder_that_cannot_be_made_is_refused_before_training(
    x: torch.Tensor, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        run(x, checkpoints=Checkpoints(tmp_path / "file" / "run"), callback=stop_at(1))


def test_the_second_of_two_in_the_same_folder_is_refused(
    x: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "WAIT", 0.1)

    def second(event: str, values: Mapping[str, float]) -> None:
        if event == "end":
            return
        with pytest.raises(checks.StorageError, match="in use by another process"):
            run(x, checkpoints=Checkpoints(tmp_path, resume=True))
        raise StoppedError

    with pytest.raises(StoppedError):
        run(x, checkpoints=Checkpoints(tmp_path), callback=second)


# ---------------------------------------------------------------- failures


@dataclass(frozen=True)
class Fragile(ELBO):
    """The loss becomes NaN when the first layer's weights have moved too far."""

    reach: float = 0.0

    def __call__(self, model, x, **given):  # type: ignore[no-untyped-def]
        terms = super().__call__(model, x, **given)
        offset = model.parts["likelihood"].network.layers[0].bias
        if torch.is_grad_enabled() and offset.detach().abs().max() > self.reach:
            return replace(terms, loss=terms.loss * torch.nan)
        return terms


FRAGILE = Training(epochs=6, batch_size=8, learning_rate=4e-3, warmup_fraction=0.5)


def test_after_a_loss_that_is_not_finite_training_goes_back_and_on(x: torch.Tensor) -> None:
    with pytest.warns(checks.VaelabWarning) as told:
        trained = run(x, FRAGILE, objective=Fragile(reach=0.12))
    lines = [str(warning.message) for warning in told]
    assert all("not finite at step" in line for line in lines)
    assert "training goes on from step" in lines[0]
    assert "lowered to 0.0012 (1 of 3 times)" in lines[0]
    assert trained.history[-1]["recoveries"] == len(lines)
    assert trained.history[-1]["epoch"] == 6
    assert trained.history[-1]["learning_rate"] < 4e-3 * 0.3
    assert all(torch.isfinite(t).all() for t in trained.model.state_dict().values())


def test_a_run_that_fails_again_ends_with_the_model_that_was_best(x: torch.Tensor) -> None:
    with pytest.warns(checks.VaelabWarning) as told:
        trained = run(x, FRAGILE, objective=Fragile(reach=0.05))
    last = str(told[-1].message)
    assert "3 lower learning rates did not help; training ends with the model of epoch" in last
    assert "lower the learning rate (it is 0.004) or check the data's range" in last
    values = [record["valid_elbo"] for record in trained.history]
    assert len(values) < 6
    assert f"epoch {int(np.argmax(values)) + 1};" in last


@pytest.mark.parametrize("reach", [0.12, 0.05])
def test_a_failing_run_goes_on_exactly_too(reach: float, x: torch.Tensor, tmp_path: Path) -> None:
    objective = Fragile(reach=reach)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", checks.VaelabWarning)
        told = [0.0]
        whole = run(
            x, FRAGILE, objective=objective, callback=lambda _, v: told.append(v.get("step", 0.0))
        )
        steps = [step for step in (90, 100, 101, 120, 144, 145, 160, 200) if step <= max(told)]
        assert len(steps) >= 5, "the run must live long enough to be stopped"
        for step in steps:
            folder = tmp_path / str(step)
            state = Checkpoints(folder, resume=True)
            with pytest.raises(StoppedError):
                run(x, FRAGILE, objective=objective, checkpoints=state, callback=stop_at(step))
            assert_same(whole, run(x, FRAGILE, objective=objective, checkpoints=state))


@pytest.mark.parametrize(
    ("data", "settings", "cause"),
    [
        (np.full((64, 4), 1e30), {}, "the data reach 1e\\+30: standardise them"),
        (np.eye(64, 4), {"learning_rate": 1.0}, r"the learning rate is high \(1\): lower it"),
        (np.eye(64, 4) * [1, 1, 1, 0], {}, "feature 3 is constant: remove it"),
        (np.eye(64, 4), {}, r"lower the learning rate \(it is 0.004\) or check the data's range"),
    ],
)
def test_the_likely_cause_is_named(
    data: np.ndarray, settings: dict[str, float], cause: str
) -> None:
    with pytest.raises(checks.TrainingError, match=cause):
        run(as_tensor(data), Training(**settings), "gaussian", Fragile(reach=-1.0))  # type: ignore[arg-type]


# ---------------------------------------------------------------- options


def test_patience_ends_training_and_gives_the_best_model(x: torch.Tensor) -> None:
    settings = Training(epochs=60, batch_size=16, learning_rate=0.02, patience=2)
    trained = run(x[:100], settings)
    values = [record["valid_elbo"] for record in trained.history]
    best = int(np.argmax(values))
    assert len(values) == best + 3 < 60
    from vaelab.metrics import per_datum

    held = np.random.default_rng(0).choice(100, 100, replace=False)[:5]
    again = per_datum(trained.model, ELBO(), x[:100][held]).elbo.mean()
    assert again == pytest.approx(values[best], rel=1e-6)


def test_patience_needs_data_to_validate_on() -> None:
    with pytest.raises(checks.ArgumentError, match="patience = 3, but validation_fraction = 0"):
        Training(patience=3, validation_fraction=0)


def test_warm_up_of_the_kl_in_epochs_is_that_in_steps_and_in_the_history(x: torch.Tensor) -> None:
    in_epochs = run(x, objective=ELBO(beta=2, warmup_epochs=2))
    in_steps = run(x, objective=ELBO(beta=2, warmup=18))
    assert_same(in_epochs, in_steps)
    assert [record["kl_weight"] for record in in_epochs.history] == [1.0, 2.0, 2.0]
    with pytest.raises(checks.ArgumentError, match="give one"):
        ELBO(warmup=3, warmup_epochs=2)


def test_clipping_is_in_the_history(x: torch.Tensor) -> None:
    free = run(x, replace(QUICK, clip_norm=1e9)).history[0]
    tight = run(x, replace(QUICK, clip_norm=1e-3)).history[0]
    assert (free["clipped"], tight["clipped"]) == (0.0, 1.0)
    assert free["gradient_norm"] > 1


def test_bfloat16_is_close_to_float32_and_keeps_the_loss_in_float32(x: torch.Tensor) -> None:
    kinds = set()

    class Spy(ELBO):
        def __call__(self, model, x, **given):  # type: ignore[no-untyped-def]
            terms = super().__call__(model, x, **given)
            q = model.encode(x)
            kinds.update({terms.loss.dtype, terms.rate.dtype, q.scale.dtype})
            return terms

    half = run(x, replace(QUICK, precision="bfloat16"), objective=Spy())
    assert kinds == {torch.float32}
    assert half.settings.precision == "bfloat16"
    whole = run(x)
    assert half.history[-1]["train_elbo"] == pytest.approx(
        whole.history[-1]["train_elbo"], rel=0.02
    )
    assert half.history[-1]["train_elbo"] != whole.history[-1]["train_elbo"]
    assert all(t.dtype == torch.float32 for t in half.model.parameters())


def test_what_was_chosen_is_recorded(x: torch.Tensor) -> None:
    settings = run(x, Training(epochs=1)).settings
    assert settings.device == ("cuda" if torch.cuda.is_available() else "cpu")
    assert (settings.precision, settings.window, settings.compile) == ("float32", 600, False)


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "mps:7"])
def test_a_device_that_is_not_there_is_told(device: str, x: torch.Tensor) -> None:
    with pytest.raises(checks.ArgumentError, match=f"device = '{device}' cannot be used here"):
        run(x, Training(device=device))


# ---------------------------------------------------------------- estimator


def test_the_estimator_keeps_resumes_and_saves_beside_its_checkpoints(
    train: Dataset, tmp_path: Path
) -> None:
    whole = vaelab.VAE("vae", epochs=2, seed=3).fit(train)
    state = tmp_path / "model" / "checkpoints"
    with pytest.raises(StoppedError):
        vaelab.VAE("vae", epochs=2, seed=3, checkpoints=state, callback=stop_at(7)).fit(train)
    vae = vaelab.VAE("vae", epochs=2, seed=3, checkpoints=Checkpoints(state, resume=True)).fit(
        train
    )
    loaded = vaelab.load(vae.save(tmp_path / "model"))
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == [
        "checkpoints", "config.json", "history.jsonl", "model.safetensors",
    ]  # fmt: skip
    for key, tensor in whole.model_.state_dict().items():
        assert torch.equal(tensor, loaded.model_.state_dict()[key])
    longer = vaelab.VAE("vae", epochs=3, seed=3, checkpoints=Checkpoints(state, resume=True))
    longer.fit(train).save(tmp_path / "model")
    assert len(vaelab.load(tmp_path / "model").history_) == 3
    assert len(snapshots(state)) == 2, "checkpoints stay when the model is replaced"


def test_settings_of_training_and_objective_can_be_given_by_name(train: Dataset) -> None:
    vae = vaelab.VAE(
        "beta", epochs=1, training={"clip_norm": 5.0}, objective={"warmup_epochs": 1.0}
    ).fit(train)
    assert (vae.training_.epochs, vae.training_.clip_norm) == (1, 5.0)
    assert vae.recipe_.objective == ELBO(beta=4.0, warmup_epochs=1.0)
    with pytest.raises(checks.ArgumentError, match="setting of training = 'clip' is not known"):
        vaelab.VAE("vae", training={"clip": 5.0}).fit(train)
    with pytest.raises(checks.ArgumentError, match=r"setting of objective = 'wormup' .* 'warmup'"):
        vaelab.VAE("vae", objective={"wormup": 5}).fit(train)


def test_a_model_folder_of_format_1_is_read(train: Dataset, tmp_path: Path) -> None:
    folder = vaelab.VAE("vae", epochs=1).fit(train).save(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["format"] = 1
    for name in ("patience", "window", "device", "precision", "compile"):
        del config["training"][name]
    del config["objective"]["warmup_epochs"]
    (folder / "config.json").write_text(json.dumps(config))
    assert vaelab.load(folder).training_.epochs == 1
