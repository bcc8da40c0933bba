"""Floor 11: what looks wrong with data or a model, and what to do.

Each check gives one `Finding`: a level, the evidence in numbers, and a change that may help. The
checks stand in two tables, `_data.CHECKS` and `_model.CHECKS`; what they ask for is worked out
once. Thresholds are constants beside the checks, each with where it comes from.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vaelab import checks
from vaelab.records import Dataset

if TYPE_CHECKING:
    from vaelab.estimator import VAE

__all__ = ["LEVELS", "Finding", "examine_data", "examine_model", "report", "worst"]

LEVELS = ("ok", "note", "warning", "problem")
"""From the best to the worst: nothing found; worth knowing; likely to spoil results; will."""


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        check: A short name that stays, such as `"range"` or `"posterior-collapse"`.
        level: One of `LEVELS`.
        evidence: One sentence with numbers.
        advice: A change that may help: a command, a setting, or what to do to the data; empty
            where the level is `"ok"`.

    Raises:
        checks.ArgumentError: Another level, or advice where nothing is wrong, or none where
            something is.
    """

    check: str
    level: str
    evidence: str
    advice: str = ""

    def __post_init__(self) -> None:
        checks.choice("level", self.level, LEVELS)
        if bool(self.advice) == (self.level == "ok"):
            raise checks.ArgumentError(
                f"advice = {self.advice!r} at level {self.level!r}; give advice at each level but "
                "'ok'."
            )


def examine_data(train: Dataset, test: Dataset | None = None) -> list[Finding]:
    """Looks for what may spoil training on data: a finding for each check, in a fixed order.

    The checks are `finite`, `range`, `scales`, `constant`, `blank`, `duplicates`, `balance` and
    `size`, and, of the test data, `leakage` and `splits`. All data are read, in blocks, so a memory
    map stays on disk; 8 bytes a datum are kept. Nothing is random. Where no datum is finite,
    only that is told.

    Arguments:
        train: Data to train on: `x` is `(N, ...)` of real numbers, and may hold NaN.
        test: Data to judge on.

    Raises:
        checks.DataError: No data, or not real numbers.

    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(2000, 4)).astype(np.float32)
    >>> x[:, 2] = 0.5
    >>> found = examine_data(Dataset(x=x, y=None, name="mine"))
    >>> [(finding.check, finding.advice[:20]) for finding in found if finding.level == "warning"]
    [('constant', 'remove these columns')]
    """
    from vaelab.doctor import _data

    return _data.examine(train, test)


def examine_model(
    vae: VAE, train: Dataset, test: Dataset, *, particles: int = 64, seed: int = 0
) -> list[Finding]:
    """Looks for what went wrong in training: a finding for each check, in a fixed order.

    The checks are `posterior-collapse`, `unused-dimensions`, `prior-holes`, `over-fitting`,
    `under-fitting`, `log-likelihood`, `saturated-scales`, `data`, `recoveries` and `separation`. At
    most 10,000 training and 2,000 test data are looked at, always the same; all figures are in nats
    per datum. A model that was trained on bits drawn from grey levels is judged on such bits.

    Arguments:
        vae: A fitted model.
        train: The data it was trained on.
        test: Others of the same kind.
        particles: K, of the importance weights.
        seed: Where every draw starts.

    Raises:
        checks.DataError: Data of another shape, or out of the likelihood's range.
        checks.ArgumentError: A number that is not allowed.

    >>> import numpy as np
    >>> from vaelab.estimator import VAE
    >>> x = np.random.default_rng(0).random((80, 6), dtype=np.float32)
    >>> train, test = (Dataset(x=part, y=None, name="mine") for part in (x[:60], x[60:]))
    >>> vae = VAE("beta", options={"beta": 100.0}, epochs=3).fit(train)
    >>> [f.level for f in examine_model(vae, train, test) if f.check == "posterior-collapse"]
    ['problem']
    """
    from vaelab.doctor import _model

    return _model.examine(vae, train, test, particles=particles, seed=seed)


def report(findings: Iterable[Finding]) -> str:
    """The findings as lines of text, the worst first, and a last line that counts them.

    >>> print(report([Finding("size", "ok", "4,000 data."),
    ...               Finding("finite", "problem", "1 row holds NaN.", "remove it")]))
    problem  finite: 1 row holds NaN.
             -> remove it
    ok       size: 4,000 data.
    1 problem, 1 ok
    """
    ordered = sorted(findings, key=lambda finding: -LEVELS.index(finding.level))
    lines = []
    for finding in ordered:
        lines.append(f"{finding.level:<8} {finding.check}: {finding.evidence}")
        if finding.advice:
            lines.append(f"{'':<8} -> {finding.advice}")
    levels = [finding.level for finding in ordered]
    counts = ((levels.count(level), level) for level in reversed(LEVELS))
    told = [f"{n} {level}{'s' * (n > 1 and level != 'ok')}" for n, level in counts if n]
    return "\n".join([*lines, ", ".join(told) or "nothing was checked"])


def worst(findings: Iterable[Finding]) -> str:
    """The worst level among findings; `"ok"` where there are none.

    >>> worst([Finding("size", "note", "900 data.", "use more"), Finding("range", "ok", "Bits.")])
    'note'
    """
    return max((finding.level for finding in findings), key=LEVELS.index, default="ok")
