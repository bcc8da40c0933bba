"""The public names: none comes, goes or changes unnoticed."""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest
import yaml

import public_api
import vaelab
from vaelab import likelihoods, networks, objectives, posteriors, priors, recipes, trackers

ROOT = Path(__file__).parents[1]
TABLES = {
    recipes: recipes.RECIPES,
    posteriors: posteriors.POSTERIORS,
    priors: priors.PRIORS,
    likelihoods: likelihoods.LIKELIHOODS,
    networks: networks.NETWORKS,
    objectives: objectives.OBJECTIVES,
    trackers: trackers.TRACKERS,
}


def test_the_listing_is_that_of_the_code() -> None:
    listed = public_api.LISTING.read_text(encoding="utf-8").splitlines()
    changes = [
        line
        for line in difflib.unified_diff(listed, public_api.lines(), lineterm="", n=0)
        if not line.startswith(("---", "+++", "@@"))
    ]
    assert not changes, (
        "the public names changed:\n"
        + "\n".join(changes)
        + "\nif that is meant, see docs/stability.md, tell it in CHANGELOG.md and run: "
        "python tests/public_api.py"
    )


def test_a_change_of_a_signature_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vaelab.divergences, "kl_normal", lambda p, q: 0.0)
    with pytest.raises(AssertionError, match=r"run: python tests/public_api\.py"):
        test_the_listing_is_that_of_the_code()


def test_all_names_of_the_package_are_in_the_reference() -> None:
    names = set(public_api.names())
    for name in vaelab.__all__:
        shown = f"vaelab.{name}"
        assert any(other == shown or other.startswith(f"{shown}.") for other in names), shown


@pytest.mark.parametrize("module", TABLES, ids=lambda module: module.__name__)
def test_members_of_tables_are_public(module: object) -> None:
    assert {member.__name__ for member in TABLES[module].values()} <= set(module.__all__)


def test_the_citation_is_that_of_this_version() -> None:
    """The keys that the format wants (Citation File Format 1.2.0), and the package's facts."""
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(cited)
    assert cited["cff-version"] == "1.2.0"
    assert cited["authors"] == [{"name": "The vaelab authors"}]
    assert cited["version"] == vaelab.__version__
    assert cited["license"] == "Apache-2.0"
