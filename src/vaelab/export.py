"""Floor 11: a model as ONNX, to be run where there is no PyTorch."""

from __future__ import annotations

import copy
import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn
from torch.distributions import Distribution

from vaelab import checks, files
from vaelab.estimator import VAE
from vaelab.model import Model

__all__ = ["TOLERANCE", "export_onnx"]

TOLERANCE = 1e-5
"""How far a result of ONNX may be from PyTorch's, relative where it is larger than 1."""

CHECKED = (1, 5)
"""Numbers of data that each file is checked on."""


class _Encoder(nn.Module):
    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        q: Distribution = self.model.encode(x)
        return q.mean, q.stddev


class _Decoder(nn.Module):
    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, z: Tensor) -> tuple[Tensor]:
        return (self.model.decode(z).mean,)


def export_onnx(vae: VAE, folder: str | os.PathLike[str]) -> list[Path]:
    """Writes `encoder.onnx` and `decoder.onnx`, once they give what PyTorch gives.

    The encoder maps `x` `(N, *shape)`, `float32` (grey levels divided by 255), to `mean` and
    `scale` of q(z|x), `(N, D)` each; the decoder maps `z` `(N, D)` to `mean` of p(x|z),
    `(N, *shape)`. N may be any number. Both are run by onnxruntime on random inputs first, and
    compared with PyTorch to 1e-5.

    Needs `pip install 'vaelab[onnx]'`.

    Arguments:
        vae: A fitted model.
        folder: Where to; files of these names that are there are replaced.

    Returns:
        The paths of the two files.

    Raises:
        checks.ArgumentError: A package is missing, a part cannot be said in ONNX (PyTorch 2.6 and
            2.7 refuse convolutional decoders), or the model is conditional.
        OSError: The folder cannot be written.

    >>> from vaelab import VAE
    >>> vae = VAE("linear", epochs=1).fit(np.random.default_rng(0).normal(size=(64, 3)))
    >>> [path.name for path in export_onnx(vae, "onnx")]  # doctest: +SKIP
    ['encoder.onnx', 'decoder.onnx']
    """
    check_is_fitted(vae)
    if vae.model_.classes:
        raise checks.ArgumentError(
            f"recipe {vae.recipe_.name!r} is conditional, but only models without labels become "
            "ONNX files; use another recipe."
        )
    model = copy.deepcopy(vae.model_).cpu().eval()
    generator = torch.Generator().manual_seed(0)
    low, high = (max(-3.0, bound) if bound < 0 else min(3.0, bound) for bound in model.value_range)
    x = torch.rand(max(CHECKED), *model.shape, generator=generator) * (high - low) + low
    z = torch.randn(max(CHECKED), model.latent_dim, generator=generator)
    wanted = {
        "encoder": (_Encoder(model), x, "x", ["mean", "scale"]),
        "decoder": (_Decoder(model), z, "z", ["mean"]),
    }
    contents = {name: _checked(name, *given) for name, given in wanted.items()}
    return [
        files.write_atomically(Path(folder) / f"{name}.onnx", content)
        for name, content in contents.items()
    ]


def _checked(name: str, network: nn.Module, x: Tensor, given: str, taken: Sequence[str]) -> bytes:
    """A network as ONNX, that gave what it gives."""
    checks.needs("ONNX", "onnx", "onnxscript", "onnxruntime", extra="onnx")
    import onnxruntime

    with _quiet():
        try:
            program = torch.onnx.export(
                network,
                (x,),
                input_names=[given],
                output_names=taken,
                dynamic_shapes=({0: torch.export.Dim("N")},),
                dynamo=True,
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            line = str(error).strip().splitlines()[0]
            raise checks.ArgumentError(f"the {name} cannot be said in ONNX: {line}") from error
    content = cast("Any", program).model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    for count in CHECKED:
        found = session.run(None, {given: x[:count].numpy()})
        with torch.no_grad():
            _compare(name, dict(zip(taken, found, strict=True)), network(x[:count]))
    return bytes(content)


def _compare(name: str, found: Mapping[str, np.ndarray], wanted: Sequence[Tensor]) -> None:
    for (output, value), tensor in zip(found.items(), wanted, strict=True):
        expected = tensor.numpy()
        distance = np.abs(value - expected) / np.maximum(1, np.abs(expected))
        if value.shape != expected.shape or not distance.max() <= TOLERANCE:
            raise checks.ArgumentError(
                f"the {name}'s {output} as ONNX differs from PyTorch's by {distance.max():.1e}, "
                f"but at most {TOLERANCE:g} is allowed; nothing was written."
            )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's remarks on packages that are not there and on what it will change."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logger.setLevel(level)
