"""Floor 11: latent codes of data written to files."""

from __future__ import annotations

from vaelab.encoding._codes import check_out, write_codes
from vaelab.encoding._shards import write_shards

__all__ = ["check_out", "write_codes", "write_shards"]
