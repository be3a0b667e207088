"""For configs/transfer_occupations.yaml: occupation_technologies, evaluated on occupations without a training row."""

from pathlib import Path
from typing import Any

from mtcl import NDCG, Files, QueryDocument, Task


class NewOccupationTechnologies(Task):
    """A technology -> its occupation, one that no training row has."""

    name = "new_occupation_technologies"
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
        return Files("occupation_technologies", where=new)(split, root)
