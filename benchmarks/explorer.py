"""How soon the explorer and the report are there, and how soon a moved pointer shows an image."""

from __future__ import annotations

import sys
from tempfile import TemporaryDirectory

import numpy as np

import vaelab
from common import HERE, Goal, Row, Settings
from vaelab import explorer, report
from vaelab.comparison import compare
from vaelab.exhibits import Exhibits

sys.path.append(str(HERE.parent / "tests"))  # the browser is found as the tests find it
from browser import chromium

NAMES = ["vae", "fixed-variance", "conv"]

MOVES = """async (count) => {
  const map = document.querySelector("[role=application]");
  const picture = document.querySelector("canvas[aria-label^=Decoded]");
  map.scrollIntoView();
  const box = map.getBoundingClientRect();
  const taken = [];
  let seed = 1;
  const random = () => (seed = (seed * 16807) % 2147483647) / 2147483647;
  for (let k = 0; k < count; k++) {
    const shown = new Promise((resolve) => {
      const watch = new MutationObserver(() => {
        watch.disconnect();
        resolve(performance.now());
      });
      watch.observe(picture, { attributes: true, attributeFilter: ["aria-label"] });
    });
    const began = performance.now();
    map.dispatchEvent(new PointerEvent("pointermove", { bubbles: true,
      clientX: box.left + random() * box.width, clientY: box.top + random() * box.height }));
    taken.push((await shown) - began);
    await new Promise((resolve) => setTimeout(resolve, 40));
  }
  return taken;
}"""
"""Milliseconds from the event of a moved pointer until the picture's name is that of the new point;
the picture is drawn just before."""


def run(settings: Settings) -> list[Row]:
    """Seconds until pages with all of MNIST and three models are complete, and latencies."""
    limit = 500 if settings.quick else None
    train, test = (part.limited(limit) for part in vaelab.data.load("mnist"))
    rounds, moves = (1, 20) if settings.quick else (7, 300)
    with TemporaryDirectory() as folder:
        comparison = compare(NAMES, train, test, out=folder, epochs=1, particles=2)
        exhibits = Exhibits(comparison.models, train, test, latents=comparison.latents)
        page = report.write(folder, comparison, exhibits)
        with explorer.explore(comparison.models, (train, test), open_browser=False) as live:
            found = {
                "explorer": measure(live.url, rounds, moves),
                "report": measure(page.as_uri(), rounds, moves),
            }
        size = page.stat().st_size / 1e6
    goals = {"explorer": (2.0, 25.0), "report": (3.0, 5.0)}
    rows = []
    for name, (loads, taken) in found.items():
        complete, late = goals[name]
        rows.append(Row(f"{name}: opening until complete", tuple(loads), "s", Goal(complete)))
        rows.append(Row(f"{name}: pointer to image", tuple(taken), "ms"))
        worst = tuple(float(np.quantile(part, 0.95)) for part in np.array_split(taken, rounds))
        rows.append(Row(f"{name}: pointer to image, 95th percentile", worst, "ms", Goal(late)))
    return [*rows, Row("report: size", (size,), "MB", Goal(15))]


def measure(address: str, rounds: int, moves: int) -> tuple[list[float], list[float]]:
    """Seconds of opening, a new browser's first left out; milliseconds from pointer to image."""
    loads, taken = [], []
    with chromium() as browser:
        for number in range(rounds + 1):
            page = browser.new_page(viewport={"width": 1400, "height": 900})
            page.goto(address)
            page.wait_for_selector("[data-ready]", timeout=120_000, state="attached")
            if number:
                loads.append(page.evaluate("performance.now()") / 1000)
            if number == rounds:
                page.wait_for_timeout(1000)
                taken = page.evaluate(MOVES, moves)
            page.close()
    return loads, taken
