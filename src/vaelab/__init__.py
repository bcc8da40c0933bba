"""vaelab: variational autoencoders for data you can look at.

>>> import vaelab
>>> vaelab.kl_normal(0.0, 1.0, 0.0, 1.0)
0.0

Names are loaded on first use, so `import vaelab` is light: it loads neither torch nor NumPy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vaelab import (
        data,
        disentanglement,
        divergences,
        doctor,
        exhibits,
        generation,
        importance,
        information,
        likelihoods,
        metrics,
        networks,
        objectives,
        plots,
        posteriors,
        priors,
        progress,
        recipes,
        testing,
    )
    from vaelab.comparison import Comparison, compare, evaluate
    from vaelab.divergences import kl_normal
    from vaelab.estimator import VAE, load
    from vaelab.explorer import explore
    from vaelab.model import Model
    from vaelab.recipes import Recipe
    from vaelab.records import Checkpoints, Dataset, Terms, Training
    from vaelab.report import write as write_report

__all__ = [
    "VAE",
    "Checkpoints",
    "Comparison",
    "Dataset",
    "Model",
    "Recipe",
    "Terms",
    "Training",
    "compare",
    "data",
    "disentanglement",
    "divergences",
    "doctor",
    "evaluate",
    "exhibits",
    "explore",
    "generation",
    "importance",
    "information",
    "kl_normal",
    "likelihoods",
    "load",
    "metrics",
    "networks",
    "objectives",
    "plots",
    "posteriors",
    "priors",
    "progress",
    "recipes",
    "testing",
    "write_report",
]

__version__ = "0.1.0"

_FROM = {
    "VAE": "estimator",
    "Checkpoints": "records",
    "Comparison": "comparison",
    "Dataset": "records",
    "Model": "model",
    "Recipe": "recipes",
    "Terms": "records",
    "Training": "records",
    "compare": "comparison",
    "evaluate": "comparison",
    "explore": "explorer",
    "kl_normal": "divergences",
    "load": "estimator",
    "write_report": "report",
}


if not TYPE_CHECKING:  # who checks types would believe that every name is there

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module 'vaelab' has no attribute {name!r}")
        if name not in _FROM:
            return import_module(f"vaelab.{name}")
        module = import_module(f"vaelab.{_FROM[name]}")
        return getattr(module, "write" if name == "write_report" else name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
