"""Pythae and Keras with the same network, batches and epochs, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import vaelab
from common import BATCH, HERE, Digits, Row, Settings, child, digits, elbo_of_each, ratios

ENVIRONMENTS = HERE / ".envs"
CONSTRAINTS = HERE.parent / "constraints.txt"


@dataclass(frozen=True)
class Peer:
    """A library in an environment of its own; vaelab itself needs none."""

    name: str
    packages: tuple[str, ...] = ()

    @property
    def script(self) -> str:
        """What trains with it."""
        return f"train_{self.name}.py"

    def python(self) -> str:
        """The interpreter that has it; the environment is made where it is missing."""
        if not self.packages:
            return sys.executable
        folder = ENVIRONMENTS / self.name
        python, ready = folder / "bin" / "python", folder / "ready"
        wanted = "\n".join((*self.packages, _torch()))
        if not ready.is_file() or ready.read_text() != wanted:
            print(f"installing {', '.join(self.packages)} ...", flush=True)
            pinned = folder / "constraints.txt"
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
            pinned.write_text(_torch())
            install = [str(python), "-m", "pip", "install", "--quiet", "--constraint", str(pinned)]
            subprocess.run([*install, *self.packages], check=True)
            ready.write_text(wanted)
        return str(python)


PEERS = (
    Peer("vaelab"),
    Peer("pythae", ("pythae==0.1.2", "torch")),
    Peer("keras", ("keras==3.15.1", "jax==0.10.2")),
)


def _torch() -> str:
    """The project's pin of torch, and of nothing else."""
    lines = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    return next(line for line in lines if line.startswith("torch=="))


def run(settings: Settings) -> list[Row]:
    """Trains with each in turn, several times, and scores all with the same function."""
    data = digits(6_000 if settings.quick else None)
    pythons = {peer.name: peer.python() for peer in PEERS}
    reports: dict[str, list[dict[str, Any]]] = {peer.name: [] for peer in PEERS}
    with tempfile.TemporaryDirectory() as folder:
        inputs, codes = Path(folder, "data.npz"), Path(folder, "codes.npz")
        _, test = vaelab.data.load("mnist")
        test = test.limited(len(data.test))
        np.savez(inputs, train=data.train.x, test=test.x, noise=data.noise.numpy())
        asked = {"data": str(inputs), "codes": str(codes), "epochs": 3, "batch_size": BATCH}
        for seed in range(1 if settings.quick else 3):
            for peer in PEERS:
                report = child(
                    peer.script,
                    asked | {"seed": seed},
                    threads=settings.threads,
                    python=pythons[peer.name],
                )
                reports[peer.name].append(report | {"elbo": _score(codes, data)})
    return _rows(reports)


def _score(codes: Path, data: Digits) -> float:
    with np.load(codes) as given:
        loc, scale, logits = (torch.from_numpy(given[key]) for key in ("loc", "scale", "logits"))
    return float(elbo_of_each(data.test, loc, scale, logits).mean())


def _rows(reports: dict[str, list[dict[str, Any]]]) -> list[Row]:
    def row(what: str, unit: str, name: str, key: str, note: str = "") -> Row:
        return Row(f"{name}: {what}", tuple(r[key] for r in reports[name]), unit, note=note)

    epochs = {name: [s for r in runs for s in r["epochs"][1:]] for name, runs in reports.items()}
    others = [name for name in reports if name != "vaelab"]
    used = {name: runs[0]["versions"] for name, runs in reports.items()}
    epoch = "an epoch after the first"
    return [
        *(Row(f"{n}: {epoch}", tuple(epochs[n]), "s", note=used[n]) for n in reports),
        *(Row(f"vaelab / {n}: epoch", ratios(epochs["vaelab"], epochs[n]), "×") for n in others),
        *(row("whole training call", "s", n, "whole", "3 epochs") for n in reports),
        *(row("peak of memory", "MB", n, "peak", "at the end of training") for n in reports),
        *(row("test ELBO", "nats", n, "elbo") for n in reports),
    ]
