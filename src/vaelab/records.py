"""Floor 0: the frozen records that floors pass to each other."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any

from vaelab import checks

if TYPE_CHECKING:
    import numpy as np
    import torch

__all__ = ["BINARIZE", "Callback", "Checkpoints", "Dataset", "Terms", "Training"]

Callback = Callable[[str, Mapping[str, float]], object]
"""What hears of training: called with `"graph"`, `"step"`, `"epoch"` or `"end"`, and values."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """One split of a data set, as it lies in memory.

    Attributes:
        x: Images `(N, C, H, W)` in `uint8`, or vectors `(N, D)` in `float32`.
        y: Class of each datum, `(N,)` in `int64`; `None` where there are no labels.
        name: Name of the data set, `"mnist"` say.
        split: `"train"` or `"test"`.
        source: Where the bytes came from: a folder, an address, or a package.
        licence: Licence of the data, as its authors state it.
        class_names: What class `k` is called, at position `k`; empty where `y` is `None`.
        factors: Known factors of variation, `(N, F)` in `int64`, each counted from 0; `None` where
            none are known, as is usual.
        factor_names: What factor `k` is called, at position `k`.
        loaded: The keywords with which `vaelab.data.load` gives these data again, plain values;
            empty where they came from memory.
    """

    x: np.ndarray
    y: np.ndarray | None
    name: str
    split: str = "train"
    source: str = ""
    licence: str = ""
    class_names: tuple[str, ...] = ()
    factors: np.ndarray | None = None
    factor_names: tuple[str, ...] = ()
    loaded: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for what, values in (("labels", self.y), ("rows of factors", self.factors)):
            if values is not None and len(values) != len(self.x):
                raise checks.DataError(
                    f"{self.name}: {len(values)} {what} for {len(self.x)} data; "
                    "there must be one for each datum."
                )

    def __repr__(self) -> str:
        """The form of the data, not the data: `Dataset('mnist', train, 4,000 × (1, 28, 28), ...)`.

        >>> import numpy as np
        >>> Dataset(np.zeros((9, 4), np.float32), None, "mine")
        Dataset('mine', train, 9 × (4,), float32)
        """
        form = f"{len(self):,} × {self.shape}, {self.x.dtype}"
        classes = f", {len(self.class_names)} classes" if self.class_names else ""
        return f"Dataset({self.name!r}, {self.split}, {form}{classes})"

    def __len__(self) -> int:
        return len(self.x)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one datum: `(C, H, W)` or `(D,)`."""
        return tuple(self.x.shape[1:])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the types, shapes and bytes of `x` and `y`, in hexadecimal."""
        digest = hashlib.sha256()
        for array in (self.x, self.y):
            if array is None:
                digest.update(b"none")
                continue
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            for start in range(
                0, len(array), 8192
            ):  # by slices: a memory map is never loaded whole
                digest.update(array[start : start + 8192].tobytes())
        return digest.hexdigest()

    def limited(self, most: int | None) -> Dataset:
        """A random subset of at most `most` data, always the same one, in the original order."""
        if most is None or checks.integer("limit", most) >= len(self):
            return self
        import numpy as np

        keep = np.sort(np.random.RandomState(0).permutation(len(self))[:most])
        return replace(
            self,
            x=self.x[keep],
            y=None if self.y is None else self.y[keep],
            factors=None if self.factors is None else self.factors[keep],
        )


@dataclass(frozen=True, eq=False)
class Terms:
    """What an objective returns: values per datum, in nats.

    Attributes:
        loss: What is minimised, `(N,)`; the training loop alone takes its mean.
        rate: KL(q(z|x) ‖ p(z)), `(N,)`: closed form, or a Monte Carlo estimate of it.
        distortion: −E_q[log p(x|z)], `(N,)`, estimated with the objective's particles.
    """

    loss: torch.Tensor
    rate: torch.Tensor
    distortion: torch.Tensor

    @property
    def elbo(self) -> torch.Tensor:
        """The evidence lower bound −(rate + distortion), `(N,)`, free of any weight."""
        return -(self.rate + self.distortion)


BINARIZE = ("none", "dynamic", "static")
"""What `Training.binarize` may be."""


@dataclass(frozen=True)
class Training:
    """How a model is trained; `None` leaves the choice to the size of the data.

    Attributes:
        epochs: Passes over the training data.
        steps: Steps in all, whatever `epochs` says; the last pass may end before the data do.
        minutes: Minutes in all, instead of epochs: what trains in them on this machine is measured
            at the start and becomes `steps`, with which the run is kept, resumed and can be
            repeated; where `steps` are given, minutes mean nothing.
        batch_size: Data a step.
        learning_rate: Adam's largest; it rises over the first `warmup_fraction` of the steps
            and falls to zero along a cosine over the rest. By default 0.004, times √(B / 128) for
            batches of B > 128.
        warmup_fraction: Share of the steps, in [0, 1).
        weight_decay: Of AdamW, decoupled, on the weights of layers but not on biases; 0 is Adam.
        clip_norm: Largest norm of the gradient of the mean loss, in nats; a longer one is scaled
            down to it. By default 0.4 for each element of a datum, and at least 100, times
            1 + 10 w with a separation of weight w: a safeguard that ordinary steps do not reach.
        validation_fraction: Share of the training data that is held out to validate on; at least
            one datum and at most 10,000, unless it is 0.
        patience: Training ends when the objective on the data held out has not improved for this
            many epochs, and gives the best model instead of the last; `None` never ends early.
        window: How many data are shuffled at once, for data larger than memory; see
            `vaelab.shuffling`. By default all, where they take at most 2 GiB. Of data in shards,
            as many shards as hold so many are, at least one.
        device: Where to compute: `"cpu"`, `"cuda"`, `"cuda:1"`, `"mps"`; `"auto"` takes a CUDA
            device if there is one.
        precision: `"float32"`, or `"bfloat16"` for the networks' matrix products; losses, KL
            divergences and log-scales stay in float32. `"auto"` is float32.
        compile: Whether the objective is compiled by `torch.compile`, which takes from seconds to
            minutes at the start.
        binarize: What becomes of grey levels in [0, 1]: `"none"` keeps them; `"dynamic"` draws each
            as a bit with that probability anew whenever a datum is trained on; `"static"` draws
            the bits once, by a fixed seed. Figures of the three do not compare.
    """

    epochs: int | None = None
    steps: int | None = None
    minutes: float | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    warmup_fraction: float = 0.15
    weight_decay: float = 0.1
    clip_norm: float | None = None
    validation_fraction: float = 0.05
    patience: int | None = None
    window: int | None = None
    device: str = "auto"
    precision: str = "auto"
    compile: bool = False
    binarize: str = "none"

    def __post_init__(self) -> None:
        for name in ("epochs", "steps", "batch_size", "patience", "window"):
            if getattr(self, name) is not None:
                checks.integer(name, getattr(self, name))
        checks.number("warmup_fraction", self.warmup_fraction, least=0, most=0.99)
        checks.number("weight_decay", self.weight_decay, least=0)
        for name in ("minutes", "learning_rate", "clip_norm"):
            if getattr(self, name) is not None:
                checks.number(name, getattr(self, name), above=0)
        checks.number("validation_fraction", self.validation_fraction, least=0, most=0.9)
        if self.patience is not None and self.validation_fraction == 0:
            raise checks.ArgumentError(
                f"patience = {self.patience}, but validation_fraction = 0 holds out no data to "
                "validate on; set it above 0."
            )
        checks.choice("precision", self.precision, ("auto", "float32", "bfloat16"))
        checks.choice("binarize", self.binarize, BINARIZE)


@dataclass(frozen=True)
class Checkpoints:
    """Where training keeps its state, so that nothing is lost when it is interrupted or killed.

    Attributes:
        folder: The folder; one process at a time writes to it.
        seconds: A checkpoint is written at least this often, after an epoch too, but never so
            often that writing takes more than about 1.5 % of the time.
        resume: Whether to continue what the folder holds, exactly; an empty one begins anew.
    """

    folder: str | PathLike[str]
    seconds: float = 60.0
    resume: bool = False

    def __post_init__(self) -> None:
        checks.number("seconds", self.seconds, least=0)
