"""Figures as text: one row a model, or all of one model with what they mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

__all__ = ["Row", "details", "rows", "table"]


def table(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """Figures of models as lines of text, a row a model; columns without any figure are left out.

    >>> print(table({"vae": {"elbo": -143.21, "elbo_se": 0.31}, "conv": {"seconds": 30.0}}))
    model  ELBO (nats)     seconds
    vae    -143.21 ± 0.31  -
    conv   -               30.0
    """
    named = [{"model": name, **row} for name, row in figures.items()]
    columns = [[title, *map(cell, named)] for title, cell in COLUMNS]
    columns = [column for column in columns if set(column[1:]) != {"-"}]
    padded = [[text.ljust(max(map(len, column))) for text in column] for column in columns]
    return "\n".join("  ".join(row).rstrip() for row in zip(*padded, strict=True))


def _cell(name: str, form: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda figures: _with_error(name, form, figures) or "-"


COLUMNS: tuple[tuple[str, Callable[[Mapping[str, Any]], str]], ...] = (
    ("model", _cell("model", "s")),
    ("ELBO (nats)", _cell("elbo", ".2f")),
    ("rate", _cell("rate", ".2f")),
    ("distortion", _cell("distortion", ".2f")),
    ("log p(x)", _cell("log_likelihood", ".2f")),
    ("kNN", _cell("knn_accuracy", ".3f")),
    ("kNN sampled", _cell("knn_accuracy_sampled", ".3f")),
    ("parameters", _cell("parameters", ",d")),
    ("seconds", _cell("seconds", ".1f")),
)


def details(figures: Mapping[str, Any]) -> str:
    """All figures of one model as lines of text, each with its error, unit and meaning.

    >>> print(details({"elbo": -143.21, "elbo_se": 0.31, "active_units": 2}))
    elbo          -143.21 ± 0.31  nats  evidence lower bound, −(rate + distortion)
    active_units  2                     latent dimensions whose mean varies over data
    """
    told = [(row.name, row.cells[0], row.unit, row.meaning) for row in rows([figures])]
    widths = [max(len(line[column]) for line in told) for column in range(3)]
    lines = ["  ".join([*map(str.ljust, line[:3], widths), line[3]]) for line in told]
    return "\n".join(line.rstrip() for line in lines)


class Row(NamedTuple):
    """One figure of several models: a text for each, with its error."""

    name: str
    unit: str
    meaning: str
    cells: list[str]


def rows(models: Sequence[Mapping[str, Any]]) -> list[Row]:
    """The figures that at least one model has, in the order of the table."""
    found = []
    for name, (form, unit, meaning) in MEANINGS.items():
        cells = [_with_error(name, form, figures) for figures in models]
        if any(cells):
            found.append(Row(name, unit, meaning, [cell or "-" for cell in cells]))
    return found


def _with_error(name: str, form: str, figures: Mapping[str, Any]) -> str:
    value, spread = figures.get(name), figures.get(f"{name}_se")
    if value is None:
        return ""
    return _shown(value, form) + ("" if spread is None else f" ± {spread:{form}}")


def _shown(value: Any, form: str) -> str:
    if isinstance(value, list):
        return ", ".join(format(each, form) for each in value)
    return format(value, form)


MEANINGS: dict[str, tuple[str, str, str]] = {
    "elbo": (".2f", "nats", "evidence lower bound, −(rate + distortion)"),
    "rate": (".2f", "nats", "KL(q(z|x) ‖ p(z))"),
    "distortion": (".2f", "nats", "−E ln p(x|z)"),
    "log_likelihood": (".2f", "nats", "importance-weighted estimate of ln p(x)"),
    "particles": (",d", "", "drawn for it, for each datum"),
    "log_likelihood_count": (",d", "", "data it was estimated on"),
    "effective_particles": (".1f", "", "median over data of the particles that carry it"),
    "tail_index": (".2f", "", "median of the weights' Pareto k; above 0.7 the tail is too heavy"),
    "unreliable": (".1%", "", "data whose weights have too heavy a tail to trust it"),
    "annealed_log_likelihood": (".2f", "nats", "ln p(x) by annealed importance sampling"),
    "annealed_difference": (".2f", "nats", "by how much that is above log_likelihood"),
    "annealed_count": (",d", "", "data it was checked on"),
    "active_units": ("d", "", "latent dimensions whose mean varies over data"),
    "kl_per_dimension": (".2f", "nats", "the rate of each latent dimension"),
    "mutual_information": (
        ".2f",
        "nats",
        "of test datum and code; at most the logarithm of their number",
    ),
    "marginal_kl": (".2f", "nats", "KL(q(z) ‖ p(z)), q(z) that of test data; too high of few"),
    "total_correlation": (".2f", "nats", "of the latent dimensions"),
    "dimension_kl": (".2f", "nats", "of each dimension's aggregate to the prior, summed"),
    "trustworthiness": (".3f", "", "neighbours on the map are neighbours in the data; random: 0.5"),
    "continuity": (".3f", "", "neighbours in the data are neighbours on the map; random: 0.5"),
    "distance_correlation": (".3f", "", "rank correlation of distances in the data and on the map"),
    "knn_accuracy": (".3f", "", "15 nearest neighbours, on means"),
    "knn_accuracy_sampled": (".3f", "", "the same on one draw of z"),
    "linear_probe_accuracy": (".3f", "", "logistic regression, on means"),
    "linear_probe_accuracy_sampled": (".3f", "", "the same on one draw of z"),
    "silhouette": (".3f", "", "of the classes, from −1 to 1"),
    "precision": (".3f", "", "samples that lie among real data, by features"),
    "recall": (".3f", "", "real data that lie among samples"),
    "density": (".3f", "", "how densely samples lie among real data"),
    "coverage": (".3f", "", "real data with a sample near them"),
    "classifier_frechet": (".2f", "", "Fréchet distance on a classifier's features (not FID)"),
    "frechet": (".2f", "", "Fréchet distance on the features given"),
    "fid": (".2f", "", "Fréchet inception distance"),
    "class_entropy": (".2f", "nats", "of the samples' classes"),
    "classifier_accuracy": (".3f", "", "of that classifier, on real test data"),
    "mig": (".3f", "", "mutual information gap"),
    "sap": (".3f", "", "separated attribute predictability"),
    "dci_disentanglement": (".3f", "", "one factor a dimension"),
    "dci_completeness": (".3f", "", "one dimension a factor"),
    "dci_informativeness": (".3f", "", "accuracy in telling the factors"),
    "factor_vae": (".3f", "", "FactorVAE score"),
    "parameters": (",d", "", ""),
    "binarize": ("s", "", "what became of grey levels"),
    "seconds": (".1f", "s", "of training"),
    "threads": ("d", "", "it was trained with"),
}
"""Form, unit and meaning of each figure, in the order of the table."""
