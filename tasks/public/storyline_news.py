"""GoogleNews-TS: titles and snippets by story (Yin and Wang, KDD 2014), lower-cased and without stop words."""

from mtcl import MAP, Cluster, Files, Task


class StorylineNews(Task):
    """Articles of one news story -> near each other."""

    name = "storyline_news"
    owner = "@mtcl"
    license = "none stated by the source (GoogleNews-TS)"
    data = Files("storyline_news")
    pairs = Cluster(text="text", cluster="cluster_id")
    metric = MAP()
    sample = [
        {"text": "documentary screening mark aid day county", "cluster_id": "gn1"},
        {"text": "county health department host aid day event", "cluster_id": "gn1"},
        {"text": "video spoof kanye west bound", "cluster_id": "gn2"},
        {"text": "actor recreate raunchy rapper video", "cluster_id": "gn2"},
    ]
