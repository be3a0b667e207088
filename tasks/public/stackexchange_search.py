"""Stack Exchange posts, as selected for TAKG (Wang et al., ACL 2019)."""

from mtcl import NDCG, Files, QueryDocument, Task


class StackexchangeSearch(Task):
    """The title of a question -> the body of its post."""

    name = "stackexchange_search"
    owner = "@mtcl"
    license = "MIT (selection); posts CC BY-SA"
    data = Files("stackexchange_search")
    pairs = QueryDocument(query="query", document="positive", document_id="doc_id")
    metric = NDCG(k=10)
    sample = [
        {
            "query": "how to filter leakage current",
            "positive": "i have some questions regarding power line filters ...",
            "doc_id": "se1",
        },
        {
            "query": "crm techniques in personal life",
            "positive": "i see the sales guys using a massive database ...",
            "doc_id": "se2",
        },
    ]
