"""The example of FSDP2: sharded over two processes, a model gets the weights of one process."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import vaelab
from conftest import blobs
from vaelab.model import Model
from vaelab.ranks import Ranks

EXAMPLE = Path(__file__).parents[1] / "examples" / "sharded.py"
TOLERANCE = 5e-5
"""Most by which weights may differ after ten steps for the order of sums; a fifth was seen."""

DATA = blobs(60)


def launched(folder: Path, *, batch_size: int = 12) -> subprocess.CompletedProcess:
    """The example, started with two processes as its text says."""
    np.save(folder / "data.npy", DATA.x)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    options = ["--width", "16", "--steps", "10", "--batch-size", str(batch_size)]
    command = [sys.executable, *launcher, str(EXAMPLE), str(folder / "data.npy"), *options]
    return subprocess.run(
        [*command, "--out", str(folder / "model")],
        env=os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def alone(data: Path) -> Model:
    """The model that the example gives in this process."""
    example = SimpleNamespace(**runpy.run_path(str(EXAMPLE)))
    recipe, x = example.wide(DATA.shape, 16), torch.as_tensor(vaelab.data.load(data)[0].x)
    where = {"ranks": Ranks(), "device": torch.device("cpu")}
    model: Model = example.train(recipe, x, steps=10, batch_size=12, **where)
    return model


@pytest.mark.skipif(torch.__version__ < "2.7", reason="FSDP2 on processors came with PyTorch 2.7")
def test_two_processes_hold_half_each_and_reach_the_weights_of_one(tmp_path: Path) -> None:
    done = launched(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "UserWarning" not in done.stderr
    (told,) = re.findall(r"([\d,]+) of ([\d,]+) parameters", done.stdout)
    own, count = (int(number.replace(",", "")) for number in told)
    shared = load_file(tmp_path / "model" / "model.safetensors")
    model = alone(tmp_path / "data.npy")
    assert count == sum(parameter.numel() for parameter in model.parameters())
    whole = int(np.prod(DATA.shape))  # the likelihood's offset
    assert own - whole <= 0.55 * (count - whole)
    expected = model.state_dict()
    assert shared.keys() == expected.keys()
    for name, weights in expected.items():
        torch.testing.assert_close(shared[name], weights, rtol=0, atol=TOLERANCE, msg=name)
    assert vaelab.load(tmp_path / "model").transform(DATA).shape == (60, 2)


@pytest.mark.slow
def test_a_batch_that_cannot_be_shared_equally_is_refused(tmp_path: Path) -> None:
    done = launched(tmp_path, batch_size=13)
    assert done.returncode
    assert "batch_size = 13, but it must be a multiple of the 2 processes." in done.stderr
    assert not (tmp_path / "model").exists()
