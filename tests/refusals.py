"""What tests of readers share: an error is one line, and exactly the one that is wanted."""

from __future__ import annotations

from pathlib import Path

import pytest

from vaelab import checks, data


def message(error: pytest.ExceptionInfo) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text


def refused(path: Path, wanted: str, **options: object) -> None:
    """The message is `wanted`, after the path."""
    with pytest.raises(checks.DataError) as error:
        data.load(path, **options)
    assert message(error) == f"{path}{wanted}"
