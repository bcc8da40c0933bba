"""Model cards, made of nothing but what is recorded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["card_of", "figure_rows"]

FIGURES = {
    "elbo": "ELBO",
    "rate": "rate",
    "distortion": "distortion",
    "log_likelihood": "log p(x)",
    "knn_accuracy": "kNN accuracy on means",
    "knn_accuracy_sampled": "kNN accuracy on sampled z",
}
"""What a card tells of the test data, by the names of `vaelab.evaluate`."""

LIMITS = """- It shows what a small VAE makes of {data}; it is no classifier and has no other use.
- Figures are of grey levels under a Bernoulli likelihood: they compare with each other, not with
  figures on binarised images.
- With {latent_dim} latent dimensions reconstructions are blurred, and classes overlap on the map.
- Images of another kind, size or polarity than {data} land somewhere on the map all the same; their
  ELBO tells that they are foreign.
- It is of one seed; by how much seeds differ is told in vaelab's README."""


def card_of(config: Mapping[str, Any], origin: Mapping[str, Any]) -> str:
    """The card of a model, in Markdown.

    Arguments:
        config: What `config.json` holds, and `name`.
        origin: What `origin.json` holds.
    """
    data, training, figures = config["data"], config["training"], config["figures"]
    latent_dim, held = (
        len(figures["kl_per_dimension"]),
        f"{origin['valid_elbo']:.2f}".replace("-", "−"),
    )
    rows = "\n".join(f"| {name} | {value} |" for name, value in figure_rows(figures))
    versions = ", ".join(f"{name} {number}" for name, number in config["versions"].items())
    return f"""# {config["name"]}

Recipe `{config["recipe"]}` trained on {data["name"]}, {latent_dim} latent dimensions,
{figures["parameters"]:,} parameters. It ships with vaelab: `vaelab.load("{config["name"]}")`.

| figure of the {figures["count"]:,} test data | mean ± standard error |
|---|---|
{rows}

In nats per datum but for accuracies. log p(x) is the importance-weighted bound with
{figures["particles"]:,} particles on {figures["log_likelihood_count"]:,} test data.
Weights are stored as {origin["weights"]}, and the figures are those of the stored weights; rounding
them changed the test ELBO by {origin["rounding"]:+.4f} ± {origin["rounding_se"]:.4f} nats.

## How it was made

- Command: `{origin["command"]}`
- Seed {config["seed"]}, {training["epochs"]} epochs at most of batches of {training["batch_size"]},
  weight decay {training["weight_decay"]:g}. The state was kept that was best on
  {origin["held_out"]:,} training data held out, with an ELBO of {held} nats. The test data had no
  part in any choice.
- Date: {origin["date"]}. Machine: {origin["machine"]}. Versions: {versions}.

## Data

{data["name"]}, {data["count"]:,} training data; licence: {origin["licence"]}. Fingerprint (SHA-256
of images and labels): `{data["fingerprint"]}`.

## Limits

{LIMITS.format(data=data["name"], latent_dim=latent_dim)}
"""


def figure_rows(figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The figures of a card in words: what each is called, and it with its standard error.

    >>> figure_rows({"elbo": -135.123, "elbo_se": 0.512})
    [('ELBO', '−135.12 ± 0.51')]
    """
    rows = []
    for name, called in FIGURES.items():
        if figures.get(name) is not None:
            digits = 4 if "accuracy" in name else 2
            value, error = figures[name], figures[f"{name}_se"]
            rows.append((called, f"{value:.{digits}f} ± {error:.{digits}f}".replace("-", "−")))
    return rows
