"""Alternate titles of O*NET 27.0 (U.S. Department of Labor, 2022), modified: ambiguous titles are left out."""

from mtcl import NDCG, Files, QueryDocument, Task


class JobSearch(Task):
    """A job title as people write it -> the occupation it means (O*NET 27.0)."""

    name = "job_search"
    owner = "@mtcl"
    license = "CC BY 4.0 (O*NET, USDOL/ETA)"
    data = Files("job_search")
    pairs = QueryDocument(query="query", document="positive", document_id="doc_id", corpus="corpus")
    metric = NDCG(k=10)
    sample = [
        {
            "query": "java dev",
            "positive": "Software Developers: Research, design, and develop software.",
            "doc_id": "15-1252.00",
        },
        {
            "query": "ice grinder",
            "positive": "Cutting and Slicing Machine Setters: Set up machines that cut materials.",
            "doc_id": "51-9032.00",
        },
    ]
