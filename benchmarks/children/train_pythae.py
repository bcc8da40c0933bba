"""Trains the classic network with pythae, and writes what is needed to score it.

pythae's default networks for vectors are the classic ones: 784-512-2-512-784 with ReLU. Its loss is
summed over pixels and averaged over data, so it is the negative ELBO in nats, once "bce" is
chosen in place of the default "mse".
"""

from __future__ import annotations

import time
from importlib.metadata import version
from tempfile import TemporaryDirectory

import numpy as np
import reporting

given = reporting.settings()

import torch  # noqa: E402  # after the cores are chosen
from pythae.models import VAE, VAEConfig  # noqa: E402
from pythae.pipelines import TrainingPipeline  # noqa: E402
from pythae.trainers import BaseTrainerConfig  # noqa: E402
from pythae.trainers.training_callbacks import TrainingCallback  # noqa: E402

epochs = reporting.Epochs()


class Clock(TrainingCallback):  # type: ignore[misc]
    """Times epochs."""

    def on_epoch_begin(self, *_: object, **__: object) -> None:
        """An epoch begins."""
        epochs.begin()

    def on_epoch_end(self, *_: object, **__: object) -> None:
        """An epoch ends."""
        epochs.end()


def main() -> None:
    """Trains and reports."""
    torch.set_num_threads(given["threads"])
    torch.manual_seed(given["seed"])
    data = np.load(given["data"])
    x = data["train"].astype(np.float32) / 255
    config = VAEConfig(input_dim=(1, 28, 28), latent_dim=2, reconstruction_loss="bce")
    model = VAE(config)
    with TemporaryDirectory() as folder:
        training = BaseTrainerConfig(
            output_dir=folder,
            num_epochs=given["epochs"],
            per_device_train_batch_size=given["batch_size"],
            learning_rate=1e-3,
            seed=given["seed"],
            no_cuda=True,
        )
        start = time.perf_counter()
        TrainingPipeline(model=model, training_config=training)(x, callbacks=[Clock()])
        whole, peak = time.perf_counter() - start, reporting.peak_memory()
    write_codes(model.eval(), data)
    used = f"pythae {version('pythae')}, torch {torch.__version__}"
    reporting.report(epochs=epochs.seconds, whole=whole, peak=peak, versions=used)


@torch.no_grad()
def write_codes(model: VAE, data: np.lib.npyio.NpzFile) -> None:
    """Codes, and logits in double precision, in which its probabilities do not reach 1."""
    model = model.double()
    encoded = model.encoder(torch.from_numpy(data["test"]).double() / 255)
    loc, scale = encoded.embedding, (0.5 * encoded.log_covariance).exp()
    z = loc + scale * torch.from_numpy(data["noise"])
    logits = torch.logit(model.decoder(z)["reconstruction"], eps=1e-15)
    np.savez(given["codes"], loc=loc.numpy(), scale=scale.numpy(), logits=logits.numpy())


main()
