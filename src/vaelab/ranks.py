"""Floor 1: this process's place among those that train one model together, each its share.

They are started by torchrun, or by any launcher that sets what `torch.distributed` reads from the
environment, and speak through its collectives alone. Nothing that they send is pickled.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from vaelab import checks

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["Ranks", "joined", "launched", "local_rank", "restarted"]

T = TypeVar("T")

PLACE = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What the environment holds for a process that is to find the others."""

DONE, FAILED = b"+", b"-"
"""How what rank 0 sends begins: with a result, or with the line of an error."""


@dataclass(frozen=True)
class Ranks:
    """The place of this process among those that train together; by default, it is alone.

    Where it is alone, every method returns what it was given and sends nothing. Otherwise all
    processes must call the same methods in the same order.

    Attributes:
        rank: Number of this process, in [0, count). Rank 0 alone tells, evaluates and saves.
        count: How many processes there are, at least 1.

    >>> import torch
    >>> [Ranks(rank, 3).share(torch.arange(7)).tolist() for rank in range(3)]
    [[0, 1, 2], [3, 4], [5, 6]]
    """

    rank: int = 0
    count: int = 1

    @classmethod
    def here(cls) -> Ranks:
        """The place of this process in the default group of `torch.distributed`, if there is one.

        >>> Ranks.here()
        Ranks(rank=0, count=1)
        """
        from torch import distributed

        if not distributed.is_available() or not distributed.is_initialized():
            return cls()
        return cls(distributed.get_rank(), distributed.get_world_size())

    @property
    def alone(self) -> bool:
        """Whether there is no other process."""
        return self.count == 1

    def bounds(self, size: int) -> tuple[int, int]:
        """Where this process's share of `size` rows begins and ends; shares differ by one at most.

        >>> Ranks(2, 3).bounds(2)
        (2, 2)
        """
        each, more = divmod(size, self.count)
        start = self.rank * each + min(self.rank, more)
        return start, start + each + (self.rank < more)

    def share(self, rows: Tensor) -> Tensor:
        """This process's part of the rows of a batch, `(B,)`; of few rows it may be none."""
        if self.alone:
            return rows
        start, stop = self.bounds(len(rows))
        return rows[start:stop]

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Replaces each tensor by its sum over all processes, which has the same bits on each.

        Arguments:
            tensors: Of the same shapes on every process, on one device; they are written to.

        Raises:
            checks.TrainingError: Another process has ended.
        """
        if self.alone:
            return
        import torch
        from torch import distributed

        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        with _told():
            distributed.all_reduce(flat)
        pieces = torch.split(flat, [tensor.numel() for tensor in tensors])
        for tensor, piece in zip(tensors, pieces, strict=True):
            tensor.copy_(piece.view_as(tensor))

    def any(self, flag: bool) -> bool:
        """Whether it is so on at least one process.

        Raises:
            checks.TrainingError: Another process has ended.
        """
        if self.alone:
            return flag
        import torch

        number = torch.tensor([float(flag)], device=_device())
        self.add([number])
        return number.item() > 0

    def first(
        self, make: Callable[[], T], pack: Callable[[T], bytes], unpack: Callable[[bytes], T]
    ) -> T:
        """What rank 0 makes, on all processes; the others make nothing.

        Arguments:
            make: Makes it.
            pack: Makes bytes of it, to be sent.
            unpack: Makes it of these bytes.

        Raises:
            checks.VaelabError, OSError: As `make` does, on rank 0; the others raise a
                `checks.TrainingError` that says the same.
            checks.TrainingError: Another process has ended.
        """
        if self.alone:
            return make()
        if self.rank > 0:
            content = self._sent(None)
            if content[:1] == FAILED:
                raise checks.TrainingError(content[1:].decode())
            return unpack(content[1:])
        try:
            made = make()
        except (checks.VaelabError, OSError) as error:
            self._sent(FAILED + str(error).encode())
            raise
        self._sent(DONE + pack(made))
        return made

    def agreed(self, make: Callable[[], Any]) -> Any:
        """What rank 0 makes, on all processes: plain values that JSON knows; see `first`.

        >>> Ranks().agreed(lambda: {"steps": 3})
        {'steps': 3}
        """
        return self.first(make, lambda value: json.dumps(value).encode(), json.loads)

    def _sent(self, content: bytes | None) -> bytes:
        """The bytes that rank 0 gives, at least one, on all processes."""
        import torch
        from torch import distributed

        device = _device()
        size = torch.tensor([0 if content is None else len(content)], device=device)
        with _told():
            distributed.broadcast(size, 0)
        flat = torch.empty(int(size), dtype=torch.uint8)
        if content is not None:
            flat = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        flat = flat.to(device)
        with _told():
            distributed.broadcast(flat, 0)
        return flat.cpu().numpy().tobytes()


@contextmanager
def _told() -> Iterator[None]:
    """Within, what `torch.distributed` says when a process is lost is told in a line."""
    try:
        yield
    except RuntimeError as error:
        raise checks.TrainingError(
            "another of the processes that train together has ended; torchrun's --max-restarts "
            f"goes on from the last checkpoint ({str(error).splitlines()[0]})."
        ) from error


def _device() -> torch.device:
    """Where small messages lie: in memory, unless the group knows GPUs alone."""
    import torch
    from torch import distributed

    known = "cpu:" in distributed.get_backend_config()
    return torch.device("cpu" if known else "cuda")


def launched() -> bool:
    """Whether a launcher such as torchrun started this process as one of several, or of one."""
    return all(name in os.environ for name in PLACE)


def local_rank() -> int:
    """Number of this process among those on its machine; 0 where no launcher started it."""
    return int(os.environ.get("LOCAL_RANK", "0")) if launched() else 0


def restarted() -> bool:
    """Whether torchrun started this process anew, after one of the processes had failed."""
    return launched() and int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


@contextmanager
def joined(device: str | None = None) -> Iterator[Ranks]:
    """Within, this process belongs to the group that a launcher made of it; else it is alone.

    What lies on processors is sent by gloo, and what lies on GPUs by NCCL, where each process
    takes the GPU that has the process's number on its machine.

    Arguments:
        device: Where is computed: `"cpu"`, `"cuda"`, or `None` for GPUs if there are any.

    Raises:
        checks.ArgumentError: There are fewer GPUs than processes on this machine.

    >>> with joined() as ranks:
    ...     ranks
    Ranks(rank=0, count=1)
    """
    if not launched():
        yield Ranks()
        return
    import torch
    from torch import distributed

    on_gpus = device in (None, "auto", "cuda") and torch.cuda.is_available()
    if on_gpus:
        _take_gpu(torch.cuda.device_count())
    with _told():
        _begin_group("cpu:gloo,cuda:nccl" if on_gpus else "gloo")
    try:
        yield Ranks.here()
    finally:
        distributed.destroy_process_group()


def _begin_group(backend: str) -> None:
    """Finds the other processes.

    torchrun keeps one store for all its attempts, in which a process would find where those of the
    last one were: https://github.com/pytorch/pytorch/issues/135712. On one machine, the attempts
    are told apart by their number; on several, each counts its own.
    """
    from torch import distributed
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    store, rank, count = next(rendezvous("env://"))
    if os.environ.get("LOCAL_WORLD_SIZE") == os.environ["WORLD_SIZE"]:
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        store = PrefixStore(f"attempt {attempt}", store)
    distributed.init_process_group(backend, store=store, rank=rank, world_size=count)


def _take_gpu(there: int) -> None:
    """Makes the GPU of this process the current one, if there is one for each."""
    import torch

    wanted = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ["WORLD_SIZE"]))
    if wanted > there:
        raise checks.ArgumentError(
            f"nproc-per-node = {wanted}, but each process takes a GPU, of which this machine has "
            f"{there}; give --nproc-per-node {there}, or --device cpu."
        )
    torch.cuda.set_device(local_rank())
