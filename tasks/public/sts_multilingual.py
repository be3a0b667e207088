"""The STS benchmark (Cer et al. 2017) and its machine translations (github.com/PhilipMay/stsb-multi-mt)."""

from mtcl import Files, Scored, Spearman, Task


class StsMultilingual(Task):
    """Two sentences and how similar in meaning people find them, in 11 languages, 7 of them in training."""

    name = "sts_multilingual"
    owner = "@mtcl"
    license = "CC BY-SA 4.0 (scores; texts each under the licence of its source)"
    data = Files("sts_multilingual")
    pairs = Scored(first="sentence1", second="sentence2", score="score", language="lang", group="pair_id")
    metric = Spearman()
    sample = [
        {"sentence1": "A plane flies.", "sentence2": "An air plane flies.", "score": 1.0, "lang": "en", "pair_id": 1},
        {"sentence1": "A man smokes.", "sentence2": "A man is skating.", "score": 0.1, "lang": "en", "pair_id": 2},
        {"sentence1": "Ein Mann isst Brot.", "sentence2": "Ein Mann isst.", "score": 0.7, "lang": "de", "pair_id": 3},
        {"sentence1": "Eine Frau tanzt.", "sentence2": "Ein Hund schläft.", "score": 0.0, "lang": "de", "pair_id": 4},
    ]
