"""Stack Exchange posts, as selected for TAKG (Wang et al., ACL 2019)."""

from mtcl import NDCG, Files, Tags, Task


class StackexchangeTags(Task):
    """A question -> its tags, out of 371; several can be correct."""

    name = "stackexchange_tags"
    owner = "@mtcl"
    license = "MIT (selection); posts CC BY-SA"
    data = Files("stackexchange_tags")
    pairs = Tags(text="text", tags="labels")
    metric = NDCG(k=10)
    sample = [
        {"text": "power line filter leakage", "labels": ["electrical engineering"]},
        {"text": "how to apply crm in personal life?", "labels": ["techniques", "management"]},
    ]
