"""O*NET 29.3 (U.S. Department of Labor, 2025), modified: what several occupations share is left out."""

from mtcl import NDCG, Files, QueryDocument, Task


class OccupationRelated(Task):
    """The description of an occupation, without its title -> a related occupation."""

    name = "occupation_related"
    owner = "@mtcl"
    license = "CC BY 4.0 (O*NET, USDOL/ETA)"
    data = Files("occupation_related")
    pairs = QueryDocument(query="query", document="positive", document_id="doc_id", corpus="corpus")
    metric = NDCG(k=10)
    sample = [
        {
            "query": "Process new insurance policies and claims forms.",
            "positive": "Eligibility Interviewers: Determine eligibility of persons.",
            "doc_id": "43-4061.00",
        },
        {
            "query": "Inspect, test, repair, or maintain electrical equipment in substations.",
            "positive": "Electronics Installers: Install, adjust, or maintain mobile equipment.",
            "doc_id": "49-2093.00",
        },
    ]
