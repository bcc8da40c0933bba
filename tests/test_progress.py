"""Progress bars: drawn on a terminal, silent elsewhere."""

from __future__ import annotations

import io
import sys

import pytest

from vaelab.progress import Download, TrainingBar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


STEP = {"steps": 3, "images": 64, "elbo": -140.5, "rate": 6.5, "distortion": 134.0}


def feed(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO) -> str:
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr("vaelab.progress.INTERVAL", 0.0)
    bar = TrainingBar("conv")
    for done in (50, 100):
        bar("graph", {"done": done, "total": 100})
    for step in (1, 2, 3):
        bar("step", {"step": step, **STEP})
    bar("epoch", {"epoch": 1})
    download = Download()
    for done in (10, 20):
        download("images.gz", done, 20)
    return stream.getvalue()


def test_a_terminal_sees_speed_and_nats_and_a_clean_line_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn = feed(monkeypatch, Terminal())
    assert "conv: graph   :   0%" in drawn
    assert drawn.index("conv: graph") < drawn.index("images/s")
    assert "images/s, ELBO -140.5, rate 6.5, distortion 134.0 nats" in drawn
    assert "67%" in drawn
    assert "images.gz" in drawn
    assert drawn.endswith("\r")


def test_elsewhere_nothing_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    assert feed(monkeypatch, io.StringIO()) == ""
