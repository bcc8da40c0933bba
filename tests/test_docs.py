"""The README: its first lines say what they should, and every example runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

import vaelab
from vaelab.cli import cli
from vaelab.records import Dataset

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SCALING = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")


def blocks(language: str, page: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def test_the_first_forty_lines_say_what_it_is() -> None:
    head = "\n".join(README.splitlines()[:40])
    assert "![" in head
    assert "make demo" in head
    assert "make test" in head
    assert "import vaelab" in head


def test_pictures_and_links_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target).is_file(), target


EXAMPLES = ["quick-start", "training", "scikit-learn", "onnx", "composition"]


@pytest.mark.parametrize("code", blocks("python"), ids=EXAMPLES)
def test_python_examples_run(
    code: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, train: Dataset, test: Dataset
) -> None:
    """On small data and in one epoch; everything else as it is written."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vaelab.data.load", lambda name: (train, test))
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    if "search" in names:
        assert next(iter(names["codes"].columns)) == "vae0"
    elif "images" in names:
        assert names["images"].shape == (1, *train.shape)
    elif "path" in names:
        assert names["path"].shape == (11, *train.shape)
        assert names["log_p"].shape == (len(test),)
        assert (vaelab.load("digits").transform(test) == names["z"]).all()
    elif "vae" in names:
        assert names["vae"].resolved(train.shape).objective.warmup_epochs == 2
        assert names["vae"].fit(train).training_.patience == 3
    else:
        assert names["estimator"].recipe.objective.name == "elbo_beta2"


@pytest.mark.parametrize(
    "line",
    [
        line
        for block in blocks("sh") + blocks("sh", SCALING)
        for line in block.splitlines()
        if "vaelab " in line
    ],
)
def test_commands_can_be_read(line: str) -> None:
    """Each line is parsed by the command that it names, options and all."""
    words = shlex.split(line, comments=True)
    if "torch" in words[0].lower():
        words = words[words.index("-m") + 1 :]  # what torchrun starts
    program, *args = words
    if program != "vaelab":
        return
    name, command, rest = cli.resolve_command(cli.make_context("vaelab", ["x"]), args)
    assert command is not None
    command.make_context(name, rest)


def test_every_command_has_an_example_that_can_be_read() -> None:
    for name, command in cli.commands.items():
        examples = re.findall(r"Example:\s+(vaelab .*)", command.help or "")
        assert len(examples) == 1, name
        _, first, *rest = shlex.split(examples[0])
        assert first == name
        command.make_context(name, rest)


def test_the_make_goals_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for goal in re.findall(r"^make ([a-z-]+)", README, re.MULTILINE):
        assert re.search(rf"^{goal}:", makefile, re.MULTILINE)


def test_every_public_function_is_documented() -> None:
    for name in vaelab.__all__:
        assert (getattr(vaelab, name).__doc__ or "").strip(), name
