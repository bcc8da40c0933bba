"""Floor 1: data sets by name, verified, and one's own data by a path, as records.

`load` finds a data set in `$VAELAB_DATA`, in the user's cache, on the system, or downloads it;
`describe` tells what there is and where it would come from. What is accepted is decided by the
SHA-256 of each uncompressed file, wherever it lies. Given a path, `load` reads arrays, tables, IDX
files, folders of images and Hugging Face data sets; nothing that a file claims is believed before
it is checked. `shards` opens data that no machine holds. `converted` tells what was converted into
the cache, and `clean` removes it.
"""

from __future__ import annotations

from vaelab.data.cache import Cached, clean, converted
from vaelab.data.loading import Listing, describe, load, names
from vaelab.data.shards import Shards, shards

__all__ = [
    "Cached",
    "Listing",
    "Shards",
    "clean",
    "converted",
    "describe",
    "load",
    "names",
    "shards",
]
