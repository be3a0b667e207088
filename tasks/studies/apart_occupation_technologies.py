"""For configs/transfer_occupations_apart.yaml: new_occupation_technologies on a quarter of the occupations."""

from pathlib import Path
from typing import Any
from zlib import crc32

import pyarrow as pa

from mtcl import NDCG, Files, QueryDocument, Task

PART, PARTS = 3, 4


class ApartOccupationTechnologies(Task):
    """A technology -> its occupation, one that no training row has; trained on the last quarter of the others."""

    name = "apart_occupation_technologies"
    owner = "@mtcl"
    license = "CC BY 4.0 (O*NET, USDOL/ETA)"
    pairs = QueryDocument(query="query", document="positive", document_id="doc_id", corpus="corpus")
    metric = NDCG(k=10)
    sample = [
        {
            "query": "Inventory software",
            "positive": "Sawing Machine Setters, Wood: Set up, operate, or tend wood sawing machines.",
            "doc_id": "51-7041.00",
        },
        {
            "query": "Spreadsheet software",
            "positive": "Production Helpers: Help production workers.",
            "doc_id": "51-9198.00",
        },
    ]

    def data(self, split: str, root: Path | None) -> Any:
        new = {} if split in ("train", "corpus") else {"unseen_occupation": [True]}
        rows = Files("occupation_technologies", where=new)(split, root)
        if split != "train":
            return rows
        return rows.filter(pa.array([crc32(one.encode()) % PARTS == PART for one in rows["doc_id"].to_pylist()]))
