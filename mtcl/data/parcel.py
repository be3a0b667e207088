"""Hands the tensors of a step to another process or device as a single tensor.

Each tensor that is handed over costs a shared file, a page-locked allocation and a copy for which the host waits, and a
step has about a hundred small ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, Self, TypeVar

import torch
from torch import Tensor

ALIGNMENT = 16
"""Each tensor begins at a multiple of this many bytes."""


class Mappable(Protocol):
    """Holds tensors; `map` makes the same object with other tensors instead."""

    def map(self, apply: Callable[[Any], Any]) -> Self: ...


M = TypeVar("M", bound=Mappable)


@dataclass(frozen=True)
class Place:
    """Where a tensor's bytes begin, with its type and shape."""

    start: int
    dtype: torch.dtype
    shape: tuple[int, ...]

    def view(self, bytes_B: Tensor) -> Tensor:
        """The tensor at this place of `bytes_B`, without copying."""
        num_bytes = math.prod(self.shape) * self.dtype.itemsize
        return bytes_B[self.start : self.start + num_bytes].view(self.dtype).view(self.shape)


@dataclass(frozen=True)
class Parcel(Generic[M]):
    """An object whose tensors are in one (B,) tensor of bytes; `content` has a `Place` for each."""

    content: M
    bytes_B: Tensor

    @classmethod
    def of(cls, content: M) -> Parcel[M]:
        """Copy the tensors of `content` (on the CPU) one after another into new bytes."""
        places: list[Place] = []
        tensors: list[Tensor] = []
        size = 0

        def place(tensor: Tensor) -> Place:
            nonlocal size
            tensors.append(tensor)
            places.append(Place(size, tensor.dtype, tuple(tensor.shape)))
            size += -(-tensor.nbytes // ALIGNMENT) * ALIGNMENT
            return places[-1]

        with_places = content.map(place)
        bytes_B = torch.empty(size, dtype=torch.uint8)
        for one, tensor in zip(places, tensors, strict=True):
            one.view(bytes_B).copy_(tensor)
        return cls(with_places, bytes_B)

    def open(self) -> M:
        """The object with views of the bytes as its tensors."""
        return self.content.map(lambda place: place.view(self.bytes_B))

    def to(self, device: torch.device | str) -> Parcel[M]:
        """On another device. The host does not wait if the bytes are in page-locked memory."""
        return Parcel(self.content, self.bytes_B.to(device, non_blocking=True))

    def pin_memory(self) -> Parcel[M]:
        """In page-locked memory; a data loader with `pin_memory` calls it."""
        return Parcel(self.content, self.bytes_B.pin_memory())
