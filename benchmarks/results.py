"""Results as a table on the screen, as `results.json` for programs and `RESULTS.md` for people."""

from __future__ import annotations

import json
import statistics
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
    """What one benchmark found, and how.

    `busy` is the machine's load average at its start. A `wide` table has a line for all figures of
    one thing, means and standard deviations, where others have a line a figure.
    """

    title: str
    rows: tuple[Row, ...]
    settings: Settings
    seconds: float
    busy: float
    wide: bool = False

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
            "wide": self.wide,
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


def table(section: Section) -> str:
    """The section's table in Markdown, with its columns aligned."""
    cells = _cells(section.record(""))
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    lines = ["| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in cells]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def _cells(record: dict[str, Any]) -> list[tuple[str, ...]]:
    """The headings and lines of a section's table."""
    if record.get("wide"):
        return _wide(record["rows"])
    return [HEADINGS, *map(_shown, record["rows"])]


def _shown(row: dict[str, Any]) -> tuple[str, ...]:
    values, median = row["values"], row["median"]
    middle = "not reached" if median is None else figure(median)
    spread = f"{figure(min(values))} to {figure(max(values))}" if len(values) > 1 else ""
    reached = {None: "", True: "yes", False: "**no**"}[row["met"]]
    count, goal = str(len(values)), row["goal"] or ""
    return row["name"], middle, spread, count, row["unit"], goal, reached, row["note"]


def _wide(rows: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    """A line for what names have before their colon, a column for what they have after it."""
    columns: dict[str, str] = {}
    lines: dict[str, dict[str, str]] = {}
    for row in rows:
        line, _, column = row["name"].rpartition(": ")
        columns[column] = f"{column} ({row['unit']})" if row["unit"] else column
        lines.setdefault(line, {"n": str(len(row["values"])), "note": row["note"]})
        lines[line][column] = _spread(row["values"])
    columns = {"n": "n", **columns, "note": "note"}
    told = [
        (line, *(cells.get(column, "-") for column in columns)) for line, cells in lines.items()
    ]
    return [("", *columns.values()), *told]


def _spread(values: Sequence[float]) -> str:
    """Mean, and with two values or more their standard deviation in as many digits."""
    mean = figure(statistics.mean(values))
    if len(values) < 2:
        return mean
    return f"{mean} ± {statistics.stdev(values):.{len(mean.partition('.')[2])}f}"


def keep(name: str, section: Section, folder: Path) -> None:
    """Puts a section in place of the one of its name, and leaves the others as they are."""
    path = folder / "results.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    known[name] = section.record(name)
    write_json(path, known)
    write_atomically(folder / "RESULTS.md", HEAD + "".join(map(_told, known, known.values())))


def _told(name: str, record: dict[str, Any]) -> str:
    versions_told = ", ".join(f"{key} {value}" for key, value in record["versions"].items())
    headings, *rows = _cells(record)
    rules = ("---",) * len(headings)
    lines = ["| " + " | ".join(cells) + " |" for cells in (headings, rules, *rows)]
    return (
        f"\n## {name}\n\n{record['title']}\n\n" + "\n".join(lines) + "\n\n"
        f"`{record['command']}`, {record['date']}, {record['machine']}, "
        f"{record['threads']} thread(s), {versions_told}; took {record['seconds']:.0f} s; "
        f"load average before: {record['load_before']:g}.\n"
    )
