"""ONNX: what onnxruntime computes is what PyTorch computes, for any number of data."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from vaelab import VAE, checks, export
from vaelab.export import export_onnx
from vaelab.records import Dataset

OLD = pytest.mark.skipif(
    torch.__version__ < "2.13",
    reason="PyTorch 2.6 and 2.7 refuse it; none from 2.8 to 2.12 was tried",
)


@pytest.mark.parametrize("recipe", [pytest.param("conv", marks=OLD), "fixed-variance"])
def test_onnx_gives_what_pytorch_gives(
    recipe: str, train: Dataset, test: Dataset, tmp_path: Path
) -> None:
    x = test.x[:9].astype(np.float32) / 255
    vae = VAE(recipe, epochs=1, latent_dim=3).fit(train)
    before = [p.clone() for p in vae.model_.parameters()]
    paths = export_onnx(vae, tmp_path / "a")
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["decoder.onnx", "encoder.onnx"]
    encoder, decoder = (onnxruntime.InferenceSession(path) for path in paths)
    for count in (1, 9):
        mean, scale = encoder.run(["mean", "scale"], {"x": x[:count]})
        codes = vae.encode(x[:count])
        np.testing.assert_allclose(mean, codes.loc, atol=1e-5)
        np.testing.assert_allclose(scale, codes.scale, atol=1e-5)
        (image,) = decoder.run(["mean"], {"z": mean})
        np.testing.assert_allclose(image, vae.inverse_transform(mean), atol=1e-5)
    assert all(map(torch.equal, before, vae.model_.parameters()))


def test_vectors_in_large_units_are_compared_by_their_size(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(5e4, 3e3, (200, 4)).astype(np.float32)
    vae = VAE("linear", epochs=2).fit(x)
    encoder, _ = export_onnx(vae, tmp_path)
    (mean,) = onnxruntime.InferenceSession(encoder).run(["mean"], {"x": x})
    np.testing.assert_allclose(mean, vae.transform(x), atol=1e-4)


def test_a_file_that_computes_something_else_is_not_written(
    train: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vae = VAE("vae", epochs=1).fit(train)
    monkeypatch.setattr(export, "TOLERANCE", 1e-30)
    with pytest.raises(checks.ArgumentError, match=r"the encoder's (mean|scale) as ONNX differs"):
        export_onnx(vae, tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_a_missing_package_is_named(
    train: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vae = VAE("linear", epochs=1).fit(train)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(checks.ArgumentError, match=r"onnxruntime.*pip install 'vaelab\[onnx\]'"):
        export_onnx(vae, tmp_path)
