"""O*NET 29.3 (U.S. Department of Labor, 2025), modified: what several occupations share is left out."""

from mtcl import NDCG, Files, QueryDocument, Task


class OccupationTitles(Task):
    """A job title as people write it -> the occupation it means."""

    name = "occupation_titles"
    owner = "@mtcl"
    license = "CC BY 4.0 (O*NET, USDOL/ETA)"
    data = Files("occupation_titles")
    pairs = QueryDocument(query="query", document="positive", document_id="doc_id", corpus="corpus")
    metric = NDCG(k=10)
    sample = [
        {
            "query": "Head Packager",
            "positive": "Sawing Machine Setters, Wood: Set up, operate, or tend wood sawing machines.",
            "doc_id": "51-7041.00",
        },
        {
            "query": "Abrasive Mixer Helper",
            "positive": "Helpers--Production Workers: Help production workers.",
            "doc_id": "51-9198.00",
        },
    ]
