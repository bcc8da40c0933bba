"""Floor 6: FID, by the package torchmetrics and the Inception network that defines it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vaelab import checks
from vaelab.tensors import as_tensor, batches

__all__ = ["fid"]

BATCH = 64
"""Images that the network sees at once."""


def fid(real: np.ndarray, fake: np.ndarray, *, network: nn.Module | None = None) -> float:
    """Fréchet inception distance of generated images from real ones.

    The squared Fréchet distance of Gaussians fitted to the 2,048 features of an Inception network
    that was trained on photographs; less is better, and 0 means equal means and covariances. It is
    biased upwards on few images: compare only where the numbers of images are the same. Digits and
    the like are far from photographs: `vaelab.generation` has figures that suit them better.

    Needs `pip install 'vaelab[fid]'`, and at the first call the network's weights, about 90 MB,
    which torch-fidelity downloads.
    Reference: M. Heusel et al., GANs Trained by a Two Time-Scale Update Rule (2017),
    https://arxiv.org/abs/1706.08500

    Arguments:
        real: Images at rest, `(N, C, H, W)`: `uint8`, or floats in [0, 1]; C is 1 or 3.
        fake: Generated images, `(M, C, H, W)`, likewise.
        network: Maps images `(B, 3, H, W)` in [0, 1] to features `(B, F)` in the place of the
            Inception network; what comes out is then no FID.

    Raises:
        checks.ArgumentError: A package is missing, or its weights cannot be had.
        checks.DataError: Other shapes or values, or fewer than two images.
    """
    pictures = [_pictures(name, x) for name, x in (("real", real), ("fake", fake))]
    metric = _metric(network, tuple(pictures[0].shape[1:]))
    with torch.no_grad():
        for x, is_real in zip(pictures, (True, False), strict=True):
            for batch in batches(x, BATCH):
                metric.update(batch.clamp(0, 1).expand(-1, 3, -1, -1), real=is_real)
        return float(metric.compute())


def _pictures(name: str, x: np.ndarray) -> Tensor:
    """Images at rest, if an Inception network can see them."""
    if x.ndim != 4 or x.shape[1] not in (1, 3) or len(x) < 2:
        raise checks.DataError(
            f"{name} has shape {x.shape}, but FID needs at least two images, grey (N, 1, H, W) or "
            "in colour (N, 3, H, W)."
        )
    return as_tensor(x)


def _metric(network: nn.Module | None, shape: tuple[int, ...]) -> Any:
    inception = ("torch_fidelity",) if network is None else ()
    checks.needs("FID", "torchmetrics", *inception, extra="fid")
    from torchmetrics.image.fid import FrechetInceptionDistance

    size = (3, shape[1], shape[2])
    feature = 2048 if network is None else network
    try:
        return FrechetInceptionDistance(feature, normalize=True, input_img_size=size)
    except OSError as error:  # URLError is one
        raise checks.ArgumentError(
            f"FID: the weights of the Inception network cannot be downloaded ({error})."
        ) from error
