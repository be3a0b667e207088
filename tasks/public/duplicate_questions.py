"""Duplicate questions of the first Quora data set (Gupta et al., AAAI 2018)."""

from mtcl import MAP, Duplicates, Files, Task


class DuplicateQuestions(Task):
    """A question -> the same question in other words."""

    name = "duplicate_questions"
    owner = "@mtcl"
    license = "terms of Quora, non-commercial"
    data = Files("duplicate_questions")
    pairs = Duplicates(anchor="anchor", positive="positive")
    metric = MAP()
    sample = [
        {"anchor": "How do I learn to cook?", "positive": "What is the best way to start cooking?"},
        {"anchor": "Is it safe to run daily?", "positive": "Can I run every day?"},
    ]
