"""Tweets of TweetEval (Barbieri et al., Findings of EMNLP 2020, arXiv 2010.12421), with the hashtags they were
posted with.
"""

from mtcl import NDCG, Files, Tags, Task


class Hashtags(Task):
    """A tweet without its hashtags -> the hashtags it had, of 173; several can be right."""

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
