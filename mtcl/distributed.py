"""Gathering across ranks. With a single process, `gather` and the means return their argument.

The gather is differentiable: its backward sums over ranks. With the mean over local rows, DDP's mean over ranks is
then the gradient of one process with the whole batch, without any scaling. A detached gather would be biased.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from mtcl.errors import MtclError

SIGNS_OF_A_LOST_RANK = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "remote process exited")


def world() -> tuple[int, int]:
    """(rank, number of ranks); (0, 1) outside a distributed run."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def gather(rows: Tensor) -> Tensor:
    """The rows of all ranks in rank order, with gradient. Shapes must be equal on all ranks."""
    if world()[1] == 1:
        return rows
    if rows.requires_grad:
        gathered: Tensor = _Gather.apply(rows)  # type: ignore[no-untyped-call]
        return gathered
    return torch.cat(_all_gather(rows))


def gather_varying(rows: Tensor) -> Tensor:
    """The rows of all ranks in rank order, without gradient; ranks may differ in their number of rows."""
    if world()[1] == 1:
        return rows
    counts = torch.cat(_all_gather(torch.tensor([len(rows)], device=rows.device))).tolist()
    padded = rows.new_zeros(max(counts), *rows.shape[1:])
    padded[: len(rows)] = rows
    return torch.cat([part[:count] for part, count in zip(_all_gather(padded), counts, strict=True)])


def mean_over_ranks(values: Tensor) -> Tensor:
    """The mean of a tensor over ranks, without gradient."""
    ranks = world()[1]
    if ranks == 1:
        return values
    total = values.clone()
    dist.all_reduce(total)
    return total / ranks


def max_over_ranks(values: Tensor) -> Tensor:
    """The largest of each value over ranks, without gradient."""
    if world()[1] == 1:
        return values
    largest = values.clone()
    dist.all_reduce(largest, op=dist.ReduceOp.MAX)
    return largest


def of_all_ranks(value: Any) -> list[Any]:
    """The plain value of each rank in rank order; the same list on all ranks."""
    ranks = world()[1]
    if ranks == 1:
        return [value]
    values: list[Any] = [None] * ranks
    dist.all_gather_object(values, value)
    return values


@contextmanager
def together() -> Iterator[None]:
    """If one rank raises an `MtclError` inside, all ranks raise it at the end; else they would wait for that rank."""
    failure: MtclError | None = None
    try:
        yield
    except MtclError as error:
        failure = error
    for rank, other in enumerate(of_all_ranks(failure)):
        if other is not None:
            raised = failure or type(other)(f"rank {rank}: {other}")
            raised.on_all_ranks = True
            raise raised


def is_lost_rank(error: BaseException) -> bool:
    """Whether a collective failed because another process has ended; backends have no error type for this."""
    return isinstance(error, dist.DistError) or any(sign in str(error) for sign in SIGNS_OF_A_LOST_RANK)


def _all_gather(rows: Tensor) -> list[Tensor]:
    home, rows = rows.device, _reachable(rows).contiguous()
    parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, rows)
    return [part.to(home) for part in parts]


def _reachable(rows: Tensor) -> Tensor:
    """The rows on a device that the backend supports: NCCL does not support CPU tensors."""
    return rows.cuda() if dist.get_backend() == "nccl" else rows


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        return torch.cat(_all_gather(rows))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return sum_of_own_rows(gradients[0].contiguous(), scatter=dist.get_backend() == "nccl")


def sum_of_own_rows(rows: Tensor, *, scatter: bool) -> Tensor:
    """The sum over ranks of this rank's share of `rows`, which have a share for each rank.

    With `scatter`, other ranks' shares are not sent here: less than half of the traffic on GPUs, while on CPUs, gloo
    is faster without.
    """
    ranks = dist.get_world_size()
    if scatter:
        own = rows.new_empty(len(rows) // ranks, *rows.shape[1:])
        dist.reduce_scatter(own, list(rows.chunk(ranks)))
        return own
    total = rows.clone()
    dist.all_reduce(total)
    return total.chunk(ranks)[dist.get_rank()]
