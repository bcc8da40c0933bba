"""How soon the command line answers, and what `import vaelab` adds to bare Python."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from common import Goal, Row, Settings, seconds


def run(settings: Settings) -> list[Row]:
    """Seconds of whole processes, in turn."""
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "python -c 'import vaelab'": [sys.executable, "-c", "import vaelab"],
        "vaelab --help": [str(Path(sys.executable).with_name("vaelab")), "--help"],
    }
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(1 + (5 if settings.quick else 15)):
        for name, command in commands.items():
            one = seconds(lambda c=command: subprocess.run(c, check=True, capture_output=True))  # type: ignore[misc]
            if number:  # the first round fills the file cache
                taken[name].append(one)
    bare, imported, helped = (tuple(values) for values in taken.values())
    added = tuple(a - b for a, b in zip(imported, bare, strict=True))
    return [
        Row("python -c pass", bare, "s"),
        Row("python -c 'import vaelab'", imported, "s"),
        Row("import vaelab, above bare Python", added, "s", Goal(0.1)),
        Row("vaelab --help", helped, "s", Goal(0.3)),
    ]
