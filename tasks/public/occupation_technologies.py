"""O*NET 29.3 (U.S. Department of Labor, 2025), modified: what several occupations share is left out."""

from mtcl import NDCG, Files, QueryDocument, Task


class OccupationTechnologies(Task):
    """A software product and its kind -> the occupation that uses it."""

    name = "occupation_technologies"
    owner = "@mtcl"
    license = "CC BY 4.0 (O*NET, USDOL/ETA)"
    data = Files("occupation_technologies")
    pairs = QueryDocument(query="query", document="positive", document_id="doc_id", corpus="corpus")
    metric = NDCG(k=10)
    sample = [
        {
            "query": "ProQuest ERIC (library software)",
            "positive": "Library Science Teachers: Teach courses in library science.",
            "doc_id": "25-1082.00",
        },
        {
            "query": "VAMP/VASP (scientific software)",
            "positive": "Materials Scientists: Research structures and properties of substances.",
            "doc_id": "19-2032.00",
        },
    ]
