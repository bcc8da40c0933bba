"""Floor 3: the noise of a datum, which follows from a seed and the datum's values alone.

Whatever is computed of a datum with it depends neither on its place nor on the data beside it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from vaelab import checks
from vaelab.distributions import DiagonalNormal
from vaelab.tensors import batches

__all__ = ["draws", "keys"]

HASHED = 1024
"""How many data are hashed at once."""


def keys(x: Tensor, seed: int) -> np.ndarray:
    """What the draws of each datum start from, `(N, 2)` in `uint64`, all different.

    It is a hash of the datum's values; and the seed with how many equal data stand before it.

    Arguments:
        x: Data at rest, `(N, *shape)`.
        seed: A whole number from 0 to 2³² − 1.

    Raises:
        checks.ArgumentError: The seed is no such number.

    >>> first, second = keys(torch.tensor([[1.0], [2.0]]), 0), keys(torch.tensor([[2.0]]), 0)
    >>> bool((first[1] == second[0]).all())
    True
    """
    checks.seed(seed)
    hashes = np.empty(len(x), np.uint64)
    done = 0
    for batch in batches(x, HASHED):
        rows = (batch.flatten(1).cpu() + 0.0).numpy()  # for −0 is 0, but in other bytes
        for row in rows:
            digest = hashlib.blake2b(row.tobytes(), digest_size=8).digest()
            hashes[done] = int.from_bytes(digest, "little")
            done += 1
    order = np.argsort(hashes, kind="stable")
    places = np.arange(len(x))
    begins = np.r_[True, np.diff(hashes[order]) != 0]
    before = np.empty(len(x), np.uint64)
    before[order] = places - np.maximum.accumulate(np.where(begins, places, 0))
    return np.stack([hashes, before * np.uint64(2**32) + np.uint64(seed)], 1)


def draws(q: Distribution, keys: np.ndarray) -> Callable[[int], Tensor]:
    """What draws so many particles `(K, B, D)` of a batch, going on where it stopped before.

    Where q is no `DiagonalNormal`, they come from torch's global random state.

    Arguments:
        q: q(z|x) of the batch, with batch `(B,)` and event `(D,)`.
        keys: Those of the batch's data, `(B, 2)`.

    >>> q = DiagonalNormal(torch.zeros(2, 3), torch.ones(2, 3))
    >>> draws(q, keys(torch.tensor([[1.0], [2.0]]), 0))(5).shape
    torch.Size([5, 2, 3])
    """
    if not isinstance(q, DiagonalNormal):
        return lambda count: q.sample((count,))
    streams = [np.random.Generator(np.random.Philox(key=key)) for key in keys]
    size = q.event_shape[0]

    def draw(count: int) -> Tensor:
        noise = [stream.standard_normal((count, size), np.float32) for stream in streams]
        return q.loc + q.scale * torch.from_numpy(np.stack(noise, 1)).to(q.loc.device)

    return draw
