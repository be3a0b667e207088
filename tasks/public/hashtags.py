"""Tweets of TweetEval (Barbieri et al., Findings of EMNLP 2020, arXiv 2010.12421) and the hashtags they had."""

from mtcl import NDCG, Files, Tags, Task


class Hashtags(Task):
    """A tweet without its hashtags -> the hashtags it had, out of 173; several can be correct."""

    name = "hashtags"
    owner = "@mtcl"
    license = "unrestricted by TweetEval; terms of Twitter may apply"
    data = Files("hashtags")
    pairs = Tags(text="text", tags="labels")
    metric = NDCG(k=10)
    sample = [
        {"text": "location is open today, come hungry!", "labels": ["#brunch"]},
        {"text": "new kicks for the win", "labels": ["#workout", "#fitness"]},
    ]
