"""Trains a VAE whose networks are shared out over processes by FSDP2: for models too large for one.

    torchrun --standalone --nproc-per-node 2 examples/sharded.py mnist --width 2048 --out runs/wide

Each process holds a part of every layer's weights, of their gradients and of Adam's state, and
gathers a layer only while it computes with it. What is written is an ordinary model folder. It has
been run on processors (gloo, with PyTorch 2.7 or newer), not on GPUs (NCCL). A model that fits into
one process trains faster by `vaelab train` under torchrun, which also validates, keeps its state
and resumes; this does not.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, distributed, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import vaelab
from vaelab import checks, storage
from vaelab.distributions import DiagonalNormal, Share, SharedNormal, seeded
from vaelab.model import Model
from vaelab.networks import MLP
from vaelab.parts import Part, fresh
from vaelab.ranks import Ranks, joined
from vaelab.recipes import Recipe
from vaelab.tensors import to_float

LAYERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
"""What is gathered at once: one of these at a time."""


def wide(shape: tuple[int, ...], width: int, latent_dim: int = 2) -> Recipe:
    """`vae` with three hidden layers of so many units in either network."""
    widths = (width,) * 3
    return replace(
        vaelab.recipes.vae(shape, latent_dim),
        name="wide",
        posterior=vaelab.posteriors.DiagonalGaussian(MLP(shape, (2, latent_dim), widths)),
        likelihood=vaelab.likelihoods.Bernoulli(MLP((latent_dim,), shape, widths)),
    )


def shard(model: Model, ranks: Ranks, device: torch.device) -> list[nn.Parameter]:
    """Shares the networks' layers out; returns the few parameters that every process keeps whole.

    Layers are sharded, not posteriors and likelihoods, since FSDP2 finds where a gradient begins by
    the tensors that a module returns, and those return distributions.
    """
    whole = {id(parameter): parameter for parameter in model.parameters()}
    if ranks.alone:
        return []
    mesh = init_device_mesh(device.type, (ranks.count,))
    for part in model.parts.values():
        for layer in getattr(part, "network", nn.Module()).modules():
            if isinstance(layer, LAYERS):
                for parameter in layer.parameters():
                    whole.pop(id(parameter))
                fully_shard(layer, mesh=mesh)
    return list(whole.values())


def batches(count: int, size: int, steps: int) -> Iterator[Tensor]:
    """Rows of so many batches, `(size,)` each, drawn at random; the same in every process."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        yield torch.randint(count, (size,), generator=generator)


def train(
    recipe: Recipe,
    x: Tensor,
    *,
    ranks: Ranks,
    device: torch.device,
    steps: int,
    batch_size: int = 512,
    learning_rate: float = 1e-3,
) -> Model:
    """A model trained by Adam on data at rest, `(N, *shape)`; its weights are still shared out.

    Batches and noise are those of one process, and so are the weights but for the rounding of sums.

    Raises:
        checks.ArgumentError: A batch cannot be shared equally.
    """
    if batch_size % ranks.count:
        raise checks.ArgumentError(
            f"batch_size = {batch_size}, but it must be a multiple of the {ranks.count} processes."
        )
    with seeded(0):
        model = fresh(recipe.model())
    for part in model.parts.values():
        cast("Part", part).start(to_float(x[:batch_size]))
    model = model.train().to(device)
    whole = shard(model, ranks, device)
    kept = {id(parameter) for parameter in whole}
    shared = [parameter for parameter in model.parameters() if id(parameter) not in kept]
    groups = [{"params": shared}, *([{"params": whole}] if whole else [])]
    optimizer = torch.optim.Adam(groups, lr=learning_rate)
    noise = torch.Generator(device).manual_seed(1)
    for rows in batches(len(x), batch_size, steps):
        mine = to_float(x[ranks.share(rows)].to(device))
        q = model.encode(mine)
        if isinstance(q, DiagonalNormal):
            share = Share(noise, *ranks.bounds(batch_size), batch_size)
            q = SharedNormal(q.loc, q.scale, share)
        recipe.objective(model, mine, q=q).loss.mean().backward()
        gradients = [parameter.grad for parameter in whole if parameter.grad is not None]
        ranks.add(gradients)  # FSDP2 takes the mean of those of the shared ones
        for gradient in gradients:
            gradient /= ranks.count
        optimizer.step()
        optimizer.zero_grad()
    return model


def gathered(recipe: Recipe, model: Model) -> Model | None:
    """The model with all its weights, in memory, on rank 0; `None` on the others."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    weights = get_model_state_dict(model, options=options)
    if distributed.is_initialized() and distributed.get_rank() > 0:
        return None
    complete = fresh(recipe.model())
    complete.load_state_dict(weights)
    return complete.eval()


def held(model: Model) -> int:
    """Parameters of which this process holds the values."""
    return sum((p.to_local() if hasattr(p, "to_local") else p).numel() for p in model.parameters())


def main() -> None:
    """Reads the command line, trains, and writes a model folder."""
    parser = argparse.ArgumentParser(description="Trains a VAE sharded by FSDP2; see torchrun.")
    parser.add_argument("data", help="a data set that `vaelab datasets` lists, or a path")
    parser.add_argument("--width", type=int, default=2048, help="units of the hidden layers")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--out", type=Path, required=True, help="the model folder")
    given = parser.parse_args()
    train_data, test = vaelab.data.load(given.data)
    recipe, x = wide(train_data.shape, given.width), torch.as_tensor(train_data.x)
    with joined(given.device) as ranks:
        device = torch.device(given.device)
        how = {"steps": given.steps, "batch_size": given.batch_size}
        model = train(recipe, x, ranks=ranks, device=device, **how)
        own, complete = held(model), gathered(recipe, model)
    if complete is not None:
        saved = storage.Saved(complete, recipe.name, recipe.objective)
        folder = storage.save(saved, given.out)
        count = sum(p.numel() for p in complete.parameters())
        elbo = vaelab.load(folder).score(test)
        print(f"{own:,} of {count:,} parameters in a process; test ELBO {elbo:.1f} nats: {folder}")


if __name__ == "__main__":
    main()
