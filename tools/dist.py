"""Builds sdist and wheel, and tries the wheel in a new environment where nothing else of vaelab is.

    python tools/dist.py        # dist/ then holds what has passed

The wheel is built from the sdist. An environment outside the source tree gets it and what it
requires, with the versions of constraints.txt; the main job runs there in an empty folder, then a
program as users write them (consumer.py), and mypy reads that program by the types that the wheel
ships. What is wrong is told in one line.
"""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_string
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PACKAGE = "src/vaelab/"
RECIPES = ("vae", "fixed-variance", "conv")
MODEL_FILES = ("config.json", "model.safetensors", "history.jsonl")
FIGURES = (
    "decode",
    "history",
    "interpolation",
    "kl",
    "latent",
    "manifold",
    "paths",
    "reconstructions",
    "scores",
)
SIGNATURE = b"\x89PNG\r\n\x1a\n"


class DistError(Exception):
    """What is wrong with the packages, in one line."""


def main() -> None:
    """Builds, looks at what was built, and uses it."""
    try:
        with tempfile.TemporaryDirectory(prefix="vaelab-dist-") as name:
            work = Path(name)
            with told("build"):
                sdist, wheel = build(work / "dist")
            with told("contents"):
                check_sdist(sdist)
                check_wheel(wheel)
                run([*tool("twine"), "check", "--strict", str(sdist), str(wheel)], work)
            with told("install"):
                python = install(wheel, work / "clean")
            with told("use"):
                use(python, work / "empty")
            keep(sdist, wheel)
    except DistError as error:
        sys.exit(f"dist: {error}")
    print(f"dist: {sdist.name} and {wheel.name} in dist/ are what was tried")


@contextmanager
def told(step: str) -> Iterator[None]:
    """Says how long a step took."""
    start = time.monotonic()
    yield
    print(f"dist: {step}: {time.monotonic() - start:.0f} s", flush=True)


def require(holds: bool, what: str) -> None:
    """Ends with what is wrong unless it holds."""
    if not holds:
        raise DistError(what)


def tool(name: str) -> list[str]:
    """The start of a command that runs a tool of the environment this runs in."""
    return [sys.executable, "-m", name]


def begun(command: list[str], folder: Path) -> subprocess.Popen[str]:
    """A command that has been started in a folder, without anything that leads to the sources."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=folder, env=clean, stdin=subprocess.DEVNULL, **pipes)


def finished(process: subprocess.Popen[str]) -> str:
    """What a command printed.

    Raises:
        DistError: It did not end with 0.
    """
    printed = process.communicate()[0].strip()
    if process.returncode:
        command = shlex.join(map(str, process.args))  # type: ignore[arg-type]
        last = printed.splitlines()[-1:] or ["it printed nothing"]
        print(printed, file=sys.stderr)
        raise DistError(f"{command} ended with {process.returncode}: {last[0]}")
    return printed


def run(command: list[str], folder: Path) -> str:
    """Runs a command in a folder; see `finished`."""
    return finished(begun(command, folder))


def build(out: Path) -> tuple[Path, Path]:
    """The sdist, and the wheel that is built from it."""
    out.mkdir()
    run([*tool("build"), "--outdir", str(out), str(ROOT)], out)
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return sdist, wheel


def sources() -> set[str]:
    """The files that belong to the project: all that git does not ignore."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = run(command, ROOT).split("\0")
    return {name for name in names if (ROOT / name).is_file()}


def check_sdist(path: Path) -> None:
    """It holds the whole project, so that it can be built, tested and read, and nothing else."""
    with tarfile.open(path) as archive:
        held = {member.name.partition("/")[2] for member in archive if member.isfile()}
    compare("the sdist", held - {"PKG-INFO"}, sources())


def check_wheel(path: Path) -> None:
    """It holds every file of the package and nothing else, and a page for an index."""
    package = {name.removeprefix("src/") for name in sources() if name.startswith(PACKAGE)}
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" not in name]
        (about,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = message_from_string(archive.read(about).decode())
    compare("the wheel", set(names), package)
    text = str(metadata.get_payload())
    broken = re.search(r"\]\((?!https?:|#)([^)\s]*)\)", text)
    require(
        not broken, f"the page for an index links to {broken and broken[1]}, which is not there"
    )
    require("# vaelab" in text, "the page for an index is not the README")


def compare(what: str, held: set[str], wanted: set[str]) -> None:
    """Requires that something holds what is wanted and no more."""
    for files, verb in ((wanted - held, "lacks"), (held - wanted, "should not hold")):
        more = f" and {len(files) - 1} more" if len(files) > 1 else ""
        require(not files, f"{what} {verb} {min(files, default='')}{more}")


def install(wheel: Path, folder: Path) -> Path:
    """The Python of a new environment with the wheel and what it requires."""
    run([*tool("venv"), "--without-pip", str(folder)], folder.parent)
    python = folder / "bin" / "python"
    pip = [*tool("pip"), "--python", str(python)]
    pinned = ["--constraint", str(ROOT / "constraints.txt"), str(wheel)]
    run([*pip, "install", "--quiet", "--no-compile", *pinned], folder)
    run([*pip, "check"], folder)
    return python


def use(python: Path, folder: Path) -> None:
    """Does with the wheel what users do, in an empty folder."""
    folder.mkdir()
    consumer = Path(shutil.copy(ROOT / "tools" / "consumer.py", folder))
    reading = ["--strict", "--config-file=", "--cache-dir=.mypy", f"--python-executable={python}"]
    types = begun([*tool("mypy"), *reading, consumer.name], folder)  # beside what follows
    try:
        vaelab = str(python.parent / "vaelab")
        job = ["compare", "mnist", "--limit", "500", "--epochs", "1", "--out", "run", "--quiet"]
        run([vaelab, *job], folder)
        check_run(folder / "run")
        run([vaelab, "decode", "mnist-vae", "--at", "0.5,0.2"], folder)
        check_picture(folder / "figures" / "decode.png")
        run([vaelab, "explore", "mnist-vae", "--save", "map.html"], folder)
        check_page(folder / "map.html", "mnist-vae")
        run([str(python), "-I", consumer.name, "run"], folder)
        finished(types)
    finally:
        types.kill()


def check_run(folder: Path) -> None:
    """The main job wrote its figures, finite, the report, and a folder for each model."""
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    require(tuple(metrics["models"]) == RECIPES, f"models in metrics.json: {[*metrics['models']]}")
    for name, figures in metrics["models"].items():
        require("elbo" in figures, f"metrics.json has no ELBO of {name}")
    for place, number in numbers(metrics):
        require(math.isfinite(number), f"metrics.json has {number} for {place}")
    check_page(folder / "report.html", *RECIPES)
    for name in FIGURES:
        check_picture(folder / "figures" / f"{name}.png")
    for path in (folder / name / file for name in RECIPES for file in MODEL_FILES):
        require(path.is_file(), f"no {path.relative_to(folder)} beside the report")


def numbers(value: Any, place: str = "") -> Iterator[tuple[str, float]]:
    """All numbers of a document, with their places in it."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from numbers(inner, f"{place}/{key}")
    elif isinstance(value, list):
        for position, inner in enumerate(value):
            yield from numbers(inner, f"{place}/{position}")
    elif isinstance(value, int | float):
        yield place, value


def check_picture(path: Path) -> None:
    """A file is a PNG that is not empty."""
    require(path.is_file(), f"no figure {path.name}")
    data = path.read_bytes()
    require(data.startswith(SIGNATURE) and len(data) > 1000, f"{path.name} is no picture")


def check_page(path: Path, *names: str) -> None:
    """A page is whole and has the models that it is to show."""
    require(path.is_file(), f"no page {path.name}")
    text = path.read_text(encoding="utf-8")
    require(text.rstrip().endswith("</html>"), f"{path.name} is not whole")
    for name in names:
        require(name in text, f"{path.name} does not show {name}")


def keep(*paths: Path) -> None:
    """Puts what has passed into dist/, in place of what was there."""
    shutil.rmtree(ROOT / "dist", ignore_errors=True)
    (ROOT / "dist").mkdir()
    for path in paths:
        shutil.copy(path, ROOT / "dist")


if __name__ == "__main__":
    main()
