"""CrisisLexT26: tweets on 26 crises (Olteanu et al., CSCW 2015), without names of events and places."""

from mtcl import MAP, Cluster, Files, Task


class CrisisEvent(Task):
    """Tweets on one event, without the words that name it -> near each other."""

    name = "crisis_event"
    owner = "@mtcl"
    license = "MIT"
    data = Files("crisis_event")
    pairs = Cluster(text="text", cluster="cluster_id")
    metric = MAP()
    sample = [
        {"text": "Federal funds to help with firefighting costs for the …", "cluster_id": "fire"},
        {"text": "Hundreds of families took refuge from the … early Monday", "cluster_id": "fire"},
        {"text": "One confirmed death from the … derailment", "cluster_id": "train"},
        {"text": "Tank cars still burning in the centre of …", "cluster_id": "train"},
    ]
