"""How soon vaelab passes the test ELBO at which a tutorial's recipe ends.

vaelab is measured before, in the middle of and after the baseline's epochs, with a seed each time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

import vaelab
from baselines import Plain, adam, classic, epoch, tutorial
from common import Digits, Goal, Row, Settings, digits, model_elbo, seconds

SEEDS = (0, 1, 2)
TRIED = 3
"""How many numbers of epochs (1 to this) are tried before the baseline's end is known."""

LONGEST = 12
"""With more epochs than this the search ends."""


@dataclass(frozen=True)
class Contest:
    """A recipe of vaelab against a network trained as tutorials do."""

    recipe: str
    baseline: str
    network: Callable[[], Plain]
    epochs: int
    goal: float


CONTESTS = (
    Contest("vae", "classic", classic, 50, 1 / 20),
    Contest("conv", "tutorial", tutorial, 10, 1 / 25),
)


@dataclass
class Course:
    """A baseline in training: seconds of each epoch, and the test ELBO after it."""

    network: Plain
    data: Digits
    seconds: list[float] = field(default_factory=list)
    elbos: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.optimizer = adam(self.network)

    def advance(self, epochs: int) -> None:
        """Trains on; only training is timed."""
        for _ in range(epochs):
            self.seconds.append(seconds(lambda: epoch(self.network, self.optimizer, self.data.x)))
            self.elbos.append(self.network.test_elbo(self.data))

    @property
    def first(self) -> float:
        """Seconds after which the ELBO of the end was first reached."""
        passed = next(i for i, value in enumerate(self.elbos) if value >= self.elbos[-1])
        return sum(self.seconds[: passed + 1])


@dataclass(frozen=True)
class Trial:
    """A fit of vaelab: its seconds, and the test ELBO it ends at."""

    seconds: float
    elbo: float


def run(settings: Settings) -> list[Row]:
    """Both contests."""
    data = digits(6_000 if settings.quick else None)
    return [row for contest in CONTESTS for row in _contest(contest, data, settings)]


def _contest(contest: Contest, data: Digits, settings: Settings) -> list[Row]:
    total = max(2, contest.epochs // 10) if settings.quick else contest.epochs
    torch.manual_seed(0)
    course = Course(contest.network(), data)
    trials: dict[int, list[Trial]] = {}
    defaults: list[list[Trial]] = []
    for seed, segment in zip(SEEDS, (total // 2, total - total // 2, 0), strict=True):
        for epochs in range(1, TRIED + 1):
            trials.setdefault(epochs, []).append(_trial(contest.recipe, epochs, seed, data))
        defaults.append(default_run(contest.recipe, seed, data))
        course.advance(segment)
    target = course.elbos[-1]
    enough = 1
    while min(trial.elbo for trial in trials[enough]) < target and enough < LONGEST:
        enough += 1
        if enough not in trials:
            trials[enough] = [_trial(contest.recipe, enough, seed, data) for seed in SEEDS]
    return _rows(contest, course, enough, trials[enough], defaults)


def _trial(recipe: str, epochs: int, seed: int, data: Digits) -> Trial:
    vae = vaelab.VAE(recipe, epochs=epochs, seed=seed)
    taken = seconds(lambda: vae.fit(data.train))
    return Trial(taken, model_elbo(vae.model_, data))


def default_run(name: str, seed: int, data: Digits) -> list[Trial]:
    """A run with all defaults: seconds since its start and test ELBO, at each epoch's end.

    A callback is not given the model, so a hook on the recipe's parts, which training copies along
    with them, says which parts are being trained. The evaluation's seconds are subtracted.
    """
    recipe = vaelab.recipes.build(name, data.shape)
    training: dict[str, Any] = {"prior": recipe.prior}

    def watch(part: nn.Module, kind: str) -> None:
        part.register_forward_pre_hook(lambda module, _: training.update({kind: module}))

    watch(recipe.posterior, "posterior")
    watch(recipe.likelihood, "likelihood")
    reached: list[Trial] = []
    evaluation = 0.0

    def callback(event: str, _: Mapping[str, float]) -> None:
        nonlocal evaluation
        if event == "epoch":
            now = time.perf_counter()
            elbo = model_elbo(vaelab.Model(**training), data)
            reached.append(Trial(now - start - evaluation, elbo))
            evaluation += time.perf_counter() - now

    start = time.perf_counter()
    vaelab.VAE(recipe, seed=seed, callback=callback).fit(data.train)
    return reached


def _rows(
    contest: Contest,
    course: Course,
    enough: int,
    trials: Sequence[Trial],
    defaults: Sequence[Sequence[Trial]],
) -> list[Row]:
    target, whole, goal = course.elbos[-1], sum(course.seconds), Goal(contest.goal)
    passed = [t.seconds for t in trials if t.elbo >= target] if _all_pass(trials, target) else []
    firsts = [next((t for t in run if t.elbo >= target), None) for run in defaults]
    ways = [t.seconds for t in firsts if t] if all(firsts) else []
    vae, base = f"vaelab {contest.recipe}", contest.baseline
    epochs = f"{enough} epoch{'s' * (enough > 1)}"
    return [
        Row(f"{base}: an epoch", tuple(course.seconds), "s"),
        Row(f"{base}: {len(course.seconds)} epochs", (whole,), "s", note="training only"),
        Row(f"{base}: test ELBO at the end", (target,), "nats", note=_best(course)),
        Row(f"{vae}: fit of {epochs}", tuple(t.seconds for t in trials), "s"),
        Row(f"{vae}: test ELBO then", tuple(t.elbo for t in trials), "nats"),
        Row(f"{vae} / {base}", tuple(s / whole for s in passed), "×", goal, "seconds"),
        Row(
            f"{vae} / {base} until it first had its last ELBO",
            tuple(s / course.first for s in passed),
            "×",
            note=f"that was after {course.first:.0f} s",
        ),
        Row(f"{vae}: way of the default run", tuple(ways), "s", note="until an epoch's end"),
        Row(f"{vae}, default run / {base}", tuple(s / whole for s in ways), "×"),
        Row(f"{vae}: ELBO of the default run", tuple(run[-1].elbo for run in defaults), "nats"),
    ]


def _all_pass(trials: Sequence[Trial], target: float) -> bool:
    return all(trial.elbo >= target for trial in trials)


def _best(course: Course) -> str:
    best = max(course.elbos)
    return f"its best was {best:.1f}, after epoch {course.elbos.index(best) + 1}"
