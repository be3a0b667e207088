"""O*NET 29.3 (U.S. Department of Labor, 2025), modified: what several occupations share is left out."""

from mtcl import NDCG, Files, QueryDocument, Task


class OccupationDuties(Task):
    """A statement of a duty -> the occupation that has it."""

    name = "occupation_duties"
    owner = "@mtcl"
    license = "CC BY 4.0 (O*NET, USDOL/ETA)"
    data = Files("occupation_duties")
    pairs = QueryDocument(query="query", document="positive", document_id="doc_id", corpus="corpus")
    metric = NDCG(k=10)
    sample = [
        {
            "query": "Weld sections of track together, such as switch points.",
            "positive": "Rail-Track Laying Equipment Operators: Lay, repair, and maintain track.",
            "doc_id": "47-4061.00",
        },
        {
            "query": "Prepare notes, sketches, geological maps.",
            "positive": "Geological Technicians: Assist scientists or engineers.",
            "doc_id": "19-4043.00",
        },
    ]
