"""Floor 9: `VAE`, a scikit-learn estimator."""

from vaelab.estimator._folders import load
from vaelab.estimator._vae import VAE

__all__ = ["VAE", "load"]
