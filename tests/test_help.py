"""What the command line tells of itself: help that fits a screen, completion, the cache."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pytest
from click.shell_completion import CompletionItem, ShellComplete, get_completion_class
from click.testing import CliRunner
from PIL import Image

import vaelab
from vaelab import shipped
from vaelab.cli import cli, completion

ALL = list(cli.commands.values())


def helped(*args: str) -> list[str]:
    result = CliRunner().invoke(cli, [*args, "--help"], prog_name="vaelab", terminal_width=80)
    assert result.exit_code == 0
    return result.output.splitlines()


def test_help_fits_a_screen() -> None:
    lines = helped()
    assert len(lines) < 24, "one line of 24 is the prompt"
    assert max(map(len, lines)) <= 80
    for name in cli.commands:
        assert any(line.startswith(f"  {name} ") and "..." not in line for line in lines), name
        assert max(map(len, helped(name))) <= 80


@pytest.mark.parametrize("command", ALL, ids=lambda command: command.name)
def test_every_option_is_told_with_its_default(command: click.Command) -> None:
    assert (command.help or "").split("\n")[0].endswith(".")
    for option in command.params:
        if not isinstance(option, click.Option):
            continue
        text = " ".join(option.get_help_record(click.Context(command))[1].split())
        assert re.match(r"[A-Za-z.].*[a-z.\]')]", text), option.name
        repeated, needed = option.multiple, option.required
        if not (option.is_flag and not option.secondary_opts) and not repeated and not needed:
            assert option.name == "config" or "[default: " in text, option.name
        assert text.count("[default") <= 1


UNITS = {
    "--separation": "neighbours",
    "--budget-minutes": "minutes",
    "--checkpoint-seconds": "seconds",
    "--epochs": "passes",
    "--patience": "epochs",
    "--batch-size": "data",
    "--limit": "data",
    "--particles": "draws",
    "--draws": "draws",
    "--steps": "points",
    "--budget-steps": "steps",
    "--on": "data",
    "--annealed": "data",
    "--samples": "samples",
    "--count": "samples",
    "--workers": "shards",
    "--jobs": "recipes",
    "--seeds": "trainings",
    "--latent-dim": "dimensions",
}
"""What each number counts."""


def test_numbers_have_units() -> None:
    seen = set()
    for command in ALL:
        for option in command.params:
            if isinstance(option, click.Option) and isinstance(
                option.type, type(click.INT) | type(click.FLOAT)
            ):
                name = option.opts[-1]
                if name not in ("--seed", "--learning-rate", "--port"):
                    assert UNITS[name] in (option.help or "").lower(), name
                    seen.add(name)
    assert seen == set(UNITS)


# Completion


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("runs/mnist/vae", "runs/mnist/conv", "runs/beta", ".hidden/vae", "a/b/c/deep"):
        Path(name).mkdir(parents=True)
        for file in completion.MODEL:
            (Path(name) / file).touch()
    Path("runs/unfinished").mkdir()
    Path("runs/unfinished/config.json").touch()
    for file in completion.RUN:
        Path("runs/mnist", file).touch()
    Path("mine.npy").touch()


def offered(*args: str) -> list[tuple[str, str]]:
    """What TAB offers at the end of a command line."""
    shell = ShellComplete(cli, {}, "vaelab", "_VAELAB_COMPLETE")
    found: list[CompletionItem] = shell.get_completions(list(args[:-1]), args[-1])
    return [(item.type, item.value) for item in found]


def plain(*args: str) -> list[str]:
    return [value for kind, value in offered(*args) if kind == "plain"]


def test_commands_and_options_are_completed() -> None:
    assert plain("co") == ["compare"]
    assert "--budget-minutes" in plain("train", "--bu")
    assert plain("plot", "re") == ["reconstructions"]
    assert plain("train", "--likelihood", "g") == ["gaussian"]


def test_data_sets_are_completed_and_files_too() -> None:
    everything = vaelab.data.names()
    assert offered("compare", "") == [*(("plain", name) for name in everything), ("file", "")]
    assert plain("compare", "fa") == ["fashion-mnist"]
    assert plain("train", "vae", "mn") == ["mnist"]
    assert offered("encode", "model", "./x") == [("file", "./x")]
    assert plain("plot", "latent", "m", "--data", "sh") == ["shapes"]


def test_recipes_are_completed_alone_and_in_lists() -> None:
    assert plain("train", "") == list(vaelab.recipes.RECIPES)
    assert plain("train", "va") == ["vae", "vamp"]
    assert plain("compare", "--recipes", "vae,va") == ["vae,vamp"], "each can be named once"
    assert plain("compare", "--recipes", "vae,b") == ["vae,beta"]


@pytest.mark.usefixtures("models")
def test_model_folders_are_completed() -> None:
    everything = ["runs/beta", "runs/mnist/conv", "runs/mnist/vae"]
    assert plain("evaluate", "") == [*shipped.names(), *everything]
    assert plain("decode", "runs/beta", "runs/m") == everything[1:]
    assert plain("decode", "runs/mnist/v") == ["runs/mnist/vae"]
    assert offered("export", "runs/x") == [("dir", "runs/x")]
    assert plain("doctor", "runs/") == everything
    assert "mnist" in plain("doctor", "")
    assert plain("evaluate", "nowhere/at/all") == []
    assert plain("report", "") == ["runs/mnist"]
    assert plain("evaluate", "a/b/") == ["a/b/c/deep"]


def test_whole_answers_are_those_of_the_shells(monkeypatch: pytest.MonkeyPatch) -> None:
    for shell in ("bash", "zsh", "fish"):
        kind = get_completion_class(shell)
        assert kind is not None
        assert "_VAELAB_COMPLETE" in kind(cli, {}, "vaelab", "_VAELAB_COMPLETE").source()
    monkeypatch.setenv("COMP_WORDS", "vaelab compare fa")
    monkeypatch.setenv("COMP_CWORD", "2")
    bash = get_completion_class("bash")
    assert bash is not None
    answer = bash(cli, {}, "vaelab", "_VAELAB_COMPLETE").complete()
    assert answer.splitlines() == ["plain,fashion-mnist", "file,fa"]


def test_completion_is_light() -> None:
    code = (
        "import sys\nfrom vaelab.cli import completion as c\n"
        "assert c.data(None, None, '') and c.recipes(None, None, '') and c.models(None, None, '')\n"
        "print([m for m in ('torch', 'numpy', 'pandas', 'datasets') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


# The cache


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VAELAB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "faces").mkdir()
    for k in range(4):
        Image.fromarray(np.full((20, 20), k, np.uint8)).save(tmp_path / "faces" / f"{k}.png")
    return tmp_path / "faces"


def listed(*args: str) -> list[str]:
    result = CliRunner().invoke(cli, ["datasets", *args])
    assert result.exit_code == 0, result.output
    return result.output.splitlines()


def test_what_was_converted_is_listed_and_removed(folder: Path) -> None:
    alone = listed()
    vaelab.data.load(folder)
    (one,) = vaelab.data.converted()
    assert one.source == str(folder)
    assert one.size == sum(path.stat().st_size for path in one.path.iterdir()) > 4 * 400
    assert listed()[len(alone) :] == [
        f"{one.size / 1000:.1f} kB          converted from {folder}",
        "'vaelab datasets --clean' removes what was converted; your own files stay.",
    ]
    killed = one.path.with_name(f".{one.path.name}.0a.part")
    killed.mkdir()
    before = sorted(folder.iterdir())
    size = f"{one.size / 1000:.1f} kB"
    assert listed("--clean") == [
        f"removed {size} converted from {folder}",
        f"{size} are free again.",
    ]
    assert sorted(folder.iterdir()) == before
    assert not one.path.exists()
    assert not killed.exists()
    assert listed() == alone
    assert listed("--clean") == ["0 bytes are free again."]
    assert len(vaelab.data.load(folder)[0]) == 3, "it is converted again"


def test_what_is_being_converted_stays(folder: Path) -> None:
    from filelock import FileLock

    vaelab.data.load(folder)
    (one,) = vaelab.data.converted()
    with FileLock(one.path.with_name(f".{one.path.name}.lock")):
        assert vaelab.data.clean() == []
    assert vaelab.data.converted() == [one]


def test_data_that_are_open_can_be_read_after_cleaning(folder: Path) -> None:
    train, _ = vaelab.data.load(folder)
    before = train.fingerprint
    assert len(vaelab.data.clean()) == 1
    assert vaelab.Dataset(train.x, train.y, "again").fingerprint == before


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (3 * 10**9, "3.0 GB")],
)
def test_sizes_in_words(count: int, words: str) -> None:
    from vaelab.cli import facts

    told: Callable[[int], str] = facts._bytes
    assert told(count) == words
