"""CrisisLexT26: tweets on 26 crises (Olteanu et al., CSCW 2015); the same tweets as in storyline_social."""

from mtcl import NDCG, Files, Tags, Task


class CrisisHashtags(Task):
    """A tweet on a crisis without its hashtags -> the hashtags it had; several can be correct."""

    name = "crisis_hashtags"
    owner = "@mtcl"
    license = "MIT"
    data = Files("crisis_hashtags")
    pairs = Tags(text="text", tags="labels")
    metric = NDCG(k=10)
    sample = [
        {"text": "Great info on how to help, via @user", "labels": ["#cofire", "#highparkfire"]},
        {"text": "A singer arrived to visit children affected by the typhoon", "labels": ["#haiyan"]},
    ]
