"""O*NET 29.3 (U.S. Department of Labor, 2025), modified: what several occupations share is left out."""

from mtcl import NDCG, Files, QueryDocument, Task


class OccupationTools(Task):
    """A tool -> the occupation that works with it."""

    name = "occupation_tools"
    owner = "@mtcl"
    license = "CC BY 4.0 (O*NET, USDOL/ETA)"
    data = Files("occupation_tools")
    pairs = QueryDocument(query="query", document="positive", document_id="doc_id", corpus="corpus")
    metric = NDCG(k=10)
    sample = [
        {
            "query": "Flexographic presses",
            "positive": "Printing Press Operators: Set up and operate printing machines.",
            "doc_id": "51-5112.00",
        },
        {
            "query": "Automatic rebar tying tools",
            "positive": "Reinforcing Iron and Rebar Workers: Position and secure steel bars.",
            "doc_id": "47-2171.00",
        },
    ]
