"""A map from the space of one encoder to the space of another, and its files.

    alignment = Alignment.load("maps/new_to_old")
    old_space = alignment(new_encoder.encode(["a query"], role="query", output="numpy"))

Files: `map.safetensors` with `weight` (S, T) and `bias` (T,), `map.json` with both spaces and how the map was fitted.
Letters: N vectors, S dimensions of the source, T of the target.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mtcl.arrays import Float32Array, FloatArray
from mtcl.deploy.space import Space, unit
from mtcl.errors import ConfigError, DataError, root_cause
from mtcl.files import write_text, written_whole
from mtcl.records.mapping import from_mapping
from mtcl.records.version import __version__

Direction = Literal["new_to_old", "old_to_new"]
MapKind = Literal["orthogonal", "linear"]
WEIGHTS, RECORD = "map.safetensors", "map.json"


@dataclass(frozen=True)
class About:
    """How a map was fitted.

    Attributes:
        direction: Which of the two encoders is the source.
        kind: orthogonal or linear.
        strength: For a linear map, how strongly it is pulled to the orthogonal one; None for an orthogonal map.
        rows: Number of rows that it was fitted on.
        held_out: Number of rows that `recall` was measured on.
        recall: The share of the target encoder's 10 nearest neighbours that is found with mapped vectors.
        seed: The seed that chose the rows.
        version: The version of mtcl.
    """

    direction: Direction
    kind: MapKind
    strength: float | None
    rows: int
    held_out: int
    recall: float | None
    seed: int
    version: str = __version__


@dataclass(frozen=True)
class Alignment:
    """y = (x W + b) / |x W + b| for a vector x of the source's space; y is in the target's space."""

    weight_ST: Float32Array = field(repr=False)
    bias_T: Float32Array = field(repr=False)
    source: Space
    target: Space
    about: About

    def __call__(self, vectors: FloatArray) -> Float32Array:
        """(N, T) unit vectors of (N, S) vectors, or (T,) of (S,). Raises `ConfigError` for other dimensions."""
        if vectors.ndim not in (1, 2) or vectors.shape[-1] != self.source.dim:
            raise ConfigError(f"the vectors have shape {vectors.shape}: the map takes {self.source.dim} dimensions")
        mapped_NT = unit(np.atleast_2d(vectors)) @ self.weight_ST + self.bias_T
        found: Float32Array = unit(mapped_NT)
        return found[0] if vectors.ndim == 1 else found

    @property
    def digest(self) -> str:
        """A digest of the map and both spaces, 16 hexadecimal digits."""
        facts = json.dumps([asdict(self.source), asdict(self.target)], sort_keys=True).encode()
        return hashlib.sha256(self.weight_ST.tobytes() + self.bias_T.tobytes() + facts).hexdigest()[:16]

    def save(self, folder: str | Path) -> Path:
        """Write the map's two files; the record comes last."""
        from safetensors.numpy import save_file

        path = Path(folder).expanduser()
        path.mkdir(parents=True, exist_ok=True)
        (path / RECORD).unlink(missing_ok=True)
        tensors = {"weight": np.ascontiguousarray(self.weight_ST), "bias": np.ascontiguousarray(self.bias_T)}
        with written_whole(path / WEIGHTS) as aside:
            save_file(tensors, aside)
        content = {
            **{name: asdict(getattr(self, name)) for name in ("source", "target", "about")},
            "digest": self.digest,
        }
        write_text(path / RECORD, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        return path

    @classmethod
    def load(cls, folder: str | Path) -> Alignment:
        """Load a map. Raises `ConfigError` if it is not the folder of a map, `DataError` if its files are malformed."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        path = Path(folder).expanduser()
        if not (path / RECORD).is_file():
            raise ConfigError(f"{path} is not the folder of a map: `mtcl align` writes one")
        try:
            content: dict[str, Any] = json.loads((path / RECORD).read_text(encoding="utf-8"))
            tensors = load_file(path / WEIGHTS)
            found = cls(
                tensors["weight"],
                tensors["bias"],
                from_mapping(Space, content["source"], where=f"{path / RECORD}: source"),
                from_mapping(Space, content["target"], where=f"{path / RECORD}: target"),
                from_mapping(About, content["about"], where=f"{path / RECORD}: about"),
            )
        except (OSError, ValueError, TypeError, KeyError, ConfigError, SafetensorError) as error:
            raise DataError(f"the map in {path} is malformed ({root_cause(error)}): align again") from error
        if found.weight_ST.shape != (found.source.dim, found.target.dim) or found.digest != content.get("digest"):
            raise DataError(f"{path / WEIGHTS} is not the map that {RECORD} describes: align again")
        return found
