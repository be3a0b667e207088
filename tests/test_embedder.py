"""`Embedder` gives batches the vectors of the command, by itself and as a step of Ray Data.

python -m pytest tests/test_embedder.py
"""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mtcl.deploy.embed import Embedder
from mtcl.deploy.vectors import VectorFolder
from mtcl.encoder.text_encoder import TextEncoder
from mtcl.errors import ConfigError, DataError
from tests.conftest import Run
from tests.test_embed import words


def test_a_batch_gets_its_vectors(trained_run: Path) -> None:
    batch = {"body": np.array(words(20), dtype=object), "n": np.arange(20)}
    made = Embedder(trained_run, text="body", task="search", role="query", dim=8)(batch)
    assert list(made) == ["body", "n", "embedding"]
    expected = TextEncoder.load(trained_run).encode(words(20), task="search", role="query", dim=8, output="numpy")
    np.testing.assert_allclose(made["embedding"], expected, atol=1e-5)


def test_types_of_numbers(trained_run: Path) -> None:
    batch = {"text": np.array(words(6))}
    assert Embedder(trained_run, dtype="binary")(batch)["embedding"].shape == (6, 2)
    ranges = [[-1.0] * 16, [1.0] * 16]
    assert Embedder(trained_run, dtype="int8", ranges=ranges)(batch)["embedding"].dtype == np.int8
    with pytest.raises(ConfigError, match="int8 needs ranges"):
        Embedder(trained_run, dtype="int8")


def test_rows_without_text_are_refused(trained_run: Path) -> None:
    embedder = Embedder(trained_run)
    with pytest.raises(DataError, match="row 1 of the batch: no text"):
        embedder({"text": np.array(["a", None], dtype=object)})
    with pytest.raises(DataError, match="no column 'text'; did you mean 'texts'"):
        embedder({"texts": np.array(["a"])})


@pytest.mark.nightly
@pytest.mark.usefixtures("starts_processes")
def test_ray_gives_the_vectors_of_the_command(trained_run: Path, tmp_path: Path, mtcl_command: Run) -> None:
    ray = pytest.importorskip("ray", reason="needs the extra `ray`")
    texts = words(300)
    for number in range(3):
        rows = range(number * 100, number * 100 + 100)
        (tmp_path / "in").mkdir(exist_ok=True)
        table = pa.table({"id": list(rows), "text": [texts[row] for row in rows]})
        pq.write_table(table, tmp_path / "in" / f"{number}.parquet")
    done = mtcl_command("embed", str(trained_run), "in", "--id", "id", "--out", "out", "--tokenize", "here")
    assert done.returncode == 0, done.stderr
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)  # one for the actor, one to read
    try:
        options: dict[str, Any] = {"fn_constructor_kwargs": {"checkpoint": str(trained_run)}, "batch_size": 64}
        data = ray.data.read_parquet(str(tmp_path / "in"))
        made = data.map_batches(Embedder, compute=ray.data.ActorPoolStrategy(size=1), **options)
        made.write_parquet(str(tmp_path / "ray"))
        del data, made
        gc.collect()  # Ray's executors would start Ray again if they were collected after it has ended
    finally:
        ray.shutdown()
    rows = pq.read_table(tmp_path / "ray")
    by_id = dict(zip(rows["id"].to_pylist(), rows["embedding"].to_pylist(), strict=True))
    found = VectorFolder.open(tmp_path / "out")
    assert len(rows) == len(by_id) == 300
    of_ray = np.stack([by_id[one] for one in found.ids().to_pylist()])
    np.testing.assert_allclose(of_ray, found.vectors(), atol=1e-5)
