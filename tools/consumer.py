"""What a user of vaelab writes: `tools/dist.py` runs it, and checks its types, on the wheel alone.

mypy is strict here, so that each `type: ignore` below is a call which the types refuse: were they
not seen, it would be told as unused.

    python consumer.py RUN          # RUN is what `vaelab compare mnist` wrote
"""

import sys
from importlib.metadata import version
from typing import TYPE_CHECKING, assert_type

import numpy as np

import vaelab

assert version("vaelab") == vaelab.__version__, "the version of the package is not the module's"

ready: vaelab.VAE = vaelab.load("mnist-vae")
image = ready.inverse_transform([[0.5, 0.2]])[0]
assert image.shape == (1, 28, 28), f"an image that was decoded has shape {image.shape}"

train, test = (part.limited(64) for part in vaelab.data.load("mnist"))
again = vaelab.load(f"{sys.argv[1]}/vae")
elbo = assert_type(again.score(test), float)
assert np.isfinite(elbo), f"the ELBO is {elbo}"
assert again.transform(test).shape == (64, 2), "codes have another shape"
own = vaelab.VAE("vae", latent_dim=3, epochs=1, seed=0).fit(train)
assert own.transform(test).shape == (64, 3), "codes of a model just trained have another shape"

if TYPE_CHECKING:
    vaelab.VAE(latent_dim="2")  # type: ignore[arg-type]
    vaelab.VAE(latent_dims=2)  # type: ignore[call-arg]
    vaelab.kl_normal(0.0, 1.0)  # type: ignore[call-arg]
    vaelab.Vae()  # type: ignore[attr-defined]
    own.score(test).mean()  # type: ignore[attr-defined]
