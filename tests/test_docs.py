"""The README and the pages in docs: examples run, commands, links and pictures are right."""

from __future__ import annotations

import importlib
import re
import shlex
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest

import vaelab
from vaelab.cli import cli
from vaelab.records import Dataset

ROOT = Path(__file__).parents[1]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
}
README = PAGES["README.md"]
NAMED = ("mnist", "fashion-mnist")
"""Data sets that examples name; small data take their place."""


def blocks(language: str, page: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.DOTALL | re.MULTILINE)


def examples(page: str) -> list[tuple[str, str | None]]:
    """The Python examples of a page, each with the output that is shown right below it, if any."""
    pattern = r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?"
    return [(match[1], match[2]) for match in re.finditer(pattern, page, re.DOTALL | re.MULTILINE)]


def test_the_first_forty_lines_say_what_it_is() -> None:
    head = "\n".join(README.splitlines()[:40])
    assert "![" in head
    assert "make demo" in head
    assert "make test" in head
    assert "import vaelab" in head


@pytest.mark.parametrize("name", PAGES)
def test_pictures_and_links_exist(name: str) -> None:
    prose = re.sub(r"^```.*?^```", "", PAGES[name], flags=re.DOTALL | re.MULTILINE)
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(#[^)\s]*)?\)", prose):
        if target.startswith(("http:", "https:", "mailto:")):
            continue
        path = (ROOT / name).parent / target if target else ROOT / name
        assert path.is_file(), target
        if anchor and path.suffix == ".md":
            assert anchor[1:] in anchors(path.read_text(encoding="utf-8")), f"{target}{anchor}"


def anchors(page: str) -> set[str]:
    """What the headings of a page are called in links, as GitHub and MyST call them."""
    titles = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", title.lower()) for title in titles)
    return {title.strip().replace(" ", "-") for title in plain}


@pytest.fixture
def small(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, train: Dataset, test: Dataset
) -> Callable[..., Any]:
    """Examples run in an empty folder, on small data; everything else is as it is written."""
    load = vaelab.data.load

    def loaded(name: Any, **options: Any) -> Any:
        return (train, test) if name in NAMED else load(name, **options)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VAELAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("vaelab.data.load", loaded)
    return loaded


EXAMPLES = ["quick-start", "scikit-learn", "onnx", "composition"]


@pytest.mark.parametrize("code", blocks("python"), ids=EXAMPLES)
@pytest.mark.usefixtures("small")
def test_python_examples_of_the_readme_run(code: str, train: Dataset, test: Dataset) -> None:
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)
    if "search" in names:
        assert next(iter(names["codes"].columns)) == "vae0"
    elif "images" in names:
        assert names["images"].shape == (1, *train.shape)
    elif "path" in names:
        assert names["path"].shape == (11, *train.shape)
        assert names["log_p"].shape == (len(test),)
        assert (vaelab.load("digits").transform(test) == names["z"]).all()
    else:
        assert names["estimator"].recipe.objective.name == "elbo_beta2"


@pytest.mark.parametrize(
    "name", [name for name, page in PAGES.items() if name != "README.md" and examples(page)]
)
@pytest.mark.usefixtures("small", "brief_classifier")
def test_python_examples_of_a_page_run(name: str) -> None:
    """One after the other, as a reader would type them; shown output is what is printed."""
    names: dict[str, Any] = {"__name__": "__page__"}
    try:
        for code, output in examples(PAGES[name]):
            printed = StringIO()
            with redirect_stdout(printed):
                exec(compile(code, name, "exec", dont_inherit=True), names)
            if output is not None:
                assert printed.getvalue() == output
    finally:
        plt.close("all")


def test_a_wrong_output_is_seen() -> None:
    page = "```python\nprint(1)\n```\n\n```text\n2\n```\n\n```python\nx = 1\n```\n"
    assert examples(page) == [("print(1)\n", "2\n"), ("x = 1\n", None)]


@pytest.mark.parametrize(
    "line",
    sorted(
        {
            line
            for page in PAGES.values()
            for block in blocks("sh", page)
            for line in block.splitlines()
            if "vaelab " in line
        }
    ),
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


def test_figures_on_paper_follow_from_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    outlook = importlib.import_module("outlook")
    page = PAGES["docs/scaling.md"]
    workers, images = outlook.ceilings()
    assert outlook.table() in page
    assert f"{workers} of them" in page
    assert f"{images:,} images a second" in page
    for what, section, name in (
        (
            "training `conv`, two processes of one thread",
            "scale",
            "conv: two processes of one thread",
        ),
        ("encoding by `vae`, two Ray workers", "encoding", "two Ray workers"),
    ):
        assert f"| {what} | {outlook.measured(section, name):,.0f} |" in page
