"""Files known in advance: their content is accepted by size and SHA-256, or not at all."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vaelab import checks
from vaelab.data import idx

if TYPE_CHECKING:
    import numpy as np

__all__ = ["File"]


@dataclass(frozen=True)
class File:
    """A file whose uncompressed content is known.

    Attributes:
        name: Its name when it is not gzipped.
        size: Bytes of its uncompressed content.
        sha256: SHA-256 of its uncompressed content, in hexadecimal.
    """

    name: str
    size: int
    sha256: str

    def paths(self, folder: Path) -> tuple[Path, Path]:
        """Where it may lie in a folder: plain or gzipped."""
        return folder / self.name, folder / f"{self.name}.gz"

    def content(self, packed: io.BufferedReader, origin: str) -> bytearray:
        """The uncompressed content, verified; never more than `size` + 1 bytes are unpacked.

        Arguments:
            packed: The file, gzipped or plain.
            origin: What errors call it: a path or an address.

        Raises:
            DataError: The content is not the one that is known.
        """
        content = idx.take(idx.unpacked(packed), self.size + 1, origin)
        if len(content) != self.size:
            found = "more" if len(content) > self.size else f"only {len(content):,}"
            raise checks.DataError(
                f"{origin}: holds {found} bytes uncompressed, but {self.name} has {self.size:,}."
            )
        digest = hashlib.sha256(content).hexdigest()
        if digest != self.sha256:
            raise checks.DataError(
                f"{origin}: the SHA-256 of its content begins {digest[:12]}, "
                f"but that of {self.name} begins {self.sha256[:12]}."
            )
        return content

    def read(self, folder: Path) -> np.ndarray:
        """The array in the IDX file of this name in a folder, plain or gzipped.

        Raises:
            DataError: There is no such file, or each one there is damaged.
        """
        problems = []
        for path in self.paths(folder):
            try:
                with path.open("rb") as packed:
                    return idx.decode(io.BytesIO(self.content(packed, str(path))), str(path))
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                problems.append(f"{path}: cannot be read ({error.strerror or error}).")
            except checks.DataError as error:
                problems.append(str(error))
        raise checks.DataError((problems or [f"{folder}: lacks {self.name} (plain or .gz)."])[0])
