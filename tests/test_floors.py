"""The architecture: a file imports only from lower floors, and light imports stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "vaelab"

FLOORS = {
    0: ["checks", "files", "machine", "records"],
    1: [
        "checkpoints",
        "data",
        "divergences",
        "parts",
        "plots",
        "progress",
        "ranks",
        "tensors",
        "trackers",
    ],
    2: ["cluster", "distributions", "graphs", "inputs", "networks", "separation", "shuffling"],
    3: ["conditioning", "likelihoods", "noise", "posteriors", "priors", "streaming"],
    4: ["model"],
    5: ["latent", "objectives"],
    6: [
        "disentanglement",
        "fid",
        "generation",
        "geodesics",
        "importance",
        "information",
        "metrics",
        "preservation",
    ],
    7: ["recipes", "shipped", "training"],
    8: ["storage", "testing"],
    9: ["estimator"],
    10: ["comparison"],
    11: ["doctor", "encoding", "exhibits", "explorer", "export"],
    12: ["report"],
    13: ["cli"],
    14: ["__init__", "__main__"],
}
FLOOR = {name: floor for floor, names in FLOORS.items() for name in names}


def files() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def unit(path: Path) -> str:
    """The module or package of vaelab that a file belongs to."""
    first = path.relative_to(SOURCE).parts[0]
    return first.removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Modules of vaelab that a file imports, at any depth, but not for type checking only."""
    names = set()
    for node in ast.walk(runtime(ast.parse(path.read_text()))):
        if isinstance(node, ast.ImportFrom) and node.module == "vaelab":
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vaelab."):
            names.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            names |= {a.name.split(".")[1] for a in node.names if a.name.startswith("vaelab.")}
    return names & set(FLOOR)


def runtime(tree: ast.AST) -> ast.AST:
    """The tree without the blocks under `if TYPE_CHECKING`."""

    class Pruner(ast.NodeTransformer):
        def visit_If(self, node: ast.If) -> ast.AST | None:
            checking = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
            return None if checking else self.generic_visit(node)

    return Pruner().visit(tree)


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_no_file_climbs(path: Path) -> None:
    own = unit(path)
    climbs = {name for name in imported(path) if name != own and FLOOR[name] >= FLOOR[own] > 0}
    assert not climbs, f"{own} (floor {FLOOR[own]}) imports {climbs}"


def test_every_file_has_a_floor() -> None:
    assert {unit(path) for path in files()} == set(FLOOR)


def test_the_ground_floor_imports_no_other() -> None:
    for name in FLOORS[0]:
        assert imported(SOURCE / f"{name}.py") <= set(FLOORS[0])
    assert imported(SOURCE / "checks.py") == set()


@pytest.mark.parametrize("name", sorted(set(FLOOR) - {"__init__"}))
def test_the_floor_is_told_at_the_top(name: str) -> None:
    package, module = SOURCE / name / "__init__.py", SOURCE / f"{name}.py"
    path = package if package.exists() else module
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    assert text.startswith(f"Floor {FLOOR[name]}:"), f"{path} tells another floor"


def test_only_plots_imports_matplotlib() -> None:
    for path in files():
        for node in ast.walk(runtime(ast.parse(path.read_text()))):
            modules = []
            if isinstance(node, ast.ImportFrom):
                modules = [node.module or ""]
            elif isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            if any(module.split(".")[0] == "matplotlib" for module in modules):
                assert unit(path) == "plots", f"{path} imports matplotlib"


def test_files_stay_short() -> None:
    long = {p.name: n for p in files() if (n := len(p.read_text().splitlines())) > 400}
    assert not long


HEAVY = (
    "PIL",
    "pandas",
    "pyarrow",
    "ray",
    "datasets",
    "starlette",
    "uvicorn",
    "websockets",
    "torch",
    "numpy",
    "matplotlib",
    "sklearn",
    "scipy",
    "pooch",
    "joblib",
    "mlflow",
    "tensorboard",
)


@pytest.mark.parametrize(
    "code",
    [
        "import vaelab",
        "import vaelab.data, vaelab.divergences, vaelab.checks",
        "from vaelab.cli import cli; cli.main(['--help'], standalone_mode=False)",
        "import vaelab; vaelab.kl_normal; dir(vaelab)",
    ],
)
def test_light_imports_load_nothing_heavy(code: str) -> None:
    check = f"{code}\nimport sys; print([m for m in {HEAVY!r} if m in sys.modules])"
    run = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stdout.splitlines()[-1] == "[]"


def test_public_names_exist() -> None:
    import vaelab

    for name in vaelab.__all__:
        assert getattr(vaelab, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = vaelab.nothing
