"""The lowest versions that `make lowest` tests with are those that pyproject.toml allows."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TOOLS = ("dev", "docs")
"""Extras of those who change vaelab: their tools need not be old."""


def requirements() -> list[Requirement]:
    extras = PROJECT["optional-dependencies"]
    users = [line for extra, lines in extras.items() if extra not in TOOLS for line in lines]
    return [Requirement(line) for line in [*PROJECT["dependencies"], *users]]


def pins() -> dict[str, Version]:
    lines = (ROOT / "constraints-lowest.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {name: Version(version) for name, version in pairs}


@pytest.mark.parametrize("requirement", requirements(), ids=str)
def test_what_is_tested_is_the_lowest_that_is_allowed(requirement: Requirement) -> None:
    (bound,) = requirement.specifier
    assert bound.operator == ">=", "a dependency has a lowest version, and no highest"
    lowest = pins()[requirement.name]
    assert lowest == Version(bound.version), "constraints-lowest.txt has another version"


@pytest.mark.parametrize("extra", TOOLS)
def test_tools_are_not_allowed_older_than_for_users(extra: str) -> None:
    bounds = {requirement.name: requirement.specifier for requirement in requirements()}
    for tool in map(Requirement, PROJECT["optional-dependencies"][extra]):
        assert bounds.get(tool.name, tool.specifier) == tool.specifier, tool
