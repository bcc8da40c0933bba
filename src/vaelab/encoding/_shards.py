"""Codes of data in shards, a Parquet file each, by workers that know nothing of each other."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaelab import checks, cluster, files, machine, noise, storage
from vaelab.checkpoints import locked
from vaelab.data.rows import told
from vaelab.data.shards import Shards, shards
from vaelab.distributions import kl, seeded
from vaelab.estimator import VAE, load
from vaelab.importance import ELEMENTS, Progress
from vaelab.latent import device_of
from vaelab.model import Model
from vaelab.parts import describe
from vaelab.tensors import as_tensor, batches, check_data
from vaelab.training import check_device

__all__ = ["RECORD", "write_shards"]

RECORD, FORMAT = "encoding.json", 1
"""The file that tells what a folder holds codes of, and the version of such folders."""

BATCH = 1024
"""Data that are encoded at once; the last bits of their figures may depend on it."""

DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class _Plan:
    """What each worker is told: plain values, so that it can be sent anywhere.

    Attributes:
        model: Path of the model folder.
        loaded: Keywords of `vaelab.data.shards`.
        chosen: Places of the shards among those, or `None` for all.
        out: Path of the folder to write to.
        record: What `encoding.json` holds, as JSON.
        seed: Of the draws.
        device: `"cpu"` or `"cuda"`.
    """

    model: str
    loaded: tuple[tuple[str, Any], ...]
    chosen: tuple[int, ...] | None
    out: str
    record: str
    seed: int
    device: str = "cpu"


def write_shards(
    out: str | os.PathLike[str],
    model: str | os.PathLike[str],
    data: Shards,
    *,
    engine: str = "local",
    workers: int | None = None,
    device: str = "auto",
    seed: int = 0,
    progress: Progress | None = None,
) -> Path:
    """Encodes data in shards, and writes a Parquet file for each.

    The file of a shard is called like it, with `.parquet` behind and `%2F` for each `/`. It has a
    row for each datum: `shard`, its name; `row`, the place in it (`int64`); `mean_1`, ... and
    `scale_1`, ... of q(z|x); and `elbo` = −(`rate` + `distortion`), in nats, with one draw of z
    (`float32` all). The noise of a datum follows from the seed and its values, see
    `vaelab.importance.weigh`, and a worker computes with one thread: files have the same bits
    whoever writes them, on the same kind of machine and device.

    A file is written whole or not at all. `encoding.json`, which is written first, tells what the
    folder holds codes of. Interrupted and called again, it writes only the files that are missing.

    Arguments:
        out: A new folder, or one that was begun with the same model, data and seed. With Ray, it,
            the model folder and the data must be where all machines of the cluster see them.
        model: A model folder; of a model that is not conditional, since shards have no labels.
        data: What `vaelab.data.shards` opened, or a part of it, of the shape that the model was
            made for. Workers open it themselves, without `storage_options`: what an address needs
            beside must be in their environment.
        engine: `"local"`, processes of this machine; `"ray"`, actors of Ray Data on the cluster
            that `RAY_ADDRESS` names or this process is connected to, else on one of this machine.
            Needs the extra `ray`.
        workers: How many shards are encoded at once, each of which is in memory; by default one
            a core, or one a GPU where the device is one, but here only one.
        device: `"cpu"`, `"cuda"`, or `"auto"`: a GPU where there is one.
        seed: Of the draws of z.
        progress: Called with how many data are encoded, and with how many there are.

    Returns:
        The folder.

    Raises:
        checks.ArgumentError: An engine, number or device that is not allowed, or a package that is
            not installed.
        checks.DataError: The model cannot score such data; a shard cannot be read, or holds NaN or
            infinity, or values outside the likelihood's range. The files of other shards are kept.
        checks.StorageError: The model cannot be read, the folder holds something else, or a file
            cannot be written.
        checks.VaelabError: Workers died again and again.

    >>> import tempfile, vaelab
    >>> folder = Path(tempfile.mkdtemp())
    >>> (folder / "data").mkdir()
    >>> for k in range(3):
    ...     np.save(folder / f"data/{k}.npy", np.random.default_rng(k).random((9, 4), np.float32))
    >>> data = vaelab.data.shards(folder / "data")
    >>> model = vaelab.VAE(epochs=1).fit(data.read(0)).save(folder / "model")
    >>> out = write_shards(folder / "codes", model, data, workers=1)
    >>> sorted(file.name for file in out.glob("*.parquet"))
    ['0.npy.parquet', '1.npy.parquet', '2.npy.parquet']
    >>> import pandas as pd
    >>> list(pd.read_parquet(out / "0.npy.parquet"))[:6]
    ['shard', 'row', 'mean_1', 'mean_2', 'scale_1', 'scale_2']
    """
    checks.needs(f"out = {out}", "pyarrow", extra="parquet")
    cluster.check(engine)
    checks.choice("device", device, DEVICES)
    if workers is not None:
        checks.integer("workers", workers)
    folder, source = Path(out).absolute(), Path(model).absolute()
    vae = load(source)
    _check(vae, data)
    record = _record(source, vae, data, checks.seed(seed))
    _check_same(folder, record)
    opened = tuple(data.loaded.items()), data.chosen
    plan = _Plan(str(source), *opened, str(folder), json.dumps(record), record["seed"])
    with locked(folder):
        files.write_json(folder / RECORD, record)
        missing = [k for k in range(len(data.names)) if not _is_whole(folder, data, k)]
        done = len(data) - sum(data.counts[k] for k in missing)
        for rows in _ENGINES[engine](plan, missing, workers, device):
            done += rows
            if progress is not None:
                progress(done, len(data))
    return folder


def _check(vae: VAE, data: Shards) -> None:
    """Refuses now what no worker could do."""
    model = vae.model_
    if model.classes:
        raise checks.DataError(
            f"recipe {vae.recipe_.name!r} needs labels, but data in shards come without; encode "
            "them in parts, by VAE.encode(x, y)."
        )
    if data.shape != model.shape:
        raise checks.DataError(
            f"{data.name}: each datum has shape {data.shape}, but the model was made for "
            f"{model.shape}; read the data otherwise (--read), or give another model."
        )


def _record(source: Path, vae: VAE, data: Shards, seed: int) -> dict[str, Any]:
    """What `encoding.json` holds."""
    with (source / storage.WEIGHTS).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    parts = {name: describe(part) for name, part in vae.model_.parts.items()}
    digest.update(json.dumps(parts, sort_keys=True).encode())
    numbers = range(1, vae.model_.latent_dim + 1)
    codes = [f"{what}_{i}" for what in ("mean", "scale") for i in numbers]
    return {
        "format": FORMAT,
        "model": digest.hexdigest(),
        "data": data.fingerprint,
        "seed": seed,
        "shards": len(data.names),
        "rows": len(data),
        "columns": ["shard", "row", *codes, "elbo", "rate", "distortion"],
    }


def _check_same(folder: Path, record: Mapping[str, Any]) -> None:
    """Refuses a folder that holds anything but a part of the same work."""
    way = "choose another folder."
    if not folder.exists():
        return
    if not (folder / RECORD).is_file():
        if not folder.is_dir() or any(path.name != ".lock" for path in folder.iterdir()):
            raise checks.StorageError(f"{folder} exists, and holds no codes of vaelab; {way}")
        return
    try:
        there = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        if not isinstance(there, dict):
            raise TypeError("it is no object")
    except (ValueError, TypeError) as error:
        raise checks.StorageError(f"{folder / RECORD} is damaged ({error}); {way}") from error
    for name, other in (
        ("format", "another version of vaelab"),
        ("model", "another model"),
        ("data", "other data"),
        ("seed", "another seed"),
    ):
        if there.get(name) != record[name]:
            raise checks.StorageError(f"{folder} holds codes of {other}; {way}")


def _path(folder: str | Path, name: str) -> Path:
    """The file of a shard; names that differ have files that differ."""
    return Path(folder) / f"{name.replace('%', '%25').replace('/', '%2F')}.parquet"


def _is_whole(folder: str | Path, data: Shards, k: int) -> bool:
    """Whether the file of a shard is there, with all its rows."""
    from pyarrow import ArrowInvalid, parquet

    try:
        found = parquet.read_metadata(_path(folder, data.names[k]))
    except (OSError, ArrowInvalid):
        return False
    return bool(found.num_rows == data.counts[k])


class _Worker:
    """Encodes shards, by their numbers; it opens model and data itself, where it runs."""

    tries = 4
    """How often a shard is begun whose workers die."""

    def __init__(self, plan: _Plan) -> None:
        self.plan = plan
        self.columns = json.loads(plan.record)["columns"]

    def __call__(self, k: int) -> int:
        """Writes the file of shard `k`, and returns its number of rows.

        Raises:
            checks.DataError: The shard cannot be encoded, or model or data are not those that the
                work was begun with.
            checks.VaelabError: Whoever tried before has died.
        """
        mark = Path(self.plan.out) / f".{k}.tries.part"
        with mark.open("ab") as file:
            file.write(b".")
        if mark.stat().st_size > self.tries:
            raise checks.VaelabError(
                f"shard {self.data.names[k]}: workers died of it {self.tries} times, perhaps for "
                "want of memory; what was done is kept: run it again, with fewer --workers."
            )
        self._write(k)
        mark.unlink(missing_ok=True)
        return self.data.counts[k]

    @cached_property
    def data(self) -> Shards:
        """The data."""
        with warnings.catch_warnings():  # told where the data were opened first
            warnings.simplefilter("ignore", checks.VaelabWarning)
            whole = shards(**dict(self.plan.loaded))
        return whole if self.plan.chosen is None else whole.some(self.plan.chosen)

    @cached_property
    def model(self) -> Model:
        """The model, on its device, if it and the data are what they were."""
        vae, there = load(self.plan.model), json.loads(self.plan.record)
        here = _record(Path(self.plan.model), vae, self.data, self.plan.seed)
        for name, what in (("model", self.plan.model), ("data", self.data.location)):
            if here[name] != there[name]:
                raise checks.DataError(
                    f"{what}: is not what it was when the work began; put the old one back, and "
                    "let all machines see the same."
                )
        return vae.model_.to(self.plan.device)

    def _write(self, k: int) -> None:
        name = self.data.names[k]
        with machine.threads(1):
            values = self._encoded(k)
        content = _parquet(name, self.columns, values)
        files.write_atomically(_path(self.plan.out, name), content)

    def _encoded(self, k: int) -> np.ndarray:
        model, rows = self.model, self.data.read(k)
        try:
            x = check_data(as_tensor(rows), model.shape, model.value_range)
        except checks.DataError as error:
            origin = told(f"{self.data.location}: shard {self.data.names[k]}")
            raise checks.DataError(f"{origin}: {error}") from error
        return _encoded(model, x, self.plan.seed)


@torch.no_grad()
def _encoded(model: Model, x: Tensor, seed: int) -> np.ndarray:
    """Means, scales, ELBO, rate and distortion of data at rest: `(N, 2 D + 3)`, `float32`."""
    parts: list[Tensor] = []
    keys, done = noise.keys(x, seed), 0
    size = max(1, min(BATCH, ELEMENTS // math.prod(model.shape)))
    with seeded(seed):
        p = model.prior()
        for batch in batches(x, size, device_of(model)):
            q = model.encode(batch)
            z = noise.draws(q, keys[done : done + len(batch)])(1)
            rate, distortion = kl(q, p, z), -model.decode(z).log_prob(batch).mean(0)
            figures = torch.stack([-(rate + distortion), rate, distortion], 1)
            parts.append(torch.cat([q.mean, q.stddev, figures], 1).cpu())
            done += len(batch)
    return torch.cat(parts).numpy()


def _parquet(name: str, columns: Sequence[str], values: np.ndarray) -> bytes:
    """The file of a shard: its name, the place of each row, and values `(N, columns - 2)`."""
    import pyarrow as pa
    from pyarrow import parquet

    first = [pa.repeat(pa.scalar(name), len(values)), pa.array(np.arange(len(values)), pa.int64())]
    table = pa.Table.from_arrays([*first, *map(pa.array, values.T)], list(columns))
    buffer = io.BytesIO()
    parquet.write_table(table, buffer)
    return buffer.getvalue()


def _locally(
    plan: _Plan, missing: Sequence[int], workers: int | None, device: str
) -> Iterator[int]:
    """Rows of each shard, as it is done, in this process or in several."""
    gpu = check_device(device) == "cuda" or (device == "auto" and torch.cuda.is_available())
    plan = replace(plan, device="cuda" if gpu else "cpu")
    workers = min(workers or (1 if gpu else machine.cores()), len(missing))
    if workers <= 1:
        yield from map(_Worker(plan), missing)
        return
    try:
        with machine.processes(workers, threads=1) as executor:
            with machine.interrupts_ignored():  # by the workers: they end with the block
                futures = [executor.submit(_by_number, plan, k, os.getpid()) for k in missing]
            for future in as_completed(futures):
                yield future.result()
    except BrokenProcessPool as error:
        raise checks.VaelabError(
            "a process that encoded a shard died, perhaps for want of memory; what was done is "
            "kept: run it again, with fewer --workers."
        ) from error


def _by_number(plan: _Plan, k: int, parent: int) -> int:
    """What a process of its own is asked for."""
    machine.end_after(parent)
    return _worker(plan)(k)


_worker = cache(_Worker)


def _on_cluster(
    plan: _Plan, missing: Sequence[int], workers: int | None, device: str
) -> Iterator[int]:
    """Rows of each shard, as it is done by an actor of Ray Data."""
    if not missing:
        return
    with cluster.joined():
        room = cluster.room()
        gpu = device == "cuda" or (device == "auto" and room.gpus > 0)
        most = room.gpus if gpu else room.cpus
        if not most:
            raise checks.ArgumentError(
                f"device = {device!r}, but the Ray cluster has none; give 'cpu', or another "
                "cluster."
            )
        plan = replace(plan, device="cuda" if gpu else "cpu")
        workers = min(workers or most, most, len(missing))
        made = cluster.mapped(_Worker, {"plan": plan}, missing, workers=workers, gpus=float(gpu))
        yield from (rows for _, rows in made)


_ENGINES = {"local": _locally, "ray": _on_cluster}
