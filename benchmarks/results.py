"""Results as a table on the screen, as `results.json` for programs and `RESULTS.md` for people."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from common import Row, Settings, figure
from vaelab import machine
from vaelab.files import write_atomically, write_json
from vaelab.storage import versions

HEADINGS = ("what", "median", "range", "n", "unit", "goal", "met", "note")

HEAD = """\
# Results of the benchmarks

Written by `make bench`; each section by the run named under it. Medians, with the smallest and the
largest of n measurements; a ratio is taken within a round, from what was measured side by side.
[README.md](README.md) says what each benchmark does, and what is fair and unfair about it.
"""


@dataclass(frozen=True)
class Section:
    """What one benchmark found, and how: `busy` is the machine's load average at its start."""

    title: str
    rows: tuple[Row, ...]
    settings: Settings
    seconds: float
    busy: float

    def record(self, name: str) -> dict[str, Any]:
        """The section in plain JSON values."""
        quick = " --quick" * self.settings.quick
        return {
            "title": self.title,
            "command": f"python benchmarks/run.py {name} --threads {self.settings.threads}{quick}",
            "date": datetime.now(UTC).date().isoformat(),
            "machine": machine.name(),
            "threads": self.settings.threads,
            "versions": versions(),
            "seconds": round(self.seconds, 1),
            "load_before": round(self.busy, 2),
            "rows": [
                {
                    "name": row.name,
                    "unit": row.unit,
                    "median": row.median,
                    "values": list(row.values),
                    "goal": str(row.goal) if row.goal else None,
                    "met": row.met,
                    "note": row.note,
                }
                for row in self.rows
            ],
        }


def table(rows: Sequence[Row]) -> str:
    """A table in Markdown, with its columns aligned."""
    cells = [HEADINGS, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEADINGS))]
    lines = ["| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in cells]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def _cells(row: Row) -> tuple[str, ...]:
    return _shown(row.name, row.values, row.unit, row.note, str(row.goal or ""), row.met)


def _shown(
    name: str, values: Sequence[float], unit: str, note: str, goal: str, met: bool | None
) -> tuple[str, ...]:
    median = Row(name, tuple(values), unit).median
    middle = "not reached" if median is None else figure(median)
    spread = f"{figure(min(values))} to {figure(max(values))}" if len(values) > 1 else ""
    reached = {None: "", True: "yes", False: "**no**"}[met]
    return name, middle, spread, str(len(values)), unit, goal, reached, note


def keep(name: str, section: Section, folder: Path) -> None:
    """Puts a section in place of the one of its name, and leaves the others as they are."""
    path = folder / "results.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    known[name] = section.record(name)
    write_json(path, known)
    write_atomically(folder / "RESULTS.md", HEAD + "".join(map(_told, known, known.values())))


def _told(name: str, record: dict[str, Any]) -> str:
    versions_told = ", ".join(f"{key} {value}" for key, value in record["versions"].items())
    rows = [
        _shown(row["name"], row["values"], row["unit"], row["note"], row["goal"] or "", row["met"])
        for row in record["rows"]
    ]
    lines = ["| " + " | ".join(cells) + " |" for cells in (HEADINGS, ("---",) * 8, *rows)]
    return (
        f"\n## {name}\n\n{record['title']}\n\n" + "\n".join(lines) + "\n\n"
        f"`{record['command']}`, {record['date']}, {record['machine']}, "
        f"{record['threads']} thread(s), {versions_told}; took {record['seconds']:.0f} s; "
        f"load average before: {record['load_before']:g}.\n"
    )
