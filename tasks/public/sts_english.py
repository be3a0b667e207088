"""The STS benchmark (Cer et al. 2017), as github.com/PhilipMay/stsb-multi-mt distributes it."""

from mtcl import Files, Scored, Spearman, Task


class StsEnglish(Task):
    """Two English sentences and how similar in meaning people find them."""

    name = "sts_english"
    owner = "@mtcl"
    license = "CC BY-SA 4.0 (scores; texts each under the licence of its source)"
    data = Files("sts_multilingual", where={"lang": ["en"]})
    pairs = Scored(first="sentence1", second="sentence2", score="score", group="pair_id")
    metric = Spearman()
    sample = [
        {"sentence1": "A plane flies.", "sentence2": "An air plane flies.", "score": 1.0, "pair_id": 1},
        {"sentence1": "A man smokes.", "sentence2": "A man is skating.", "score": 0.1, "pair_id": 2},
        {"sentence1": "A man eats bread.", "sentence2": "A man is eating.", "score": 0.7, "pair_id": 3},
        {"sentence1": "A woman dances.", "sentence2": "A dog is asleep.", "score": 0.0, "pair_id": 4},
    ]
