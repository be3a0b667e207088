"""A parcel has one tensor of bytes, from which the same tensors come out on any device and in any process.

python -m pytest tests/test_parcel.py
"""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from mtcl.arrays import Ragged, offsets_of
from mtcl.data.batch import Kept, RoleTexts, StepBatch, SubBatch
from mtcl.data.packing import pack
from mtcl.data.parcel import Parcel


def batch() -> StepBatch:
    texts = pack(Ragged(offsets_of(np.array([3, 1, 2])), np.arange(6)), tokens_per_chunk=4)
    column = RoleTexts(torch.tensor([1, 0]), torch.tensor([[5], [7]]), torch.tensor([0.5, -1.5]))
    part = SubBatch(0, (replace(column, scores_N=torch.tensor([0.25, 1.0])), column))
    kept = Kept(texts, torch.tensor([2]), torch.tensor([0.5], dtype=torch.float64))
    return StepBatch(3, texts, (part,), num_texts=4, pooled_TH=torch.empty(0, 8), kept=kept)


def tensors_of(content: StepBatch) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    content.map(found.append)
    return found


def test_the_tensors_of_a_parcel_are_those_that_went_in() -> None:
    before = batch()
    parcel = pickle.loads(pickle.dumps(Parcel.of(before)))
    after = StepBatch.unpacked(parcel).to("cpu")
    assert (after.step, after.num_texts, after.texts.num_tokens) == (3, 4, 6)
    pairs = list(zip(tensors_of(before), tensors_of(after), strict=True))
    assert len(pairs) > 15
    assert all(a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b) for a, b in pairs)


def test_a_parcel_is_a_single_tensor() -> None:
    found = tensors_of(StepBatch.unpacked(Parcel.of(batch())))
    assert len({one.untyped_storage().data_ptr() for one in found}) == 1
    assert all(one.data_ptr() % one.element_size() == 0 for one in found)


def test_on_the_way_to_another_device_there_is_one_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[torch.Size] = []
    original = torch.Tensor.to

    def to(self: torch.Tensor, *arguments: object, **options: object) -> torch.Tensor:
        moved.append(self.shape)
        return original(self, *arguments, **options)  # type: ignore[no-any-return, call-overload]

    packed = batch()
    for content in (packed, StepBatch.unpacked(Parcel.of(packed)), packed.texts):
        moved.clear()
        monkeypatch.setattr(torch.Tensor, "to", to)
        there = content.to("meta")
        monkeypatch.undo()
        assert len(moved) == 1
        found: list[torch.Tensor] = []
        there.map(found.append)
        assert {one.device.type for one in found} == {"meta"}
