"""CrisisLexT26: tweets on 26 crises (Olteanu et al., CSCW 2015)."""

from mtcl import MAP, Cluster, Files, Task


class StorylineSocial(Task):
    """Tweets on one event -> near each other."""

    name = "storyline_social"
    owner = "@mtcl"
    license = "MIT"
    data = Files("storyline_social")
    pairs = Cluster(text="text", cluster="cluster_id")
    metric = MAP()
    sample = [
        {"text": "Homes at risk from Colorado wildfire", "cluster_id": "fire"},
        {"text": "Hundreds of families took refuge early Monday", "cluster_id": "fire"},
        {"text": "One confirmed death from train derailment", "cluster_id": "train"},
        {"text": "Tank cars still burning in the town centre", "cluster_id": "train"},
    ]
