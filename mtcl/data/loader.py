"""Data loaders for Lightning: training steps from the run's position on, and evaluation pools by number.

If the worker processes cannot hand over a batch, the training process assembles the following ones itself, so that the
run can still save its state; `on_failure` learns the reason (`mtcl.data.handover`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from torch.utils.data import DataLoader, Dataset

from mtcl.data.batch import StepBatch
from mtcl.data.handover import POLL_S, handed_over, received
from mtcl.data.parcel import Parcel
from mtcl.data.steps import StepDataset
from mtcl.errors import DataError


class Position(Protocol):
    """Keeps the run's position: the number of batches handed out."""

    position: int

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> None: ...


def raised(error: DataError) -> None:
    """Raise an error of the loader's workers."""
    raise error


@dataclass
class Looking:
    """A separate position for looking at batches outside of a run, so that the run's own does not change."""

    position: int = 0

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.position = state_dict["position"]


class StepLoader(DataLoader[StepBatch]):
    """Batches by step number, from the owner's position to `end`. Its length is that of the whole run."""

    def __init__(
        self,
        dataset: StepDataset,
        owner: Position,
        *,
        num_steps: int,
        end: int,
        num_workers: int = 0,
        on_failure: Callable[[DataError], None] = raised,
        **options: Any,
    ) -> None:
        self.owner, self.num_steps, self.end, self.on_failure = owner, num_steps, end, on_failure
        collate: Any = handed_over
        super().__init__(
            dataset,
            sampler=_Steps(owner, end),
            batch_size=None,
            collate_fn=collate,
            num_workers=num_workers,
            timeout=POLL_S if num_workers else 0,
            **options,
        )

    def __iter__(self) -> Iterator[StepBatch]:  # type: ignore[override]
        try:
            for parcel in received(super().__iter__):
                yield self._next(parcel)
        except DataError as error:
            self.on_failure(error)
        for step in range(self.owner.position, self.end):
            yield self._next(Parcel.of(self.dataset[step]))

    def _next(self, parcel: Parcel[StepBatch]) -> StepBatch:
        self.owner.position = parcel.content.step + 1
        return StepBatch.unpacked(parcel)

    def __len__(self) -> int:
        return self.num_steps

    def state_dict(self) -> dict[str, int]:
        """The DataModule's state; Lightning warns about loaders without this method."""
        return self.owner.state_dict()

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.owner.load_state_dict(state_dict)


class _Steps:
    def __init__(self, owner: Position, end: int) -> None:
        self.owner, self.end = owner, end

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.owner.position, self.end))

    def __len__(self) -> int:
        return self.end


class _Numbers(Dataset[int]):
    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> int:
        return index


def pool_numbers(count: int) -> DataLoader[int]:
    """One batch per pool, with the pool's number. Every rank takes part in the evaluation of each pool."""
    return DataLoader(_Numbers(count), batch_size=None, collate_fn=_as_is)


def _as_is(value: Any) -> Any:
    return value
